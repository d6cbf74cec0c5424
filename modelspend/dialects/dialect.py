"""What a wire protocol is to the rest of the program: one shape, five implementations.

A dialect reads bytes and returns values; it does no I/O and keeps nothing between calls, save the
reader of one stream. Bytes that it hands back for the client are the provider's own, cut only at
the ends of events.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from modelspend import chat
from modelspend.errors import ModelspendError
from modelspend.record import frozen, record


@record
class RequestView:
    """What the gateway needs to know of a request; everything else stays bytes.

    `model` is the client's own spelling. `session` is the dialect's conversation field, named by
    `session_source`. `wants_usage` is false when the client did not ask for the usage chunk of a
    stream. `framing` is how the client reads one: as server-sent events or as a JSON array. `body`
    is the parsed JSON.
    """

    model: str
    stream: bool
    body: Mapping[str, Any]
    operation: str = ""
    max_output: int | None = None
    session: str | None = None
    session_source: str | None = None
    wants_usage: bool = True
    framing: Literal["events", "array"] = "events"


@frozen
class ProviderError:
    """An error that the provider told us, inside a stream or as a body.

    `retry_after_s` is the wait that its body advises, where it does not use the header for that.
    """

    kind: str
    message: str
    retry_after_s: float | None = None


@dataclass(slots=True)
class AnswerNote:
    """What was learnt from an answer; a stream's reader fills it as it goes.

    `usage` is the provider's raw usage object (merged, where a stream tells it in parts; empty for
    a call that uses nothing, null when it was not told), `service_tier` the tier served ("" is the
    standard one, whatever its provider calls it), `counts` what only the output items show
    (`web_searches`, `tool_calls`). `content` turns true with the first text, tool or reasoning
    delta; `ended` with the terminal event, and never after an `error`. `output_chars` counts what
    the model wrote, for the estimate when usage is missing. `dropped` names what a translated
    answer went without.
    """

    model: str | None = None
    usage: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    service_tier: str = ""
    finish_reason: str | None = None
    answer_id: str | None = None
    output_chars: int = 0
    content: bool = False
    ended: bool = False
    error: ProviderError | None = None
    dropped: dict[str, None] = field(default_factory=dict)


class StreamReader(Protocol):
    """Reads one streamed answer beside its way to the client.

    Byte law: all that `feed` and `close` return, concatenated, is all that was fed, save hidden
    usage (where the flag was spliced) and a broken last event. From the first event that ends the
    answer, well (`note.ended`) or badly (`note.error`), all bytes are in the second part.
    """

    note: AnswerNote

    def feed(self, chunk: bytes) -> tuple[bytes, bytes]:
        """(bytes that may go to the client now, bytes to hold until the receipt is final)."""
        ...

    def close(self) -> tuple[bytes, bytes]:
        """At the end of the upstream's bytes: what was still waiting, as in `feed`."""
        ...

    def error_event(self, error: ModelspendError) -> bytes:
        """The bytes that end this stream as an error, in the framing that it has used so far."""
        ...


class Dialect(Protocol):
    """One wire protocol, both directions."""

    name: str
    native_provider: str
    """The provider whose own key a caller of this dialect may bring."""
    billable: bool
    """False for what providers answer free of charge, such as counting tokens."""
    streams_json: bool
    """A streamed answer may come as plain JSON instead of server-sent events."""
    usage_may_follow: bool
    """More may follow the terminal event: the answer is whole only where its bytes end."""
    required_headers: tuple[tuple[str, str], ...]
    """What its servers want to be told beside the body; the vendor's own clients send it."""

    # What the gateway asks of it.

    def read(self, path: str, body: bytes) -> RequestView:
        """The view of a request. Raises BadRequest (with `field`) or Unsupported."""
        ...

    def target(self, view: RequestView, model: str) -> str:
        """The path below a provider's base URL, for a model's name upstream."""
        ...

    def with_model(self, body: bytes, view: RequestView, model: str) -> bytes:
        """The same bytes with another model name spliced in."""
        ...

    def with_usage(self, body: bytes, view: RequestView) -> bytes | None:
        """The same bytes with a spliced request for stream usage; None when nothing is needed."""
        ...

    def with_limit(self, body: bytes, view: RequestView, limit: int) -> tuple[bytes, str] | None:
        """The same bytes with a spliced output limit in place of none, of 0 and of a negative one,
        and the field's name; None where a request has no output to limit."""
        ...

    def reader(self, view: RequestView, *, hide_usage: bool) -> StreamReader: ...

    def note(self, body: bytes) -> AnswerNote:
        """What a whole answer says. Never raises: an unreadable one gives an empty note."""
        ...

    def input_chars(self, view: RequestView) -> int:
        """Characters of text in the request, for an estimate."""
        ...

    def prefix(self, view: RequestView) -> bytes:
        """The start of the conversation (system and first user turn), to fingerprint a session."""
        ...

    def error_body(self, error: ModelspendError) -> bytes:
        """Our own error as this dialect's JSON error body."""
        ...

    def error_event(self, error: ModelspendError) -> bytes:
        """The event(s) that end a stream as an error; official clients raise on it."""
        ...

    # The neutral shape: translation, and the simulator's answers.

    def decode_request(self, path: str, body: bytes) -> chat.Request: ...

    def encode_answer(self, answer: chat.Answer) -> bytes: ...

    def encode_stream(
        self, events: Iterable[chat.StreamEvent], *, include_usage: bool = True
    ) -> Iterator[bytes]:
        """One item for each wire event, blank line included.

        `include_usage` matters where a client has to ask for the usage of a stream.
        """
        ...


@frozen(kw_only=True)
class Encoded:
    """A neutral request in one dialect's own words, ready to be sent.

    `dropped` names what this dialect has no words for and the answer can do without, each as
    `field` or `field:detail` (`seed`, `thinking`, `logit_bias`), in the order it was met. `added`
    names what had to be put in, in the words of this dialect (`max_tokens`).
    """

    view: RequestView
    body: bytes
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class StreamDecoder(Protocol):
    """Reads one streamed answer into neutral events, whatever the chunking.

    The events of all chunks, in order, are the same however the bytes were cut. `Ended` comes only
    with the dialect's terminal event; an error told inside the stream gives `Failed`.
    """

    def feed(self, chunk: bytes) -> Sequence[chat.StreamEvent]: ...

    def close(self) -> Sequence[chat.StreamEvent]:
        """At the end of the upstream's bytes; never invents an `Ended`."""
        ...


class StreamWriter(Protocol):
    """Writes neutral events as one stream of its dialect; may be called for each event."""

    def write(self, events: Iterable[chat.StreamEvent]) -> Iterator[bytes]: ...


class ChatDialect(Dialect, Protocol):
    """A dialect of conversations: what it says can be said in every other such dialect."""

    def prompt(self, view: RequestView) -> chat.Prompt:
        """What the request says to the model; never raises, whatever stands in it."""
        ...

    def only_words(self, view: RequestView) -> bool:
        """Whether it is plain words, sound and asking for nothing that a model could lack; False
        says nothing. Spares most requests their neutral form where only its needs are wanted."""
        ...

    def neutral(self, view: RequestView) -> chat.Request:
        """The request in neutral words. Raises BadRequest (with `field`) for what no dialect has
        words for, such as a message without a role."""
        ...

    def encode_request(self, asked: chat.Request, model: str) -> Encoded:
        """A neutral request as this dialect's body, for a model's name upstream.

        Raises Uncarriable when the request needs what this dialect cannot say at all.
        """
        ...

    def decode_answer(self, body: bytes) -> chat.Answer:
        """A whole, successful answer in neutral words. Raises ValueError for anything else."""
        ...

    def decoder(self) -> StreamDecoder: ...

    def writer(self, asked: RequestView) -> StreamWriter:
        """A writer for the client that asked: in its framing, with usage if it wants it."""
        ...
