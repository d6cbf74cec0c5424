"""The providers' own files: every known shape is read, and a bad one is told with its place."""

import json

import pytest

from modelspend.bills import read
from modelspend.charges import BadFile

OPENAI = "start_time,end_time,amount_value,amount_currency,quantity,quantity_unit,line_item\n"
ANTHROPIC = "usage_date_utc,model,workspace,api_key,usage_type,token_type,cost_usd,cost_type\n"
OPENROUTER = "generation_id,created_at,cost_total,tokens_prompt,tokens_cached,model_permaslug\n"


@pytest.mark.parametrize(
    ("item", "model", "tier", "bucket"),
    [
        ("gpt-5-2025-08-07, input", "gpt-5-2025-08-07", "", "input_tokens"),
        ("gpt-5-nano, input_tokens", "gpt-5-nano", "", "input_tokens"),
        ("gpt-4o-2024-08-06, cached input", "gpt-4o-2024-08-06", "", "cache_read_tokens"),
        ("gpt-5.6-terra, cache writes", "gpt-5.6-terra", "", "cache_write_5m_tokens"),
        (
            "priority | gpt-5.6-sol, output, long context",
            "gpt-5.6-sol",
            "priority",
            "output_tokens",
        ),
        ("gpt-image-1 image, output", "gpt-image-1", "", "output_image_tokens"),
        ("gpt-image-1 text, cached input", "gpt-image-1", "", "cache_read_tokens"),
        ("gpt-audio-mini audio, input", "gpt-audio-mini", "", "input_audio_tokens"),
        ("gpt-4o-2024-08-06, Output", "gpt-4o-2024-08-06", "", "output_tokens"),
        ("web search tool calls", "", "", "web_searches"),
        ("whisper", "whisper", "", None),
        ("", "", "", None),
    ],
)
def test_a_line_item_says_model_tier_and_kind(
    item: str, model: str, tier: str, bucket: str | None
) -> None:
    text = OPENAI + f'1790553600,1790640000,0.5,usd,,,"{item}"\n'
    (charge,) = read(text, "openai")
    assert (charge.model, charge.tier, charge.bucket) == (model, tier, bucket)
    assert charge.cost_pico == 5 * 10**11


def test_an_amount_keeps_how_finely_it_was_written() -> None:
    text = OPENAI + (
        "1790467200,1790553600,,,,,\n"
        '1790553600,1790640000,0.003835980000000000000000000000,usd,12,tokens,"gpt-5, input"\n'
    )
    (charge,) = read(text, "openai")
    assert (charge.cost_pico, charge.step_pico, charge.quantity) == (3_835_980_000, 1, 12)
    text = ANTHROPIC + "2026-11-02,Claude Haiku 4.5,W,k,message,output,0.10,token\n"
    (charge,) = read(text, "anthropic")
    assert (charge.cost_pico, charge.step_pico) == (10**11, 10**10)


def test_cents_of_the_api_are_dollars() -> None:
    result = {
        "amount": "123.45", "currency": "USD", "cost_type": "tokens", "context_window": "0-200k",
        "model": "claude-opus-4-6", "service_tier": "batch", "token_type": "uncached_input_tokens",
    }  # fmt: skip
    bucket = {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z",
              "results": [result]}  # fmt: skip
    (charge,) = read(json.dumps({"data": [bucket], "has_more": False}), "anthropic")
    assert (charge.cost_pico, charge.step_pico) == (1_234_500_000_000, 10**8)
    assert (charge.tier, charge.bucket) == ("batch", "input_tokens")


def test_usage_of_the_apis_is_read_by_disjoint_buckets() -> None:
    result = {
        "uncached_input_tokens": 1500, "cache_read_input_tokens": 200, "output_tokens": 500,
        "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 50},
        "server_tool_use": {"web_search_requests": 10}, "model": "claude-sonnet-4-20250514",
        "service_tier": "standard",
    }  # fmt: skip
    bucket = {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z",
              "results": [result]}  # fmt: skip
    found = {c.bucket: c.quantity for c in read(json.dumps({"data": [bucket]}), "anthropic")}
    assert found == {
        "input_tokens": 1500, "cache_read_tokens": 200, "cache_write_5m_tokens": 50,
        "cache_write_1h_tokens": 1000, "output_tokens": 500, "web_searches": 10,
    }  # fmt: skip
    used = {"model": "gpt-5", "input_tokens": 100, "input_cached_tokens": 30, "output_tokens": 9,
            "input_audio_tokens": 20, "output_audio_tokens": 4, "batch": True}  # fmt: skip
    page = {"data": [{"start_time": 1790553600, "end_time": 1790640000, "results": [used]}]}
    charges = read(json.dumps([page]), "openai")
    assert {c.bucket: c.quantity for c in charges} == {
        "input_tokens": 50, "cache_read_tokens": 30, "input_audio_tokens": 20,
        "output_tokens": 5, "output_audio_tokens": 4,
    }  # fmt: skip
    assert {c.tier for c in charges} == {"batch"}


def test_a_mark_of_byte_order_and_windows_lines_are_no_matter() -> None:
    text = "\ufeff" + (ANTHROPIC + "2026-11-02,--,W,k,--,--,0.10,web_search\n").replace(
        "\n", "\r\n"
    )
    (charge,) = read(text, "anthropic")
    assert (charge.model, charge.bucket) == ("", "web_searches")


def test_days_of_openrouter_are_read_from_both_of_its_shapes() -> None:
    table = (
        "Date,Slug,Usage,BYOK Usage,Requests,Prompt Tokens,Completion Tokens,Reasoning Tokens\n"
        '"2026-05-12 00:00:00","anthropic/claude-opus-4.7","430.07","1","4115","70","30","0"\n'
    )
    row = {"date": "2026-05-12", "model": "anthropic/claude-opus-4.7", "usage": 430.07,
           "byok_usage_inference": 1, "requests": 4115, "prompt_tokens": 70,
           "completion_tokens": 30}  # fmt: skip
    for text in (table, json.dumps({"data": [row]})):
        (charge,) = read(text, "openrouter")
        assert (charge.cost_pico, charge.requests) == (431_070_000_000_000, 4115)
        assert (charge.prompt, charge.output) == (70, 30)


_O, _A, _R = "1790553600,1790640000,", "2026-11-02,M,W,k,message,", "gen-1,2026-06-28 03:46:57.713,"
BAD = [
    ("openai", "a,b\n1,2\n", "line 1: this is no openai export that is known"),
    ("openai", "", "line 1: this is no openai export"),
    ("openai", OPENAI + f"{_O}abc,usd,,,x\n", "line 2, column amount_value: 'abc'"),
    ("openai", OPENAI + f"{_O}1,eur,,,x\n", "line 2: an amount in eur"),
    ("openai", OPENAI + "yesterday,,1,usd,,,x\n", "line 2, column start_time: 'yesterday'"),
    ("openai", OPENAI + f'{_O}1,usd,-3,tokens,"gpt-5, input"\n', "column quantity: '-3'"),
    ("openai", OPENAI + "1,2,3\n", "line 2: 3 cells, where the first line names 7 columns"),
    ("openai", OPENAI + f'{_O}1,usd,,,"open\n', "it is not CSV"),
    ("openai", "{", "line 1: it is not JSON"),
    ("openai", '{"object": "list"}', "has a list named data"),
    ("openai", '{"data": [], "has_more": true}', "there are more pages than these"),
    ("anthropic", ANTHROPIC + f"{_A}odd,0.10,token\n", "column token_type: 'odd' is none of"),
    ("anthropic", ANTHROPIC + "2026-13-02,M,W,k,m,output,1,token\n", "column usage_date_utc"),
    ("anthropic", ANTHROPIC + f"\n{_A}output,,token\n", "line 3, column cost_usd: there is no"),
    ("openrouter", OPENROUTER + f"{_R}inf,1,0,m\n", "column cost_total: 'inf'"),
    ("openrouter", OPENROUTER + f"{_R}1,1.5,0,m\n", "column tokens_prompt: '1.5'"),
]


@pytest.mark.parametrize(("provider", "text", "said"), BAD)
def test_a_bad_file_is_told_with_line_and_column(provider: str, text: str, said: str) -> None:
    with pytest.raises(BadFile) as told:
        read(text, provider)  # type: ignore[arg-type]
    assert said in str(told.value)
