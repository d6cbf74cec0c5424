"""When: the words for an instant that every command and query understands.

`7d`, `24h`, `today`, `mtd`, `2026-11-01` or an ISO 8601 time; days begin at midnight UTC. As an end
(`until`), a day means the whole of it: `--until 2026-11-30` includes the thirtieth.
"""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"^(\d{1,9})\s*(s|m|h|d|w)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MONTH = re.compile(r"^\d{4}-\d{2}$")

FORMS = "7d, 24h, today, mtd, 2026-11-01 or an ISO time such as 2026-11-01T08:00:00Z"


def instant(text: str, now_ms: int, *, end: bool = False) -> int:
    """Milliseconds UTC of an instant in words; `end` takes a day or month to its end.

    Raises ValueError, naming the forms that are understood.
    """
    word = text.strip().lower()
    ago = _AGO.match(word)
    if ago:
        return max(0, now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if word == "now":
        return now_ms
    try:
        start, length = _span(word, now)
    except (ValueError, OverflowError):
        raise ValueError(f"not a time: {text!r}; write {FORMS}") from None
    return round((start + (length if end else timedelta(0))).timestamp() * 1000)


def duration_s(text: str) -> int:
    """Seconds of a length of time: `90s`, `10m`, `2h`, `1d`. Raises ValueError."""
    found = _AGO.match(text.strip().lower())
    if not found or not int(found[1]):
        raise ValueError(f"not a length of time: {text!r}; write 90s, 10m, 2h or 1d")
    return int(found[1]) * _SECONDS[found[2]]


def _span(word: str, now: datetime) -> tuple[datetime, timedelta]:
    """Where a word begins and how long it lasts (an instant lasts no time)."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day, none = timedelta(days=1), timedelta(0)
    if word == "today":
        return today, day
    if word == "yesterday":
        return today - day, day
    if word == "mtd":
        return today.replace(day=1), now - today.replace(day=1)
    if word == "ytd":
        start = today.replace(month=1, day=1)
        return start, now - start
    if _MONTH.match(word):
        start = datetime.fromisoformat(f"{word}-01").replace(tzinfo=UTC)
        return start, (start + 31 * day).replace(day=1) - start
    found = datetime.fromisoformat(word.upper())
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found, day if len(word) <= 10 else none
