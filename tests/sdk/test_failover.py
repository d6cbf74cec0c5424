"""The vendors' own clients in front of a provider that fails and one that does not.

Whatever breaks before the first content is led round, and the client has its answer; after it the
client raises its own kind of error, and nobody else is asked. A whole answer has no content before
its end, so whatever breaks it is led round.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from modelspend.receipt import Status
from modelspend.simulator import Simulator
from tests.fakes.sidecar import ALL_DIALECTS, PRICE, sidecar_for
from tests.gateway.test_failover import tiers
from tests.sdk.conftest import Door, leaves_a_connection
from tests.sdk.test_translated import CLIENTS, HELLO, KEYS, PAIRS, SPEAKS, ask, failed, providers

BEFORE = (
    "500", "503", "529", "401", "429-retry-30", "hangup", "reset", "cut-0", "raw-garbage",
    "redirect", "html-502", "200-error-first", "stall-headers",
)  # fmt: skip
AFTER = ("error-after-8+chunks-20", "cut-8+chunks-20", "reset-8+chunks-20",
         "stall-8+chunks-20", "no-done")  # fmt: skip
WHOLE = ("cut-2", "reset-2", "stall-2", "lost", "raw-long-length")
DEAR = {**PRICE, "output": 7}
"""Too dear for conversations to stay there: each call tries the first choice."""

pytestmark = pytest.mark.filterwarnings(  # the client's own, at every start
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)


@pytest.fixture
async def two(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Door]:
    """A sidecar with a profile for each failure: who fails so comes first, and an echo after it."""
    profiles = {
        named(behaviour): tiers(f"sim/sim-{behaviour}", "other/sim-echo")
        for behaviour in (*BEFORE, *AFTER, *WHOLE)
    }
    other = {"base_url": f"{simulator.url}/v1", "dialects": ALL_DIALECTS, "price": DEAR}
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": other},
        profiles=profiles,
        retries={"backoff_s": 0.01},
        circuits={},
        upstream={"first_byte_s": 0.4, "stream_first_byte_s": 0.4, "idle_s": 0.3},
    ) as running:
        yield Door(simulator, running)


def named(behaviour: str) -> str:
    return behaviour.replace("+", "_")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_has_its_answer_though_the_first_provider_failed_before_its_content(
    two: Door, name: str, *, stream: bool
) -> None:
    assert two.sidecar
    for behaviour in BEFORE if stream else (*BEFORE, *WHOLE):
        answer = await ask(two, name, f"auto:{named(behaviour)}", stream)
        assert "Hello" in str(answer), behaviour
        *_, receipt = await two.sidecar.receipts()
        assert receipt.execution.status is Status.SUCCESS, behaviour
        assert [one.provider for one in receipt.attempts] == ["sim", "other"], behaviour


@leaves_a_connection
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_raises_when_a_stream_breaks_off_after_its_content(
    two: Door, name: str
) -> None:
    for behaviour in AFTER:
        _, receipt = await failed(two, name, f"auto:{named(behaviour)}", True)
        assert receipt.execution.status in (Status.TRUNCATED, Status.ERROR), behaviour
        assert [one.provider for one in receipt.attempts] == ["sim"], behaviour


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "at"), PAIRS)
async def test_a_client_has_its_answer_from_a_provider_of_another_dialect(
    tmp_path: Path, simulator: Simulator, name: str, at: str, *, stream: bool
) -> None:
    """The first choice speaks the client's own dialect and fails, the second one speaks another."""
    first = ("sim-503", "sim-hangup", "sim-200-error-first")
    async with sidecar_for(
        tmp_path,
        simulator.url,
        env=KEYS,
        providers={
            each: {**told, "price": DEAR} for each, told in providers(simulator.url).items()
        },
        profiles={each: tiers(f"sim/{each}", f"{at}/sim-echo") for each in first},
        retries={},
        circuits={},
    ) as sidecar:
        door = Door(simulator, sidecar)
        for each in first:
            assert "Hello" in str(await ask(door, name, f"auto:{each}", stream)), each
            *_, receipt = await sidecar.receipts()
            assert receipt.execution.status is Status.SUCCESS, each
            assert [one.provider for one in receipt.attempts] == ["sim", at], each
            assert receipt.request.translated_to == SPEAKS[at]


EARLY = {"openai.chat": 1, "openai.responses": 4, "anthropic.messages": 3, "gemini.generate": 0}
"""How many events of a stream of three words come before the first word: roles, starts, pings."""

LATE = {"openai.chat": 5, "openai.responses": 10, "anthropic.messages": 8, "gemini.generate": 2}
"""How many come before the last: the reason for the end among them, where that is not the last."""

WAYS = ("error-after", "cut", "reset", "stall")


@leaves_a_connection
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_has_its_answer_up_to_the_last_event_before_the_content_and_raises_after_it(
    tmp_path: Path, simulator: Simulator, name: str
) -> None:
    """And where nobody else may be asked it raises in any case."""
    early = [f"sim-{way}-{EARLY[name]}+chunks-3" for way in WAYS]
    late = [f"sim-{way}-{LATE[name]}+chunks-3" for way in WAYS]
    other = {"base_url": f"{simulator.url}/v1", "dialects": ALL_DIALECTS, "price": DEAR}
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": other},
        profiles={named(each): tiers(f"sim/{each}", "other/sim-echo") for each in early + late},
        retries={"max_attempts": 2, "share": 0, "floor": 0},  # a hop is free, a repetition is not
        circuits={},
        upstream={"stream_first_byte_s": 0.4, "idle_s": 0.3},
    ) as sidecar:
        door = Door(simulator, sidecar)
        for each in early:
            assert "Hello" in str(await ask(door, name, f"auto:{named(each)}", True)), each
            *_, receipt = await sidecar.receipts()
            assert [one.provider for one in receipt.attempts] == ["sim", "other"], each
            assert receipt.execution.status is Status.SUCCESS, each
        for model in (*(f"auto:{named(each)}" for each in late), *(f"sim/{e}" for e in early)):
            _, receipt = await failed(door, name, model, True)
            assert [one.provider for one in receipt.attempts] == ["sim"], model
            assert receipt.execution.status in (Status.TRUNCATED, Status.ERROR), model


async def test_a_client_that_tries_again_itself_does_not_multiply_what_the_sidecar_tries(
    tmp_path: Path, simulator: Simulator
) -> None:
    """Three tries of the client: at the first the sidecar tries three times, then once each."""
    async with (
        sidecar_for(
            tmp_path,
            simulator.url,
            retries={"backoff_s": 0.01},
            circuits={"consecutive": 100, "min_calls": 50},
        ) as sidecar,
        openai.AsyncOpenAI(base_url=f"{sidecar.url}/v1", api_key="x", max_retries=2) as client,
    ):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="sim/sim-500", messages=HELLO)
        receipts = await sidecar.receipts()
    assert [len(one.attempts) for one in receipts] == [3, 1, 1]
    assert len(simulator.requests) == 5
