"""The one shape of a report: typed cells, and for each row the filter that finds its receipts.

Hides how a figure is said: money is pico-dollars in the cells and exact dollars in JSON, unknown is
None everywhere. `Asked.period` fixes the end of a period that runs until now, so that a row and the
receipts it leads to are the same ones, however long somebody waits between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from modelspend import periods
from modelspend.budgets import Budget
from modelspend.errors import Usage
from modelspend.money import usd
from modelspend.receipt_json import iso
from modelspend.record import frozen
from modelspend.store import DAY_MS, Filter, Store, Sum

if TYPE_CHECKING:
    from modelspend.alert_sections import Alerts as Limits

Kind = Literal[
    "name", "usd", "count", "ms", "share", "change", "trend", "flag", "time", "level", "number",
    "age", "text",
]  # fmt: skip
"""What a cell holds: pico-dollars for `usd`, 0 to 1 for `share`, 0.5 for half as much again in
`change`, pico-dollars by day for `trend`, milliseconds for `ms` and `time`, seconds for `age`."""

Cell = str | int | float | bool | tuple[int, ...] | None


@frozen
class Column:
    name: str
    kind: Kind


@frozen
class Row:
    """Cells in the order of the columns; the options of `receipts list` that give its receipts.

    `receipts` is null where no filter tells them apart; then `see` may be a command that does.
    """

    cells: tuple[Cell, ...]
    receipts: Mapping[str, str] | None = None
    see: str | None = None

    @property
    def command(self) -> str | None:
        """The command that lists the row's receipts, ready to be typed."""
        return self.see if self.receipts is None else command(self.receipts)


@frozen(kw_only=True)
class Table:
    """`name` is its key in JSON; the main one of a report is called `rows`."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    name: str = "rows"
    total: Row | None = None


@frozen(kw_only=True)
class Report:
    """One answer. `main` is what pipes and CSV get; `beside` are smaller tables with it.

    `figures` are single values that JSON shows; `notes` are sentences that belong to the numbers.
    """

    name: str
    since_ms: int
    until_ms: int
    main: Table
    beside: tuple[Table, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@frozen(kw_only=True)
class Asked:
    """What is asked of a report. Several filters mean any of them, and have the name of a view.

    `budgets` are those of the configuration, `limits` where its alerts begin; without them there
    are none, and the usual ones.
    """

    now_ms: int
    wheres: tuple[Filter, ...] = (Filter(),)
    view: str | None = None
    by: str | None = None
    limit: int = 50
    budgets: tuple[Budget, ...] = ()
    limits: "Limits | None" = None

    def grouped(self, choices: Sequence[str], default: str) -> str:
        """What makes a row. Raises Usage for what this report cannot group by."""
        by = self.by or default
        if by not in choices and not ("tag" in choices and by.startswith("tag:") and by != "tag:"):
            told = ", ".join("tag, tag:NAME" if each == "tag" else each for each in choices)
            raise Usage(f"This report has no rows by {by!r}.", f"Write --by one of: {told}.")
        return by

    def period(self, word: str) -> tuple[int, int]:
        """From when to when, the end excluded; `word` is the beginning where none was asked for."""
        sinces = [where.since_ms for where in self.wheres if where.since_ms is not None]
        untils = [where.until_ms for where in self.wheres if where.until_ms is not None]
        since = min(sinces) if sinces else periods.instant(word, self.now_ms)
        until = max(untils) if untils else self.now_ms + 1
        return since, max(since, until)

    def within(self, since_ms: int, until_ms: int) -> tuple[Filter, ...]:
        """The filters, within a period."""
        return tuple(replace(each, since_ms=since_ms, until_ms=until_ms) for each in self.wheres)

    def leads_to(self, since_ms: int, until_ms: int, **names: str | None) -> dict[str, str]:
        """The options of `receipts list` for the receipts of a row; a name of None asks for none
        of that kind."""
        said: dict[str, str] = {}
        if self.view is not None:
            said["view"] = self.view
        if len(self.wheres) == 1:
            said |= options_of(replace(self.wheres[0], since_ms=None, until_ms=None))
        said |= {name: value or "" for name, value in names.items()}
        return said | {"since": _instant(since_ms), "until": _instant(until_ms)}


def _instant(ms: int) -> str:
    """An instant as an option takes it, without a fraction that says nothing."""
    return iso(ms).replace(".000Z", "Z")


def options_of(where: Filter) -> dict[str, str]:
    """A filter as the options that give it."""
    said: dict[str, str] = {}
    for each in fields(where):
        value, name = getattr(where, each.name), each.name.removesuffix("_pico")
        name = name.removesuffix("_ms").replace("_", "-")
        if value is None or value == ():
            continue
        if each.name == "hopped":
            said["hopped" if value else "not-hopped"] = ""
        elif each.name == "unpriced":
            said["unpriced" if value else "priced"] = ""
        elif each.name in ("since_ms", "until_ms"):
            said[name] = _instant(value)
        elif each.name == "min_cost_pico":
            said[name] = format(usd(value), "f")
        else:
            said[name] = ",".join(value) if isinstance(value, tuple) else str(value)
    return said


FLAGS = frozenset({"hopped", "not-hopped", "unpriced", "priced"})
"""Options without a value."""


def command(receipts: Mapping[str, str]) -> str:
    """The command that lists a row's receipts, ready to be typed."""
    from shlex import quote

    words = [
        f"--{name}" if name in FLAGS else f"--{name} {quote(value)}"
        for name, value in receipts.items()
    ]
    return " ".join(("modelspend receipts list", *words))


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON; write it with `money.dumps`."""
    shape: dict[str, Any] = {
        "report": report.name,
        "since": iso(report.since_ms),
        "until": iso(report.until_ms),
        **{name: _plain(name, value) for name, value in report.figures.items()},
    }
    for table in (report.main, *report.beside):
        shape[table.name] = [_row(table, row) for row in table.rows]
    if report.main.total is not None:
        shape["total"] = _row(report.main, report.main.total)
    return {**shape, "notes": list(report.notes)}


def _row(table: Table, row: Row) -> dict[str, Any]:
    said = {
        column.name: _said(column.kind, cell)
        for column, cell in zip(table.columns, row.cells, strict=True)
    }
    said["receipts"] = None if row.receipts is None else dict(row.receipts)
    said["receipts_command"] = row.command
    return said


def _said(kind: Kind, cell: Cell) -> Any:
    if cell is None:
        return None
    if kind == "usd":
        return usd(cell)  # type: ignore[arg-type]
    if kind == "trend":
        return [usd(pico) for pico in cell] if isinstance(cell, tuple) else None
    if kind == "time":
        return iso(cell)  # type: ignore[arg-type]
    return round(cell, 6) if isinstance(cell, float) else cell


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(key, each) for key, each in value.items()}
    return usd(value) if name.endswith("_usd") and value is not None else value


# What reports have in common.


def day_text(day: int) -> str:
    """A day by its number since 1970."""
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).strftime("%Y-%m-%d")


def days_of(since_ms: int, until_ms: int) -> range:
    """The numbers of the days that a period touches."""
    return range(since_ms // DAY_MS, -(-until_ms // DAY_MS))


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def change(now: int, before: int) -> float | None:
    """How much more than before: 0.1 for ten per cent; null when there was nothing."""
    return (now - before) / before if before else None


def before(since_ms: int, until_ms: int) -> tuple[int, int]:
    """The period to compare with: from the first of a month on, the same days of the month before;
    else as long a time, right before."""
    start = datetime.fromtimestamp(since_ms / 1000, UTC)
    length = until_ms - since_ms
    month_ago = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)).timestamp()
    if since_ms == round(month_ago * 1000) and length <= 31 * DAY_MS:
        last = datetime.fromtimestamp(since_ms / 1000 - 1, UTC)
        first = round(
            last.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000
        )
        return first, min(first + length, since_ms)
    return since_ms - length, since_ms


async def notes(store: Store, asked: Asked, total: Sum, since_ms: int, until_ms: int) -> list[str]:
    """What a sum leaves out: receipts without a known cost, and calls that are still open."""
    said = []
    if total.unpriced:
        where = asked.leads_to(since_ms, until_ms, unpriced="")
        many = "s have" if total.unpriced > 1 else " has"
        said.append(
            f"{total.unpriced} receipt{many} no known cost and add nothing: {command(where)}"
        )
    still_open = await store.calls.open_count() if until_ms >= asked.now_ms else 0
    if still_open:
        said.append(f"{still_open} call{'s are' if still_open > 1 else ' is'} still open.")
    return said


def cut(rows: list[Row], limit: int, said: list[str]) -> tuple[Row, ...]:
    """The first rows; a note when there are more."""
    if len(rows) > limit:
        said.append(f"{len(rows) - limit} more rows: --limit {len(rows)}")
    return tuple(rows[:limit])
