r"""ArcSight's Common Event Format: one line, whose header and extension do not escape alike.

A header escapes `\` and `|`, a value of the extension `\`, `=` and ends of lines, and no other way
round. The format has no words for what else ends a line or a text somewhere (NUL, other controls,
U+0085, U+2028, U+2029); it stands there as `\uXXXX`, and a `\uXXXX` that was there already as
`\u005cuXXXX`, so that `read_back` has the very text again. Source: Micro Focus Security ArcSight
Common Event Format, version 25 (escapes and lengths), read 2026-11-22.
"""

import re
from collections.abc import Iterator, Mapping

from modelspend import __version__
from modelspend.exporters.notice import Level, Notice, cut
from modelspend.money import usd_text

MOST_LINE = 3_840
"""Bytes: QRadar takes 4096, of which a syslog header needs some."""

SEVERITY: Mapping[Level, int] = {"info": 3, "warn": 6, "error": 8, "critical": 10}

_VENDOR = _PRODUCT = "modelspend"
_SPARED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]|\\\\(?=u[0-9a-f]{4})")
_IN_HEADER = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]|\\\\(?=u[0-9a-f]{4})")
_BACK = re.compile(r"\\u([0-9a-f]{4})")
_VALUE = str.maketrans({"\\": "\\\\", "=": "\\=", "\n": "\\n", "\r": "\\r"})
_HEADER = str.maketrans({"\\": "\\\\", "|": "\\|"})

LIMITS: Mapping[str, int] = {
    "externalId": 40,
    "act": 63,
    "outcome": 63,
    "cat": 1023,
    "reason": 1023,
    "msg": 1023,
    "suid": 1023,
    "request": 1023,
    "requestMethod": 63,
    "sourceServiceName": 1023,
    **{f"cs{n}": 4000 for n in range(1, 7)},
}
"""Bytes of a text before it is escaped: never more than the letters that ArcSight has room for."""

_FREE = {"reason", "suid", "sourceServiceName", "request", "msg", *(f"cs{n}" for n in range(1, 7))}
"""What others have written, and may have written at any length."""


def line(notice: Notice) -> bytes:
    """One line without its end. Where it would pass `MOST_LINE`, long texts are cut further."""
    for most in (4000, 1000, 250, 60, 15):
        said = _line(notice, most)
        if len(said) <= MOST_LINE:
            break
    return said


def header(text: str, most: int) -> str:
    """A field of the header: cut, then escaped, so that no escape is ever cut."""
    return _IN_HEADER.sub(_spelled, cut(text, most)).translate(_HEADER)


def value(text: str, most: int) -> str:
    """A value of the extension: cut, then escaped."""
    return _SPARED.sub(_spelled, cut(text, most)).translate(_VALUE)


def read_back(text: str) -> str:
    r"""What `\uXXXX` stands for, in a text that a CEF parser has given."""
    return _BACK.sub(lambda found: chr(int(found[1], 16)), text)


def _spelled(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _line(notice: Notice, most: int) -> bytes:
    fields = (
        (_VENDOR, 63),
        (_PRODUCT, 63),
        (__version__, 31),
        (notice.kind, 1023),
        (notice.title, 512),
    )
    head = "|".join(header(text, limit) for text, limit in fields)
    told = (f"{key}={value(text, _limit(key, most))}" for key, text in _pairs(notice))
    return f"CEF:0|{head}|{SEVERITY[notice.level]}|{' '.join(told)}".encode()


def _limit(key: str, most: int) -> int:
    limit = LIMITS.get(key, 1023)
    return min(limit, most) if key in _FREE else limit


def _pairs(notice: Notice) -> Iterator[tuple[str, str]]:
    """In one order for all; a label before what it names, and a number at the end, so that no
    reader who trims lines takes a space off a text."""
    yield "rt", str(notice.at_ms)
    yield "externalId", notice.uid
    yield "cat", notice.kind
    yield "act", _action(notice.kind)
    if notice.outcome != "unknown":
        yield "outcome", notice.outcome
    plain = (
        ("reason", notice.reason),
        ("suid", notice.key_id),
        ("sourceServiceName", notice.workflow),
        ("requestMethod", None if notice.path is None else "POST"),
        ("request", notice.path),
        ("msg", notice.message),
    )
    yield from ((key, text) for key, text in plain if text)
    named = (
        ("cs1", "tenant", notice.tenant),
        ("cs2", "model", notice.model),
        ("cs3", "provider", notice.provider),
        ("cs4", "category", notice.category),
        ("cs5", "traceId", notice.trace_id),
        ("cs6", *_sixth(notice)),
        ("cn1", "inputTokens", _digits(notice.input_tokens)),
        ("cn2", "outputTokens", _digits(notice.output_tokens)),
        ("cn3", "latencyMs", _digits(notice.latency_ms)),
        ("cfp1", "costUsd", None if notice.cost_pico is None else usd_text(notice.cost_pico)),
        ("flexNumber1", "sequence", str(notice.seq)),
    )
    for key, label, text in named:
        if text:
            yield f"{key}Label", label
            yield key, text


def _sixth(notice: Notice) -> tuple[str, str | None]:
    """Six texts are all that there are: an event's rule, or the model that a call asked for."""
    if notice.rule is not None:
        return "ruleId", notice.rule
    asked = notice.model_asked if notice.model_asked != notice.model else None
    return ("modelAsked", asked) if asked else ("receiptId", _other_receipt(notice))


def _other_receipt(notice: Notice) -> str | None:
    return notice.receipt_id if notice.receipt_id != notice.uid else None


def _digits(number: float | None) -> str | None:
    return None if number is None else str(round(number))


def _action(kind: str) -> str:
    return "call" if kind == "receipt.created" else kind.rpartition(".")[2]
