"""A file system that forgets what was not synced: `python -m tests.store.forgetful BACKING MOUNT`.

Writes and truncations stay in memory; only `fsync` of a file copies it to the backing folder, which
is thus what a disk holds after a power cut. Harsh, but no more than the rules allow. Names (create,
rename, unlink) are durable at once, since SQLite syncs folders itself where that matters.
"""

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any

from fuse import FUSE, FuseOSError, Operations


class Forgetful(Operations):  # type: ignore[misc]
    def __init__(self, backing: Path) -> None:
        self._backing = backing
        self._files: dict[str, bytearray] = {}

    def _real(self, path: str) -> Path:
        return self._backing / path.lstrip("/")

    def _content(self, path: str) -> bytearray:
        if path not in self._files:
            try:
                self._files[path] = bytearray(self._real(path).read_bytes())
            except FileNotFoundError:
                raise FuseOSError(errno.ENOENT) from None
        return self._files[path]

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        try:
            real = os.lstat(self._real(path))
        except FileNotFoundError:
            raise FuseOSError(errno.ENOENT) from None
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_atime", "st_mtime", "st_ctime")
        told: dict[str, Any] = {name: getattr(real, name) for name in names}
        told["st_size"] = real.st_size
        if stat.S_ISREG(real.st_mode):
            told["st_size"] = len(self._content(path))
        return told

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._real(path))]

    def create(self, path: str, mode: int, fi: object = None) -> int:
        os.close(os.open(self._real(path), os.O_CREAT | os.O_WRONLY, mode))
        self._files[path] = bytearray()
        return 0

    def open(self, path: str, flags: int) -> int:
        self._content(path)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._content(path)[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        content = self._content(path)
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        content = self._content(path)
        del content[length:]
        content.extend(bytes(length - len(content)))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if self._real(path).exists():
            self._real(path).write_bytes(self._content(path))
        return 0

    def unlink(self, path: str) -> int:
        self._real(path).unlink()
        self._files.pop(path, None)
        return 0

    def rename(self, old: str, new: str) -> int:
        self._real(old).rename(self._real(new))
        self._files[new] = self._files.pop(old, bytearray())
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._real(path).mkdir(mode)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._real(path).chmod(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: object = None) -> int:
        return 0


if __name__ == "__main__":
    FUSE(Forgetful(Path(sys.argv[1])), sys.argv[2], foreground=True, nothreads=True)
