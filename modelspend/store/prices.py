"""Frozen price rows, and the overrides that an operator set in the ledger.

A price row is never changed: its id is a hash of what it says, so writing it twice is writing it
once. An override is a pointer to such a row.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any

import orjson

from modelspend.money import Band, Price
from modelspend.store.book import Book
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

_ALWAYS = -1  # an override without a first day; NULL could not be part of a key


class Prices:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def rows(self) -> list[Price]:
        """Every price that a receipt may refer to."""
        return await self._readers.ask(lambda conn: _select(conn, "prices p ORDER BY p.price_id"))

    async def overrides(self) -> list[Price]:
        """What `prices set` left here; it wins over the configuration."""
        return await self._readers.ask(
            lambda conn: _select(
                conn,
                "price_overrides o JOIN prices p ON p.price_id = o.price_id"
                " ORDER BY o.provider, o.model, o.tier, o.valid_from",
            )
        )

    async def set_override(self, price: Price, at_ms: int) -> None:
        """Put `price` in force, in place of an override from the same instant."""
        await needed(self._writer).do(lambda book: _override(book, price, at_ms))

    async def clear_override(self, provider: str, model: str) -> int:
        """Return a model to the configuration; how many overrides went."""

        def clear(book: Book) -> int:
            return book.execute(
                "DELETE FROM price_overrides WHERE provider = ? AND model = ?", (provider, model)
            ).rowcount

        return await needed(self._writer).do(clear)


PRICE_COLUMNS = (
    "p.price_id, p.provider, p.model, p.tier, p.source, p.valid_from, p.valid_until, p.bands"
)


def _select(conn: sqlite3.Connection, source: str) -> list[Price]:
    return [price_of(row) for row in conn.execute(f"SELECT {PRICE_COLUMNS} FROM {source}")]


def price_of(row: tuple[Any, ...]) -> Price:
    """The price of a row of `PRICE_COLUMNS`, with the id that stands there."""
    price_id, provider, model, tier, origin, valid_from, valid_until, bands = row
    return Price(
        price_id=price_id,
        provider=provider,
        model=model,
        tier=tier,
        source=origin,
        valid_from_ms=valid_from,
        valid_until_ms=valid_until,
        bands=tuple(Band(above, rates) for above, rates in orjson.loads(bands)),
    )


def put_prices(book: Book, rows: Iterable[Price]) -> None:
    """Keep rows; those that are there already stay as they are."""
    book.conn.executemany(
        "INSERT INTO prices (price_id, provider, model, tier, source, valid_from, valid_until,"
        " bands) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (price_id) DO NOTHING",
        [
            (
                row.price_id,
                row.provider,
                row.model,
                row.tier,
                row.source,
                row.valid_from_ms,
                row.valid_until_ms,
                orjson.dumps([[band.above_input, dict(band.rates)] for band in row.bands]).decode(),
            )
            for row in rows
        ],
    )


def _override(book: Book, price: Price, at_ms: int) -> None:
    put_prices(book, (price,))
    book.execute(
        "INSERT INTO price_overrides (provider, model, tier, valid_from, price_id, set_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (provider, model, tier, valid_from)"
        " DO UPDATE SET price_id = excluded.price_id, set_at = excluded.set_at",
        (
            price.provider,
            price.model,
            price.tier,
            _ALWAYS if price.valid_from_ms is None else price.valid_from_ms,
            price.price_id,
            at_ms,
        ),
    )
