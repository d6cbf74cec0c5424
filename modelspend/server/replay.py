"""`POST /v1/receipts/{receipt_id}/replay`: a call once more, and what is different."""

from collections.abc import Mapping
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelspend.errors import BadRequest, ReceiptNotFound
from modelspend.gateway import replay
from modelspend.gateway.replay import Wish
from modelspend.money import from_usd
from modelspend.receipt_json import to_json
from modelspend.replays import difference
from modelspend.server.body import read_body
from modelspend.server.keys import LIVE, STORE
from modelspend.store import Stored


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, min_length=1, max_length=256)
    profile: str | None = Field(None, min_length=1, max_length=64)
    system: str | None = None
    set: dict[str, Any] = Field(default_factory=dict, max_length=100)
    max_usd: str | None = None
    cache: Literal["on", "off", "refresh", "tools"] = "off"
    tags: dict[str, str] = Field(default_factory=dict, max_length=20)
    dry_run: bool = False


async def again(request: web.Request) -> Mapping[str, Any]:
    """`{"model"?, "profile"?, "system"?, "set"?, "max_usd"?, "cache"?, "tags"?, "dry_run"?}` →
    `{"original", "replay", "diff"}`, or with `dry_run` what would be sent.

    Raises BodyNotKept, ReceiptNotFound, and what any call may be refused with.
    """
    live, store = request.app[LIVE], request.app[STORE]
    asked = await _read(request)
    stored = await store.receipts.get(request.match_info["receipt_id"])
    if stored is None:
        raise ReceiptNotFound(
            f"No receipt {request.match_info['receipt_id']}.", "See `modelspend receipts list`."
        )
    original, gateway = stored.receipt, live.gateway
    kept = await store.bodies.get(original.receipt_id)
    if kept.request is None:
        raise replay.not_kept(original, live.settings, gateway.now_ms())
    call, caller = replay.asked_again(original, kept.request, kept.answer, _wish(asked))
    if asked.dry_run:
        sent = replay.upstream_request(await gateway.rehearse(call, caller))
        return {"original": _shape(stored), "request": sent}
    carried = await replay.carry(gateway, call, caller)
    found = await store.receipts.get(carried.receipt_id)
    assert found is not None, "a call that was answered has its receipt"
    dialect, stream = call.dialect.name, original.request.stream
    return {
        "original": _shape(stored),
        "replay": _shape(found),
        "diff": difference(
            original,
            found.receipt,
            replay.words_of(dialect, kept.answer, stream=stream),
            replay.words_of(dialect, carried.body, stream=found.receipt.request.stream),
            same_bytes=kept.answer is not None and kept.answer == carried.body,
        ),
    }


def _shape(stored: Stored) -> dict[str, Any]:
    said = to_json(stored.receipt)
    said["request"]["body_kept"] = stored.body_kept
    return {**said, "seq": stored.seq}


def _wish(asked: _Asked) -> Wish:
    try:
        cap = None if asked.max_usd is None else from_usd(asked.max_usd)
    except ValueError as why:
        raise BadRequest(f"max_usd: {why}.", field="max_usd") from None
    return Wish(
        model=asked.model,
        profile=asked.profile,
        system=asked.system,
        changes=asked.set,
        max_pico=cap,
        cache=asked.cache,
        tags=asked.tags,
    )


async def _read(request: web.Request) -> _Asked:
    body = await read_body(request, request.app[LIVE].settings.server)
    try:
        return _Asked.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{place}: {first['msg']}.", field=place) from None
