"""OTLP: bytes that the official decoders read, and a protocol that is kept to the letter."""

import gzip
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto_json.collector.trace.v1.trace_service import (
    ExportTraceServiceRequest as StrictRequest,
)

from modelspend.exporters import Pace, Pump
from modelspend.exporters.otlp import OtlpSink, collector, sinks
from modelspend.exporters.otlp_bytes import as_json, as_protobuf, partial
from modelspend.exporters.spans import CLIENT, SERVER, Span, spans_of
from modelspend.receipt import Receipt
from modelspend.settings import Otlp, Settings
from modelspend.sinks import Standing
from modelspend.store import Bodies, Store
from tests.exporters.emitting import emit, now_ms, until
from tests.fakes.sink import Far, far_end, status
from tests.store.synthetic import Traffic

COUNTS = {
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
}
DEAD_NAMES = {"gen_ai.system", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"}


def many(traffic: Traffic, count: int = 200) -> list[Receipt]:
    return [traffic.receipt() for _ in range(count)]


@asynccontextmanager
async def exporting(store: Store, far: Far, **changes: Any) -> AsyncIterator[Pump]:
    section = Otlp(endpoint=far.url, allow_private=True, **changes)
    to = collector(section, {"OTLP_TOKEN": "Bearer t0ken"})
    assert to is not None
    sink = OtlpSink(to, section, store)
    sink.linger_s = 0.0
    pump = Pump(store, now_ms, lambda: 0.5, Pace(first_s=0.01, most_s=0.05, calm_s=0.0))
    await pump.start([sink])
    try:
        yield pump
    finally:
        await pump.stop()


async def ended(pump: Pump, count: int) -> Standing:
    found: list[Standing] = []

    async def so_far() -> bool:
        found[:] = await pump.standings()
        return found[0].sent + found[0].dropped == count

    await until(so_far)
    return found[0]


def test_the_strict_decoder_of_otlp_json_reads_every_span_back(traffic: Traffic) -> None:
    spans = [span for receipt in many(traffic) for span in spans_of(receipt)]
    said = json.loads(as_json(spans, {"service.name": "x"}))
    read = StrictRequest.from_dict(said)
    assert _keys(read.to_dict()) >= _keys(said)  # it ignores what it does not know: it knows all
    found = read.resource_spans[0].scope_spans[0].spans
    assert [one.span_id.hex() for one in found] == [one.span_id for one in spans]
    assert [one.trace_id.hex() for one in found] == [one.trace_id for one in spans]
    assert [one.start_time_unix_nano for one in found] == [one.start_ns for one in spans]


def test_whole_numbers_are_text_and_ids_are_hex(traffic: Traffic) -> None:
    """The decoder takes numbers, too; browsers and others lose the digits above 2^53."""
    said = json.loads(as_json(spans_of(traffic.receipt()), {}))
    for span in said["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        assert isinstance(span["startTimeUnixNano"], str)
        assert (len(bytes.fromhex(span["traceId"])), len(bytes.fromhex(span["spanId"]))) == (16, 8)
        whole = [
            one["value"]["intValue"] for one in span["attributes"] if "intValue" in one["value"]
        ]
        assert all(isinstance(one, str) for one in whole)
        assert isinstance(span["kind"], int)


def _keys(value: Any, path: str = "") -> set[str]:
    if isinstance(value, Mapping):
        below = [_keys(one, f"{path}.{key}") for key, one in value.items() if one != {}]
        return {path}.union(*below)
    if isinstance(value, list):
        return set().union(*(_keys(one, f"{path}[]") for one in value))
    return {path}


def test_the_official_protobuf_reads_the_same_as_the_json(traffic: Traffic) -> None:
    spans = [span for receipt in many(traffic) for span in spans_of(receipt)]
    read = ExportTraceServiceRequest.FromString(as_protobuf(spans, {"service.name": "é"}))
    (whole,) = read.resource_spans
    assert whole.resource.attributes[0].value.string_value == "é"
    found = whole.scope_spans[0].spans
    assert len(found) == len(spans)
    for theirs, ours in zip(found, spans, strict=True):
        assert theirs.trace_id.hex() == ours.trace_id
        assert theirs.span_id.hex() == ours.span_id
        assert theirs.parent_span_id.hex() == (ours.parent_id or "")
        assert (theirs.name, theirs.kind) == (ours.name, ours.kind)
        assert (theirs.start_time_unix_nano, theirs.end_time_unix_nano) == (
            ours.start_ns,
            ours.end_ns,
        )
        assert theirs.status.code == ours.status
        assert {one.key: _value(one.value) for one in theirs.attributes} == dict(ours.attrs)


def _value(said: Any) -> Any:
    kind = said.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in said.array_value.values)
    return getattr(said, kind)


@pytest.mark.parametrize(
    "value", [0, 1, -1, 2**53 + 1, -(2**63), 2**63 - 1, 0.5, True, "", "ß", ()]
)
def test_any_value_comes_back(value: Any) -> None:
    span = Span(
        trace_id="1" * 32, span_id="2" * 16, parent_id=None, name="n", kind=1, start_ns=1,
        end_ns=2, status=0, attrs={"k": value},
    )  # fmt: skip
    read = ExportTraceServiceRequest.FromString(as_protobuf([span], {}))
    (attribute,) = read.resource_spans[0].scope_spans[0].spans[0].attributes
    assert _value(attribute.value) == value
    strict = StrictRequest.from_dict(json.loads(as_json([span], {})))
    (told,) = strict.resource_spans[0].scope_spans[0].spans[0].attributes
    assert told.key == "k"


def test_a_receipt_is_one_server_span_with_a_client_span_for_each_attempt(
    traffic: Traffic,
) -> None:
    for receipt in many(traffic):
        call, *steps = spans_of(receipt)
        assert (call.kind, call.attrs["modelspend.receipt_id"]) == (SERVER, receipt.receipt_id)
        assert {one.parent_id for one in steps} == {call.span_id}
        assert {one.trace_id for one in steps} == {call.trace_id}
        assert len({one.span_id for one in (call, *steps)}) == 1 + len(steps)
        clients = [one for one in steps if one.kind == CLIENT]
        assert len(clients) == len(receipt.attempts)
        assert [one.name for one in steps if one.kind != CLIENT] == [
            "classify", "route", "hold", "settle",
        ]  # fmt: skip
        assert spans_of(receipt) == [call, *steps]  # the same receipt is always the same spans
        assert all(one.end_ns >= one.start_ns for one in (call, *steps))


def test_each_count_stands_under_one_name_on_one_span_and_adds_up(traffic: Traffic) -> None:
    for receipt in many(traffic):
        call, *steps = spans_of(receipt)
        assert not COUNTS & set(call.attrs)
        assert not any(DEAD_NAMES & set(one.attrs) for one in steps)
        clients = [one for one in steps if one.kind == CLIENT]
        for span, attempt in zip(clients, receipt.attempts, strict=True):
            used = attempt.usage.quantities
            told = span.attrs.get("gen_ai.usage.input_tokens", 0)
            assert told == sum(n for bucket, n in used.items() if "output" not in bucket)
        cost = receipt.execution.actual_cost_pico
        assert call.attrs.get("modelspend.cost.total_pico_usd") == cost
        if cost is not None:
            assert cost == sum(int(one.attrs.get("modelspend.cost.pico_usd", 0)) for one in clients)  # type: ignore[arg-type]


def test_the_apps_own_trace_is_joined(traffic: Traffic) -> None:
    receipt = replace(
        traffic.receipt(), trace_id="4b" * 16, span_id="0f" * 8, parent_span_id="a" * 16
    )
    call = spans_of(receipt)[0]
    assert (call.trace_id, call.span_id, call.parent_id) == ("4b" * 16, "0f" * 8, "a" * 16)


def test_nothing_of_an_error_text_is_told(traffic: Traffic) -> None:
    receipt = traffic.receipt()
    hidden = replace(receipt, execution=replace(receipt.execution, error="my secret prompt"))
    assert "my secret prompt" not in as_json(spans_of(hidden), {}).decode()


@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
async def test_what_is_sent_arrives_and_is_kept(
    store: Store, traffic: Traffic, protocol: str
) -> None:
    async with far_end() as far, exporting(store, far, protocol=protocol) as pump:
        await emit(store, traffic, 40, 10)
        assert (await ended(pump, 40)).queued == 0
        spans = 0
        for head, body in far.got:
            assert head[""] == "POST /v1/traces HTTP/1.1"
            assert head["authorization"] == "Bearer t0ken"
            plain = gzip.decompress(body)
            if protocol == "http/json":
                read = StrictRequest.from_dict(json.loads(plain))
                assert head["content-type"] == "application/json"
            else:
                read = ExportTraceServiceRequest.FromString(plain)
                assert head["content-type"] == "application/x-protobuf"
            spans += len(read.resource_spans[0].scope_spans[0].spans)
        assert await store.traces.count() == spans


@pytest.mark.parametrize("line", ["429 Slow", "502 Bad", "503 Busy", "504 Late"])
async def test_what_may_be_tried_again_is(store: Store, traffic: Traffic, line: str) -> None:
    async with far_end() as far, exporting(store, far) as pump:
        far.answer = status(line)
        await emit(store, traffic, 3, 0)
        await far.until(2)
        far.answer = status("200 OK")
        assert (await ended(pump, 3)).dropped == 0


@pytest.mark.parametrize("line", ["400 Bad", "401 Who", "413 Large", "500 Oh", "501 No"])
async def test_what_may_not_be_tried_again_is_not(
    store: Store, traffic: Traffic, line: str
) -> None:
    async with far_end() as far, exporting(store, far) as pump:
        far.answer = status(line)
        await emit(store, traffic, 1, 0)
        standing = await ended(pump, 1)
        assert (standing.sent, standing.dropped, len(far.got)) == (0, 1, 1)
        assert standing.error == f"HTTP {line[:3]}: not to be sent again"


async def test_retry_after_is_obeyed(store: Store, traffic: Traffic) -> None:
    async with far_end() as far, exporting(store, far) as pump:
        far.answer = status("429 Slow", "retry-after: 1\r\n")
        await emit(store, traffic, 1, 0)
        await far.until(1)
        began = time.monotonic()
        far.answer = status("200 OK")
        await ended(pump, 1)
        assert time.monotonic() - began > 0.9


@pytest.mark.parametrize("kind", ["json", "protobuf"])
async def test_a_partial_success_is_counted_and_not_sent_again(
    store: Store, traffic: Traffic, kind: str
) -> None:
    said = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="two")
    )
    body = (
        said.SerializeToString()
        if kind == "protobuf"
        else b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"two"}}'
    )
    async with far_end() as far, exporting(store, far) as pump:
        far.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        await emit(store, traffic, 1, 0)
        standing = await ended(pump, 1)
        assert standing.dropped == 1
        assert standing.error is not None
        assert standing.error.startswith("2 of ")
        assert len(far.got) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"{", b"[]", b"\xff\xff", b"\x0a", b"null", b"OK"])
def test_a_comment_that_makes_no_sense_says_nothing(body: bytes) -> None:
    assert partial(body) == (0, "")


async def test_prompts_stay_here_unless_somebody_has_asked_for_them(
    store: Store, traffic: Traffic
) -> None:
    bodies = Bodies(b'{"messages": "SECRET prompt"}', b'{"answer": "SECRET words"}')
    for opted_in in (False, True):
        async with far_end() as far, exporting(store, far, prompts=opted_in) as pump:
            before = (await pump.standings())[0].sent
            await store.calls.finish(traffic.receipt(), bodies)
            await ended(pump, before + 1)
            ((_, body),) = far.got
            assert (b"SECRET prompt" in gzip.decompress(body)) is opted_in
    for stored in await store.receipts.list():
        rows = await store.traces.of(stored.receipt.receipt_id)
        assert rows
        assert "SECRET" not in str(rows)


async def test_spans_go_after_their_days(store: Store, traffic: Traffic) -> None:
    async with far_end() as far, exporting(store, far) as pump:
        await emit(store, traffic, 30, 0)
        await ended(pump, 30)
    newest = max(one.receipt.created_at_ms for one in await store.receipts.list())
    assert await store.traces.count() > 0
    await store.traces.expire(newest + 31 * 86_400_000, 30)
    assert await store.traces.count() == 0


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({"OTLP_ENDPOINT": "https://c.example"}, "https://c.example/v1/traces"),
        ({"OTLP_ENDPOINT": "https://c.example/v1/traces"}, "https://c.example/v1/traces"),
        ({"OTLP_ENDPOINT": "https://c.example/otlp/"}, "https://c.example/otlp/v1/traces"),
        ({"OTLP_ENDPOINT": "https://c.example/?k=v"}, "https://c.example/v1/traces?k=v"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/mine"}, "http://c:4318/mine"),
        (
            {"OTLP_ENDPOINT": "https://ours", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://theirs"},
            "https://ours/v1/traces",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({}, None),
    ],
)
def test_where_it_goes(env: dict[str, str], url: str | None) -> None:
    found = collector(Otlp(), env)
    assert (found.url if found else None) == url


def test_the_standard_variables_are_understood() -> None:
    found = collector(
        Otlp(endpoint="https://c.example"),
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b,api-key=k",
            "OTEL_SERVICE_NAME": "mine",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod",
        },
    )
    assert found is not None
    assert (found.protobuf, found.gzip) == (True, False)
    assert dict(found.headers) == {"x-team": "a b", "api-key": "k"}
    assert found.resource["service.name"] == "mine"
    assert found.resource["deployment.environment.name"] == "prod"
    assert "a b" not in repr(found)


async def test_without_an_endpoint_there_is_no_sink(store: Store) -> None:
    assert sinks(Settings(), {}, store) == []
