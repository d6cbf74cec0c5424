"""A far end for exporters that is well, or misbehaves in one of the ways that far ends have."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

Head = dict[str, str]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Far:
    """`answer` is bytes, or one of: stall (says nothing), endless (a body without an end), vanish
    (closes before it answers), or a function of a request's head and body.

    `got` is what came whole; `connected` counts connections, whatever came of them.
    """

    url: str = ""
    answer: bytes | str | Callable[[Head, bytes], bytes] = OK
    got: list[tuple[Head, bytes]] = field(default_factory=list)
    connected: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.got) >= count)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        try:
            while True:
                head = _head(await reader.readuntil(b"\r\n\r\n"))
                body = await reader.readexactly(int(head.get("content-length", "0")))
                self.got.append((head, body))
                async with self._news:
                    self._news.notify_all()
                await self._say(head, body, writer)
        except asyncio.LimitOverrunError:  # no HTTP, such as syslog: taken, and nothing is said
            while await reader.read(65_536):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _say(self, head: Head, body: bytes, writer: asyncio.StreamWriter) -> None:
        answer = self.answer
        if answer == "stall":
            await asyncio.Event().wait()
        if answer == "vanish":
            raise ConnectionResetError
        if answer == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"1000\r\n%b\r\n" % (b"x" * 4096))
                await writer.drain()
        assert not isinstance(answer, str)
        writer.write(answer if isinstance(answer, bytes) else answer(head, body))
        await writer.drain()


def _head(raw: bytes) -> Head:
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return {"": first, **{name.lower(): value.strip() for name, _, value in pairs}}


def status(line: str, headers: str = "") -> bytes:
    """A whole answer without a body."""
    return f"HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n".encode()


@asynccontextmanager
async def far_end(host: str = "127.0.0.1") -> AsyncIterator[Far]:
    """One that listens while the block runs."""
    far = Far()
    running: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(far._exchange(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(connected, host, 0)
    far.url = f"http://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield far
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def far_end_apart(answer: str) -> AsyncIterator[str]:
    """The address of one in a process of its own, so that its work is nobody else's; nor does it
    take the processor from whoever is measured. `answer` is stall, endless, vanish, or a status
    line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.sink", answer),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def _alone(answer: str) -> None:
    async with far_end() as far:
        far.answer = answer if answer in ("stall", "endless", "vanish") else status(answer)
        sys.stdout.write(f"{far.url}\n")
        sys.stdout.flush()
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.nice(19)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_alone(sys.argv[1]))
