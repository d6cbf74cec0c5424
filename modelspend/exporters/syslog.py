"""RFC 5424 messages, and RFC 6587's octet counting, which lets a message hold any byte.

Header fields hold printable ASCII alone, so what else they would hold is `_`. There is no mark of
the byte order before the text: it is optional, and readers of CEF and JSON look for what they know.
https://www.rfc-editor.org/rfc/rfc5424 (read 2026-11-22)
"""

import re
from collections.abc import Iterable, Mapping

from modelspend.exporters.notice import Level
from modelspend.receipt_json import iso
from modelspend.record import record

SEVERITY: Mapping[Level, int] = {"info": 6, "warn": 4, "error": 3, "critical": 2}
LOG_AUDIT = 13
NIL = "-"

_NOT_PRINTED = re.compile(r"[^\x21-\x7e]")
_NOT_IN_NAME = re.compile(r"[^\x21-\x7e]|[=\]\"]")
_VALUE = str.maketrans({"\\": "\\\\", '"': '\\"', "]": "\\]"})
_MOST_SEQUENCE = 2_147_483_647

Params = Mapping[str, str]


@record
class Sender:
    """What a receiver is told of who sends. `facility` is 0 to 23."""

    host: str
    app: str = "modelspend"
    process: str = NIL
    version: str = ""
    facility: int = LOG_AUDIT


def message(text: bytes, sender: Sender, *, at_ms: int, level: Level, kind: str, seq: int) -> bytes:
    """One message around a text; `kind` is its MSGID."""
    priority = sender.facility * 8 + SEVERITY[level]
    head = " ".join(
        (
            f"<{priority}>1",
            iso(at_ms),
            _field(sender.host, 255),
            _field(sender.app, 48),
            _field(sender.process, 128),
            _field(kind, 32),
        )
    )
    data = structured(
        (
            ("origin", {"software": sender.app, "swVersion": sender.version}),
            ("meta", {"sequenceId": str((seq - 1) % _MOST_SEQUENCE + 1)}),
        )
    )
    return f"{head} {data} ".encode() + text


def structured(elements: Iterable[tuple[str, Params]]) -> str:
    """STRUCTURED-DATA; `-` when there is none."""
    said = "".join(f"[{_name(name)}{_params(params)}]" for name, params in elements)
    return said or NIL


def octets(said: bytes) -> bytes:
    """A frame for TCP and TLS: how many bytes, a space, the message."""
    return b"%d %b" % (len(said), said)


def _params(params: Params) -> str:
    return "".join(f' {_name(name)}="{text.translate(_VALUE)}"' for name, text in params.items())


def _name(name: str) -> str:
    return _NOT_IN_NAME.sub("_", name)[:32] or "_"


def _field(text: str, most: int) -> str:
    return _NOT_PRINTED.sub("_", text)[:most] or NIL
