"""What the estimator has learnt: characters and tokens counted together, by key.

Rows are sums, so learning is adding; that makes an addition safe to repeat in any order.
"""

import sqlite3
from collections.abc import Iterable

from modelspend.estimate import Ratio
from modelspend.store.book import Book
from modelspend.store.readers import Readers


class Ratios:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def load(self) -> list[Ratio]:
        return await self._readers.ask(_load)


def _load(conn: sqlite3.Connection) -> list[Ratio]:
    rows = conn.execute("SELECT key, samples, chars, tokens, error_sum FROM ratios ORDER BY key")
    return [Ratio(*row) for row in rows]


def add_ratios(book: Book, ratios: Iterable[Ratio]) -> None:
    """Part of the caller's transaction: what one answer taught."""
    for ratio in ratios:
        book.execute(
            "INSERT INTO ratios (key, samples, chars, tokens, error_sum) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET samples = samples + excluded.samples,"
            " chars = chars + excluded.chars, tokens = tokens + excluded.tokens,"
            " error_sum = error_sum + excluded.error_sum",
            (ratio.key, ratio.samples, ratio.chars, ratio.tokens, ratio.error_sum),
        )
