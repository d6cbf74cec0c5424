"""Server-sent events by bytes: where one event ends, and what it says.

Framing follows the WHATWG grammar (html.spec.whatwg.org, section 9.2.6): lines end with LF, CR or
CRLF, in any mixture, and nothing else (U+2028 inside data is text). A CR at the end of a chunk may
be half of a CRLF, so an event that seems to end there waits for one more byte; that is what makes
the result independent of how the bytes were cut into chunks.
"""

import re

from modelspend.record import frozen

MAX_EVENT = 8 * 2**20
"""Bytes of one event that are kept for reading it; a bigger one passes unread."""

_BOM = b"\xef\xbb\xbf"
_END = re.compile(rb"(?:\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_EDGE = 1024

# The shape of nearly every event that providers send: one name at most, one line of data. One
# pattern for each line end, because a class of two characters scans three times slower.
_SIMPLE_LF = re.compile(rb"(?:event:[ ]?([^\n]*+)\n)?data:[ ]?([^\n]*+)\n\n")
_SIMPLE_CRLF = re.compile(rb"(?:event:[ ]?([^\r]*+)\r\n)?data:[ ]?([^\r]*+)\r\n\r\n")


@frozen
class Piece:
    """A stretch of an event that is too big to be read.

    `head` and `tail` are its first and last bytes so far; `last` says that the event ends here.
    """

    raw: bytes
    head: bytes
    tail: bytes
    last: bool


class SseSplitter:
    """Cuts a byte stream into whole events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._has_cr = False
        self._fresh = True
        self._head = b""  # not empty: we are inside an event that is too big
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes | Piece]:
        """The events that this chunk completes, in order; their bytes are the stream's own."""
        found: list[bytes | Piece] = []
        if not self._has_cr and b"\r" in chunk:
            self._has_cr = True
        text: bytes | bytearray = chunk
        if self._rest:
            self._rest += chunk
            text = self._rest
        start = self._skip_bom(text, found) if self._fresh else 0
        scan = max(start, self._scanned)
        while (end := self._event_end(text, scan)) >= 0:
            found.append(self._whole(bytes(text[start:end])))
            start = scan = end
        if text is not chunk:
            del self._rest[:start]
        elif start < len(chunk):
            self._rest += memoryview(chunk)[start:]
        self._scanned = max(0, len(self._rest) - 2)
        if self._head or len(self._rest) > MAX_EVENT:
            self._let_pass(found)
        return found

    def close(self) -> bytes:
        """What is left without its blank line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _skip_bom(self, text: bytes | bytearray, found: list[bytes | Piece]) -> int:
        """A byte order mark may stand at the very start; it becomes an item without data."""
        if text.startswith(_BOM):
            self._fresh = False
            found.append(_BOM)
            return len(_BOM)
        self._fresh = _BOM.startswith(bytes(text[:3]))
        return 0

    def _event_end(self, text: bytes | bytearray, at: int) -> int:
        if not self._has_cr:
            end = text.find(b"\n\n", at)
            return end + 2 if end >= 0 else -1
        crlf = text.find(b"\r\n\r\n", at)
        if crlf >= 0 and _only_crlf(text, at, crlf):
            return crlf + 4
        found = _END.search(text, at)
        if not found:
            return -1
        end = found.end()
        unsure = end == len(text) and text[-1] == 13  # its LF may come with the next chunk
        return -1 if unsure else end

    def _whole(self, raw: bytes) -> bytes | Piece:
        if not self._head:
            return raw
        piece = Piece(raw, self._head, (self._tail + raw)[-_EDGE:], True)
        self._head = self._tail = b""
        return piece

    def _let_pass(self, found: list[bytes | Piece]) -> None:
        """Hand on all but the two bytes that may begin the blank line."""
        raw = bytes(self._rest[:-2])
        if not raw:
            return
        self._head = self._head or raw[:_EDGE]
        self._tail = (self._tail + raw)[-_EDGE:]
        found.append(Piece(raw, self._head, self._tail, False))
        del self._rest[:-2]
        self._scanned = 0


def _only_crlf(text: bytes | bytearray, at: int, end: int) -> bool:
    """Whether every line in this stretch ends with CRLF: then none of them is blank."""
    pairs = text.count(b"\r\n", at, end)
    return pairs == text.count(b"\n", at, end) == text.count(b"\r", at, end)


def parse_event(raw: bytes) -> tuple[bytes, bytes | None]:
    """(name, data) of one event; data is None when it has no data line."""
    if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and b"\r" not in raw:
        return b"", raw[6:-2]  # one line, as most events are: no pattern is as quick
    if b"\r" not in raw:
        if simple := _SIMPLE_LF.fullmatch(raw):
            return simple[1] or b"", simple[2]
    elif (simple := _SIMPLE_CRLF.fullmatch(raw)) and raw.count(b"\n") == raw.count(b"\r"):
        return simple[1] or b"", simple[2]
    name, data = b"", []
    for line in _LINE_END.split(raw):
        key, _, value = line.partition(b":")
        if key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.removeprefix(b" ")
    return name, b"\n".join(data) if data else None


def event(data: bytes, name: str = "") -> bytes:
    """One event on the wire."""
    if name:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
    return b"data: %b\n\n" % data
