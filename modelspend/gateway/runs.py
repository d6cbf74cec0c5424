"""The runs of `modelspend run` that are open: who a throw-away key belongs to.

A run's key opens the data plane for one program and is good for nothing else: it is never a
provider's key, so one that is not known any more is refused instead of passed on. Runs live in
memory alone; when the sidecar ends, so do their keys.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import field
from hashlib import sha256

from modelspend.errors import NotAuthorised
from modelspend.record import frozen

KEY_PREFIX = "sk-modelspend-run-"
RUN_TAG = "run"


@frozen(kw_only=True)
class Run:
    """One program under `modelspend run`; `pid` is the process that waits for it."""

    run_id: str
    pid: int
    tenant: str | None = None
    workflow: str | None = None
    cap_pico: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class Runs:
    """Open runs, found by the digest of their key."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._by_key.values()))

    def open(
        self,
        pid: int,
        tenant: str | None,
        workflow: str | None,
        tags: Mapping[str, str],
        cap_pico: int | None = None,
    ) -> tuple[Run, str]:
        """A new run and its key, which is told once and kept nowhere."""
        run_id, key = secrets.token_hex(5), KEY_PREFIX + secrets.token_urlsafe(24)
        run = Run(
            run_id=run_id,
            pid=pid,
            tenant=tenant,
            workflow=workflow,
            cap_pico=cap_pico,
            tags={**tags, RUN_TAG: run_id},
        )
        self._by_key[sha256(key.encode()).digest()] = run
        return run, key

    def close(self, run_id: str) -> bool:
        """Forget a run, so that its key opens nothing; false when there is none of that id."""
        for key, run in tuple(self._by_key.items()):
            if run.run_id == run_id:
                del self._by_key[key]
                return True
        return False

    def of(self, key: str) -> Run | None:
        """The run that a key belongs to; None when it is no run's key at all.

        Raises NotAuthorised for the key of a run that is over.
        """
        if not key.startswith(KEY_PREFIX):
            return None
        run = self._by_key.get(sha256(key.encode()).digest())
        if run is None:
            raise NotAuthorised(
                "This key belongs to a run that is over, or to another sidecar.",
                "Start the program again under `modelspend run`.",
            )
        return run
