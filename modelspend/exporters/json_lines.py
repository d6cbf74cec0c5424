"""One JSON object on one line, whatever takes lines apart.

JSON may hold U+0085, U+2028, U+2029 and other controls above ASCII's as they are. Some readers end
a line there, and terminals obey; escaped they are the same text to every parser.
"""

import re
from collections.abc import Mapping
from typing import Any

from modelspend.money import dumps

_RAW = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")


def json_line(shape: Mapping[str, Any]) -> bytes:
    """UTF-8 without a byte-order mark and without an end of line; money digit by digit."""
    return _RAW.sub(_escaped, dumps(shape))


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


def without_empty(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what says nothing: null, empty objects, empty lists."""
    kept = {}
    for name, value in shape.items():
        told = without_empty(value) if isinstance(value, dict) else value
        if told is not None and told != {} and told != []:
            kept[name] = told
    return kept
