"""`POST /v1/evals/evidence` and `/v1/evals/results`: what was measured, written by the sidecar.

Events get their numbers from the daemon alone, so while it runs evidence goes through it, and its
decisions know the new bounds as soon as the answer is sent.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from modelspend.errors import BadRequest
from modelspend.quality import Evidence, Result
from modelspend.server.body import read_body
from modelspend.server.keys import LIVE, STORE

T = TypeVar("T")


class _Evidence(BaseModel):
    model_config = ConfigDict(extra="forbid")

    evidence: list[Evidence]


_EVIDENCE: TypeAdapter[_Evidence] = TypeAdapter(_Evidence)
_RESULT: TypeAdapter[Result] = TypeAdapter(Result)


async def add_evidence(request: web.Request) -> Mapping[str, Any]:
    """`{"evidence": [{"model", "category", "score", …}]}` → what is new, who took over."""
    live, quality = request.app[LIVE], request.app[STORE].quality
    asked = await _read(request, _EVIDENCE)
    done = await quality.add(asked.evidence, live.gateway.now_ms())
    if done.added:
        live.gateway.router.scores = await quality.scores()
    return done.to_json()


async def keep_result(request: web.Request) -> Mapping[str, Any]:
    """One item's `Result`, durable once this is answered."""
    result = await _read(request, _RESULT)
    await request.app[STORE].quality.keep(result)
    return {"kept": result.item_key}


async def _read(request: web.Request, shape: TypeAdapter[T]) -> T:
    try:
        return shape.validate_json(await read_body(request, request.app[LIVE].settings.server))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{place}: {first['msg']}.", field=place) from None
