"""`top`: what passes through the sidecar at this moment, drawn anew every second.

Everything but the calls under way and the circuits comes from the ledger, so it works without a
sidecar too, and says so. A share or a percentile is of the calls that ended in the last minute.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.output import Json, draw, on_terminal, write_json
from modelspend.errors import DaemonUnreachable, Usage

if TYPE_CHECKING:
    from modelspend.sections import Circuits
    from modelspend.store import Store
    from modelspend.store.rates import Pace, Spent

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_PARTS = 60
_SPEND_EVERY_S = 5.0
"""How often a day's receipts are added up: there may be a million of them."""


def top(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    window: Annotated[
        str, typer.Option("--window", metavar="TIME", help="Look back so far.")
    ] = "60s",
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.2, max=3600, help="Draw so often.")
    ] = 1.0,
    json: Json = False,
) -> None:
    """Watch calls, errors, latencies, spend, holds and circuits live; --once for scripts.

    With --json it prints one object each time. In a pipe it prints once.
    """
    from modelspend import periods
    from modelspend.cli.reading import read

    at = here(ctx)
    try:
        window_s = periods.duration_s(window)
    except ValueError as error:
        raise Usage(f"--window: {error}.") from None
    rules = at.load().settings.circuits
    once = once or not (json or on_terminal())
    read(at.ledger, lambda store: _watch(_Looking(at, store, rules, window_s), once, every, json))


async def _watch(looking: "_Looking", once: bool, every_s: float, json: bool) -> None:
    import asyncio

    from modelspend.cli.top_show import Screen, rows

    if once and not json:
        draw(("what", "value"), list(rows(await looking.look())))
        return
    if json:
        while True:
            write_json(await looking.look(), line=not once)
            sys.stdout.flush()
            if once:
                return
            await asyncio.sleep(every_s)
    with Screen() as screen:
        while True:
            screen.show(await looking.look())
            await asyncio.sleep(every_s)


class _Looking:
    """One look after the other at the ledger and the sidecar."""

    def __init__(self, at: Here, store: "Store", rules: "Circuits", window_s: int) -> None:
        self._at = at
        self._store = store
        self._rules = rules
        self._window_s = window_s
        self._span_s = float(window_s)  # a sidecar that is younger has had less time for its calls
        self._spent: tuple[Spent, Spent] | None = None
        self._spent_at_ms = 0

    async def look(self) -> dict[str, Any]:
        """Everything, as `--json` prints it. Unknown is null."""
        import asyncio

        from modelspend.cli.circuits import as_left
        from modelspend.money import usd
        from modelspend.receipt_json import iso

        now_ms = self._at.now_ms()
        status = await asyncio.to_thread(self._ask, "/v1/status")
        circuits = status and await asyncio.to_thread(self._ask, "/v1/circuits")
        items = circuits["items"] if circuits else await as_left(self._store, self._rules, now_ms)
        since_ms = now_ms - self._window_s * 1000
        every, providers = await self._store.rates.pace(since_ms)
        up_s = status["uptime_s"] if status else self._window_s
        self._span_s = min(max(up_s, 1.0), self._window_s)
        holding = await self._store.rates.holding()
        hour, today = await self._spend(now_ms)
        incidents = await self._store.incidents.list(unresolved=True, limit=1000)
        return {
            "at": iso(now_ms),
            "running": status is not None,
            "url": status and status["url"],
            "mode": status and status["mode"],
            "uptime_s": status and status["uptime_s"],
            "draining": bool(status and status["draining"]),
            "window_s": self._window_s,
            **self._pace(every),
            "recent": _recent(every.ends, since_ms, self._window_s * 1000),
            "by_status": dict(sorted(every.by_status.items(), key=lambda pair: -pair[1])),
            "in_flight": status and status["in_flight"],
            "open_calls": holding.calls,
            "held_usd": usd(holding.held_pico),
            "spend": {"hour": _money(hour), "today": _money(today)},
            "providers": [
                {"provider": name, **self._pace(pace)}
                for name, pace in sorted(providers.items(), key=lambda pair: -pair[1].calls)
            ],
            "circuits": {
                "all": len(items),
                "not_closed": [one for one in items if one["state"] != "closed"],
                "cooling": [one for one in items if one["cooling_until"] is not None],
            },
            "open_incidents": len(incidents),
            "drills": status["drills"] if status else [],
        }

    def _ask(self, path: str) -> Any:
        from modelspend.cli.client import find

        try:
            return find(self._at.ledger).get(path)
        except DaemonUnreachable:
            return None

    async def _spend(self, now_ms: int) -> "tuple[Spent, Spent]":
        """(of this hour, of today)"""
        if self._spent is None or now_ms - self._spent_at_ms >= _SPEND_EVERY_S * 1000:
            hour, today = now_ms // _HOUR_MS * _HOUR_MS, now_ms // _DAY_MS * _DAY_MS
            rates = self._store.rates
            self._spent = await rates.spent(hour), await rates.spent(today)
            self._spent_at_ms = now_ms
        return self._spent

    def _pace(self, pace: "Pace") -> dict[str, Any]:
        from modelspend.drill_report import quantile
        from modelspend.money import usd

        return {
            "calls": pace.calls,
            "per_s": round(pace.calls / self._span_s, 3),
            "failed": pace.failed,
            "error_share": round(pace.failed / pace.calls, 6) if pace.calls else None,
            "latency_ms": {"p50": quantile(pace.latency, 50), "p95": quantile(pace.latency, 95)},
            "ttft_ms": {"p50": quantile(pace.ttft, 50), "p95": quantile(pace.ttft, 95)},
            "cost_usd": usd(pace.cost_pico),
            "unpriced": pace.unpriced,
        }


def _recent(ends: "Sequence[int]", since_ms: int, length_ms: int) -> list[int]:
    """How many calls ended in each of sixty equal parts of the time, the newest last."""
    counts = [0] * _PARTS
    for end in ends:
        counts[min(max((end - since_ms) * _PARTS // length_ms, 0), _PARTS - 1)] += 1
    return counts


def _money(spent: "Spent") -> dict[str, Any]:
    from modelspend.money import usd

    return {
        "calls": spent.calls,
        "cost_usd": usd(spent.cost_pico),
        "unpriced": spent.unpriced,
    }
