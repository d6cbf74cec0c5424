"""An answer that is not a stream: read to its end, so that its cost stands in its headers.

Above 8 MiB it streams through like one, its last bytes held back until the receipt is final. Up
to 64 MiB of it is read for its usage; beyond that the usage is estimated.
"""

from modelspend.dialects.dialect import AnswerNote, Dialect
from modelspend.errors import ModelspendError
from modelspend.gateway.upstream import Reply
from modelspend.receipt import FailureClass, Status

WHOLE_BOUND = 8 * 1024 * 1024
METERED_BOUND = 64 * 1024 * 1024
_REFUSAL_BOUND = 64 * 1024


async def read_whole(reply: Reply, bound: int = _REFUSAL_BOUND) -> bytes:
    """An answer's bytes up to a bound. Raises AttemptFailed."""
    parts: list[bytes] = []
    size = 0
    while size < bound and (chunk := await reply.more()):
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts)


class WholeReader:
    """Reads one whole answer; has the shape of a stream's reader for answers beyond the bound."""

    def __init__(self, dialect: Dialect, reply: Reply, bound: int = WHOLE_BOUND) -> None:
        self.note = AnswerNote()
        self._dialect = dialect
        self._reply = reply
        self._bound = bound
        self._seen: list[bytes] = []
        self._size = 0
        self._last = b""

    async def read(self) -> bytes | None:
        """The body, or None when it is larger than the bound. Raises AttemptFailed."""
        while chunk := await self._reply.more():
            self._see(chunk)
            if self._size > self._bound:
                return None
        body = b"".join(self._seen)
        self._take(body)
        return body

    def feed(self, chunk: bytes) -> tuple[bytes, bytes]:
        """All that has come before `chunk`; the newest bytes are held back."""
        if not self._last:  # what `read` had taken in before it gave up on the whole
            self._last, chunk = b"".join(self._seen), chunk
        self._see(chunk)
        ready, self._last = self._last, chunk
        return ready, b""

    def close(self) -> tuple[bytes, bytes]:
        if self._size <= METERED_BOUND:
            self._take(b"".join(self._seen))
        self.note.ended = True
        return b"", self._last

    def error_event(self, error: ModelspendError) -> bytes:
        """Nothing can be said in the middle of a JSON body: the connection tells it."""
        return b""

    def verdict(self, http_status: int) -> tuple[Status, FailureClass | None]:
        """How the attempt ended. 200 is not success: an error inside it counts as one."""
        if not 200 <= http_status < 300:
            return Status.ERROR, failure_of(http_status)
        if self.note.error is not None:
            return Status.ERROR, FailureClass.ERROR_IN_STREAM
        if not self.note.ended:
            return Status.ERROR, FailureClass.PROTOCOL
        return Status.SUCCESS, None

    def told_status(self) -> int:
        """The HTTP status for an error that came inside a 200: its own where it names one."""
        kind = self.note.error.kind if self.note.error else ""
        named = int(kind) if kind.isascii() and kind.isdigit() and len(kind) == 3 else 0
        return named if 400 <= named < 600 else 502

    def _see(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= METERED_BOUND:
            self._seen.append(chunk)
        else:
            self._seen.clear()

    def _take(self, body: bytes) -> None:
        self.note = self._dialect.note(body)


def failure_of(http_status: int) -> FailureClass:
    """The class of an error status, as providers use them (529 is Anthropic's overload)."""
    match http_status:
        case 401 | 403:
            return FailureClass.AUTH
        case 429:
            return FailureClass.RATE_LIMIT
        case 503 | 529:
            return FailureClass.OVERLOADED
        case _ if 400 <= http_status < 500:
            return FailureClass.CLIENT_ERROR
        case _ if http_status >= 500:
            return FailureClass.SERVER_ERROR
        case _:
            return FailureClass.PROTOCOL
