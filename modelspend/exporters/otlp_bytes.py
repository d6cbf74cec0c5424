"""Spans as the bytes of an OTLP request, in JSON or protobuf; and what a collector says of them.

OTLP's JSON is not that of protobuf: ids are hex, enums are numbers, 64-bit numbers are text. The
protobuf side is written by hand, since all of it is a dozen fields.
https://opentelemetry.io/docs/specs/otlp/ 1.11 (read 2026-11-22)
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modelspend import __version__
from modelspend.exporters.spans import Span, Value

SCOPE = "modelspend"


def as_json(spans: Sequence[Span], resource: Mapping[str, Value]) -> bytes:
    """`ExportTraceServiceRequest` in OTLP's JSON."""
    return json_request([json_spans(spans)], resource)


def json_request(parts: Iterable[bytes], resource: Mapping[str, Value]) -> bytes:
    """The same of spans that were written before, by `json_spans`."""
    around = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": SCOPE, "version": __version__}, "spans": []}],
            }
        ]
    }
    head = _dumps(around).removesuffix(_END)
    return head + b",".join(filter(None, parts)) + _END


_END = b"]}]}]}"


def json_spans(spans: Sequence[Span]) -> bytes:
    """Their part of a request."""
    return b",".join(_dumps(_span(one)) for one in spans)


def _dumps(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _span(one: Span) -> dict[str, Any]:
    said = {
        "traceId": one.trace_id,
        "spanId": one.span_id,
        "name": one.name,
        "kind": one.kind,
        "startTimeUnixNano": str(one.start_ns),
        "endTimeUnixNano": str(one.end_ns),
        "attributes": _attributes(one.attrs),
        "status": {"code": one.status} if one.status else {},
    }
    if one.parent_id:
        said["parentSpanId"] = one.parent_id
    return said


def _attributes(attrs: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any(value)} for name, value in attrs.items()]


def _any(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_any(one) for one in value]}}
    return {"stringValue": value}


def as_protobuf(spans: Sequence[Span], resource: Mapping[str, Value]) -> bytes:
    """`ExportTraceServiceRequest` in protobuf."""
    return protobuf_request([protobuf_spans(spans)], resource)


def protobuf_request(parts: Iterable[bytes], resource: Mapping[str, Value]) -> bytes:
    """The same of spans that were written before, by `protobuf_spans`."""
    scope = _text(1, SCOPE) + _text(2, __version__)
    scoped = _bytes(1, scope) + b"".join(parts)
    whole = _bytes(1, _attribute_bytes(1, resource)) + _bytes(2, scoped)
    return _bytes(1, whole)


def protobuf_spans(spans: Sequence[Span]) -> bytes:
    """Their part of a request."""
    return b"".join(_bytes(2, _span_bytes(one)) for one in spans)


def _span_bytes(one: Span) -> bytes:
    parts = [
        _bytes(1, bytes.fromhex(one.trace_id)),
        _bytes(2, bytes.fromhex(one.span_id)),
        _bytes(4, bytes.fromhex(one.parent_id)) if one.parent_id else b"",
        _text(5, one.name),
        _number(6, one.kind),
        _fixed(7, one.start_ns),
        _fixed(8, one.end_ns),
        _attribute_bytes(9, one.attrs),
        _bytes(15, _number(3, one.status)) if one.status else b"",
    ]
    return b"".join(parts)


def _attribute_bytes(field: int, attrs: Mapping[str, Value]) -> bytes:
    return b"".join(
        _bytes(field, _text(1, name) + _bytes(2, _any_bytes(value)))
        for name, value in attrs.items()
    )


def _any_bytes(value: Value) -> bytes:
    if isinstance(value, bool):
        return _number(2, int(value))
    if isinstance(value, int):
        return _number(3, value)
    if isinstance(value, float):
        return _varint(4 << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, tuple):
        return _bytes(5, b"".join(_bytes(1, _any_bytes(one)) for one in value))
    return _text(1, value)


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1  # a negative number is its 64-bit complement
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _number(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(n)


def _fixed(field: int, n: int) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<Q", n)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode("utf-8", "replace"))


def partial(body: bytes) -> tuple[int, str]:
    """How many spans a collector has refused, and what it says; whatever it calls its answer.

    What cannot be read says nothing: the status has said that it was taken.
    """
    try:
        if body[:1] == b"{":  # 0x0a, a line feed, is how the other form begins
            told = json.loads(body).get("partialSuccess") or {}
            return int(told.get("rejectedSpans") or 0), str(told.get("errorMessage") or "")
        fields = dict(_fields(body))
        inner = dict(_fields(fields.get(1, b"")))
        refused, said = inner.get(1, 0), inner.get(2, b"")
        assert isinstance(refused, int)
        assert isinstance(said, bytes)
        return refused, said.decode("utf-8", "replace")
    except (ValueError, TypeError, AttributeError, AssertionError, IndexError):
        return 0, ""


def _fields(data: int | bytes) -> Iterator[tuple[int, Any]]:
    assert isinstance(data, bytes)
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        if key & 7 == 0:
            value, at = _read(data, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = _read(data, at)
            yield key >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError("not a field of this message")


def _read(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128 or shift > 63:
            return n, at
