"""Texts that take formats apart, receipts and events made of them, and readers for what is written.

The readers are written from the formats' own documents and share nothing with what writes.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelspend.events import Event
from modelspend.receipt import Candidate, Classification, Receipt
from modelspend.store import Stored

TRAPS = (
    "\\", "\\\\", "=", "|", "\n", "\r", "\r\n", "\0", "\t", "\x0b", "\x0c", "\x1b[31m", "\x1c",
    "\x1d", "\x1e", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\ufeff", "\u202e", '"', "'",
    "]", ",", ";", " ", "  ", " cs1=", " msg=", "\\n", "\\r", "\\=", "\\u0000", "\\u2028",
    "\\u005cu0000", "u0041",
    "CEF:0|a|b|", "{", "}", "<", "&", "=1+1", "+1", "-2+3", "@SUM(A1)", "＝1", "é", "ß", "日本",
    "😀", "e\u0301", "👩‍👩‍👧", "%s", "null",
)  # fmt: skip


def texts(seed: int) -> Iterator[str]:
    """One after another without an end; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        parts = (
            rng.choice(TRAPS) if rng.random() < 0.6 else _letters(rng)
            for _ in range(rng.randint(1, 6))
        )
        yield "".join(parts)


def _letters(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return "".join(chr(rng.randint(0x20, 0x7E)) for _ in range(rng.randint(1, 8)))
    if kind < 0.7:
        return chr(rng.randint(0, 0x1F))
    while 0xD800 <= (point := rng.randint(0x80, 0x10FFFF)) <= 0xDFFF:
        pass
    return chr(point)


def hostile_receipt(receipt: Receipt, said: Iterator[str]) -> Receipt:
    """With nine texts of a stranger's where a stranger can put some."""
    attempts = tuple(
        replace(one, provider=next(said), model_id=next(said), region=next(said))
        for one in receipt.attempts[:1]
    )
    return replace(
        receipt,
        tenant=next(said),
        workflow=next(said),
        session_id=next(said),
        tags={"k": next(said)},
        request=replace(receipt.request, model=next(said), path="/v1/" + next(said)),
        classification=Classification(
            category="chat", confidence=0.5, complexity=0.5, tier="simple", risk_signals={}
        ),
        candidates=(Candidate(model_id="m", provider="p"),),
        attempts=attempts,
    )


def stored(receipt: Receipt, seq: int = 1) -> Stored:
    return Stored(receipt, seq, "0" * 64, True)


def hostile_event(said: Iterator[str], seq: int = 1) -> Event:
    data: dict[str, Any] = {
        "provider": next(said),
        "why": next(said),
        "rule": next(said),
        "several": [next(said)],
    }
    return Event(
        kind="budget.exhausted",
        at_ms=1_795_000_000_000,
        level="critical",
        tenant=next(said),
        data=data,
        seq=seq,
    )


# CEF, as its specification has it.

_KEY = re.compile(r"(?:^| )([A-Za-z0-9_]+)=")
_ESCAPED = {"\\": "\\", "=": "=", "n": "\n", "r": "\r"}


def read_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """The seven fields of the header behind the version, and the extension. Raises ValueError."""
    fields, field, at = [], "", 0
    while len(fields) < 7:
        letter = line[at]
        if letter == "\\":
            if line[at + 1] not in "\\|":
                raise ValueError(f"no escape of a header: {line[at : at + 2]!r}")
            field, at = field + line[at + 1], at + 2
        elif letter == "|":
            fields, field, at = [*fields, field], "", at + 1
        else:
            field, at = field + letter, at + 1
    if fields.pop(0) != "CEF:0":
        raise ValueError("no CEF")
    return fields, _extension(line[at:])


def _extension(text: str) -> dict[str, str]:
    """A key is what stands before an `=` that is not escaped, back to a space."""
    found = [one for one in _KEY.finditer(text) if not _escaped(text, one.end() - 1)]
    if not found or found[0].start() != 0:
        raise ValueError(f"no key at the beginning: {text[:40]!r}")
    values = {}
    for one, following in zip(found, [*found[1:], None], strict=True):
        raw = text[one.end() : following.start() if following else len(text)]
        if one[1] in values:
            raise ValueError(f"{one[1]} twice")
        values[one[1]] = _unescaped(raw)
    return values


def _escaped(text: str, at: int) -> bool:
    before = len(text[:at]) - len(text[:at].rstrip("\\"))
    return before % 2 == 1


def _unescaped(raw: str) -> str:
    said, at = "", 0
    while at < len(raw):
        if raw[at] == "\\":
            said, at = said + _ESCAPED[raw[at + 1]], at + 2
        elif raw[at] in "=\n\r":
            raise ValueError(f"not escaped: {raw[at]!r}")
        else:
            said, at = said + raw[at], at + 1
    return said


# RFC 5424, in frames of RFC 6587.

_ELEMENT = rb'\[[^ =\]"\x00-\x20]{1,32}(?: [^ =\]"\x00-\x20]{1,32}="(?:[^"\\\]]|\\.)*")*\]'
_MESSAGE = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z)"
    rb" (?P<host>[\x21-\x7e]{1,255}) (?P<app>[\x21-\x7e]{1,48}) (?P<proc>[\x21-\x7e]{1,128})"
    rb" (?P<id>[\x21-\x7e]{1,32}) (?P<data>-|(?:" + _ELEMENT + rb")+) (?P<text>.*)",
    re.DOTALL,
)


def read_frames(data: bytes) -> list[bytes]:
    """The messages of a stream of whole frames. Raises ValueError."""
    messages = []
    while data:
        length, space, rest = data.partition(b" ")
        if not space or length.startswith(b"0") or len(rest) < int(length):
            raise ValueError(f"no frame: {data[:40]!r}")
        messages.append(rest[: int(length)])
        data = rest[int(length) :]
    return messages


def read_message(message: bytes) -> dict[str, bytes]:
    found = _MESSAGE.fullmatch(message)
    if found is None:
        raise ValueError(f"no message of RFC 5424: {message[:120]!r}")
    return found.groupdict()
