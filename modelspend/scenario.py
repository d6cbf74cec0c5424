"""What a change would save: calls that move, read more from caches, grow, and what each is worth.

A change is worked out on past calls, each priced again as it would have been; here is what is
asked, which conversations take part, and the sums. The steps are taken in a fixed order (mix,
routing, caching, growth), each from where the one before it left off, so that what they save adds
up to the whole however they are combined. Costs a day are rounded to a pico-dollar before they
are multiplied by days: every printed figure can be recomputed from the printed ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any, Literal

from modelspend.forecast import LEVELS, Horizon
from modelspend.forecast_json import total_json
from modelspend.money import usd
from modelspend.record import frozen

Step = Literal["mix", "routing", "caching"]
STEPS: tuple[Step, ...] = ("mix", "routing", "caching")
MECHANISMS = (*STEPS, "growth")
WINDOW = 28
"""Days of receipts that a scenario is worked out on: four of each weekday."""

Conversation = tuple[str, str]
"""A tenant and the key of one of its conversations."""


@frozen(kw_only=True)
class Change:
    """What is asked. Shares are in per cent of cost, the cache's is a difference of shares.

    `mix` is model → other model → per cent of its cost that goes there.
    """

    shift_deep_pct: Decimal = Decimal(0)
    shift_to: str | None = None
    cache_hit_delta: Decimal = Decimal(0)
    growth_pct: Decimal = Decimal(0)
    mix: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for what no traffic can do."""
        if not 0 <= self.shift_deep_pct <= 100:
            raise ValueError(f"routing_shift_deep_pct must be 0 to 100, not {self.shift_deep_pct}")
        if not -1 <= self.cache_hit_delta <= 1:
            raise ValueError(f"cache_hit_rate_delta must be -1 to 1, not {self.cache_hit_delta}")
        if not -100 <= self.growth_pct <= 10_000:
            raise ValueError(f"usage_growth_pct must be -100 to 10000, not {self.growth_pct}")
        for source, targets in self.mix.items():
            if not all(0 <= share <= 100 for share in targets.values()):
                raise ValueError(f"model_mix: a share of {source} must be 0 to 100")
            if sum(targets.values()) > 100:
                raise ValueError(f"model_mix: more than all of {source} would move")


def chosen(
    weights: Mapping[Conversation, int], goal: Fraction, salt: str
) -> frozenset[Conversation]:
    """Conversations that together weigh about so much.

    Whole ones, since a conversation that moves loses its caches once. They are tried in the order
    of their hash, and taken where that comes nearer; the same ones for the same question.
    """
    taken: set[Conversation] = set()
    reached = 0
    for each in sorted(weights, key=lambda each: _hash(salt, each)):
        if abs(reached + weights[each] - goal) < abs(reached - goal):
            taken.add(each)
            reached += weights[each]
    return frozenset(taken)


def _hash(salt: str, each: Conversation) -> bytes:
    return sha256("\0".join((salt, *each)).encode()).digest()


@dataclass(slots=True)
class Move:
    """Calls that went from one model to another, and what they cost before and after."""

    calls: int = 0
    before_pico: int = 0
    after_pico: int = 0


@dataclass(slots=True)
class Tally:
    """Past calls under a change, added up.

    `costs` are those in the ledger and after each of the steps. `stuck` calls were to move and
    could not, since nobody there speaks their dialect or no price is known; they stay. `unseen` are
    models of the mix that no receipt is of, `mix_pico` what the calls of the others cost, and
    `mixed_pico` what those cost that went from one to another.
    """

    calls: int = 0
    unpriced: int = 0
    inexact: int = 0
    costs: list[int] = field(default_factory=lambda: [0] * (len(STEPS) + 1))
    moves: dict[tuple[Step, str, str], Move] = field(default_factory=lambda: defaultdict(Move))
    stuck: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    unseen: list[str] = field(default_factory=list)
    mix_pico: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    mixed_pico: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    deep_pico: int = 0
    shifted_pico: int = 0
    prompt: int = 0
    read: int = 0
    read_after: int = 0

    def add(self, costs: Sequence[int]) -> None:
        """One call: what it cost in the ledger, and would after each step."""
        self.calls += 1
        for n, cost in enumerate(costs):
            self.costs[n] += cost

    def moved(self, step: Step, before: str, after: str, was_pico: int, now_pico: int) -> None:
        move = self.moves[step, before, after]
        move.calls += 1
        move.before_pico += was_pico
        move.after_pico += now_pico

    def beside(self, step: Step) -> int:
        """What a step saved on calls that did not move: with others gone, they read less or more
        from caches. With what the moves saved it is all that the step saved."""
        n = STEPS.index(step)
        moved = [move for (each, *_), move in self.moves.items() if each == step]
        saved = sum(move.before_pico - move.after_pico for move in moved)
        return self.costs[n] - self.costs[n + 1] - saved


@frozen(kw_only=True)
class Outcome:
    """A change in dollars a day. What each mechanism saves is signed; they add up to the whole."""

    base_pico: int
    adjusted_pico: int
    saved_pico: Mapping[str, int]


def outcome(tally: Tally, days: int, growth_pct: Decimal) -> Outcome:
    """The sums of so many days as one day."""
    levels = [round(Fraction(cost, days)) for cost in tally.costs]
    levels.append(round(levels[-1] * (1 + Fraction(growth_pct) / 100)))
    saved = {
        name: before - after
        for name, before, after in zip(MECHANISMS, levels, levels[1:], strict=False)
    }
    return Outcome(base_pico=levels[0], adjusted_pico=levels[-1], saved_pico=saved)


def to_json(
    change: Change, tally: Tally, days: int, horizon_days: int, ahead: Horizon | None
) -> dict[str, Any]:
    """Every figure. `projection` is the forecast as it stands, and as the change scales it."""
    found = outcome(tally, days, change.growth_pct)
    base, adjusted = found.base_pico, found.adjusted_pico
    return {
        "horizon_days": horizon_days,
        "base_daily_cost_usd": usd(base),
        "adjusted_daily_cost_usd": usd(adjusted),
        "savings_vs_base_usd": usd((base - adjusted) * horizon_days),
        "routing_savings_ratio_used": _share(base - adjusted, base),
        "savings_by_mechanism": {
            f"{name}_usd": usd(saved * horizon_days) for name, saved in found.saved_pico.items()
        },
        "asked": {
            "routing_shift_deep_pct": change.shift_deep_pct,
            "routing_shift_to": change.shift_to,
            "cache_hit_rate_delta": change.cache_hit_delta,
            "usage_growth_pct": change.growth_pct,
            "model_mix": {name: dict(targets) for name, targets in change.mix.items()},
        },
        "reached": {
            "routing_shift_deep_pct": _percent(tally.shifted_pico, tally.deep_pico),
            "model_mix": {
                source: {
                    target: _percent(tally.mixed_pico[source, target], tally.mix_pico[source])
                    for target in targets
                }
                for source, targets in change.mix.items()
            },
            "cache_hit_rate": _share(tally.read, tally.prompt),
            "cache_hit_rate_after": _share(tally.read_after, tally.prompt),
        },
        "priced_again": {
            "days": days,
            "calls": tally.calls,
            "unpriced": tally.unpriced,
            "inexact": tally.inexact,
            "ledger_usd": usd(tally.costs[0]),
            **{
                f"after_{step}_usd": usd(cost)
                for step, cost in zip(STEPS, tally.costs[1:], strict=True)
            },
        },
        "moves": [
            {
                "mechanism": step,
                "from": before,
                "to": after,
                "calls": move.calls,
                "before_usd": usd(move.before_pico),
                "after_usd": usd(move.after_pico),
            }
            for (step, before, after), move in moves_in_order(tally)
        ],
        "saved_beside_moves": {
            f"{step}_usd": usd(tally.beside(step)) for step in ("mix", "routing")
        },
        "stuck": [{"reason": why, "calls": calls} for why, calls in sorted(tally.stuck.items())],
        "unseen_models": tally.unseen,
        "projection": None if ahead is None else _projection(ahead, base, adjusted),
    }


def moves_in_order(tally: Tally) -> list[tuple[tuple[Step, str, str], Move]]:
    """By step, those that save most first."""
    return sorted(
        tally.moves.items(),
        key=lambda each: (
            STEPS.index(each[0][0]),
            each[1].after_pico - each[1].before_pico,
            each[0],
        ),
    )


def _projection(ahead: Horizon, base: int, adjusted: int) -> dict[str, Any]:
    scale = Fraction(adjusted, base) if base else Fraction(1)

    def scaled(edges: Iterable[int]) -> list[Decimal]:
        return [usd(round(edge * scale)) for edge in edges]

    return {
        "base": total_json(ahead),
        "adjusted": {
            "cost_usd": scaled((ahead.cost_pico,))[0],
            "bands": {str(level): scaled(ahead.bands[level]) for level in LEVELS},
        },
    }


def _share(part: int, whole: int) -> Decimal | None:
    """To six digits behind the point; null of nothing."""
    return Decimal(round(Fraction(part * 10**6, whole))).scaleb(-6) if whole else None


def _percent(part: int, whole: int) -> Decimal | None:
    return Decimal(round(Fraction(part * 10**4, whole))).scaleb(-2) if whole else None
