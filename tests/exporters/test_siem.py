"""SIEM sinks: what happens reaches a file, a collector or a receiver, whatever those do.

Through real syslog-ng: `pytest -m full tests/exporters/test_siem.py` (apt-get install
syslog-ng-core).
"""

import asyncio
import base64
import json
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from modelspend import tasks
from modelspend.errors import ConfigInvalid
from modelspend.events import Event
from modelspend.exporters import Pace, Pump, cef
from modelspend.exporters.formats import FORMATS
from modelspend.exporters.http import NotNow
from modelspend.exporters.notice import notice_of
from modelspend.exporters.pump import Taken
from modelspend.exporters.siem import Said, SiemSink, sinks
from modelspend.exporters.wire import Address, Wire, address
from modelspend.settings import Settings, Siem
from modelspend.simulator import Simulator
from modelspend.sinks import Standing
from modelspend.store import Store
from tests.exporters.emitting import emit, now_ms, until
from tests.exporters.hostile import (
    hostile_event,
    read_cef,
    read_frames,
    read_message,
    stored,
    texts,
)
from tests.exporters.test_addresses import SPELLINGS
from tests.fakes.receiver import Receiver, datagrams, receiver
from tests.fakes.sidecar import sidecar_for
from tests.fakes.sink import far_end, status
from tests.loops import Threads
from tests.store.synthetic import Traffic

QUICK = Pace(first_s=0.01, most_s=0.05, calm_s=0.0)


@asynccontextmanager
async def exporting(
    store: Store, env: Mapping[str, str] | None = None, **section: Any
) -> AsyncIterator[Pump]:
    section.setdefault("allow_private", True)
    settings = Settings.model_validate({"siem": {"soc": section}})
    (sink,) = sinks(settings, env or {}, store)
    sink.linger_s = 0.0
    pump = Pump(store, now_ms, lambda: 0.5, QUICK)
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


def sequence(line: bytes) -> int:
    return int(json.loads(line)["event"]["sequence"])


class _Carried:
    """A way that keeps what it was given."""

    def __init__(self) -> None:
        self.batch: list[Said] = []

    async def carry(self, batch: Sequence[Said]) -> Taken:
        self.batch += batch
        return Taken(sent=len(batch))

    async def close(self) -> None: ...


@pytest.mark.parametrize("format", ["cef", "ecs", "ocsf"])
async def test_no_thread_says_a_batch_for_it_would_hold_up_the_loop(format: str) -> None:
    """A hundred in a thread stopped the loop for 2 to 5 ms, all of them at once."""
    threads, way = Threads(max_workers=1), _Carried()
    asyncio.get_running_loop().set_default_executor(threads)
    section = Siem.model_validate({"to": "/var/log/siem", "format": format})
    batch = [stored(one, n) for n, one in enumerate(Traffic().receipts(20), 1)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = tasks.spawn(count(), "turns")
    taken = await SiemSink("soc", section, way).send(batch)
    counting.cancel()
    assert taken == Taken(sent=20)
    assert [one.line for one in way.batch] == [FORMATS[format].line(notice_of(b)) for b in batch]
    assert threads.asked == 0
    assert turns >= len(batch)


def test_what_is_not_configured_is_nothing(store: Store) -> None:
    assert sinks(Settings(), {}, store) == []
    off = {"siem": {"soc": {"to": "/x/y.jsonl", "enabled": False}}}
    assert sinks(Settings.model_validate(off), {}, store) == []


async def test_what_happens_while_it_is_off_is_told_when_it_is_on_again(
    store: Store, traffic: Traffic, tmp_path: Path
) -> None:
    file = tmp_path / "siem.jsonl"
    await emit(store, traffic, 5, 0)
    async with exporting(store, to=str(file)) as pump:
        await emit(store, traffic, 5, 0)
        await ended(pump, 5)
    await emit(store, traffic, 5, 0)
    async with exporting(store, to=str(file)) as pump:
        await ended(pump, 10)
    assert [sequence(line) for line in file.read_bytes().splitlines()] == list(range(6, 16))


@pytest.mark.parametrize(
    ("to", "way"),
    [
        ("tls://siem.example.com", Address(way="tls", host="siem.example.com", port=6514)),
        ("tls://siem.example.com:1", Address(way="tls", host="siem.example.com", port=1)),
        ("tcp://[::1]", Address(way="tcp", host="::1", port=601)),
        ("udp://10.0.0.1:5514", Address(way="udp", host="10.0.0.1", port=5514)),
    ],
)
def test_a_receiver_is_read_from_its_address(to: str, way: Address) -> None:
    assert address(to) == way
    assert Siem(to=to).to == to


@pytest.mark.parametrize(
    "to",
    [
        "",
        "siem",
        "relative/file",
        "tls://",
        "tls://h:p",
        "tls://u:p@h",
        "ftp://h",
        "tls://h/x",
        "/d/",
    ],
)
def test_what_is_no_place_is_refused_in_the_file(to: str) -> None:
    with pytest.raises(ValueError, match="to"):
        Siem(to=to)


@pytest.mark.parametrize(
    ("section", "env", "said"),
    [
        ({"to_env": "PLACE"}, {}, "names PLACE, which is not set"),
        ({"to_env": "PLACE"}, {"PLACE": "s3cret"}, "PLACE holds no place"),
        ({"to_env": "PLACE"}, {"PLACE": "tls://s3cret:99999"}, "its receiver is no address"),
        ({"to": "https://x.example", "token_env": "T"}, {}, "names T, which is not set"),
    ],
)
def test_what_the_environment_lacks_is_named_and_what_it_holds_is_not(
    store: Store, section: dict[str, str], env: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        sinks(Settings.model_validate({"siem": {"soc": section}}), env, store)
    assert said in refused.value.message
    assert "s3cret" not in refused.value.text


# To a file.


async def test_a_file_has_everything_once_over_restarts(
    store: Store, traffic: Traffic, tmp_path: Path
) -> None:
    file = tmp_path / "out" / "siem.jsonl"
    for n in (1, 2):
        async with exporting(store, to=str(file)) as pump:
            await emit(store, traffic, 30, 30)
            standing = await ended(pump, 60 * n)
            assert (standing.dropped, standing.queued) == (0, 0)
    assert [sequence(line) for line in file.read_bytes().splitlines()] == list(range(1, 121))


async def test_one_tenant_alone_is_told_when_it_is_named(
    store: Store, traffic: Traffic, tmp_path: Path
) -> None:
    file = tmp_path / "siem.jsonl"
    async with exporting(store, to=str(file), tenant="team-000") as pump:
        await emit(store, traffic, 60, 5)
        told = Event(kind="budget.exhausted", at_ms=now_ms(), tenant="team-000")
        store.events.tell(told)
        await store.circuits.obeyed([])
        ours = [one for one in await store.receipts.list(limit=100)
                if one.receipt.tenant == "team-000"]  # fmt: skip
        await ended(pump, len(ours) + 1)
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert {one["organization"]["id"] for one in lines} == {"team-000"}
    assert len(lines) == len(ours) + 1 < 60


async def test_a_file_that_cannot_be_written_waits_and_says_so(
    store: Store, traffic: Traffic, tmp_path: Path
) -> None:
    blocked = tmp_path / "out"
    blocked.write_text("in the way of a folder")
    file = blocked / "siem.jsonl"
    async with exporting(store, to=str(file)) as pump:
        await emit(store, traffic, 5, 0)

        async def failing() -> bool:
            return (await pump.standings())[0].error is not None

        await until(failing)
        (standing,) = await pump.standings()
        assert standing.error == f"{file} cannot be written: File exists"
        assert (standing.sent, standing.dropped, standing.queued) == (0, 0, 5)
        blocked.unlink()
        assert (await ended(pump, 5)).sent == 5


# To a collector.


async def test_a_collector_gets_lines_and_the_token(store: Store, traffic: Traffic) -> None:
    for scheme in ("Bearer", "Splunk"):
        async with (
            far_end() as far,
            exporting(
                store,
                {"SOC_TOKEN": "t0ken"},
                to=f"{far.url}/in?x=1",
                format="cef",
                token_env="SOC_TOKEN",
                token_scheme=scheme,
            ) as pump,
        ):
            before = (await pump.standings())[0].sent
            await emit(store, traffic, 20, 20)
            await ended(pump, before + 40)
            lines = [line for _, body in far.got for line in body.decode().split("\n")[:-1]]
            assert len({read_cef(line)[1]["externalId"] for line in lines}) == 40
            for head, _ in far.got:
                assert head[""] == "POST /in?x=1 HTTP/1.1"
                assert head["authorization"] == f"{scheme} t0ken"
                assert head["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("line", ["401 Who", "404 No", "408 Late", "429 Slow", "500 Oh", "302 Go"])
async def test_what_a_collector_may_take_later_waits(
    store: Store, traffic: Traffic, line: str
) -> None:
    async with far_end() as far, exporting(store, to=far.url) as pump:
        far.answer = status(line, "location: http://127.0.0.1:1/\r\n")
        await emit(store, traffic, 3, 3)
        await far.until(2)
        (standing,) = await pump.standings()
        assert (standing.sent, standing.dropped) == (0, 0)
        far.answer = status("200 OK")
        assert (await ended(pump, 6)).dropped == 0


@pytest.mark.parametrize("code", ["400 Bad", "413 Large", "422 No"])
async def test_an_event_that_a_collector_dislikes_costs_no_other(
    store: Store, traffic: Traffic, code: str
) -> None:
    taken: list[int] = []

    def answer(head: Mapping[str, str], body: bytes) -> bytes:
        numbers = [sequence(line) for line in body.splitlines()]
        if 13 in numbers or 14 in numbers:
            return status(code)
        taken.extend(numbers)
        return status("204 No Content")

    async with far_end() as far, exporting(store, to=far.url) as pump:
        far.answer = answer
        await emit(store, traffic, 20, 20)
        standing = await ended(pump, 40)
        assert (standing.sent, standing.dropped) == (38, 2)
        assert standing.error == f"HTTP {code[:3]}: not to be sent again"
        assert sorted(taken) == [n for n in range(1, 41) if n not in (13, 14)]


async def test_no_token_and_no_address_is_in_an_error(store: Store, traffic: Traffic) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    env = {"SOC_TOKEN": "t0ken", "PLACE": f"http://127.0.0.1:{port}/s3cret"}
    async with exporting(store, env, to_env="PLACE", token_env="SOC_TOKEN") as pump:
        await emit(store, traffic, 1, 0)

        async def failing() -> bool:
            return (await pump.standings())[0].error is not None

        await until(failing)
        (standing,) = await pump.standings()
        assert standing.error is not None
        assert not any(secret in standing.error for secret in ("t0ken", "s3cret"))


# By syslog.


def in_messages(messages: list[bytes]) -> list[int]:
    return [sequence(read_message(one)["text"]) for one in messages]


@pytest.mark.parametrize("way", ["tcp", "udp"])
async def test_a_receiver_gets_a_message_for_each(store: Store, traffic: Traffic, way: str) -> None:
    listen = receiver() if way == "tcp" else datagrams()
    async with (
        listen as far,
        exporting(store, to=f"{way}://127.0.0.1:{far.port}", hostname="gw-1") as pump,
    ):
        await emit(store, traffic, 25, 25)
        assert (await ended(pump, 50)).dropped == 0
        await far.until(50)
        said = far.messages + far.datagrams
        assert sorted(in_messages(said)) == list(range(1, 51))
        for one in said:
            told = read_message(one)
            assert (told["host"], told["app"]) == (b"gw-1", b"modelspend")
            assert told["proc"] == str(os.getpid()).encode()
            assert told["id"] in (b"receipt.created", b"x")
            assert b'[meta sequenceId="' in told["data"]
        assert far.connected <= 1


async def test_hostile_texts_are_framed_by_their_bytes(store: Store) -> None:
    async with (
        receiver() as far,
        exporting(store, to=f"tcp://127.0.0.1:{far.port}", format="cef") as pump,
    ):
        said = texts(seed=12)
        for _ in range(100):
            store.events.tell(hostile_event(said))
        await store.circuits.obeyed([])
        await ended(pump, 100)
        await far.until(100)
        (data,) = far.data
        read = [read_cef(read_message(one)["text"].decode()) for one in read_frames(bytes(data))]
        assert len({extension["externalId"] for _, extension in read}) == 100


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def served(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_over_tls_the_receivers_name_is_looked_at(
    store: Store, traffic: Traffic, authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    for name, trusted, well in (
        ("localhost", ca, True),
        ("other.example", ca, False),
        ("localhost", None, False),
    ):
        async with receiver(tls=served(authority, name)) as far:
            where: dict[str, Any] = {"to": f"tls://localhost:{far.port}"}
            if trusted is not None:
                where["ca_file"] = str(trusted)
            async with exporting(store, **where) as pump:
                before = (await pump.standings())[0]
                await emit(store, traffic, 3, 3)
                if well:
                    await ended(pump, before.sent + 6)
                    await far.until(6)
                    assert len(in_messages(far.messages)) == 6
                    continue

                async def failing(pump: Pump = pump) -> bool:
                    return (await pump.standings())[0].error is not None

                await until(failing)
                (standing,) = await pump.standings()
                assert standing.error is not None
                assert "its certificate is not trusted" in standing.error
                assert standing.sent == before.sent
                assert far.messages == []


def long_events(store: Store, count: int, size: int = 20_000) -> None:
    for n in range(count):
        store.events.tell(Event(kind="x", at_ms=now_ms(), data={"n": n, "long": "x" * size}))


async def test_a_connection_that_breaks_loses_nothing(store: Store) -> None:
    """Reset again and again in the middle of 2 MB: each event comes at least once."""
    async with receiver() as far:
        async with exporting(store, to=f"tcp://127.0.0.1:{far.port}") as pump:
            for n in range(1, 4):
                far.mode = "vanish"
                connected = far.connected
                long_events(store, 100)
                await until(_connected(far, connected + 3))
                far.mode = "take"
                await ended(pump, 100 * n)
        assert set(in_messages(far.messages)) == set(range(1, 301))


def _connected(far: Receiver, count: int) -> Any:
    async def reached() -> bool:
        return far.connected >= count

    return reached


async def test_what_a_receiver_does_not_read_waits(store: Store) -> None:
    async with receiver() as far:
        far.mode = "stall"
        async with exporting(store, to=f"tcp://127.0.0.1:{far.port}", timeout_s=0.5) as pump:
            long_events(store, 300)
            await store.circuits.obeyed([])

            async def failing() -> bool:
                return (await pump.standings())[0].error is not None

            await until(failing)
            (standing,) = await pump.standings()
            assert standing.error == "127.0.0.1 did not take it within 0.5 s"
            assert (standing.sent, standing.dropped, standing.queued) == (0, 0, 300)
            far.mode = "take"
            assert (await ended(pump, 300)).dropped == 0
        assert set(in_messages(far.messages)) == set(range(1, 301))


async def test_what_is_too_long_for_a_datagram_is_dropped_and_counted(store: Store) -> None:
    async with datagrams() as far, exporting(store, to=f"udp://127.0.0.1:{far.port}") as pump:
        store.events.tell(
            Event(
                kind="x",
                at_ms=now_ms(),
                data={"a": "x" * 31_000, "b": "y" * 31_000, "c": "z" * 31_000},
            )
        )
        store.events.tell(Event(kind="x", at_ms=now_ms()))
        await store.circuits.obeyed([])
        standing = await ended(pump, 2)
        assert (standing.sent, standing.dropped) == (1, 1)
        assert standing.error == "too long for a datagram; use tcp or tls"


def test_all_ways_go_on_the_loop_that_the_daemon_runs_on(
    authority: trustme.CA, tmp_path: Path
) -> None:
    uvloop = pytest.importorskip("uvloop")
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)

    async def sent(way: str, far: Receiver) -> None:
        host, size = ("127.0.0.1", 100) if way == "udp" else ("localhost", 9_000)
        to = Address(way=way, host=host, port=far.port)  # type: ignore[arg-type]
        wire = Wire(to, allow_private=True, timeout_s=10, ca_file=ca)
        for n in range(3):
            await wire.send([b"%d" % n * size] * 50)
        await far.until(150)
        assert set(far.messages + far.datagrams) == {b"%d" % n * size for n in range(3)}
        await wire.close()

    async def scenario() -> None:
        async with receiver() as far:
            await sent("tcp", far)
        async with receiver(tls=served(authority, "localhost")) as far:
            await sent("tls", far)
        async with datagrams() as far:
            await sent("udp", far)

    uvloop.run(scenario())


# Where a receiver may lie.


async def test_no_spelling_of_our_own_places_is_connected_to() -> None:
    async with receiver() as canary, datagrams() as other:
        wires = [
            Wire(
                Address(way="tls", host=spelling.strip("[]"), port=canary.port),
                allow_private=False,
                timeout_s=10,
            )
            for spelling in SPELLINGS
        ]
        await asyncio.gather(*map(_refused, wires))
        assert canary.connected == 0
        assert other.datagrams == []


async def _refused(wire: Wire) -> str:
    with pytest.raises(NotNow) as refused:
        await wire.send([b"x"])
    await wire.close()
    return refused.value.text


async def test_the_refusal_names_the_address_and_the_setting() -> None:
    for host in ("localhost", "0x7f.1", "127.0.0.1"):
        to = Address(way="tls", host=host, port=1)
        text = await _refused(Wire(to, allow_private=False, timeout_s=5))
        assert "is a loopback address" in text
        assert "allow_private = true" in text
    for way in ("tcp", "udp"):
        to = Address(way=way, host="93.184.216.34", port=9)  # type: ignore[arg-type]
        text = await _refused(Wire(to, allow_private=False, timeout_s=5))
        assert "without TLS" in text
    to = Address(way="tcp", host="169.254.169.254", port=9)
    assert "credentials" in await _refused(Wire(to, allow_private=True, timeout_s=5))


# The daemon.


async def test_the_daemon_tells_a_siem_of_calls_and_status_says_how_far(
    tmp_path: Path, simulator: Simulator
) -> None:
    file = tmp_path / "soc" / "siem.jsonl"
    async with sidecar_for(
        tmp_path / "data", simulator.url, siem={"soc": {"to": str(file), "format": "ocsf"}}
    ) as sidecar:
        body = {"model": "sim/gpt-4.1", "messages": [{"role": "user", "content": "SECRET words"}]}
        code, _, _ = await sidecar.post("/v1/chat/completions", body)
        assert code == 200
        receipt = await sidecar.receipt()

        async def there() -> bool:
            return file.exists() and receipt.receipt_id in file.read_text()

        await until(there)
    (line,) = file.read_text().splitlines()
    told = json.loads(line)
    assert (told["class_uid"], told["status_id"]) == (6003, 1)
    assert told["unmapped"]["receipt_id"] == receipt.receipt_id
    assert "SECRET" not in line


async def test_without_a_section_nothing_is_opened(tmp_path: Path, simulator: Simulator) -> None:
    async with sidecar_for(tmp_path / "data", simulator.url) as sidecar:
        assert await sidecar.store.sinks.rows() == []


# Real syslog-ng.

CONFIG = """@version: 3.35
options { keep-hostname(yes); use-dns(no); };
source s { syslog(transport(tcp) ip("127.0.0.1") port(PORT)); };
destination d { file("OUT" template(
    "$FACILITY_NUM|$LEVEL_NUM|$HOST|$PROGRAM|$MSGID|$(base64-encode \\"$MSG\\")\\n"
)); };
log { source(s); destination(d); };
"""


@pytest.mark.full
async def test_real_syslog_ng_reads_every_frame(store: Store, tmp_path: Path) -> None:
    """`apt-get install syslog-ng-core`, then `pytest -m full tests/exporters/test_siem.py`"""
    tool = shutil.which("syslog-ng")
    assert tool, "syslog-ng is not there: apt-get install syslog-ng-core"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    out, config = tmp_path / "out.log", tmp_path / "syslog-ng.conf"
    config.write_text(CONFIG.replace("PORT", str(port)).replace("OUT", str(out)))
    running = await asyncio.create_subprocess_exec(
        *(tool, "-F", "-f", str(config), "-R", str(tmp_path / "persist")),
        *("-c", str(tmp_path / "ctl"), "-p", str(tmp_path / "pid")),
        stderr=asyncio.subprocess.PIPE,
    )
    to = f"tcp://127.0.0.1:{port}"
    try:
        async with exporting(store, to=to, format="cef", hostname="gw-1") as pump:
            said = texts(seed=13)
            for n in range(1, 1001):
                store.events.tell(hostile_event(said, n))
            await ended(pump, 1000)

        async def written() -> bool:
            return out.exists() and out.read_bytes().count(b"\n") >= 1000

        await until(written)
    finally:
        running.terminate()
        _, errors = await running.communicate()
    lines = [line.split("|") for line in out.read_text().splitlines()]
    assert len(lines) == 1000, errors
    heads = {tuple(line[:5]) for line in lines}
    assert heads == {("13", "2", "gw-1", "modelspend", "budget.exhausted")}
    read = [read_cef(base64.b64decode(line[5]).decode())[1] for line in lines]
    assert [int(one["flexNumber1"]) for one in read] == list(range(1, 1001))
    told = {one.seq: one for one in await store.events.after(0, 1000)}
    for one in read:
        event = told[int(one["flexNumber1"])]
        assert cef.read_back(one["cs1"]) == event.tenant
        assert cef.read_back(one["reason"]) == event.data["why"]
