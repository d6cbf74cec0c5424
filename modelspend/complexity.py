"""How much a prompt asks of a model, in [0, 1]: a small linear model, its few numbers as data.

Hides features and coefficients. One would expect length to lead; what tells more is how often
quantities are compared, things denied and clauses strung together. A high share of figures
counts against: such questions are hard for the strong model as well, so it helps less there.

The numbers were fitted by `python -m tests.bench.accuracy --refit` on public records of a weak
and a strong model answering the same questions; README has what they reach on subjects left out.
"""

from collections.abc import Callable
from math import exp, log

from modelspend.evidence import terms
from modelspend.reading import Reading
from modelspend.record import frozen

COMPARISONS = terms(
    "more less than greater larger smaller higher lower most least best worse better increase "
    "increases increased decrease decreases reduced faster twice half times difference ratio same "
    "equal compared longer shorter older highest lowest largest smallest fewer each both"
)
NEGATIONS = terms(
    "not no never none neither nor cannot can't won't isn't don't doesn't except false incorrect "
    "without unable fails lack least unless however but although despite"
)
STATEMENTS = terms("statement statements true false correct incorrect")

WORDS = COMPARISONS | NEGATIONS | STATEMENTS


@frozen
class Feature:
    """One measure of a text; `usual` and `spread` standardise it, `weight` is its say."""

    name: str
    measure: Callable[[Reading], float]
    usual: float
    spread: float
    weight: float


def _size(reading: Reading) -> float:
    return log(reading.size + 20)


def _sentences(reading: Reading) -> float:
    return log(reading.count("sentences"))


def _commas(reading: Reading) -> float:
    return log(1 + reading.count("commas"))


def _variety(reading: Reading) -> float:
    """A low share of different words tells of things that come up again and again."""
    return len(reading.tally) / max(len(reading.words), 1)


def _comparisons(reading: Reading) -> float:
    return _total(reading, COMPARISONS) / max(len(reading.words), 1)


def _negations(reading: Reading) -> float:
    return _total(reading, NEGATIONS) / max(len(reading.words), 1)


def _statements(reading: Reading) -> float:
    return log(1 + _total(reading, STATEMENTS))


def _figures(reading: Reading) -> float:
    flat = reading.flat
    signs = flat.count("$") + flat.count("%")
    return (reading.count("figures") + signs) / max(len(reading.words), 1)


def _total(reading: Reading, words: frozenset[str]) -> int:
    tally = reading.tally
    return sum([tally[word] for word in words & reading.hits])


FEATURES: tuple[Feature, ...] = (
    Feature("size", _size, usual=5.62, spread=0.58, weight=0.24),
    Feature("sentences", _sentences, usual=1.15, spread=0.631, weight=0.20),
    Feature("commas", _commas, usual=0.736, spread=0.789, weight=0.37),
    Feature("variety", _variety, usual=0.724, spread=0.138, weight=-0.28),
    Feature("comparisons", _comparisons, usual=0.026, spread=0.0315, weight=0.46),
    Feature("negations", _negations, usual=0.00726, spread=0.0187, weight=0.17),
    Feature("statements", _statements, usual=0.073, spread=0.349, weight=0.14),
    Feature("figures", _figures, usual=0.0753, spread=0.0958, weight=-0.33),
)
"""The longer, the more clauses, repeats, comparisons and denials, the more a strong model gains."""

MOST = 3.0
"""Standardised features are held within ±3: nothing was seen further out."""

LIFT = 0.25
LIFT_MATHEMATICS = 0.05
LIFT_MOST = 2.0
"""What a point of a rule's weight adds. Next to nothing in mathematics, where the features have
told it already: on the records a rule that fires there tells nothing more about the gain."""

OFFSET = -0.5
"""A usual exam question is at 0.38, the same with one rule of weight 4 fired at 0.62."""


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
        if value > MOST:
            value = MOST
        elif value < -MOST:
            value = -MOST
        total += feature.weight * value
    return total
