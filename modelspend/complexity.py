"""How much a prompt asks of a model, in [0, 1]: a small linear model, its few numbers as data.

Hides features and coefficients. One would expect length to lead; what tells more is how often
quantities are compared, things denied and clauses strung together. A high share of figures
counts against: such questions are hard for the strong model as well, so it helps less there.

The numbers were fitted by `python -m tests.bench.accuracy --refit` on public records of a weak
and a strong model answering the same questions; README has what they reach on subjects left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

from modelspend.evidence import terms
from modelspend.reading import Reading

COMPARISONS = terms(
    "more less than greater larger smaller higher lower most least best increase decrease faster "
    "twice half times difference ratio"
)
NEGATIONS = terms(
    "not no never none neither nor cannot except false incorrect without isn't doesn't don't"
)
STATEMENTS = terms("statement statements true false correct incorrect")
FRACTIONS = terms("half third quarter percent fraction twice double triple times")

WORDS = COMPARISONS | NEGATIONS | STATEMENTS | FRACTIONS


@dataclass(frozen=True, slots=True)
class Feature:
    """One measure of a text; `usual` and `spread` standardise it, `weight` is its say."""

    name: str
    measure: Callable[[Reading], float]
    usual: float
    spread: float
    weight: float


def _share(words: frozenset[str]) -> Callable[[Reading], float]:
    return lambda reading: _total(reading, words) / max(len(reading.words), 1)


def _log_total(words: frozenset[str]) -> Callable[[Reading], float]:
    return lambda reading: log(1 + _total(reading, words))


def _total(reading: Reading, words: frozenset[str]) -> int:
    tally = reading.tally
    return sum(tally[word] for word in words & reading.hits)


def _variety(reading: Reading) -> float:
    return len(reading.tally) / max(len(reading.words), 1)


def _figures(reading: Reading) -> float:
    return reading.count("figures") / max(len(reading.words), 1)


FEATURES: tuple[Feature, ...] = (
    Feature("size", lambda reading: log(reading.size + 20), usual=5.62, spread=0.58, weight=0.22),
    Feature(
        "sentences",
        lambda reading: log(reading.count("sentences")),
        usual=1.15,
        spread=0.63,
        weight=0.19,
    ),
    Feature(
        "commas",
        lambda reading: log(1 + reading.flat.count(",")),
        usual=0.736,
        spread=0.789,
        weight=0.34,
    ),
    Feature("variety", _variety, usual=0.724, spread=0.138, weight=-0.25),
    Feature("comparisons", _share(COMPARISONS), usual=0.0156, spread=0.0254, weight=0.38),
    Feature("negations", _share(NEGATIONS), usual=0.0058, spread=0.0172, weight=0.16),
    Feature("statements", _log_total(STATEMENTS), usual=0.073, spread=0.35, weight=0.13),
    Feature("fractions", _log_total(FRACTIONS), usual=0.16, spread=0.30, weight=0.27),
    Feature("figures", _figures, usual=0.063, spread=0.082, weight=-0.23),
)
"""The longer, the more clauses, repeats, comparisons and denials, the more a strong model gains."""

MOST = 3.0
"""Standardised features are held within ±3: nothing was seen further out."""

LIFT = 0.5
LIFT_MATHEMATICS = 0.1
LIFT_MOST = 4.0
"""What a point of a rule's weight adds. Next to nothing in mathematics, where the features have
told it already: on the records a rule that fires there tells nothing more about the gain."""

OFFSET = -1.0
"""A usual exam question is at 0.27, the same with one rule of weight 4 fired at 0.73."""


def pull(strain: float, lift: float) -> float:
    """How much a text of this strain and with this lift by rules asks, on a scale around 0."""
    return OFFSET + min(lift, LIFT_MOST) + strain


def squashed(pull: float) -> float:
    """The open scale as a number in [0, 1]."""
    return round(1 / (1 + exp(-pull)), 4)


def strain(reading: Reading) -> float:
    """The linear part: about 0 for a usual exam question, and a spread of 1 among those."""
    total = 0.0
    for feature in FEATURES:
        value = (feature.measure(reading) - feature.usual) / feature.spread
        total += feature.weight * min(max(value, -MOST), MOST)
    return total
