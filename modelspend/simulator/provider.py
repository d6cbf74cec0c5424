"""The provider in the box: how one request is answered, from its path to its last byte.

`Provider.answer` tells the story in order: refuse what cannot be read, do what the model's name
asks for before an answer, make the answer, send it through the shapers that the plan names.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from modelspend import chat
from modelspend.dialects import DIALECTS
from modelspend.errors import ModelspendError
from modelspend.simulator import answers, embeddings, shapers, vendors
from modelspend.simulator.answers import FILL_MARK, Progress, Reply
from modelspend.simulator.behaviours import BEHAVE_HEADER, BEHAVIOURS, plan_for
from modelspend.simulator.exchange import Exchange
from modelspend.simulator.meter import Meter
from modelspend.simulator.plan import Asked, Cut, Fault, Plan, Scene, Shaper, Stall, Step
from modelspend.simulator.routes import Route
from modelspend.simulator.terms import UnknownBehaviour
from modelspend.simulator.wire import merged

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
_PARTS = 8  # a whole answer that is to break off is sent in so many parts
_HEALTHY = ("gpt-4.1", "gpt-5-mini", "claude-sonnet-4-6", "claude-haiku-4-5", "gemini-2.5-flash")


class Provider:
    """Answers requests; the only state is the prompt cache and how often each model was called."""

    def __init__(self, seed: int, latency_ms: float) -> None:
        self._seed = seed
        self._latency_ms = latency_ms
        self._meter = Meter()
        self._turns: Counter[str] = Counter()

    async def answer(self, route: Route | None, exchange: Exchange) -> web.StreamResponse:
        """Answer one request. Raises Broken where the connection was closed by plan."""
        if route is None:
            return await self._tell(exchange, Fault(status=404, message="No such path."))
        if route.kind in ("models", "root"):
            return await self._list(route, exchange)
        try:
            request = DIALECTS[route.dialect].decode_request(exchange.seen.path, exchange.seen.body)
            plan = plan_for(request.model, exchange.seen.headers.get(BEHAVE_HEADER))
        except ModelspendError as error:
            return await self._tell(exchange, _invalid(error))
        except UnknownBehaviour as error:
            return await self._tell(exchange, _unknown(exchange, error))
        await exchange.wire.pause(self._latency_ms + plan.delay_ms)
        fault = self._fault(exchange, request.model, plan)
        if fault is not None:
            return await self._tell(exchange, fault)
        return await self._perform(route, request, plan, exchange)

    def _fault(self, exchange: Exchange, model: str, plan: Plan) -> Fault | None:
        """The error that the plan has for this very call, if any."""
        turn = self._turns[model]
        self._turns[model] += 1
        body = orjson.loads(exchange.seen.body)
        asked = Asked(exchange.dialect, model, turn, body)
        return next(filter(None, (check(asked) for check in plan.checks)), None)

    async def _perform(
        self, route: Route, request: chat.Request, plan: Plan, exchange: Exchange
    ) -> web.StreamResponse:
        exchange.ends = plan.ends
        match plan.instead:
            case Stall():
                self._reply(route, request, plan, exchange)
                await exchange.wire.stall()
            case Cut(reset=reset):
                exchange.wire.close(reset=reset)
        if plan.body is not None:
            return await self._send(exchange, plan, iter((plan.body,)), False, len(plan.body))
        if plan.whole_fault is not None and not request.stream:
            told = self._error(exchange, plan.whole_fault)
            return await self._whole(exchange, replace(plan, faults=()), told)
        reply, document = self._reply(route, request, plan, exchange)
        if plan.hostile is not None:
            return await self._defy(exchange, plan.hostile(document))
        if request.stream and route.kind == "generate":
            return await self._stream(exchange, request, plan, reply, document)
        return await self._whole(exchange, plan, document, reply.fill)

    def _reply(
        self, route: Route, request: chat.Request, plan: Plan, exchange: Exchange
    ) -> tuple[Reply, bytes]:
        """The reply and its JSON; from here on the call is charged."""
        spent = self._meter.input_usage(request)
        body = orjson.loads(exchange.seen.body)
        if route.kind == "embed":
            spent = {"input_tokens": embeddings.input_tokens(body)}
        reply = answers.compose(request, plan, self._seed, exchange.seen.n, spent)
        usage = reply.answer.usage
        if route.kind == "embed":
            usage = {k: v for k, v in usage.items() if k == "input_tokens"}
            document = orjson.dumps(embeddings.document(body, request.model, usage))
        elif route.kind == "count":
            total = sum(v for k, v in usage.items() if not k.startswith(("output", "reasoning")))
            usage = {}
            document = orjson.dumps({"input_tokens": total})
        else:
            document = DIALECTS[route.dialect].encode_answer(reply.answer)
        exchange.usage = usage
        stream = request.stream and route.kind == "generate"
        exchange.progress = Progress(total=reply.whole(), ended=not stream)
        return reply, document

    async def _defy(self, exchange: Exchange, steps: Iterator[Step]) -> web.StreamResponse:
        """Raw bytes in place of an answer; what they hold has been generated and is charged."""
        if exchange.progress is not None:
            exchange.progress.ended = True
        await exchange.wire.raw(steps)
        exchange.outcome = exchange.ends
        return web.Response()

    async def _whole(
        self, exchange: Exchange, plan: Plan, document: bytes, fill: int = 0
    ) -> web.StreamResponse:
        scene = self._scene(exchange, None, stream=False)
        rewritten = _shaped(iter((document,)), plan.events, scene)
        body = b"".join(step for step in rewritten if isinstance(step, bytes))
        length = len(body) + (fill - len(FILL_MARK) if fill else 0)
        parts = (shapers.in_parts(_PARTS),) if plan.faults else ()
        shapes = (*parts, *_filled(fill), *plan.faults, *plan.pieces)
        steps = _shaped(iter((body,)), shapes, scene)
        return await self._send(exchange, plan, steps, False, None if plan.chunked else length)

    async def _stream(
        self, exchange: Exchange, request: chat.Request, plan: Plan, reply: Reply, document: bytes
    ) -> web.StreamResponse:
        assert exchange.progress is not None
        written = DIALECTS[exchange.dialect].encode_stream(
            answers.events(reply, exchange.progress), include_usage=_asks_usage(request)
        )
        scene = self._scene(exchange, document, stream=True)
        framing = (shapers.as_array,) if _is_array(exchange) else ()
        shapes = (*plan.events, *_filled(reply.fill), *plan.faults, *framing, *plan.pieces)
        steps = _shaped(iter(written), shapes, scene)
        return await self._send(exchange, plan, steps, not framing, None)

    async def _send(
        self, exchange: Exchange, plan: Plan, steps: Iterator[Step], sse: bool, length: int | None
    ) -> web.StreamResponse:
        exchange.status = plan.status
        kind = plan.content_type or (_EVENTS if sse else _JSON)
        own = vendors.headers(exchange.dialect, exchange.request_id, exchange.seen.n)
        head = merged({"Content-Type": kind}, own, plan.headers)
        response = await exchange.wire.answer(
            plan.status, head, steps, length=length, encoding=plan.encoding
        )
        exchange.outcome = exchange.ends
        await response.write_eof()
        if plan.close:
            exchange.wire.hang_up()
        return response

    def _scene(self, exchange: Exchange, document: bytes | None, *, stream: bool) -> Scene:
        told = orjson.loads(document) if document else {}
        return Scene(
            dialect=exchange.dialect,
            stream=stream,
            usage=told.get("usage") or told.get("usageMetadata"),
            error_event=partial(_error_event, exchange.dialect, exchange.request_id),
        )

    def _error(self, exchange: Exchange, fault: Fault) -> bytes:
        document = vendors.error_document(exchange.dialect, fault, exchange.request_id)
        return orjson.dumps(document)

    async def _tell(self, exchange: Exchange, fault: Fault) -> web.StreamResponse:
        """An error status with the vendor's body and headers."""
        exchange.ends = "error"
        body = self._error(exchange, fault)
        more = vendors.error_headers(exchange.dialect, fault)
        own = vendors.headers(exchange.dialect, exchange.request_id, exchange.seen.n)
        head = merged({"Content-Type": _JSON}, {**own, **more})
        exchange.status = fault.status
        response = await exchange.wire.answer(fault.status, head, (body,), length=len(body))
        exchange.outcome = "error"
        await response.write_eof()
        return response

    async def _list(self, route: Route, exchange: Exchange) -> web.StreamResponse:
        document = _models(route.model) if route.kind == "models" else {"simulator": "modelspend"}
        body = orjson.dumps(document)
        steps = () if exchange.seen.method == "HEAD" else (body,)
        return await self._send(exchange, Plan(), iter(steps), False, len(body))


def _shaped(steps: Iterator[Step], shapes: Iterable[Shaper], scene: Scene) -> Iterator[Step]:
    for shaper in shapes:
        steps = shaper(steps, scene)
    return steps


def _filled(fill: int) -> tuple[Shaper, ...]:
    return (shapers.filled(FILL_MARK.encode(), fill),) if fill else ()


def _asks_usage(request: chat.Request) -> bool:
    options = request.extra.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


def _is_array(exchange: Exchange) -> bool:
    return exchange.dialect == "gemini.generate" and exchange.seen.query.get("alt") != "sse"


def _error_event(dialect: str, request_id: str, fault: Fault) -> bytes:
    return vendors.error_event(dialect, fault, request_id)


def _invalid(error: ModelspendError) -> Fault:
    return Fault(status=400, message=error.message, param=error.field)


def _unknown(exchange: Exchange, error: UnknownBehaviour) -> Fault:
    text = f"The model '{exchange.seen.model}' does not exist: no behaviour '{error}'."
    return Fault(status=404, message=text + " modelspend simulate --list names them.")


def _models(wanted: str | None) -> dict[str, Any]:
    """One model, or all of them in a shape that each vendor's client can read."""
    if wanted is not None:
        return _model(wanted)
    names = [*_HEALTHY, *(row.example for row in BEHAVIOURS)]
    return {
        "object": "list",
        "data": [_model(name) for name in names],
        "has_more": False,
        "first_id": names[0],
        "last_id": names[-1],
        "models": [{"name": f"models/{name}", "displayName": name} for name in names],
    }


def _model(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "type": "model",
        "display_name": name,
        "created": 0,
        "created_at": "1970-01-01T00:00:00Z",
        "owned_by": "simulator",
    }
