"""Answers that no honest server gives: raw bytes that break HTTP itself.

Each takes the honest JSON body and yields what goes to the socket in place of an HTTP answer; the
connection closes at the end. All of them are finite or end when the client leaves.
"""

from collections.abc import Iterator

from modelspend.simulator.plan import Fill, Stall, Step, Wait

_OK = b"HTTP/1.1 200 OK\r\n"
_JSON = b"Content-Type: application/json\r\n"
_FOREVER = 2**50


def _length(body: bytes, wrong_by: int = 0) -> bytes:
    return b"Content-Length: %d\r\n" % (len(body) + wrong_by)


def garbage(body: bytes) -> Iterator[Step]:
    yield b"\x16\x03\x01\x02\x00this is no HTTP answer\r\n\r\n"


def no_status_line(body: bytes) -> Iterator[Step]:
    yield body


def odd_status(body: bytes) -> Iterator[Step]:
    yield b"HTTP/1.1 99999 Odd\r\n" + _JSON + _length(body) + b"\r\n" + body


def switching_protocols(body: bytes) -> Iterator[Step]:
    yield b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    yield body


def informational_flood(body: bytes) -> Iterator[Step]:
    for _ in range(1_000):
        yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    yield _OK + _JSON + _length(body) + b"\r\n" + body


def early_hints(body: bytes) -> Iterator[Step]:
    """A legal prelude: one 100 and one 103 before the real answer."""
    yield b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    yield _OK + _JSON + _length(body) + b"\r\n" + body


def huge_header(body: bytes) -> Iterator[Step]:
    yield _OK + b"X-Huge: "
    yield Fill(16 * 1024 * 1024)
    yield b"\r\n" + _JSON + _length(body) + b"\r\n" + body


def many_headers(body: bytes) -> Iterator[Step]:
    yield _OK
    for i in range(20_000):
        yield b"X-Many-%d: 1\r\n" % i
    yield _JSON + _length(body) + b"\r\n" + body


def endless_headers(body: bytes) -> Iterator[Step]:
    yield _OK
    while True:
        yield b"X-Drip: 1\r\n"
        yield Wait(5)


def split_header(body: bytes) -> Iterator[Step]:
    """A bare CR and a NUL inside a header's value."""
    yield _OK + b"X-Evil: a\rX-Smuggled: yes\x00\r\n" + _JSON + _length(body) + b"\r\n" + body


def two_lengths(body: bytes) -> Iterator[Step]:
    yield _OK + _JSON + _length(body) + _length(body, -10) + b"\r\n" + body


def length_and_chunks(body: bytes) -> Iterator[Step]:
    yield _OK + _JSON + _length(body) + b"Transfer-Encoding: chunked\r\n\r\n"
    yield b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def short_length(body: bytes) -> Iterator[Step]:
    """More bytes than were announced."""
    yield _OK + _JSON + _length(body, -10) + b"\r\n" + body


def long_length(body: bytes) -> Iterator[Step]:
    """Fewer bytes than were announced, then the end."""
    yield _OK + _JSON + _length(body, 10) + b"\r\n" + body


def negative_length(body: bytes) -> Iterator[Step]:
    yield _OK + _JSON + b"Content-Length: -1\r\n\r\n" + body


def bad_chunk(body: bytes) -> Iterator[Step]:
    yield _OK + _JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    yield b"%x\r\n%b\r\nzz\r\n" % (len(body), body)


def huge_chunk_size(body: bytes) -> Iterator[Step]:
    yield _OK + _JSON + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n" + body


def trailers(body: bytes) -> Iterator[Step]:
    """A legal answer with trailers, one of them dangerous if it were believed."""
    yield _OK + _JSON + b"Trailer: Set-Cookie\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield b"%x\r\n%b\r\n0\r\nSet-Cookie: late=1\r\nX-Late: 1\r\n\r\n" % (len(body), body)


def endless_body(body: bytes) -> Iterator[Step]:
    yield _OK + _JSON + b"Connection: close\r\n\r\n"
    yield Fill(_FOREVER)


def unread_end(body: bytes) -> Iterator[Step]:
    """An answer without a length whose connection never closes."""
    yield _OK + _JSON + b"\r\n" + body
    yield Stall()
