"""Datadog: a log for each decision and event, and metrics, where an API key is in the environment.

Hides which sites there are (a key goes to none but Datadog's own, unless the settings name another
place), what the two intakes take at once, and the one switch that stops all of it. No prompt and
no answer is ever in it. https://docs.datadoghq.com/api/latest/logs/ (read 2026-11-22)
"""

import asyncio
import gzip
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import Any, get_args

from modelspend import __version__
from modelspend.errors import ConfigInvalid, Overloaded
from modelspend.events import Event
from modelspend.exporters.datadog_metrics import Names, Series, Sums, gauges_of
from modelspend.exporters.http import Answered, Door, NotNow
from modelspend.exporters.pump import Taken
from modelspend.exporters.ration import Ration
from modelspend.exporters.surroundings import source
from modelspend.money import dumps, usd
from modelspend.receipt import Receipt
from modelspend.record import frozen
from modelspend.settings import Datadog, Settings
from modelspend.sink_sections import DatadogSite
from modelspend.sinks import Wants, datadog_off, without_section
from modelspend.store import Store, wall_ms
from modelspend.store.sinks import Emission, told_at

LOGS, METRICS = "datadog:logs", "datadog:metrics"
MOST_LOGS, MOST_LOGS_BYTES, MOST_LOG_BYTES = 1000, 5_000_000, 1_000_000
MOST_SERIES_BYTES, MOST_SERIES_PACKED = 5_000_000, 500_000
_OLDEST_LOG_MS = 18 * 3_600_000
_OLDEST_POINT_MS = 3_600_000
_GAUGES_EVERY_S = 30.0
_STATUSES = {"critical": "critical", "warn": "warning"}


@frozen
class Account:
    """Where it goes, with which key, and what is said with all of it."""

    logs_url: str
    series_url: str
    key: str = field(repr=False)
    service: str
    host: str
    tags: tuple[str, ...]


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list["Logs | Metrics"]:
    """Those of logs and of metrics where there is a key; none without. Raises ConfigInvalid."""
    section = settings.datadog
    found = account(section, env)
    if found is None:
        return []
    made: list[Logs | Metrics] = []
    if section.logs:
        made.append(Logs(found, section))
    if section.metrics:
        made.append(
            Metrics(found, section, store, gone=partial(without_section, settings=settings))
        )
    return made


def account(section: Datadog, env: Mapping[str, str]) -> Account | None:
    """From the section and the variables that Datadog's own agents read; null: nothing is sent."""
    key = env.get(section.api_key_env, "").strip()
    if not key or not section.enabled or datadog_off(env):
        return None
    site = env.get("DD_SITE", "").strip() or section.site
    if site not in get_args(DatadogSite):
        raise ConfigInvalid(
            f"DD_SITE is {site!r}, which is no site of Datadog.",
            f"One of: {', '.join(get_args(DatadogSite))}. Any other place: datadog.url.",
        )
    root = None if section.url is None else section.url.rstrip("/")
    return Account(
        logs_url=f"{root or f'https://http-intake.logs.{site}'}/api/v2/logs",
        series_url=f"{root or f'https://api.{site}'}/api/v2/series",
        key=key,
        service=env.get("DD_SERVICE", "").strip() or section.service,
        host=env.get("DD_HOSTNAME", "").strip() or source(),
        tags=_tags(section, env),
    )


def _tags(section: Datadog, env: Mapping[str, str]) -> tuple[str, ...]:
    """`DD_TAGS` has them with commas or spaces between."""
    given = env.get("DD_TAGS", "").replace(",", " ").split()
    environment = env.get("DD_ENV", "").strip()
    own = [f"version:{__version__}", *([f"env:{environment}"] if environment else [])]
    return tuple(dict.fromkeys((*section.tags, *own, *given)))


class _Intake:
    """The way there, and what an answer means."""

    def __init__(self, to: Account, section: Datadog) -> None:
        self._key = to.key
        self._door = Door(allow_private=section.allow_private, timeout_s=section.timeout_s)

    async def post(self, url: str, body: bytes) -> str | None:
        """Nothing when it was taken, else why it never will be. Raises NotNow."""
        headers = {
            "dd-api-key": self._key,
            "content-type": "application/json",
            "content-encoding": "gzip",
        }
        return _why_not(await self._door.post(url, body, headers))

    async def close(self) -> None:
        await self._door.close()


def _why_not(answer: Answered) -> str | None:
    if answer.ok:
        return None
    text = f"HTTP {answer.status}"
    if answer.later:
        raise NotNow(text, after_s=answer.after_s)
    hint = " (is the API key of this site?)" if answer.status in (401, 403) else ""
    return f"{text}{hint}: not to be sent again"


class Logs:
    """Every receipt as the decision that it is, and every event."""

    name = LOGS
    wants = Wants()
    most = 200  # of a thousand that would go at once: what is tried again is said twice
    linger_s = 2.0

    def __init__(self, to: Account, section: Datadog, now_ms: Callable[[], int] = wall_ms) -> None:
        self._to, self._now_ms, self._intake = to, now_ms, _Intake(to, section)

    async def send(self, batch: Sequence[Emission]) -> Taken:
        now_ms = self._now_ms()
        fresh = [one for one in batch if now_ms - told_at(one) < _OLDEST_LOG_MS]
        sent, error = 0, None if len(fresh) == len(batch) else "older than 18 hours"
        for count, body in await self._bodies(fresh):
            refused = await self._intake.post(self._to.logs_url, body)
            sent += 0 if refused else count
            error = refused or error
        return Taken(sent=sent, dropped=len(batch) - sent, error=error)

    async def _bodies(self, batch: Sequence[Emission]) -> list[tuple[int, bytes]]:
        """How many logs each has, and its bytes, packed; the loop is let go between any two."""
        logs = []
        for one in batch:
            logs.append(shortened(log_of(one, self._to)))
            await asyncio.sleep(0)
        return [
            (len(part), await asyncio.to_thread(gzip.compress, _listed(part), 1, mtime=0))
            for part in parts(logs, MOST_LOGS, MOST_LOGS_BYTES)
        ]

    async def close(self) -> None:
        await self._intake.close()


def _listed(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def parts(items: Sequence[bytes], most: int, most_bytes: int) -> list[list[bytes]]:
    """The items in order, in lists that hold so many at most and make so many bytes as JSON."""
    found: list[list[bytes]] = []
    size = 0
    for item in items:
        if not found or len(found[-1]) == most or size + len(item) + 1 > most_bytes:
            found.append([])
            size = 2
        found[-1].append(item)
        size += len(item) + 1
    return found


def shortened(log: Mapping[str, Any]) -> bytes:
    """Its JSON; one that the intake would cut in the middle goes without its details."""
    said = dumps(dict(log))
    if len(said) <= MOST_LOG_BYTES:
        return said
    return dumps(
        {**log, "message": str(log["message"])[:10_000], "modelspend": {"shortened": True}}
    )


def log_of(one: Emission, to: Account) -> dict[str, Any]:
    """One entry of the logs intake."""
    if isinstance(one, Event):
        kind, tenant, said = one.kind, one.tenant, _event(one)
    else:
        kind, tenant, said = "routing.decision", one.receipt.tenant, _decision(one.receipt)
    tags = (*to.tags, f"event:{kind}", *([f"tenant:{tag_text(tenant)}"] if tenant else []))
    return {
        "ddsource": "modelspend",
        "ddtags": ",".join(tags),
        "hostname": to.host,
        "service": to.service,
        "timestamp": told_at(one),
        **said,
    }


def tag_text(name: str) -> str:
    """A name as part of a tag, which ends at a comma."""
    return name.replace(",", "_")[:150]


def _event(event: Event) -> dict[str, Any]:
    told = event.data.get("message")
    return {
        "status": _STATUSES.get(event.level, "info"),
        "message": f"{event.kind}: {told}" if told else event.kind,
        "modelspend": {
            "event": event.kind,
            "seq": event.seq,
            "tenant": event.tenant,
            "receipt_id": event.receipt_id,
            "data": dict(event.data),
        },
    }


def _decision(receipt: Receipt) -> dict[str, Any]:
    """What was asked for, what was chosen, how it went: figures and names, nobody's text."""
    run, plan, kind = receipt.execution, receipt.decision, receipt.classification
    last = receipt.attempts[-1] if receipt.attempts else None
    tokens = receipt.usage.quantities
    model = last.model_id if last else plan.model_id if plan else receipt.request.model
    failed = run.status not in ("success", "cached")
    return {
        "status": "warning" if failed else "info",
        "message": f"{receipt.request.model} went to {model}: {run.status}",
        "modelspend": {
            "event": "routing.decision",
            "receipt_id": receipt.receipt_id,
            "trace_id": receipt.trace_id,
            "tenant": receipt.tenant,
            "workflow": receipt.workflow,
            "dialect": receipt.request.dialect,
            "asked": receipt.request.model,
            "model": model,
            "provider": last.provider if last else plan.provider if plan else None,
            "category": kind.category if kind else None,
            "tier": kind.tier if kind else None,
            "confidence": kind.confidence if kind else None,
            "mode": plan.mode if plan else None,
            "applied": plan.applied if plan else None,
            "profile": plan.profile if plan else None,
            "strategy": plan.strategy if plan else None,
            "fallback_chain": list(plan.fallback_chain) if plan else [],
            "attempts": len(receipt.attempts),
            "failure_class": last.failure_class if last else None,
            "status": run.status,
            "cost_usd": None if run.actual_cost_pico is None else usd(run.actual_cost_pico),
            "charged_usd": usd(run.charged_pico),
            "latency_ms": run.actual_latency_ms,
            "ttft_ms": run.ttft_ms,
            "overhead_ms": run.overhead_ms,
            "tokens": dict(tokens),
        },
    }


class Metrics:
    """Counts of what each batch holds, and from time to time how circuits and sinks stand."""

    name = METRICS
    wants = Wants(kinds=("failover", "budget.*", "alert.*"))
    most = 1000
    linger_s = 10.0
    most_packed = MOST_SERIES_PACKED

    def __init__(
        self,
        to: Account,
        section: Datadog,
        store: Store,
        now_ms: Callable[[], int] = wall_ms,
        *,
        gone: Callable[[Iterable[str]], Collection[str]] = lambda names: (),
    ) -> None:
        self._to, self._now_ms, self._intake = to, now_ms, _Intake(to, section)
        self._gone = gone
        self._store, self._names, self._last_s = store, Names(), 0

    async def send(self, batch: Sequence[Emission]) -> Taken:
        now_ms = self._now_ms()
        fresh = [one for one in batch if now_ms - told_at(one) < _OLDEST_POINT_MS]
        stale = len(batch) - len(fresh)
        refused = None
        if fresh:
            sums = Sums(self._names)
            for one in fresh:
                sums.add(one)
                await asyncio.sleep(0)
            refused = await self._put(sums.series(), self._second(now_ms))
        if refused:
            return Taken(dropped=len(batch), error=refused)
        return Taken(sent=len(fresh), dropped=stale, error="older than an hour" if stale else None)

    def _second(self, now_ms: int) -> int:
        """When it is said to have been: of two points of one second only one would count."""
        self._last_s = max(now_ms // 1000, self._last_s + 1)
        return self._last_s

    async def _put(self, series: Sequence[Series], at_s: int) -> str | None:
        """Nothing when all were taken, else why not. Raises NotNow."""
        items = [dumps(one.to_json(at_s, self._to.host, self._to.tags)) for one in series]
        refused = None
        for part in parts(items, len(items), MOST_SERIES_BYTES):
            refused = await self._packed(part) or refused
        return refused

    async def _packed(self, items: list[bytes]) -> str | None:
        """In halves where it is too much for the intake even when it is packed."""
        whole = b'{"series":[' + b",".join(items) + b"]}"
        body = await asyncio.to_thread(gzip.compress, whole, 1, mtime=0)
        if len(body) > self.most_packed and len(items) > 1:
            half = len(items) // 2
            first = await self._packed(items[:half])
            return await self._packed(items[half:]) or first
        return await self._intake.post(self._to.series_url, body)

    async def work(self, news: asyncio.Event, ration: Ration) -> None:
        """Say how things stand until cancelled. What cannot be said now is old the next time."""
        while True:
            await asyncio.sleep(_GAUGES_EVERY_S)
            with suppress(NotNow, Overloaded):
                await self.tell_gauges()

    async def tell_gauges(self) -> None:
        """How circuits and sinks stand now. Raises NotNow."""
        circuits = await self._store.circuits.saved()
        rows = await self._store.sinks.rows()
        gone = self._gone([one.name for one in rows])
        live = [one for one in rows if one.name not in gone]
        series = gauges_of(circuits, live, self._names)
        if series:
            await self._put(series, self._now_ms() // 1000)

    async def close(self) -> None:
        await self._intake.close()
