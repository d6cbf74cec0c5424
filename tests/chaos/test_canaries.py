"""Nothing secret leaks: marked keys and prompts go through every kind of call, at debug level.

A canary is a word that exists nowhere else. After a varied run it may be found only where it
belongs: provider keys at their own provider, prompts and answers in the table of bodies and at the
provider. Receipts are searched as the control plane shows them, files as bytes.
"""

import asyncio
import io
import itertools
import json
import os
import signal
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard
from calls import CHAT, COUNT, DOORS, GEMINI, MESSAGES, STREAMING
from sidecar import REPOSITORY, Sidecar, provider

from modelspend.simulator import Simulator

_MARK = "cAnArY"
_PATIENCE = aiohttp.ClientTimeout(total=20)
_numbers = itertools.count(1)


def canary(kind: str) -> str:
    return f"{_MARK}-{next(_numbers):02d}-{kind}-9f3c"


class Planted:
    """Fifty and more marked secrets, and what has been seen of the answers."""

    def __init__(self) -> None:
        self.provider_keys = {name: canary(f"key-of-{name}") for name in ("one", "two", "three")}
        self.tenant_keys = {name: canary(f"tenant-{name}") for name in _TENANTS}
        self.wrong_keys = [canary("wrong-key") for _ in range(4)]
        self.prompts = [canary("prompt") for _ in range(40)]
        self.cookies = [canary("cookie") for _ in range(2)]
        self.said: list[tuple[str, str]] = []

    @property
    def keys(self) -> list[str]:
        own = [*self.provider_keys.values(), *self.tenant_keys.values()]
        return [*own, *self.wrong_keys, *self.cookies]

    @property
    def all(self) -> list[str]:
        return [*self.keys, *self.prompts]


def found_in(text: str | bytes, canaries: list[str]) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [one for one in canaries if one.encode() in data]


BEHAVIOURS = (
    "sim-ok",
    "sim-echo",
    "sim-chunks-5",
    "sim-tools",
    "sim-400",
    "sim-401",
    "sim-403",
    "sim-404",
    "sim-429-retry-0",
    "sim-500",
    "sim-529",
    "sim-html-502",
    "sim-200-error-first",
    "sim-error-after-2",
    "sim-cut-2",
    "sim-no-done",
    "sim-hangup",
    "sim-reset",
    "sim-usage-missing",
    "sim-usage-nan",
    "sim-usage-string",
    "sim-redirect",
    "sim-raw-garbage",
    "sim-raw-two-lengths",
    "sim-raw-bad-chunk",
    "sim-gzip",
    "sim-set-cookie",
    "sim-evil-headers",
)


_TENANTS = ("acme", "globex")


def _config(sims: dict[str, Simulator]) -> str:
    parts = [
        provider(name, sim.url, api_key_env=f"KEY_{name.upper()}") for name, sim in sims.items()
    ]
    parts.append('[providers.dead]\nbase_url = "http://127.0.0.1:9"\ndialects = ["openai.chat"]\n')
    parts += [f'[tenants.{name}]\nkeys = ["TENANT_{name.upper()}"]\n' for name in _TENANTS]
    parts.append("[retries]\nbackoff_s = 0.01\n")
    return "\n".join(parts)


def _environment(planted: Planted) -> dict[str, str]:
    keys = {f"KEY_{name.upper()}": key for name, key in planted.provider_keys.items()}
    return keys | {f"TENANT_{name.upper()}": key for name, key in planted.tenant_keys.items()}


async def test_no_key_and_no_prompt_is_found_where_it_does_not_belong(tmp_path: Path) -> None:
    await search(tmp_path)


async def search(folder: Path, package: Path = REPOSITORY) -> None:
    """Plant, call in every way, search; asserts that nothing is found."""
    planted = Planted()
    async with Simulator(seed=1) as one, Simulator(seed=2) as two, Simulator(seed=3) as three:
        sims = {"one": one, "two": two, "three": three}
        sidecar = Sidecar(
            folder,
            _config(sims),
            package=package,
            env=_environment(planted),
            log_level="debug",
            server="client_stall_s = 2\nmax_body_mib = 1\nbody_timeout_s = 0.5",
        )
        async with sidecar:
            await _varied_calls(sidecar, planted, sims)
            await _broken_calls(sidecar, planted)
            await _control_plane(sidecar, planted)
            await _hang_up_and_die(sidecar, planted)
            await _said_something(sidecar)
            ledger = _ledger_but_bodies(sidecar.ledger)
            bodies = _bodies(sidecar.ledger)
        files = {
            path.name: _but_bodies(path) if path == sidecar.ledger else path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".toml"
        }
        await _only_at_its_own_provider(planted, sims)
    hits = _hits(planted, ledger, sidecar.log_text(), files)
    print(
        f"\n{len(planted.all)} canaries through {len(planted.said)} answers, {len(ledger)} ledger"
        f" values, {len(files)} files, {len(sidecar.log_text())} bytes of debug log:"
        f" {len(hits)} found where they do not belong"
    )
    assert not hits
    assert len(planted.all) >= 50
    assert found_in(bodies, planted.prompts), (
        "the bodies must hold the prompts, or this proves nothing"
    )
    assert not found_in(bodies, planted.keys)


def _hits(
    planted: Planted, ledger: list[tuple[str, str]], log: str, files: dict[str, bytes]
) -> list[tuple[str, list[str]]]:
    seen: list[tuple[str, list[str]]] = [("log", found_in(log, planted.all))]
    seen += [(f"ledger {place}", found_in(value, planted.all)) for place, value in ledger]
    seen += [(f"file {name}", found_in(data, planted.all)) for name, data in files.items()]
    seen += [(f"answer {place}", found_in(text, planted.keys)) for place, text in planted.said]
    return [(place, found) for place, found in seen if found]


async def _varied_calls(sidecar: Sidecar, planted: Planted, sims: dict[str, Simulator]) -> None:
    """Every behaviour in every dialect, streamed and not, each with a marked prompt and key."""
    prompts, names = itertools.cycle(planted.prompts), itertools.cycle(sims)
    tenants = itertools.cycle(planted.tenant_keys.values())
    async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
        for behaviour, door in itertools.product(BEHAVIOURS, STREAMING):
            for stream in (False, True):
                path, body = door.request(
                    f"{next(names)}/{behaviour}", stream=stream, prompt=next(prompts)
                )
                await _noted(session, sidecar, planted, path, body, next(tenants))
        for behaviour in ("sim-ok", "sim-500", "sim-hangup"):
            for door in (COUNT, DOORS[4]):
                path, body = door.request(f"two/{behaviour}", prompt=next(prompts))
                await _noted(session, sidecar, planted, path, body, next(tenants))
        path, body = CHAT.request("dead/any-model", prompt=next(prompts))
        await _noted(session, sidecar, planted, path, body, next(tenants))


async def _noted(
    session: aiohttp.ClientSession,
    sidecar: Sidecar,
    planted: Planted,
    path: str,
    body: bytes,
    key: str,
    **headers: str,
) -> int:
    """Ask, and note the answer's head; its body too when the sidecar wrote it itself."""
    auth = {"Authorization": f"Bearer {key}", "Cookie": f"session={planted.cookies[0]}", **headers}
    try:
        async with session.post(sidecar.url + path, data=io.BytesIO(body), headers=auth) as answer:
            head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            planted.said.append((f"{path} head", head))
            planted.said.append((f"{path} body", (await answer.read()).decode(errors="replace")))
            return answer.status
    except aiohttp.ClientError as error:
        planted.said.append((f"{path} error", repr(error)))
        return 0


async def _broken_calls(sidecar: Sidecar, planted: Planted) -> None:
    """Refusals of our own: they may not repeat what they were given, marked prompts included."""
    prompt, key = planted.prompts[0], planted.tenant_keys["acme"]
    ours: list[tuple[str, bytes, str, dict[str, str]]] = [
        ("/v1/chat/completions", f'{{"model": "{prompt}'.encode(), key, {}),
        ("/v1/chat/completions", f'{{"messages": "{prompt}"}}'.encode(), key, {}),
        ("/v1/messages", f'{{"model": 7, "system": "{prompt}"}}'.encode(), key, {}),
        ("/v1/chat/completions", prompt.encode() * 100_000, key, {}),
        ("/v1/chat/completions", prompt.encode(), key, {"Content-Encoding": "gzip"}),
        (f"/v1/unknown/{prompt}", b"{}", key, {}),
        ("/v1/responses", b'{"model": "one/sim-ok", "input": "x", "background": true}', key, {}),
        *(("/v1/chat/completions", b"{}", wrong, {}) for wrong in planted.wrong_keys),
        (f"/v1/models/sim-ok:generateContent?key={planted.wrong_keys[0]}", b"{}", "", {}),
    ]
    async with aiohttp.ClientSession() as session:
        for path, body, auth, headers in ours:
            before = len(planted.said)
            await _noted(session, sidecar, planted, path, body, auth, **headers)
            for place, text in planted.said[before:]:
                if prompt not in path:
                    assert prompt not in text, (place, text[:300])
        own = GEMINI.request("one/sim-ok", prompt=planted.prompts[1])
        url = f"{own[0]}?key={planted.tenant_keys['acme']}"
        async with session.post(sidecar.url + url, data=own[1]) as answer:
            assert answer.status == 200
            planted.said.append(("gemini key in the query", str(answer.headers)))


async def _control_plane(sidecar: Sidecar, planted: Planted) -> None:
    """What the operator is shown: receipts, status, health, and errors."""
    headers = {"Authorization": f"Bearer {sidecar.token()}"}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{sidecar.url}/v1/receipts?limit=500", headers=headers) as answer:
            listed = await answer.json()
        assert len(listed) == sidecar.ask("SELECT count(*) FROM receipts")[0][0] > 200
        for path in ("/v1/receipts?limit=500", "/v1/status", "/healthz", "/readyz", "/v1/nothing"):
            for auth in (headers, {"Authorization": f"Bearer {planted.wrong_keys[1]}"}):
                async with session.get(sidecar.url + path, headers=auth) as answer:
                    text = await answer.text()
                    planted.said.append((path, f"{answer.headers} {text}"))
                    assert not found_in(text, planted.prompts), path


async def _hang_up_and_die(sidecar: Sidecar, planted: Planted) -> None:
    """A client that leaves, and calls that are open when the process is killed and recovers.

    The provider falls silent after its first words: before them, a stream is held back.
    """
    path, body = MESSAGES.request("three/sim-stall-5", stream=True, prompt=planted.prompts[2])
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {sidecar.host}\r\nx-api-key: {planted.tenant_keys['acme']}"
        f"\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(head.encode() + body)
        await reader.readuntil(b"event: ")
        writer.transport.abort()
    await sidecar.until("SELECT count(*) FROM intents", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(head.encode() + body)
    await reader.readuntil(b"event: ")
    await sidecar.kill()
    writer.transport.abort()
    await sidecar.start()
    assert sidecar.ask("SELECT count(*) FROM receipts WHERE status = 'interrupted'") == [(1,)]


async def _said_something(sidecar: Sidecar) -> None:
    """A reload is logged: so what is searched is the log, and not an empty file."""
    os.kill(sidecar.pid, signal.SIGHUP)
    async with asyncio.timeout(10):
        while "reloaded" not in sidecar.log_text():
            await asyncio.sleep(0.02)


def _ledger_but_bodies(ledger: Path) -> list[tuple[str, str]]:
    """Every value of every table but `bodies`, compressed ones in the clear."""
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name != "bodies"
        ]
        return [
            (f"{table}[{column}]", _clear(value))
            for table in tables
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
            for column, value in enumerate(row)
            if isinstance(value, str | bytes)
        ]
    finally:
        connection.close()


def _clear(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = value.decode("latin-1")
    for skip, wbits in itertools.product(range(4), (zlib.MAX_WBITS, -zlib.MAX_WBITS)):
        try:
            text += zlib.decompressobj(wbits=wbits).decompress(value[skip:]).decode("latin-1")
        except zlib.error:
            continue
    if value.startswith(zstandard.FRAME_HEADER):
        text += zstandard.ZstdDecompressor().decompress(value).decode("latin-1")
    return text


def _but_bodies(ledger: Path) -> bytes:
    """The bytes of the file, with all its free room, but for the pages of the table of bodies."""
    data = bytearray(ledger.read_bytes())
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        places = connection.execute("SELECT pgoffset, pgsize FROM dbstat WHERE name = 'bodies'")
        for start, size in places.fetchall():
            data[start : start + size] = bytes(size)
    finally:
        connection.close()
    return bytes(data)


def _bodies(ledger: Path) -> bytes:
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT data FROM bodies").fetchall()
    finally:
        connection.close()
    return b"\n".join(_clear(data).encode("latin-1") for (data,) in rows)


async def _only_at_its_own_provider(planted: Planted, sims: dict[str, Simulator]) -> None:
    """Each provider saw its own key, no other's, no tenant's, no cookie."""
    for name, sim in sims.items():
        seen = json.dumps(
            [
                [*request.headers.items(), str(request.query), request.path]
                for request in sim.requests
            ]
        )
        others = [key for key in planted.keys if key != planted.provider_keys[name]]
        assert planted.provider_keys[name] in seen
        assert not found_in(seen, others), name
        bodies = b"".join(request.body for request in sim.requests)
        assert not found_in(bodies, planted.keys), name


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_the_ledger_and_the_token_are_readable_by_this_user_alone(
    tmp_path: Path, durability: str
) -> None:
    async with Simulator() as sim:
        store = f'durability = "{durability}"'
        async with Sidecar(tmp_path, provider("sim", sim.url), store=store) as sidecar:
            async with aiohttp.ClientSession() as session:
                path, body = CHAT.request("sim/sim-ok")
                async with session.post(sidecar.url + path, data=body) as answer:
                    assert answer.status == 200
            modes = {
                path.name: path.stat().st_mode & 0o777 for path in sidecar.ledger.parent.iterdir()
            }
            folder = sidecar.ledger.parent.stat().st_mode & 0o777
    assert folder == 0o700
    assert modes
    assert set(modes.values()) == {0o600}, modes
