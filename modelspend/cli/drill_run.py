"""One drill, from its beginning to the recovery: over HTTP to its sidecar, seen in the ledger.

Everything that is reported is read from the ledger, as anybody could read it later. What a reader
would not guess: the first interrupt ends the fault and not the program, whose report is the point.
"""

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelspend.cli.client import Daemon
from modelspend.errors import DaemonUnreachable, NotFound

if TYPE_CHECKING:
    from modelspend.drills import Drill
    from modelspend.events import Event
    from modelspend.receipt import Receipt
    from modelspend.store import Store

_LOOK_S = 0.25
_PAGE = 1000
_MOST = 200_000
_BEFORE_MS = 600_000
_BEFORE = 500
_TOLD_S = 5.0
_ANSWERED_S = 10.0
_RECOVERY_S = 60.0
"""How much longer than the circuit's own wait its recovery is waited for."""


class Shown(Protocol):
    """Where progress goes."""

    def phase(self, words: str) -> None: ...

    def look(self, seen: "Seen", left_s: float) -> None: ...

    def close(self) -> None: ...


class Traffic(Protocol):
    """Whoever sends the calls, if it is us: it may need a moment to be under way."""

    async def warm(self) -> None: ...


@dataclass(slots=True)
class Seen:
    """What the ledger has told so far."""

    provider: str
    store: "Store" = field(repr=False)
    receipt_cursor: int = 0
    event_cursor: int = 0
    receipts: "list[Receipt]" = field(default_factory=list)
    events: "list[Event]" = field(default_factory=list)
    states: dict[tuple[str, str], str] = field(default_factory=dict)

    async def begin(self) -> None:
        """From here on."""
        newest = await self.store.receipts.list(limit=1)
        self.receipt_cursor = newest[0].seq if newest else 0
        self.event_cursor = await self.store.events.last()
        self.receipt_cursor = max(self.receipt_cursor, self.event_cursor)

    async def look(self) -> None:
        while page := await self.store.receipts.after(self.receipt_cursor, limit=_PAGE):
            self.receipt_cursor = page[-1].seq
            if len(self.receipts) < _MOST:
                self.receipts += [stored.receipt for stored in page]
        events, self.event_cursor = await self.store.events.page(self.event_cursor, _PAGE)
        for event in events:
            self.events.append(event)
            if event.kind.startswith("circuit.") and event.data.get("provider") == self.provider:
                key = str(event.data.get("model_id")), str(event.data.get("key_id"))
                self.states[key] = event.kind

    @property
    def calls(self) -> "list[Receipt]":
        """Those that have to do with the provider."""
        from modelspend.drill_report import concerned, hops_from

        hops = hops_from(self.provider, self.events)
        return [one for one in self.receipts if concerned(one, self.provider, hops)]

    @property
    def unwell(self) -> bool:
        """A circuit of the provider moved and has not recovered."""
        return any(kind != "circuit.recovered" for kind in self.states.values())


def run(
    ledger: Path, daemon: Daemon, asked: dict[str, Any], shown: Shown, traffic: Traffic | None
) -> dict[str, Any]:
    """Carry a drill out; its report. Raises what the sidecar says of what is asked."""
    from modelspend.cli.reading import read

    try:
        return read(ledger, lambda store: _Run(store, daemon, asked, shown, traffic).carry_out())
    finally:
        shown.close()


class _Run:
    def __init__(
        self,
        store: "Store",
        daemon: Daemon,
        asked: dict[str, Any],
        shown: Shown,
        traffic: Traffic | None,
    ) -> None:
        self._store = store
        self._daemon = daemon
        self._asked = asked
        self._shown = shown
        self._traffic = traffic
        self._stop = asyncio.Event()
        self._seen = Seen(asked["provider"], store)

    async def carry_out(self) -> dict[str, Any]:
        from modelspend.drill_report import Drilled, report
        from modelspend.store import Filter

        if self._traffic is not None:
            self._shown.phase("calls begin to flow")
            await self._traffic.warm()
        await self._seen.begin()
        drill = _drill(await asyncio.to_thread(self._daemon.post, "/v1/drill", self._asked))
        interrupted = await self._while_on(drill)
        ended_at_ms = await self._end_of(drill)
        still_open = await self._answered(ended_at_ms)
        if not interrupted:
            await self._recovery()
        await self._seen.look()
        start = drill.started_at_ms  # a call that began a moment before may have met it
        before = Filter(since_ms=start - _BEFORE_MS, until_ms=start, provider=drill.provider)
        seen = Drilled(
            drill=drill,
            ended_at_ms=ended_at_ms,
            receipts=[
                one
                for one in self._seen.receipts
                if start <= one.created_at_ms < ended_at_ms
                or any(attempt.drill for attempt in one.attempts)
            ],
            before=[one.receipt for one in await self._store.receipts.list(before, limit=_BEFORE)],
            events=self._seen.events,
            still_open=still_open,
        )
        return {"interrupted": interrupted, **report(seen)}

    async def _while_on(self, drill: "Drill") -> bool:
        """Until it is over, or somebody has had enough of it: then true."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        over = loop.time() + (drill.until_ms - drill.started_at_ms) / 1000
        try:
            while (left_s := over - loop.time()) > 0 and not self._stop.is_set():
                await self._seen.look()
                self._shown.look(self._seen, left_s)
                await self._pause(min(left_s, _LOOK_S))
        finally:
            if self._stop.is_set() or loop.time() < over:
                with suppress(NotFound, DaemonUnreachable):
                    path = f"/v1/drill/{drill.drill_id}"
                    await asyncio.to_thread(self._daemon.call, "DELETE", path)
        return self._stop.is_set()

    async def _end_of(self, drill: "Drill") -> int:
        """When it was over, by the ledger; by its limit, if that never said so."""
        patience = asyncio.get_running_loop().time() + _TOLD_S
        while asyncio.get_running_loop().time() < patience:
            await self._seen.look()
            for event in self._seen.events:
                if event.kind == "drill.ended" and event.data.get("drill_id") == drill.drill_id:
                    return event.at_ms
            await asyncio.sleep(_LOOK_S / 5)
        return drill.until_ms

    async def _answered(self, ended_at_ms: int) -> int:
        """Wait a moment for calls that the fault held up; how many are open all the same."""
        patience = asyncio.get_running_loop().time() + _ANSWERED_S
        while still_open := await self._store.calls.open_count(ended_at_ms):
            if asyncio.get_running_loop().time() > patience:
                break
            await asyncio.sleep(_LOOK_S / 5)
        return still_open

    async def _recovery(self) -> None:
        """Until every circuit is closed again, as long as that can reasonably take."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + _RECOVERY_S + self._wait_s()
        if self._seen.unwell:
            self._shown.phase("the fault is gone; waiting for the recovery (Ctrl-C: no longer)")
        while self._seen.unwell and loop.time() < limit and not self._stop.is_set():
            await self._pause(_LOOK_S)
            await self._seen.look()
            self._shown.look(self._seen, 0.0)

    def _wait_s(self) -> float:
        """The longest time that a circuit of the provider is to stay open, from now."""
        mine = [
            event.data.get("wait_s")
            for event in self._seen.events
            if event.kind == "circuit.open" and event.data.get("provider") == self._seen.provider
        ]
        return max([0.0, *(float(wait) for wait in mine if wait is not None)])

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _drill(told: dict[str, Any]) -> "Drill":
    from modelspend.drills import Drill, Fault
    from modelspend.receipt_json import from_iso

    return Drill(
        drill_id=told["drill_id"],
        provider=told["provider"],
        fault=Fault(
            kind=told["fault"],
            at=told["at"],
            delay_s=float(told["delay_s"]),
            retry_after_s=told["retry_after_s"],
            period_s=float(told["period_s"]),
        ),
        started_at_ms=from_iso(told["started_at"]),
        until_ms=from_iso(told["ends_at"]),
    )
