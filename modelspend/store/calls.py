"""The life of a call in the ledger: an intent before it, its receipt after it, never neither.

`begin` makes an intent durable with what the call holds of its budgets; `finish` replaces both with
the receipt, attempts, events, bodies and charges, and the next link of the hash chain, in one
transaction. Both may be repeated: a receipt that is there already is not written again, so a commit
of unknown outcome can be tried once more.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from modelspend.budgets import Hold
from modelspend.chain import chain_hash
from modelspend.estimate import Ratio
from modelspend.events import Event
from modelspend.failovers import Trail
from modelspend.money import Price
from modelspend.receipt import Decision, Intent, Receipt, RequestInfo, Savings, interrupted
from modelspend.receipt_json import canonical
from modelspend.savings import MECHANISMS
from modelspend.store import detail
from modelspend.store.bodies import LARGE, Bodies, Packed, pack, write_bodies
from modelspend.store.book import Book
from modelspend.store.conversations import Advanced, write_advanced
from modelspend.store.events import write_event
from modelspend.store.failovers import write_trail
from modelspend.store.holds import Firing, Held, charge, charge_interrupted, fire, release, take
from modelspend.store.patience import Patience
from modelspend.store.prices import put_prices
from modelspend.store.ratios import add_ratios
from modelspend.store.readers import Readers
from modelspend.store.stored_answers import StoredAnswer, write_stored
from modelspend.store.writer import Writer, needed

_RECOVER_BATCH = 200


class Calls:
    def __init__(self, writer: Writer | None, readers: Readers, boot_id: str) -> None:
        self._writer = writer
        self._readers = readers
        self._boot_id = boot_id
        self._patience = Patience()
        self._packing = ThreadPoolExecutor(1, thread_name_prefix="ledger-packer")

    async def begin(self, intent: Intent, holds: Sequence[Hold] = ()) -> None:
        """Durable when it returns, and with it what the call holds of its budgets.

        Raises BudgetExceeded when one of them has no room, and LedgerUnavailable when it cannot be
        written; ValueError for an id that has an intent already.
        """
        boot_id = self._boot_id
        try:
            await needed(self._writer).do(
                lambda book: _write_intent(book, intent, boot_id, holds),
                undo=lambda book: _drop_intent(book, intent.receipt_id),
            )
        except sqlite3.IntegrityError:
            raise ValueError(f"{intent.receipt_id} has an intent already") from None

    async def hop(
        self,
        receipt_id: str,
        n: int,
        provider: str,
        model: str,
        at_ms: int,
        holds: Sequence[Hold] = (),
        *,
        hold_pico: int = 0,
        freed: Sequence[int] = (),
    ) -> None:
        """A later attempt of an open call, durable before its first byte; it holds or is refused.

        `freed` are earlier attempts that cost nothing: what they hold is given back first.
        """
        row = (receipt_id, n, provider, model, at_ms, hold_pico)
        try:
            await needed(self._writer).do(
                lambda book: _write_hop(book, row, holds, freed),
                undo=lambda book: _drop_hop(book, receipt_id, n),
            )
        except sqlite3.IntegrityError:
            raise ValueError(f"{receipt_id} has attempt {n} already") from None

    async def extend(self, receipt_id: str, n: int, holds: Sequence[Hold]) -> None:
        """One more slice for a stream that is under way. Raises BudgetExceeded."""
        await needed(self._writer).do(lambda book: _extend(book, receipt_id, n, holds))

    async def finish(
        self,
        receipt: Receipt,
        bodies: Bodies | None = None,
        events: Sequence[Event] = (),
        ratios: Sequence[Ratio] = (),
        advanced: Advanced | None = None,
        trail: Trail | None = None,
        stored: StoredAnswer | None = None,
        charges: Sequence[Hold] = (),
        firings: Sequence[Firing] = (),
        prices: Sequence[Price] = (),
    ) -> int:
        """The final receipt; its number once all of it is durable.

        `prices` are rows that it was computed with and that the ledger may not have yet.

        Raises LedgerUnavailable when that takes longer than a healthy ledger needs: the receipt is
        kept and tried again all the same.
        """
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        more = _More(events, ratios, advanced, trail, stored, charges, firings, prices)
        self._put(receipt, bodies, more, told)
        self._patience.watch(told)
        return await told

    def finish_later(
        self,
        receipt: Receipt,
        bodies: Bodies | None = None,
        events: Sequence[Event] = (),
        ratios: Sequence[Ratio] = (),
        advanced: Advanced | None = None,
        trail: Trail | None = None,
        stored: StoredAnswer | None = None,
    ) -> None:
        """The same for a context that may not wait: a hang-up, a shutdown."""
        self._put(receipt, bodies, _More(events, ratios, advanced, trail, stored), None)

    def _put(
        self, receipt: Receipt, bodies: Bodies | None, more: "_More", told: "_Told | None"
    ) -> None:
        """On its way when this returns: nobody's cancellation can lose it from here on."""
        writer = needed(self._writer)

        def put(kept: Bodies | Packed | None) -> None:
            writer.keep(lambda book: _finish(book, receipt, kept, more), told)

        if bodies is not None and bodies.size > LARGE:
            self._packing.submit(pack, bodies).add_done_callback(
                lambda done: put(None if done.exception() else done.result())
            )
        else:
            put(bodies)

    def settle(self) -> None:
        """Wait until all large bodies are packed and queued."""
        self._packing.shutdown()
        self._patience.stop()

    async def recover(self, now_ms: int) -> list[str]:
        """Close what dead processes left open: one `interrupted` receipt for each intent."""
        closed: list[str] = []
        while batch := await needed(self._writer).do(lambda book: _recover(book, self._boot_id)):
            closed += batch
        if closed:
            told = Event(
                kind="ledger.recovered", at_ms=now_ms, level="warn", data={"calls": len(closed)}
            )
            await needed(self._writer).do(lambda book: write_event(book, told))
        return closed

    async def open_count(self, until_ms: int | None = None) -> int:
        """How many calls have an intent and no receipt yet; of those that began before a time."""
        query = "SELECT count(*) FROM intents WHERE created_at < ?1 OR ?1 IS NULL"
        return await self._readers.ask(
            lambda conn: int(conn.execute(query, (until_ms,)).fetchone()[0])
        )


_Told = asyncio.Future[int]


class _More(NamedTuple):
    """What goes into the transaction of a receipt beside it."""

    events: Sequence[Event] = ()
    ratios: Sequence[Ratio] = ()
    advanced: Advanced | None = None
    trail: Trail | None = None
    stored: StoredAnswer | None = None
    charges: Sequence[Hold] = ()
    firings: Sequence[Firing] = ()
    prices: Sequence[Price] = ()


def _write_intent(book: Book, intent: Intent, boot_id: str, holds: Sequence[Hold]) -> None:
    held = take(book, holds) if holds else None
    book.execute(
        "INSERT INTO intents (receipt_id, boot_id, created_at, tenant, hold_pico, detail, holds)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            intent.receipt_id,
            boot_id,
            intent.created_at_ms,
            intent.tenant,
            intent.hold_pico,
            orjson.dumps(intent, default=dict).decode(),
            held,
        ),
    )


def _drop_intent(book: Book, receipt_id: str) -> list[list[Held]]:
    """The intent and its hops go, and give back what they hold; what that was, by attempts."""
    rows = book.execute(
        "DELETE FROM intents WHERE receipt_id = ? RETURNING 1, holds", (receipt_id,)
    ).fetchall()
    if receipt_id in book.hopped:
        rows += book.execute(
            "DELETE FROM intent_attempts WHERE receipt_id = ? RETURNING n, holds", (receipt_id,)
        ).fetchall()
        book.hopped.discard(receipt_id)
    return [release(book, text) for _, text in sorted(rows, key=itemgetter(0))]


def _write_hop(
    book: Book, row: tuple[Any, ...], holds: Sequence[Hold], freed: Sequence[int]
) -> None:
    receipt_id = row[0]
    for n in freed:
        _free(book, receipt_id, n)
    held = take(book, holds) if holds else None
    book.hopped.add(receipt_id)
    added = book.execute(
        "INSERT INTO intent_attempts"
        " (receipt_id, n, provider, model_id, started_at, hold_pico, holds)"
        " SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM intents WHERE receipt_id = ?)",
        (*row, held, receipt_id),
    )
    if not added.rowcount:
        raise ValueError(f"{receipt_id} has no open intent")


def _free(book: Book, receipt_id: str, n: int) -> None:
    """An attempt holds nothing from now on."""
    table, where, values = _row_of(receipt_id, n)
    found = book.execute(f"SELECT holds FROM {table} WHERE {where}", values).fetchone()
    book.execute(f"UPDATE {table} SET hold_pico = 0, holds = NULL WHERE {where}", values)
    release(book, found[0] if found else None)


def _row_of(receipt_id: str, n: int) -> tuple[str, str, tuple[Any, ...]]:
    """Where an attempt stands: the first one on the intent itself."""
    if n == 1:
        return "intents", "receipt_id = ?", (receipt_id,)
    return "intent_attempts", "receipt_id = ? AND n = ?", (receipt_id, n)


def _extend(book: Book, receipt_id: str, n: int, holds: Sequence[Hold]) -> None:
    table, where, values = _row_of(receipt_id, n)
    found = book.execute(f"SELECT holds FROM {table} WHERE {where}", values).fetchone()
    if found is None:
        raise ValueError(f"{receipt_id} is not open")
    taken = orjson.loads(take(book, holds))
    amounts: dict[tuple[int, int], int] = {}
    for number, start, amount in [*(orjson.loads(found[0]) if found[0] else ()), *taken]:
        amounts[number, start] = amounts.get((number, start), 0) + amount
    text = orjson.dumps([(*key, amount) for key, amount in amounts.items()]).decode()
    book.execute(
        f"UPDATE {table} SET hold_pico = ?, holds = ? WHERE {where}",
        (max(amounts.values()), text, *values),
    )


def _drop_hop(book: Book, receipt_id: str, n: int) -> None:
    rows = book.execute(
        "DELETE FROM intent_attempts WHERE receipt_id = ? AND n = ? RETURNING holds",
        (receipt_id, n),
    ).fetchall()
    for (text,) in rows:
        release(book, text)


def _finish(book: Book, receipt: Receipt, bodies: Bodies | Packed | None, more: _More) -> int:
    seq = write_receipt(book, receipt)
    if seq is None:
        (seq,) = book.execute(
            "SELECT seq FROM receipts WHERE receipt_id = ?", (receipt.receipt_id,)
        ).fetchone()
        return int(seq)
    if bodies is not None:
        packed = bodies if isinstance(bodies, Packed) else pack(bodies)
        write_bodies(book, seq, packed)
    if more.prices:
        put_prices(book, more.prices)
    if more.charges:
        charge(book, more.charges, receipt.created_at_ms)
    for event in more.events:
        write_event(book, event)
    if more.firings:
        fire(book, more.firings)
    if more.ratios:
        add_ratios(book, more.ratios)
    if more.advanced is not None:
        write_advanced(book, seq, more.advanced)
    if more.trail is not None:
        write_trail(book, seq, receipt, more.trail)
    if more.stored is not None:
        write_stored(book, more.stored)
    return seq


def write_receipt(book: Book, receipt: Receipt) -> int | None:
    """Intent out, receipt and attempts in, the chain one link longer; None when it was there."""
    _drop_intent(book, receipt.receipt_id)
    body = canonical(receipt)
    seq = book.seq + 1
    link = chain_hash(book.head, seq, body)
    return seq if restore_receipt(book, seq, receipt, body, book.head, link) else None


def restore_receipt(
    book: Book, seq: int, receipt: Receipt, body: bytes, prev_link: bytes, link: bytes
) -> bool:
    """Rows for a receipt whose place in the chain is known; False when its id is there already."""
    columns = receipt_columns(receipt)
    packed = detail.pack(body, dictionary_of(columns))
    facet = book.facet(facet_of(columns, receipt), columns[13] or 0, columns[16])
    row = (seq, *columns, facet, prev_link, link, packed)
    if not book.execute(_INSERT_RECEIPT, row).rowcount:
        return False
    book.seq = seq
    book.receipts += 1
    book.head = link
    for attempt in attempt_rows(seq, receipt):
        book.execute(_INSERT_ATTEMPT, attempt)
    for tag in tag_rows(seq, receipt, facet):
        book.execute(_INSERT_TAG, tag)
    if receipt.savings is not None:
        book.execute(_INSERT_SAVINGS, savings_row(seq, receipt.savings))
    return True


RECEIPT_COLUMNS = (
    "seq, receipt_id, created_at, tenant, workflow, session_id, category, tier, provider, model,"
    " model_asked, dialect, status, stream, cost_pico, charged_pico, exact, latency_ms, ttft_ms,"
    " input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, usage_source, price_id,"
    " key_id, replay_of, trace_id, facet_id, prev_hash, hash, detail"
)
_INSERT_RECEIPT = (
    f"INSERT INTO receipts ({RECEIPT_COLUMNS}) VALUES ({', '.join('?' * 32)})"
    " ON CONFLICT (receipt_id) DO NOTHING"
)
ATTEMPT_COLUMNS = (
    "seq, n, provider, region, model_id, started_at, status, delivery, http_status, failure_class,"
    " latency_ms, ttft_ms, cost_pico, charged_pico, drill"
)
TAG_COLUMNS = "tag, seq, created_at, facet_id, cost_pico"
_INSERT_TAG = f"INSERT INTO tags ({TAG_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
SAVINGS_COLUMNS = ", ".join(("seq", *(f"{name}_pico" for name in MECHANISMS)))
_INSERT_SAVINGS = f"INSERT INTO savings ({SAVINGS_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_ATTEMPT = f"INSERT INTO attempts ({ATTEMPT_COLUMNS}) VALUES ({', '.join('?' * 15)})"


def receipt_columns(receipt: Receipt) -> tuple[Any, ...]:
    """The searchable columns, from `receipt_id` to `trace_id`; `verify` derives them again."""
    run, asked = receipt.execution, receipt.request
    last = receipt.attempts[-1] if receipt.attempts else None
    sorted_into, plan = receipt.classification, receipt.decision
    usage = receipt.usage
    tokens = usage.quantities.get
    cost = run.actual_cost_pico
    return (
        receipt.receipt_id,
        receipt.created_at_ms,
        receipt.tenant,
        receipt.workflow,
        receipt.session_id,
        sorted_into.category if sorted_into else None,
        sorted_into.tier if sorted_into else None,
        last.provider if last else plan.provider if plan else None,
        last.model_id if last else plan.model_id if plan else asked.model,
        asked.model,
        asked.dialect,
        run.status.value,
        int(asked.stream),
        cost,
        run.charged_pico,
        int(cost is not None and not any(a.cost.inexact for a in receipt.attempts)),
        round(run.actual_latency_ms),
        None if run.ttft_ms is None else round(run.ttft_ms),
        tokens("input_tokens", 0),
        tokens("cache_read_tokens", 0),
        tokens("cache_write_5m_tokens", 0) + tokens("cache_write_1h_tokens", 0),
        tokens("output_tokens", 0),
        usage.source,
        last.cost.price_id if last else None,
        receipt.key_id,
        receipt.replay_of,
        receipt.trace_id,
    )


def facet_of(columns: Sequence[Any], receipt: Receipt) -> Any:
    """tenant, workflow, model, provider, category, status, unpriced, region."""
    tenant, workflow, _, category, _, provider, model, _, _, status, _, cost = columns[2:14]
    region = receipt.attempts[-1].region if receipt.attempts else None
    return tenant, workflow, model, provider, category, status, int(cost is None), region


def dictionary_of(columns: Sequence[Any]) -> detail.Columns:
    """The columns that the detail's dictionary repeats (see `detail.Columns`)."""
    return (
        columns[0],
        columns[2],
        columns[3],
        columns[4],
        columns[24],
        columns[26],
        columns[23],
        columns[8],
        columns[9],
    )


def tag_rows(seq: int, receipt: Receipt, facet: int) -> list[tuple[Any, ...]]:
    """The rows of `tags`: `name=value`, and what sums by tag need; `verify` derives them again."""
    cost = receipt.execution.actual_cost_pico
    return [
        (f"{name}={value}", seq, receipt.created_at_ms, facet, cost)
        for name, value in receipt.tags.items()
    ]


def savings_row(seq: int, saved: Savings) -> tuple[Any, ...]:
    """The row of `savings`: a part is null when it is not known; `verify` derives it again."""
    return (seq, *(saved.by_mechanism.get(name) for name in MECHANISMS))


def attempt_rows(seq: int, receipt: Receipt) -> list[tuple[Any, ...]]:
    """The rows of `attempts`; `verify` derives them again."""
    return [
        (
            seq,
            attempt.n,
            attempt.provider,
            attempt.region,
            attempt.model_id,
            attempt.started_at_ms,
            attempt.status.value,
            attempt.delivery.value,
            attempt.http_status,
            attempt.failure_class.value if attempt.failure_class else None,
            round(attempt.latency_ms),
            None if attempt.ttft_ms is None else round(attempt.ttft_ms),
            attempt.cost.total_pico,
            attempt.charged_pico,
            attempt.drill,
        )
        for attempt in receipt.attempts
    ]


def _recover(book: Book, boot_id: str) -> list[str]:
    rows = book.execute(
        "SELECT receipt_id, detail, hold_pico FROM intents WHERE boot_id <> ?"
        " ORDER BY created_at, receipt_id LIMIT ?",
        (boot_id, _RECOVER_BATCH),
    ).fetchall()
    for receipt_id, said, hold_pico in rows:
        hops = book.execute(
            "SELECT n, provider, model_id, started_at, hold_pico FROM intent_attempts"
            " WHERE receipt_id = ? ORDER BY n",
            (receipt_id,),
        ).fetchall()
        intent = replace(_intent(said), hold_pico=hold_pico, attempts=tuple(hops))
        charge_interrupted(book, intent, _drop_intent(book, receipt_id))
        write_receipt(book, interrupted(intent))
    return [receipt_id for receipt_id, _, _ in rows]


def _intent(said: str) -> Intent:
    shape: dict[str, Any] = orjson.loads(said)
    request, decision = shape.pop("request"), shape.pop("decision")
    shape.pop("attempts")
    return Intent(
        **shape,
        request=RequestInfo(**_tuples(request)),
        decision=None if decision is None else Decision(**_tuples(decision)),
    )


def _tuples(shape: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in shape.items()}
