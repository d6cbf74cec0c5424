"""What a query asks of a listing: names that are known, numbers that are whole, words for times.

A parameter that no handler takes is refused: what is misspelt must not be taken for everything.
"""

from collections.abc import Sequence

from aiohttp import web

from modelspend import periods
from modelspend.errors import Usage

MOST = 1000
_DIGITS = 18


class Asked:
    """The query of a request. Raises Usage for what is not in `known`."""

    def __init__(self, request: web.Request, *known: str) -> None:
        self._said = dict(request.query)
        unknown = sorted(self._said.keys() - set(known))
        if unknown:
            raise Usage(f"Unknown parameter {unknown[0]!r}.", f"Known: {', '.join(known)}.")

    def text(self, name: str) -> str | None:
        return self._said.get(name) or None

    def one_of(self, name: str, words: Sequence[str]) -> str | None:
        said = self.text(name)
        if said is not None and said not in words:
            raise Usage(f"{name} cannot be {said!r}.", f"Write one of: {', '.join(words)}.")
        return said

    def number(self, name: str) -> int | None:
        said = self.text(name)
        return None if said is None else whole_number(name, said)

    def limit(self, default: int = 50) -> int:
        said = self.number("limit")
        return default if said is None else min(said, MOST)

    def instant(self, name: str, now_ms: int) -> int | None:
        said = self.text(name)
        if said is None:
            return None
        try:
            return periods.instant(said, now_ms, end=name == "until")
        except ValueError as error:
            raise Usage(f"{name}: {error}.") from None


def whole_number(name: str, said: str) -> int:
    """Raises Usage for anything else."""
    if not (said.isascii() and said.isdigit()) or len(said) > _DIGITS:
        raise Usage(f"{name} must be a whole number, not {said!r}.", f"Write {name}=50.")
    return int(said)
