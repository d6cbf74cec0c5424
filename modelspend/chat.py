"""The neutral shape in the middle: what any of the four chat dialects says, in one vocabulary.

A dialect translates to and from these types, so N dialects cost N files and not N×M. Whatever a
dialect says that has no word here is kept verbatim in an `Opaque` part or in `extra`, together
with the dialect it came from: it goes back only to the same dialect. Order is kept everywhere.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelspend.record import frozen

Role = Literal["system", "user", "assistant", "tool"]

StopReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "other"]


@frozen(kw_only=True)
class Text:
    """Plain text. `extra` holds what its dialect says beside it (cache marks, citations)."""

    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Media:
    """An image, audio clip or file: inline base64 `data`, or a `url` that we never fetch."""

    kind: Literal["image", "audio", "video", "file"]
    mime: str | None = None
    data: str | None = None
    url: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class ToolCall:
    """A call that the model asks for; `arguments` is JSON text exactly as it was written."""

    call_id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class ToolResult:
    """The answer to a `ToolCall`, matched by `call_id` (and by `name` where the dialect does)."""

    call_id: str
    parts: "tuple[Part, ...]"
    name: str | None = None
    is_error: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Reasoning:
    """Thinking. `sealed` is the provider's signature or ciphertext: bound to it, never invented."""

    text: str
    sealed: str | None = None
    origin: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Opaque:
    """A part with no word here, verbatim; it may go back only to the dialect `origin`."""

    origin: str
    value: Mapping[str, Any]


Part = Text | Media | ToolCall | ToolResult | Reasoning | Opaque


@frozen(kw_only=True)
class Message:
    role: Role
    parts: tuple[Part, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Tool:
    """A function the model may call; `schema` is JSON Schema. Server tools are `Opaque`."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen
class ToolChoice:
    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None
    parallel: bool | None = None


@frozen(kw_only=True)
class OutputFormat:
    """`json_schema` carries a schema; `json` asks for any JSON object."""

    kind: Literal["text", "json", "json_schema"]
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


@frozen(kw_only=True)
class Request:
    """One request in neutral words. `extra` holds every other top-level field, by its own name."""

    model: str
    messages: tuple[Message, ...]
    origin: str
    stream: bool = False
    tools: tuple[Tool | Opaque, ...] = ()
    tool_choice: ToolChoice | None = None
    output: OutputFormat | None = None
    max_output: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Prompt:
    """What a router reads of a request: the newest user turn, the system prompt, and the messages
    just before that turn, oldest first."""

    newest: str
    system: str = ""
    history: tuple[str, ...] = ()


@frozen(kw_only=True)
class Answer:
    """One whole answer; `usage` is the disjoint buckets (and `reasoning_tokens`) by name."""

    answer_id: str
    model: str
    parts: tuple[Part, ...]
    stop: StopReason | None
    usage: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Started:
    """The stream began; `usage` is what is known already (Anthropic tells the input here)."""

    answer_id: str
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@frozen
class TextDelta:
    index: int
    text: str


@frozen
class ReasoningDelta:
    index: int
    text: str
    sealed: str | None = None


@frozen
class ToolCallStarted:
    index: int
    call_id: str
    name: str


@frozen
class ArgumentsDelta:
    """A fragment of a tool call's JSON arguments; never parsed before the call is whole."""

    index: int
    fragment: str


@frozen
class PartEnded:
    index: int


@frozen
class Stopped:
    reason: StopReason
    usage: Mapping[str, int] = field(default_factory=dict)


@frozen
class Failed:
    """An error told inside the stream."""

    kind: str
    message: str


@frozen
class Ended:
    """The terminal event: only after it is a stream a success."""


StreamEvent = (
    Started
    | TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ArgumentsDelta
    | PartEnded
    | Stopped
    | Failed
    | Ended
)


def fold(events: Iterable[StreamEvent]) -> Answer:
    """The whole answer that a stream tells: what the same call would have given unstreamed.

    `stop` is None for a stream that was cut. Raises ValueError with the message of a `Failed`.
    """
    answer_id = model = ""
    stop: StopReason | None = None
    usage: dict[str, int] = {}
    extra: Mapping[str, Any] = {}
    parts: dict[int, _Growing] = {}
    for event in events:
        match event:
            case Started():
                answer_id, model, extra = event.answer_id, event.model, event.extra
                usage |= event.usage
            case TextDelta():
                parts.setdefault(event.index, _Growing("text")).words.append(event.text)
            case ReasoningDelta():
                growing = parts.setdefault(event.index, _Growing("reasoning"))
                growing.words.append(event.text)
                growing.sealed = event.sealed or growing.sealed
            case ToolCallStarted():
                parts[event.index] = _Growing("call", event.call_id, event.name)
            case ArgumentsDelta():
                parts.setdefault(event.index, _Growing("call")).words.append(event.fragment)
            case Stopped():
                stop = event.reason
                usage |= event.usage
            case Failed():
                raise ValueError(event.message or event.kind)
            case PartEnded() | Ended():
                pass
    return Answer(
        answer_id=answer_id,
        model=model,
        parts=tuple(parts[index].part() for index in sorted(parts)),
        stop=stop,
        usage=usage,
        extra=extra,
    )


def unfold(answer: Answer) -> Iterator[StreamEvent]:
    """A whole answer as the stream that would have told it, without parts that no stream tells.

    For a provider that answers the request for a stream with a whole answer.
    """
    yield Started(answer_id=answer.answer_id, model=answer.model, extra=answer.extra)
    index = 0
    for part in answer.parts:
        match part:
            case Text():
                yield TextDelta(index, part.text)
            case Reasoning():
                yield ReasoningDelta(index, part.text, part.sealed)
            case ToolCall():
                yield ToolCallStarted(index, part.call_id, part.name)
                yield ArgumentsDelta(index, part.arguments or "{}")
            case Media() | ToolResult() | Opaque():
                continue
        yield PartEnded(index)
        index += 1
    yield Stopped(answer.stop or "stop", answer.usage)
    yield Ended()


@dataclass(slots=True)
class _Growing:
    """A part of a streamed answer, as far as it has come."""

    kind: Literal["text", "reasoning", "call"]
    call_id: str = ""
    name: str = ""
    words: list[str] = field(default_factory=list)
    sealed: str | None = None

    def part(self) -> Part:
        said = "".join(self.words)
        if self.kind == "call":
            return ToolCall(call_id=self.call_id, name=self.name, arguments=said or "{}")
        if self.kind == "reasoning":
            return Reasoning(text=said, sealed=self.sealed)
        return Text(text=said)
