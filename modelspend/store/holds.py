"""What calls hold of budgets and what receipts add to them, on the writer's thread.

Each act here is a part of a transaction of `calls`. A hold is one statement that takes the worst
case of a call from every budget it falls under, or from none: no sum is read first and written
later. What is held stands on the call's own intent, so that no hold can outlive it. Sums are kept
by the start of their window: a new window is a new row, and nothing is ever reset.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson

from modelspend import budgets, windows
from modelspend.budgets import MOST_SPENT, Budget, Hold, Scope
from modelspend.events import Event
from modelspend.money import usd
from modelspend.receipt import Intent
from modelspend.record import record
from modelspend.store.book import Book
from modelspend.store.events import write_event

Held = tuple[int, int, int]
"""(number of the budget, start of the slot, pico-dollars) as it stands on an intent."""


@record
class Firing:
    """An event that is told once in a window of a budget, under the name of its rule."""

    budget: Budget
    start: int
    rule: str
    event: Event


def take(book: Book, holds: Sequence[Hold]) -> str:
    """Hold all or none, in one statement; the text that stands on the intent from then on.

    Raises BudgetExceeded, and then it has written nothing.
    """
    numbers = [_known(book, hold) for hold in holds]
    values: list[int] = []
    for number, hold in zip(numbers, holds, strict=True):
        slot, cap = hold.slot, hold.budget.cap_pico
        room = MOST_SPENT if cap is None else (cap - hold.amount_pico if cap else -1)
        values += (number, slot.start, slot.since, slot.until, hold.amount_pico, room)
    if not book.execute(_take_statement(len(holds)), values).rowcount:
        raise _refusal(book.conn, numbers, holds)
    return orjson.dumps(
        [(n, hold.slot.start, hold.amount_pico) for n, hold in zip(numbers, holds, strict=True)]
    ).decode()


@lru_cache(maxsize=32)
def _take_statement(many: int) -> str:
    """Halves are compared, since a sum of integers fails above 2^63."""
    rows = ", ".join(["(?, ?, ?, ?, ?, ?)"] * many)
    return (
        "INSERT INTO budget_sums (budget, start, spent_pico, held_pico)"
        f" WITH wanted (budget, start, since, until, amount, room) AS (VALUES {rows}),"
        " used (room, high, low) AS (SELECT w.room,"
        " coalesce(sum((s.spent_pico >> 32) + (s.held_pico >> 32)), 0),"
        " coalesce(sum((s.spent_pico & 4294967295) + (s.held_pico & 4294967295)), 0)"
        " FROM wanted w LEFT JOIN budget_sums s ON s.budget = w.budget"
        " AND s.start BETWEEN w.since AND w.until GROUP BY w.budget, w.room)"
        " SELECT budget, start, 0, amount FROM wanted WHERE NOT EXISTS (SELECT 1 FROM used"
        " WHERE (high + (low >> 32)) > (room >> 32) OR ((high + (low >> 32)) = (room >> 32)"
        " AND (low & 4294967295) > (room & 4294967295)))"
        " ON CONFLICT (budget, start) DO UPDATE SET held_pico = held_pico + excluded.held_pico"
    )


def _refusal(conn: sqlite3.Connection, numbers: list[int], holds: Sequence[Hold]) -> Exception:
    """Which of the budgets had no room: this only words what the statement has decided."""
    tightest: tuple[int, Hold, int, int] | None = None
    for number, hold in zip(numbers, holds, strict=True):
        spent, held = sums(conn, number, hold.slot)
        room = (hold.budget.cap_pico or 0) - spent - held - hold.amount_pico
        full = hold.budget.cap_pico == 0 or (hold.budget.cap_pico is not None and room < 0)
        if full and (tightest is None or room < tightest[0]):
            tightest = room, hold, spent, held
    if tightest is None:
        return RuntimeError("no room was found, and no budget without it")
    _, hold, spent, held = tightest
    return budgets.no_room(hold, spent, held, resets(conn, hold.budget, hold.slot))


def release(book: Book, text: str | None) -> list[Held]:
    """Give back what stands on an intent; what that was."""
    if not text:
        return []
    held: list[Held] = [tuple(each) for each in orjson.loads(text)]
    for number, start, amount in held:
        book.execute(
            "UPDATE budget_sums SET held_pico = held_pico - ? WHERE budget = ? AND start = ?",
            (amount, number, start),
        )
    return held


def charge(book: Book, charges: Sequence[Hold], at_ms: int) -> None:
    """Add what a receipt charges to each budget that counts it, and tell of thresholds passed.

    A budget that is not open needs no adding: it will find the receipt when it is opened.
    """
    for each in charges:
        number = book.budgets.get(each.budget.key)
        if number is None or (not each.amount_pico and not each.budget.marks):
            continue
        spent = _add(book, number, each.slot.start, each.amount_pico)
        marks = budgets.marks_of(each.budget)
        if marks and each.budget.window.kind == "rolling":
            spent = sums(book.conn, number, each.slot)[0]
        for percent, level in marks:
            if spent >= level:
                _mark(book, each, f"{percent}%", percent, spent, at_ms)


def charge_interrupted(book: Book, intent: Intent, held: Sequence[Sequence[Held]]) -> None:
    """Charge a call that nobody settled what it may have cost; `held` is for each attempt.

    Of a budget that it held nothing of, as of one that only warns, that is what its receipt says.
    """
    first = (1, intent.provider, intent.model_id, intent.created_at_ms, intent.hold_pico)
    amounts: dict[str, int] = {}
    for (_, provider, model, _, most), holds in zip((first, *intent.attempts), held, strict=True):
        of = {number: amount for number, _, amount in holds}
        for scope, name in _names_of(intent, f"{provider}/{model}", model):
            for key, number in _open_for(book, scope, name):
                amounts[key] = amounts.get(key, 0) + of.get(number, most)
    for key, amount in amounts.items():
        window = windows.named(key.rpartition("\x1f")[2])
        _add(book, book.budgets[key], windows.slot(window, intent.created_at_ms).start, amount)


def _names_of(intent: Intent, *models: str) -> Iterator[tuple[Scope, str]]:
    """What a call is, in the words of scopes."""
    yield "process", budgets.PROCESS
    yield "tenant", intent.tenant
    yield from (("model", model) for model in models)
    told: dict[Scope, str | None] = {
        "workflow": intent.workflow,
        "session": intent.session_id,
        "key": intent.key_id,
        "run": intent.tags.get("run"),
    }
    yield from ((scope, name) for scope, name in told.items() if name)


def _open_for(book: Book, scope: Scope, name: str) -> list[tuple[str, int]]:
    return book.execute(
        "SELECT key, id FROM budgets WHERE scope = ? AND name = ? AND opened_at IS NOT NULL",
        (scope, name),
    ).fetchall()


def _add(book: Book, number: int, start: int, amount: int) -> int:
    (spent,) = book.execute(
        "INSERT INTO budget_sums (budget, start, spent_pico, held_pico) VALUES (?, ?, ?, 0)"
        " ON CONFLICT (budget, start) DO UPDATE"
        f" SET spent_pico = min(spent_pico + excluded.spent_pico, {MOST_SPENT})"
        " RETURNING spent_pico",
        (number, start, amount),
    ).fetchone()
    return int(spent)


def _mark(book: Book, each: Hold, rule: str, percent: int, spent: int, at_ms: int) -> None:
    start = window_start(each.budget, each.slot.start)
    if (each.budget.key, start, rule) in book.fired:
        return
    level = "critical" if percent >= 100 else "warn" if percent >= 80 else "info"
    data = {"rule": rule, "spent_usd": usd(spent)}
    event = event_of("budget.threshold", each.budget, at_ms, level=level, **data)
    fire(book, [Firing(budget=each.budget, start=start, rule=rule, event=event)])


def fire(book: Book, firings: Iterable[Firing]) -> None:
    """Tell each once in its window."""
    for each in firings:
        known = (each.budget.key, each.start, each.rule)
        if known in book.fired:
            continue
        added = book.execute(
            "INSERT INTO budget_firings (budget, start, rule, at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (budget, start, rule) DO NOTHING",
            (*known, each.event.at_ms),
        )
        if added.rowcount:
            write_event(book, each.event)
        book.fired.add(known)


def window_start(budget: Budget, start: int) -> int:
    """What names the window of a slot: a rolling one is told of once in its own length."""
    length = budget.window.length_ms
    return start - start % length if budget.window.kind == "rolling" else start


def event_of(kind: str, budget: Budget, at_ms: int, *, level: str, **data: Any) -> Event:
    """An event about a budget."""
    cap = budget.cap_pico
    about = {
        "scope": budget.scope,
        "name": budget.name,
        "window": budget.window.name,
        "cap_usd": None if cap is None else usd(cap),
    }
    tenant = budget.name if budget.scope == "tenant" else None
    return Event(kind=kind, at_ms=at_ms, level=level, tenant=tenant, data={**about, **data})


# Opening and adding up.


def opened(book: Book, budget: Budget, at_ms: int) -> int:
    """The number of an open budget; it is opened, from its receipts, if it was not.

    What calls still hold of it from when it was in force before goes on counting.
    """
    number = book.budgets.get(budget.key)
    if number is None:
        number = book.budgets[budget.key] = _counted(book, budget, at_ms, at_ms)
    return number


def _known(book: Book, hold: Hold) -> int:
    """The number of a budget to hold of. It is open, unless it has just gone out of force: then
    this call still counts, and the budget stays closed."""
    number = book.budgets.get(hold.budget.key)
    return _counted(book, hold.budget, hold.slot.start, None) if number is None else number


def _counted(book: Book, budget: Budget, at_ms: int, opened_at: int | None) -> int:
    (number,) = book.execute(
        "INSERT INTO budgets (key, scope, name, window_name, opened_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET opened_at = excluded.opened_at RETURNING id",
        (budget.key, budget.scope, budget.name, budget.window.name, opened_at),
    ).fetchone()
    book.execute("UPDATE budget_sums SET spent_pico = 0 WHERE budget = ?", (number,))
    for start, spent in seen(book.conn, budget, at_ms):
        if spent:
            _add(book, number, start, min(spent, MOST_SPENT))
    return int(number)


def seen(conn: sqlite3.Connection, budget: Budget, at_ms: int) -> list[tuple[int, int]]:
    """(start of a slot, what its receipts were charged) around an instant.

    The window before counts too, and the one after: a clock may have been set, or be set yet.
    """
    window = budget.window
    if window.kind == "total":
        return [(0, charged(conn, budget, 0, windows.FOREVER)[0])]
    if window.calendar:
        now = windows.span(window, at_ms)
        around = windows.before(window, now[0]), now, windows.span(window, now[1])
        return [(start, charged(conn, budget, start, end)[0]) for start, end in around]
    step, found = window.step_ms, list[tuple[int, int]]()
    start = windows.slot(window, at_ms - window.length_ms).since
    any_at_all = charged(conn, budget, start, windows.FOREVER)[1]
    while any_at_all and start <= at_ms + window.length_ms:
        if spent := charged(conn, budget, start, start + step)[0]:
            found.append((start, spent))
        start += step
    return found


def charged(conn: sqlite3.Connection, budget: Budget, since: int, until: int) -> tuple[int, int]:
    """(what receipts of a time were charged to a budget, how many they are)."""
    high, low, many = conn.execute(
        f"SELECT sum(charged_pico >> 32), sum(charged_pico & 4294967295), count(*) FROM"
        f" ({_SOURCES[budget.scope]}) WHERE created_at >= ? AND created_at < ?",
        (*[budget.name] * _SOURCES[budget.scope].count("?"), since, until),
    ).fetchone()
    return ((high or 0) << 32) + (low or 0), many


def charged_days(conn: sqlite3.Connection, budget: Budget, until: int) -> list[tuple[int, int]]:
    """(a day's number since 1970, in UTC; what its receipts were charged), in order."""
    rows = conn.execute(
        "SELECT created_at / 86400000 AS day, sum(charged_pico >> 32),"
        f" sum(charged_pico & 4294967295) FROM ({_SOURCES[budget.scope]})"
        " WHERE created_at < ? GROUP BY day ORDER BY day",
        (*[budget.name] * _SOURCES[budget.scope].count("?"), until),
    )
    return [(day, ((high or 0) << 32) + (low or 0)) for day, high, low in rows]


_OF_FACET = (
    "SELECT r.charged_pico, r.created_at FROM facets f CROSS JOIN receipts r"
    " INDEXED BY receipts_facet ON r.facet_id = f.id"
)
_SOURCES: dict[Scope, str] = {
    "process": _OF_FACET,
    "tenant": f"{_OF_FACET} WHERE f.tenant = ?",
    "workflow": f"{_OF_FACET} WHERE f.workflow = ?",
    "session": "SELECT charged_pico, created_at FROM receipts WHERE session_id = ?",
    "key": "SELECT charged_pico, created_at FROM receipts WHERE key_id = ?",
    "run": "SELECT r.charged_pico, r.created_at FROM tags t JOIN receipts r ON r.seq = t.seq"
    " WHERE t.tag = 'run=' || ?",
    # by the name that answered, with a date behind it or without: that is what receipts keep
    "model": "SELECT a.charged_pico, r.created_at FROM receipts r JOIN attempts a ON a.seq = r.seq"
    " WHERE a.model_id = ? OR a.provider || '/' || a.model_id = ?"
    " OR a.model_id GLOB ? || '-20[0-9][0-9]*'",
}


def sums(conn: sqlite3.Connection, number: int, slot: windows.Slot) -> tuple[int, int]:
    """(spent, held) in the window of a slot."""
    spent_high, spent_low, held_high, held_low = conn.execute(
        "SELECT sum(spent_pico >> 32), sum(spent_pico & 4294967295), sum(held_pico >> 32),"
        " sum(held_pico & 4294967295) FROM budget_sums WHERE budget = ? AND start BETWEEN ? AND ?",
        (number, slot.since, slot.until),
    ).fetchone()
    spent = ((spent_high or 0) << 32) + (spent_low or 0)
    return spent, ((held_high or 0) << 32) + (held_low or 0)


def resets(conn: sqlite3.Connection, budget: Budget, slot: windows.Slot) -> int | None:
    """When there is room again by itself: at the window's end, or when the oldest slot leaves."""
    if budget.window.kind != "rolling":
        return slot.ends
    (oldest,) = conn.execute(
        "SELECT min(s.start) FROM budget_sums s JOIN budgets b ON b.id = s.budget"
        " WHERE b.key = ? AND s.start >= ? AND s.spent_pico + s.held_pico > 0",
        (budget.key, slot.since),
    ).fetchone()
    return None if oldest is None else oldest + budget.window.length_ms + budget.window.step_ms
