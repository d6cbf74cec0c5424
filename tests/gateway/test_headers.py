"""What crosses, both ways, and what never does."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelspend.gateway.headers import key_in, strip_key
from tests.fakes.provider import CHAT, Provider, provider, whole
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import question

CREDENTIALS = (
    "authorization: Bearer SECRET",
    "Authorization: Basic SECRET",
    "x-api-key: SECRET",
    "X-Goog-Api-Key: SECRET",
    "api-key: SECRET",
    "ocp-apim-subscription-key: SECRET",
    "x-auth-token: SECRET",
    "proxy-authorization: Basic SECRET",
    "cookie: session=SECRET",
    "x-modelspend-tags: a=SECRET",
    "connection: keep-alive, x-hop\r\nx-hop: SECRET",
)
QUERIES = {
    "alt=sse&key=SECRET": "alt=sse",
    "k%65y=SECRET&alt=sse": "alt=sse",
    "KEY=SECRET&access_token=SECRET&api-key=SECRET": "",
    "x=%41+b&key=SECRET&y=a%2Fb&&z": "x=%41+b&y=a%2Fb&&z",
    "monkey=1&keys=2": "monkey=1&keys=2",
}


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, Provider]]:
    async with provider() as upstream, sidecar_for(tmp_path, upstream.url) as sidecar:
        yield sidecar, upstream


async def test_a_compressed_request_goes_up_in_the_clear_and_says_so(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    path, body = question("openai.chat", "m", stream=False)
    packed = gzip.compress(json.dumps(body).encode())
    status, _, _ = await sidecar.post(path, packed, headers={"content-encoding": "gzip"})
    ((head, got),) = upstream.requests
    assert status == 200
    assert json.loads(got)["messages"] == body["messages"]
    assert b"content-encoding" not in head.lower()


async def test_bytes_after_a_compressed_body_are_refused_and_not_dropped(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    path, body = question("openai.chat", "m", stream=False)
    packed = gzip.compress(json.dumps(body).encode()) + gzip.compress(b" ")
    status, _, data = await sidecar.post(path, packed, headers={"content-encoding": "gzip"})
    assert status == 400
    assert b"more follows" in data
    assert not upstream.requests


@pytest.mark.parametrize("line", CREDENTIALS)
async def test_credentials_in_headers_never_reach_a_provider_they_are_not_for(
    scripted: tuple[Sidecar, Provider], line: str
) -> None:
    sidecar, upstream = scripted
    path, body = question("openai.chat", "m", stream=False)
    headers = dict(each.split(": ", 1) for each in line.split("\r\n"))
    status, _, _ = await sidecar.post(path, body, headers={**headers, "x-kept": "1"})
    ((head, _),) = upstream.requests
    assert status == 200
    assert b"SECRET" not in head
    assert b"x-kept: 1" in head


@pytest.mark.parametrize("query", QUERIES)
async def test_credentials_in_a_query_never_cross_and_the_rest_keeps_its_bytes(
    scripted: tuple[Sidecar, Provider], query: str
) -> None:
    assert strip_key(query) == QUERIES[query]
    sidecar, upstream = scripted
    target = f"/v1beta/models/sim/m:generateContent?{query}".encode()
    status, _ = await sidecar.wire(b"POST %b HTTP/1.1\r\nhost: HOST\r\n" % target, b"{}")
    ((head, _),) = upstream.requests
    assert b"200" in status
    asked = QUERIES[query]
    expected = "/v1/models/m:generateContent" + (f"?{asked}" if asked else "")
    assert head.startswith(f"POST {expected} HTTP/1.1".encode())


def test_a_key_in_a_query_is_found_however_it_is_escaped() -> None:
    assert key_in("alt=sse&k%65y=a%26b") == "a&b"
    assert key_in("monkey=1") == ""


async def test_text_beyond_ascii_in_headers_is_the_same_on_both_sides(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    upstream.answer = whole(CHAT, headers="x-down: naïve\r\n".encode())
    path, body = question("openai.chat", "m", stream=False)
    lines = f"POST {path} HTTP/1.1\r\nhost: HOST\r\nx-modelspend-tenant: café\r\nx-up: déjà\r\n"
    status, answer = await sidecar.wire(lines.encode(), json.dumps(body).encode())
    ((head, _),) = upstream.requests
    assert b"200" in status
    assert "x-down: naïve".encode() in answer
    assert "x-up: déjà".encode() in head
    assert (await sidecar.receipt()).tenant == "café"


async def test_a_provider_cannot_forge_what_we_say_of_a_call(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    upstream.answer = whole(
        CHAT, headers=b"x-modelspend-receipt: rcpt_forged\r\nX-ModelSpend-Cost-Usd: 0\r\n"
    )
    _, headers, _ = await sidecar.post(*question("openai.chat", "m", stream=False))
    assert [v for k, v in headers.items() if k.lower() == "x-modelspend-cost-usd"] == ["0.000019"]
    assert headers.getall("x-modelspend-receipt") == [(await sidecar.receipt()).receipt_id]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", "m\r\nx-evil: 1"),
        ("/v1/chat/completions", "m" * 300),
        ("/v1/messages", "m\x1b[31m"),
        ("/v1beta/models/sim/..%2F..%2Fadmin:generateContent", ""),
        ("/v1beta/models/sim/m%1b:generateContent", ""),
    ],
)
async def test_a_model_that_is_no_name_is_refused_before_anything_is_sent(
    scripted: tuple[Sidecar, Provider], path: str, model: str
) -> None:
    sidecar, upstream = scripted
    body = {"model": f"sim/{model}", "messages": [], "max_tokens": 1}
    status, answer = await sidecar.wire(
        f"POST {path} HTTP/1.1\r\nhost: HOST\r\n".encode(), json.dumps(body).encode()
    )
    assert b"400" in status
    assert b"x-modelspend-receipt" in answer
    assert not upstream.requests


async def test_an_escaped_colon_names_the_same_operation(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, upstream = scripted
    line = b"POST /v1beta/models/sim/m%3AgenerateContent HTTP/1.1\r\nhost: HOST\r\n"
    status, _ = await sidecar.wire(line, b"{}")
    assert b"200" in status
    assert upstream.requests[0][0].startswith(b"POST /v1/models/m:generateContent ")


async def test_a_session_without_end_is_kept_as_a_fingerprint(
    scripted: tuple[Sidecar, Provider],
) -> None:
    sidecar, _ = scripted
    path, body = question("openai.chat", "m", stream=False)
    await sidecar.post(path, {**body, "prompt_cache_key": "s" * 5_000})
    await sidecar.post(path, {**body, "prompt_cache_key": "s" * 5_000})
    first, second = await sidecar.receipts()
    assert first.session_id == second.session_id
    assert len(first.session_id or "") <= 256
    assert first.session_source == "prompt_cache_key"


@pytest.mark.parametrize(
    ("path", "sent", "arrives"),
    [
        ("/v1/messages", "x-api-key: sk-own", b"x-api-key: sk-own"),
        ("/v1/messages", "authorization: Bearer oauth-own", b"authorization: Bearer oauth-own"),
        (
            "/v1/chat/completions",
            "authorization: bearer sk-own",
            b"authorization: Bearer sk-own",
        ),
        ("/v1/chat/completions", "api-key: sk-own", b"authorization: Bearer sk-own"),
        (
            "/v1beta/models/google/m:generateContent",
            "authorization: Bearer oauth-own",
            b"authorization: Bearer oauth-own",
        ),
        ("/v1beta/models/google/m:generateContent?key=own", "x: y", b"x-goog-api-key: own"),
    ],
)
async def test_a_callers_own_key_reaches_the_native_provider_as_it_came_and_nobody_else(
    tmp_path: Path, path: str, sent: str, arrives: bytes
) -> None:
    async with provider() as upstream:
        natives = {
            name: {"base_url": f"{upstream.url}/v1"} for name in ("openai", "anthropic", "google")
        }
        async with sidecar_for(tmp_path, upstream.url, providers=natives) as sidecar:
            native = "anthropic" if "messages" in path else "openai"
            for name in (native, "sim"):
                body = {"model": f"{name}/m", "messages": [], "max_tokens": 1}
                target = path.replace("google/", f"{name}/") if name == "sim" else path
                line = f"POST {target} HTTP/1.1\r\nhost: HOST\r\n{sent}\r\n".encode()
                await sidecar.wire(line, json.dumps(body).encode())
    (native_head, _), (other_head, _) = upstream.requests
    assert arrives in native_head
    assert native_head.count(b"own") == 1
    assert b"own" not in other_head
