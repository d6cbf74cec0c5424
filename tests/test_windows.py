"""Windows meet and never overlap, whatever a calendar or a clock does."""

import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend import windows
from modelspend.windows import Window

DAY, WEEK, MONTH = (Window(kind=kind) for kind in ("day", "week", "month"))
ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
HOUR = 3_600_000

ODD = (
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # until 2011 its clock was set back at 00:01, into yesterday
    "America/Sao_Paulo",  # set forward at midnight: days without one
    "America/Havana",  # set back to midnight: days with two
    "Asia/Beirut",
    "Africa/Cairo",
    "Pacific/Apia",  # left out the 30th of December 2011
    "Pacific/Kwajalein",
    "Australia/Lord_Howe",  # half an hour
    "Asia/Tehran",
    "Antarctica/Troll",  # two hours
    "America/Nuuk",
)


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


def told(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


CASES = [
    # window, zone, instant, start, end
    ("month", "UTC", "2026-11-30T23:59:59.999+00:00", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
    ("month", "UTC", "2026-12-01T00:00+00:00", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
    ("month", "UTC", "2028-02-29T12:00+00:00", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
    ("month", "UTC", "2100-02-28T12:00+00:00", "2100-02-01T00:00Z", "2100-03-01T00:00Z"),
    ("month", "Europe/Berlin", "2026-10-31T22:59:59Z", "2026-09-30T22:00Z", "2026-10-31T23:00Z"),
    ("month", "Europe/Berlin", "2026-10-31T23:00Z", "2026-10-31T23:00Z", "2026-11-30T23:00Z"),
    ("day", "UTC", "2028-02-29T23:59Z", "2028-02-29T00:00Z", "2028-03-01T00:00Z"),
    # 23 and 25 hours
    ("day", "Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
    ("day", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
    ("day", "Europe/Berlin", "2026-10-25T01:30Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
    # no midnight on 2018-11-04 in São Paulo: the day begins at one
    ("day", "America/Sao_Paulo", "2018-11-04T03:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
    ("day", "America/Sao_Paulo", "2018-11-04T02:59Z", "2018-11-03T03:00Z", "2018-11-04T03:00Z"),
    # two midnights on 2025-11-02 in Havana: the day begins at the first
    ("day", "America/Havana", "2025-11-02T05:30Z", "2025-11-02T04:00Z", "2025-11-03T05:00Z"),
    # St. John's: at 00:01 back to 23:01 of the day before, which is over all the same
    ("day", "America/St_Johns", "2010-11-07T02:30:30Z", "2010-11-07T02:30Z", "2010-11-08T03:30Z"),
    ("day", "America/St_Johns", "2010-11-07T03:00Z", "2010-11-07T02:30Z", "2010-11-08T03:30Z"),
    # Samoa left out a whole day
    ("day", "Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
    ("day", "Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
    ("week", "UTC", "2026-11-29T23:59Z", "2026-11-23T00:00Z", "2026-11-30T00:00Z"),
    ("week", "UTC", "2026-11-30T00:00Z", "2026-11-30T00:00Z", "2026-12-07T00:00Z"),
    ("week", "America/New_York", "2026-11-01T12:00Z", "2026-10-26T04:00Z", "2026-11-02T05:00Z"),
]


@pytest.mark.parametrize(("kind", "zone", "instant", "start", "end"), CASES)
def test_a_calendar_window_goes_from_midnight_to_midnight(
    kind: str, zone: str, instant: str, start: str, end: str
) -> None:
    found = windows.span(windows.parse(kind, zone), at(instant))
    assert [*map(told, found)] == [told(at(start)), told(at(end))]


@given(
    zone=st.sampled_from(ZONES) | st.sampled_from(ODD),
    kind=st.sampled_from(["day", "week", "month"]),
    instant=st.integers(at("1975-01-01T00:00Z"), at("2035-01-01T00:00Z")),
)
def test_an_instant_lies_in_one_window_and_windows_meet(zone: str, kind: str, instant: int) -> None:
    window = windows.parse(kind, zone)
    start, end = windows.span(window, instant)
    assert start <= instant < end
    assert windows.span(window, start) == windows.span(window, end - 1) == (start, end)
    assert windows.span(window, end)[0] == end
    assert windows.before(window, start)[1] == start
    longest = {"day": 48, "week": 8 * 24, "month": 32 * 24}[kind] * HOUR
    assert end - start <= longest


@pytest.mark.parametrize("zone", ODD)
@pytest.mark.parametrize("kind", ["day", "month"])
def test_minute_by_minute_around_each_change_of_a_clock_no_window_opens_twice(
    zone: str, kind: str
) -> None:
    """Every change between 1990 and 2027: the starts only ever grow, and none is left out."""
    window, local = windows.parse(kind, zone), zoneinfo.ZoneInfo(zone)
    moment = datetime(1990, 1, 1, tzinfo=UTC)
    changes = []
    while moment.year < 2027:
        later = moment + timedelta(hours=6)
        if moment.astimezone(local).utcoffset() != later.astimezone(local).utcoffset():
            changes.append(moment)
        moment = later
    assert changes
    for change in changes:
        first = round(change.timestamp() * 1000) - 26 * HOUR
        spans = [windows.span(window, first + n * 120_000) for n in range(58 * 30)]
        for one, next_ in pairwise(spans):
            assert next_ == one or next_[0] == one[1], (zone, told(one[1]), told(next_[0]))


def test_a_clock_that_goes_back_finds_the_windows_that_it_has_left() -> None:
    """Money is kept by the window's start, so going back opens nothing anew."""
    new = windows.slot(DAY, at("2026-11-25T00:00:05Z"))
    old = windows.slot(DAY, at("2026-11-24T23:59:58Z"))
    assert old.start < new.start
    assert windows.slot(DAY, at("2026-11-24T12:00Z")) == old
    assert windows.slot(DAY, at("2026-11-25T23:00Z")) == new


@given(
    instant=st.integers(at("2020-01-01T00:00Z"), at("2030-01-01T00:00Z")),
    length=st.sampled_from(["10s", "60s", "90m", "24h", "7d", "366d"]),
    back=st.integers(0, 10**9),
)
def test_a_rolling_window_counts_all_of_its_length_and_at_most_one_step_more(
    instant: int, length: str, back: int
) -> None:
    window = windows.parse(length)
    now, then = windows.slot(window, instant), windows.slot(window, instant - back)
    counts = now.since <= then.start <= now.until
    if back <= window.length_ms:
        assert counts
    if back > window.length_ms + 2 * window.step_ms:
        assert not counts
    assert windows.slot(window, instant - back).until >= now.start  # nor is a later slot forgotten


@pytest.mark.parametrize(
    ("text", "shown"),
    [("24h", "24h"), ("1d", "24h"), ("7d", "7d"), ("120s", "2m"), ("Month", "month")],
)
def test_a_window_is_written_as_it_is_read(text: str, shown: str) -> None:
    window = windows.parse(text)
    assert window.text == shown
    assert windows.parse(window.text) == window


@pytest.mark.parametrize("text", ["", "year", "0h", "5s", "367d", "1.5h", "-1d", "10 y", "h"])
def test_what_is_no_window_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="day, week, month, total"):
        windows.parse(text)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        windows.parse("day", zone)
