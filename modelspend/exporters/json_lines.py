"""One JSON object on one line, whatever takes lines apart.

JSON may hold U+0085, U+2028 and U+2029 as they are, and some readers end a line there; escaped
they are the same text to every parser.
"""

from collections.abc import Mapping
from typing import Any

from modelspend.money import dumps

_ENDS = (
    (b"\x7f", b"\\u007f"),
    ("\x85".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def json_line(shape: Mapping[str, Any]) -> bytes:
    """UTF-8 without a byte-order mark and without an end of line; money digit by digit."""
    said = dumps(shape)
    for raw, escaped in _ENDS:
        said = said.replace(raw, escaped)
    return said


def without_empty(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what says nothing: null, empty objects, empty lists."""
    kept = {}
    for name, value in shape.items():
        told = without_empty(value) if isinstance(value, Mapping) else value
        if told is not None and told != {} and told != []:
            kept[name] = told
    return kept
