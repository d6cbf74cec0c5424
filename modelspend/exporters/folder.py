"""A folder that whole files are put into, each event in one of them and in no second one.

Hides what makes that so: a mark beside the files says how far they go, and before a file takes its
name the mark says which name, and how far they go then. A run that dies between the two is brought
to its end by the next one, even when the file has been carried away meanwhile. One at a time: the
lock is the operating system's, so it is gone with its process.
"""

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelspend.errors import CheckFailed, ExportHeld
from modelspend.record import record
from modelspend.store.files import sync_folder
from modelspend.store.lock import Gate

DAY_MS = 86_400_000
_COMMON = "modelspend-"


@record
class Mark:
    """How far the files go: up to a number of the ledger with an id. `receipt` is the last one in
    them, by its number and its link of the chain: a copy of a ledger has its id as well."""

    cursor: int = 0
    ledger: str | None = None
    receipt: tuple[int, str] | None = None


@dataclass(slots=True)
class Part:
    """A file that is being written. `size` counts what is in it, not what it takes on the disk."""

    into: Callable[[bytes], object]
    size: int = 0
    lines: int = 0

    def write(self, line: bytes) -> None:
        """One line, without its end."""
        self.into(line + b"\n")
        self.size += len(line) + 1
        self.lines += 1


class Folder:
    """Of one kind of export (`name`: its tenant and format); other kinds do not disturb it."""

    def __init__(self, path: Path, name: str, suffix: str, *, compress: bool) -> None:
        self.path, self.compress = path, compress
        self._name = _COMMON + quote(name, safe="")
        self._suffix = f".{suffix}.gz" if compress else f".{suffix}"
        self._aside = path / f".{self._name}.part"
        self._state = path / f".{self._name}.cursor"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else puts files of this kind here meanwhile. Raises ExportHeld."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        gate = Gate(self.path / f".{self._name}")
        if not gate.enter():
            raise ExportHeld(
                f"Another export is writing to {self.path}.",
                "It goes on where that one ends: run it again later.",
            )
        try:
            yield
        finally:
            gate.leave()

    def mark(self) -> Mark | None:
        """How far the files go; None where nothing was ever put here. Brings a run that died in
        between to its end. Raises CheckFailed."""
        said = self._read()
        if said is None:
            self._aside.unlink(missing_ok=True)
            return None
        if (following := said.get("next")) is None:
            self._aside.unlink(missing_ok=True)
            return _mark(said)
        if self._aside.exists():  # it was whole and on the disk before the mark said so
            self._name_it(self.path / str(following["file"]))
        reached = _mark(following)
        self._write(_said(reached))
        return reached

    @contextmanager
    def part(self) -> Iterator[Part]:
        """A new file, out of sight until `commit`."""
        descriptor = os.open(self._aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            if self.compress:
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    yield Part(packed.write)
            else:
                yield Part(raw.write)
            raw.flush()
            os.fsync(raw.fileno())

    def commit(self, before: Mark, reached: Mark, now_ms: int) -> Path:
        """Give what was written its name; from here on the files go as far as `reached`."""
        file = self.path / f"{self._name}-{_stamp(now_ms)}-{reached.cursor:012}{self._suffix}"
        self._write({**_said(before), "next": {**_said(reached), "file": file.name}})
        self._name_it(file)
        self._write(_said(reached))
        return file

    def skip(self, reached: Mark) -> None:
        """There was nothing to write up to here."""
        self._aside.unlink(missing_ok=True)
        self._write(_said(reached))

    def expire(self, now_ms: int, keep_days: int) -> list[Path]:
        """Delete the files of this kind that are older than so many days, by their names."""
        pattern = re.compile(re.escape(self._name) + r"-(\d{8}-\d{6})-\d{12,}\.[a-z]+(\.gz)?")
        oldest = _stamp(now_ms - keep_days * DAY_MS)
        gone = []
        for file in sorted(self.path.iterdir()):
            found = pattern.fullmatch(file.name)
            if found is not None and found[1] < oldest:
                file.unlink(missing_ok=True)
                gone.append(file)
        return gone

    def _name_it(self, file: Path) -> None:
        self._aside.replace(file)
        sync_folder(self.path)

    def _read(self) -> dict[str, Any] | None:
        try:
            said = json.loads(self._state.read_bytes())
            _mark(said)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise CheckFailed(
                f"{self._state} cannot be read: how far the files go is not known.",
                "Move the folder away, and begin anew: --since says from when on.",
            ) from None
        return dict(said)

    def _write(self, said: dict[str, Any]) -> None:
        write_whole(self._state, json.dumps(said).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk when this returns."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _stamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m%d-%H%M%S")


def _said(mark: Mark) -> dict[str, Any]:
    return {"cursor": mark.cursor, "ledger": mark.ledger, "receipt": mark.receipt}


def _mark(said: dict[str, Any]) -> Mark:
    last = said["receipt"]
    receipt = None if last is None else (int(last[0]), str(last[1]))
    return Mark(cursor=int(said["cursor"]), ledger=said.get("ledger"), receipt=receipt)
