"""How a call crosses between the client's dialect and the provider's, both ways.

Where both speak the same, bytes pass as they are, with at most the stated splices. Where they do
not, request and answer go through the neutral shape. What a reader would not guess: a translated
stream is still read by the provider's own reader, beside its way, so that its usage is metered and
its end is judged in the words in which it was told.
"""

from collections.abc import Iterable
from dataclasses import replace

from modelspend import chat, translation
from modelspend.delivery import Delivery, deliver
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import AnswerNote, Dialect, RequestView, StreamReader
from modelspend.errors import ModelspendError, ProviderSaid, UpstreamFailed
from modelspend.gateway.headers import Pairs
from modelspend.gateway.target import Target
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

    `splices` names what was changed in the client's own bytes; `dropped` and `added` what a
    translation left out and put in.
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

    def content_type(self, *, stream: bool) -> str:
        """Of a translated answer."""
        events = stream and self.asked.framing == "events"
        return "text/event-stream" if events else "application/json"

    def reader(self) -> StreamReader:
        """Reads the provider's stream; what it hands on is for the client."""
        if self.translated:
            return TranslatedReader(self)
        return self.dialect.reader(self.view, hide_usage=self.asks_usage)

    def answer(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """A whole, successful answer for the client, and what it went without.

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
        return self.client.encode_answer(said), dropped

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
    straight = Passage(client=client, asked=view, dialect=client, view=view, body=request.body)
    if target.model != view.model:
        renamed = client.with_model(request.body, view, target.model)
        if renamed != request.body:
            return replace(straight, body=renamed, splices=("model",))
    return straight


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
