"""What the decoders of streamed answers share: framing, and the numbers of parts.

Events are cut out of the bytes first and read only when whole, so the cuts between chunks never
show. After the end, good or bad, a stream says nothing more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from modelspend import chat
from modelspend.dialects.reader import Splitter, parsed
from modelspend.dialects.sse import MAX_EVENT, SseSplitter, parse_event

_TOO_BIG = f"The provider sent an event of more than {MAX_EVENT // 2**20} MiB."


class SseDecoder:
    """A `StreamDecoder` over server-sent events; a subclass says what one event means.

    `dropped` names what the stream told that neutral events have no words for.
    """

    def __init__(self) -> None:
        self.dropped: dict[str, None] = {}
        self._splitter: Splitter = SseSplitter()
        self._out: list[chat.StreamEvent] = []
        self._over = False
        self._parts = 0

    def feed(self, chunk: bytes) -> Sequence[chat.StreamEvent]:
        for item in self._splitter.feed(chunk):
            if isinstance(item, bytes) and len(item) <= MAX_EVENT:
                self._event(item)
            elif not self._over:
                self._say(chat.Failed("event_too_large", _TOO_BIG))
        return self._told()

    def close(self) -> Sequence[chat.StreamEvent]:
        """A last event without its blank line counts when its data is whole."""
        if rest := self._splitter.close():
            self._event(rest)
        return self._told()

    def _take(self, name: bytes, value: Mapping[str, Any]) -> None:
        """Say what one event of JSON means."""
        raise NotImplementedError

    def _take_word(self, data: bytes) -> None:
        """Say what data that is no JSON object means, such as `[DONE]`."""

    def _data(self, raw: bytes) -> tuple[bytes, bytes | None]:
        return parse_event(raw)

    def _event(self, raw: bytes) -> None:
        name, data = self._data(raw)
        if data is None or self._over:
            return
        value = parsed(data)
        if isinstance(value, dict):
            self._take(name, value)
        else:
            self._take_word(data.strip())

    def _say(self, *events: chat.StreamEvent) -> None:
        self._out += events
        if events and isinstance(events[-1], chat.Ended | chat.Failed):
            self._over = True

    def _new_part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _told(self) -> Sequence[chat.StreamEvent]:
        out, self._out = self._out, []
        return out
