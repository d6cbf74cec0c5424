"""One JSON array that is written element by element: where one element ends.

Gemini streams like this when a client does not ask for server-sent events. The state is a depth and
whether we are inside a string; one possessive pattern jumps over whole strings, so a chunk costs a
step for each bracket. What is not yet decided when a chunk ends is at most a string, and only that
is looked at again from its start.
"""

import re

from modelspend.dialects.sse import MAX_EVENT, Piece

_PLAIN = re.compile(rb'[^"{}\[\]]*+')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_QUOTE, _OPEN = ord('"'), frozenset(b"{[")
_EDGE = 1024


class JsonArraySplitter:
    """Cuts the bytes of an array into elements, each with the comma and space before it.

    The first item carries the opening bracket, the last one is the closing bracket with what
    follows it.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._at = 0  # how far the rest has been looked at
        self._depth = 0
        self._in_string = False
        self._elements = 0
        self._closed = False
        self._head = b""  # not empty: we are inside an element that is too big
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes | Piece]:
        found: list[bytes | Piece] = []
        self._rest += chunk
        while self._advance():
            found.append(self._whole(bytes(self._rest[: self._at])))
            del self._rest[: self._at]
            self._at = 0
        if self._closed and self._rest:
            found.append(bytes(self._rest))
            self._rest.clear()
            self._at = 0
        elif self._head or len(self._rest) > MAX_EVENT:
            self._let_pass(found)
        return found

    def close(self) -> bytes:
        """What is left: part of an element, or nothing."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def continuation(self) -> bytes:
        """What must stand before one more element, after what was handed on."""
        if self._closed:
            return b""
        return b"," if self._elements else b"["

    def _advance(self) -> bool:
        """Look on to the end of an element, or of the array; False when the bytes run out."""
        rest = self._rest
        while self._at < len(rest) and not self._closed:
            if self._in_string:
                if not self._leave_string():
                    return False
                continue
            self._at = _PLAIN.match(rest, self._at).end()  # type: ignore[union-attr]
            if self._at == len(rest):
                return False
            mark = rest[self._at]
            self._at += 1
            if mark == _QUOTE:
                self._in_string = True
            elif mark in _OPEN:
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 1:
                    self._closed = self._depth <= 0
                    self._elements += not self._closed
                    return True
        return False

    def _leave_string(self) -> bool:
        self._at = _IN_STRING.match(self._rest, self._at).end()  # type: ignore[union-attr]
        if self._at == len(self._rest) or self._rest[self._at] != _QUOTE:
            return False  # at the end, or before a backslash whose partner is still to come
        self._at += 1
        self._in_string = False
        return True

    def _whole(self, raw: bytes) -> bytes | Piece:
        if not self._head:
            return raw
        piece = Piece(raw, self._head, (self._tail + raw)[-_EDGE:], True)
        self._head = self._tail = b""
        return piece

    def _let_pass(self, found: list[bytes | Piece]) -> None:
        """Hand on what has been looked at."""
        raw = bytes(self._rest[: self._at])
        if not raw:
            return
        self._head = self._head or raw[:_EDGE]
        self._tail = (self._tail + raw)[-_EDGE:]
        found.append(Piece(raw, self._head, self._tail, False))
        del self._rest[: self._at]
        self._at = 0


def element(raw: bytes) -> bytes | None:
    """The JSON of one item; a bare `]` for the end of the array; None for white space."""
    bare = raw.strip().removeprefix(b"[").removeprefix(b",").strip()
    return bare or None
