"""Alarms: what is remembered of an alert, so that somebody is told once and not again.

An alarm goes off when its alert is at least a warning, is told once in a window for each level it
reaches, and is resolved after it has been quiet for a while. A reader would not guess that one
which goes off again within its window at a level that was told already is remembered and not told;
it is told when that window has ended and it still holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from modelspend.alerts import LEVELS, Alert, Level, Scope, key_of
from modelspend.events import Event
from modelspend.receipt_json import iso
from modelspend.record import record

FIRED, ESCALATED, RESOLVED = "alert.fired", "alert.escalated", "alert.resolved"
KINDS = (FIRED, ESCALATED, RESOLVED)
TEST = "alert.test"

_LEAST: Level = "warn"
_REMEMBERED_MS = 300_000
"""How old what was last seen may be in the ledger: to write it at each look would cost syncs."""


@record
class Alarm:
    """The state of one rule for one name.

    `window_ends_ms` is null where the rule has windows of its own, which begin at `window_ms`.
    `told` is the highest level that was told in the window; `is_open` that it was told and its end
    was not. `quiet_ms` is since when the alert has been quiet, `resolved_ms` when it was over.
    """

    rule: str
    scope: Scope
    name: str
    level: Level
    said: str
    window_ms: int
    since_ms: int
    seen_ms: int
    window: str = ""
    value: float | None = None
    limit: float | None = None
    see: str | None = None
    window_ends_ms: int | None = None
    quiet_ms: int | None = None
    resolved_ms: int | None = None
    told: Level | None = None
    is_open: bool = False

    @property
    def key(self) -> str:
        """Its id: the one of its alert."""
        return key_of(self.rule, self.scope, self.name, self.window)

    def to_json(self, now_ms: int, silenced_until_ms: int | None = None) -> dict[str, Any]:
        """As `alerts list` tells it."""
        end = now_ms if self.resolved_ms is None else self.resolved_ms
        return {
            "id": self.key,
            "state": state_of(self, silenced_until_ms),
            "level": self.level,
            "rule": self.rule,
            "scope": self.scope,
            "name": self.name,
            "window": self.window or None,
            "message": self.said,
            "value": self.value,
            "limit": self.limit,
            "since": iso(self.since_ms),
            "age_s": max(end - self.since_ms, 0) // 1000,
            "last_seen": iso(self.seen_ms),
            "quiet_since": _at(self.quiet_ms),
            "resolved_at": _at(self.resolved_ms),
            "told": self.told,
            "window_starts_at": iso(self.window_ms) if self.window_ms else None,
            "window_ends_at": _at(self.window_ends_ms),
            "silenced_until": _at(silenced_until_ms),
            "see": self.see,
        }


def _at(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def state_of(alarm: Alarm, silenced_until_ms: int | None = None) -> str:
    """firing, silenced (firing, and nobody is told) or resolved."""
    if alarm.resolved_ms is not None:
        return "resolved"
    return "firing" if silenced_until_ms is None else "silenced"


@record
class Silence:
    """Nobody is told of some alarms until then; an empty text stands for any."""

    rule: str = ""
    scope: str = ""
    name: str = ""
    at_ms: int
    until_ms: int

    def covers(self, one: "Alarm | Alert", now_ms: int) -> bool:
        """Whether it holds now, and for this one."""
        wanted = ((self.rule, one.rule), (self.scope, one.scope), (self.name, one.name))
        return now_ms < self.until_ms and all(not mine or mine == its for mine, its in wanted)

    def to_json(self) -> dict[str, Any]:
        """As `alerts silence` tells it."""
        return {
            "rule": self.rule or None,
            "scope": self.scope or None,
            "name": self.name or None,
            "silenced_at": iso(self.at_ms),
            "until": iso(self.until_ms),
        }


def silenced_until(one: "Alarm | Alert", silences: Iterable[Silence], now_ms: int) -> int | None:
    """Until when nobody is told of it; null when somebody is."""
    return max((each.until_ms for each in silences if each.covers(one, now_ms)), default=None)


@record
class Step:
    """An alarm as it is now, and the events that tell how it came to be so; written together."""

    alarm: Alarm
    events: tuple[Event, ...] = ()


def steps(
    alarms: Iterable[Alarm],
    alerts: Iterable[Alert],
    silences: Iterable[Silence],
    now_ms: int,
    resolve_after_ms: int,
) -> list[Step]:
    """What one look at the rules changes: of every alarm that is to be written anew."""
    silences = tuple(silences)
    known = {alarm.key: alarm for alarm in alarms}
    loud = _worst(alerts)
    changed = []
    for key in [*known, *(key for key in loud if key not in known)]:
        old, alert = known.get(key), loud.get(key)
        if alert is not None:
            silent = silenced_until(alert, silences, now_ms) is not None
            found = _loud(old, alert, now_ms, silent)
        else:
            assert old is not None
            found = _quiet(old, now_ms, resolve_after_ms)
        if old is None or found.events or _to_write(old, found.alarm):
            changed.append(found)
    return changed


def _worst(alerts: Iterable[Alert]) -> Mapping[str, Alert]:
    """By key those that are at least warnings; of several of one key the worst."""
    loud: dict[str, Alert] = {}
    for alert in alerts:
        if _rank(alert.level) >= _rank(_LEAST):
            before = loud.get(alert.key)
            if before is None or _rank(alert.level) > _rank(before.level):
                loud[alert.key] = alert
    return loud


def _rank(level: Level | None) -> int:
    return -1 if level is None else LEVELS.index(level)


def _to_write(old: Alarm, new: Alarm) -> bool:
    """What was only seen again is written from time to time."""
    seen = replace(
        new, said=old.said, value=old.value, limit=old.limit, see=old.see, seen_ms=old.seen_ms
    )
    return seen != old or new.seen_ms - old.seen_ms >= _REMEMBERED_MS


def _loud(old: Alarm | None, alert: Alert, now_ms: int, silent: bool) -> Step:
    """The alert holds."""
    events: list[Event] = []
    if old is not None and old.window_ends_ms is None and old.window_ms != alert.window_ms:
        # The budget begins anew, and is as bad at once: that is another alarm.
        if old.is_open:
            events.append(event_of(RESOLVED, old, now_ms))
        old = None
    alarm = _begun(alert, now_ms) if old is None else _again(old, alert, now_ms)
    if not silent and _rank(alarm.level) > _rank(alarm.told):
        kind = FIRED if alarm.told is None else ESCALATED
        alarm = replace(alarm, told=alarm.level, is_open=True)
        events.append(event_of(kind, alarm, now_ms))
    return Step(alarm=alarm, events=tuple(events))


def _begun(alert: Alert, now_ms: int) -> Alarm:
    start = now_ms if alert.window_ms is None else alert.window_ms
    return Alarm(
        rule=alert.rule,
        scope=alert.scope,
        name=alert.name,
        window=alert.window,
        level=alert.level,
        said=alert.said,
        value=alert.value,
        limit=alert.limit,
        see=alert.see,
        window_ms=start,
        window_ends_ms=None if alert.window_ms is not None else now_ms + alert.lasts_ms,
        since_ms=now_ms if alert.since_ms is None else min(alert.since_ms, now_ms),
        seen_ms=now_ms,
    )


def _again(old: Alarm, alert: Alert, now_ms: int) -> Alarm:
    fresh = _begun(alert, now_ms)
    if not old.is_open and old.window_ends_ms is not None and now_ms >= old.window_ends_ms:
        return fresh  # a new window: it may be told again
    return replace(
        fresh,
        window_ms=old.window_ms,
        window_ends_ms=old.window_ends_ms,
        since_ms=old.since_ms if old.resolved_ms is None else fresh.since_ms,
        told=old.told,
        is_open=old.is_open,
    )


def _quiet(old: Alarm, now_ms: int, resolve_after_ms: int) -> Step:
    """The alert does not hold."""
    if old.resolved_ms is not None:
        return Step(alarm=old)
    since = now_ms if old.quiet_ms is None else old.quiet_ms
    if now_ms - since < resolve_after_ms:
        return Step(alarm=replace(old, quiet_ms=since))
    over = replace(old, quiet_ms=since, resolved_ms=now_ms, is_open=False)
    events = (event_of(RESOLVED, over, now_ms),) if old.is_open else ()
    return Step(alarm=over, events=events)


def event_of(kind: str, alarm: Alarm, now_ms: int) -> Event:
    """What tells of it. The level in the data is the worst that was told, so that whoever heard of
    the beginning hears of the end."""
    over = kind == RESOLVED
    level = alarm.told or alarm.level
    return Event(
        kind=kind,
        at_ms=now_ms,
        level="info" if over else level,
        tenant=alarm.name if alarm.scope == "tenant" else None,
        data={
            "alert": alarm.key,
            "rule": alarm.rule,
            "scope": alarm.scope,
            "name": alarm.name,
            "window": alarm.window or None,
            "level": level,
            "message": alarm.said,
            "value": alarm.value,
            "limit": alarm.limit,
            "since": iso(alarm.since_ms),
            "see": None if alarm.see is None else f"modelspend {alarm.see}",
        },
    )
