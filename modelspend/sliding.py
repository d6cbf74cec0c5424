"""The last hour or day of calls, kept added up while it moves along with the clock.

Hides what has to be read for that: only what has come since the last time, and what has grown too
old. Receipts never change and their numbers only rise, so a window is exactly those up to a number
that began within a time; each of its three edges moves by itself and little by little, and
wherever one stops the sums are those of the window as it is then. A call that ends late has a
new number and an old beginning, and is counted when it comes.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from modelspend.record import record
from modelspend.tallies import Hour, Led, Name, Tally, add_hour, add_led, names_of

Edge = Literal["since", "until", "seq"]


@record
class Reach:
    """Receipts that begin from `since_ms` on and before `until_ms`, numbered above `after` and up
    to `upto`. They are read from where the `edge` is that moves over them."""

    edge: Edge
    since_ms: int
    until_ms: int
    after: int
    upto: int


@record
class Part:
    """What was read of a reach, from its beginning on; its `reach` says how far. Durations are
    `rounded`."""

    reach: Reach
    hours: Iterable[Hour]
    led: Iterable[Led]


@dataclass(slots=True)
class Sliding:
    """All that began in the last `span_ms`, by name; with durations if it is `timed`.

    Ask it what is `next` to be read, read some of that, and let it `take` it, until there is no
    more. Its sums are exact, but for durations.
    """

    span_ms: int
    timed: bool = False
    since_ms: int = 0
    until_ms: int = 0
    seq: int = 0
    names: dict[Name, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def next(self, now_ms: int, last: int) -> Reach | None:
        """What is to be read so that it is the time until now, of receipts up to the number
        `last`. It begins anew when a clock was set back, or nothing that it has is new enough."""
        since, until = now_ms + 1 - self.span_ms, now_ms + 1
        if not (self.since_ms <= since < self.until_ms <= until and self.seq <= last):
            self.names.clear()
            self.since_ms = self.until_ms = since
            self.seq = last
        if self.since_ms < since:
            return Reach(
                edge="since", since_ms=self.since_ms, until_ms=since, after=0, upto=self.seq
            )
        if self.until_ms < until:
            return Reach(
                edge="until", since_ms=self.until_ms, until_ms=until, after=0, upto=self.seq
            )
        if self.seq < last:
            return Reach(edge="seq", since_ms=since, until_ms=until, after=self.seq, upto=last)
        self._forget()
        return None

    def take(self, part: Part) -> None:
        """Count what was read, or take it away where it has grown too old."""
        reach = part.reach
        if reach.edge == "since":
            self._count(part, -1)
            self.since_ms = reach.until_ms
        elif reach.edge == "until":
            self._count(part, 1)
            self.until_ms = reach.until_ms
        else:
            self._count(part, 1)
            self.seq = reach.upto

    def _count(self, part: Part, sign: int) -> None:
        for one in part.hours:
            for name in names_of(one.tenant, one.category, one.model, one.provider):
                add_hour(self.names[name], name[0], one, sign)
        for led in part.led:
            add_led(self.names.__getitem__, led, sign)

    def _forget(self) -> None:
        """What has no calls any more takes no room."""
        nothing = Tally()
        for name, tally in list(self.names.items()):
            tally.latency_ms = +tally.latency_ms
            if tally == nothing:
                del self.names[name]


_BITS = 7
ROUNDED_WITHIN = 1 / (1 << _BITS)
"""How far a rounded duration is from its own, at most: a part of it."""


def rounded(ms: int) -> int:
    """A duration within 0.8 per cent, exact below 128 ms: so there are few different ones.

    The order stays, so the percentile of rounded durations is the rounded percentile.
    """
    rest = ms.bit_length() - _BITS
    if rest <= 0:
        return ms
    return (ms >> rest << rest) + (1 << rest - 1)
