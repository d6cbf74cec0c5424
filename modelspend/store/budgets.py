"""What budgets have spent and what calls hold of them, so that no cap is ever passed.

How a call holds money and a receipt is charged is told in `holds.py`; this file is what commands
and the gateway ask and set.

A budget is opened when it first counts: what its window has seen so far is added up from the
receipts. From then on every receipt adds to it, until the budget is in force no more.
"""

import sqlite3
from collections.abc import Collection, Sequence
from functools import partial

import orjson

from modelspend import budgets, windows
from modelspend.budgets import Budget, Usage
from modelspend.events import Event
from modelspend.receipt_json import iso
from modelspend.record import frozen
from modelspend.store.book import Book
from modelspend.store.events import write_event
from modelspend.store.holds import Firing, charged, charged_days, fire, opened, resets, seen, sums
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed


@frozen(kw_only=True)
class HeldCall:
    """What an open call holds of one budget. `boot_id` is the process that must settle it."""

    receipt_id: str
    created_at_ms: int
    boot_id: str
    tenant: str
    scope: str
    name: str
    window: str
    held_pico: int


@frozen(kw_only=True)
class Stop:
    """A session or key whose calls are refused until that is lifted."""

    name: str
    reason: str
    at_ms: int


class Budgets:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer
        self._open: set[str] = set()

    # Counting.

    def known(self, budget: Budget) -> bool:
        """Whether it is open for sure; `open` is only a question away otherwise."""
        return budget.key in self._open

    async def open(self, wanted: Sequence[Budget], at_ms: int) -> None:
        """Begin to count, from what the windows around an instant have seen already."""
        await needed(self._writer).do(lambda book: [opened(book, each, at_ms) for each in wanted])
        self._open.update(each.key for each in wanted)

    async def retain(self, in_force: Sequence[Budget]) -> None:
        """Forget what is in force no more: should it come back, it is opened anew."""
        keys = {each.key for each in in_force}
        each_of = {(b.scope, b.window.name) for b in in_force if b.name == budgets.EACH}
        await needed(self._writer).do(lambda book: _retain(book, keys, each_of))
        self._open.clear()

    async def forget(self, in_force: Sequence[Budget], now_ms: int) -> int:
        """Drop what no window can ask for again, neither the one now nor the one before: steps of
        rolling ones, and those under a rule for each who have long been silent; how many of these.

        Who comes back is opened anew, from the receipts.
        """
        gone: list[str] = []
        for budget in in_force:
            if budget.window.kind != "total":
                gone += await needed(self._writer).do(partial(_forget, budget=budget, at_ms=now_ms))
        self._open.difference_update(gone)
        return len(gone)

    async def usage(self, wanted: Sequence[Budget], at_ms: int) -> list[Usage]:
        """Where budgets stand; also of those that nobody has opened yet."""
        return await self._readers.ask(lambda conn: [_usage(conn, b, at_ms) for b in wanted])

    async def names(self, rule: Budget, at_ms: int, limit: int = 1_000) -> list[str]:
        """The ones that have spent or hold anything under a rule for each, the dearest first."""
        return await self._readers.ask(lambda conn: _names(conn, rule, at_ms, limit))

    async def holds(self) -> list[HeldCall]:
        """What open calls hold, the oldest first."""
        return await self._readers.ask(_holds)

    async def history(self, budget: Budget, at_ms: int, count: int) -> list[tuple[Usage, int]]:
        """(a calendar window, its receipts), from the receipts themselves, the newest first."""
        return await self._readers.ask(lambda conn: _history(conn, budget, at_ms, count))

    async def days(self, budget: Budget, until_ms: int) -> list[tuple[int, int]]:
        """(a day's number since 1970, in UTC; what its receipts were charged), in order."""
        return await self._readers.ask(lambda conn: charged_days(conn, budget, until_ms))

    async def firings(self, budget: Budget) -> dict[int, list[str]]:
        """What was told in which window."""

        def ask(conn: sqlite3.Connection) -> dict[int, list[str]]:
            found: dict[int, list[str]] = {}
            rows = conn.execute(
                "SELECT start, rule FROM budget_firings WHERE budget = ?"
                " ORDER BY start, at, length(rule), rule",
                (budget.key,),
            )
            for start, rule in rows:
                found.setdefault(start, []).append(rule)
            return found

        return await self._readers.ask(ask)

    async def fire(self, firings: Sequence[Firing]) -> None:
        """Tell what was not told yet in its window."""
        await needed(self._writer).do(lambda book: fire(book, firings))

    async def tell(self, event: Event) -> None:
        await needed(self._writer).do(lambda book: write_event(book, event))

    # What an operator sets.

    async def overrides(self) -> list[Budget]:
        """What `budgets set` left here; it wins over the configuration."""
        return await self._readers.ask(_overrides)

    async def set_override(self, budget: Budget, at_ms: int) -> None:
        window = budget.window
        await needed(self._writer).do(
            lambda book: book.execute(
                "INSERT INTO budget_overrides (scope, name, window_text, zone, cap_pico, hard,"
                " set_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (scope, name, window_text, zone)"
                " DO UPDATE SET cap_pico = excluded.cap_pico, hard = excluded.hard,"
                " set_at = excluded.set_at",
                (
                    budget.scope,
                    budget.name,
                    window.text,
                    window.zone,
                    budget.cap_pico,
                    int(budget.hard),
                    at_ms,
                ),
            )
        )

    async def clear_override(self, scope: str, name: str, window: windows.Window | None) -> int:
        """Return to the configuration; how many overrides went."""
        text = None if window is None else window.text
        zone = None if window is None else window.zone
        return await needed(self._writer).do(
            lambda book: (
                book.execute(
                    "DELETE FROM budget_overrides WHERE scope = ? AND name = ?"
                    " AND (? IS NULL OR (window_text = ? AND zone = ?))",
                    (scope, name, text, text, zone),
                ).rowcount
            )
        )

    async def stops(self) -> list[Stop]:
        return await self._readers.ask(
            lambda conn: [
                Stop(name=name, reason=reason, at_ms=at)
                for name, reason, at in conn.execute(
                    "SELECT name, reason, set_at FROM stops ORDER BY set_at, name"
                )
            ]
        )

    async def stop(self, stop: Stop, event: Event) -> None:
        """Refuse the calls of a session or key from now on, also after a restart."""

        def put(book: Book) -> None:
            added = book.execute(
                "INSERT INTO stops (name, reason, set_at) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING",
                (stop.name, stop.reason, stop.at_ms),
            )
            if added.rowcount:
                write_event(book, event)

        await needed(self._writer).do(put)

    async def lift(self, name: str, event: Event) -> bool:
        """Let it call again; false when it was not stopped."""

        def drop(book: Book) -> bool:
            gone = book.execute("DELETE FROM stops WHERE name = ?", (name,)).rowcount
            if gone:
                write_event(book, event)
            return bool(gone)

        return await needed(self._writer).do(drop)


def _usage(conn: sqlite3.Connection, budget: Budget, at_ms: int) -> Usage:
    slot = windows.slot(budget.window, at_ms)
    found = "SELECT id, opened_at IS NOT NULL FROM budgets WHERE key = ?"
    number, is_open = conn.execute(found, (budget.key,)).fetchone() or (None, False)
    spent, held = sums(conn, number, slot) if number is not None else (0, 0)
    if not is_open:
        past = seen(conn, budget, at_ms)
        spent = sum(n for start, n in past if slot.since <= start <= slot.until)
    rolling = budget.window.kind == "rolling"
    return Usage(
        budget=budget,
        spent_pico=spent,
        held_pico=held,
        starts_at_ms=at_ms - budget.window.length_ms if rolling else slot.start or None,
        resets_at_ms=resets(conn, budget, slot),
    )


def _names(conn: sqlite3.Connection, rule: Budget, at_ms: int, limit: int) -> list[str]:
    slot = windows.slot(rule.window, at_ms)
    rows = conn.execute(
        "SELECT b.name FROM budgets b JOIN budget_sums s ON s.budget = b.id"
        " WHERE b.scope = ? AND b.window_name = ? AND b.opened_at IS NOT NULL"
        " AND s.start BETWEEN ? AND ?"
        " GROUP BY b.id ORDER BY total(s.spent_pico) + total(s.held_pico) DESC, b.name LIMIT ?",
        (rule.scope, rule.window.name, slot.since, slot.until, limit),
    )
    return [name for (name,) in rows]


def _history(
    conn: sqlite3.Connection, budget: Budget, at_ms: int, count: int
) -> list[tuple[Usage, int]]:
    found: list[tuple[Usage, int]] = []
    start, end = windows.span(budget.window, at_ms)
    (oldest,) = conn.execute("SELECT min(created_at) FROM receipts").fetchone()
    while len(found) < count and oldest is not None and end > oldest:
        spent, many = charged(conn, budget, start, end)
        usage = Usage(
            budget=budget, spent_pico=spent, held_pico=0, starts_at_ms=start, resets_at_ms=end
        )
        found.append((usage, many))
        start, end = windows.before(budget.window, start)
    return found


def _holds(conn: sqlite3.Connection) -> list[HeldCall]:
    named = {
        number: (scope, name, window)
        for number, scope, name, window in conn.execute(
            "SELECT id, scope, name, window_name FROM budgets"
        )
    }
    found: list[HeldCall] = []
    for receipt_id, at, boot, tenant, first, later in conn.execute(
        "SELECT i.receipt_id, i.created_at, i.boot_id, i.tenant, i.holds, a.holds FROM intents i"
        " LEFT JOIN intent_attempts a ON a.receipt_id = i.receipt_id"
        " ORDER BY i.created_at, i.receipt_id, a.n"
    ):
        texts = [later] if found and found[-1].receipt_id == receipt_id else [first, later]
        for number, _, amount in (one for text in texts if text for one in orjson.loads(text)):
            scope, name, window = named.get(number, ("", "", ""))
            found.append(
                HeldCall(
                    receipt_id=receipt_id,
                    created_at_ms=at,
                    boot_id=boot,
                    tenant=tenant,
                    scope=scope,
                    name=name,
                    window=window,
                    held_pico=amount,
                )
            )
    return found


def _retain(book: Book, keys: Collection[str], each_of: Collection[tuple[str, str]]) -> None:
    """What a call still holds of is only closed: it would not count when the budget comes back.

    A run's own budget goes with its receipts: it has no rule to be in force by.
    """
    rows = book.execute(
        "SELECT id, key, scope, window_name, EXISTS (SELECT 1 FROM budget_sums"
        " WHERE budget = id AND held_pico <> 0) FROM budgets"
    ).fetchall()
    for number, key, scope, window, held in rows:
        if key in keys or (scope, window) in each_of or scope == "run":
            continue
        if held:
            book.budgets.pop(key, None)
            book.execute("UPDATE budgets SET opened_at = NULL WHERE id = ?", (number,))
        else:
            _drop(book, number, key)


def _forget(book: Book, *, budget: Budget, at_ms: int) -> list[str]:
    now = windows.slot(budget.window, at_ms)
    before = windows.slot(budget.window, now.since - 1).since
    of = (budget.scope, budget.window.name)
    if budget.window.kind == "rolling":
        book.execute(
            "DELETE FROM budget_sums WHERE start < ? AND held_pico = 0"
            " AND budget IN (SELECT id FROM budgets WHERE scope = ? AND window_name = ?)",
            (before, *of),
        )
    if budget.name != budgets.EACH:
        return []
    rows = book.execute(
        "SELECT id, key FROM budgets WHERE scope = ? AND window_name = ? AND NOT EXISTS"
        " (SELECT 1 FROM budget_sums WHERE budget = id AND (start >= ? OR held_pico <> 0))",
        (*of, before),
    ).fetchall()
    for number, key in rows:
        _drop(book, number, key)
    return [key for _, key in rows]


def _drop(book: Book, number: int, key: str) -> None:
    book.budgets.pop(key, None)
    book.execute("DELETE FROM budget_sums WHERE budget = ?", (number,))
    book.execute("DELETE FROM budgets WHERE id = ?", (number,))


def _overrides(conn: sqlite3.Connection) -> list[Budget]:
    return [
        Budget(
            scope=scope,
            name=name,
            window=windows.parse(text, zone),
            cap_pico=cap,
            hard=bool(hard),
            origin=f"ledger, set {iso(at)[:10]}",
        )
        for scope, name, text, zone, cap, hard, at in conn.execute(
            "SELECT scope, name, window_text, zone, cap_pico, hard, set_at FROM budget_overrides"
            " ORDER BY scope, name, window_text, zone"
        )
    ]
