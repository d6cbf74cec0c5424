"""What a call is held for is never less than what it can cost, whatever it says and is billed."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend import worstcase
from modelspend.catalog import Catalog
from modelspend.catalog import usage as usage_rules
from modelspend.money import Band, Price, price_usage
from modelspend.worstcase import Bound, Rates, bound, unbounded

GIVEN = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
WRITTEN = ("output_tokens", "output_audio_tokens", "output_image_tokens")


def _price(random: Random) -> Price:
    """Rates in no order at all: a cache may be dearer than what it keeps, a long prompt cheaper."""
    starts = sorted(random.sample((1, 1_000, 200_000), random.randrange(4)))
    named = {*random.sample(GIVEN + WRITTEN, random.randrange(1, 8)), "input_tokens"}
    if random.random() < 0.3:
        named.add("requests")
    bands = tuple(
        Band(start, {bucket: random.randrange(60_000_000) for bucket in sorted(named)})
        for start in (0, *starts)
    )
    return Price(provider="p", model="m", source="config", bands=bands)


def _within(random: Random, most: Bound, limit: int) -> dict[str, int]:
    """A usage that keeps within a bound: its input split at random, and so its output."""
    used, left = {"requests": 1}, random.randint(0, most.input_tokens)
    for bucket in random.sample(GIVEN if most.writes else GIVEN[:2], 2):
        used[bucket] = random.randint(0, left)
        left -= used[bucket]
    left = random.choice((1, random.random())) * (limit * most.answers + most.extra_output)
    for bucket in random.sample(WRITTEN, 2):
        used[bucket] = random.randint(0, int(left))
        left -= used[bucket]
    return used


@given(st.randoms(use_true_random=False))
def test_no_usage_within_its_bound_costs_more_than_what_is_held(random: Random) -> None:
    prices = tuple(_price(random) for _ in range(random.randint(1, 3)))
    most = Bound(
        input_tokens=random.choice((0, 5, 900, 300_000)),
        answers=random.choice((1, 4)),
        extra_output=random.choice((0, 77)),
        writes=random.random() < 0.5,
    )
    limit = random.choice((0, 1, 4_000))
    held = Rates(prices=prices).most(most, limit)
    for _ in range(20):
        used = _within(random, most, limit)
        for price in prices:
            cost = price_usage(used, price)
            if held is None:
                return
            assert (cost.total_pico or 0) <= held, (used, price)


def test_without_a_price_for_what_may_be_billed_nothing_is_held_and_nothing_known() -> None:
    only_output = Price(provider="p", model="m", source="c", bands=(Band(0, {"output_tokens": 1}),))
    only_input = Price(provider="p", model="m", source="c", bands=(Band(0, {"input_tokens": 1}),))
    free = Price(provider="p", model="m", source="free")
    some = Bound(input_tokens=10)
    assert Rates(prices=()).most(some, 5) is None
    assert Rates(prices=(only_output,)).most(some, 5) is None
    assert Rates(prices=(only_input,)).most(some, 5) is None
    assert Rates(prices=(only_input,)).most(some, 0) == 10
    assert Rates(prices=(free,)).most(some, 5) == 0
    assert Rates(prices=(free, only_output)).most(some, 5) is None


TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=200)


@given(said=TEXT, escaped=st.booleans())
def test_no_text_has_more_bytes_in_any_spelling_than_its_bound(said: str, escaped: bool) -> None:
    """A tokenizer may normalise letters before it cuts them: one may become eighteen."""
    from unicodedata import normalize

    body = {"messages": [{"role": "user", "content": said}]}
    raw = json.dumps(body).encode() if escaped else orjson.dumps(body)
    most = bound("openai.chat", body, raw).input_tokens
    for form in ("NFC", "NFD", "NFKC"):
        assert len(normalize(form, said).encode()) <= most


@pytest.mark.parametrize(
    ("dialect", "body", "why"),
    [
        ("openai.chat", {"messages": [{"role": "user", "content": "hi"}]}, None),
        ("openai.chat", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "image_url"),
        ("openai.chat", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
         "input_audio"),
        ("openai.chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "audio"),
        ("openai.chat", {"web_search_options": {"x": 1}}, "web_search_options"),
        ("openai.responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("openai.responses", {"tools": [{"type": "web_search"}]}, "web_search"),
        ("openai.responses", {"tools": [{"type": "function", "name": "f"}]}, None),
        ("openai.responses", {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ("anthropic.messages", {"tools": [{"type": "web_search_20250305"}]}, "web_search"),
        ("anthropic.messages", {"tools": [{"type": "bash_20250124"}]}, None),
        ("anthropic.messages",
         {"messages": [{"role": "user", "content": [
             {"type": "tool_result", "content": [{"type": "image"}]}]}]}, "image"),
        ("anthropic.messages", {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ("gemini.generate", {"tools": [{"googleSearch": {}}]}, "googleSearch"),
        ("gemini.generate", {"tools": [{"functionDeclarations": []}]}, None),
        ("gemini.generate", {"contents": [{"parts": [{"fileData": {}}]}]}, "fileData"),
        ("gemini.generate", {"cachedContent": "c"}, "cachedContent"),
        ("openai.embeddings", {"input": ["a", "b"]}, None),
        ("openai.embeddings", {"input": [[1, 2]]}, None),
        ("openai.embeddings", {"input": [{"image": "x"}]}, "dict"),
    ],
)  # fmt: skip
def test_what_stands_for_more_than_it_says_has_no_bound(
    dialect: str, body: dict[str, Any], why: str | None
) -> None:
    found = unbounded(dialect, body, "m")
    assert (found is None) == (why is None), found
    assert why is None or why in (found or "")


FILES = {
    "openai_chat": ("openai", "openai.chat"),
    "openai_responses": ("openai", "openai.responses"),
    "anthropic": ("anthropic", "anthropic.messages"),
    "gemini": ("google", "gemini.generate"),
}


def _recorded(folder: Path, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(request, raw usage) of the answers that tell it whole."""
    for line in (folder / "traffic" / f"{name}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        asked, answer = row.get("request"), row.get("response")
        if isinstance(answer, str):
            try:
                answer = json.loads(answer)
            except ValueError:
                continue
        if isinstance(asked, dict) and isinstance(answer, dict):
            usage = answer.get("usage") or answer.get("usageMetadata")
            if isinstance(usage, dict):
                yield asked, usage


@pytest.mark.parametrize("name", FILES)
def test_recorded_inputs_were_never_billed_above_their_bound(recorded: Path, name: str) -> None:
    """What the vendors truly counted for requests that have a bound."""
    provider, dialect = FILES[name]
    rules = Catalog.load({}, {}).known[provider].usage[dialect]
    seen, tightest, over = 0, 10**9, []
    for asked, raw in _recorded(recorded, name):
        if unbounded(dialect, asked, str(asked.get("model"))):
            continue
        usage = usage_rules.read(rules, raw)
        billed = sum(usage.quantities.get(bucket, 0) for bucket in worstcase._TEXT_IN + GIVEN[2:])
        most = bound(dialect, asked, orjson.dumps(asked)).input_tokens
        if billed > most:
            over.append((billed, most, asked))
        seen, tightest = seen + 1, min(tightest, most - billed)
    print(f"\n{name}: {seen} requests, the tightest with {tightest} tokens to spare")
    assert over == []
    assert seen > 20
