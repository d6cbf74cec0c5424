"""`GET /v1/models`: the union of what the configured providers offer, and `HEAD /`."""

from aiohttp import web

from modelspend.errors import UnknownModel
from modelspend.gateway.headers import text_of
from modelspend.money import dumps
from modelspend.server.keys import LIVE


async def models(request: web.Request) -> web.StreamResponse:
    """The list in OpenAI's shape with Anthropic's and Google's fields beside it."""
    rows = [_row(*each) for each in await _listed(request)]
    ids = [row["id"] for row in rows]
    return _json(
        {
            "object": "list",
            "data": rows,
            "models": [{"name": f"models/{name}", "displayName": name} for name in ids],
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
    )


async def model(request: web.Request) -> web.StreamResponse:
    wanted = request.match_info["model"]
    for provider, name in await _listed(request):
        if wanted in (name, f"{provider}/{name}"):
            return _json(_row(provider, name))
    raise UnknownModel(f"No model {wanted!r}.", "`GET /v1/models` lists them.")


async def head(request: web.Request) -> web.StreamResponse:
    """Some agents knock before they call."""
    return web.Response()


async def _listed(request: web.Request) -> list[tuple[str, str]]:
    """All models, for whoever may call them. Raises NotAuthorised."""
    live = request.app[LIVE]
    headers = [(text_of(name), text_of(value)) for name, value in request.raw_headers]
    live.callers.identify(headers, request.rel_url.raw_query_string)
    return await live.models.all(live.catalog)


def _row(provider: str, model: str) -> dict[str, object]:
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": provider,
        "type": "model",
        "display_name": model,
        "created_at": "1970-01-01T00:00:00Z",
    }


def _json(value: object) -> web.Response:
    return web.Response(body=dumps(value), content_type="application/json")
