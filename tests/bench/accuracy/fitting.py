"""Fits the few numbers of `complexity.py` and the chances of `signals.py`; needs numpy.

The target is what the strong model gains on a question (strong right minus weak right). Both sets
weigh the same and only differences within a set count; the ridge is strong enough that weights are
near to plain correlations. The predictions that are judged come from fits without the
question's subject (MMLU) or fold (GSM8K).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelspend import complexity
from modelspend.complexity import FEATURES, LIFT_MOST, MOST
from modelspend.reading import read
from modelspend.rules import THRESHOLD
from modelspend.signals import SCORE_MOST, VOCABULARY, detect, held, lift
from tests.bench.accuracy.prompts import Prompt
from tests.bench.accuracy.routing import Question

PRIOR = 1.0
"""Ridge of the logistic fit."""

RIDGE = 10.0
Sets = Mapping[str, Sequence[Question]]


def left_out(sets: Sets) -> dict[str, list[float]]:
    """For each set the pull of each question, from weights fitted without its subject."""
    features, gains, names, subjects = _table(sets)
    usual, spread = _standard(features, names)
    x = _held(features, usual, spread)
    out = np.zeros(len(gains))
    for subject in sorted(set(zip(names, subjects, strict=True))):
        here = np.array([pair == subject for pair in zip(names, subjects, strict=True)])
        weights = _fit(x[~here], gains[~here], names[~here])
        out[here] = x[here] @ weights / _scale(x[~here], weights, names[~here])
    pull = out + np.array([lifted(q.text) for rows in sets.values() for q in rows])
    return {name: [float(p) for p in pull[names == name]] for name in sets}


def lifted(text: str) -> float:
    return min(lift(detect(text)), LIFT_MOST)


def refitted(sets: Sets) -> list[str]:
    """The rows of FEATURES as they should read, fitted on all questions."""
    features, gains, names, _ = _table(sets)
    usual, spread = _standard(features, names)
    x = _held(features, usual, spread)
    weights = _fit(x, gains, names)
    weights /= _scale(x, weights, names)
    return [
        f"{feature.name}: usual={u:.4g} spread={s:.3g} weight={w:.3f}"
        for feature, u, s, w in zip(FEATURES, usual, spread, weights, strict=True)
    ]


def _table(sets: Sets) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows = [(name, q) for name, asked in sets.items() for q in asked]
    readings = [read(q.text, VOCABULARY) for _, q in rows]
    features = np.array([[f.measure(reading) for f in FEATURES] for reading in readings])
    gains = np.array([float(q.strong - q.weak) for _, q in rows])
    names = np.array([name for name, _ in rows])
    return features, gains, names, np.array([q.subject for _, q in rows])


def _standard(features: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means = [features[names == name].mean(0) for name in sorted(set(names))]
    return np.mean(means, axis=0), features.std(0)


def _held(features: np.ndarray, usual: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.clip((features - usual) / spread, -MOST, MOST)


def _fit(x: np.ndarray, gains: np.ndarray, names: np.ndarray) -> np.ndarray:
    x, gains, weight = x.copy(), gains.copy(), np.zeros(len(gains))
    for name in set(names):
        here = names == name
        x[here] -= x[here].mean(0)
        gains[here] -= gains[here].mean()
        weight[here] = 1 / here.sum()
    weighed = x * weight[:, None]
    return np.linalg.solve(weighed.T @ x + RIDGE * np.eye(x.shape[1]), weighed.T @ gains)


def _scale(x: np.ndarray, weights: np.ndarray, names: np.ndarray) -> float:
    """So that the pull of the usual set spreads by 1."""
    return float(np.mean([(x[names == name] @ weights).std() for name in sorted(set(names))]))


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt with a known answer: what the rules and the strain of it are."""

    task: str
    score: int
    strain: float
    wanted: bool


def cases(prompts: Iterable[Prompt]) -> list[Case]:
    found = []
    for prompt in prompts:
        if prompt.wanted is not None:
            strain = complexity.strain(read(prompt.text, VOCABULARY))
            found.append(Case(prompt.task, detect(prompt.text).score, strain, prompt.wanted))
    return found


def chances_left_out(known: Sequence[Case]) -> list[float]:
    """For each prompt the chance that it should escalate, fitted without its task."""
    out = np.zeros(len(known))
    tasks = np.array([case.task for case in known])
    x, y = _evidence(known)
    for task in sorted(set(tasks)):
        here = tasks == task
        out[here] = _chance(x[here] @ _logistic(x[~here], y[~here], tasks[~here]))
    return [float(chance) for chance in out]


def chances_refitted(known: Sequence[Case]) -> list[float]:
    """CHANCE_OFFSET, CHANCE_FIRED, CHANCE_SCORE and CHANCE_STRAIN, fitted on all prompts."""
    x, y = _evidence(known)
    return [float(w) for w in _logistic(x, y, np.array([case.task for case in known]))]


def _evidence(known: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    rows = [[1.0, c.score >= THRESHOLD, min(c.score, SCORE_MOST), held(c.strain)] for c in known]
    return np.array(rows, float), np.array([float(case.wanted) for case in known])


def _logistic(x: np.ndarray, y: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Newton's method; each task has the same say, however many prompts it has."""
    weight = np.zeros(len(y))
    for task in set(tasks):
        here = tasks == task
        weight[here] = 1 / np.sqrt(here.sum())
    weight /= weight.mean()
    penalty = np.diag([0.0] + [PRIOR] * (x.shape[1] - 1))
    found = np.zeros(x.shape[1])
    for _ in range(30):
        p = _chance(x @ found)
        slope = x.T @ (weight * (y - p)) - penalty @ found
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + penalty
        found += np.linalg.solve(curve, slope)
    return found


def _chance(pull: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-pull))
