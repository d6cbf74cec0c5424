"""What `top` asks every second, held to what one adds up by hand."""

from dataclasses import replace

from modelspend.receipt import FailureClass, Receipt, Status
from modelspend.store import Store
from tests.store.synthetic import START_MS, Traffic, intent_of

AT = START_MS


def ended(one: Receipt, at_ms: int, latency_ms: float, status: Status = Status.SUCCESS) -> Receipt:
    """The receipt of a call that began at an instant and took so long."""
    run = replace(one.execution, status=status, actual_latency_ms=latency_ms, ttft_ms=7.0)
    return replace(one, created_at_ms=at_ms, execution=run)


async def test_a_call_counts_when_it_ends(store: Store, traffic: Traffic) -> None:
    every = [
        ended(traffic.receipt(), AT - 61_000, 500),  # over before the minute
        ended(traffic.receipt(), AT - 300_000, 299_000),  # a long stream that ended in it
        ended(traffic.receipt(), AT - 5_000, 100),
        ended(traffic.receipt(), AT - 4_000, 300, Status.ERROR),
        ended(traffic.receipt(), AT - 3_000, 200, Status.CLIENT_DISCONNECT),
    ]
    for one in every:
        await store.calls.finish(one)
    pace, providers = await store.rates.pace(AT - 60_000)
    assert pace.by_status == {"success": 2, "error": 1, "client_disconnect": 1}
    assert (pace.calls, pace.failed) == (4, 1)
    assert sorted(pace.latency) == [100, 200, 299_000]
    assert pace.ttft == [7, 7, 7]
    assert sorted(pace.ends) == [AT - 4_900, AT - 3_700, AT - 2_800, AT - 1_000]
    told = every[1:]
    assert pace.cost_pico == sum(one.execution.actual_cost_pico or 0 for one in told)
    assert pace.unpriced == sum(one.execution.actual_cost_pico is None for one in told)
    assert sum(one.calls for one in providers.values()) == sum(len(one.attempts) for one in told)


async def test_attempts_count_for_the_provider_that_they_asked(
    store: Store, traffic: Traffic
) -> None:
    (one, *_) = traffic.receipt().attempts
    well = replace(one, n=2, provider="groq", failure_class=None, latency_ms=30.0, ttft_ms=None)
    bad = replace(one, n=1, provider="openai", failure_class=FailureClass.CONNECT)
    call = ended(replace(traffic.receipt(), attempts=(bad, well)), AT - 1000, 50)
    await store.calls.finish(call)
    _, providers = await store.rates.pace(AT - 60_000)
    assert (providers["openai"].calls, providers["openai"].failed) == (1, 1)
    assert (providers["groq"].failed, providers["groq"].latency) == (0, [30])
    assert await store.rates.providers(AT - 60_000) == [("groq", 1), ("openai", 1)]


async def test_spend_and_holds_are_whole(store: Store, traffic: Traffic) -> None:
    every = [ended(traffic.receipt(), AT + n, 1) for n in range(50)]
    for one in every:
        await store.calls.finish(one)
    spent = await store.rates.spent(AT + 10)
    costs = [one.execution.actual_cost_pico for one in every[10:]]
    assert spent == (40, costs.count(None), sum(cost or 0 for cost in costs))
    assert await store.rates.holding() == (0, 0)
    for n in range(3):
        await store.calls.begin(replace(intent_of(traffic.receipt()), hold_pico=1 << 61))
        assert await store.rates.holding() == (n + 1, (n + 1) << 61)
