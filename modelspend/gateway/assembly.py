"""The gateway put together, and given other settings: the one place that knows all of its parts.

What a reader would not guess: other settings change the parts in place. A call under way keeps the
decision that it was begun with, and the circuits, conversations and budgets of retries live on.
"""

from collections.abc import Callable, Mapping
from random import Random

from modelspend.catalog import Catalog
from modelspend.catalog.prices import PriceBook
from modelspend.circuits import Circuits
from modelspend.estimate import Estimator
from modelspend.gateway.answering import Answering
from modelspend.gateway.attempts import Attempts
from modelspend.gateway.brakes import Brakes
from modelspend.gateway.caller import Callers
from modelspend.gateway.conversations import Conversations
from modelspend.gateway.ending import Endings
from modelspend.gateway.failover import Failovers
from modelspend.gateway.life import Gateway
from modelspend.gateway.purse import Purse
from modelspend.gateway.router import Router
from modelspend.gateway.runs import Runs
from modelspend.gateway.settle import Settler
from modelspend.gateway.thrift import Thrift
from modelspend.gateway.upstream import Timeouts, Upstream
from modelspend.ids import Ids
from modelspend.record import frozen
from modelspend.retries import Repeats, RetryBudget
from modelspend.settings import Settings
from modelspend.store import Store


@frozen
class Assembly:
    """A gateway, and who may call it."""

    gateway: Gateway
    callers: Callers


async def assemble(
    settings: Settings,
    env: Mapping[str, str],
    store: Store,
    prices: PriceBook,
    now_ms: Callable[[], int],
    random: Random,
) -> Assembly:
    """All parts over an open ledger. Raises ConfigInvalid."""
    callers = Callers(settings.tenants, env, await store.secret("fingerprint"), Runs())
    catalog = Catalog.load(settings.providers, env)
    estimator, conversations = Estimator(await store.ratios.load()), Conversations()
    thrift = Thrift(store, estimator, settings, now_ms)
    brakes = Brakes(store)
    await brakes.refresh(settings)
    purse = Purse(store, prices, settings, brakes)
    await purse.refresh(settings, now_ms())
    circuits = Circuits(settings.circuits)
    router = Router(
        catalog,
        prices,
        estimator,
        settings,
        conversations,
        purse,
        scores=await store.quality.scores(),
        answers=store.stored_answers,
        circuits=circuits,
    )
    settler = Settler(store, prices, estimator, conversations, thrift, purse, brakes, settings)
    endings = Endings(settler)
    whole, stream = _timeouts(settings)
    attempts = Attempts(Upstream(), purse, now_ms, whole_timeouts=whole, stream_timeouts=stream)
    retries = RetryBudget(settings.retries)
    gateway = Gateway(
        router=router,
        store=store,
        settler=settler,
        thrift=thrift,
        purse=purse,
        brakes=brakes,
        failovers=Failovers(circuits, router, attempts, retries, Repeats(), now_ms),
        attempts=attempts,
        answering=Answering(settler, endings, settings.retries.hold_s),
        endings=endings,
        ids=Ids(now_ms, random.randbytes),
        now_ms=now_ms,
        random=random.randbytes,
        fingerprint=callers.fingerprint,
        max_in_flight=settings.server.max_in_flight,
    )
    return Assembly(gateway, callers)


async def reassemble(old: Assembly, settings: Settings, env: Mapping[str, str]) -> Assembly:
    """The same gateway with other settings; whatever raises leaves the old ones in place.

    Raises ConfigInvalid.
    """
    gateway = old.gateway
    fingerprint = await gateway.store.secret("fingerprint")
    callers = Callers(settings.tenants, env, fingerprint, old.callers.runs)
    catalog = Catalog.load(settings.providers, env)
    gateway.settler.reconfigure(settings)
    gateway.router.configure(catalog, settings)
    await gateway.brakes.refresh(settings)
    await gateway.purse.refresh(settings, gateway.now_ms())
    gateway.fingerprint = callers.fingerprint
    gateway.max_in_flight = settings.server.max_in_flight
    gateway.failovers.circuits.rules = settings.circuits
    gateway.failovers.budget.rules = settings.retries
    gateway.answering.hold_s = settings.retries.hold_s
    attempts = gateway.attempts
    attempts.whole_timeouts, attempts.stream_timeouts = _timeouts(settings)
    return Assembly(gateway, callers)


def _timeouts(settings: Settings) -> tuple[Timeouts, Timeouts]:
    """Those of whole answers, and those of streams."""
    limits = settings.upstream

    def within(first_byte_s: float) -> Timeouts:
        return Timeouts(
            connect_s=limits.connect_s,
            first_byte_s=first_byte_s,
            idle_s=limits.idle_s,
            total_s=limits.total_s,
        )

    return within(limits.first_byte_s), within(limits.stream_first_byte_s)
