"""What a reply is read from: a connection's exchange, or what a drill has put in its place.

The one seam between an attempt and the network. What a reader would not guess: a line may be waited
on although nothing was sent, and then it is the line that knows.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from modelspend.receipt import FailureClass


class Line(Protocol):
    """A request under way, as `http1.Exchange` is one: `sent` tells whether anything has left."""

    @property
    def sent(self) -> bool: ...

    @property
    def status(self) -> int:
        """0 until the head of the answer is there."""
        ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...

    @property
    def waiting(self) -> bool: ...

    async def head(self) -> None:
        """Wait for status and headers. Raises Broken."""
        ...

    async def more(self) -> bytes:
        """The next bytes; b"" at the end. Raises Broken."""
        ...

    def fail(self, failure: FailureClass) -> None:
        """Break it off: whoever waits gets this class."""
        ...

    def close(self) -> None: ...


Opening = Callable[[], Awaitable[Line]]
"""Sends the request."""

Through = Callable[[Opening], Line]
"""Another line in place of the straight one, which it may open or not."""
