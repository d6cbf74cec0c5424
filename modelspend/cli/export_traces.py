"""Receipts as lines of OTLP JSON, for `export traces`, a page at a time."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelspend.store import Filter, Store

_PAGE = 64


async def told(store: "Store", where: "Filter", env: Mapping[str, str]) -> AsyncIterator[bytes]:
    """One request a line, each of some receipts, in the order of the ledger."""
    from modelspend.exporters.otlp import resource
    from modelspend.exporters.otlp_bytes import as_json
    from modelspend.exporters.spans import spans_of

    named, cursor = resource(env), 0
    while page := await store.receipts.after(cursor, where, _PAGE):
        spans = [span for one in page for span in spans_of(one.receipt)]
        yield as_json(spans, named) + b"\n"
        cursor = page[-1].seq
