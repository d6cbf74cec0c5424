"""How a call crosses between the client's dialect and the provider's, both ways.

Where both speak the same, bytes pass as they are, with at most the stated splices. Where they do
not, request and answer go through the neutral shape. What a reader would not guess: a translated
stream is still read by the provider's own reader, beside its way, so that its usage is metered and
its end is judged in the words in which it was told.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil

from modelspend import chat, translation
from modelspend.catalog import Provider
from modelspend.delivery import Delivery, deliver
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import AnswerNote, Dialect, RequestView, StreamReader
from modelspend.errors import (
    BadRequest,
    ModelspendError,
    ProviderSaid,
    Uncarriable,
    UnpairedToolCall,
    UpstreamFailed,
)
from modelspend.gateway.headers import Pairs
from modelspend.gateway.target import Target, spoken_with
from modelspend.receipt import FailureClass
from modelspend.record import record


@record
class Request:
    """What came in, without the web framework: `path` and `query` as the client wrote them."""

    dialect: Dialect
    path: str
    query: str
    headers: Pairs
    body: bytes


USAGE_SPLICE = "stream_options.include_usage"


@record
class Passage:
    """A call as it goes to one target, in the dialect that is spoken there.

    `splices` names what was changed in the client's own bytes; `dropped` and `added` what was left
    out and put in where they had to be written anew.
    """

    client: Dialect
    asked: RequestView
    dialect: Dialect
    view: RequestView
    body: bytes
    splices: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    asks_usage: bool = False

    @property
    def translated(self) -> bool:
        return self.dialect is not self.client

    @property
    def required_headers(self) -> tuple[tuple[str, str], ...]:
        """What the provider's dialect wants to be told beside the body."""
        return CHAT_DIALECTS[self.dialect.name].required_headers

    def content_type(self, *, good: bool) -> str:
        """Of a translated answer; what is not good is told as one JSON object."""
        events = good and self.asked.stream and self.asked.framing == "events"
        return "text/event-stream" if events else "application/json"

    def reader(self) -> StreamReader:
        """Reads the provider's stream; what it hands on is for the client."""
        if self.translated:
            return TranslatedReader(self)
        return self.dialect.reader(self.view, hide_usage=self.asks_usage)

    def answer(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """A whole, successful answer for the client, and what it went without; as a stream where
        it asked for one and the provider gave none.

        Raises UpstreamFailed when the provider's answer cannot be understood.
        """
        if not self.translated:
            return body, ()
        try:
            told = CHAT_DIALECTS[self.dialect.name].decode_answer(body)
        except ValueError:
            raise UpstreamFailed(
                "The provider's answer cannot be translated: it is not one of its dialect.",
                "Ask for the model in the provider's own dialect to see it as it is.",
                failure_class=FailureClass.PROTOCOL,
            ) from None
        said, dropped = deliver(told, to=self.client.name)
        if self.asked.stream:
            writer = CHAT_DIALECTS[self.client.name].writer(self.asked)
            return b"".join(writer.write(chat.unfold(said))), dropped
        return self.client.encode_answer(said), dropped

    def advice(self, note: AnswerNote, headers: Pairs) -> list[tuple[str, str]]:
        """The header that the client's dialect wants for what the provider said in its body."""
        wait = note.error.retry_after_s if self.translated and note.error else None
        if wait is None or any(name.lower() == "retry-after" for name, _ in headers):
            return []
        return [("retry-after", str(ceil(wait)))]

    def refusal(self, body: bytes, status: int, note: AnswerNote) -> bytes:
        """A provider's refusal for the client, under the status that it goes with."""
        if not self.translated:
            return body
        told = note.error
        kind = told.kind if told else "provider_error"
        message = told.message if told and told.message else f"The provider answered {status}."
        return self.client.error_body(ProviderSaid(message, status=status, kind=kind))


def passage(request: Request, view: RequestView, target: Target) -> Passage:
    """The way to a target. Raises Uncarriable, UnpairedToolCall or BadRequest when the request
    cannot be said there."""
    client = request.dialect
    if target.dialect != client.name and not _counts_there(client, target):
        return _translated(client, view, target)
    if target.newcomer and (unsealed := _unsealed(request, view, target)) is not None:
        return unsealed
    straight = Passage(client=client, asked=view, dialect=client, view=view, body=request.body)
    if target.model != view.model:
        renamed = client.with_model(request.body, view, target.model)
        if renamed != request.body:
            return replace(straight, body=renamed, splices=("model",))
    return straight


def unsayables(
    request: Request, view: RequestView, there: Iterable[tuple[Provider, str]]
) -> dict[str, ModelspendError]:
    """The dialects of some providers that a request cannot be said in, and why."""
    spoken = {spoken_with(provider, request.dialect): (provider, name) for provider, name in there}
    found: dict[str, ModelspendError] = {}
    for dialect, (provider, model) in spoken.items():
        if dialect == request.dialect.name:
            continue
        target = Target(provider=provider, model=model, dialect=dialect, credential=())
        try:
            passage(request, view, target)
        except (Uncarriable, UnpairedToolCall, BadRequest) as error:
            found[dialect] = error
    return found


def lacking(error: ModelspendError) -> str:
    """The capability that a dialect lacks in which a request cannot be said."""
    match error:
        case Uncarriable():
            return error.capability
        case UnpairedToolCall():
            return "unpaired_tools"
        case _:
            return "request"


def asking_for_usage(out: Passage) -> Passage:
    """The same with a spliced request for the usage of a stream, where its dialect needs one."""
    body = out.dialect.with_usage(out.body, out.view)
    if body is None:
        return out
    splices = out.splices if out.translated else (*out.splices, USAGE_SPLICE)
    return replace(out, body=body, splices=splices, asks_usage=True)


def limited(out: Passage, limit: int | None) -> Passage:
    """The same with an output limit where the request sets none."""
    if limit is None or out.view.max_output:
        return out
    spliced = out.dialect.with_limit(out.body, out.view, limit)
    if spliced is None:
        return out
    body, field = spliced
    out = replace(out, body=body, view=replace(out.view, max_output=limit))
    if out.translated:
        return replace(out, added=(*out.added, field))
    return replace(out, splices=(*out.splices, field))


_SEALS = (b"thinking", b"reasoning", b"hought")
"""Some of these stand in every body with reasoning: `thoughtSignature` and `"thought"` too."""

UNSEALED = "reasoning"
"""The splice that leaves out what another provider of the same dialect has sealed."""


def _unsealed(request: Request, view: RequestView, target: Target) -> Passage | None:
    """The same dialect without reasoning that another provider wrote; null where there is none.

    It would be refused there, and is not for others to read.
    """
    client = CHAT_DIALECTS.get(request.dialect.name)
    if client is None or not any(mark in request.body for mark in _SEALS):
        return None
    prepared = translation.prepare(client.neutral(view), to=client.name, same_provider=False)
    if not prepared.dropped:
        return None
    encoded = client.encode_request(prepared.request, target.model)
    return Passage(
        client=client,
        asked=view,
        dialect=client,
        view=replace(encoded.view, operation=view.operation, framing=view.framing),
        body=encoded.body,
        splices=(UNSEALED,),
        dropped=tuple(dict.fromkeys((*prepared.dropped, *encoded.dropped))),
        added=encoded.added,
    )


def _counts_there(client: Dialect, target: Target) -> bool:
    """Counting tokens is a part of the dialect whose tokens are counted."""
    return client.name.replace("count_tokens", "messages") == target.dialect


def _translated(client: Dialect, view: RequestView, target: Target) -> Passage:
    there = CHAT_DIALECTS[target.dialect]
    prepared = translation.prepare(CHAT_DIALECTS[client.name].neutral(view), to=there.name)
    encoded = there.encode_request(prepared.request, target.model)
    return Passage(
        client=client,
        asked=view,
        dialect=there,
        view=encoded.view,
        body=encoded.body,
        dropped=tuple(dict.fromkeys((*prepared.dropped, *encoded.dropped))),
        added=encoded.added,
    )


class TranslatedReader:
    """Reads a provider's stream in its own words and tells it in the client's."""

    def __init__(self, out: Passage) -> None:
        there, here = CHAT_DIALECTS[out.dialect.name], CHAT_DIALECTS[out.client.name]
        self._theirs = there.reader(out.view, hide_usage=False)
        self._decoder = there.decoder()
        self._delivery = Delivery(to=here.name)
        self._writer = here.writer(out.asked)
        self._over = False
        self.note = self._theirs.note
        self.note.dropped = self._delivery.dropped

    def feed(self, chunk: bytes) -> tuple[bytes, bytes]:
        self._theirs.feed(chunk)
        return self._told(self._decoder.feed(chunk))

    def close(self) -> tuple[bytes, bytes]:
        self._theirs.close()
        return self._told(self._decoder.close())

    def error_event(self, error: ModelspendError) -> bytes:
        return b"".join(self._writer.write([chat.Failed(error.code, error.text)]))

    def _told(self, events: Iterable[chat.StreamEvent]) -> tuple[bytes, bytes]:
        """What goes to the client now, and from the end of the answer on, what waits."""
        now: list[bytes] = []
        later: list[bytes] = []
        for event in self._delivery.feed(events):
            self._over = self._over or isinstance(event, chat.Stopped | chat.Failed | chat.Ended)
            (later if self._over else now).extend(self._writer.write([event]))
        return b"".join(now), b"".join(later)
