"""A receipt's detail: back bit by bit, also from what older versions wrote."""

import json
import zlib
from pathlib import Path

import pytest

from modelspend.receipt_json import canonical
from modelspend.store import detail
from modelspend.store.calls import dictionary_of, receipt_columns
from tests.store.synthetic import Traffic

FOLDER = Path(detail.__file__).parent


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_any_version_wrote_is_read_bit_by_bit(traffic: Traffic, number: int) -> None:
    dictionary = FOLDER.joinpath(f"detail_v{number}.txt").read_bytes()
    for receipt in traffic.receipts(50):
        said, columns = canonical(receipt), dictionary_of(receipt_columns(receipt))
        known = dictionary + '","'.join(filter(None, columns)).encode()
        packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, known)
        packed = bytes((number,)) + packer.compress(said) + packer.flush()
        assert detail.unpack(packed, columns) == said


def test_the_newest_form_is_read_back_and_is_thawed_to_the_same_receipt(traffic: Traffic) -> None:
    for receipt in traffic.receipts(50):
        said, columns = canonical(receipt), dictionary_of(receipt_columns(receipt))
        assert detail.unpack(detail.pack(said, columns), columns) == said
        assert detail.thaw(said) == receipt


@pytest.mark.parametrize("trace", [None, "", "\x01", "\x02", '"', "é", '{"'])
def test_whatever_a_column_holds_nothing_else_is_taken_for_it(trace: str | None) -> None:
    columns = ("rcpt_1", *[None] * 4, trace, *[None] * 3)
    said = json.dumps({"a": ["rcpt_1", trace, "rcpt_1\x01\x02"]}, separators=(",", ":")).encode()
    assert detail.unpack(detail.pack(said, columns), columns) == said


@pytest.mark.parametrize(
    "packed", [b"", b"\x00abc", b"\x63abc", b"\x02", b"\x02\xff\xff", b"\x04", b"\x04\xff\xff"]
)
def test_what_cannot_be_a_detail_is_told_so(packed: bytes) -> None:
    with pytest.raises(ValueError, match="its detail"):
        detail.unpack(packed, ("rcpt_1",))


def test_a_released_dictionary_never_changes() -> None:
    """Its bytes are needed for ever: what was written with it could not be read with another."""
    names = ("detail_v1.txt", "detail_v2.txt", "detail_v3.txt", "detail_v4.zdict")
    sums = [zlib.crc32(FOLDER.joinpath(name).read_bytes()) for name in names]
    assert sums == [0xF50B52D7, 0x703CE06C, 0xD9CC4C3E, 0x46BD8949]
