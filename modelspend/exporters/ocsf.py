"""The Open Cybersecurity Schema Framework: a call is API Activity, a warning a Detection Finding.

What OCSF has no class for is a Base Event, and what it has no attribute for stands in `unmapped`.
OCSF 1.3.0, the newest that the widely used lakes take; its schemas allow no unknown attribute.
"""

from collections.abc import Mapping
from typing import Any

from modelspend import __version__
from modelspend.exporters.json_lines import json_line, without_empty
from modelspend.exporters.notice import Level, Notice
from modelspend.money import usd

VERSION = "1.3.0"

API_ACTIVITY, DETECTION_FINDING, BASE_EVENT = 6003, 2004, 0
SEVERITY: Mapping[Level, tuple[int, str]] = {
    "info": (1, "Informational"),
    "warn": (3, "Medium"),
    "error": (4, "High"),
    "critical": (5, "Critical"),
}

_OTHER, _CREATE, _UPDATE, _CLOSE = 99, 1, 2, 3
_STEPS = {
    "resolved": (_CLOSE, "Close", 4, "Resolved"),
    "escalated": (_UPDATE, "Update", 1, "New"),
}
_FIRST = (_CREATE, "Create", 1, "New")


def line(notice: Notice) -> bytes:
    """One line without its end."""
    return json_line(document(notice))


def document(notice: Notice) -> dict[str, Any]:
    """The object that is written; money as exact decimals."""
    match notice.group:
        case "call" | "routing":
            own = _api_activity(notice)
        case "finding":
            own = _finding(notice)
        case _:
            own = _classed(BASE_EVENT, 0, _OTHER, notice.kind)
    severity_id, severity = SEVERITY[notice.level]
    return without_empty(
        {
            **own,
            "time": notice.at_ms,
            "severity_id": severity_id,
            "severity": severity,
            "message": notice.message,
            "metadata": {
                "version": VERSION,
                "product": {
                    "name": "modelspend",
                    "vendor_name": "modelspend",
                    "version": __version__,
                },
                "uid": notice.uid,
                "event_code": notice.kind,
                "sequence": notice.seq,
                "tenant_uid": notice.tenant,
                "correlation_uid": notice.trace_id,
                "labels": list(notice.tags),
            },
            "unmapped": _unmapped(notice),
        }
    )


def _classed(class_uid: int, category_uid: int, activity_id: int, name: str) -> dict[str, Any]:
    return {
        "class_uid": class_uid,
        "category_uid": category_uid,
        "activity_id": activity_id,
        "activity_name": name,
        "type_uid": class_uid * 100 + activity_id,
    }


def _api_activity(notice: Notice) -> dict[str, Any]:
    """The caller is named by its tenant: addresses are not kept."""
    status = {"success": (1, "Success"), "failure": (2, "Failure"), "unknown": (0, "Unknown")}
    status_id, said = status[notice.outcome]
    tenant = notice.tenant or "unknown"
    return {
        **_classed(API_ACTIVITY, 6, _OTHER, "Call" if notice.group == "call" else notice.kind),
        "status_id": status_id,
        "status": said,
        "status_code": None if notice.http_status is None else str(notice.http_status),
        "status_detail": notice.reason,
        "duration": None if notice.latency_ms is None else round(notice.latency_ms),
        "actor": {
            "app_name": notice.workflow,
            "user": {"uid": notice.key_id or tenant, "org": {"uid": tenant}},
            "session": {"uid": notice.session},
        },
        "src_endpoint": {"name": notice.workflow or tenant, "svc_name": notice.workflow},
        "api": {
            "operation": f"POST {notice.path}" if notice.path else notice.kind,
            "service": {"name": notice.provider},
            "request": {"uid": notice.receipt_id},
            "response": {"code": notice.http_status, "error": notice.reason}
            if notice.outcome == "failure"
            else {"code": notice.http_status},
        },
    }


def _finding(notice: Notice) -> dict[str, Any]:
    """An alert is one finding from its first event to its last."""
    activity, said, status_id, status = _STEPS.get(notice.kind.rpartition(".")[2], _FIRST)
    return {
        **_classed(DETECTION_FINDING, 2, activity, said),
        "status_id": status_id,
        "status": status,
        "finding_info": {
            "uid": notice.finding or notice.uid,
            "title": notice.title,
            "desc": notice.message,
            "types": [notice.kind],
            "created_time": notice.at_ms,
            "analytic": {"type_id": 1, "type": "Rule", "name": notice.rule}
            if notice.rule
            else None,
        },
    }


def _unmapped(notice: Notice) -> dict[str, Any]:
    return {
        "receipt_id": notice.receipt_id,
        "workflow": notice.workflow,
        "session_id": notice.session,
        "key_id": notice.key_id,
        "provider": notice.provider,
        "model": notice.model,
        "model_asked": notice.model_asked,
        "region": notice.region,
        "category": notice.category,
        "dialect": notice.dialect,
        "status": notice.status,
        "reason": notice.reason,
        "rule": notice.rule,
        "attempts": notice.attempts,
        "input_tokens": notice.input_tokens,
        "output_tokens": notice.output_tokens,
        "cost_usd": None if notice.cost_pico is None else usd(notice.cost_pico),
        "details": dict(notice.details),
    }
