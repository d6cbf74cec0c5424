"""The interpreter of usage objects: inclusion undone, odd objects survived and named."""

import dataclasses
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspend.catalog import known_providers
from modelspend.catalog.usage import (
    MAX_COUNT,
    UsageRules,
    billed_apart,
    read,
    reported_pico,
    rules_from,
    served_tier,
)
from modelspend.money import BUCKETS
from modelspend.receipt import Usage

PROVIDERS = known_providers()


def rules(provider: str, dialect: str) -> UsageRules:
    return PROVIDERS[provider].usage[dialect]


def chat(provider: str = "openai", **raw: Any) -> Usage:
    return read(rules(provider, "openai.chat"), raw)


def messages(**raw: Any) -> Usage:
    return read(rules("anthropic", "anthropic.messages"), raw)


def gemini(**raw: Any) -> Usage:
    return read(rules("google", "gemini.generate"), raw)


def test_openai_input_gives_up_its_cached_audio_and_image_parts() -> None:
    usage = chat(
        prompt_tokens=1000,
        completion_tokens=50,
        total_tokens=1050,
        prompt_tokens_details={
            "cached_tokens": 300,
            "audio_tokens": 200,
            "image_tokens": 100,
            "cached_tokens_details": {"audio_tokens": 80},
        },
        completion_tokens_details={"audio_tokens": 20, "reasoning_tokens": 5},
    )
    assert usage.quantities == {
        "input_tokens": 480,
        "cache_read_tokens": 220,
        "input_audio_tokens": 120,
        "cached_audio_tokens": 80,
        "input_image_tokens": 100,
        "output_tokens": 30,
        "output_audio_tokens": 20,
    }
    assert usage.reasoning_tokens == 5
    assert usage.problems == ()


def test_anthropic_input_stands_beside_its_cache() -> None:
    usage = messages(
        input_tokens=4,
        output_tokens=7,
        cache_read_input_tokens=9000,
        cache_creation_input_tokens=500,
        cache_creation={"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
        server_tool_use={"web_search_requests": 2, "web_fetch_requests": 9},
    )
    assert usage.quantities == {
        "input_tokens": 4,
        "cache_read_tokens": 9000,
        "cache_write_5m_tokens": 200,
        "cache_write_1h_tokens": 300,
        "output_tokens": 7,
        "web_searches": 2,
    }
    assert usage.problems == ()


@pytest.mark.parametrize(
    ("split", "writes", "odd"),
    [
        (None, {"cache_write_5m_tokens": 500}, False),
        ({"ephemeral_1h_input_tokens": 500}, {"cache_write_1h_tokens": 500}, False),
        ({"ephemeral_1h_input_tokens": 9}, {"cache_write_5m_tokens": 500}, True),
    ],
)
def test_cache_writes_that_do_not_sum_are_taken_for_five_minutes_and_named(
    split: dict[str, int] | None, writes: dict[str, int], odd: bool
) -> None:
    written = {"cache_creation_input_tokens": 500, "cache_creation": split}
    usage = messages(input_tokens=1, output_tokens=1, **written)
    assert {b: n for b, n in usage.quantities.items() if "write" in b} == writes
    assert bool(usage.problems) == odd


ROUND = {"input_tokens": 100, "output_tokens": 10}


def test_an_advisor_s_rounds_are_billed_apart_at_its_own_model() -> None:
    advisor = {"input_tokens": 2529, "output_tokens": 38, "model": "claude-opus-4-8"}
    raw = {"input_tokens": 200, "output_tokens": 20, "iterations": [ROUND, advisor, ROUND]}
    usage = messages(**raw)
    assert usage.quantities == {"input_tokens": 200, "output_tokens": 20}
    assert usage.problems == ()
    [(model, apart)] = billed_apart(rules("anthropic", "anthropic.messages"), raw)
    assert model == "claude-opus-4-8"
    assert apart.quantities == {"input_tokens": 2529, "output_tokens": 38}


def test_a_compaction_round_that_is_in_no_total_is_billed() -> None:
    compaction = {"input_tokens": 180_000, "output_tokens": 3500, "type": "compaction"}
    usage = messages(input_tokens=100, output_tokens=10, iterations=[compaction, ROUND])
    assert usage.quantities == {"input_tokens": 180_100, "output_tokens": 3510}
    assert usage.problems == ()


def test_rounds_that_say_less_than_the_total_are_named_and_not_believed() -> None:
    usage = messages(input_tokens=500, output_tokens=10, iterations=[ROUND])
    assert usage.quantities["input_tokens"] == 500
    assert usage.problems


def test_gemini_thoughts_and_tool_prompts_are_counted_and_modalities_told_apart() -> None:
    usage = gemini(
        promptTokenCount=1000,
        candidatesTokenCount=60,
        thoughtsTokenCount=40,
        toolUsePromptTokenCount=30,
        totalTokenCount=1130,
        cachedContentTokenCount=400,
        promptTokensDetails=[
            {"modality": "TEXT", "tokenCount": 500},
            {"modality": "AUDIO", "tokenCount": 200},
            {"modality": "IMAGE", "tokenCount": 250},
            {"modality": "DOCUMENT", "tokenCount": 50},
        ],
        cacheTokensDetails=[
            {"modality": "AUDIO", "tokenCount": 150},
            {"modality": "IMAGE", "tokenCount": 100},
            {"modality": "TEXT", "tokenCount": 150},
        ],
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 25}],
    )
    assert usage.quantities == {
        "input_tokens": 380,
        "cache_read_tokens": 250,
        "cached_audio_tokens": 150,
        "input_audio_tokens": 50,
        "input_image_tokens": 200,
        "output_tokens": 75,
        "output_image_tokens": 25,
    }
    assert usage.reasoning_tokens == 40
    assert usage.problems == ()


@pytest.mark.parametrize("details", [[3], [{"modality": "AUDIO", "tokenCount": "9"}], {"AUDIO": 3}])
def test_modalities_of_the_wrong_type_are_named(details: Any) -> None:
    usage = gemini(promptTokenCount=10, totalTokenCount=10, promptTokensDetails=details)
    assert usage.quantities == {"input_tokens": 10}
    assert usage.problems


def test_gemini_leaves_out_what_is_zero_and_that_is_no_problem() -> None:
    blocked = gemini(promptTokenCount=12, totalTokenCount=12)
    assert blocked.quantities == {"input_tokens": 12}
    assert blocked.problems == ()


def test_modalities_sent_as_numbers_are_read_like_their_names() -> None:
    details = [{"modality": 4, "tokenCount": 7}, {"modality": 1, "tokenCount": 3}]
    usage = gemini(promptTokenCount=10, totalTokenCount=10, promptTokensDetails=details)
    assert usage.quantities == {"input_tokens": 3, "input_audio_tokens": 7}


@pytest.mark.parametrize("provider", ["google", "xai"])
def test_output_that_only_the_total_has_is_billed_where_that_is_the_rule(provider: str) -> None:
    usage = chat(provider, prompt_tokens=35, completion_tokens=12, total_tokens=109)
    assert usage.quantities == {"input_tokens": 35, "output_tokens": 74}
    assert usage.reasoning_tokens == 62
    assert usage.problems == ()


def test_elsewhere_a_total_that_does_not_add_up_is_named() -> None:
    usage = chat(prompt_tokens=35, completion_tokens=12, total_tokens=109)
    assert usage.quantities == {"input_tokens": 35, "output_tokens": 12}
    assert usage.problems == ("the parts differ from the total by +62",)


def test_bedrock_s_total_has_the_cache_that_its_input_leaves_out() -> None:
    raw = {"inputTokens": 5, "outputTokens": 6, "cacheReadInputTokens": 100,
           "cacheWriteInputTokens": 40, "totalTokens": 151}  # fmt: skip
    usage = read(rules("bedrock", "bedrock.converse"), raw)
    assert sum(usage.quantities.values()) == 151
    assert usage.problems == ()


def test_embeddings_have_input_and_nothing_else() -> None:
    for raw in ({"prompt_tokens": 8, "total_tokens": 8}, {"total_tokens": 8}):
        usage = read(rules("openai", "openai.embeddings"), raw)
        assert (usage.quantities, usage.problems) == ({"input_tokens": 8}, ())


def test_counts_from_the_answer_s_items_are_taken_unless_the_usage_has_its_own() -> None:
    own = rules("anthropic", "anthropic.messages")
    raw = {"input_tokens": 1, "output_tokens": 1}
    assert read(own, raw, {"web_searches": 3, "tool_calls": 2}).quantities["web_searches"] == 3
    searched = {**raw, "server_tool_use": {"web_search_requests": 1}}
    assert read(own, searched, {"web_searches": 3}).quantities["web_searches"] == 1


def test_cached_audio_that_nobody_tells_apart_is_named() -> None:
    details = {"cached_tokens": 5, "audio_tokens": 5}
    usage = chat(
        prompt_tokens=20, completion_tokens=1, total_tokens=21, prompt_tokens_details=details
    )
    assert usage.problems == ("cached audio is not told from other cached input",)


@pytest.mark.parametrize("raw", [None, [], "12", 7, True, {}, {"prompt_tokens": None}])
def test_a_usage_that_says_nothing_has_no_source_and_says_why(raw: Any) -> None:
    usage = read(rules("openai", "openai.chat"), raw)
    assert usage.source == "none"
    assert usage.quantities == {}
    assert usage.problems


ODD = [-1, -(10**30), 10**30, MAX_COUNT + 1, 1e308, math.nan, math.inf, -0.5, 1.5, 12.0, "12", "",
       True, False, [], [3], {}, {"a": 1}]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "field", ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"]
)
def test_a_count_that_is_no_count_is_named_wherever_it_stands(field: str, odd: Any) -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 2}
    usage = read(rules("openai", "openai.chat"), {**raw, field: odd})
    assert usage.problems
    assert all(type(n) is int and n > 0 for n in usage.quantities.values())


def test_a_cache_larger_than_the_input_is_cut_down_to_it_and_named() -> None:
    usage = chat(prompt_tokens=100, completion_tokens=1, total_tokens=101, cached_tokens=500)
    assert usage.quantities == {"cache_read_tokens": 100, "output_tokens": 1}
    assert usage.problems


@pytest.mark.parametrize("details", ["x", 7, [], True])
def test_details_of_the_wrong_type_are_named(details: Any) -> None:
    usage = chat(
        prompt_tokens=3, completion_tokens=1, total_tokens=4, prompt_tokens_details=details
    )
    assert usage.quantities == {"input_tokens": 3, "output_tokens": 1}
    assert usage.problems


def test_details_that_are_null_are_simply_not_there() -> None:
    usage = chat(prompt_tokens=3, completion_tokens=1, total_tokens=4, prompt_tokens_details=None)
    assert usage.problems == ()


def test_a_missing_half_is_taken_from_the_total_and_named() -> None:
    usage = chat(prompt_tokens=3, total_tokens=10)
    assert usage.quantities == {"input_tokens": 3, "output_tokens": 7}
    assert usage.problems == ("output is missing: taken from the total",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(ODD[:8]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = sorted(
    {
        step
        for provider in PROVIDERS.values()
        for each in provider.usage.values()
        for name in UsageRules.__slots__
        if isinstance(getattr(each, name), tuple)
        for path in getattr(each, name)
        for steps in path
        for step in steps
        if isinstance(step, str)
    }
    | {"iterations", "model"}
)
OBJECTS = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.integers(0, 500), max_size=8),
    lambda inner: st.dictionaries(
        st.sampled_from(FIELDS),
        inner | st.integers(0, 500) | st.lists(inner, max_size=3),
        max_size=8,
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(OBJECTS | JSON, st.dictionaries(st.sampled_from(["web_searches", "tool_calls"]), JSON))
def test_no_object_of_any_shape_raises_or_yields_a_negative_bucket(raw: Any, counts: Any) -> None:
    for provider in ("openai", "anthropic", "google", "openrouter", "bedrock"):
        for own in PROVIDERS[provider].usage.values():
            usage = read(own, raw, counts)
            assert all(type(n) is int and n > 0 for n in usage.quantities.values())
            assert set(usage.quantities) <= set(BUCKETS)
            assert usage.reasoning_tokens >= 0
            assert usage.source == "provider" or usage.problems
            for _, apart in billed_apart(own, raw):
                assert all(n > 0 for n in apart.quantities.values())
            reported = reported_pico(own, raw)
            assert reported is None or reported >= 0
        served_tier(PROVIDERS[provider].tier, raw)


@settings(max_examples=400, deadline=None)
@given(OBJECTS | JSON)
def test_the_quick_way_through_a_plain_usage_says_what_the_rules_say(raw: Any) -> None:
    for provider in PROVIDERS.values():
        for own in provider.usage.values():
            slow = dataclasses.replace(own, flat=frozenset({"\0"}), nested=frozenset())
            told = {**raw, "\0": 1} if isinstance(raw, dict) else raw
            followed = dataclasses.replace(read(slow, told), raw=None)
            assert dataclasses.replace(read(own, raw), raw=None) == followed


def test_a_problem_never_repeats_what_a_stranger_wrote() -> None:
    usage = chat(prompt_tokens="my secret prompt", completion_tokens=1, total_tokens=1)
    assert "secret" not in str(usage.problems)


@pytest.mark.parametrize(
    ("provider", "raw", "told", "tier"),
    [
        ("openai", {}, "default", ""),
        ("openai", {}, "flex", "flex"),
        ("openai", {}, "priority", "priority"),
        ("openai", {}, "scale", "scale"),
        ("groq", {}, "on_demand", ""),
        ("anthropic", {"service_tier": "standard", "inference_geo": "not_available"}, "", ""),
        ("anthropic", {"service_tier": "batch"}, "", "batch"),
        ("anthropic", {"service_tier": "standard", "speed": "fast"}, "", "fast"),
        ("anthropic", {"service_tier": "batch", "inference_geo": "us"}, "", "batch+us"),
        ("google", {"serviceTier": "standard"}, "", ""),
        ("google", {"trafficType": "ON_DEMAND"}, "", ""),
        ("google", {"trafficType": 1}, "", ""),
        ("google", {"trafficType": "ON_DEMAND_FLEX"}, "", "flex"),
        ("google", {"trafficType": "PROVISIONED_THROUGHPUT"}, "", "provisioned_throughput"),
        ("openai", {"service_tier": {"type": "flex"}}, "", ""),
    ],
)
def test_the_tier_is_the_one_that_the_answer_was_served_at(
    provider: str, raw: dict[str, Any], told: str, tier: str
) -> None:
    assert served_tier(PROVIDERS[provider].tier, raw, told) == tier


def test_openrouter_s_own_figure_is_read_to_the_last_digit() -> None:
    own = rules("openrouter", "openai.chat")
    raw = orjson.loads(b'{"cost":0.0004970133333333333,"is_byok":false}')
    assert reported_pico(own, raw) == 497_013_333
    byok = {"cost": 0.00001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0002}}
    assert reported_pico(own, byok) == 210_000_000
    for odd in (None, "0.1", -1, math.nan, 1e308, True):
        assert reported_pico(own, {"cost": odd}) is None
    assert reported_pico(rules("openai", "openai.chat"), {"cost": 1}) is None


def test_a_rule_that_is_spelled_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="outputs"):
        rules_from({"outputs": "x"})
