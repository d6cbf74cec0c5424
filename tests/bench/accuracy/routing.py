"""RouteLLM's measure of a router: how much of the strong model's lead at what share of calls.

A scorer orders the questions; the share x with the highest scores goes to the strong model. APGR is
the area under the part of the gap that is recovered over x (0.5 is chance), CPT50 and CPT80 the
share at which half and four fifths of the gap are. Equal scores count as a straight line, which is
what a random order of them gives on average.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelspend.evidence import terms
from tests.bench.accuracy.prompts import rows


@dataclass(frozen=True, slots=True)
class Question:
    """One question that two models answered, 1 for right. A `subject` is left out as a whole."""

    subject: str
    text: str
    weak: int
    strong: int


@dataclass(frozen=True, slots=True)
class Router:
    apgr: float
    cpt50: float
    cpt80: float


def questions(folder: Path) -> dict[str, list[Question]]:
    """The questions by set: `mmlu` and `gsm8k` (with ten folds of it as subjects)."""
    found: dict[str, list[Question]] = {"mmlu": [], "gsm8k": []}
    for row in rows(folder / "routing" / "routellm_half.jsonl"):
        subject = row["t"] if row["b"] == "mmlu" else f"fold {row['i'] % 10}"
        found[row["b"]].append(Question(subject, row["q"], row["weak"], row["strong"]))
    return found


def judged(scores: Sequence[float], asked: Sequence[Question]) -> Router:
    xs, ys = _curve(scores, asked)
    steps = zip(xs, xs[1:], ys, ys[1:], strict=False)
    area = sum((x2 - x1) * (y1 + y2) / 2 for x1, x2, y1, y2 in steps)
    return Router(area, 100 * _reached(xs, ys, 0.5), 100 * _reached(xs, ys, 0.8))


def _curve(scores: Sequence[float], asked: Sequence[Question]) -> tuple[list[float], list[float]]:
    ties: dict[float, list[int]] = {}
    for score, question in zip(scores, asked, strict=True):
        ties.setdefault(score, []).append(question.strong - question.weak)
    gap = sum(map(sum, ties.values()))
    calls, gained = 0, 0
    xs, ys = [0.0], [0.0]
    for score in sorted(ties, reverse=True):
        calls += len(ties[score])
        gained += sum(ties[score])  # whole numbers, so that a half is reached where it is reached
        xs.append(calls / len(asked))
        ys.append(gained / gap)
    return xs, ys


def _reached(xs: Sequence[float], ys: Sequence[float], part: float) -> float:
    at = next(i for i, y in enumerate(ys) if y >= part)
    return xs[at - 1] + (xs[at] - xs[at - 1]) * (part - ys[at - 1]) / (ys[at] - ys[at - 1])


LOGIC_WORDS = terms(
    "if then because therefore implies unless all some none not and or either every only"
)


def _at_random(asked: Sequence[Question]) -> Router:
    draws = []
    for seed in range(30):
        dice = random.Random(seed)
        draws.append(judged([dice.random() for _ in asked], asked))
    mean = [
        sum(values) / len(draws)
        for values in zip(*((d.apgr, d.cpt50, d.cpt80) for d in draws), strict=True)
    ]
    return Router(*mean)


def baselines(asked: Sequence[Question]) -> dict[str, Router]:
    """The routers that need no thought: a random order, the longest first, the most logic words."""
    scorers: dict[str, Callable[[str], float]] = {
        "prompt length": len,
        "logic words": lambda text: sum(
            word in LOGIC_WORDS for word in re.findall(r"[a-z']+", text.lower())
        ),
    }
    simple = {
        name: judged([scorer(q.text) for q in asked], asked) for name, scorer in scorers.items()
    }
    return {"random (mean of 30)": _at_random(asked), **simple}
