"""The formats that SIEMs read, by the names that they are asked for."""

from collections.abc import Callable, Mapping
from typing import Literal

from modelspend.exporters import cef, ecs, ocsf
from modelspend.exporters.notice import Notice
from modelspend.record import record

Name = Literal["cef", "ecs", "ocsf"]


@record
class Format:
    """`line` says a notice on one line, without its end."""

    line: Callable[[Notice], bytes]
    suffix: str
    media_type: str


FORMATS: Mapping[Name, Format] = {
    "cef": Format(line=cef.line, suffix="cef", media_type="text/plain; charset=utf-8"),
    "ecs": Format(line=ecs.line, suffix="jsonl", media_type="application/x-ndjson"),
    "ocsf": Format(line=ocsf.line, suffix="jsonl", media_type="application/x-ndjson"),
}
