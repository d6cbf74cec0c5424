"""Caps in dollars: whom one is for, what it counts, what a call holds of it, and when to warn.

A budget is found by what it caps (`key`: scope, name, window): where the file and the ledger speak
of the same one, it is one budget. `name` is `*` in a rule for each one of its scope, and gets the
one's own name before it counts. Money is pico-dollars, a cap of null has no limit, a cap of 0
lets nothing through.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import Any, Literal

from modelspend.errors import BudgetExceeded
from modelspend.money import usd, usd_text
from modelspend.receipt_json import iso
from modelspend.record import record
from modelspend.windows import Slot, Window

Scope = Literal["process", "tenant", "workflow", "session", "key", "model", "run"]
Unpriced = Literal["block", "hold", "allow"]

SCOPES: tuple[Scope, ...] = ("process", "tenant", "workflow", "session", "key", "model", "run")
EACH = "*"
PROCESS = "all"
"""The only name of the scope `process`: every call of this sidecar."""

MOST_SPENT = 9 * 10**18
"""Where a sum stays: above nine million dollars in one window nothing is told apart any more."""


@record
class Budget:
    """`unpriced` says what happens under a hard cap to a call whose worst case is not known;
    `unpriced_pico` is what such a call holds if that is `hold`. `output_limit` is spliced into a
    request that sets none. `slice_pico` lets a stream hold its money in slices.
    """

    scope: Scope
    name: str
    window: Window
    cap_pico: int | None
    hard: bool = True
    unpriced: Unpriced = "block"
    unpriced_pico: int = 0
    output_limit: int = 16_384
    slice_pico: int | None = None
    marks: tuple[int, ...] = (50, 80, 100)
    origin: str = "config"

    @property
    def key(self) -> str:
        """What is capped, whoever says how much."""
        return f"{self.scope}\x1f{self.name}\x1f{self.window.name}"

    @property
    def holds(self) -> bool:
        """Whether a call must hold its worst case of it before it may go out."""
        return self.hard and self.cap_pico is not None

    @property
    def title(self) -> str:
        """As it is named in a sentence."""
        return "this sidecar" if self.scope == "process" else f"{self.scope} {self.name}"


@record
class Hold:
    """What a call holds of one budget, or is charged to it; `slot` is where it is added up."""

    budget: Budget
    slot: Slot
    amount_pico: int


@record
class Usage:
    """Where a budget stands. `resets_at_ms` is null where it never begins anew."""

    budget: Budget
    spent_pico: int
    held_pico: int
    starts_at_ms: int | None
    resets_at_ms: int | None

    @property
    def left_pico(self) -> int | None:
        cap = self.budget.cap_pico
        return None if cap is None else max(0, cap - self.spent_pico - self.held_pico)

    def to_json(self) -> dict[str, Any]:
        """The documented shape; money is exact text of dollars, to be written as a number."""
        budget = self.budget
        return {
            "scope": budget.scope,
            "name": budget.name,
            "window": budget.window.text,
            "zone": budget.window.zone if budget.window.calendar else None,
            "hard": budget.hard,
            "cap_usd": None if budget.cap_pico is None else usd(budget.cap_pico),
            "spent_usd": usd(self.spent_pico),
            "held_usd": usd(self.held_pico),
            "left_usd": None if self.left_pico is None else usd(self.left_pico),
            "starts_at": None if self.starts_at_ms is None else iso(self.starts_at_ms),
            "resets_at": None if self.resets_at_ms is None else iso(self.resets_at_ms),
            "origin": budget.origin,
        }


class Rules:
    """Every budget that is in force, found by what a call is."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.all = tuple(budgets)
        self._each = [one for one in self.all if one.name == EACH]
        self._named: dict[tuple[str, str], list[Budget]] = {}
        for one in self.all:
            if one.name != EACH:
                self._named.setdefault((one.scope, one.name), []).append(one)

    def __bool__(self) -> bool:
        return bool(self.all)

    def applying(self, who: Mapping[Scope, Sequence[str]]) -> Iterator[Budget]:
        """Those that a call falls under; `who` maps a scope to the names that the call has there.

        A rule for each one gives way to a budget on the very name with the same window.
        """
        for scope, names in who.items():
            for name in names:
                named = self._named.get((scope, name), ())
                yield from named
                yield from (
                    one_of(rule, name)
                    for rule in self._each
                    if rule.scope == scope
                    and name == names[0]
                    and all(rule.window != one.window for one in named)
                )


def one_of(rule: Budget, name: str) -> Budget:
    """The budget of one name under a rule for each."""
    return replace(rule, name=name)


def in_force(file: Iterable[Budget], ledger: Iterable[Budget]) -> tuple[Budget, ...]:
    """The file's budgets with the ledger's over them: what was set wins over what is written.

    An override says how much and how hard; all else stays as the file has it, for the very one or
    for each of its scope.
    """
    found = {one.key: one for one in file}
    for override in ledger:
        written = found.get(override.key, found.get(one_of(override, EACH).key, override))
        found[override.key] = replace(
            written,
            name=override.name,
            cap_pico=override.cap_pico,
            hard=override.hard,
            origin=override.origin,
        )
    return tuple(found.values())


# What is said when there is no room.


def no_room(
    hold: Hold, spent_pico: int, held_pico: int, resets_at_ms: int | None
) -> BudgetExceeded:
    """The refusal of a call whose worst case does not fit: which cap, how much, and what helps."""
    budget = hold.budget
    assert budget.cap_pico is not None
    if budget.cap_pico == 0:
        error = BudgetExceeded(
            f"{_capital(budget.title)} is blocked: its cap is $0.", f"Raise it: {command(budget)}"
        )
    else:
        when = f" It begins anew at {iso(resets_at_ms)}." if resets_at_ms is not None else ""
        error = BudgetExceeded(
            f"{_capital(budget.title)} has spent ${usd_text(spent_pico)} and holds"
            f" ${usd_text(held_pico)} of its {_cap_words(budget)} cap of"
            f" ${usd_text(budget.cap_pico)}; this call may cost up to"
            f" ${usd_text(hold.amount_pico)}.{when}",
            f"Raise it: {command(budget)}",
        )
    error.budget, error.spent_pico, error.held_pico = budget, spent_pico, held_pico
    return error


def unknown_price(budget: Budget, why: str) -> BudgetExceeded:
    """The refusal of a call whose worst case nobody knows, under a hard cap."""
    error = BudgetExceeded(
        f"{_capital(budget.title)} has a hard cap of ${usd_text(budget.cap_pico or 0)}, and what"
        f" this call may cost at most is not known: {why}.",
        'Set the price (modelspend prices set), or say what such calls hold: unpriced = "hold".',
    )
    error.budget = budget
    return error


def command(budget: Budget) -> str:
    """The command that raises a cap."""
    if budget.scope == "run":
        return "modelspend run --max-usd USD -- CMD…"
    who = budget.scope if budget.scope == "process" else f"{budget.scope} {quote(budget.name)}"
    zone = f" --zone {budget.window.zone}" if budget.window.name != budget.window.text else ""
    return f"modelspend budgets set {who} --window {budget.window.text}{zone} --max-usd USD"


def _cap_words(budget: Budget) -> str:
    match budget.window.kind:
        case "day":
            return "daily"
        case "week":
            return "weekly"
        case "month":
            return "monthly"
        case "total":
            return "total"
        case "rolling":
            return f"{budget.window.text} rolling"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# When to warn.


def marks_of(budget: Budget) -> tuple[tuple[int, int], ...]:
    """(percent, pico-dollars) of each threshold; none for a budget without a limit, or of 0."""
    if not budget.cap_pico:
        return ()
    return tuple((mark, -(-budget.cap_pico * mark // 100)) for mark in budget.marks)


def burn_pico_per_hour(usage: Usage, now_ms: int) -> int | None:
    """What has been spent an hour since the window began; null where it has no beginning."""
    if usage.starts_at_ms is None or now_ms <= usage.starts_at_ms:
        return None
    return usage.spent_pico * 3_600_000 // (now_ms - usage.starts_at_ms)


def exhausted_at_ms(usage: Usage, now_ms: int) -> int | None:
    """When the cap will be reached if spending goes on as it has since the window began.

    Null when that is after the window's end, or cannot be said: nothing spent, no limit.
    """
    cap, start = usage.budget.cap_pico, usage.starts_at_ms
    if cap is None or start is None or now_ms <= start or usage.spent_pico <= 0:
        return None
    if usage.spent_pico >= cap:
        return now_ms
    at = start + -(-cap * (now_ms - start) // usage.spent_pico)
    return at if usage.resets_at_ms is None or at < usage.resets_at_ms else None


_SURE_AFTER = 10
"""Percent of a window, and of a cap, before which its beginning says nothing of its end."""

_BURNS = 2
"""How many times faster than the clock money must go to be told."""


def foreseen(usage: Usage, now_ms: int) -> list[tuple[str, dict[str, Any]]]:
    """(rule, data) of what the pace of spending foretells: `burn` and `projected`."""
    cap, start, end = usage.budget.cap_pico, usage.starts_at_ms, usage.resets_at_ms
    if not cap or start is None or end is None or not start < now_ms < end:
        return []
    elapsed, length = now_ms - start, end - start
    if elapsed * 100 < length * _SURE_AFTER or usage.spent_pico * 100 < cap * _SURE_AFTER:
        return []
    told: list[tuple[str, dict[str, Any]]] = []
    if usage.spent_pico * length >= _BURNS * cap * elapsed:
        told.append(("burn", {"burn_usd_per_hour": usd(burn_pico_per_hour(usage, now_ms) or 0)}))
    at = exhausted_at_ms(usage, now_ms)
    if at is not None:
        told.append(("projected", {"exhausted_at": iso(at)}))
    return told
