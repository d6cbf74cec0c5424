"""Traces for an OpenTelemetry collector, or for whatever else speaks OTLP over HTTP.

Hides the protocol's rules: what is tried again (429, 502, 503, 504, no answer), what never is, and
what a partial success means. Prompts stay here unless `otlp.prompts` is set. Each span that was
sent is kept in `otel_traces`, written with the sink's number.
"""

import asyncio
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from urllib.parse import unquote, urlsplit, urlunsplit

from modelspend import __version__
from modelspend.errors import ConfigInvalid
from modelspend.events import Event
from modelspend.exporters.http import Door, NotNow
from modelspend.exporters.otlp_bytes import (
    json_request,
    json_spans,
    partial,
    protobuf_request,
    protobuf_spans,
)
from modelspend.exporters.pump import Taken
from modelspend.exporters.spans import Span, Value, spans_of
from modelspend.record import frozen
from modelspend.settings import Otlp, Settings
from modelspend.sinks import Wants
from modelspend.store import Store, Stored, wall_ms
from modelspend.store.sinks import Emission
from modelspend.store.traces import Row, keeping

NAME = "otlp"
_PATH = "/v1/traces"
_AGAIN = frozenset({429, 502, 503, 504})
_MOST_CONTENT = 64 * 1024


@frozen
class Collector:
    """Where traces go, and how; `headers` may hold a token."""

    url: str
    protobuf: bool
    gzip: bool
    timeout_s: float
    headers: Mapping[str, str] = field(repr=False)
    resource: Mapping[str, Value]


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list["OtlpSink"]:
    """One when an endpoint is named, by the settings or by a variable. Raises ConfigInvalid."""
    found = collector(settings.otlp, env)
    return [] if found is None else [OtlpSink(found, settings.otlp, store)]


def collector(section: Otlp, env: Mapping[str, str]) -> Collector | None:
    """From the section, our own variables, and the standard ones of OpenTelemetry."""
    url = _url(section, env)
    if url is None or not section.enabled:
        return None
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigInvalid(f"The OTLP endpoint {url!r} is no address.", "It begins with https://")
    protocol = section.protocol or _standard(env, "PROTOCOL") or "http/json"
    compression = _standard(env, "COMPRESSION")
    headers = _pairs(_standard(env, "HEADERS") or "")
    token = env.get(section.token_env, "").strip()
    if token:
        headers["authorization"] = token
    return Collector(
        url=url,
        protobuf=protocol == "http/protobuf",
        gzip=section.gzip if compression is None else compression == "gzip",
        timeout_s=section.timeout_s,
        headers=headers,
        resource=resource(env),
    )


def _url(section: Otlp, env: Mapping[str, str]) -> str | None:
    ours = env.get("OTLP_ENDPOINT", "").strip() or section.endpoint
    if ours:
        return _with_path(ours)
    off = env.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or env.get("OTEL_TRACES_EXPORTER", "otlp").lower() == "none":
        return None
    if whole := env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():
        return whole
    root = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return _with_path(root) if root else None


def _with_path(url: str) -> str:
    """The path that OTLP has, unless it is there."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith(_PATH):
        path += _PATH
    return urlunsplit(parts._replace(path=path))


def _standard(env: Mapping[str, str], name: str) -> str | None:
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := env.get(variable, "").strip():
            return value
    return None


def _pairs(text: str) -> dict[str, str]:
    """`k=v,k2=v2`, percent-encoded."""
    found = (part.partition("=") for part in text.split(","))
    return {
        unquote(name.strip()).lower(): unquote(value.strip())
        for name, eq, value in found
        if eq and name.strip()
    }


def resource(env: Mapping[str, str]) -> dict[str, Value]:
    """Who tells: the attributes of the resource."""
    named = _pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    return {
        "service.name": "modelspend",
        "service.version": __version__,
        **named,
        **({"service.name": name} if (name := env.get("OTEL_SERVICE_NAME", "").strip()) else {}),
    }


class OtlpSink:
    """Sends receipts as spans."""

    name = NAME
    wants = Wants(receipts=True, kinds=())
    most = 32
    linger_s = 1.0

    def __init__(
        self, to: Collector, section: Otlp, store: Store, now_ms: Callable[[], int] = wall_ms
    ) -> None:
        self._to, self._section, self._store, self._now_ms = to, section, store, now_ms
        self._door = Door(allow_private=section.allow_private, timeout_s=to.timeout_s)

    async def send(self, batch: Sequence[Emission]) -> Taken:
        stored = [one for one in batch if not isinstance(one, Event)]
        told, body = await self._encode(stored)
        answer = await self._door.post(self._to.url, body, self._headers())
        if answer.status in _AGAIN or 300 <= answer.status < 400:
            raise NotNow(f"HTTP {answer.status}", after_s=answer.after_s)
        refused, said = partial(answer.body) if answer.ok else (0, "")
        spans = sum(map(len, told))
        if not answer.ok:
            dropped, error = len(stored), f"HTTP {answer.status}: not to be sent again"
        elif refused > 0:
            # A collector says how many spans, not which: at most so many receipts are incomplete.
            dropped = len(stored) if refused >= spans else min(refused, len(stored))
            error = f"{refused} of {spans} spans were refused"
        else:
            dropped, error = 0, "" if not said else "taken, with a warning"
        kept, now_ms = [], self._now_ms()
        for one, several in zip(stored, told, strict=True):
            rows = [_row(span, one) for span in several]
            kept.append(keeping(rows, now_ms, error if dropped else None))
            await asyncio.sleep(0)
        sent = len(stored) - dropped
        return Taken(sent=sent, dropped=dropped, error=error or None, also=tuple(kept))

    async def _content(self, one: Stored) -> dict[str, str] | None:
        """Prompts and answers as they were, cut; only where somebody has asked for them."""
        if not self._section.prompts or not one.body_kept:
            return None
        bodies = await self._store.bodies.get(one.receipt.receipt_id)
        return {
            name: data[:_MOST_CONTENT].decode("utf-8", "replace")
            for name, data in (
                ("modelspend.request_body", bodies.request),
                ("modelspend.answer_body", bodies.answer),
            )
            if data is not None
        }

    async def _encode(self, stored: Sequence[Stored]) -> tuple[list[list[Span]], bytes]:
        """Receipt by receipt, with the loop let go between: in a thread it would hold up the loop
        for as long as Python lets a thread go on, which is far longer."""
        encode, join = (
            (protobuf_spans, protobuf_request) if self._to.protobuf else (json_spans, json_request)
        )
        told, parts = [], []
        for one in stored:
            told.append(spans_of(one.receipt, await self._content(one)))
            parts.append(encode(told[-1]))
            await asyncio.sleep(0)
        body = join(parts, self._to.resource)
        return told, await asyncio.to_thread(gzip.compress, body, 1) if self._to.gzip else body

    def _headers(self) -> dict[str, str]:
        kind = "application/x-protobuf" if self._to.protobuf else "application/json"
        coded = {"content-encoding": "gzip"} if self._to.gzip else {}
        return {**self._to.headers, "content-type": kind, **coded}

    async def close(self) -> None:
        await self._door.close()


def _row(span: Span, one: Stored) -> Row:
    return Row(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        status=span.status,
        attrs={
            name: list(value) if isinstance(value, tuple) else value
            for name, value in span.attrs.items()
            if not name.endswith("_body")  # prompts are kept with the bodies, nowhere else
        },
        receipt_id=one.receipt.receipt_id,
        tenant=one.receipt.tenant,
    )
