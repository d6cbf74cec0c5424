"""The estimator: what it guesses before, while and after it learns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.estimate import Estimator, Ratio
from modelspend.receipt import Usage


def told(given_tokens: int, written: int, **more: int) -> Usage:
    quantities = {"input_tokens": given_tokens, "output_tokens": written, **more}
    return Usage(quantities=quantities, source="provider")


def test_before_it_has_seen_anything_it_counts_four_characters_a_token() -> None:
    usage = Estimator().usage("openai", "m", input_chars=400, output_chars=41)
    assert usage.quantities == {"input_tokens": 100, "output_tokens": 11}
    assert usage.source == "estimated"
    assert usage.error_ratio is None


def test_it_approaches_a_model_s_own_ratio_for_input_and_output_apart() -> None:
    estimator = Estimator()
    for _ in range(50):
        estimator.learn("p", "m", told(1000, 500), input_chars=2000, output_chars=3000)
    usage = estimator.usage("p", "m", input_chars=2000, output_chars=3000)
    assert usage.quantities["input_tokens"] == pytest.approx(1000, rel=0.02)
    assert usage.quantities["output_tokens"] == pytest.approx(500, rel=0.02)
    assert usage.error_ratio is not None
    assert 0 < usage.error_ratio < 0.1


def test_a_model_never_seen_borrows_what_all_models_taught() -> None:
    estimator = Estimator()
    for _ in range(50):
        estimator.learn("p", "m", told(1000, 1000), input_chars=2000, output_chars=2000)
    usage = estimator.usage("q", "other", input_chars=2000, output_chars=0)
    assert usage.quantities["input_tokens"] == pytest.approx(1000, rel=0.05)
    assert usage.error_ratio is not None


def test_the_observed_error_is_that_of_guesses_made_before_learning() -> None:
    estimator = Estimator()
    estimator.learn("p", "m", told(200, 0), input_chars=400, output_chars=0)
    usage = estimator.usage("p", "m", input_chars=400, output_chars=0)
    assert usage.error_ratio == 0.5  # it guessed 100 where 200 was true


def test_what_was_learnt_adds_up_to_the_same_after_a_restart() -> None:
    first = Estimator()
    kept: dict[str, Ratio] = {}
    for n in range(1, 30):
        for row in first.learn("p", "m", told(n * 3, n), input_chars=n * 7, output_chars=n * 9):
            kept[row.key] = kept.get(row.key, Ratio(row.key)).plus(row)
    second = Estimator(kept.values())
    question = {"input_chars": 1234, "output_chars": 567}
    assert second.usage("p", "m", **question) == first.usage("p", "m", **question)


def test_it_learns_nothing_from_sound_pictures_nonsense_or_its_own_guesses() -> None:
    estimator = Estimator()
    chars = {"input_chars": 10, "output_chars": 10}
    assert estimator.learn("p", "m", told(900, 5, input_audio_tokens=800), **chars) == ()
    assert estimator.learn("p", "m", told(900, 5, output_image_tokens=1), **chars) == ()
    odd = Usage(quantities={"input_tokens": 9}, source="provider", problems=("odd",))
    assert estimator.learn("p", "m", odd, **chars) == ()
    guessed = estimator.usage("p", "m", **chars)
    assert estimator.learn("p", "m", guessed, **chars) == ()
    assert estimator.usage("p", "m", **chars).error_ratio is None


def test_the_problems_of_the_usage_that_it_replaces_stay_visible() -> None:
    usage = Estimator().usage("p", "m", input_chars=4, output_chars=4, problems=("usage is null",))
    assert usage.problems == ("usage is null",)


@given(st.integers(-5, 10**9), st.integers(-5, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_estimate_is_never_negative_whatever_it_learnt(a: int, b: int, c: int, d: int) -> None:
    estimator = Estimator()
    estimator.learn("p", "m", told(c, d), input_chars=a, output_chars=b)
    usage = estimator.usage("p", "m", input_chars=b, output_chars=a)
    assert all(n > 0 for n in usage.quantities.values())
    assert usage.error_ratio is None or usage.error_ratio >= 0
