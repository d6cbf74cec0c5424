"""What the demo shows: a tally of receipts as they are written, and the live table drawn from it.

Every number comes from receipts, read back from the ledger; none is counted while calls are sent.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelspend.cli.demo_traffic import DAYS
from modelspend.cli.slip import KINDS, kind

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from modelspend.receipt import Receipt

_BARS = "▁▂▃▄▅▆▇█"
_DAY_MS = 86_400_000


@dataclass(slots=True)
class Sums:
    """Calls by name, and what those of known cost came to."""

    calls: Counter[str] = field(default_factory=Counter)
    pico: Counter[str] = field(default_factory=Counter)
    unpriced: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, cost_pico: int | None) -> None:
        self.calls[name] += 1
        self.pico[name] += cost_pico or 0
        self.unpriced[name] += cost_pico is None

    def shown(self, name: str) -> str:
        """What a name's calls came to; a dash where no call's cost is known."""
        known = self.unpriced[name] < self.calls[name]
        return dollars(self.pico[name]) if known else "-"

    def to_json(self) -> dict[str, Any]:
        from modelspend.money import usd

        return {
            str(name): {
                "calls": calls,
                "cost_usd": usd(self.pico[name]),
                "unpriced": self.unpriced[name],
            }
            for name, calls in self.calls.most_common()
        }


@dataclass(slots=True)
class Tally:
    """Sums over the receipts seen so far. `fine` is the last one worth looking at."""

    first_ms: int
    seq: int = 0
    calls: int = 0
    pico: int = 0
    tenants: Sums = field(default_factory=Sums)
    models: Sums = field(default_factory=Sums)
    statuses: Sums = field(default_factory=Sums)
    kinds: Counter[str] = field(default_factory=Counter)
    days: Counter[int] = field(default_factory=Counter)
    fine: "Receipt | None" = None

    def add(self, receipt: "Receipt") -> None:
        cost = receipt.execution.actual_cost_pico
        model = receipt.attempts[-1].model_id if receipt.attempts else receipt.request.model
        self.calls += 1
        self.pico += cost or 0
        self.tenants.add(receipt.tenant, cost)
        self.models.add(model, cost)
        self.statuses.add(receipt.execution.status, cost)
        self.kinds[kind(receipt)] += 1
        self.days[(receipt.created_at_ms - self.first_ms) // _DAY_MS] += cost or 0
        if self.fine is None or _worth(receipt) >= _worth(self.fine):
            self.fine = receipt

    def words(self, took_s: float) -> Iterator[str]:
        """The sums in sentences."""
        from modelspend.money import usd_text

        yield f"{self.calls:,} calls cost ${usd_text(self.pico)}, all carried in {took_s:.1f} s."
        known = [f"{self.kinds['exact']:,} exact"]
        if self.kinds["estimated"]:
            known.append(f"{self.kinds['estimated']} estimated (the answer told no usage)")
        if self.kinds["unpriced"]:
            known.append(f"{self.kinds['unpriced']} unknown (no price, and never counted as 0)")
        yield f"Costs: {', '.join(known)}."
        if wrong := self.calls - self.statuses.calls["success"]:
            yield f"{wrong} calls did not end well, and have their receipts all the same."

    def to_json(self) -> dict[str, Any]:
        from modelspend.money import usd

        return {
            "calls": self.calls,
            "cost_usd": usd(self.pico),
            **{name: self.kinds[name] for name in KINDS},
            "by_tenant": self.tenants.to_json(),
            "by_model": self.models.to_json(),
            "by_status": self.statuses.to_json(),
        }


def _worth(receipt: "Receipt") -> int:
    """A receipt says more the more lines it has; only a good one is shown."""
    lines = sum(len(attempt.cost.lines) for attempt in receipt.attempts)
    good = receipt.execution.status == "success" and kind(receipt) == "exact"
    return lines + int(receipt.request.stream) if good else 0


def dollars(pico: int) -> str:
    """Nine places: enough for every price here, so that columns add up digit by digit."""
    from modelspend.money import usd

    return f"{usd(pico):,.9f}"


def board(tally: Tally, day: int, url: str) -> "RenderableType":
    """The live table, for any width of terminal."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(f"day {day + 1:>2} of {DAYS}", style="bold"),
        ProgressBar(total=DAYS, completed=day + 1, width=20),
        Text(f"{tally.calls:,} calls"),
        Text(f"${dollars(tally.pico)}", style="bold green"),
    )
    tables = [
        _table("tenant", tally.tenants),
        _table("model", tally.models),
        _table("status", tally.statuses, style=_STATUS_STYLE.get),
    ]
    title = Text.assemble(("modelspend demo", "bold"), f"  {url}, simulated providers, real HTTP")
    spend = Text.assemble(("USD a day  ", "dim"), (sparkline(tally.days), "green"))
    return Group(title, Text(), head, spend, Columns(tables, padding=(0, 3)))


def _table(name: str, sums: Sums, style: "Callable[[str], str | None] | None" = None) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(name)
    table.add_column("calls", justify="right")
    table.add_column("USD", justify="right")
    for each, calls in sums.calls.most_common():
        shown = Text(each, style=(style and style(each)) or "")
        table.add_row(shown, f"{calls:,}", sums.shown(each))
    return table


_STATUS_STYLE = {"success": "green", "error": "red", "truncated": "yellow"}


def sparkline(days: Mapping[int, int]) -> str:
    """One bar for each day of the history."""
    most = max(days.values(), default=0) or 1
    steps = len(_BARS) - 1
    return "".join(_BARS[days.get(day, 0) * steps // most] for day in range(DAYS))
