"""Fits the few numbers of `complexity.py` and the chances of `signals.py`, in plain Python.

Complexity: the target is what the strong model gains on a question (strong right minus weak
right). Both sets weigh the same and only differences within a set count; the ridge is so strong
that weights are near to plain correlations. Chances: a logistic fit on the labelled prompts in
which each task weighs by the root of its size. What is judged always comes from a fit without
the question's subject (MMLU), its fold (GSM8K) or the prompt's task.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt

from modelspend import complexity
from modelspend.complexity import FEATURES, LIFT_MOST, MOST
from modelspend.reading import read
from modelspend.rules import THRESHOLD
from modelspend.signals import SCORE_MOST, VOCABULARY, detect, held, lift
from tests.bench.accuracy.prompts import Prompt
from tests.bench.accuracy.routing import Question

RIDGE = 10.0
PRIOR = 1.0
STEPS = 12

Sets = Mapping[str, Sequence[Question]]
Row = list[float]


@dataclass(frozen=True, slots=True)
class _Gain:
    """One question: its features as they stand, and what the strong model gains on it."""

    name: str
    subject: str
    features: Row
    gain: float
    lift: float


@dataclass(slots=True)
class _Sums:
    """What a fit needs to know of some questions; those of a subject can be taken off again."""

    n: float
    x: Row
    y: float
    xx: list[Row]
    xy: Row


def complexity_left_out(sets: Sets) -> dict[str, list[float]]:
    """For each set the complexity of its questions, from weights fitted without their subject."""
    gains = _gains(sets)
    usual, spread = _standard(gains)
    held_rows = [_held(gain.features, usual, spread) for gain in gains]
    sums = _sums(gains, held_rows)
    fits = {key: _fit(sums, without=key) for key in sums}
    pulls: dict[str, list[float]] = {name: [] for name in sets}
    for gain, row in zip(gains, held_rows, strict=True):
        weights = fits[gain.name, gain.subject]
        strain = sum(w * x for w, x in zip(weights, row, strict=True))
        pulls[gain.name].append(complexity.pull(strain, gain.lift))
    return pulls


def features_refitted(sets: Sets) -> list[str]:
    """The rows of FEATURES as they should read, fitted on all questions."""
    gains = _gains(sets)
    usual, spread = _standard(gains)
    weights = _fit(_sums(gains, [_held(gain.features, usual, spread) for gain in gains]))
    return [
        f"{feature.name}: usual={u:.3g}, spread={s:.3g}, weight={w:.2f}"
        for feature, u, s, w in zip(FEATURES, usual, spread, weights, strict=True)
    ]


def _gains(sets: Sets) -> list[_Gain]:
    found = []
    for name, asked in sets.items():
        for question in asked:
            reading = read(question.text, VOCABULARY)
            features = [feature.measure(reading) for feature in FEATURES]
            lifted = min(lift(detect(question.text)), LIFT_MOST)
            gain = float(question.strong - question.weak)
            found.append(_Gain(name, question.subject, features, gain, lifted))
    return found


def _standard(gains: Sequence[_Gain]) -> tuple[Row, Row]:
    """The mean of each feature, both sets alike, and how it spreads over all questions."""
    names = sorted({gain.name for gain in gains})
    usual, spread = [], []
    for place in range(len(FEATURES)):
        means = [_mean(g.features[place] for g in gains if g.name == name) for name in names]
        every = _mean(g.features[place] for g in gains)
        usual.append(_mean(means))
        spread.append(sqrt(_mean((g.features[place] - every) ** 2 for g in gains)))
    return usual, spread


def _held(row: Row, usual: Row, spread: Row) -> Row:
    return [
        min(max((value - u) / s, -MOST), MOST)
        for value, u, s in zip(row, usual, spread, strict=True)
    ]


def _sums(gains: Sequence[_Gain], rows: Sequence[Row]) -> dict[tuple[str, str], _Sums]:
    size = len(FEATURES)
    found: dict[tuple[str, str], _Sums] = {}
    for gain, row in zip(gains, rows, strict=True):
        key = (gain.name, gain.subject)
        if key not in found:
            found[key] = _Sums(0, [0.0] * size, 0, [[0.0] * size for _ in row], [0.0] * size)
        sums = found[key]
        sums.n += 1
        sums.y += gain.gain
        for i, value in enumerate(row):
            sums.x[i] += value
            sums.xy[i] += value * gain.gain
            for j, other in enumerate(row):
                sums.xx[i][j] += value * other
    return found


def _fit(sums: Mapping[tuple[str, str], _Sums], without: tuple[str, str] | None = None) -> Row:
    """Ridge weights, scaled so that the strain of a set spreads by 1 on the average."""
    size = range(len(FEATURES))
    spreads = []
    curve = [[RIDGE * (i == j) for j in size] for i in size]
    slope = [0.0 for _ in size]
    for name in sorted({name for name, _ in sums}):
        kept = [s for key, s in sums.items() if key[0] == name and key != without]
        n, y = sum(s.n for s in kept), sum(s.y for s in kept)
        x = [sum(s.x[i] for s in kept) for i in size]
        spread = [
            [(sum(s.xx[i][j] for s in kept) - x[i] * x[j] / n) / n for j in size] for i in size
        ]
        spreads.append(spread)
        for i in size:
            slope[i] += (sum(s.xy[i] for s in kept) - x[i] * y / n) / n
            for j in size:
                curve[i][j] += spread[i][j]
    weights = _solved(curve, slope)
    scale = _mean(
        sqrt(sum(weights[i] * m[i][j] * weights[j] for i in size for j in size)) for m in spreads
    )
    return [weight / scale for weight in weights]


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt with a known answer, and what speaks for it."""

    task: str
    escalated: bool
    wanted: bool
    evidence: tuple[float, ...]


def cases(prompts: Iterable[Prompt]) -> list[Case]:
    found = []
    for prompt in prompts:
        if prompt.wanted is not None:
            strain = held(complexity.strain(read(prompt.text, VOCABULARY)))
            score = detect(prompt.text).score
            escalated = score >= THRESHOLD
            evidence = (1.0, float(escalated), float(min(score, SCORE_MOST)), strain)
            found.append(Case(prompt.task, escalated, prompt.wanted, evidence))
    return found


def chances_left_out(known: Sequence[Case]) -> list[float]:
    """For each prompt the chance that it should escalate, fitted without its task."""
    tasks = sorted({case.task for case in known})
    fits = {task: _logistic([case for case in known if case.task != task]) for task in tasks}
    return [_chance(fits[case.task], case) for case in known]


def chances_refitted(known: Sequence[Case]) -> list[str]:
    """The CHANCE numbers as they should read, fitted on all prompts."""
    names = ("CHANCE_OFFSET", "CHANCE_FIRED", "CHANCE_SCORE", "CHANCE_STRAIN")
    return [f"{name} = {w:.2f}" for name, w in zip(names, _logistic(known), strict=True)]


def _logistic(known: Sequence[Case]) -> Row:
    """Newton's method with a small prior on everything but the offset."""
    sizes: dict[str, int] = {}
    for case in known:
        sizes[case.task] = sizes.get(case.task, 0) + 1
    every = _mean(1 / sqrt(sizes[case.task]) for case in known)
    size = range(4)
    found = [0.0] * 4
    for _ in range(STEPS):
        slope = [-PRIOR * found[i] * (i > 0) for i in size]
        curve = [[PRIOR * (i == j and i > 0) for j in size] for i in size]
        for case in known:
            weight = 1 / sqrt(sizes[case.task]) / every
            chance = _chance(found, case)
            for i in size:
                slope[i] += weight * (case.wanted - chance) * case.evidence[i]
                for j in size:
                    curve[i][j] += (
                        weight * chance * (1 - chance) * case.evidence[i] * case.evidence[j]
                    )
        found = [f + step for f, step in zip(found, _solved(curve, slope), strict=True)]
    return found


def _chance(weights: Row, case: Case) -> float:
    pull = sum(w * e for w, e in zip(weights, case.evidence, strict=True))
    return 1 / (1 + exp(-pull))


def _solved(matrix: Sequence[Row], vector: Row) -> Row:
    """Gauss' elimination; the matrices here are positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for j in range(i, len(row)):
                row[j] -= factor * pivot[j]
    found = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        known = sum(rows[i][j] * found[j] for j in range(i + 1, len(rows)))
        found[i] = (rows[i][-1] - known) / rows[i][i]
    return found


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every)
