"""The doors: only those who may speak to the sidecar get past its first middleware.

Raw sockets, because a client library would tidy the requests up. After DNS rebinding a page's
requests carry no Origin, so the Host header alone has to give it away, on every route.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from calls import CHAT
from sidecar import Sidecar, provider

from modelspend.server.app import ROUTES
from modelspend.simulator import Simulator

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-7f3a-behind-the-door"


@dataclass(slots=True)
class Bench:
    sidecar: Sidecar
    sim: Simulator

    async def say(self, request: bytes, limit_s: float = 10) -> bytes:
        """All that comes back on one connection until the server closes it or the answer ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.sidecar.port)
        said = b""
        try:
            writer.write(request)
            async with asyncio.timeout(limit_s):
                bodiless = request.startswith(b"HEAD ")
                while not _whole(said, bodiless) and (part := await reader.read(65536)):
                    said += part
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return said

    @property
    def port(self) -> int:
        return self.sidecar.port


def _whole(said: bytes, bodiless: bool) -> bool:
    head, end, body = said.partition(b"\r\n\r\n")
    if bodiless:
        return bool(end)
    size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and size is not None and len(body) >= int(size[1])


def status_of(said: bytes) -> int:
    return int(said[9:12]) if said.startswith(b"HTTP/1.") else 0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("doors")
    async with Simulator() as sim:
        config = provider("sim", sim.url, models=["sim-ok", CANARY])
        server = "header_timeout_s = 2\nbody_timeout_s = 1"
        async with Sidecar(folder, config, server=server) as sidecar:
            yield Bench(sidecar, sim)


def every_route() -> list[tuple[str, str]]:
    """(method, path) of each route of the product, its places filled in."""
    return [
        (method, re.sub(r"\{(\w+)[^/]*\}$|\{(\w+)\}", _filled, path)) for method, path, _ in ROUTES
    ]


def _filled(place: re.Match[str]) -> str:
    return "sim-ok:generateContent" if "rest" in place[0] else "rcpt_01JKEZ4F9TXXXXXXXXXXXXXXXX"


def _request(
    bench: Bench, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b""
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if method == "POST":
        body = body or CHAT.request("sim-ok")[1]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines.append(f"Authorization: Bearer {bench.sidecar.token()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def foreign_hosts(port: int) -> list[str]:
    """Spellings that are not ours, or that only look so."""
    return [
        "evil.test",
        f"evil.test:{port}",
        f"localhost.evil.test:{port}",
        f"127.0.0.1.evil.test:{port}",
        f"127.0.0.1.nip.io:{port}",
        f"evil.test.localhost:{port}",
        f"localhost:{port}.evil.test",
        f"localhost:{port + 1}",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:",
        f"127.0.0.1:0{port}",
        f"127.0.0.1:{port}:{port}",
        f"127.0.0.1:{port}/",
        f"127.0.0.1:{port}?",
        f"127.0.0.1:{port}#",
        f"127.0.0.1:{port}@evil.test",
        f"evil.test@127.0.0.1:{port}",
        f"user:word@localhost:{port}",
        f"localhost.:{port}",
        f"127.0.0.1.:{port}",
        f"127.1:{port}",
        f"127.0.1:{port}",
        f"0:{port}",
        f"0.0.0.0:{port}",
        f"0x7f.1:{port}",
        f"0x7f000001:{port}",
        f"2130706433:{port}",
        f"0177.0.0.1:{port}",
        f"127.0.0.2:{port}",
        f"[::]:{port}",
        f"[::ffff:127.0.0.1]:{port}",
        f"[::1%25lo]:{port}",
        f"[::1]x:{port}",
        f"::1:{port}",
        f"[127.0.0.1]:{port}",
        f"loca lhost:{port}",
        f"localhost,evil.test:{port}",
        f"localhost:{port},evil.test",
        f"http://localhost:{port}",
        f"ⅼocalhost:{port}".encode().decode("latin-1"),
        "",
    ]


async def test_every_host_that_is_not_ours_is_refused(bench: Bench) -> None:
    hosts = foreign_hosts(bench.port)
    assert len(hosts) >= 40
    passed = []
    for host in hosts:
        said = await bench.say(_request(bench, "GET", "/v1/models", [("Host", host)]))
        if status_of(said) not in (400, 421) or CANARY.encode() in said:
            passed.append((host, said[:120]))
    print(f"\n{len(hosts) - len(passed)} of {len(hosts)} foreign Host spellings refused")
    assert not passed


async def test_our_own_names_are_let_in_whatever_their_case(bench: Bench) -> None:
    for host in ("127.0.0.1", "localhost", "LocalHost", "LOCALHOST", "[::1]"):
        headers = [("Host", f"{host}:{bench.port}")]
        said = await bench.say(_request(bench, "GET", "/v1/models", headers))
        assert status_of(said) == 200, (host, said[:200])
        assert CANARY.encode() in said


_DOORS = {
    "a foreign Host": lambda port: [("Host", f"evil.test:{port}")],
    "no Host": lambda port: [],
    "two Hosts": lambda port: [("Host", f"127.0.0.1:{port}"), ("Host", f"evil.test:{port}")],
    "our Host twice": lambda port: [("Host", f"127.0.0.1:{port}")] * 2,
    "a foreign Origin": lambda port: [
        ("Host", f"127.0.0.1:{port}"),
        ("Origin", "http://evil.test"),
    ],
    "another port's Origin": lambda port: [
        ("Host", f"127.0.0.1:{port}"),
        ("Origin", f"http://127.0.0.1:{port + 1}"),
    ],
    "a hidden Origin": lambda port: [("Host", f"127.0.0.1:{port}"), ("Origin", "null")],
    "a cross-site fetch": lambda port: [
        ("Host", f"127.0.0.1:{port}"),
        ("Sec-Fetch-Site", "cross-site"),
    ],
    "a same-site fetch": lambda port: [
        ("Host", f"127.0.0.1:{port}"),
        ("Sec-Fetch-Site", "same-site"),
    ],
}


@pytest.mark.parametrize("door", _DOORS)
async def test_no_route_at_all_answers_through(bench: Bench, door: str) -> None:
    """Also with the local token: a page must get nothing, whatever else it knows."""
    taken = len(bench.sim.requests)
    passed = []
    for method, path in every_route():
        said = await bench.say(_request(bench, method, path, _DOORS[door](bench.port)))
        if status_of(said) not in (400, 403, 421) or CANARY.encode() in said:
            passed.append((method, path, said[:120]))
    assert not passed
    assert len(bench.sim.requests) == taken


async def test_absolute_form_and_other_odd_targets_are_refused_on_every_route(bench: Bench) -> None:
    own = [("Host", f"127.0.0.1:{bench.port}")]
    passed = []
    for method, path in every_route():
        for target in (
            f"http://127.0.0.1:{bench.port}{path}",
            f"http://evil.test{path}",
            f"//127.0.0.1:{bench.port}{path}",
        ):
            said = await bench.say(_request(bench, method, target, own))
            if status_of(said) not in (400, 404, 421) or CANARY.encode() in said:
                passed.append((method, target, said[:120]))
    for target in ("*", "evil.test:80", "v1/models", "/../v1/models/..;/", "\\v1\\models"):
        said = await bench.say(_request(bench, "GET", target, own))
        if status_of(said) == 200:
            passed.append(("GET", target, said[:120]))
    assert not passed


async def test_every_control_route_needs_the_local_token(bench: Bench) -> None:
    open_to_all = {"/healthz", "/readyz"}
    control = [
        (method, path)
        for method, path in every_route()
        if not any(word in path for word in _DATA_PLANE) and path not in open_to_all | {"/"}
    ]
    assert len(control) >= 4
    for method, path in control:
        for token in (None, "", "wrong", bench.sidecar.token() + "x", bench.sidecar.token()[:20]):
            lines = [f"{method} {path} HTTP/1.1", f"Host: {bench.sidecar.host}"]
            if token is not None:
                lines.append(f"Authorization: Bearer {token}")
            if method == "POST":
                lines.append("Content-Length: 0")
            said = await bench.say("\r\n".join([*lines, "", ""]).encode())
            assert status_of(said) == 401, (method, path, token, said[:200])


_DATA_PLANE = ("completions", "responses", "messages", "embeddings", "models", "tunedModels")


def framings(port: int) -> dict[str, bytes]:
    """Requests whose end two readers could see in different places, and other broken HTTP."""
    post = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
    get = f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    return {
        "length then chunked": post
        + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + smuggled,
        "chunked then length": post
        + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        + smuggled,
        "two equal lengths": post + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "two lengths": post + b"Content-Length: 2\r\nContent-Length: 7\r\n\r\n{}",
        "a list of lengths": post + b"Content-Length: 13, 13\r\n\r\n{}",
        "a signed length": post + b"Content-Length: +13\r\n\r\n{}",
        "an underscored length": post + b"Content-Length: 1_3\r\n\r\n{}",
        "a negative length": post + b"Content-Length: -1\r\n\r\n{}",
        "a hexadecimal length": post + b"Content-Length: 0x2\r\n\r\n{}",
        "an unknown coding": post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "chunked, not last": post + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "a space before the colon": post + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "a folded header": post + b"X-Folded: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a vertical tab": post + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "a bare line feed": post.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
        "a bare carriage return": post + b"X-Bare: a\rb\r\nContent-Length: 2\r\n\r\n{}",
        "a NUL in a header": get + b"X-Nul: a\x00b\r\n\r\n",
        "an unprefixed chunk size": post
        + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        "a negative chunk": post + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
        "a chunk size of forty digits": post
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"f" * 40
        + b"\r\n{}\r\n0\r\n\r\n",
        "a chunk extension cut by a line feed": post
        + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\n{}\r\n0\r\n\r\n",
        "chunked in HTTP/1.0": post.replace(b"1.1", b"1.0", 1)
        + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "a header of 64 KiB": get + b"X-Long: " + b"a" * 65_536 + b"\r\n\r\n",
        "a target of 64 KiB": b"GET /v1/models?" + b"a" * 65_536 + get[14:] + b"\r\n",
        "a header without a name": get + b": nameless\r\n\r\n",
        "a header name with a space": get + b"X Y: z\r\n\r\n",
        "an unknown version": get.replace(b"1.1", b"3.7", 1) + b"\r\n",
        "a control letter in the method": b"G\x01T" + get[3:] + b"\r\n",
    }


async def test_malformed_framing_is_refused_and_the_connection_closed(bench: Bench) -> None:
    """Nothing of it may reach a provider, and no second request may be read out of it."""
    taken = len(bench.sim.requests)
    cases = framings(bench.port)
    passed = []
    for name, request in cases.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        said = b""
        try:
            writer.write(request)
            async with asyncio.timeout(15):
                while part := await reader.read(65536):
                    said += part
        except ConnectionError:
            pass
        except TimeoutError:
            passed.append((name, "left open", said[:100]))
        finally:
            writer.transport.abort()
        if said and (status_of(said) not in range(400, 500) or said.count(b"HTTP/1.1 ") > 1):
            passed.append((name, "answered", said[:100]))
    print(f"\n{len(cases) - len(passed)} of {len(cases)} malformed framings refused")
    assert not passed
    assert len(bench.sim.requests) == taken
    assert len(cases) >= 24


async def test_a_websocket_upgrade_is_sent_back_to_http(bench: Bench) -> None:
    upgrade = [
        ("Host", f"127.0.0.1:{bench.port}"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    for path in ("/v1/responses", "/responses", "/v1/chat/completions", "/v1/realtime"):
        said = await bench.say(_request(bench, "GET", path, upgrade))
        assert 400 <= status_of(said) < 500, (path, said[:200])


async def test_a_client_that_never_ends_its_headers_is_let_go(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    async with asyncio.timeout(20):
        said = await reader.read(4096)
    writer.transport.abort()
    assert not said or status_of(said) in (400, 408)


_ATTACK = """<!doctype html><body><script>
const out = [];
async function probe(base, method, path, headers) {
  try {
    const got = await fetch(base + path, {method, headers,
      body: method === "POST" ? '{"model":"sim-ok","messages":[]}' : undefined});
    out.push(got.status + " " + (await got.text()).length + " " + method + " " + path);
    out.push(await (await fetch(base + path, {method: "GET"})).text());
  } catch (error) { out.push("blocked " + path); }
}
(async () => {
  for (const [method, path] of ROUTES) {
    await probe("", method, path, {});
    await probe("http://127.0.0.1:PORT", method, path, {"Content-Type": "text/plain"});
  }
  document.title = "done";
  document.body.textContent = out.join("\\n");
})();
</script></body>"""


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_a_rebinding_page_in_a_real_browser_reads_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    """`evil.test` is the attacker's own server first, and 127.0.0.1 at our port afterwards.

    The browser is told that every port of evil.test is this machine, which is what a page achieves
    by rebinding; its requests to our port then carry its own name as Host and no Origin.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here: apt-get install chromium")
    routes = [[method, path] for method, path in every_route() if method != "HEAD"]
    page = _ATTACK.replace("ROUTES", str(routes)).replace("PORT", str(bench.port))
    app = web.Application()

    async def attack(request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    app.router.add_get("/", attack)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        own = f"http://evil.test:{runner.addresses[0][1]}/"
        foreign = [await _dumped(browser, own, tmp_path / "a")]
        for method, path in every_route():
            if method == "GET":
                url = f"http://evil.test:{bench.port}{path}"
                foreign.append(await _dumped(browser, url, tmp_path / "b"))
    finally:
        await runner.cleanup()
    assert "blocked" in foreign[0], foreign[0][:500]
    for seen in foreign:
        assert CANARY not in seen
        assert "rcpt_" not in seen.replace("rcpt_01JKEZ4F9TXXXXXXXXXXXXXXXX", "")
    print(f"\nChromium loaded {len(foreign)} pages over {len(routes)} routes: no canary read")


async def _dumped(browser: str, url: str, profile: Path) -> str:
    """The DOM of a page as headless Chromium leaves it."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
        " --disable-background-networking --disable-component-update --disable-sync"
        " --virtual-time-budget=8000 --dump-dom"
    )
    process = await asyncio.create_subprocess_exec(
        browser,
        *flags.split(),
        f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP evil.test 127.0.0.1",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return said.decode(errors="replace")
