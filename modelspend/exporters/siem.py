"""Receipts and events for a SIEM, as they happen: to a file, to an HTTP collector, or by syslog.

Hides which way it is; what is said is what `export siem` says. A collector that refuses a batch for
what is in it is given the halves of it, so that one event it dislikes costs no other.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from modelspend import __version__
from modelspend.errors import ConfigInvalid
from modelspend.events import asks_for_receipts
from modelspend.exporters.formats import FORMATS
from modelspend.exporters.http import Door, NotNow
from modelspend.exporters.notice import Notice, notice_of
from modelspend.exporters.pump import Taken
from modelspend.exporters.roll import Held, Roll
from modelspend.exporters.surroundings import held
from modelspend.exporters.syslog import Sender, message
from modelspend.exporters.wire import Address, Wire, address
from modelspend.record import frozen
from modelspend.settings import Settings, Siem
from modelspend.sinks import Wants
from modelspend.store import Store, wall_ms
from modelspend.store.sinks import Emission

_UNFIT = frozenset({400, 413, 422})
"""What a collector says of a body; everything else may be otherwise a little later."""

_MEGABYTE = 1_000_000


@frozen
class Said:
    """A notice, and its line."""

    notice: Notice
    line: bytes


class Way(Protocol):
    """How a batch gets to where it belongs."""

    async def carry(self, batch: Sequence[Said]) -> Taken:
        """Raises NotNow when all of it is to be tried again."""

    async def close(self) -> None: ...


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list["SiemSink"]:
    """One for each `[siem.NAME]`. Raises ConfigInvalid when a variable it names is not set."""
    return [
        SiemSink(name, section, _way(name, section, env))
        for name, section in settings.siem.items()
        if section.enabled
    ]


class SiemSink:
    """Says what is wanted in one format, and has it carried."""

    most = 100
    linger_s = 1.0

    def __init__(self, name: str, section: Siem, way: Way) -> None:
        self.name = f"siem:{name}"
        self.wants = wants(section.types, section.tenant)
        self._format, self._way = FORMATS[section.format], way

    async def send(self, batch: Sequence[Emission]) -> Taken:
        said = []
        for one in batch:
            notice = notice_of(one)
            said.append(Said(notice, self._format.line(notice)))
            await asyncio.sleep(0)  # calls go on between any two
        return await self._way.carry(said)

    async def close(self) -> None:
        await self._way.close()


def wants(types: Sequence[str], tenant: str | None) -> Wants:
    """What is told, by types of events as a webhook names them."""
    return Wants(receipts=asks_for_receipts(types), kinds=tuple(types), tenant=tenant)


def _way(name: str, section: Siem, env: Mapping[str, str]) -> Way:
    to = section.to or ""
    if section.to_env is not None:
        to = held(env, f"siem.{name}.to_env", section.to_env)
    if to.startswith(("https://", "http://")):
        token = section.token_env and held(env, f"siem.{name}.token_env", section.token_env)
        return _ByHttp(section, to, f"{section.token_scheme} {token}" if token else None)
    if to.startswith(("tls://", "tcp://", "udp://")):
        return _BySyslog(section, _receiver(name, to))
    path = Path(to).expanduser()
    if not path.is_absolute():
        raise ConfigInvalid(
            f"siem.{name}: {section.to_env} holds no place.",
            "It begins with https://, tls:// or /.",
        )
    return _ToFile(section, path)


def _receiver(name: str, to: str) -> Address:
    try:
        return address(to)
    except ValueError:
        raise ConfigInvalid(
            f"siem.{name}: its receiver is no address.", "Write tls://host:6514."
        ) from None


class _ToFile:
    def __init__(self, section: Siem, path: Path, now_ms: Callable[[], int] = wall_ms) -> None:
        self._now_ms = now_ms
        self._roll = Roll(
            path,
            most_bytes=section.rotate_mb * _MEGABYTE,
            compress=section.gzip,
            keep_days=section.keep_days,
        )

    async def carry(self, batch: Sequence[Said]) -> Taken:
        lines = [(one.notice.uid, one.line) for one in batch]
        try:
            await asyncio.to_thread(self._roll.append, lines, self._now_ms())
        except Held as error:
            raise NotNow(str(error)) from None
        except OSError as error:
            raise NotNow(f"{self._roll.path} cannot be written: {error.strerror}") from None
        return Taken(sent=len(batch))

    async def close(self) -> None:
        await asyncio.to_thread(self._roll.close)


class _BySyslog:
    def __init__(self, section: Siem, to: Address) -> None:
        ca_file = None if section.ca_file is None else Path(section.ca_file).expanduser()
        self._wire = Wire(
            to,
            allow_private=section.allow_private,
            timeout_s=section.timeout_s,
            ca_file=ca_file,
        )
        self._sender = Sender(
            host=section.hostname or socket.gethostname(),
            process=str(os.getpid()),
            version=__version__,
            facility=section.facility,
        )

    async def carry(self, batch: Sequence[Said]) -> Taken:
        too_long = await self._wire.send([self._message(one) for one in batch])
        error = "too long for a datagram; use tcp or tls" if too_long else None
        return Taken(sent=len(batch) - too_long, dropped=too_long, error=error)

    def _message(self, one: Said) -> bytes:
        told = one.notice
        return message(
            one.line,
            self._sender,
            at_ms=told.at_ms,
            level=told.level,
            kind=told.kind,
            seq=told.seq,
        )

    async def close(self) -> None:
        await self._wire.close()


class _ByHttp:
    def __init__(self, section: Siem, url: str, authorization: str | None) -> None:
        self._url = url
        self._door = Door(allow_private=section.allow_private, timeout_s=section.timeout_s)
        self._headers = {"content-type": FORMATS[section.format].media_type}
        if authorization is not None:
            self._headers["authorization"] = authorization

    async def carry(self, batch: Sequence[Said]) -> Taken:
        body = b"".join(one.line + b"\n" for one in batch)
        answer = await self._door.post(self._url, body, self._headers)
        if answer.ok:
            return Taken(sent=len(batch))
        error = f"HTTP {answer.status}"
        if answer.status not in _UNFIT:
            raise NotNow(error, after_s=answer.after_s, http_status=answer.status)
        if len(batch) == 1:
            return Taken(dropped=1, error=f"{error}: not to be sent again")
        half = len(batch) // 2
        first, second = await self.carry(batch[:half]), await self.carry(batch[half:])
        return Taken(
            sent=first.sent + second.sent,
            dropped=first.dropped + second.dropped,
            error=first.error or second.error,
        )

    async def close(self) -> None:
        await self._door.close()
