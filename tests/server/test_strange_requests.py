"""Requests that nobody means well: a clear answer, and no word of them in a log."""

import logging
from pathlib import Path

import pytest

from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for

UNREADABLE = {
    "a header's value": b"POST /v1/messages HTTP/1.1\r\nhost: HOST\r\nx-api-key: SECRET\x01\r\n",
    "a header's name": b"POST /v1/messages HTTP/1.1\r\nhost: HOST\r\nx-api-key SECRET\r\n",
    "a query": b"POST /v1/messages?key=SECRET\x01 HTTP/1.1\r\nhost: HOST\r\n",
    "a long header": b"POST / HTTP/1.1\r\nhost: HOST\r\nx: SECRET%b\r\n" % (b"a" * 20_000),
    "a chunk": b"POST /v1/messages HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n"
    b"\r\nSECRET prompt\r\n",
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_request_that_cannot_be_read_is_not_quoted_in_the_log(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        status, _ = await sidecar.wire(UNREADABLE[what])
    assert b"400" in status
    assert "Error handling request" in caplog.text
    assert "SECRET" not in caplog.text


async def test_a_token_that_is_no_text_is_simply_wrong(sidecar: Sidecar) -> None:
    status, _ = await sidecar.wire(
        b"GET /v1/status HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer \xff\r\n"
    )
    assert b"401" in status


async def test_a_number_in_foreign_digits_is_refused(sidecar: Sidecar) -> None:
    headers = {"authorization": f"Bearer {sidecar.token}"}
    async with sidecar.client.get(sidecar.url + "/v1/receipts?limit=²", headers=headers) as answer:
        assert answer.status == 400


async def test_a_wrong_method_is_told_the_right_one(sidecar: Sidecar) -> None:
    async with sidecar.client.options(sidecar.url + "/v1/messages") as answer:
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"


async def test_models_are_shown_to_those_who_may_call_them(
    tmp_path: Path, simulator: Simulator
) -> None:
    tenants = {"acme": {"keys": ["ACME_KEY"]}}
    async with sidecar_for(
        tmp_path, simulator.url, env={"ACME_KEY": "sk-acme"}, tenants=tenants
    ) as sidecar:
        for path in ("/v1/models", "/v1/models/sim-ok", "/v1beta/models/sim-ok"):
            for headers, wanted in (({}, 401), ({"x-api-key": "sk-acme"}, 200)):
                async with sidecar.client.get(sidecar.url + path, headers=headers) as answer:
                    assert (answer.status == 401) is (wanted == 401), path
