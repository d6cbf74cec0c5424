"""A cassette: an app's own calls and their answers, as one readable file of JSON lines.

The first line says what the file is, each other one is a call. Headers are not on it, so no key is;
the values of known secrets are masked in bodies, too. What a reader would not guess: a request is
found by its path and its very bytes, and one that was recorded twice is played twice, in order.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any

import orjson

from modelspend.money import dumps
from modelspend.record import record

VERSION = 1
TEST_TAG = "test"
_MASK = b"***"
_LEAST_SECRET = 8


@record
class Entry:
    """One call: what was asked, the answer's very bytes, and what its receipt said of it.

    `cost_usd` is null when unknown; `tokens` are all that were billed; `cached` tells whether a
    cache, the provider's or ours, gave a part of it.
    """

    path: str
    dialect: str
    model: str
    stream: bool
    request: bytes
    status: int
    content_type: str
    answer: bytes
    test: str = ""
    served_by: str = ""
    cost_usd: Decimal | None = None
    tokens: int = 0
    cached: bool = False
    latency_ms: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        return self.path, sha256(self.request).hexdigest()


@record
class Cassette:
    entries: tuple[Entry, ...]
    recorded_at: str = ""
    secrets: Sequence[bytes] = field(default=(), repr=False)


def masked(body: bytes, secrets: Iterable[bytes]) -> bytes:
    """A body without the values of some secrets; too short ones are no secrets."""
    for secret in secrets:
        if len(secret) >= _LEAST_SECRET:
            body = body.replace(secret, _MASK)
    return body


def written(cassette: Cassette) -> Iterator[bytes]:
    """The lines of a file, secrets masked."""
    calls = len(cassette.entries)
    head = {"cassette": VERSION, "recorded_at": cassette.recorded_at, "calls": calls}
    yield dumps(head) + b"\n"
    for n, entry in enumerate(cassette.entries, 1):
        request, answer = (masked(body, cassette.secrets) for body in (entry.request, entry.answer))
        shape = {
            "n": n,
            "test": entry.test,
            "path": entry.path,
            "dialect": entry.dialect,
            "model": entry.model,
            "stream": entry.stream,
            **_said("request", request),
            "status": entry.status,
            "content_type": entry.content_type,
            **_said("answer", answer),
            "served_by": entry.served_by,
            "cost_usd": entry.cost_usd,
            "tokens": entry.tokens,
            "cached": entry.cached,
            "latency_ms": entry.latency_ms,
        }
        yield dumps(shape) + b"\n"


def read(data: bytes) -> Cassette:
    """The cassette of a file. Raises ValueError with the line that is none of one."""
    lines = data.splitlines()
    try:
        head = _loads(lines[0])
        version = head["cassette"]
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError("its first line does not say that it is a cassette") from None
    if version != VERSION:
        raise ValueError(f"it is of version {version}; this program reads version {VERSION}")
    entries = []
    for number, line in enumerate(lines[1:], 2):
        try:
            entries.append(_entry(_loads(line)))
        except (KeyError, TypeError, ValueError, ArithmeticError):
            why = f"line {number} is no call, or a hash in it is not that of its body"
            raise ValueError(why) from None
    return Cassette(entries=tuple(entries), recorded_at=str(head.get("recorded_at", "")))


class Player:
    """Gives each recorded answer once, to the request that it was recorded for."""

    def __init__(self, cassette: Cassette) -> None:
        self._entries = cassette.entries
        self._left: dict[tuple[str, str], list[int]] = {}
        for number, entry in enumerate(cassette.entries):
            self._left.setdefault(entry.key, []).append(number)

    @property
    def unplayed(self) -> int:
        return sum(map(len, self._left.values()))

    def peek(self, path: str, body: bytes) -> tuple[int, Entry] | None:
        """(number from 1, entry) of the answer to a request; None when there is none left."""
        numbers = self._left.get((path, sha256(body).hexdigest()))
        return (numbers[0] + 1, self._entries[numbers[0]]) if numbers else None

    def take(self, entry: Entry) -> None:
        """It has been played."""
        self._left[entry.key].pop(0)

    def missed(self, path: str, body: bytes) -> str:
        """What is nearest to a request that is not there: places in its body, never its words."""
        same = [n for n, each in enumerate(self._entries, 1) if each.key == _key(path, body)]
        if same:
            return f"it was recorded {len(same)} times (call {same[-1]} was the last), and no more"
        near = [(n, each) for n, each in enumerate(self._entries, 1) if each.path == path]
        if not near:
            paths = ", ".join(sorted({each.path for each in self._entries})) or "none"
            return f"no call of this path was recorded; recorded paths: {paths}"
        asked = _json(body)
        told = [(_places_apart(_json(each.request), asked), n) for n, each in near]
        places, n = min(told, key=lambda found: (len(found[0]), found[1]))
        some = ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
        return f"the nearest is call {n}, which differs in {some or 'its bytes alone'}"


# Two cassettes side by side.


@record
class Sums:
    """What the calls of a test come to. `cost_usd` is null as soon as one is not known."""

    calls: int
    tokens: int
    cost_usd: Decimal | None
    cache_hits: int


METRICS = ("cost", "tokens", "calls", "cache_hits")


def sums(entries: Iterable[Entry]) -> Sums:
    found = tuple(entries)
    costs = [each.cost_usd for each in found]
    known = [cost for cost in costs if cost is not None]
    return Sums(
        calls=len(found),
        tokens=sum(each.tokens for each in found),
        cost_usd=sum(known, Decimal(0)) if len(known) == len(costs) else None,
        cache_hits=sum(each.cached for each in found),
    )


def compared(before: Cassette, after: Cassette) -> list[tuple[str, Sums, Sums]]:
    """(test, before, after) of every test in either, by name; all of them together come last."""
    tests = sorted({each.test for each in (*before.entries, *after.entries)})
    rows = [
        (
            test,
            sums(each for each in before.entries if each.test == test),
            sums(each for each in after.entries if each.test == test),
        )
        for test in tests
    ]
    return [*rows, ("total", sums(before.entries), sums(after.entries))]


_GATE = re.compile(
    r"\s*(cost|tokens|calls|cache_hits)\s*(>=|<=|>|<)\s*([+-]?)\s*\$?(\d{1,12}(?:\.\d{1,12})?)\s*(%?)\s*"
)


@record
class Gate:
    """`change` compares the difference, in per cent of what was when `share`, else the new sum."""

    text: str
    metric: str
    compare: str
    limit: Fraction
    share: bool
    change: bool

    def holds(self, before: Sums, after: Sums) -> bool:
        """Whether the condition is met, and so fails; a cost that is not known passes no gate."""
        was, now = self._figure(before), self._figure(after)
        if was is None or now is None:
            return True
        limit, figure = self.limit, now
        if self.change:
            figure = now - was
            limit = self.limit * was / 100 if self.share else self.limit
        return {
            ">": figure > limit,
            ">=": figure >= limit,
            "<": figure < limit,
            "<=": figure <= limit,
        }[self.compare]

    def _figure(self, of: Sums) -> Fraction | None:
        found = of.cost_usd if self.metric == "cost" else getattr(of, self.metric)
        return None if found is None else Fraction(found)


def gate(text: str) -> Gate:
    """A gate as it is typed: `cost>+5%`, `calls>20`. Raises ValueError with what to write."""
    found = _GATE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no condition: write {', '.join(METRICS)}, then > >= < or <=, then a"
            " number or a per cent, such as cost>+5% or calls>20"
        )
    metric, compare, sign, number, share = found.groups()
    return Gate(
        text=text.strip(),
        metric=metric,
        compare=compare,
        limit=Fraction(number) * (-1 if sign == "-" else 1),
        share=bool(share),
        change=bool(sign or share),
    )


def _said(name: str, body: bytes) -> dict[str, Any]:
    digest = {f"{name}_sha256": sha256(body).hexdigest()}
    try:
        return {**digest, name: body.decode()}
    except UnicodeDecodeError:
        return {**digest, f"{name}_base64": b64encode(body).decode()}


def _heard(name: str, shape: Mapping[str, Any]) -> bytes:
    coded = shape.get(f"{name}_base64")
    body = shape[name].encode() if coded is None else b64decode(coded)
    if sha256(body).hexdigest() != shape[f"{name}_sha256"]:
        raise ValueError(f"the {name} is not what was recorded")
    return bytes(body)


def _entry(shape: Mapping[str, Any]) -> Entry:
    cost = shape["cost_usd"]
    return Entry(
        path=shape["path"],
        dialect=shape["dialect"],
        model=shape["model"],
        stream=shape["stream"],
        request=_heard("request", shape),
        status=shape["status"],
        content_type=shape["content_type"],
        answer=_heard("answer", shape),
        test=shape["test"],
        served_by=shape["served_by"],
        cost_usd=None if cost is None else Decimal(cost),
        tokens=shape["tokens"],
        cached=shape["cached"],
        latency_ms=float(shape["latency_ms"]),
    )


def _loads(line: bytes) -> Any:
    return json.loads(line, parse_float=Decimal)


def _key(path: str, body: bytes) -> tuple[str, str]:
    return path, sha256(body).hexdigest()


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _places_apart(one: Any, other: Any, at: str = "") -> list[str]:
    """The dotted places at which two JSON values differ."""
    if type(one) is type(other) and isinstance(one, dict):
        return [
            place
            for key in dict.fromkeys((*one, *other))
            for place in _places_apart(one.get(key), other.get(key), f"{at}.{key}" if at else key)
        ]
    if type(one) is type(other) and isinstance(one, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [place for n, pair in pairs for place in _places_apart(*pair, f"{at}.{n}")]
    return [] if one == other else [at or "the body"]
