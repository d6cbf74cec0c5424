"""The quick lane: a plain request for a model is served straight from its socket.

Plain means: POST on a data-plane path, HTTP/1.1, whole within a moment, of moderate size, framed by
a Content-Length, with no header said twice. Whatever is not, from a WebSocket to a body that
trickles in, is handed over to aiohttp with all its bytes, and the connection stays there. So this
file has no opinion on odd requests; it only knows plain ones when it sees them, and saves a third
of the CPU of a call.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import Dialect
from modelspend.errors import ModelspendError
from modelspend.gateway.caller import Caller, Callers
from modelspend.gateway.headers import Pairs
from modelspend.gateway.passage import Request
from modelspend.gateway.runs import RUN_TAG
from modelspend.server import door
from modelspend.server.chat import carry
from modelspend.server.keys import Live
from modelspend.settings import Settings

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_HEAD = re.compile(
    rb"POST (/[!\"$-~]++) HTTP/1\.1\r\n((?:" + _TOKEN + rb":[\t \x21-\x7e\x80-\xff]*+\r\n)++)\r\n"
)
_FIELD = re.compile(r"([^:\r\n]++):[\t ]*+([^\r\n]*+)\r\n")
_GEMINI = re.compile(
    r"(?:/v1|/v1beta)?/(?:models|tunedModels)/.+:(?:generateContent|streamGenerateContent)"
)
_LENGTH = re.compile(rb"(?:\A|(?<=\n))(?i:content-length):[\t ]*+([0-9]{1,7})[\t ]*+\r\n")
_NOT_PLAIN = frozenset(
    {"content-length", "transfer-encoding", "content-encoding", "expect", "upgrade", "connection"}
)
_STILL_PLAIN = frozenset(
    {
        ("connection", "keep-alive"),
        ("connection", "close"),
        ("content-encoding", "identity"),
    }
)
_LONGEST_HEAD = 16 * 1024
_MOST_HEADERS = 100
_MOST_HEADS = 256
_AHEAD = 64 * 1024
"""Bytes that a client may send on before it has its answer."""
_LARGEST_BODY = 1024 * 1024
_FLUSH_ABOVE = 16 * 1024
_MOMENT_S = 1.0
_LOOK_S = 0.5
_LAST_WORDS_S = 2.0
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Lanes:
    """The quick lanes of one server: who is there, and where to hand over what is not plain."""

    def __init__(self, live: Live, routes: Iterable[tuple[str, str]], keep_alive_s: float) -> None:
        self.live = live
        self.other: Callable[[], asyncio.Protocol] | None = None
        self._dialects = {path: DIALECTS[dialect] for path, dialect in routes}
        self._keep_alive_s = keep_alive_s
        self._lanes: set[Lane] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._heads: dict[tuple[bytes, bytes], _Head] = {}
        self._date = (0.0, "")
        self._retired = False

    def lane(self) -> "Lane":
        """The protocol of a new connection."""
        lane = Lane(self, self._loop, last=self._retired)
        self._lanes.add(lane)
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S, self._look)
        return lane

    def left(self, lane: "Lane") -> None:
        self._lanes.discard(lane)

    def head(self, target: bytes, fields: bytes) -> "_Head | None":
        """A head without the line of its length; None when it is not plain."""
        known = self._heads.get((target, fields))
        if known is None:
            known = self._read(target.decode(), fields)
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            if known is not None:
                self._heads[target, fields] = known
        return known

    def _read(self, target: str, fields: bytes) -> "_Head | None":
        if not fields.isascii():
            return None
        headers: list[tuple[str, str]] = []
        names: set[str] = set()
        last = False
        for name, told in _FIELD.findall(fields.decode()):
            low, value = name.lower(), told.rstrip("\t ")
            if low in _NOT_PLAIN and (low, value.lower()) not in _STILL_PLAIN:
                return None
            last = last or (low == "connection" and value.lower() == "close")
            names.add(low)
            headers.append((name, value))
        dialect = self._dialect(target.partition("?")[0])
        plain = len(names) == len(headers) < _MOST_HEADERS and "host" in names
        return _Head(dialect, target, headers, last=last) if plain and dialect else None

    def _dialect(self, path: str) -> Dialect | None:
        """What is spoken on a path; None on paths that are not calls."""
        found = self._dialects.get(path)
        if found is None and _GEMINI.fullmatch(path):
            return DIALECTS["gemini.generate"]
        return found

    def date(self) -> str:
        """For answers whose provider said none."""
        now = self._loop.time()
        if now - self._date[0] >= 1.0:
            self._date = (now, formatdate(usegmt=True))
        return self._date[1]

    def retire(self) -> None:
        """Take no more calls: who is idle is shown out, who is served has that answer still."""
        self._retired = True
        for lane in tuple(self._lanes):
            lane.retire()

    async def close(self) -> None:
        """End every connection; a call that is still under way has a moment for its last words."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = {task for lane in tuple(self._lanes) if (task := lane.close()) is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _look(self) -> None:
        now = self._loop.time()
        for lane in tuple(self._lanes):
            lane.look(now, self._keep_alive_s)
        self._timer = self._loop.call_later(_LOOK_S, self._look) if self._lanes else None


class _Head:
    """The head of a plain request but for its length; clients send the same one for ever.

    `admitted` is who it comes from, for as long as the settings that let it in hold.
    """

    __slots__ = ("admitted", "dialect", "headers", "last", "path", "query", "target")

    def __init__(self, dialect: Dialect, target: str, headers: Pairs, *, last: bool) -> None:
        self.dialect = dialect
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.last = last
        self.admitted: tuple[Callers, Settings, Caller] | None = None

    def caller(self, live: Live) -> Caller:
        """Who asks. Raises what the door and the caller's key raise."""
        if self.admitted is not None:
            callers, settings, caller = self.admitted
            if callers is live.callers and settings is live.settings:
                return caller
        door.check(live, self.target, self.headers)
        caller = live.callers.identify(self.headers, self.query)
        if RUN_TAG not in caller.tags:  # the key of a run ends with it
            self.admitted = (live.callers, live.settings, caller)
        return caller


class _Asked(NamedTuple):
    """A plain request; `size` is how many bytes of the connection it took."""

    head: _Head
    body: bytes
    size: int


class Lane(asyncio.Protocol):
    """One connection. It is also the `Out` of the call that it serves now."""

    def __init__(self, lanes: Lanes, loop: asyncio.AbstractEventLoop, *, last: bool) -> None:
        self.transport: asyncio.Transport | None = None
        self._lanes = lanes
        self._loop = loop
        self._since = loop.time()
        self._waiting = b""
        self._task: asyncio.Task[None] | None = None
        self._served = False
        self._last = last
        self._begun = False
        self._unsent: list[bytes] = []
        self._full: asyncio.Future[None] | None = None

    # What the event loop tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._waiting:
            self._since = self._loop.time()
        self._waiting = self._waiting + data if self._waiting else data
        if self._task is None and self._full is None:
            self._next()
        elif len(self._waiting) > _AHEAD and self.transport is not None:
            self.transport.pause_reading()  # who sends on before the answer can wait

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._lanes.left(self)
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        if self._full is None:
            self._full = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._full is not None:
            if not self._full.done():
                self._full.set_result(None)
            self._full = None
        if self._task is None:
            self._after()

    # What its keeper tells it.

    def look(self, now: float, keep_alive_s: float) -> None:
        """Who is slow is aiohttp's; who has nothing more to say is shown out."""
        if self._task is not None or self.transport is None:
            return
        if self._full is not None or self.transport.is_closing():
            if now - self._since >= keep_alive_s:
                self.transport.abort()  # it takes no more of its last answer
        elif self._waiting or not self._served:
            if now - self._since >= _MOMENT_S:
                self._hand_over()
        elif now - self._since >= keep_alive_s:
            self.transport.close()

    def retire(self) -> None:
        """Let the call that it serves, or that comes in just now, be its last."""
        self._last = True
        if self._task is None and not self._waiting and self.transport is not None:
            self.transport.close()

    def close(self) -> "asyncio.Task[None] | None":
        """End it, but for a call that has not had its last words."""
        self._last = True
        if self._task is None and self.transport is not None:
            self.transport.close()
        return self._task

    # Serving.

    def _next(self) -> None:
        """Serve what has come in, if it is plain and whole; wait if it may yet become so."""
        asked = self._plain()
        if isinstance(asked, _Asked):
            self._waiting = self._waiting[asked.size :]
            self._last = self._last or asked.head.last
            self._begun = False
            self._task = self._loop.create_task(self._serve(asked))
        elif not asked:
            self._hand_over()

    def _plain(self) -> _Asked | bool:
        """The next request; True when more of it must come first, False when it is not plain."""
        found = _HEAD.match(self._waiting)
        if found is None:
            whole = b"\r\n\r\n" in self._waiting or len(self._waiting) > _LONGEST_HEAD
            return not whole and self._waiting.startswith(b"POST /"[: len(self._waiting)])
        told = _LENGTH.search(found[2])
        if told is None or found.end() > _LONGEST_HEAD:
            return False
        length = int(told[1])
        head = self._lanes.head(found[1], found[2][: told.start()] + found[2][told.end() :])
        limit = min(_LARGEST_BODY, self._lanes.live.settings.server.max_body_mib * 1024 * 1024)
        if head is None or length > limit:
            return False
        end = found.end() + length
        if len(self._waiting) < end:
            return True
        return _Asked(head, self._waiting[found.end() : end], end)

    def _hand_over(self) -> None:
        """Give the connection to aiohttp, with all that has come in and was not served."""
        transport, waiting = self.transport, self._waiting
        self._lanes.left(self)
        if transport is None or self._lanes.other is None:
            return
        self.transport, self._waiting = None, b""
        other = self._lanes.other()
        transport.set_protocol(other)
        other.connection_made(transport)
        if waiting:
            other.data_received(waiting)

    async def _serve(self, asked: _Asked) -> None:
        live, head = self._lanes.live, asked.head
        try:
            caller = head.caller(live)
            request = Request(
                dialect=head.dialect,
                path=head.path,
                query=head.query,
                headers=head.headers,
                body=asked.body,
            )
            await carry(live, request, caller, self)
        except ModelspendError as error:
            self._tell(head.path, error)
        except asyncio.CancelledError:  # the client has left, or we are stopping
            if self.transport is not None:
                self.transport.abort()
            return
        except Exception as error:
            self._tell(head.path, door.our_fault(error))
        finally:
            self._task = None
        self._after()

    def _after(self) -> None:
        transport = self.transport
        if transport is None:
            return
        self._flush()
        self._served, self._since = True, self._loop.time()
        if self._last or transport.is_closing():
            transport.close()
            return
        if self._full is not None:
            return  # it has its next answer when it has taken this one
        transport.resume_reading()
        if self._waiting:
            self._next()

    def _tell(self, path: str, error: ModelspendError) -> None:
        told = door.tell(self._lanes.live, path, error)
        if self._begun:
            return  # it was told inside the answer, whose connection is cut
        with suppress(ConnectionError):
            self._send(told.status, told.headers, told.body)

    # Its answer.

    async def whole(self, status: int, headers: Pairs, body: bytes, *, now: bool) -> None:
        self._send(status, headers, body)
        if now:
            self._flush()
            if self._full is not None:
                await self._full

    async def begin(self, status: int, headers: Pairs) -> None:
        self._begun = True
        self._write(self._head(status, headers, "Transfer-Encoding: chunked"))

    async def write(self, data: bytes) -> None:
        if not data:
            return  # in chunks, nothing would be the end
        self._write(b"%x\r\n%b\r\n" % (len(data), data))
        if len(data) > _FLUSH_ABOVE:
            self._flush()
        if self._full is not None:
            await self._full
            if self.transport is None:
                raise ConnectionResetError("the client is gone")

    async def finish(self) -> None:
        self._write(b"0\r\n\r\n")

    def cut(self) -> None:
        if self.transport is not None:
            self._flush()
            self.transport.close()

    def _send(self, status: int, headers: Pairs, body: bytes) -> None:
        self._begun = True
        self._write(self._head(status, headers, f"Content-Length: {len(body)}") + body)

    def _head(self, status: int, headers: Pairs, framing: str) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if not any(name.lower() == "date" for name, _ in headers):
            lines.append(f"Date: {self._lanes.date()}")
        if self._last:
            lines.append("Connection: close")
        if status != 204:  # which has no body to frame (RFC 9110, 8.6)
            lines.append(framing)
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _write(self, data: bytes) -> None:
        """What is written in one turn of the loop goes out in one system call."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        unsent = self._unsent
        if unsent and self.transport is not None:
            self.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
        unsent.clear()
