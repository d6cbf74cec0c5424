"""Windows of time that money is counted in: in a calendar and time zone, rolling, or for ever.

A calendar window goes from one local midnight to a later one, both as instants, so windows always
meet: an hour that a clock repeats or leaves out makes one longer or shorter and never opens one
twice. What a reader would not guess: the date on the wall is only a first guess at the window,
since a clock set back across midnight shows yesterday's date once more.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from modelspend.record import record

Kind = Literal["day", "week", "month", "rolling", "total"]

FORMS = "day, week, month, total, or a length such as 60s, 30m, 24h or 7d"
FOREVER = (1 << 63) - 1
STEPS = 60
"""A rolling window moves on in this many steps; the one that is leaving it still counts whole."""

_LENGTH = re.compile(r"(\d{1,4})\s*(s|m|h|d)")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_MS = 366 * 86_400_000


@record
class Window:
    """`zone` is an IANA name and means something for calendar windows, `length_ms` for rolling."""

    kind: Kind
    zone: str = "UTC"
    length_ms: int = 0

    @property
    def text(self) -> str:
        """As it is written in a file: `month`, `24h`."""
        if self.kind != "rolling":
            return self.kind
        for unit in ("d", "h", "m"):
            if self.length_ms % _UNIT_MS[unit] == 0 and self.length_ms > _UNIT_MS[unit]:
                return f"{self.length_ms // _UNIT_MS[unit]}{unit}"
        return f"{self.length_ms // 1000}s"

    @property
    def name(self) -> str:
        """Unlike the text, it tells windows in different zones apart."""
        return f"{self.kind} {self.zone}" if self.calendar and self.zone != "UTC" else self.text

    @property
    def calendar(self) -> bool:
        return self.kind in ("day", "week", "month")

    @property
    def step_ms(self) -> int:
        """The length of a slot of a rolling window."""
        return max(1_000, self.length_ms // STEPS)


@record
class Slot:
    """Where an instant lies: what is spent then is added up under `start`.

    The window that it counts in has all the slots from `since` to `until`; it `ends` at an instant,
    or null when it never does or moves along with the clock.
    """

    start: int
    since: int
    until: int
    ends: int | None


TOTAL = Window(kind="total")


def parse(text: str, zone: str = "UTC") -> Window:
    """A window as it is written. Raises ValueError, naming the forms that are understood."""
    word = text.strip().lower()
    if word in ("day", "week", "month"):
        zone_of(zone)
        return Window(kind=word, zone=zone)  # type: ignore[arg-type]
    if word == "total":
        return TOTAL
    found = _LENGTH.fullmatch(word)
    length_ms = int(found[1]) * _UNIT_MS[found[2]] if found else 0
    if not 10_000 <= length_ms <= _LONGEST_MS:
        raise ValueError(f"not a window: {text!r}; write {FORMS}, from 10s to 366d")
    return Window(kind="rolling", length_ms=length_ms)


def named(name: str) -> Window:
    """The window of a `Window.name`."""
    text, _, zone = name.partition(" ")
    return parse(text, zone or "UTC")


def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"not a time zone: {name!r}; write one such as Europe/Berlin") from None


def slot(window: Window, at_ms: int) -> Slot:
    """Where an instant lies in a window."""
    if window.kind == "total":
        return Slot(start=0, since=0, until=FOREVER, ends=None)
    if window.kind == "rolling":
        step = window.step_ms
        start = at_ms // step * step
        return Slot(start=start, since=start - window.length_ms, until=FOREVER, ends=None)
    start, ends = span(window, at_ms)
    return Slot(start=start, since=start, until=start, ends=ends)


def span(window: Window, at_ms: int) -> tuple[int, int]:
    """(start, end) of the calendar window that an instant lies in: start <= at < end."""
    zone = zone_of(window.zone)
    first = _first(window.kind, datetime.fromtimestamp(at_ms / 1000, zone).date())
    while True:
        start, end = _bounds(window.kind, window.zone, first)
        if at_ms < start:
            first = _first(window.kind, first - timedelta(days=1))
        elif at_ms >= end:  # also past a day that its calendar left out, which has no length
            first = _next(window.kind, first)
        else:
            return start, end


def before(window: Window, start: int) -> tuple[int, int]:
    """The calendar window that ends where another one starts."""
    return span(window, start - 1)


@lru_cache(maxsize=256)
def _bounds(kind: Kind, zone: str, first: date) -> tuple[int, int]:
    return _midnight(first, zone), _midnight(_next(kind, first), zone)


def _first(kind: Kind, day: date) -> date:
    match kind:
        case "month":
            return day.replace(day=1)
        case "week":
            return day - timedelta(days=day.weekday())
        case _:
            return day


def _next(kind: Kind, first: date) -> date:
    match kind:
        case "month":
            return (first + timedelta(days=31)).replace(day=1)
        case "week":
            return first + timedelta(days=7)
        case _:
            return first + timedelta(days=1)


def _midnight(day: date, zone: str) -> int:
    """The first instant of a local day: the earlier of two midnights, the end of one left out."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone_of(zone))
    return round(local.timestamp() * 1000)
