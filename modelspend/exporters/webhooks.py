"""Webhooks: events and receipts for any HTTP server, signed as Standard Webhooks has it.

What is wanted is filed as deliveries in the transaction that moves the sink on, so neither a crash
nor a dead endpoint loses one; each is then tried after the pauses of its schedule, and kept as a
dead letter when all of them fail. A try after a crash may tell the same thing twice, under the same
`webhook-id`. https://github.com/standard-webhooks/standard-webhooks (read 2026-11-22)
"""

import asyncio
import base64
import binascii
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from hashlib import sha256
from itertools import islice
from random import Random
from typing import Any

from modelspend.errors import ConfigInvalid, LedgerUnavailable, Overloaded
from modelspend.events import RECEIPT, Event, asks_for_receipts
from modelspend.exporters.http import Answered, Door, NotNow
from modelspend.exporters.ration import Ration
from modelspend.exporters.surroundings import held
from modelspend.money import dumps
from modelspend.receipt_json import iso, to_json
from modelspend.record import frozen
from modelspend.settings import Settings, Webhook
from modelspend.sinks import Wants
from modelspend.store import Store, wall_ms
from modelspend.store.sinks import Also, Emission, Heading
from modelspend.store.webhooks import Delivery, filing

MOST_BYTES = 20_000  # what Standard Webhooks asks of a payload
_AT_ONCE, _EACH = 4, 2
_MOST_FILED = 1_000  # due at once: what waits beyond these waits in the ledger, at no cost
_ROUND_S = 1.0
_LOOK_S = 30.0
_PATIENCE = 5  # failures in a row, after which an endpoint is left alone for a while
_PAUSE_S, _MOST_PAUSE_S = 0.1, 60.0
_TROUBLE_S = 1.0
_GONE = 410
_SECRET = "whsec_"

log = logging.getLogger("modelspend.sinks")

Clock = Callable[[], int]


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list["WebhookSink"]:
    """One for each `[webhooks.NAME]`. Raises ConfigInvalid when a secret is missing or none."""
    return [
        WebhookSink(endpoint(name, section, env), store)
        for name, section in settings.webhooks.items()
        if section.enabled
    ]


@frozen
class Endpoint:
    """Where and how one webhook is sent; the first secret is the newest, all of them sign."""

    name: str
    url: str = field(repr=False)
    section: Webhook
    secrets: tuple[bytes, ...] = field(repr=False)


def endpoint(name: str, section: Webhook, env: Mapping[str, str]) -> Endpoint:
    """With what the environment holds for it. Raises ConfigInvalid."""
    if section.url_env is None:
        url = section.url or ""
    else:
        url = held(env, f"webhooks.{name}.url_env", section.url_env)
    if not url.lower().startswith(("https://", "http://")):
        raise ConfigInvalid(
            f"webhooks.{name}: {section.url_env} holds no address.", "It begins with https://"
        )
    return Endpoint(name, url, section, tuple(_secret(env, name, one) for one in section.secrets))


def _secret(env: Mapping[str, str], name: str, variable: str) -> bytes:
    text = held(env, f"webhooks.{name}.secrets", variable)
    try:
        found = base64.b64decode(text.removeprefix(_SECRET), validate=True)
    except binascii.Error:
        found = b""
    if not 24 <= len(found) <= 64:
        raise ConfigInvalid(
            f"webhooks.{name}.secrets: {variable} is no secret: whsec_ and base64 of 24–64 bytes.",
            "Make one: modelspend help webhooks",
        )
    return found


class WebhookSink:
    """Files what is wanted, and delivers what is filed."""

    most = 32
    linger_s = 0.2

    def __init__(
        self,
        to: Endpoint,
        store: Store,
        now_ms: Clock = wall_ms,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._to, self._store, self._now_ms = to, store, now_ms
        self._chance = chance or Random().random
        self._failures = 0
        self._ended = asyncio.Event()
        self._door = Door(allow_private=to.section.allow_private, timeout_s=to.section.timeout_s)
        self.name = f"webhook:{to.name}"
        types = to.section.types
        self.wants = Wants(
            receipts=asks_for_receipts(types),
            kinds=types,
            tenant=to.section.tenant,
        )

    def file(self, batch: Sequence[Heading]) -> Also:
        """Each becomes a delivery that is due now."""
        now_ms = self._now_ms()
        return filing([_delivery(self._to.name, one, now_ms) for one in batch])

    async def room(self) -> int:
        """An endpoint that takes nothing gets one more to be tried with, when none is due. What
        is put off counts for nothing: it shall not hold up what is new."""
        while True:
            self._ended.clear()
            most = 1 if self._resting else _MOST_FILED
            due = await self._store.webhooks.due_count(self._to.name, self._now_ms(), most)
            if due < most:
                return most - due
            await self._ended.wait()

    @property
    def _resting(self) -> bool:
        return self._failures >= _PATIENCE

    async def work(self, news: asyncio.Event, ration: Ration) -> None:
        """Deliver what is due, a few at a time, until cancelled."""
        while True:
            try:
                await asyncio.sleep(self._pause_s())
                news.clear()
                most = 1 if self._resting else _AT_ONCE * 4
                due = await self._store.webhooks.due(self._to.name, self._now_ms(), most)
                if due.deliveries:
                    await self._tried(due.deliveries, ration)
                    continue
                ration.behind(self.name, 0.0)
                wait_s = _LOOK_S
                if due.next_at_ms is not None:
                    wait_s = min(max(due.next_at_ms - self._now_ms(), 1) / 1000, _LOOK_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await news.wait()
            except (LedgerUnavailable, Overloaded):
                await asyncio.sleep(_TROUBLE_S)

    async def _tried(self, due: Sequence[Delivery], ration: Ration) -> None:
        """What each came to is written at once, after a moment or when none is left to try."""
        left, ends = iter(due), list[Also]()
        until = time.monotonic() + _ROUND_S

        async def hand() -> None:
            while few := list(islice(left, _EACH)):
                told, took_s = await self._store.webhooks.told(few)
                ration.beside(took_s)
                for one in few:
                    ends.append(await self._deliver(one, told.get(one.seq)))
                    if self._resting or time.monotonic() > until:
                        return

        running = (ration.run(hand) for _ in range(_AT_ONCE))
        hands = await asyncio.gather(*running, return_exceptions=True)
        await self._store.webhooks.write(ends)
        self._ended.set()
        now_ms = self._now_ms()
        due_ms = now_ms if self._failures else min(one.due_at_ms or now_ms for one in due)
        ration.behind(self.name, (now_ms - due_ms) / 1000)
        for one in hands:
            if isinstance(one, BaseException):
                raise one

    def _pause_s(self) -> float:
        """An endpoint that takes nothing is tried ever more rarely, one delivery at a time."""
        over = self._failures - _PATIENCE
        return 0.0 if over < 0 else min(_PAUSE_S * 2.0 ** min(over, 30), _MOST_PAUSE_S)

    async def _deliver(self, one: Delivery, told: Emission | None) -> Also:
        """One try, and what is to be written of it."""
        if told is None:
            return self._failed(
                one, b"", None, "what it tells is not in the ledger, or damaged", None
            )
        try:
            body = payload(told)
        except Exception as error:  # a fault of ours must not stop the webhook for ever
            log.error("webhook %s: not said: %s", self._to.name, type(error).__name__)
            return self._failed(one, b"", None, f"a fault of ours: {type(error).__name__}", None)
        try:
            answer = await post(self._door, self._to, one.delivery_id, body, self._now_ms())
        except NotNow as error:
            return self._failed(one, body, None, error.text, error.after_s)
        if answer.ok:
            self._failures = 0
            return self._store.webhooks.delivered(one, answer.status, self._now_ms())
        return self._failed(one, body, answer.status, f"HTTP {answer.status}", answer.after_s)

    def _failed(
        self, one: Delivery, body: bytes, status: int | None, error: str, after_s: float | None
    ) -> Also:
        now_ms, schedule = self._now_ms(), self._to.section.retry_s
        self._failures += 1
        if one.attempts >= len(schedule) or status == _GONE or not body:
            return self._store.webhooks.died(one, body, status, error, now_ms)
        pause_s = schedule[one.attempts] * (1 + self._chance() / 10)
        until_ms = now_ms + round(max(pause_s, after_s or 0.0) * 1000)
        return self._store.webhooks.put_off(one, until_ms, status, error, now_ms)

    async def close(self) -> None:
        await self._door.close()


def _delivery(webhook: str, one: Heading, now_ms: int) -> Delivery:
    """Its id begins with its number: rows that are added side by side lie side by side."""
    said = f"{webhook}\0{one.seq}\0{one.at_ms}\0{one.receipt_id or ''}"
    return Delivery(
        delivery_id=f"msg_{one.seq:010x}{sha256(said.encode()).hexdigest()[:16]}",
        webhook=webhook,
        seq=one.seq,
        type=one.kind,
        tenant=one.tenant,
        created_at_ms=one.at_ms,
        due_at_ms=now_ms,
    )


def payload(one: Emission) -> bytes:
    """The body that tells of it: the same bytes at each try."""
    if isinstance(one, Event):
        said = one.to_json()
        data = {
            **{name: said[name] for name in ("seq", "level", "tenant", "receipt_id")},
            "details": said["data"],
        }
        return dumps({"type": one.kind, "timestamp": said["created_at"], "data": data})
    receipt = {**to_json(one.receipt), "seq": one.seq}
    at = iso(one.receipt.created_at_ms)
    body = dumps({"type": RECEIPT, "timestamp": at, "data": receipt})
    if len(body) > MOST_BYTES:
        short = {name: receipt[name] for name in receipt if name not in _LONG}
        body = dumps({"type": RECEIPT, "timestamp": at, "data": {**short, "shortened": True}})
    return body


_LONG = ("candidates", "decision", "classification", "attempts", "tags")


async def post(door: Door, to: Endpoint, message_id: str, body: bytes, now_ms: int) -> Answered:
    """One try. Raises NotNow when there is no answer."""
    headers = {"content-type": "application/json", "webhook-id": message_id}
    stamp = str(now_ms // 1000)
    headers["webhook-timestamp"] = stamp
    if to.secrets:
        headers["webhook-signature"] = signature(to.secrets, message_id, stamp, body)
    return await door.post(to.url, body, headers)


def signature(secrets: Sequence[bytes], message_id: str, stamp: str, body: bytes) -> str:
    """Of each secret, the newest first: receivers accept any that they know."""
    text = f"{message_id}.{stamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(secret, text, "sha256")).decode() for secret in secrets
    )


def trial_body(now_ms: int) -> bytes:
    """What `webhooks test` sends."""
    said: dict[str, Any] = {"message": "modelspend can reach this endpoint."}
    return dumps({"type": "webhook.test", "timestamp": iso(now_ms), "data": said})
