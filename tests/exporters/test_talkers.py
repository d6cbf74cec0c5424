"""Far ends that do not stop talking: what they say is neither kept nor read for long."""

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from modelspend.exporters.brief import BriefAnswers
from modelspend.exporters.email import channel
from modelspend.exporters.http import Door, NotNow
from modelspend.exporters.wire import Wire, address
from modelspend.settings import Email
from tests.exporters.alerting import told
from tests.exporters.emitting import until

MUCH = 8 * 1024 * 1024
"""What the kernels of both sides may hold, and far less than a talker says in a second."""

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
NEXT = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 2000
EARLY = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000


@dataclass(slots=True)
class Talker:
    """`said` counts the bytes of all connections; `cut` how many were cut off by us. What comes
    after the first words waits for `goes_on`."""

    port: int = 0
    said: int = 0
    cut: int = 0
    goes_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def talker(
    first: bytes, rest: bytes, *, listens: bool = True, waits: bool = False
) -> Iterator[Talker]:
    """One in a thread: when it has heard something (or at once), `first` and then `rest` for as
    long as anybody is there."""
    found, over = Talker(), threading.Event()
    if not waits:
        found.goes_on.set()

    def talk(there: socket.socket) -> None:
        with there:
            there.settimeout(5)
            try:
                if listens:
                    there.recv(65_536)
                there.sendall(first)
                found.goes_on.wait(5)
                while not over.is_set():
                    found.said += there.send(rest)
            except OSError:
                found.cut += 1

    def serve() -> None:
        with suppress(OSError):
            while True:
                there, _ = listening.accept()
                threads.append(threading.Thread(target=talk, args=(there,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        found.port = listening.getsockname()[1]
        threads = [threading.Thread(target=serve, daemon=True)]
        threads[0].start()
        try:
            yield found
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


async def cut_off(there: Talker, times: int = 1) -> None:
    async def so_often() -> bool:
        return there.cut == times

    await until(so_often)
    assert there.said < MUCH * times


async def test_answers_to_nothing_are_not_kept_on_a_connection_that_waits_for_its_next_use() -> (
    None
):
    """Each of them was read, and kept for the fifteen seconds: 800 MiB, and a second without a
    turn for calls."""
    with talker(ANSWER, NEXT, waits=True) as there:
        async with Door(allow_private=True, timeout_s=5) as door:
            for times in (1, 2):
                there.goes_on.clear()
                answer = await door.post(f"http://127.0.0.1:{there.port}/", b"x", {})
                assert (answer.status, answer.body) == (200, b"{}")
                there.goes_on.set()
                await cut_off(there, times)


class Cut(asyncio.Transport):
    """A connection of which nothing is known but whether it was cut off."""

    cut = False

    def abort(self) -> None:
        self.cut = True

    def is_closing(self) -> bool:
        return self.cut


@pytest.mark.parametrize(
    ("heard", "cut"),
    [
        ((ANSWER,), False),
        ((ANSWER[:-1], ANSWER[-1:]), False),
        ((ANSWER, b"H"), True),
        ((EARLY[:196],), False),
        ((EARLY[:196], ANSWER), False),
        ((EARLY[:20_000],), True),
    ],
)
async def test_one_answer_is_heard_and_little_before_it(
    heard: tuple[bytes, ...], cut: bool
) -> None:
    ours, transport = BriefAnswers(asyncio.get_running_loop()), Cut()
    ours.connection_made(transport)
    ours.set_response_params(read_until_eof=True)
    for part in heard:
        ours.data_received(part)
    assert transport.cut is cut


async def test_what_was_cut_off_does_not_wait_for_the_collector() -> None:
    """It did: half a MiB for each try, for as long as little else was made."""
    gc.disable()
    try:
        ours, transport = BriefAnswers(asyncio.get_running_loop()), Cut()
        ours.connection_made(transport)
        ours.set_response_params(read_until_eof=True)
        ours.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        _, body = await ours.read()
        ours.data_received(b"1000\r\n%b\r\n" % (b"x" * 4096) * 20)
        assert transport.cut
        ours.connection_lost(None)
        assert len(await body.read()) >= 16 * 1024
        there = weakref.ref(ours)
        del ours, body, _
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("rest", [EARLY, b"HTTP/1.1 200 OK\r\nx: " + b"y" * 65_536])
async def test_what_leads_to_no_answer_is_cut_off_before_the_time_is_up(rest: bytes) -> None:
    with talker(b"", rest) as there:
        async with Door(allow_private=True, timeout_s=60) as door:
            with pytest.raises(NotNow, match="cannot be reached"):
                await door.post(f"http://127.0.0.1:{there.port}/", b"x", {})
            await cut_off(there)


async def test_a_body_without_an_end_counts_by_its_status_and_is_cut_off() -> None:
    endless = b"HTTP/1.1 202 Fine\r\ncontent-length: 99999999999\r\n\r\n"
    with talker(endless, b"x" * 65_536) as there:
        async with Door(allow_private=True, timeout_s=5) as door:
            answer = await door.post(f"http://127.0.0.1:{there.port}/", b"x", {})
            assert answer.status == 202
            await cut_off(there)


async def test_an_answer_that_is_large_but_well_formed_is_an_answer() -> None:
    large = b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n" + b"x" * 60_000
    early = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    with talker(early + large, b"") as there:
        async with Door(allow_private=True, timeout_s=5) as door:
            answer = await door.post(f"http://127.0.0.1:{there.port}/", b"x", {})
    assert (answer.status, len(answer.body)) == (200, 16 * 1024)


async def test_a_receiver_of_syslog_that_talks_is_cut_off() -> None:
    with talker(b"", b"x" * 65_536) as there:
        to = address(f"tcp://127.0.0.1:{there.port}")
        wire = Wire(to, allow_private=True, timeout_s=5)
        with suppress(NotNow):
            await wire.send([b"hello"])
        await cut_off(there)
        await wire.close()


async def test_a_mail_server_whose_reply_has_no_end_is_left() -> None:
    with talker(b"", b"220-and more\r\n" * 4000, listens=False) as there:
        section = Email(
            host="127.0.0.1",
            port=there.port,
            tls="none",
            sender="a@example.com",
            to=("b@example.com",),
            allow_private=True,
            timeout_s=60,
        )
        mail = channel("team", section, {})
        async with asyncio.timeout(20):
            with pytest.raises(NotNow, match="cannot be told"):
                await mail.say([told()])
        await cut_off(there)
