"""The classifier on public data: what README publishes holds, and every process decides alike."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelspend import complexity, signals
from modelspend.complexity import FEATURES
from tests.bench.accuracy import fitting, prompts, routing
from tests.bench.accuracy.__main__ import swapped


@pytest.fixture(scope="module")
def rows(recorded: Path) -> list[prompts.Judged]:
    return prompts.judged(recorded)


@pytest.fixture(scope="module")
def sets(recorded: Path) -> dict[str, list[routing.Question]]:
    return routing.questions(recorded)


def _share(rows: list[prompts.Judged], wanted: bool) -> float:
    hits = [row.escalated for row in rows if row.prompt.wanted is wanted]
    return sum(hits) / len(hits)


def test_most_that_should_escalate_does_and_little_else(rows: list[prompts.Judged]) -> None:
    assert _share(rows, True) >= 0.88
    assert _share(rows, False) <= 0.04


def test_no_task_that_should_escalate_is_mostly_missed(rows: list[prompts.Judged]) -> None:
    tasks = {row.prompt.task for row in rows if row.prompt.wanted}
    shares = {
        task: _share([row for row in rows if row.prompt.task == task], True) for task in tasks
    }
    assert {task: share for task, share in shares.items() if share < 0.65} == {}


def test_freely_worded_sets_hold_as_well(rows: list[prompts.Judged]) -> None:
    free = [row for row in rows if row.prompt.task in prompts.FREE]
    assert _share(free, True) >= 0.65
    assert _share(free, False) <= 0.06


def test_the_measure_gives_the_published_floors(sets: dict[str, list[routing.Question]]) -> None:
    """Figures of prompt length that others measured on the same rows, to the last digit or so."""
    for name, floor in {"mmlu": (0.564, 39.6, 74.5), "gsm8k": (0.582, 37.5, 71.5)}.items():
        found = routing.baselines(sets[name])["prompt length"]
        assert (found.apgr, found.cpt50, found.cpt80) == pytest.approx(floor, rel=0.004)


def test_a_perfect_router_needs_few_calls(sets: dict[str, list[routing.Question]]) -> None:
    perfect = routing.judged([q.strong - q.weak for q in sets["mmlu"]], sets["mmlu"])
    assert (perfect.apgr, perfect.cpt50) == pytest.approx((1.293, 6.0), rel=0.01)


def test_complexity_routes_better_than_length_on_subjects_left_out(
    sets: dict[str, list[routing.Question]],
) -> None:
    left_out = fitting.complexity_left_out(sets)
    for name, asked in sets.items():
        length = routing.baselines(asked)["prompt length"].apgr
        assert routing.judged(left_out[name], asked).apgr >= length + 0.02


def test_the_numbers_in_the_code_are_the_fitted_ones(
    recorded: Path, sets: dict[str, list[routing.Question]]
) -> None:
    fitted = fitting.features_refitted(sets)
    assert [line.split(":")[0] for line in fitted] == [feature.name for feature in FEATURES]
    for line, feature in zip(fitted, FEATURES, strict=True):
        assert f"{feature.weight:.2f}" == line.rpartition("=")[2], line
    chances = fitting.chances_refitted(fitting.cases(prompts.prompts(recorded)))
    for line in chances:
        name, _, value = line.partition(" = ")
        assert getattr(signals, name) == pytest.approx(float(value), abs=0.15), line


def test_confidence_is_what_it_says_on_tasks_left_out(recorded: Path) -> None:
    known = fitting.cases(prompts.prompts(recorded))
    chances = fitting.chances_left_out(known)
    sure = [
        (max(chance, 1 - chance), case.escalated == case.wanted)
        for case, chance in zip(known, chances, strict=True)
    ]
    high = [right for confidence, right in sure if confidence >= 0.9]
    low = [right for confidence, right in sure if confidence < 0.9]
    assert sum(high) / len(high) >= 0.94
    assert sum(low) / len(low) < sum(high) / len(high)
    brier = sum((confidence - right) ** 2 for confidence, right in sure) / len(sure)
    assert brier < 0.06


_DECIDE = """
import hashlib, sys
from modelspend.signals import classify
told = hashlib.sha256()
for text in sys.stdin.read().split("\\x00"):
    told.update(repr(classify(text, system=text[:300])).encode())
print(told.hexdigest())
"""


def test_10_000_prompts_are_decided_alike_in_two_processes(recorded: Path) -> None:
    texts = "\x00".join(_ten_thousand(recorded))
    root = str(Path(__file__).parents[1])
    told = {
        subprocess.run(
            [sys.executable, "-c", _DECIDE],
            input=texts.encode(),
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": root, "PYTHONUTF8": "1"},
        ).stdout
        for seed in ("1", "20")
    }
    assert len(told) == 1
    assert len(told.pop().strip()) == len(hashlib.sha256().hexdigest())


def _ten_thousand(recorded: Path) -> Iterator[str]:
    """Every prompt and question, then pairs of them end to end."""
    texts = [
        row[key]
        for path, key in (
            ("prompts/labelled_half.jsonl", "text"),
            ("routing/routellm_half.jsonl", "q"),
        )
        for row in prompts.rows(recorded / path)
    ]
    yield from texts
    for at in range(10_000 - len(texts)):
        yield f"{texts[at % len(texts)]}\n{texts[(7 * at + 1) % len(texts)]}"


def test_the_tables_take_the_place_of_the_old_ones() -> None:
    page = "a\n<!-- accuracy: begin -->\nold\n<!-- accuracy: end -->\nb\n"
    assert swapped(page, r"new \1") == page.replace("old", r"new \1")
    with pytest.raises(ValueError, match="accuracy"):
        swapped("no place", "new")


def test_complexity_keeps_within_its_bounds() -> None:
    assert complexity.squashed(-50) == 0
    assert complexity.squashed(50) == 1
    assert 0.3 < complexity.squashed(complexity.pull(0, 0)) < 0.5
