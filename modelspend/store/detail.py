"""A receipt's canonical bytes in as little room as possible, and back, bit by bit.

Zstandard with a dictionary trained on receipts (`detail_v4.zdict`, made by `tests/bench/
dictionary.py`); the ids that are different in each are taken from the row's own columns. Those
written before are raw deflate, whose dictionary goes on with the columns. A reader would not guess
that a column edited behind our back changes its receipt or makes it unreadable; that is meant.
"""

import json
import threading
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import zstandard

from modelspend.receipt import Receipt
from modelspend.receipt_json import from_json

LEVEL = 3

_NEWEST = 4
_DEFLATED = {
    number: Path(__file__).with_name(f"detail_v{number}.txt").read_bytes() for number in (1, 2, 3)
}
"""By the number that begins a detail. One that was ever written with is never changed."""

_TRAINED = Path(__file__).with_name(f"detail_v{_NEWEST}.zdict").read_bytes()
_ANY_WINDOW = -15

Columns = tuple[str | None, ...]
"""receipt_id, tenant, workflow, session_id, key_id, trace_id, price_id, model, model_asked."""

_RECEIPT_ID, _TRACE_ID = 0, 5
_MARKS = ((_RECEIPT_ID, b"\x01"), (_TRACE_ID, b"\x02"))
"""What stands for a column; JSON has no such bytes of its own, it escapes them."""


def pack(canonical: bytes, columns: Columns) -> bytes:
    """The detail column; its first byte is the number of the dictionary."""
    return b"\x04" + _own.packer.compress(bare(canonical, columns))


def bare(canonical: bytes, columns: Columns) -> bytes:
    """The canonical bytes without what the columns hold."""
    for column, mark in _MARKS:
        if value := columns[column]:
            canonical = canonical.replace(value.encode(), mark)
    return canonical


def unpack(detail: bytes, columns: Columns) -> bytes:
    """The canonical bytes. Raises ValueError when they cannot be what was packed."""
    number = detail[0] if detail else 0
    if number == _NEWEST:
        return _unpack(detail[1:], columns)
    if number not in _DEFLATED:
        raise ValueError("its detail is in a form that this version does not know")
    return _inflate(number, detail[1:], columns)


def packer_with(dictionary: bytes) -> zstandard.ZstdCompressor:
    """What packs with a dictionary; not for two threads at once."""
    made = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=4096, dict_size=len(dictionary), format=_FORM
    )
    known = zstandard.ZstdCompressionDict(dictionary)
    known.precompute_compress(compression_params=made)
    return zstandard.ZstdCompressor(dict_data=known, compression_params=made)


_FORM = zstandard.FORMAT_ZSTD1_MAGICLESS


class _Own(threading.local):
    """Each thread's own, since they may not be shared."""

    def __init__(self) -> None:
        known = zstandard.ZstdCompressionDict(_TRAINED)
        self.packer = packer_with(_TRAINED)
        self.unpacker = zstandard.ZstdDecompressor(dict_data=known, format=_FORM)


_own = _Own()


def _unpack(packed: bytes, columns: Columns) -> bytes:
    try:
        canonical = _own.unpacker.decompress(packed, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError):
        raise ValueError("its detail cannot be unpacked") from None
    for column, mark in reversed(_MARKS):
        canonical = canonical.replace(mark, (columns[column] or "").encode())
    return canonical


def _inflate(number: int, packed: bytes, columns: Columns) -> bytes:
    known = _DEFLATED[number] + '","'.join(filter(None, columns)).encode()
    unpacker = zlib.decompressobj(_ANY_WINDOW, zdict=known)
    try:
        canonical = unpacker.decompress(packed) + unpacker.flush()
    except zlib.error:
        raise ValueError("its detail cannot be unpacked") from None
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its detail is cut short")
    return canonical


def thaw(canonical: bytes) -> Receipt:
    """The receipt: money as exact decimals, what is not money as the numbers that they were."""
    shape: dict[str, Any] = json.loads(canonical, parse_float=Decimal)
    plain: dict[str, Any] = orjson.loads(canonical)
    shape["classification"] = plain["classification"]
    for attempt, told in zip(shape["attempts"], plain["attempts"], strict=True):
        attempt["raw_usage"] = told["raw_usage"]
    return from_json(shape)
