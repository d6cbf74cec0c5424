"""A stored request asked once more: as it was, of another model, or with another prompt.

It goes through `Gateway.open` like any call, so caps, circuits and receipts hold for it too. What a
reader would not guess: of the headers only those are kept that ask for a version or a beta feature,
so a replay sends these and what its dialect requires; and it has a session of its own, so that it
neither sticks to a conversation nor counts as one of its turns.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import quote

from modelspend import answers, chat
from modelspend.dialects import CHAT_DIALECTS, DIALECTS, jsonbody
from modelspend.dialects.dialect import Dialect
from modelspend.errors import BadRequest, BodyNotKept, ModelspendError, UpstreamFailed
from modelspend.gateway.attempts import headers_of, url_of
from modelspend.gateway.call import Call
from modelspend.gateway.caller import Caller
from modelspend.gateway.headers import CREDENTIALS
from modelspend.gateway.life import Gateway
from modelspend.gateway.passage import Request
from modelspend.gateway.runs import RUN_TAG
from modelspend.money import dumps
from modelspend.receipt import Receipt
from modelspend.receipt_json import iso
from modelspend.record import record
from modelspend.replays import changed, with_system
from modelspend.settings import Settings

_DAY_MS = 86_400_000


@record
class Wish:
    """What is to be different: another model, or a profile that chooses one; another system
    prompt; values by their place in the body (`temperature`, `messages.0.content`)."""

    model: str | None = None
    profile: str | None = None
    system: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    max_pico: int | None = None
    cache: answers.Word = "off"
    tags: Mapping[str, str] = field(default_factory=dict)


@record
class Carried:
    """How a replay went: its receipt, and all that a client would have got."""

    receipt_id: str
    status: int
    body: bytes


def asked_again(
    receipt: Receipt, body: bytes, answer: bytes | None, wish: Wish
) -> tuple[Request, Caller]:
    """The call of a receipt once more; its `answer` tells how that was framed.

    Raises BadRequest for a change that has no place in the body.
    """
    dialect = DIALECTS[receipt.request.dialect]
    if wish.model and wish.profile:
        raise BadRequest("A model and a profile exclude each other.", "Name one of them.")
    if wish.system is not None or wish.changes:
        body = _edited(dialect, body, wish)
    path, query = receipt.request.path, _query(receipt, answer)
    named = wish.model or (f"auto:{wish.profile}" if wish.profile else _chosen_then(receipt))
    if named is not None:
        path, body = _renamed(dialect, path, body, named)
    caller = Caller(
        tenant=receipt.tenant,
        workflow=receipt.workflow,
        session=f"replay-{receipt.receipt_id.removeprefix('rcpt_')}",
        tags={
            **{name: value for name, value in receipt.tags.items() if name != RUN_TAG},
            **wish.tags,
        },
        mode="observe",
        cache=wish.cache,
        max_pico=wish.max_pico,
        replay_of=receipt.receipt_id,
        written_by=receipt.attempts[-1].provider if receipt.attempts else None,
    )
    asked = [each.partition(": ") for each in receipt.request.headers]
    said = dict(dialect.required_headers) | {name: value for name, _, value in asked}
    headers = [("content-type", "application/json"), *said.items()]
    return Request(dialect=dialect, path=path, query=query, headers=headers, body=body), caller


async def carry(gateway: Gateway, request: Request, caller: Caller) -> Carried:
    """Send it and read all of its answer.

    A provider that failed has left a receipt, and that is told. Raises ModelspendError for what
    was refused before.
    """
    try:
        async with gateway.open(request, caller) as answer:
            receipt_id = dict(answer.headers)["x-modelspend-receipt"]
            body = answer.body or b""
            if answer.relay is not None:
                body = b"".join([chunk async for chunk in answer.relay.chunks()])
        return Carried(receipt_id=receipt_id, status=answer.status, body=body)
    except UpstreamFailed as failed:
        if failed.receipt_id is None:
            raise
        return Carried(receipt_id=failed.receipt_id, status=failed.status, body=b"")


def upstream_request(call: Call) -> dict[str, Any]:
    """What would be sent, byte for byte, with every credential masked."""
    secret = {value for _, value in call.target.credential}
    body: dict[str, Any]
    try:
        body = {"body": call.out.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": b64encode(call.out.body).decode()}
    return {
        "method": "POST",
        "url": url_of(call),
        "headers": [
            [name, "***" if name.lower() in CREDENTIALS or value in secret else value]
            for name, value in headers_of(call)
        ],
        **body,
        "provider": call.target.provider.name,
        "model_id": call.target.model,
        "dialect": call.out.dialect.name,
        "splices": list(call.out.splices),
        "dropped": list(call.out.dropped),
        "added": list(call.out.added),
    }


def words_of(dialect: str, body: bytes | None, *, stream: bool) -> chat.Answer | None:
    """An answer as its client got it, streamed or whole; None when it is no answer of words."""
    spoken = CHAT_DIALECTS.get(dialect)
    if spoken is None or not body:
        return None
    if stream:
        decoder = spoken.decoder()
        try:
            told = chat.fold([*decoder.feed(body), *decoder.close()])
        except (ValueError, ModelspendError):
            return None
        if told.parts or told.stop:
            return told
    try:
        return spoken.decode_answer(body)
    except (ValueError, ModelspendError):
        return None


def not_kept(receipt: Receipt, settings: Settings, now_ms: int) -> BodyNotKept:
    """Why the request of a receipt is not there, and which setting keeps those to come."""
    name = receipt.receipt_id
    section, where = settings.tenants.get(receipt.tenant), "store"
    days = settings.store.body_retention_days
    if section is not None and section.body_retention_days is not None:
        days, where = section.body_retention_days, f"tenants.{receipt.tenant}"
    gone_ms = receipt.created_at_ms + days * _DAY_MS
    if days and gone_ms <= now_ms:
        return BodyNotKept(
            f"The request of {name} is gone: bodies are kept for {days} days, and it went at"
            f" {iso(gone_ms)[:16]}Z.",
            f"Keep those to come for longer: {where}.body_retention_days (0 keeps them for ever).",
        )
    keeps, of = settings.store.keep_bodies, "store"
    if section is not None and section.keep_bodies is not None:
        keeps, of = section.keep_bodies, f"tenants.{receipt.tenant}"
    now = "" if keeps == "full" else f" ({of}.keep_bodies is {keeps!r})"
    return BodyNotKept(
        f"The request of {name} was not kept when it was made, at"
        f" {iso(receipt.created_at_ms)[:16]}Z{now}.",
        f'Keep those to come: {of}.keep_bodies = "full".',
    )


def _edited(dialect: Dialect, body: bytes, wish: Wish) -> bytes:
    fields = jsonbody.decode(body)
    if wish.system is not None:
        fields = with_system(dialect.name, fields, wish.system)
    for place, value in wish.changes.items():
        try:
            fields = changed(fields, place, value)
        except LookupError as why:
            raise BadRequest(f"{place}: {why.args[0]}.", field=place) from None
    return dumps(fields)


def _query(receipt: Receipt, answer: bytes | None) -> str:
    """What stood behind the path of a Gemini stream: without it, the answer is one JSON array."""
    gemini = receipt.request.dialect == "gemini.generate" and receipt.request.stream
    return "" if not gemini or (answer or b"").lstrip().startswith(b"[") else "alt=sse"


def _chosen_then(receipt: Receipt) -> str | None:
    """The model that had been decided for; None where the request itself names it."""
    decision = receipt.decision
    if decision is None or not decision.applied:
        return None
    return f"{decision.provider}/{decision.model_id}"


def _renamed(dialect: Dialect, path: str, body: bytes, named: str) -> tuple[str, bytes]:
    if dialect.name == "gemini.generate":
        head, _, operation = path.rpartition(":")
        root = head[: max(head.find("/models/"), head.find("/tunedModels/"))]
        return f"{root}/models/{quote(named, safe='/:')}:{operation}", body
    return path, dialect.with_model(body, dialect.read(path, body), named)
