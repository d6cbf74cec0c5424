"""Recorded provider traffic, and one pass of a reader over it.

The rows are not part of the repository: without them the tests that need them skip, visibly.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from modelspend.dialects import DIALECTS
from modelspend.dialects.dialect import AnswerNote, Dialect, RequestView

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
DATA = Path(os.environ.get("MODELSPEND_DATA", _BESIDE)) / "traffic"

FILES = {
    "openai_chat": "openai.chat",
    "openai_responses": "openai.responses",
    "anthropic": "anthropic.messages",
    "gemini": "gemini.generate",
    "embeddings": "openai.embeddings",
}


@dataclass(frozen=True)
class Row:
    """One recorded exchange."""

    file: str
    n: int
    path: str
    status: int
    stream: bool
    request: Any
    response: Any

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[FILES[self.file]]

    @property
    def body(self) -> bytes:
        return json.dumps(self.request).encode()

    @property
    def answer(self) -> bytes:
        """The bytes that came back; whole answers are kept parsed, so they are dumped again."""
        if self.stream:
            return str(self.response).encode()
        return json.dumps(self.response).encode()

    def __str__(self) -> str:
        return f"{self.file} row {self.n}"


@cache
def rows(file: str) -> tuple[Row, ...]:
    lines = (DATA / f"{file}.jsonl").read_text().splitlines()
    parsed = enumerate(map(json.loads, lines))
    return tuple(
        Row(file, n, r["path"], r["status"], r["stream"], r["request"], r["response"])
        for n, r in parsed
    )


VIEW = RequestView(model="m", stream=True, body={})


@dataclass
class Read:
    """What one pass of a reader gave."""

    now: bytes
    held: bytes
    note: AnswerNote

    @property
    def all(self) -> bytes:
        return self.now + self.held


def read_stream(dialect: Dialect, *chunks: bytes, hide_usage: bool = False) -> Read:
    """All of a stream through a fresh reader, the end included."""
    reader = dialect.reader(VIEW, hide_usage=hide_usage)
    now = held = b""
    for chunk in chunks:
        passed, kept = reader.feed(chunk)
        now, held = now + passed, held + kept
    passed, kept = reader.close()
    return Read(now + passed, held + kept, reader.note)
