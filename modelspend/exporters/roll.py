"""A file that grows, and is put aside as another one begins: each event in it once.

Hides what makes that so: beside the file stands how long it was after the last batch, and which
events that batch held. What a process that died had written beyond that is cut off again, and what
is told a second time after a crash is left out.
"""

import gzip
import json
import os
import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from modelspend.exporters.folder import DAY_MS, write_whole
from modelspend.store.files import sync_folder
from modelspend.store.lock import Gate

_MOST_REMEMBERED = 1_000
_PATIENCE_S = 5.0

Line = tuple[str, bytes]
"""The id of an event, and its line without an end."""


class Held(OSError):
    """Another process writes to the file; its text is fit to be shown."""


class Roll:
    """One file. Every method waits for the disk, so none belongs on an event loop.

    Raises OSError when the disk does not take it: nothing is lost by trying again.
    """

    def __init__(self, path: Path, *, most_bytes: int, compress: bool, keep_days: int) -> None:
        self.path, self.most_bytes = path, most_bytes
        self.compress, self.keep_days = compress, keep_days
        self._state = path.with_name(f".{path.name}.state")
        self._gate: Gate | None = None
        self._size, self._day = 0, ""
        self._last: tuple[str, ...] = ()
        self._busy = threading.Lock()

    def append(self, lines: Sequence[Line], now_ms: int) -> None:
        """All are on the disk when this returns; those of the last batch are not repeated."""
        with self._busy:
            self._append(lines, now_ms)

    def close(self) -> None:
        """Let go of the file, once a batch that is on its way is in it: nobody else may write yet.
        A disk that hangs keeps it until the process ends."""
        if not self._busy.acquire(timeout=_PATIENCE_S):
            return
        try:
            gate, self._gate = self._gate, None
            if gate is not None:
                gate.leave()
        finally:
            self._busy.release()

    def _append(self, lines: Sequence[Line], now_ms: int) -> None:
        self._open(now_ms)
        told_last = set(self._last)
        fresh = [(uid, line) for uid, line in lines if uid not in told_last]
        if not fresh:
            return
        data = b"".join(line + b"\n" for _, line in fresh)
        if self._size and (
            self._size + len(data) > self.most_bytes or self._day != _stamp(now_ms)[:8]
        ):
            self._turn(now_ms)
        at = self._write(data)
        told = tuple(uid for uid, _ in lines)[-_MOST_REMEMBERED:]
        self._remember(at, _stamp(now_ms)[:8], told)

    def _write(self, data: bytes) -> int:
        """Behind what is known to be in it, on the disk; how long it is then."""
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            # What a batch that failed in the middle has left; somebody else may have emptied it.
            at = min(self._size, os.fstat(descriptor).st_size)
            file.truncate(at)
            file.seek(at)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return at + len(data)

    def _open(self, now_ms: int) -> None:
        """Once: take the lock, and go on where the last process had come to."""
        if self._gate is not None:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        gate = Gate(self._state)
        if not gate.enter():
            raise Held(f"{self.path} is written to by another process")
        self._gate = gate
        self._day = _stamp(now_ms)[:8]
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            said = json.loads(self._state.read_bytes())
            self._last = tuple(map(str, said["last"]))
            self._size, self._day = int(said["size"]), str(said["day"])
        on_disk = self.path.stat().st_size if self.path.exists() else 0
        self._size = min(self._size, on_disk)
        self._tidy(now_ms)

    def _turn(self, now_ms: int) -> None:
        """Give the file a name for good, and begin anew."""
        stem, count = f"{self.path.stem}-{_stamp(now_ms)}", 0
        kept = self.path.with_name(f"{stem}{self.path.suffix}")
        while kept.exists() or kept.with_name(kept.name + ".gz").exists():
            count += 1
            kept = self.path.with_name(f"{stem}.{count}{self.path.suffix}")
        if self.path.exists():  # somebody may have carried it away
            self._write(b"")  # what a batch that failed has left is told again, in the next file
            self.path.replace(kept)
        sync_folder(self.path.parent)
        self._remember(0, self._day, self._last)
        self._tidy(now_ms)

    def _remember(self, size: int, day: str, last: tuple[str, ...]) -> None:
        """First on the disk, then here: what is not written down is cut off and told again."""
        said = {"size": size, "day": day, "last": last}
        write_whole(self._state, json.dumps(said).encode())
        self._size, self._day, self._last = size, day, last

    def _tidy(self, now_ms: int) -> None:
        """Compress what was put aside, and delete what is too old; both again after a crash."""
        pattern = re.compile(
            re.escape(self.path.stem)
            + r"-(\d{8}-\d{6})(\.\d+)?"
            + re.escape(self.path.suffix)
            + r"(\.gz)?"
        )
        oldest = _stamp(now_ms - self.keep_days * DAY_MS)
        for file in sorted(self.path.parent.iterdir()):
            found = pattern.fullmatch(file.name)
            if found is None:
                continue
            if self.keep_days and found[1] < oldest:
                file.unlink(missing_ok=True)
            elif self.compress and found[3] is None:
                _compress(file)


def _compress(file: Path) -> None:
    """The same with `.gz` at its end, whole or not at all; then the file itself goes."""
    packed = file.with_name(file.name + ".gz")
    fresh = packed.with_name(f".{packed.name}.new")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as out, file.open("rb") as plain:
            shutil.copyfileobj(plain, out, 1 << 20)
        raw.flush()
        os.fsync(raw.fileno())
    fresh.replace(packed)
    sync_folder(file.parent)
    file.unlink()


def _stamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m%d-%H%M%S")
