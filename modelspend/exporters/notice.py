"""One receipt or event as a SIEM is told of it, before any format.

Hides where each thing stands in the ledger. Prompts, answers and the words of errors, which may
repeat a prompt, are not in it. Every text is one that any format can carry: Unicode without halves
of letters (U+FFFD in their place), and short enough for an index.
"""

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal

from modelspend.events import RECEIPT, Event
from modelspend.exporters.spans import operation_of
from modelspend.receipt import Receipt, Status
from modelspend.record import record
from modelspend.store import Stored
from modelspend.store.sinks import Emission

MOST_TEXT = 32_000
"""Bytes: Lucene refuses a document with a term above 32,766."""

Level = Literal["info", "warn", "error", "critical"]
Outcome = Literal["success", "failure", "unknown"]
Group = Literal["call", "routing", "health", "finding", "control", "ledger", "other"]


@record
class Notice:
    """`uid` is the same however often it is told; `details` are an event's own data."""

    uid: str
    seq: int
    at_ms: int
    kind: str
    group: Group
    title: str
    message: str
    level: Level
    outcome: Outcome
    tenant: str | None = None
    receipt_id: str | None = None
    workflow: str | None = None
    session: str | None = None
    key_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    provider: str | None = None
    model: str | None = None
    model_asked: str | None = None
    region: str | None = None
    category: str | None = None
    status: str | None = None
    reason: str | None = None
    rule: str | None = None
    finding: str | None = None
    path: str | None = None
    dialect: str | None = None
    operation: str | None = None
    http_status: int | None = None
    attempts: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None
    cost_pico: int | None = None
    tags: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def notice_of(one: Emission) -> Notice:
    """What is told of it."""
    return _of_event(one) if isinstance(one, Event) else _of_receipt(one)


def plain(text: str) -> str:
    """The same text as Unicode has it, no longer than `MOST_TEXT`."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a half of a pair, which no encoding can carry
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        size = len(text.encode())
    return text if size <= MOST_TEXT else cut(text, MOST_TEXT)


def cut(text: str, most: int) -> str:
    """At most so many bytes of UTF-8, whole letters only; that it was cut is seen by a `…`."""
    data = text.encode()
    if len(data) <= most:
        return text
    return data[: most - 3].decode("utf-8", "ignore") + "…"


# Receipts.

_WELL = (Status.SUCCESS, Status.CACHED)
_LEVELS: Mapping[Status, Level] = {
    Status.SUCCESS: "info",
    Status.CACHED: "info",
    Status.REFUSED: "warn",
    Status.BUDGET_STOPPED: "warn",
    Status.CLIENT_DISCONNECT: "warn",
    Status.TRUNCATED: "warn",
    Status.ERROR: "error",
    Status.INTERRUPTED: "error",
}
_OUTPUT = ("output_tokens", "output_audio_tokens", "output_image_tokens")


def _of_receipt(stored: Stored) -> Notice:
    receipt, done = stored.receipt, stored.receipt.execution
    last = receipt.attempts[-1] if receipt.attempts else None
    plan = receipt.decision
    provider = last.provider if last else plan.provider if plan else None
    model = last.model_id if last else plan.model_id if plan else receipt.request.model
    at = f" at {provider}" if provider else ""
    used = _used(receipt)
    return Notice(
        uid=plain(receipt.receipt_id),
        seq=stored.seq,
        at_ms=receipt.created_at_ms,
        kind=RECEIPT,
        group="call",
        title="Model call",
        message=plain(f"A call of {receipt.tenant} to {model}{at}: {done.status}"),
        level=_LEVELS[done.status],
        outcome="success" if done.status in _WELL else "failure",
        tenant=plain(receipt.tenant),
        receipt_id=plain(receipt.receipt_id),
        workflow=_maybe(receipt.workflow),
        session=_maybe(receipt.session_id),
        key_id=_maybe(receipt.key_id),
        trace_id=_maybe(receipt.trace_id),
        span_id=_maybe(receipt.span_id),
        provider=_maybe(provider),
        model=plain(model),
        model_asked=plain(receipt.request.model),
        region=_maybe(last.region if last else None),
        category=_maybe(receipt.classification.category if receipt.classification else None),
        status=str(done.status),
        reason=None if done.status in _WELL else _why(receipt),
        path=plain(receipt.request.path),
        dialect=plain(receipt.request.dialect),
        operation=operation_of(receipt),
        http_status=done.http_status,
        attempts=len(receipt.attempts),
        input_tokens=None if used is None else used[0],
        output_tokens=None if used is None else used[1],
        latency_ms=done.actual_latency_ms,
        cost_pico=done.actual_cost_pico,
        tags=tuple(plain(f"{name}={value}") for name, value in sorted(receipt.tags.items())),
    )


def _maybe(text: str | None) -> str | None:
    return None if text is None else plain(text)


def _why(receipt: Receipt) -> str:
    last = receipt.attempts[-1].failure_class if receipt.attempts else None
    return str(last or receipt.execution.status)


def _used(receipt: Receipt) -> tuple[int, int] | None:
    """Tokens in and out, cached ones included; None where nobody has said."""
    told = [one.usage for one in receipt.attempts if one.usage.source != "none"]
    if not told:
        return None
    counts = {"in": 0, "out": 0}
    for usage in told:
        for bucket, n in usage.quantities.items():
            if bucket.endswith("_tokens"):
                counts["out" if bucket in _OUTPUT else "in"] += n
    return counts["in"], counts["out"]


# Events.

_GROUPS: tuple[tuple[str, Group], ...] = (
    ("routing.", "routing"),
    ("failover", "routing"),
    ("circuit.", "health"),
    ("provider.", "health"),
    ("budget.", "finding"),
    ("alert.", "finding"),
    ("audit.", "finding"),
    ("caller.runaway", "finding"),
    ("ledger.gap", "finding"),
    ("ledger.", "ledger"),
    ("caller.", "control"),
    ("drill.", "control"),
    ("model.", "control"),
    ("sink.", "control"),
)
_TITLES = {
    "failover": "A call went on at another provider",
    "circuit.open": "A provider is left alone",
    "circuit.half_open": "A provider is tried again",
    "circuit.recovered": "A provider answers again",
    "alert.fired": "An alert",
    "alert.escalated": "An alert is worse",
    "alert.resolved": "An alert is over",
    "budget.threshold": "A budget has passed a threshold",
    "budget.exhausted": "A budget is exhausted",
    "budget.overrun": "A call cost more than was held for it",
    "caller.runaway": "A caller is running away",
    "caller.stopped": "A caller is stopped",
    "caller.lifted": "A caller may go on",
    "ledger.gap": "The ledger was damaged and has a gap",
    "ledger.recovered": "Calls of a process that died were closed",
    "ledger.resumed": "The ledger takes writes again",
    "drill.started": "A drill has begun",
    "drill.ended": "A drill is over",
    "sink.forgotten": "A sink was let go",
    "model.promoted": "A model was promoted",
}
_EVENT_LEVELS: Mapping[str, Level] = {
    "ok": "info",
    "info": "info",
    "warn": "warn",
    "error": "error",
    "critical": "critical",
}


def _of_event(event: Event) -> Notice:
    details = {plain(name): _clean(value) for name, value in event.data.items()}
    title = _TITLES.get(event.kind, event.kind.replace(".", " ").replace("_", " ").capitalize())
    said = _text(details, "message") or ", ".join(
        f"{name} {_said(value)}" for name, value in details.items() if _told(value)
    )
    level = _EVENT_LEVELS.get(event.level, "warn")
    return Notice(
        uid=_uid(event),
        seq=event.seq,
        at_ms=event.at_ms,
        kind=plain(event.kind),
        group=next((group for start, group in _GROUPS if event.kind.startswith(start)), "other"),
        title=plain(title),
        message=plain(f"{title}: {said}" if said else title),
        level=level,
        outcome="unknown",
        tenant=_maybe(event.tenant),
        receipt_id=_maybe(event.receipt_id),
        key_id=_text(details, "key_id"),
        provider=_text(details, "provider", "to_provider"),
        model=_text(details, "model_id", "model"),
        category=_text(details, "category"),
        reason=_text(details, "reason", "why", "failure_class"),
        rule=_text(details, "rule"),
        finding=_text(details, "alert"),
        details=details,
    )


def _uid(event: Event) -> str:
    """Of its number, its time and what it is: a number alone may come again in another ledger."""
    said = f"{event.seq}\0{event.at_ms}\0{event.kind}\0{event.receipt_id or ''}"
    return "evt_" + sha256(said.encode("utf-8", "replace")).hexdigest()[:26]


def _text(details: Mapping[str, Any], *names: str) -> str | None:
    found = (details.get(name) for name in names)
    return next((text for text in found if isinstance(text, str) and text), None)


def _told(value: object) -> bool:
    return value not in (None, "", [], {})


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _clean(value: Any) -> Any:
    match value:
        case str():
            return plain(value)
        case Mapping():
            return {plain(str(name)): _clean(each) for name, each in value.items()}
        case list() | tuple():
            return [_clean(each) for each in value]
        case _:
            return value
