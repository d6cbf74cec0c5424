"""The usage that a client of another dialect is shown, from OpenAI's inclusive counts."""

from typing import Any

import pytest

from modelspend.dialects.openai_shape import usage_buckets


def chat_usage(given: int, made: int, **details: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": made, **details}


def test_what_is_inside_a_total_is_told_apart_from_the_rest_of_it() -> None:
    usage = chat_usage(
        100,
        50,
        prompt_tokens_details={
            "cached_tokens": 30,
            "cache_write_tokens": 10,
            "audio_tokens": 8,
            "image_tokens": 2,
            "cached_tokens_details": {"audio_tokens": 3},
        },
        completion_tokens_details={"reasoning_tokens": 20, "audio_tokens": 5},
    )
    assert usage_buckets(usage, "prompt", "completion") == {
        "cached_audio_tokens": 3,
        "cache_read_tokens": 27,
        "cache_write_5m_tokens": 10,
        "input_audio_tokens": 5,
        "input_image_tokens": 2,
        "input_tokens": 53,
        "output_audio_tokens": 5,
        "output_tokens": 45,
        "reasoning_tokens": 20,
    }


def test_parts_larger_than_their_total_are_cut_down_and_nothing_is_below_zero() -> None:
    """As OpenRouter tells a prompt that is both written to the cache and read from it."""
    details = {"cached_tokens": 90, "cache_write_tokens": 90}
    usage = chat_usage(100, 0, prompt_tokens_details=details)
    found = usage_buckets(usage, "prompt", "completion")
    assert found == {"cache_read_tokens": 90, "cache_write_5m_tokens": 10}


@pytest.mark.parametrize("odd", [None, [], "x", 5, {"prompt_tokens": -1}, {"prompt_tokens": "9"}])
def test_odd_usage_is_no_usage(odd: object) -> None:
    assert usage_buckets(odd, "prompt", "completion") == {}
