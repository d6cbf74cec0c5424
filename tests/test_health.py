"""Sketches of latencies and what is said of a provider."""

import random
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.breaker import WEIGHTS, Weight
from modelspend.health import Sample, Sketch, bucket, history, merge, percentile
from modelspend.receipt import FailureClass

MINUTE = 60_000


def sketched(values: list[float]) -> Sketch:
    found: Sketch = {}
    for value in values:
        merge(found, {bucket(value): 1})
    return found


@given(
    st.lists(st.floats(1, 3.6e6), min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100])
)
def test_a_percentile_is_within_one_per_cent_of_the_exact_one(
    values: list[float], percent: int
) -> None:
    exact = sorted(values)[ceil(len(values) * percent / 100) - 1]
    found = percentile(sketched(values), percent)
    assert found is not None
    assert abs(found - exact) <= exact * 0.01 + 0.06


@given(st.lists(st.lists(st.floats(0, 1e6), max_size=20), max_size=10))
def test_merging_is_counting_all_at_once(parts: list[list[float]]) -> None:
    merged: Sketch = {}
    for part in parts:
        merge(merged, sketched(part))
    assert merged == sketched([value for part in parts for value in part])


def test_nothing_has_no_percentile_and_what_is_instant_counts_as_a_millisecond() -> None:
    assert percentile({}, 50) is None
    assert [bucket(value) for value in (-1, 0, 0.4, 1, 1.01, 1.02, 1.03)] == [0, 0, 0, 0, 1, 1, 2]
    assert percentile({0: 3}, 99) == 1.0


def test_an_hour_of_a_busy_provider_is_a_small_sketch() -> None:
    rng = random.Random(1)
    assert len(sketched([rng.lognormvariate(7, 1) for _ in range(100_000)])) < 500


@pytest.mark.parametrize("failure", list(FailureClass))
def test_availability_counts_what_tells_of_the_provider_and_nothing_else(
    failure: FailureClass,
) -> None:
    sample = Sample(0, "openai", "gpt-4.1")
    for _ in range(3):
        sample.add(None, 100, None)
    sample.add(failure, 5, None)
    tells = WEIGHTS[failure] in (Weight.FAILURE, Weight.OURS)
    assert sample.availability == (0.75 if tells else 1.0)
    shape = sample.to_json()
    assert shape["failed"] == int(tells)
    assert shape["calls"] == 4
    assert shape["failures"] == {failure: 1}
    assert shape["rate_limited"] == int(failure is FailureClass.RATE_LIMIT)
    assert shape["latency_ms"]["p50"] == pytest.approx(100, rel=0.01)
    assert shape["ttft_ms"] == {"p50": None, "p95": None, "p99": None}


def test_what_a_later_version_calls_a_failure_is_one() -> None:
    sample = Sample(0, "openai", "gpt-4.1")
    sample.add("melted", 1, None)
    assert sample.availability == 0
    assert Sample(0, "a", "m").availability is None


def test_a_history_has_windows_and_their_sum() -> None:
    def minute(n: int, provider: str, well: int, failed: int) -> Sample:
        sample = Sample(n * MINUTE, provider, "m")
        for _ in range(well):
            sample.add(None, 100.0 * (n + 1), 10.0)
        for _ in range(failed):
            sample.add("server_error", 1.0, None)
        return sample

    found = history(
        [minute(0, "b", 1, 0), minute(0, "a", 3, 1), minute(9, "a", 2, 0), minute(10, "a", 0, 1)],
        10 * MINUTE,
    )
    assert [(one["provider"], one["calls"], one["availability"]) for one in found] == [
        ("a", 7, 0.714286),
        ("b", 1, 1.0),
    ]
    first, second = found[0]["windows"]
    assert (first["start"], first["calls"], first["failed"]) == ("1970-01-01T00:00:00.000Z", 6, 1)
    assert first["latency_ms"]["p99"] == pytest.approx(1000, rel=0.01)
    assert first["ttft_ms"]["p50"] == pytest.approx(10, rel=0.02)
    assert (second["start"], second["calls"]) == ("1970-01-01T00:10:00.000Z", 1)
    assert second["latency_ms"]["p50"] is None
