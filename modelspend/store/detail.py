"""A receipt's canonical bytes in as little room as possible, and back, bit by bit.

Raw deflate with a preset dictionary: a typical receipt (`detail_v3.txt`) followed by the row's own
columns, so that what a column holds already costs a few bits here. A reader would not guess that
a column edited behind our back makes its detail unreadable; that is meant.
"""

import json
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from modelspend.receipt import Receipt
from modelspend.receipt_json import from_json

_DICTIONARIES = {
    number: Path(__file__).with_name(f"detail_v{number}.txt").read_bytes() for number in (1, 2, 3)
}
"""By the number that begins a detail. One that was ever written with is never changed."""

_NEWEST = max(_DICTIONARIES)
_LEVEL, _WINDOW, _MEMORY = 6, -13, 6  # tables that fit a cache beside everything else
_ANY_WINDOW = -15

Columns = tuple[str | None, ...]
"""receipt_id, tenant, workflow, session_id, key_id, trace_id, price_id, model, model_asked."""


def pack(canonical: bytes, columns: Columns) -> bytes:
    """The detail column; its first byte is the number of the dictionary."""
    packer = zlib.compressobj(
        _LEVEL,
        zlib.DEFLATED,
        _WINDOW,
        _MEMORY,
        zlib.Z_DEFAULT_STRATEGY,
        _dictionary(_NEWEST, columns),
    )
    return bytes((_NEWEST,)) + packer.compress(canonical) + packer.flush()


def unpack(detail: bytes, columns: Columns) -> bytes:
    """The canonical bytes. Raises ValueError when they cannot be what was packed."""
    number = detail[0] if detail else 0
    if number not in _DICTIONARIES:
        raise ValueError("its detail is in a form that this version does not know")
    unpacker = zlib.decompressobj(_ANY_WINDOW, zdict=_dictionary(number, columns))
    try:
        canonical = unpacker.decompress(detail[1:]) + unpacker.flush()
    except zlib.error:
        raise ValueError("its detail cannot be unpacked") from None
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its detail is cut short")
    return canonical


def _dictionary(number: int, columns: Columns) -> bytes:
    return _DICTIONARIES[number] + '","'.join(filter(None, columns)).encode()


def thaw(canonical: bytes) -> Receipt:
    """The receipt: money as exact decimals, what is not money as the numbers that they were."""
    shape: dict[str, Any] = json.loads(canonical, parse_float=Decimal)
    plain: dict[str, Any] = orjson.loads(canonical)
    shape["classification"] = plain["classification"]
    for attempt, told in zip(shape["attempts"], plain["attempts"], strict=True):
        attempt["raw_usage"] = told["raw_usage"]
    return from_json(shape)
