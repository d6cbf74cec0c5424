"""Rules against runaways: too much money a minute, or the same request over and over.

A cap says how much, these say how fast. They look at what this process has seen, in memory: a
restart forgives, a cap does not. What was stopped for good is a row in the ledger.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from modelspend.money import usd_text
from modelspend.record import record

MINUTE_MS = 60_000
_MOST_NAMES = 10_000
_MOST_REQUESTS = 1_000


@record
class Limit:
    """`name` is `*` for each one. `kills`: what trips is stopped until an operator lifts it."""

    rule: str
    scope: str
    name: str = "*"
    pico_per_minute: int | None = None
    repeats: int | None = None
    within_ms: int = 300_000
    kills: bool = False


@record
class Trip:
    """A rule that a call has run into. `first` is true until the one it names has calmed down."""

    limit: Limit
    name: str
    why: str
    first: bool


class _Pace:
    """What one name has spent in the last minute."""

    def __init__(self) -> None:
        self._spent: deque[tuple[int, int]] = deque()
        self._sum = 0
        self.tripped = False

    def add(self, pico: int, now_ms: int) -> None:
        self._spent.append((now_ms, pico))
        self._sum += pico

    def pico(self, now_ms: int) -> int:
        while self._spent and not now_ms - MINUTE_MS < self._spent[0][0] <= now_ms + MINUTE_MS:
            self._sum -= self._spent.popleft()[1]
        return self._sum


class _Echo:
    """The requests of one name, and when each was made."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[int]] = OrderedDict()
        self.tripped: set[str] = set()

    def count(self, digest: str, now_ms: int, limit: Limit) -> int:
        times = self._times.setdefault(digest, deque(maxlen=limit.repeats))
        self._times.move_to_end(digest)
        while times and not now_ms - limit.within_ms < times[0] <= now_ms + limit.within_ms:
            times.popleft()
        times.append(now_ms)
        if len(self._times) > _MOST_REQUESTS:
            self.tripped.discard(self._times.popitem(last=False)[0])
        return len(times)


class Runaways:
    """Watches calls by the rules that are in force; falsy when there are none."""

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self.limits = tuple(limits)
        self._paces: OrderedDict[tuple[str, str], _Pace] = OrderedDict()
        self._echoes: OrderedDict[tuple[str, str], _Echo] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.limits)

    def met(self, who: Mapping[Any, Sequence[str]], digest: str, now_ms: int) -> Trip | None:
        """The first rule that a call runs into; `digest` is that of its request."""
        for limit, name in self._applying(who):
            trip = self._too_fast(limit, name, now_ms) or self._loops(limit, name, digest, now_ms)
            if trip is not None:
                return trip
        return None

    def spent(self, who: Mapping[Any, Sequence[str]], pico: int, now_ms: int) -> None:
        """A call was charged so much."""
        for limit, name in self._applying(who):
            if limit.pico_per_minute is not None and pico:
                _of(self._paces, (limit.rule, name), _Pace).add(pico, now_ms)

    def _applying(self, who: Mapping[Any, Sequence[str]]) -> Iterator[tuple[Limit, str]]:
        for limit in self.limits:
            for name in who.get(limit.scope, ()):
                if limit.name in ("*", name):
                    yield limit, name

    def _too_fast(self, limit: Limit, name: str, now_ms: int) -> Trip | None:
        if limit.pico_per_minute is None:
            return None
        pace = _of(self._paces, (limit.rule, name), _Pace)
        spent = pace.pico(now_ms)
        first, pace.tripped = not pace.tripped, spent >= limit.pico_per_minute
        if not pace.tripped:
            return None
        why = (
            f"it has spent ${usd_text(spent)} within a minute; limits.{limit.rule} allows"
            f" ${usd_text(limit.pico_per_minute)}"
        )
        return Trip(limit=limit, name=name, why=why, first=first)

    def _loops(self, limit: Limit, name: str, digest: str, now_ms: int) -> Trip | None:
        if limit.repeats is None:
            return None
        echo = _of(self._echoes, (limit.rule, name), _Echo)
        count = echo.count(digest, now_ms, limit)
        if count < limit.repeats:
            echo.tripped.discard(digest)
            return None
        first = digest not in echo.tripped
        echo.tripped.add(digest)
        why = (
            f"it has sent the same request {count} times within {limit.within_ms // 1000} s, which"
            f" limits.{limit.rule} takes for a loop"
        )
        return Trip(limit=limit, name=name, why=why, first=first)


T = TypeVar("T")


def _of(kept: "OrderedDict[tuple[str, str], T]", key: tuple[str, str], new: type[T]) -> T:
    found = kept.get(key)
    if found is None:
        found = kept[key] = new()
        if len(kept) > _MOST_NAMES:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return found
