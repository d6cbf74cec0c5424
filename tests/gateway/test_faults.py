"""What a provider can do wrong, in every dialect: the right class, the right receipt, no lie.

The simulated provider misbehaves on real sockets; its own log is the oracle of what it charged.
"""

from pathlib import Path

import pytest

from modelspend.money import BUCKETS
from modelspend.receipt import Delivery, FailureClass, Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import CUT, Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question

SUCCEEDS = (
    "ok", "reason", "empty", "finish-length", "finish-refusal", "usage-twice", "close-idle",
    "chunked", "gzip", "deflate", "wrong-content-type", "no-content-type", "set-cookie",
    "evil-headers", "split-1", "split-utf8+unicode", "line-ends", "bom",
)  # fmt: skip
STREAMS_ONLY = ("crlf", "cr", "comments", "multiline", "unspaced", "numbered", "unfinished")
ODD_USAGE = ("missing", "null", "negative", "huge", "string", "float", "nan")

REFUSALS = {
    "400": (400, FailureClass.CLIENT_ERROR),
    "401": (401, FailureClass.AUTH),
    "404": (404, FailureClass.CLIENT_ERROR),
    "429-retry-2": (429, FailureClass.RATE_LIMIT),
    "500": (500, FailureClass.SERVER_ERROR),
    "503": (503, FailureClass.OVERLOADED),
    "529": (529, FailureClass.OVERLOADED),
    "html-502": (502, FailureClass.SERVER_ERROR),
}
BREAKS = {
    "hangup": FailureClass.DISCONNECTED,
    "reset": FailureClass.DISCONNECTED,
    "lost": FailureClass.DISCONNECTED,
    "redirect": FailureClass.PROTOCOL,
    "raw-101": FailureClass.PROTOCOL,
    "raw-garbage": FailureClass.PROTOCOL,
    "raw-two-lengths": FailureClass.PROTOCOL,
    "raw-length-and-chunks": FailureClass.PROTOCOL,
    "raw-huge-header": FailureClass.PROTOCOL,
    "raw-many-headers": FailureClass.PROTOCOL,
    "raw-split-header": FailureClass.PROTOCOL,
    "raw-bad-chunk": FailureClass.PROTOCOL,
}
ENDS_BADLY = {
    "cut-8+chunks-20": (Status.TRUNCATED, FailureClass.DISCONNECTED),
    "reset-8+chunks-20": (Status.TRUNCATED, FailureClass.DISCONNECTED),
    "no-done": (Status.TRUNCATED, FailureClass.TRUNCATED),
    "cut-bytes-50": (Status.ERROR, FailureClass.DISCONNECTED),
    "bomb-32m": (Status.ERROR, FailureClass.PROTOCOL),
    "stall-8+chunks-20": (Status.TRUNCATED, FailureClass.IDLE_TIMEOUT),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_an_odd_but_honest_answer_is_a_success_and_costs_what_was_charged(
    sidecar: Sidecar, simulator: Simulator, dialect: str, stream: bool
) -> None:
    for behaviour in SUCCEEDS + (STREAMS_ONLY if stream else ()):
        path, body = question(dialect, f"sim-{behaviour}", stream=stream)
        status, headers, data = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        await simulator.quiet()
        charged = simulator.ended()[-1]["charged"]
        billed = {bucket: charged[bucket] for bucket in BUCKETS if charged.get(bucket)}
        assert (status, receipt.execution.status) == (200, Status.SUCCESS), behaviour
        assert not data.endswith(CUT), behaviour
        assert dict(receipt.usage.quantities) == billed, behaviour
        assert receipt.usage.source == "provider", behaviour


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_usage_that_makes_no_sense_is_estimated_and_marked_as_such(
    sidecar: Sidecar, dialect: str, stream: bool
) -> None:
    for odd in ODD_USAGE:
        path, body = question(dialect, f"sim-usage-{odd}", stream=stream)
        _, headers, _ = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        cost = receipt.attempts[-1].cost
        assert receipt.execution.status is Status.SUCCESS, odd
        assert receipt.usage.source == "estimated", odd
        assert not cost.exact, odd
        assert (cost.total_pico or 0) > 0, odd


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_refusal_passes_unchanged_and_costs_nothing(
    sidecar: Sidecar, simulator: Simulator, dialect: str, stream: bool
) -> None:
    for behaviour, (http, failure) in REFUSALS.items():
        path, body = question(dialect, f"sim-{behaviour}", stream=stream)
        status, headers, _ = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        (attempt,) = receipt.attempts
        assert status == http, behaviour
        assert (attempt.status, attempt.failure_class) == (Status.ERROR, failure), behaviour
        assert receipt.execution.actual_cost_pico == 0, behaviour
        if behaviour == "429-retry-2" and dialect != "gemini.generate":  # Google says it inside
            assert headers["retry-after"] == "2"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_an_exchange_that_breaks_before_the_answer_is_a_502_in_the_dialect(
    sidecar: Sidecar, dialect: str, stream: bool
) -> None:
    for behaviour, failure in BREAKS.items():
        path, body = question(dialect, f"sim-{behaviour}", stream=stream)
        status, headers, data = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        (attempt,) = receipt.attempts
        assert status == 502, behaviour
        assert attempt.failure_class is failure, behaviour
        assert b'"error"' in data, behaviour
        if failure is FailureClass.DISCONNECTED:  # it may have been billed: that is not known
            assert attempt.delivery is Delivery.MAYBE_ACCEPTED, behaviour
            assert receipt.execution.actual_cost_pico is None, behaviour


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_stream_that_ends_badly_ends_as_an_error_and_is_never_a_success(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    limits = {"first_byte_s": 5, "stream_first_byte_s": 5, "idle_s": 0.4}
    async with sidecar_for(tmp_path, simulator.url, upstream=limits) as sidecar:
        for behaviour, (ended, failure) in ENDS_BADLY.items():
            path, body = question(dialect, f"sim-{behaviour}", stream=True)
            _, headers, data = await sidecar.post(path, body)
            receipt = await sidecar.receipt_of(headers)
            (attempt,) = receipt.attempts
            assert (receipt.execution.status, attempt.failure_class) == (ended, failure), behaviour
            assert data.endswith(CUT), f"{behaviour}: a cut stream must not look whole"
            assert b"error" in data[-700:], behaviour
            assert receipt.usage.source == "estimated", behaviour


@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("behaviour", ["200-error-first", "error-after-6+chunks-20"])
async def test_an_error_inside_a_stream_is_no_success(
    sidecar: Sidecar, simulator: Simulator, dialect: str, behaviour: str
) -> None:
    path, body = question(dialect, f"sim-{behaviour}", stream=True)
    _, headers, data = await sidecar.post(path, body)
    receipt = await sidecar.receipt_of(headers)
    assert receipt.execution.status is Status.ERROR
    assert receipt.attempts[-1].failure_class is FailureClass.ERROR_IN_STREAM
    assert b"[DONE]" not in data
    assert b"message_stop" not in data
    assert b"response.completed" not in data


@pytest.mark.parametrize("dialect", CHATS)
async def test_an_error_inside_a_whole_200_gets_an_error_status(
    sidecar: Sidecar, dialect: str
) -> None:
    path, body = question(dialect, "sim-200-error-first", stream=False)
    status, headers, _ = await sidecar.post(path, body)
    receipt = await sidecar.receipt_of(headers)
    assert status >= 400
    assert receipt.execution.status is Status.ERROR
    assert receipt.execution.actual_cost_pico == 0


async def test_a_provider_that_rejects_the_usage_option_is_asked_once_more_and_remembered(
    sidecar: Sidecar, simulator: Simulator
) -> None:
    path, body = question("openai.chat", "sim-no-usage-option", stream=True)
    for expected_tries in (2, 1):
        status, headers, _ = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        assert status == 200
        assert receipt.execution.status is Status.SUCCESS
        assert len(receipt.attempts) == expected_tries
        assert receipt.request.splices == ("model",)
        assert receipt.attempts[0].cost.total_pico is not None
    assert [seen.body.count(b"include_usage") for seen in simulator.requests] == [1, 0, 0]


async def test_a_provider_that_cannot_be_reached_costs_nothing(tmp_path: Path) -> None:
    async with sidecar_for(tmp_path, "http://127.0.0.1:9") as sidecar:
        path, body = question("openai.chat", "sim-ok", stream=False)
        status, headers, data = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
    assert status == 502
    assert receipt.attempts[0].failure_class is FailureClass.CONNECT
    assert receipt.attempts[0].delivery is Delivery.NOT_SENT
    assert receipt.execution.actual_cost_pico == 0
    assert b"could not be reached" in data


async def test_an_answer_beyond_the_bound_streams_through_and_is_still_metered(
    sidecar: Sidecar, simulator: Simulator
) -> None:
    path, body = question("openai.chat", "sim-size-12m", stream=False)
    status, headers, data = await sidecar.post(path, body)
    receipt = await sidecar.receipt_of(headers)
    assert status == 200
    assert len(data) > 12_000_000
    assert "x-modelspend-cost-usd" not in headers
    assert receipt.execution.status is Status.SUCCESS
    assert receipt.usage.source == "provider"
