"""The Elastic Common Schema: one JSON object a line, with what ECS has no name for below our own.

Tags are a list, since names that a caller chooses would each become a field of the index. ECS
9.4.0, as published in the npm package @elastic/ecs 9.4.0 (read 2026-11-25).
"""

from collections.abc import Mapping
from typing import Any

from modelspend import __version__
from modelspend.exporters.json_lines import json_line, without_empty
from modelspend.exporters.notice import Level, Notice
from modelspend.money import usd
from modelspend.receipt_json import iso

VERSION = "9.4.0"

SEVERITY: Mapping[Level, int] = {"info": 3, "warn": 6, "error": 8, "critical": 10}
"""As CEF counts, so that a rule means the same whatever the format."""

_DENIED = ("refused", "budget_stopped")


def line(notice: Notice) -> bytes:
    """One line without its end."""
    return json_line(document(notice))


def document(notice: Notice) -> dict[str, Any]:
    """The object that is written; money as exact decimals."""
    return without_empty(
        {
            "@timestamp": iso(notice.at_ms),
            "ecs": {"version": VERSION},
            "message": notice.message,
            "event": {
                "id": notice.uid,
                "kind": "alert" if notice.group == "finding" else "event",
                "category": _category(notice),
                "type": _type(notice),
                "action": notice.kind,
                "outcome": notice.outcome,
                "reason": notice.reason,
                "dataset": f"modelspend.{'receipt' if notice.group == 'call' else 'event'}",
                "module": "modelspend",
                "provider": "modelspend",
                "sequence": notice.seq,
                "severity": SEVERITY[notice.level],
                "duration": _ns(notice.latency_ms),
            },
            "log": {"level": notice.level},
            "observer": {
                "vendor": "modelspend",
                "product": "modelspend",
                "version": __version__,
                "type": "gateway",
            },
            "organization": {"id": notice.tenant},
            "user": {"id": notice.key_id},
            "service": {"name": notice.workflow},
            "trace": {"id": notice.trace_id},
            "span": {"id": notice.span_id},
            "cloud": {"region": notice.region},
            "http": {
                "request": {"method": None if notice.path is None else "POST"},
                "response": {"status_code": notice.http_status},
            },
            "url": {"path": notice.path},
            "error": {"type": notice.reason if notice.outcome == "failure" else None},
            "rule": {"name": notice.rule},
            "gen_ai": _gen_ai(notice),
            "modelspend": {
                "tenant": notice.tenant,
                "receipt_id": notice.receipt_id,
                "session_id": notice.session,
                "provider": notice.provider,
                "model": notice.model,
                "dialect": notice.dialect,
                "category": notice.category,
                "status": notice.status,
                "attempts": notice.attempts,
                "latency_ms": notice.latency_ms,
                "cost_usd": None if notice.cost_pico is None else usd(notice.cost_pico),
                "tags": list(notice.tags),
                "details": dict(notice.details),
            },
        }
    )


def _gen_ai(notice: Notice) -> dict[str, Any]:
    if notice.group != "call":
        return {}
    return {
        "operation": {"name": notice.operation},
        "system": notice.provider,
        "request": {"model": notice.model_asked},
        "response": {"model": notice.model},
        "usage": {"input_tokens": notice.input_tokens, "output_tokens": notice.output_tokens},
    }


def _category(notice: Notice) -> list[str]:
    """From the closed list of ECS; what has none there goes without one."""
    match notice.group:
        case "call" | "routing" | "health" | "finding":
            return ["api"]
        case "control":
            return ["configuration"]
        case "ledger":
            return ["database"]
        case "other":
            return []


def _type(notice: Notice) -> list[str]:
    """From the list that ECS has for the category."""
    match notice.group:
        case "call" if notice.status in _DENIED:
            return ["access", "denied"]
        case "call":
            return ["access", "allowed"] if notice.outcome == "success" else ["access"]
        case "routing" | "health" | "control":
            return ["change"]
        case _:
            return ["info"]


def _ns(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1_000_000)
