"""`POST /v1/kill`: stop a session or key at once, its open streams too, or let it go on."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelspend.errors import BadRequest, NotFound
from modelspend.server.body import read_body
from modelspend.server.keys import LIVE


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=256)
    reason: str = Field("an operator has stopped it", min_length=1, max_length=200)
    lift: bool = False


async def kill(request: web.Request) -> Mapping[str, Any]:
    """`{"name", "reason"?, "lift"?}` → `{"name", "stopped", "cut"}`; `name` is a session or key."""
    live = request.app[LIVE]
    try:
        asked = _Asked.model_validate_json(await read_body(request, live.settings.server))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{place}: {first['msg']}.", field=place) from None
    if asked.lift:
        if not await live.gateway.brakes.lift(asked.name, live.gateway.now_ms()):
            raise NotFound(f"{asked.name} was not stopped.", "See: modelspend kill")
        return {"name": asked.name, "stopped": False, "cut": 0}
    cut = await live.gateway.stop(asked.name, asked.reason)
    return {"name": asked.name, "stopped": True, "cut": cut}
