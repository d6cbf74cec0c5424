"""The line to a provider is cut at every byte of an exchange, and what is charged is explained.

The provider's own log says what it charged. What is cut before the head of the answer is told as
`maybe_accepted`, what is cut after it as `responding`: then what was held is charged, unless the
usage had come already. What is `done` is charged to the last digit, and never is less charged than
the provider did. The full size, every byte: `pytest -m full -s tests/gateway/test_cuts.py`
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from modelspend.money import from_usd_per_million
from modelspend.receipt import Attempt, Delivery, Receipt, Status
from modelspend.simulator import Simulator
from tests.fakes.cutter import Cut, Cutter, How
from tests.fakes.sidecar import ALL_DIALECTS, CUT, PRICE, Sidecar, sidecar_for
from tests.gateway.asking import CHATS
from tests.gateway.test_budgets import IN, OUT, capped, short
from tests.gateway.test_failover import tiers

MODEL = "sim-close-idle+chunks-3+tokens-40-12"
RATES = {f"{name}_tokens": from_usd_per_million(str(usd)) for name, usd in PRICE.items()}
WHOLE_PICO = 40 * IN + 12 * OUT
ENDS = {
    "openai.chat": b"data: [DONE]",
    "openai.responses": b"event: response.completed",
    "anthropic.messages": b"event: message_stop",
    "gemini.generate": b'"finishReason"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One that was cut: its own name in the provider's log, its receipt, what the client saw."""

    cut: Cut
    name: str
    receipt: Receipt
    looks_whole: bool


@dataclass(slots=True)
class Told:
    """What the receipts say of all exchanges, and what they leave unexplained."""

    cuts: int = 0
    exact: int = 0
    led: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.deliveries.items()))
        return (
            f"{self.cuts} cuts, {self.exact} of them charged to the last digit,"
            f" {self.led} led to another provider; told as {told};"
            f" {len(self.unexplained)} unexplained"
        )

    def judge(self, one: Exchange, true_pico: int) -> None:
        self.cuts += 1
        receipt, (attempt, *others) = one.receipt, one.receipt.attempts
        true_pico -= WHOLE_PICO * len(others)  # who is asked then answers, and is whole
        self.led += len(others)
        self.exact += attempt.charged_pico == true_pico
        self.deliveries[attempt.delivery] += 1
        why = unexplained(attempt, true_pico)
        if one.looks_whole is not (receipt.execution.status is Status.SUCCESS):
            why = f"the client takes it for {'' if one.looks_whole else 'not '}whole"
        if [each.charged_pico for each in others] != [WHOLE_PICO] * len(others):
            why = "the other one was not charged what it cost"
        if receipt.execution.charged_pico != sum(each.charged_pico for each in receipt.attempts):
            why = "its parts do not add up"
        if why is not None:
            self.unexplained.append(f"{one.cut}: {why}, {true_pico} was charged: {attempt}")


def unexplained(attempt: Attempt, true_pico: int) -> str | None:
    """What is wrong with what an attempt is charged, beside what its provider says."""
    exact = attempt.charged_pico == true_pico
    if attempt.status is Status.SUCCESS and not exact:
        return "it went well"
    match attempt.delivery:
        case Delivery.NOT_SENT | Delivery.DONE if not exact:
            return f"it was {attempt.delivery}"
        case Delivery.RESPONDING if not exact and attempt.usage.source == "provider":
            return "it is no estimate"
    return "too little was charged" if attempt.charged_pico < true_pico else None


@dataclass(slots=True)
class Bench:
    """A sidecar with one provider for each line; one exchange at a time on a line."""

    sidecar: Sidecar
    lines: Sequence[Cutter]
    dialect: str
    stream: bool
    spare: bool
    _n: int = 0

    async def cuts(self, step: int) -> list[Cut]:
        """Every cut, or one of so many, of an exchange like one that is left whole."""
        whole = await self.exchange(0, None)
        assert whole.looks_whole
        assert whole.receipt.execution.status is Status.SUCCESS
        passed = self.lines[0].passed
        return [
            Cut(side, after, how)
            for how in get_args(How)
            for side, last in (("request", passed.request - 1), ("answer", passed.answer))
            for after in dict.fromkeys((*range(0, last, step), last))
        ]

    async def every(self, cuts: Sequence[Cut]) -> list[Exchange]:
        """An exchange for each, as many at once as there are lines."""
        left, done = iter(cuts), list[Exchange]()

        async def work(line: int) -> None:
            for cut in left:
                done.append(await self.exchange(line, cut))

        async with asyncio.TaskGroup() as workers:
            for line in range(len(self.lines)):
                workers.create_task(work(line))
        return done

    async def exchange(self, line: int, cut: Cut | None) -> Exchange:
        self._n += 1
        name = f"{self._n:08d}"
        self.lines[line].cut = cut
        path, body = short(self.dialect, MODEL, stream=self.stream)
        model = f"auto:line{line:02d}" if self.spare else f"line{line:02d}/{MODEL}"
        if "model" in body:
            body["model"] = model
        path = path.replace(f"sim/{MODEL}", model)
        status, head, said = await self.sidecar.post(
            path, body, headers={"x-client-request-id": name, "x-modelspend-session": name}
        )
        ended = not self.stream or ENDS[self.dialect] in said
        return Exchange(
            cut=cut or Cut("answer", -1, "close"),
            name=name,
            receipt=await self.sidecar.receipt_of(head),
            looks_whole=status == 200 and CUT not in said and ended,
        )


async def cut_everywhere(
    folder: Path,
    dialect: str,
    *,
    stream: bool,
    step: int,
    lines: int,
    spare: bool = False,
    limit_s: float = 0.2,
) -> Told:
    """One exchange for every so-manieth byte, in each way of being cut; `spare`: with another
    provider beside the one that is cut, which may be asked then."""
    told = Told()
    async with Simulator(keep=1_000_000) as sim, AsyncExitStack() as stack:
        cutters = [await stack.enter_async_context(Cutter(sim.url)) for _ in range(lines)]
        providers = {
            f"line{n:02d}": {
                "base_url": f"{cutter.url}/v1",
                "dialects": ALL_DIALECTS,
                "price": PRICE,
            }
            for n, cutter in enumerate(cutters)
        }
        beside = {"spare": {**providers["line00"], "base_url": f"{sim.url}/v1"}} if spare else {}
        retries = {"retries": {"max_attempts": 2, "share": 0, "floor": 0}} if spare else {}
        profiles = {name: tiers(f"{name}/{MODEL}", f"spare/{MODEL}") for name in providers}
        sidecar = await stack.enter_async_context(
            sidecar_for(
                folder,
                sim.url,
                providers=providers | beside,
                profiles=profiles if spare else {},
                upstream={
                    "first_byte_s": limit_s,
                    "stream_first_byte_s": limit_s,
                    "idle_s": limit_s,
                },
                budgets={"all": capped("1000")},
                **retries,
            )
        )
        bench = Bench(sidecar, cutters, dialect, stream, spare)
        done = await bench.every(await bench.cuts(step))
        await sim.quiet()
        names = {line["n"]: line["attempt"] for line in sim.log if line["event"] == "accepted"}
        charged: Counter[str] = Counter()
        for line in sim.ended():
            cost = sum(RATES.get(bucket, 0) * n for bucket, n in line["charged"].items())
            charged[names[line["n"]]] += cost
        for one in done:
            told.judge(one, charged[one.name])
    kind = f"{'stream' if stream else 'whole'}{', with a spare' if spare else ''}"
    print(f"\n{dialect}, {kind}: {told}")
    return told


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_cut_at_some_bytes_of_an_exchange_is_explained(
    tmp_path: Path, dialect: str, *, stream: bool
) -> None:
    told = await cut_everywhere(tmp_path, dialect, stream=stream, step=97, lines=8)
    assert told.unexplained == []
    assert told.deliveries.keys() >= {"maybe_accepted", "responding"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_what_was_perhaps_paid_for_twice_is_charged_twice(
    tmp_path: Path, dialect: str, *, stream: bool
) -> None:
    told = await cut_everywhere(tmp_path, dialect, stream=stream, step=131, lines=8, spare=True)
    assert told.unexplained == []
    assert 0 < told.led <= told.cuts


FULL: dict[str, Any] = {"lines": 96, "limit_s": 1.0}
"""So many at once take their time to be answered."""


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_cut_at_every_byte_of_an_exchange_is_explained(
    tmp_path: Path, dialect: str, *, stream: bool
) -> None:
    told = await cut_everywhere(tmp_path, dialect, stream=stream, step=1, **FULL)
    assert told.unexplained == []
    assert told.cuts > 2_500


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_what_was_perhaps_paid_for_twice_is_charged_twice_at_every_fourth_byte(
    tmp_path: Path, dialect: str, *, stream: bool
) -> None:
    told = await cut_everywhere(tmp_path, dialect, stream=stream, step=4, spare=True, **FULL)
    assert told.unexplained == []
    assert told.led > 300
