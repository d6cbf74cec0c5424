"""The classifier: texts that fire each rule, near-misses, and laws that hold for any text."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from re import _parser as parser  # the only reader of patterns there is

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.asks import Category
from modelspend.complexity import FEATURES
from modelspend.evidence import Kind
from modelspend.reading import COUNTS, WINDOW, read
from modelspend.rules import CATEGORIES, RULES, THRESHOLD, Rule
from modelspend.signals import VOCABULARY, Weights, classify, detect
from tests.signal_cases import FIRES, MISSES

BY_NAME = {rule.name: rule for rule in RULES}
KINDS = [kind for rule in RULES for way in rule.ways for kind in way]


def test_there_are_17_rules_in_9_categories_and_the_threshold_is_3() -> None:
    assert len(RULES) == len(BY_NAME) == 17
    assert len(CATEGORIES) == 9
    assert {rule.category for rule in RULES} == set(CATEGORIES)
    assert THRESHOLD == 3
    assert {
        "counterfactual_physics",
        "causal_consistency_constraint",
        "acrostic_constraint",
    } <= set(BY_NAME)


def test_every_rule_has_texts_that_fire_it_and_near_misses() -> None:
    assert set(FIRES) == set(MISSES) == set(BY_NAME)
    assert min(map(len, chain(FIRES.values(), MISSES.values()))) >= 3


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in FIRES.items() for text in texts]
)
def test_a_rule_fires(name: str, text: str) -> None:
    found = detect(text)
    assert name in found.fired
    assert found.has_advanced or BY_NAME[name].weight < THRESHOLD


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in MISSES.items() for text in texts]
)
def test_a_near_miss_fires_nothing(name: str, text: str) -> None:
    assert detect(text).fired == ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_way_asks_for_two_kinds_of_evidence(rule: Rule) -> None:
    for way in rule.ways:
        assert len({kind.what for kind in way}) == len(way) >= 2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_single_term_fires_alone(rule: Rule) -> None:
    for kind in chain.from_iterable(rule.ways):
        for word in sorted(kind.words):
            assert detect(word).score < THRESHOLD, word
            assert detect(f"{word.capitalize()}?").score < THRESHOLD, word
            assert detect(f"What is the meaning of the word {word}?").score < THRESHOLD, word
            assert detect(f"{word} " * 50).score < THRESHOLD, word


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_one_kind_of_evidence_alone_stays_below_the_threshold(kind: Kind) -> None:
    if kind.pattern is None:
        assert detect(" ".join(sorted(kind.words)[:2]) + ".").score < THRESHOLD


WORDINGS = [
    json.loads(line)
    for line in (Path(__file__).parent / "signal_wordings.jsonl").read_text("utf-8").splitlines()
]
"""Freely worded prompts, hard and easy, in batches: each was written to find what the rules as
they were then did not know. The easy ones are the everyday asks of people, clerks and shops."""


@pytest.mark.parametrize("batch", sorted({row["batch"] for row in WORDINGS}))
def test_hard_problems_are_known_in_many_wordings(batch: int) -> None:
    hard = [row["text"] for row in WORDINGS if row["batch"] == batch and row["hard"]]
    known = [text for text in hard if detect(text).has_advanced]
    assert len(known) >= 0.85 * len(hard), sorted(set(hard) - set(known))


def test_everyday_asks_do_not_escalate() -> None:
    easy = [row["text"] for row in WORDINGS if not row["hard"]]
    assert len(easy) > 250
    assert [text for text in easy if detect(text).has_advanced] == []


def test_scores_add_up_and_names_come_in_the_order_of_the_rules() -> None:
    both = detect(f"{FIRES['truth_teller_chain'][0]} {FIRES['multi_step_quantities'][0]}")
    assert {"truth_teller_chain", "multi_step_quantities"} <= set(both.fired)
    assert both.score == sum(BY_NAME[name].weight for name in both.fired)
    assert list(both.fired) == [rule.name for rule in RULES if rule.name in both.fired]


def test_the_signals_of_a_receipt_have_the_documented_keys() -> None:
    found = classify(FIRES["formal_proof"][0])
    assert dict(found.risk_signals) == {
        "hasAdvancedReasoningSignals": True,
        "score": 4,
        "advancedReasoningDetails": ["formal_proof"],
        "nearThreshold": False,
    }
    assert found.tier == "deep_reasoning"
    assert found.category == "reasoning"


def test_a_score_on_the_brink_says_so() -> None:
    assert detect(FIRES["causal_consistency_constraint"][1]).near_threshold
    assert detect(FIRES["reverse_chronology"][0]).near_threshold
    assert not detect("What is the capital of Peru?").near_threshold
    assert not detect(FIRES["truth_teller_chain"][0]).near_threshold


def test_a_system_prompt_alone_never_escalates_a_trivial_question() -> None:
    system = " ".join(text for texts in FIRES.values() for text in texts)
    for size in (1, 3, 10):
        found = classify("What is the capital of Peru?", system=system * size)
        assert found.tier != "deep_reasoning"
        assert found.complexity < 0.9


@pytest.mark.parametrize("text", [texts[0] for texts in FIRES.values()], ids=list(FIRES))
def test_what_is_around_never_escalates_alone_however_it_is_weighed(text: str) -> None:
    loud = Weights(system=1, history=1)
    found = classify("What is the capital of Peru?", system=text, history=[text], weights=loud)
    assert found.tier != "deep_reasoning"
    assert found.risk_signals["nearThreshold"]


def test_history_alone_brings_a_short_reply_to_the_brink_and_not_over_it() -> None:
    found = classify("And if they swap again?", history=[FIRES["hidden_state_tracking"][0]])
    assert found.risk_signals["nearThreshold"]
    assert not found.risk_signals["hasAdvancedReasoningSignals"]
    alone = classify("And if they swap again?")
    assert alone.complexity < found.complexity


def test_history_pushes_a_prompt_on_the_brink_over() -> None:
    text = FIRES["causal_consistency_constraint"][1]
    assert classify(text).tier != "deep_reasoning"
    assert classify(text, history=[FIRES["reverse_chronology"][0]]).tier == "deep_reasoning"


def test_weights_of_nought_look_at_the_newest_turn_only() -> None:
    deaf = Weights(system=0, history=0, turns=0)
    around = FIRES["constraint_puzzle"]
    text = "And then?"
    assert classify(text, system=around[0], history=around, weights=deaf) == classify(text)


def test_only_the_latest_messages_of_a_history_count() -> None:
    old, new = FIRES["constraint_puzzle"][0], "Thanks."
    near = classify("Go on.", history=[old, new, new])
    far = classify("Go on.", history=[old, new, new, new])
    assert near.complexity > far.complexity


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        ("hi", "simple"),
        ("What is the capital of Peru?", "simple"),
        ("Write a function that adds two numbers.", "standard"),
        (FIRES["constraint_puzzle"][0], "deep_reasoning"),
    ],
)
def test_tiers(text: str, tier: str) -> None:
    assert classify(text).tier == tier


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Fix this Python function: def f(x): return x+", "code"),
        ("Which index would speed up this SQL query?", "code"),
        ("Solve the puzzle and prove that your answer is the only one.", "reasoning"),
        (FIRES["competition_mathematics"][0], "reasoning"),
        ("Compare the advantages and disadvantages of rail and road.", "analysis"),
        ("Extract all dates and names from the text as JSON entities.", "extraction"),
        ("Summarize the report below in three sentences.", "summarization"),
        ("Write a poem about the sea.", "creative"),
        ("Hello!", "chat"),
        ("Thanks, that was great", "chat"),
        ("Who painted the ceiling of the Sistine Chapel?", "other"),
        ("", "other"),
    ],
)
def test_categories(text: str, category: Category) -> None:
    assert classify(text).category == category


STRANGE = (
    "",
    " ",
    "\x00\x01\x7f\x1b[0m",
    "日本語の質問です。クジラはなぜ大きいのですか？",
    "Докажите, что корень из двух иррационален.",
    "🧩🧩🧩 👩‍👩‍👧‍👦",
    "\ud800 half a pair \udfff",
    "a" * 1_000_000,
    "?" * 1_000_000,
    "Does " * 200_000,
    "\n" * 100_000,
    "A b " * 25_000,
    "if x had " * 20_000,
    "1. " * 50_000,
)


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_any_text_is_classified(text: str) -> None:
    found = classify(text, system=text, history=[text])
    assert 0 <= found.complexity <= 1
    assert 0 <= found.confidence <= 1
    json.dumps(found.risk_signals)


@given(st.text(st.characters(exclude_categories=())), st.text())
def test_any_two_texts_are_classified_the_same_twice(text: str, system: str) -> None:
    found = classify(text, system=system)
    assert 0 <= found.complexity <= 1
    assert 0 <= found.confidence <= 1
    assert found == classify(text, system=system)


_TELL = """
import sys
from modelspend.signals import classify
from tests.signal_cases import FIRES, MISSES
texts = [t for cases in (FIRES, MISSES) for ts in cases.values() for t in ts]
for text in texts + texts[::-1]:
    for system in ("", texts[0]):
        print(repr(classify(text, system=system, history=texts[3:5])))
"""


def test_two_processes_decide_byte_for_byte_the_same() -> None:
    root = Path(__file__).parents[1]
    told = [
        subprocess.run(
            [sys.executable, "-c", _TELL],
            capture_output=True,
            check=True,
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].count(b"\n") > 400


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.pattern], ids=lambda kind: kind.what
)
def test_a_pattern_is_gated_bounded_and_sees_no_long_text(kind: Kind) -> None:
    assert kind.pattern is not None
    assert kind.words
    assert not _unbounded(kind.pattern.pattern), "write {0,n}: an open end meets the whole text"


def test_the_check_for_open_ends_finds_them() -> None:
    assert not _unbounded(r"a? (?:b{0,3}|c\w{2})")
    for pattern in (r"a*", r"a+b", r"(?:a|b.*)c", r"(a{2,})", r"(?:x(?:y+)?)?", r"(?=a+)"):
        assert _unbounded(pattern)


def _unbounded(pattern: str) -> bool:
    """Whether any repeat of a pattern has no upper bound."""
    return any(high == parser.MAXREPEAT for high in _most(parser.parse(pattern)))


def _most(node: object) -> Iterator[int]:
    """The upper bounds of all repeats, however deep."""
    if isinstance(node, tuple) and len(node) == 2 and "REPEAT" in str(node[0]):
        yield node[1][1]
    if isinstance(node, list | tuple | parser.SubPattern):
        for part in node:
            yield from _most(part)


def test_counts_use_patterns_with_one_open_end_at_most() -> None:
    """These see the whole window, so each must move forward with every step."""
    from modelspend import reading

    for name in ("_CLOCK", "_ITEM", "_NAME"):
        pattern = getattr(reading, name).pattern
        assert sum(high == parser.MAXREPEAT for high in _most(parser.parse(pattern))) <= 1


def test_a_task_after_a_long_text_is_found_and_one_within_it_is_not() -> None:
    task = FIRES["truth_teller_chain"][1]
    filler = "The lake is blue and calm. " * (WINDOW // 10)
    assert detect(filler + task).fired == detect(task).fired != ()
    assert detect(filler + task + filler).fired == ()


def test_a_text_that_is_only_to_be_restated_need_not_be_solved() -> None:
    task = FIRES["truth_teller_chain"][1]
    assert detect(f"Translate into French: {task}").fired == ()
    assert detect(f"{task} Summarize the text above.").fired == ()
    assert detect(f"Summarize this so that the first letters of the lines spell LIES: {task}").fired


def test_every_word_that_is_looked_for_can_be_read() -> None:
    for word in sorted(VOCABULARY):
        assert read(word, VOCABULARY).words == [word]


def test_kinds_count_what_can_be_counted() -> None:
    assert {kind.counted for kind in KINDS if kind.counted} <= set(COUNTS)


def test_features_have_each_their_name_and_a_spread() -> None:
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)
    assert all(feature.spread > 0 for feature in FEATURES)
