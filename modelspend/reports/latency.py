"""`latency`: how long answers took, with hops apart, so that a slow first choice shows.

Percentiles are of all durations, not of a sample: the smallest that at least so many per cent do
not exceed. Each attempt counts under the place that was asked; its part says whether it answered at
once, in place of another (`hop`), or not at all (`failed`).
"""

from modelspend.errors import Usage
from modelspend.reports.table import Asked, Cell, Column, Report, Row, Table, cut
from modelspend.store import PLACES, Durations, LatencyKey, Part, Store, Took

BY = ("model", "category", "provider", "region", "tenant", "workflow")
PERCENTS = (50, 95, 99)

_PARTS: tuple[Part, ...] = ("direct", "hop", "failed")


async def latency(store: Store, asked: Asked) -> Report:
    """Percentiles by model or whatever makes a row, for 7 days."""
    by = asked.grouped(BY, "model")
    since, until = asked.period("7d")
    if len(asked.wheres) > 1:
        raise Usage(
            f"Latencies of the view {asked.view} cannot be told: it has several filters.",
            "Ask with --status, --min-cost or another filter of your own.",
        )
    key: LatencyKey = by  # type: ignore[assignment]
    found = await store.latencies.by((key,), asked.within(since, until)[0])
    total = {part: Took() for part in _PARTS}
    for (_, part), took in found.items():
        total[part].latency_ms.update(took.latency_ms)
        total[part].ttft_ms.update(took.ttft_ms)
    rows = [
        Row((name, part, *figures(took)), _link(asked, by, name, part, since, until))
        for ((name,), part), took in sorted(
            found.items(),
            key=lambda p: (-_all(found, p[0][0]), str(p[0][0]), _PARTS.index(p[0][1])),
        )
    ]
    said: list[str] = []
    if total["failed"].attempts:
        said.append("A failed attempt belongs to a receipt that may have been answered elsewhere.")
    return Report(
        name="latency",
        since_ms=since,
        until_ms=until,
        main=Table(
            columns=(
                Column(by, "name"),
                Column("part", "name"),
                Column("attempts", "count"),
                *(Column(f"p{percent}_ms", "ms") for percent in PERCENTS),
                Column("max_ms", "ms"),
                *(Column(f"ttft_p{percent}_ms", "ms") for percent in PERCENTS),
            ),
            rows=cut(rows, asked.limit, said),
        ),
        beside=(
            Table(
                name="parts",
                columns=(
                    Column("part", "name"),
                    Column("attempts", "count"),
                    *(Column(f"p{percent}_ms", "ms") for percent in PERCENTS),
                    Column("max_ms", "ms"),
                    *(Column(f"ttft_p{percent}_ms", "ms") for percent in PERCENTS),
                ),
                rows=tuple(
                    Row((part, *figures(took)), _of_part(asked, part, since, until))
                    for part, took in total.items()
                ),
            ),
        ),
        figures={"by": by},
        notes=tuple(said),
    )


def figures(took: Took) -> tuple[Cell, ...]:
    """Attempts, percentiles, the longest; percentiles to the first token."""
    longest = max((ms for ms, n in took.latency_ms.items() if n), default=None)
    return (
        took.attempts,
        *percentiles(took.latency_ms),
        longest,
        *percentiles(took.ttft_ms),
    )


def percentiles(durations: Durations) -> list[int | None]:
    """For each of `PERCENTS` the smallest duration that as many per cent do not exceed."""
    count, wanted = durations.total(), list(PERCENTS)
    found: list[int | None] = []
    passed = 0
    for ms in sorted(durations):
        passed += durations[ms]
        while len(found) < len(wanted) and passed * 100 >= wanted[len(found)] * count and count:
            found.append(ms)
    return found + [None] * (len(wanted) - len(found))


def _all(
    found: dict[tuple[tuple[str | None, ...], Part], Took], group: tuple[str | None, ...]
) -> int:
    return sum(found[group, part].attempts for part in _PARTS if (group, part) in found)


def _of_part(asked: Asked, part: Part, since: int, until: int) -> dict[str, str] | None:
    """Receipts that were answered so, or in which an attempt failed."""
    if part == "failed":
        return {**asked.leads_to(since, until), "failed": "any"}
    if asked.wheres[0].status not in ((), ("success",)):
        return None
    hopped = {"hopped": ""} if part == "hop" else {"not-hopped": ""}
    return {**asked.leads_to(since, until, status="success"), **hopped}


def _link(
    asked: Asked, by: str, name: str | None, part: Part, since: int, until: int
) -> dict[str, str] | None:
    said = _of_part(asked, part, since, until)
    if said is not None and part == "failed" and by in PLACES:
        return {**said, "failed": f"{by}={name or ''}"}
    return None if said is None else {**said, by: name or ""}
