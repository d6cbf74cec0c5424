"""A far end that does not stop talking is cut off.

Hides what aiohttp does with what comes besides an answer: it reads one message after the other and
keeps them all, on a connection that waits for its next use as well, so that a hostile far end fills
the memory and takes the time of calls. One answer is heard for each request, and little before it.
"""

from typing import Any

from aiohttp.client_proto import ResponseHandler

_PART = 16 * 1024
_MOST_HEARD = 64 * 1024  # more than is read of any answer
_MOST_MESSAGES = 8
_FINAL = 200


class BriefAnswers(ResponseHandler):
    """The client's end of a connection, which hears one answer for each request."""

    _heard = _messages = 0
    _final = False

    def set_response_params(self, **how: Any) -> None:
        """A request is on its way: another answer may come."""
        self._heard = self._messages = 0
        self._final = False
        super().set_response_params(**how)

    def data_received(self, data: bytes) -> None:
        """Little by little, so that too much is noticed before all of it is read."""
        if not data:  # aiohttp's own word for going on with what it has
            super().data_received(data)
        for start in range(0, len(data), _PART):
            part = data[start : start + _PART]
            self._heard += len(part)
            if self._heard > _MOST_HEARD or self._messages > _MOST_MESSAGES or self._over():
                self._cut()
                return
            super().data_received(part)

    def _cut(self) -> None:
        """What was heard of the body is all that there is. Without a parser there is no error to
        raise at the end, whose traceback would hold all of it until the collector comes."""
        payload, self._parser, self._payload = self._payload, None, None
        if payload is not None and not payload.is_eof():
            payload.feed_eof()
        if self.transport is not None:
            self.transport.abort()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The head of a message has been read."""
        self._messages += 1
        self._final = self._final or data[0].code >= _FINAL
        super().feed_data(data, size)

    def _over(self) -> bool:
        """Whether the answer has been read to its end: nothing may follow it."""
        return self._final and (self._payload is None or self._payload.is_eof())
