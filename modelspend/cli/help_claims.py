"""`help claims`: what the public pages of this product say, and what makes each sentence true.

Made of one file, `claims.toml`, in which a test looks up everything that is named. What is not
there yet is said, with what is there already.
"""

import tomllib
from pathlib import Path
from textwrap import wrap
from typing import Any

from modelspend.cli.help import TITLE

_FILE = Path(__file__).with_name("claims.toml")
_WIDTH = 96


def pages() -> list[dict[str, Any]]:
    """Each page with its claims: `says`, `by`, and where something is not there yet `later`
    and `waits_for`."""
    found: list[dict[str, Any]] = tomllib.loads(_FILE.read_text("utf-8"))["page"]
    return found


def text() -> str:
    """The topic, as Markdown."""
    claims = [claim for page in pages() for claim in page["claim"]]
    waiting = sum("later" in claim for claim in claims)
    lines = [
        f"# {TITLE}",
        "",
        *wrap(
            f"{len(claims)} claims; {waiting} of them are not, or not wholly, true yet, and say so."
            " Whatever is named below is looked up by a test in every build: a constant with its"
            " value, a table of the ledger, a command, a route, a setting, a field of a receipt.",
            _WIDTH,
        ),
    ]
    for page in pages():
        lines += ["", f"## {page['name']}"]
        for claim in page["claim"]:
            lines += ["", *_claim(claim)]
    return "\n".join(lines) + "\n"


def _claim(claim: dict[str, Any]) -> list[str]:
    lines = wrap(f"“{claim['says']}”", _WIDTH)
    if "by" in claim:
        lines += _below(", ".join(claim["by"]))
    if "later" in claim:
        lines += _below(f"not yet: {claim['later']} ({', '.join(claim['waits_for'])})")
    return lines


def _below(what: str) -> list[str]:
    return wrap(what, _WIDTH, initial_indent="    ", subsequent_indent="    ")
