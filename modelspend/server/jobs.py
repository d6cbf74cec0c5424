"""Periodic work: one row each, all of it small enough to never hold up a request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from modelspend import tasks
from modelspend.catalog.prices import PriceBook
from modelspend.errors import CheckFailed, LedgerUnavailable
from modelspend.record import frozen
from modelspend.server import circuits
from modelspend.server.alarms import Lookout
from modelspend.server.keys import Live
from modelspend.server.memory import give_back
from modelspend.server.signs import Signs
from modelspend.store import Store

log = logging.getLogger("modelspend")


@frozen
class Job:
    """`run` is called every `every_s` seconds, one call at a time."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]


def start(live: Live, store: Store, prices: PriceBook) -> Callable[[], Awaitable[None]]:
    """Start every job; the value stops them and waits."""
    stop = asyncio.Event()
    running = [
        tasks.spawn(_repeat(job, stop), f"job {job.name}") for job in _jobs(live, store, prices)
    ]

    async def stopped() -> None:
        stop.set()
        await asyncio.wait(running)

    return stopped


def _jobs(live: Live, store: Store, prices: PriceBook) -> tuple[Job, ...]:
    async def notice_overrides() -> None:
        """Prices, caps, evidence and orders that another process left in the ledger."""
        if await store.changed_outside():
            prices.override(await store.prices.overrides())
            live.gateway.router.scores = await store.quality.scores()
            await live.gateway.brakes.refresh(live.settings)
            await live.gateway.purse.refresh(live.settings, live.gateway.now_ms())
            await circuits.obey_orders(live, store)

    async def tell_refusals() -> None:
        await live.gateway.purse.tell_refusals(live.gateway.now_ms())

    async def foresee_budgets() -> None:
        await live.gateway.purse.foresee(live.gateway.now_ms())

    async def forget_budgets() -> None:
        purse = live.gateway.purse
        await store.budgets.forget(purse.rules.all, live.gateway.now_ms())

    async def expire_bodies() -> None:
        settings = live.settings
        await store.bodies.expire(
            live.gateway.now_ms(),
            days=settings.store.body_retention_days,
            tenant_days={
                name: tenant.body_retention_days
                for name, tenant in settings.tenants.items()
                if tenant.body_retention_days is not None
            },
        )

    async def expire_answers() -> None:
        await store.answers.expire(live.gateway.now_ms())

    async def forget_conversations() -> None:
        await store.conversations.expire(live.gateway.now_ms())
        await store.stored_answers.expire(live.gateway.now_ms())

    async def roll_up_days() -> None:
        await store.days.roll()

    async def learn_prices() -> None:
        """Of the models that may be routed to: a first call shall not wait for the price table."""
        settings = live.settings
        if settings.routing.mode != "observe" or settings.profiles:
            await live.gateway.router.learn_prices(live.gateway.now_ms())

    async def sample_health() -> None:
        await store.health.sample(live.gateway.now_ms())

    async def forget_health() -> None:
        await store.health.expire(live.gateway.now_ms())

    async def forget_deliveries() -> None:
        await store.webhooks.expire(live.gateway.now_ms())
        await store.traces.expire(live.gateway.now_ms(), live.settings.otlp.keep_days)
        await store.alarms.forget(live.gateway.now_ms())

    async def sign_checkpoint() -> None:
        """So that whoever hashes the chain anew is found by the hour, if the key is not his."""
        try:
            await store.checkpoints.make(live.gateway.now_ms())
        except (CheckFailed, OSError) as error:
            log.error("no checkpoint was signed: %s", error)

    async def give_memory_back() -> None:
        await asyncio.to_thread(give_back)

    signs = Signs(live, store)
    return (
        Job("look-at-providers", 30.0, signs.look_at_providers),
        Job("look-at-the-door", 60.0, signs.look_at_the_door),
        Job("look-at-privacy", 600.0, signs.look_at_privacy),
        Job("sign-checkpoint", 3600.0, sign_checkpoint),
        Job("learn-prices", 2.0, learn_prices),
        Job("notice-overrides", 1.0, notice_overrides),
        Job("tell-refusals", 10.0, tell_refusals),
        Job("foresee-budgets", 60.0, foresee_budgets),
        Job("forget-budgets", 600.0, forget_budgets),
        Job("roll-up-days", 5.0, roll_up_days),
        Job("expire-bodies", 600.0, expire_bodies),
        Job("expire-answers", 300.0, expire_answers),
        Job("forget-conversations", 3600.0, forget_conversations),
        Job("look-at-alerts", live.settings.alerts.every_s, Lookout(live, store).look),
        Job("sample-health", 10.0, sample_health),
        Job("forget-deliveries", 3600.0, forget_deliveries),
        Job("forget-health", 3600.0, forget_health),
        Job("give-memory-back", 15.0, give_memory_back),
    )


async def _repeat(job: Job, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            async with asyncio.timeout(job.every_s):
                await stop.wait()
        except TimeoutError:
            with suppress(LedgerUnavailable):  # it takes no writes now: the next time will do
                await job.run()
