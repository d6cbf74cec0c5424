"""A cached conversation of twenty turns, priced three ways: stay, route each turn, and ours.

The costs are worked out here, by a small model of providers and their caches that knows nothing of
the product's own estimates: what a provider would charge for each turn, with what it has kept of
the prompt so far. Ours may never be the dearest of the three.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import pytest

from modelspend.gateway.conversations import Conversations, Turn
from modelspend.money import Band, Price
from modelspend.receipt import Classification
from modelspend.routing import Asked, Option, Policy, plan

Kind = Literal["automatic", "marked"]
MINUTE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Model:
    """Prices in pico-dollars a token. A `marked` cache is written at a price of its own."""

    name: str
    fresh: int
    read: int
    out: int
    write: int | None = None

    @property
    def kind(self) -> Kind:
        return "automatic" if self.write is None else "marked"

    def option(self) -> Option:
        rates = {"input_tokens": self.fresh, "cache_read_tokens": self.read}
        rates |= {"output_tokens": self.out}
        if self.write is not None:
            rates["cache_write_5m_tokens"] = self.write
        provider, model = self.name.split("/")
        bands = (Band(above_input=0, rates=rates),)
        price = Price(provider=provider, model=model, source="test", bands=bands)
        return Option(provider=provider, model=model, price=price)


@dataclass
class Caches:
    """What providers have kept: by model, the tokens of the prompt's beginning and until when."""

    kept: dict[str, tuple[int, int]] = field(default_factory=dict)

    def charge(self, model: Model, prompt: int, out: int, at_ms: int) -> tuple[int, int, int]:
        """(pico-dollars, tokens read, tokens written) of a turn whose prompt grew from before."""
        tokens, until = self.kept.get(model.name, (0, 0))
        read = min(tokens, prompt) if at_ms < until else 0
        keeps = prompt >= 1024
        if keeps:
            self.kept[model.name] = (prompt, at_ms + 5 * MINUTE_MS)
        rest = prompt - read
        rate = model.write if model.write is not None and keeps else model.fresh
        written = rest if model.write is not None and keeps else 0
        return read * model.read + rest * rate + out * model.out, read, written


@dataclass(frozen=True)
class Said:
    """One turn: its tier, what it adds to the prompt, what the answer is long, minutes before."""

    tier: str
    adds: int
    out: int
    pause_min: float = 0.5


@dataclass(frozen=True)
class World:
    """The models of a profile by tier, and the one that is asked for by name, if any."""

    models: dict[str, Sequence[Model]]
    own: Model | None


CLAUDE = Model(
    name="anthropic/large", fresh=3_000_000, read=300_000, write=3_750_000, out=15_000_000
)
HAIKU = Model(name="anthropic/small", fresh=1_000_000, read=100_000, write=1_250_000, out=5_000_000)
GPT = Model(name="openai/large", fresh=1_250_000, read=125_000, out=10_000_000)
MINI = Model(name="openai/mini", fresh=250_000, read=25_000, out=2_000_000)
NANO = Model(name="openai/nano", fresh=50_000, read=5_000, out=400_000)
FLASH = Model(name="google/flash", fresh=300_000, read=75_000, out=2_500_000)
WORLDS = {
    "openai, automatic": World(
        {"simple": [NANO], "standard": [MINI], "deep_reasoning": [GPT]}, own=GPT
    ),
    "openai, auto": World(
        {"simple": [NANO], "standard": [MINI], "deep_reasoning": [GPT]}, own=None
    ),
    "anthropic, marked": World(
        {"simple": [HAIKU], "standard": [HAIKU], "deep_reasoning": [CLAUDE]}, own=CLAUDE
    ),
    "anthropic, asked small": World(
        {"simple": [HAIKU], "standard": [HAIKU], "deep_reasoning": [CLAUDE]}, own=HAIKU
    ),
    "mixed": World(
        {"simple": [FLASH, NANO], "standard": [MINI, HAIKU], "deep_reasoning": [CLAUDE, GPT]},
        own=GPT,
    ),
    "mixed, auto": World(
        {"simple": [FLASH, NANO], "standard": [MINI, HAIKU], "deep_reasoning": [CLAUDE, GPT]},
        own=None,
    ),
}


def _shape(tiers: str, adds: int = 400, out: int = 300, pause: float = 0.5, start: int = 3000):
    names = {"s": "simple", "m": "standard", "d": "deep_reasoning"}
    return [
        Said(names[letter], adds + (start if n == 0 else 0), out, pause)
        for n, letter in enumerate(tiers)
    ]


SHAPES = {
    "growing, all simple": _shape("s" * 20),
    "growing, all standard": _shape("m" * 20),
    "large prefix": _shape("m" * 20, start=60_000),
    "deep first": _shape("d" + "s" * 19, start=20_000),
    "deep once": _shape("sssssd" + "s" * 14, start=20_000),
    "deep and back": _shape("ssssdddd" * 2 + "ssss", start=8_000),
    "every other": _shape("sd" * 10, start=10_000),
    "standard and deep": _shape("mmmd" * 5, start=30_000),
    "deep last": _shape("m" * 19 + "d", start=10_000),
    "expired each turn": _shape("mmmd" * 5, pause=6),
    "expired, large": _shape("ssdss" * 4, start=50_000, pause=7),
    "short turns": _shape("msd" * 6 + "ms", adds=40, out=30, start=0),
    "long answers": _shape("msmd" * 5, adds=1500, out=2500),
    "one expiry": [
        Said(each.tier, each.adds, each.out, 12 if n == 10 else 0.5)
        for n, each in enumerate(_shape("mmds" * 5, start=25_000))
    ],
}


def stay(world: World, turns: Sequence[Said]) -> int:
    """All on the model asked for; on the first one's choice where none was."""
    model = world.own or world.models[turns[0].tier][0]
    return _priced([model] * len(turns), turns)


def naive(world: World, turns: Sequence[Said]) -> int:
    """Each turn by itself, as if there were no conversation."""
    return _priced([world.models[turn.tier][0] for turn in turns], turns)


def ours(world: World, turns: Sequence[Said]) -> int:
    return _priced(decided(world, turns), turns)


def _priced(models: Sequence[Model], turns: Sequence[Said]) -> int:
    caches, total, prompt, at_ms = Caches(), 0, 0, 0
    for model, turn in zip(models, turns, strict=True):
        prompt, at_ms = prompt + turn.adds, at_ms + int(turn.pause_min * MINUTE_MS)
        total += caches.charge(model, prompt, turn.out, at_ms)[0]
        prompt += turn.out
    return total


def decided(world: World, turns: Sequence[Said]) -> list[Model]:
    """What the product chooses, told only what it would see: usages of the turns before."""
    known = {m.name: m for models in world.models.values() for m in models}
    if world.own is not None:
        known[world.own.name] = world.own
    options = {name: model.option() for name, model in known.items()}
    higher = ("simple", "standard", "deep_reasoning")
    conversations, caches = Conversations(), Caches()
    chosen: list[Model] = []
    prompt = at_ms = 0
    for turn in turns:
        prompt, at_ms = prompt + turn.adds, at_ms + int(turn.pause_min * MINUTE_MS)
        where = conversations.stay("t", "s", at_ms)
        good = {m.name for tier in higher[higher.index(turn.tier) :] for m in world.models[tier]}
        asked = Asked(mode="route", any_model=world.own is None, input_tokens=prompt, stay=where)
        found = Classification(
            category="chat", confidence=0.9, complexity=0.5, tier=turn.tier, risk_signals={}
        )
        made = plan(
            asked,
            found,
            [options[model.name] for model in world.models[turn.tier]],
            Policy(profile="default"),
            own=options[world.own.name] if world.own is not None else None,
            incumbent=options[where.name] if where is not None and where.name in good else None,
        )
        assert made.chosen is not None
        model = known[made.chosen.name]
        _, read, written = caches.charge(model, prompt, turn.out, at_ms)
        held = prompt if model.kind == "automatic" and prompt >= 1024 else read + written
        conversations.took(
            "t",
            "s",
            Turn(
                provider=made.chosen.provider,
                model=made.chosen.model,
                at_ms=at_ms,
                cached_tokens=held,
            ),
        )
        chosen.append(model)
        prompt += turn.out
    return chosen


@pytest.mark.parametrize("name", WORLDS)
def test_twenty_cached_turns_are_never_the_dearest(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = WORLDS[name]
    sums = {shape: _three_ways(world, turns) for shape, turns in SHAPES.items()}
    with capsys.disabled():
        print(f"\n{name:24} {'stay':>9} {'naive':>9} {'ours':>9}  USD for 20 turns")
        for shape, ways in sums.items():
            print(f"  {shape:22} " + " ".join(f"{each / 1e12:9.4f}" for each in ways))
    dearest = {shape for shape, (a, b, c) in sums.items() if c > max(a, b)}
    assert not dearest
    assert len({ways for ways in sums.values()}) > 10


def test_random_conversations_are_hardly_ever_the_dearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody knows how a conversation goes on, so the law holds but for a little, seldom."""
    dice = Random(7)
    sums, over = [0, 0, 0], []
    for _ in range(_RANDOM):
        ways = _three_ways(dice.choice(list(WORLDS.values())), _random_turns(dice))
        sums = [a + b for a, b in zip(sums, ways, strict=True)]
        if ways[2] > max(ways[:2]):
            over.append(ways[2] / max(ways[:2]) - 1)
    with capsys.disabled():
        told = " ".join(f"{each / 1e12:.2f}" for each in sums)
        worst = max(over, default=0)
        print(f"\n{_RANDOM} random: {told} USD; dearest {len(over)} times, by at most {worst:.2%}")
    assert len(over) < _RANDOM / 50
    assert max(over, default=0) < 0.05
    assert sums[2] < sums[1]


_RANDOM = 1000


def test_a_dear_model_does_not_keep_a_conversation_that_it_was_lent() -> None:
    """Each turn alone, a switch back costs more than a turn with the cache; together, less."""
    world = World(
        {"simple": [GPT_FRESH], "standard": [GPT_FRESH], "deep_reasoning": [CLAUDE]}, None
    )
    turns = _shape("d" + "s" * 19, start=20_000)
    models = [model.name for model in decided(world, turns)]
    assert models == [CLAUDE.name] + [GPT_FRESH.name] * 19
    stays, switches, mine = _three_ways(world, turns)
    assert mine == switches < stays


GPT_FRESH = Model(name="openai/middle", fresh=1_000_000, read=100_000, out=4_000_000)


def test_a_conversation_stays_where_a_switch_would_not_pay() -> None:
    """Two models of about the same price: the order of the profile is no reason to move."""
    near = Model(name="openai/near", fresh=1_250_000, read=125_000, out=9_900_000)
    world = World({"simple": [near], "standard": [GPT], "deep_reasoning": [GPT]}, None)
    turns = _shape("m" + "s" * 9 + "m" * 10, start=40_000)
    assert {model.name for model in decided(world, turns)} == {GPT.name}


def _three_ways(world: World, turns: Sequence[Said]) -> tuple[int, int, int]:
    return stay(world, turns), naive(world, turns), ours(world, turns)


def _random_turns(dice: Random) -> list[Said]:
    weights, sticks, tier = [dice.random() for _ in range(3)], dice.random(), "simple"
    turns = []
    for n in range(dice.randint(2, 30)):
        if dice.random() > sticks:
            tier = dice.choices(["simple", "standard", "deep_reasoning"], weights)[0]
        start = int(dice.lognormvariate(8.5, 1.3)) if n == 0 else 0
        pause = dice.choice([0.3, 1, 2, 6]) if dice.random() < 0.3 else 0.5
        adds, out = int(dice.lognormvariate(5.5, 1)), int(dice.lognormvariate(5.5, 0.8))
        turns.append(Said(tier, adds + start, out, pause))
    return turns
