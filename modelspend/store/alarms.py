"""Alarms in the ledger: each is changed in the transaction of the events that tell of it.

Silences are left here by commands, which write no events; the sidecar reads them at each look.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, get_args

from modelspend.alarms import Alarm, Silence, Step
from modelspend.alerts import LEVELS, Level, Scope
from modelspend.store.book import Book
from modelspend.store.events import write_event
from modelspend.store.readers import Readers
from modelspend.store.writer import Writer, needed

_KEPT_MS = 30 * 86_400_000
_SCOPES: tuple[Scope, ...] = get_args(Scope)


class Alarms:
    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._writer = writer

    async def known(self) -> list[Alarm]:
        """Every alarm that is remembered: those that go on first, the worst of them, the newest."""

        def ask(conn: sqlite3.Connection) -> list[Alarm]:
            rows = conn.execute(
                f"SELECT {_COLUMNS} FROM alarms"
                " ORDER BY resolved_at NOTNULL, level <> 'critical', since DESC, rule, name"
            )
            return [_alarm(*row) for row in rows]

        return await self._readers.ask(ask)

    async def write(self, steps: Sequence[Step]) -> None:
        """What a look has changed, all of it or nothing."""

        def put(book: Book) -> None:
            for step in steps:
                book.execute(_UPSERT, _row(step.alarm))
                for event in step.events:
                    write_event(book, event)

        await needed(self._writer).later(put)

    async def silences(self) -> list[Silence]:
        """Those that were not lifted, also when their time is over."""

        def ask(conn: sqlite3.Connection) -> list[Silence]:
            rows = conn.execute(
                "SELECT rule, scope, name, silenced_at, until FROM alarm_silences ORDER BY until"
            )
            return [
                Silence(rule=rule, scope=scope, name=name, at_ms=at, until_ms=until)
                for rule, scope, name, at, until in rows
            ]

        return await self._readers.ask(ask)

    async def silence(self, one: Silence) -> None:
        """Tell nobody for a while; said again, the newer one counts."""
        values = (one.rule, one.scope, one.name, one.at_ms, one.until_ms)
        await needed(self._writer).do(
            lambda book: book.execute(
                "INSERT INTO alarm_silences (rule, scope, name, silenced_at, until)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (rule, scope, name) DO UPDATE SET"
                " silenced_at = excluded.silenced_at, until = excluded.until",
                values,
            )
        )

    async def lift(self, rule: str, scope: str, name: str) -> bool:
        """Tell again; false when that was not silenced."""

        def put(book: Book) -> bool:
            gone = book.execute(
                "DELETE FROM alarm_silences WHERE rule = ? AND scope = ? AND name = ?",
                (rule, scope, name),
            )
            return gone.rowcount > 0

        return await needed(self._writer).do(put)

    async def forget(self, now_ms: int) -> None:
        """Drop alarms and silences that were over 30 days ago."""
        before = now_ms - _KEPT_MS

        def put(book: Book) -> None:
            book.execute("DELETE FROM alarms WHERE resolved_at < ?", (before,))
            book.execute("DELETE FROM alarm_silences WHERE until < ?", (before,))

        await needed(self._writer).later(put)


_COLUMNS = (
    "rule, scope, name, period, level, message, value, threshold, see, window_start, window_end,"
    " since, last_seen, quiet_since, resolved_at, told, is_open"
)
_CHANGED = _COLUMNS.split(", ")[4:]
_UPSERT = (
    f"INSERT INTO alarms ({_COLUMNS}) VALUES ({', '.join('?' * 17)})"
    " ON CONFLICT (rule, scope, name, period) DO UPDATE SET "
    + ", ".join(f"{name.strip()} = excluded.{name.strip()}" for name in _CHANGED)
)


def _row(alarm: Alarm) -> tuple[Any, ...]:
    return (
        *(alarm.rule, alarm.scope, alarm.name, alarm.window, alarm.level, alarm.said),
        *(
            alarm.value,
            alarm.limit,
            alarm.see,
            alarm.window_ms,
            alarm.window_ends_ms,
            alarm.since_ms,
            alarm.seen_ms,
        ),
        *(alarm.quiet_ms, alarm.resolved_ms, alarm.told, int(alarm.is_open)),
    )


def _alarm(*row: Any) -> Alarm:
    rule, scope, name, window, level, said, value, limit, see, start, end, *rest = row
    since, seen, quiet, resolved, told, is_open = rest
    return Alarm(
        rule=rule,
        scope=next(each for each in _SCOPES if each == scope),
        name=name,
        window=window,
        level=_level(level),
        said=said,
        value=value,
        limit=limit,
        see=see,
        window_ms=start,
        window_ends_ms=end,
        since_ms=since,
        seen_ms=seen,
        quiet_ms=quiet,
        resolved_ms=resolved,
        told=None if told is None else _level(told),
        is_open=bool(is_open),
    )


def _level(text: str) -> Level:
    return next(each for each in LEVELS if each == text)
