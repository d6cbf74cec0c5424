"""What the provider in a box truly accepted and charged: its own word, for tests to judge by.

One line when a request has been read whole, one when its answer has ended. Lines hold names of
headers, fingerprints and digests, never a key or a prompt, so a log may be kept.
"""

import os
from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import orjson

Outcome = Literal["complete", "error", "cut", "aborted_by_client"]
"""How an exchange ended: `cut` is our own breaking off, by plan or because we closed."""

_CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


class Log:
    """The last `keep` lines in memory, and all of them in a file if one is named.

    With `sync` a line is on the disk before the exchange goes on.
    """

    def __init__(self, path: Path | None, *, sync: bool, keep: int) -> None:
        self.lines: deque[dict[str, Any]] = deque(maxlen=keep)
        self._sync = sync
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        if self._file is not None:
            os.write(self._file, orjson.dumps(line) + b"\n")
            if self._sync:
                os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def credential(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """A fingerprint of the caller's key: 12 letters of its SHA-256."""
    found = next((headers[name] for name in _CREDENTIALS if headers.get(name)), query.get("key"))
    return fingerprint(found.removeprefix("Bearer ")) if found else None


def fingerprint(key: str) -> str:
    return sha256(key.encode("utf-8", "replace")).hexdigest()[:12]
