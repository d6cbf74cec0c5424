"""The usage objects of others: their tokens and dollars by an independent library, beside ours.

The prices of the data are those of one day in August 2026; the pinned table is later. Where both
tables agree our dollars must too, and every row that differs must have one of the causes below.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.types import Usage as TheirUsage

from modelspend.catalog import Catalog, Provider
from modelspend.catalog.library import InProcess
from modelspend.catalog.prices import Bill, PriceBook
from modelspend.catalog.usage import billed_apart, read
from modelspend.money import INPUT_BUCKETS, Cost, usd
from modelspend.receipt import Usage

AT = datetime(2026, 8, 21, 12, tzinfo=UTC)
OUTPUT_BUCKETS = ("output_tokens", "output_audio_tokens", "output_image_tokens")
DIALECTS = {
    "chat": "openai.chat",
    "responses": "openai.responses",
    "embeddings": "openai.embeddings",
    "anthropic": "anthropic.messages",
}
NATIVE = {"anthropic": "anthropic.messages", "google": "gemini.generate"}


@dataclass(frozen=True)
class Case:
    """One raw usage as one provider's dialect, with what the library made of it."""

    model: str
    raw: dict[str, Any]
    provider: Provider
    dialect: str
    theirs: dict[str, int]
    dollars: Decimal

    @property
    def usage(self) -> Usage:
        return read(self.provider.usage[self.dialect], self.raw)


@pytest.fixture(scope="module")
def cases(rows: Any, catalog: Catalog) -> list[Case]:
    found: list[Case] = []
    for row in rows("usage_price/usages_half.jsonl"):
        body = row["body"]
        raw = body.get("usage") or body.get("usageMetadata") or body["meta"]
        for extracted in row["extracted"]:
            found += [
                _case(catalog, row["model"], raw, extracted["usage"], priced)
                for priced in extracted["priced"]
            ]
    return found


def _case(
    catalog: Catalog,
    model: str,
    raw: dict[str, Any],
    theirs: dict[str, int],
    priced: dict[str, Any],
) -> Case:
    name, flavor = priced["provider_id"], priced["api_flavor"]
    provider = catalog.find(name) or replace(
        catalog.known["openai"], name=name, library=name, corrections=()
    )
    dialect = NATIVE.get(name, "openai.chat") if flavor == "default" else DIALECTS[flavor]
    both = Decimal(priced["input_price"]) + Decimal(priced["output_price"])
    dollars = Decimal(priced.get("total_price", both))
    return Case(model, raw, provider, dialect, theirs, dollars)


def their_shape(usage: Usage) -> dict[str, int]:
    """Our disjoint buckets as the library's inclusive counts."""
    n = usage.quantities
    shape = {
        "input_tokens": sum(n.get(bucket, 0) for bucket in INPUT_BUCKETS),
        "output_tokens": sum(n.get(bucket, 0) for bucket in OUTPUT_BUCKETS),
        "cache_read_tokens": n.get("cache_read_tokens", 0) + n.get("cached_audio_tokens", 0),
        "cache_write_tokens": n.get("cache_write_5m_tokens", 0) + n.get("cache_write_1h_tokens", 0),
        "input_audio_tokens": n.get("input_audio_tokens", 0) + n.get("cached_audio_tokens", 0),
        "output_image_tokens": n.get("output_image_tokens", 0),
        "output_reasoning_tokens": usage.reasoning_tokens,
        "web_searches": n.get("web_searches", 0),
    }
    return {key: count for key, count in shape.items() if count}


NOT_OURS = {
    # parts that have no bucket here: they are inside one of the others
    "cache_write_5m_tokens", "cache_text_read_tokens", "cache_image_read_tokens",
    "input_text_tokens", "input_image_tokens", "input_video_tokens", "input_tool_tokens",
    "input_text_tool_tokens", "output_text_tokens",
}  # fmt: skip


def token_cause(case: Case) -> str | None:
    """Why the counts differ; null when they are equal. Raises AssertionError when for no cause."""
    theirs = {k: n for k, n in case.theirs.items() if n and k not in NOT_OURS}
    ours = their_shape(case.usage)
    differ = {key for key in theirs | ours if theirs.get(key, 0) != ours.get(key, 0)}
    if not differ:
        return None
    if case.provider.name == "google" and case.dialect == "openai.chat":
        assert differ == {"output_tokens", "output_reasoning_tokens"}
        assert ours["output_tokens"] == case.raw["total_tokens"] - case.raw["prompt_tokens"]
        return "thoughts are outside completion_tokens: the total has them"
    told_by_us = {key for key in differ if not theirs.get(key)}
    assert told_by_us == differ, f"{case.provider.name} {case.dialect}: {differ} in {case.raw}"
    assert differ <= {"output_reasoning_tokens", "web_searches", "cache_write_tokens"}
    return f"they do not look for {', '.join(sorted(differ))} here"


def test_tokens_equal_those_of_an_independent_library_on_every_row(cases: list[Case]) -> None:
    causes = Counter(token_cause(case) for case in cases)
    problems = Counter(problem for case in cases for problem in case.usage.problems)
    print(f"\n{len(cases)} readings: {causes.pop(None)} equal", *causes.items(), sep="\n  ")
    assert len(cases) == 1671
    assert sum(causes.values()) == 43
    assert not problems


async def test_dollars_equal_wherever_the_tables_agree_and_others_have_a_cause(
    cases: list[Case],
) -> None:
    book = PriceBook(library=InProcess())
    causes: Counter[str] = Counter()
    equal = 0
    for case in cases:
        cost = await book.settle(
            Bill(
                provider=case.provider,
                dialect=case.dialect,
                usage=case.usage,
                asked=case.model,
                at_ms=int(AT.timestamp() * 1000),
            )
        )
        if cost.total_pico is not None and usd(cost.total_pico) == case.dollars:
            equal += 1
        else:
            causes[dollar_cause(case, cost)] += 1
    print(f"\n{len(cases)} prices: {equal} equal", *causes.most_common(), sep="\n  ")
    assert equal + sum(causes.values()) == len(cases)
    assert equal >= 1584


def dollar_cause(case: Case, cost: Cost) -> str:
    """Why the dollars differ. Raises AssertionError when for no cause that we know of."""
    if pinned(case) != case.dollars:
        return "the price changed after the data was made"
    missing = [line.bucket for line in cost.lines if line.cost_pico is None]
    if cost.total_pico is None:
        assert case.dollars == 0
        assert not cost.exact
        return "the table has the model without a price: unknown, not 0"
    if missing:
        assert not cost.exact
        return f"{missing[0]} without a price of its own: inexact, not billed as text"
    searches = sum(line.cost_pico or 0 for line in cost.lines if line.bucket == "web_searches")
    apart = billed_apart(case.provider.usage[case.dialect], case.raw)
    if apart:
        lines = [line for line in cost.lines if line.price_id == cost.price_id]
        assert usd(sum(line.cost_pico or 0 for line in lines)) == case.dollars
        return "an advisor model took part, at its own price"
    if searches and "web_searches" not in case.theirs:
        assert usd((cost.total_pico or 0) - searches) == case.dollars
        return "web searches, which they do not look for here"
    assert token_cause(case), f"{case.provider.name} {case.model}: {cost} is not {case.dollars}"
    return "thoughts are outside completion_tokens: the total has them"


def pinned(case: Case) -> Decimal:
    """What the pinned table makes of the library's own counts."""
    return genai_prices.calc_price(
        TheirUsage(**case.theirs),
        case.model,
        provider_id=case.provider.library,
        genai_request_timestamp=AT,
    ).total_price
