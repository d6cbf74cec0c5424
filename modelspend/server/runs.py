"""`POST /v1/runs` and `DELETE /v1/runs/{run_id}`: a key for one program, until it ends."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelspend.errors import BadRequest, NotFound
from modelspend.money import from_usd
from modelspend.server.body import read_body
from modelspend.server.keys import LIVE


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    pid: int = Field(gt=0)
    tenant: str | None = Field(None, min_length=1, max_length=256)
    workflow: str | None = Field(None, min_length=1, max_length=256)
    tags: dict[str, str] = Field(default_factory=dict, max_length=20)
    max_usd: str | None = None


async def open_run(request: web.Request) -> Mapping[str, Any]:
    """`{"pid", "tenant"?, "workflow"?, "tags"?, "max_usd"?}` → `{"run_id", "key"}`."""
    live = request.app[LIVE]
    try:
        asked = _Asked.model_validate_json(await read_body(request, live.settings.server))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{place}: {first['msg']}.", field=place) from None
    try:
        cap = None if asked.max_usd is None else from_usd(asked.max_usd)
    except ValueError as why:
        raise BadRequest(f"max_usd: {why}.", field="max_usd") from None
    run, key = live.callers.runs.open(asked.pid, asked.tenant, asked.workflow, asked.tags, cap)
    return {"run_id": run.run_id, "key": key}


async def close_run(request: web.Request) -> Mapping[str, Any]:
    """The run is over: its key opens nothing any more."""
    run_id = request.match_info["run_id"]
    if not request.app[LIVE].callers.runs.close(run_id):
        raise NotFound(f"There is no open run {run_id}.")
    return {"run_id": run_id, "closed": True}
