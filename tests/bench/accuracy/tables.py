"""The tables of the accuracy bench as Markdown, for the terminal and for README alike."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from modelspend.asks import TELLING
from tests.bench.accuracy.fitting import Case
from tests.bench.accuracy.prompts import FREE, READ, Judged, confusion
from tests.bench.accuracy.routing import Question, Router, baselines, judged
from tests.bench.accuracy.timing import Cost

Row = Sequence[object]


def table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def pooled(rows: Sequence[Judged]) -> str:
    """Recall and false escalation over all, over the sets not read, and over free wording."""
    choices = {
        "all tasks": rows,
        "tasks of which no row was read": [row for row in rows if row.prompt.task not in READ],
        "freely worded sets": [row for row in rows if row.prompt.task in FREE],
    }
    return table(
        ("prompts", "should escalate", "recall", "should not", "false escalation"),
        [(name, *_rates(chosen)) for name, chosen in choices.items()],
    )


def _rates(rows: Sequence[Judged]) -> tuple[object, ...]:
    cells: list[object] = []
    for wanted in (True, False):
        hits = [row.escalated for row in rows if row.prompt.wanted is wanted]
        cells += [len(hits), _percent(sum(hits), len(hits))]
    return tuple(cells)


def by_task(rows: Sequence[Judged]) -> str:
    """Each task and label group by itself: how many, how many escalated, by which rules."""
    groups: dict[tuple[str, bool | None], list[Judged]] = {}
    for row in rows:
        groups.setdefault((row.prompt.task, row.prompt.wanted), []).append(row)
    order = sorted(groups, key=lambda key: ((True, False, None).index(key[1]), key[0]))
    return table(
        ("task", "should escalate", "prompts", "escalated", "rules that fired most"),
        [_task(task, wanted, groups[task, wanted]) for task, wanted in order],
    )


def _task(task: str, wanted: bool | None, rows: Sequence[Judged]) -> Row:
    fired = Counter(
        name for row in rows for name in row.found.risk_signals["advancedReasoningDetails"]
    )
    rules = ", ".join(f"{name} {n}" for name, n in fired.most_common(2))
    mark = " (read)" if task in READ else ""
    answer = {True: "yes", False: "no", None: "undecided"}[wanted]
    share = _percent(sum(row.escalated for row in rows), len(rows))
    return task + mark, answer, len(rows), share, rules


def routers(sets: Mapping[str, Sequence[Question]], left_out: Mapping[str, Sequence[float]]) -> str:
    """APGR, CPT50 and CPT80 of complexity beside routers that need no thought."""
    rows: list[Row] = []
    for name, asked in sets.items():
        found = {**baselines(asked), "complexity, subject left out": judged(left_out[name], asked)}
        rows += [(name, len(asked), router, *_figures(f)) for router, f in found.items()]
    return table(("set", "questions", "router", "APGR", "CPT50", "CPT80"), rows)


def _figures(found: Router) -> tuple[str, str, str]:
    return f"{found.apgr:.3f}", f"{found.cpt50:.1f} %", f"{found.cpt80:.1f} %"


def reliability(known: Sequence[Case], chances: Sequence[float]) -> str:
    """Confidence against how often the decision was right, each prompt with its task left out."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for case, chance in zip(known, chances, strict=True):
        confidence = chance if case.escalated else 1 - chance
        right = case.escalated == case.wanted
        bins.setdefault(min(int(confidence * 10), 9), []).append((confidence, right))
    rows = [
        (
            f"{low / 10:.1f}–{(low + 1) / 10:.1f}",
            len(cases),
            f"{sum(c for c, _ in cases) / len(cases):.2f}",
            f"{sum(r for _, r in cases) / len(cases):.2f}",
        )
        for low, cases in sorted(bins.items())
    ]
    return table(("confidence", "prompts", "mean confidence", "decisions right"), rows)


def categories(rows: Sequence[Judged]) -> str:
    """Which category a source's label implies, and which we gave."""
    counts = confusion(rows)
    names = (*TELLING, "chat", "other")
    body = [
        (f"**{wanted}**", *(counts.get((wanted, given), "") for given in names))
        for wanted in names
        if any(pair[0] == wanted for pair in counts)
    ]
    right = sum(n for (wanted, given), n in counts.items() if wanted == given)
    every = sum(counts.values())
    return f"{table(('label says', *names), body)}\n\n{right} of {every} right."


def costs(found: Sequence[Cost]) -> str:
    return table(
        ("text", "texts", "median µs", "greatest µs"),
        [(c.what, c.texts, f"{c.median_us:.0f}", f"{c.greatest_us:.0f}") for c in found],
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
