"""Circuits as the ledger keeps them: each move at once, so that a restart goes on where it was.

A move, its event and its incident are one small transaction of their own, which is on its way when
`moved` returns and is kept until it is durable: no call waits for it. Commands that trip or reset
write an order beside the daemon, which obeys and takes it away.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import orjson

from modelspend.breaker import Phase, Why
from modelspend.circuits import WHYS, CircuitKey, Order, Saved, Transition
from modelspend.events import Event
from modelspend.receipt import FailureClass
from modelspend.store.book import Book
from modelspend.store.events import write_event
from modelspend.store.incidents import resolve, touch_or_open
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

_KINDS = {
    Phase.OPEN: "circuit.open",
    Phase.HALF_OPEN: "circuit.half_open",
    Phase.CLOSED: "circuit.recovered",
}


class Circuits:
    def __init__(self, readers: Readers, writer: Writer | None, boot_id: str) -> None:
        self._readers = readers
        self._writer = writer
        self._boot_id = boot_id
        self._moves = 0

    def moved(self, transition: Transition, at_ms: int, drill: str | None = None) -> None:
        """Keep a move, made under a drill or not; on its way when this returns."""
        self._moves += 1
        boot_id, n = self._boot_id, self._moves
        needed(self._writer).keep(
            lambda book: _move(book, transition, at_ms, boot_id, n, drill), None
        )

    async def saved(self) -> list[Saved]:
        """How every circuit that ever moved stood last; rows that make no sense are left out."""
        return await self._readers.ask(_saved)

    async def order(self, order: Order) -> int:
        """Leave an order for the daemon, in place of an earlier one for the same; its number."""
        return await needed(self._writer).do(lambda book: _order(book, order))

    async def orders(self) -> list[Order]:
        """What no daemon has obeyed yet, oldest first."""
        return await self._readers.ask(_orders)

    async def obeyed(self, order_ids: Sequence[int]) -> None:
        def take_away(book: Book) -> None:
            marks = [(order_id,) for order_id in order_ids]
            book.conn.executemany("DELETE FROM circuit_orders WHERE order_id = ?", marks)

        await needed(self._writer).do(take_away)

    async def history(
        self,
        *,
        provider: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 50,
    ) -> list[Event]:
        """The moves of circuits, newest first."""
        asked = (
            ("json_extract(data, '$.provider') = ?", provider),
            ("created_at >= ?", since_ms),
            ("created_at < ?", until_ms),
        )
        terms = [(term, value) for term, value in asked if value is not None]
        where = "".join(f" AND {term}" for term, _ in terms)

        def ask(conn: sqlite3.Connection) -> list[Event]:
            rows = conn.execute(
                "SELECT seq, created_at, kind, level, data FROM events"
                f" WHERE kind IN ({_LISTED}){where} ORDER BY seq DESC LIMIT ?",
                (*(value for _, value in terms), limit),
            )
            return [
                Event(seq=seq, at_ms=at, kind=kind, level=level, data=orjson.loads(data))
                for seq, at, kind, level, data in rows
            ]

        return await self._readers.ask(ask)


_LISTED = "'circuit.open', 'circuit.half_open', 'circuit.recovered'"  # as the index has them


def _move(
    book: Book,
    transition: Transition,
    at_ms: int,
    boot_id: str,
    n: int,
    drill: str | None = None,
) -> None:
    """Once, however often it is run: a row of the same boot knows its later moves."""
    circuit, moved = transition.circuit, transition.moved
    written = book.execute(
        "SELECT max(n) FROM v3_provider_circuit_breakers WHERE boot_id = ?"
        " AND provider = ? AND model_id = ? AND key_id = ?",
        (boot_id, *circuit),
    ).fetchone()[0]
    if written is not None and written >= n:
        return
    book.execute(_UPSERT, (*circuit, *_row(transition, at_ms), boot_id, n))
    told: dict[str, Any] = {
        "provider": circuit.provider,
        "model_id": circuit.model,
        "key_id": circuit.key,
        "from": moved.old,
        "reason": moved.why,
        "failure_class": moved.failure,
        "trips": moved.trips,
        **({} if drill is None else {"drill": drill}),
    }
    if moved.new is Phase.OPEN:
        told["incident_id"] = touch_or_open(book, circuit, moved, at_ms, drill)
        told |= {"wait_s": moved.wait_s, "calls": moved.calls, "failures": moved.failures}
    elif moved.new is Phase.CLOSED:
        told |= resolve(book, circuit, moved.why, at_ms)
    level = "warn" if moved.new is Phase.OPEN else "info"
    write_event(book, Event(kind=_KINDS[moved.new], at_ms=at_ms, level=level, data=told))


def _row(transition: Transition, at_ms: int) -> tuple[Any, ...]:
    moved = transition.moved
    is_open = moved.new is Phase.OPEN
    retry_at = None
    if is_open and moved.wait_s is not None:
        retry_at = at_ms + round(moved.wait_s * 1000)
    manual = is_open and moved.why == "manual"
    return (
        moved.new.value,
        moved.why,
        moved.failure,
        int(manual),
        moved.trips,
        at_ms,
        retry_at,
    )


_COLUMNS = (
    "provider, model_id, key_id, state, reason, failure_class, manual, trips, changed_at, retry_at"
)
_UPSERT = (
    f"INSERT INTO v3_provider_circuit_breakers ({_COLUMNS}, boot_id, n)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (provider, model_id, key_id)"
    " DO UPDATE SET state = excluded.state, reason = excluded.reason,"
    " failure_class = excluded.failure_class, manual = excluded.manual, trips = excluded.trips,"
    " changed_at = excluded.changed_at, retry_at = excluded.retry_at, boot_id = excluded.boot_id,"
    " n = excluded.n"
)


def _saved(conn: sqlite3.Connection) -> list[Saved]:
    found: list[Saved] = []
    rows = conn.execute(f"SELECT {_COLUMNS} FROM v3_provider_circuit_breakers ORDER BY changed_at")
    for provider, model, key, state, why, failure, manual, trips, changed_at, retry_at in rows:
        if state not in set(Phase) or why not in WHYS:
            continue
        found.append(
            Saved(
                circuit=CircuitKey(provider, model, key),
                phase=Phase(state),
                why=cast(Why, why),
                changed_at_ms=changed_at,
                retry_at_ms=retry_at,
                failure=FailureClass(failure) if failure in set(FailureClass) else None,
                manual=bool(manual),
                trips=trips,
            )
        )
    return found


def _order(book: Book, order: Order) -> int:
    book.execute(
        "DELETE FROM circuit_orders WHERE provider = ? AND model_id IS ?",
        (order.provider, order.model),
    )
    number = book.execute(
        "INSERT INTO circuit_orders (act, provider, model_id, ordered_at, until)"
        " VALUES (?, ?, ?, ?, ?)",
        (order.act, order.provider, order.model, order.at_ms, order.until_ms),
    ).lastrowid
    assert number is not None
    return number


def _orders(conn: sqlite3.Connection) -> list[Order]:
    rows = conn.execute(
        "SELECT order_id, act, provider, model_id, ordered_at, until FROM circuit_orders"
        " ORDER BY order_id"
    )
    return [
        Order(order_id=n, act=act, provider=provider, model=model, at_ms=at, until_ms=until)
        for n, act, provider, model, at, until in rows
    ]
