"""The price book: which row holds, and what a bill comes to by it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from modelspend import tasks
from modelspend.catalog import Catalog, stranger
from modelspend.catalog.library import Answer, Child, InProcess, child_env
from modelspend.catalog.prices import MISSING, Bill, Found, PriceBook
from modelspend.catalog.rows import config_prices, library_version, override_price, source_of
from modelspend.catalog.usage import read
from modelspend.errors import ConfigInvalid
from modelspend.money import Cost, Price, usd_text
from modelspend.receipt import Usage
from modelspend.settings import PriceOverride, Provider, Rates, Settings

CATALOG = Catalog.load({}, {})
NOV = "2026-11-20T12:00"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def bill(
    provider: str,
    model: str,
    when: str = NOV,
    *,
    told: str = "",
    served: str | None = None,
    raw: Mapping[str, Any] | None = None,
    dialect: str = "",
    **quantities: int,
) -> Bill:
    """A bill for buckets as they are, or for a raw usage object."""
    who = CATALOG.known.get(provider) or stranger(provider)
    dialect = dialect or (who.dialects or ("openai.chat",))[0]
    usage = Usage(quantities=quantities, source="provider")
    if raw is not None:
        usage = read(who.usage[dialect], raw)
    return Bill(provider=who, dialect=dialect, usage=usage, asked=model, served=served, told=told,
                at_ms=at(when))  # fmt: skip


async def settled(one: Bill, **more: Any) -> Cost:
    return await PriceBook(library=InProcess(), **more).settle(one)


def dollars(cost: Cost) -> str | None:
    return None if cost.total_pico is None else usd_text(cost.total_pico)


async def test_a_call_costs_what_a_hand_computed_invoice_line_says() -> None:
    cost = await settled(
        bill("anthropic", "claude-sonnet-4-6", input_tokens=812, output_tokens=644)
    )
    assert dollars(cost) == "0.012096"
    assert cost.exact
    assert [usd_text(line.cost_pico or 0) for line in cost.lines] == ["0.002436", "0.00966"]


async def test_the_book_answers_at_once_what_it_was_told_before() -> None:
    book = PriceBook(library=InProcess())
    one = bill("openai", "gpt-4.1", input_tokens=1)
    assert book.cost(one) is MISSING
    settled_cost = await book.settle(one)
    assert book.cost(one) == settled_cost
    assert book.cost(bill("openai", "gpt-4.1", "2026-12-31T00:00", input_tokens=1)) == settled_cost


async def test_a_row_used_is_told_until_the_ledger_has_it_and_serves_the_next_process() -> None:
    first = PriceBook(library=InProcess())
    one = bill("openai", "gpt-4.1", input_tokens=1)
    cost = await first.settle(one)
    rows = first.unsaved()
    assert [row.price_id for row in rows] == [cost.price_id]
    first.saved(rows)
    assert first.unsaved() == ()
    second = PriceBook(rows=rows, library=Broken())
    assert second.cost(one) == cost
    assert second.unsaved() == ()


async def test_rows_of_another_release_of_the_table_are_not_used_again() -> None:
    book = PriceBook(library=InProcess())
    one = bill("openai", "gpt-4.1", input_tokens=1)
    await book.settle(one)
    old = [replace(row, source="genai-prices 0.0.1", price_id="") for row in book.unsaved()]
    assert PriceBook(rows=old, library=Broken()).cost(one) is MISSING


@pytest.mark.parametrize(
    ("tier", "unit"),
    [("default", "2.5"), ("flex", "1.25"), ("priority", "5"), ("batch", "1.25"), ("fast", "5")],
)
async def test_the_tier_that_served_is_the_tier_that_is_billed(tier: str, unit: str) -> None:
    cost = await settled(bill("openai", "gpt-5.4", told=tier, input_tokens=1_000))
    assert cost.lines[0].unit_pico == int(Decimal(unit) * 10**6)
    assert cost.exact


async def test_a_tier_without_a_price_is_priced_as_standard_and_says_so() -> None:
    for one in (
        bill("openai", "gpt-4.1", told="scale", input_tokens=10),
        bill(
            "openai", "gpt-5.4", "2026-10-01", told="flex", input_tokens=10
        ),  # not yet in the table
    ):
        cost = await settled(one)
        assert cost.total_pico
        assert not cost.exact
        assert "tier" in cost.inexact[0]


async def test_anthropic_s_batch_fast_and_one_country_are_read_from_the_usage() -> None:
    raw = {"input_tokens": 100, "output_tokens": 1, "service_tier": "standard"}
    plain = await settled(bill("anthropic", "claude-opus-4-8", raw=raw))
    fast = await settled(bill("anthropic", "claude-opus-4-8", raw={**raw, "speed": "fast"}))
    batch = await settled(
        bill("anthropic", "claude-opus-4-8", raw={**raw, "service_tier": "batch"})
    )
    there = await settled(bill("anthropic", "claude-opus-4-8", raw={**raw, "inference_geo": "us"}))
    totals = [cost.total_pico or 0 for cost in (batch, plain, fast)]
    assert totals == [totals[0], totals[0] * 2, totals[0] * 4]
    assert (plain.exact, fast.exact, batch.exact, there.exact) == (True, True, True, False)


@pytest.mark.parametrize(
    ("model", "when", "input_price"),
    [
        ("deepseek-chat", "2025-08-01T00:29", "0.135"),
        ("deepseek-chat", "2025-08-01T00:30", "0.27"),
        ("deepseek-chat", "2025-08-01T16:29", "0.27"),
        ("deepseek-chat", "2025-08-01T16:30", "0.135"),
        ("deepseek-v4-flash", "2026-11-20T03:59", "0.3"),
        ("deepseek-v4-flash", "2026-11-20T04:00", "0.15"),
        ("deepseek-v4-flash", "2026-11-21T03:00", "0.15"),  # a Saturday
        ("deepseek-v4-flash", "2026-08-16T02:00", "0.14"),  # before there were peak hours
        ("deepseek-v4-flash", "2026-08-17T02:00", "0.3"),
        ("deepseek-v4-flash", "2026-08-18T12:00", "0.22"),
        ("deepseek-v4-flash", "2026-09-10T12:00", "0.15"),
    ],
)
async def test_prices_follow_the_day_and_the_hour(model: str, when: str, input_price: str) -> None:
    book = PriceBook(library=InProcess())
    noon = bill("deepseek", model, when[:10] + "T12:00", input_tokens=1)
    await book.settle(noon)  # what was learnt about another hour must not stand in the way
    cost = await book.settle(bill("deepseek", model, when, input_tokens=1_000_000))
    assert dollars(cost) == input_price


async def test_any_instant_inside_a_row_s_time_gives_the_same_row() -> None:
    ids = set()
    for when in ("2026-11-20T01:00", "2026-11-20T02:13", "2026-11-20T03:59"):
        cost = await settled(bill("deepseek", "deepseek-v4-flash", when, input_tokens=1))
        ids.add(cost.price_id)
    assert len(ids) == 1


async def test_a_dated_price_change_takes_effect_at_midnight_utc() -> None:
    before = await settled(
        bill("google", "gemini-3.8-flash", "2026-12-31T23:59", input_tokens=10**6)
    )
    after = await settled(
        bill("google", "gemini-3.8-flash", "2027-01-01T00:00", input_tokens=10**6)
    )
    assert dollars(after) == "1.5"
    assert dollars(before) == "0.75"


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "total"),
    [
        ("anthropic", "claude-sonnet-4-5", 200_000, "0.6"),
        ("anthropic", "claude-sonnet-4-5", 200_001, "1.200006"),
        ("openai", "gpt-5.4", 272_000, "0.68"),
        ("openai", "gpt-5.4", 272_001, "1.360005"),
        ("google", "gemini-2.5-pro", 200_000, "0.25"),
        ("google", "gemini-2.5-pro", 200_001, "0.5000025"),
        ("xai", "grok-4.3", 199_999, "0.24999875"),
        ("xai", "grok-4.3", 200_000, "0.5"),
    ],
)
async def test_long_context_is_a_cliff_for_the_whole_request(
    provider: str, model: str, tokens: int, total: str
) -> None:
    assert dollars(await settled(bill(provider, model, input_tokens=tokens))) == total


async def test_audio_without_a_price_is_never_billed_as_text() -> None:
    one = bill("openai", "gpt-4o-audio-preview-2024-12-17", input_tokens=20, input_audio_tokens=44)
    cost = await settled(one)
    assert not cost.exact
    assert cost.inexact == ("no price for input_audio_tokens",)
    assert dollars(cost) == "0.00005"


async def test_pictures_cost_what_text_costs_where_the_provider_says_so() -> None:
    one = bill("google", "gemini-2.5-flash", input_tokens=1, input_image_tokens=1_000_000)
    cost = await settled(one)
    assert cost.exact
    assert dollars(cost) == "0.3000003"
    assert "corrected" in source_of(one.provider, one.asked)
    live = bill("google", "gemini-live-2.5-flash", input_image_tokens=1_000_000)
    assert dollars(await settled(live)) == "3"


async def test_a_grounded_gemini_2_answer_is_billed_one_search_however_many_it_made() -> None:
    two = await settled(bill("google", "gemini-2.5-flash", input_tokens=1, web_searches=5))
    three = await settled(bill("google", "gemini-3-flash-preview", input_tokens=1, web_searches=5))
    assert two.lines[-1].quantity == 1
    assert three.lines[-1].quantity == 5


async def test_azure_is_priced_by_the_model_that_its_deployment_served() -> None:
    cost = await settled(
        bill("azure", "my-deployment", served="gpt-4.1-2025-04-14", input_tokens=1_000)
    )
    assert dollars(cost) == "0.002"
    assert cost.exact


async def test_a_served_name_that_nobody_knows_is_priced_as_asked_and_says_so() -> None:
    cost = await settled(
        bill("openai", "gpt-4.1", served="gpt-4.1-secret-snapshot", input_tokens=1_000)
    )
    assert dollars(cost) == "0.002"
    assert not cost.exact
    assert "gpt-4.1-secret-snapshot" in cost.inexact[0]


async def test_an_unknown_model_has_no_cost_and_not_a_cost_of_zero() -> None:
    cost = await settled(bill("openai", "gpt-nope", input_tokens=5))
    assert cost.total_pico is None
    assert (cost.source, cost.exact) == ("unpriced", False)
    mine = await settled(bill("mine", "whatever", input_tokens=5))
    assert mine.total_pico is None


async def test_a_provider_s_name_that_only_resembles_a_known_one_gets_no_price() -> None:
    like = stranger("my-openai-proxy", library="my-openai-proxy")
    one = replace(bill("openai", "gpt-4.1", input_tokens=5), provider=like)
    assert (await settled(one)).total_pico is None


async def test_a_stranger_at_a_public_address_is_priced_by_its_address() -> None:
    there = replace(stranger("fire"), base_url="https://api.groq.com/openai/v1")
    one = replace(bill("groq", "openai/gpt-oss-120b", input_tokens=1_000_000), provider=there)
    known = await settled(bill("groq", "openai/gpt-oss-120b", input_tokens=1_000_000))
    assert (await settled(one)).total_pico == known.total_pico


async def test_the_free_variant_of_a_model_is_free_by_its_name() -> None:
    cost = await settled(bill("openrouter", "google/gemini-2.0-flash-exp:free", input_tokens=8))
    assert (cost.total_pico, cost.exact, cost.source) == (0, True, "free")


ADVISED = {
    "input_tokens": 2417, "output_tokens": 133, "iterations": [
        {"input_tokens": 1128, "output_tokens": 121},
        {"input_tokens": 2529, "output_tokens": 38, "model": "claude-opus-4-8"},
        {"input_tokens": 1289, "output_tokens": 12},
    ],
}  # fmt: skip


async def test_an_advisor_s_tokens_are_billed_at_the_advisor_s_price() -> None:
    cost = await settled(bill("anthropic", "claude-sonnet-5", raw=ADVISED))
    assert dollars(cost) == "0.019759"  # 0.006164 for the model, 0.013595 for its advisor
    assert len({line.price_id for line in cost.lines}) == 2
    assert cost.total_pico == sum(line.cost_pico or 0 for line in cost.lines)
    assert cost.exact


async def test_an_advisor_without_a_price_leaves_the_whole_cost_unknown() -> None:
    raw = {**ADVISED, "iterations": [{**ADVISED["iterations"][1], "model": "claude-who"}]}  # type: ignore[index]
    cost = await settled(bill("anthropic", "claude-sonnet-5", raw=raw))
    assert cost.total_pico is None
    assert not cost.exact


async def test_a_provider_s_own_figure_stands_beside_ours_and_a_difference_is_told() -> None:
    raw = {"prompt_tokens": 550, "completion_tokens": 15, "total_tokens": 565, "cost": 0.001875}
    model = "anthropic/claude-sonnet-4.5"
    same = await settled(bill("openrouter", model, raw=raw, dialect="openai.chat"))
    assert same.reported_pico == same.total_pico == 1_875_000_000
    assert same.exact
    other = await settled(
        bill("openrouter", model, raw={**raw, "cost": 0.0019}, dialect="openai.chat")
    )
    assert other.inexact == ("the provider reported 0.0019 USD",)
    assert other.total_pico == same.total_pico


async def test_estimated_and_senseless_usage_make_a_cost_inexact() -> None:
    one = bill("openai", "gpt-4.1", input_tokens=10)
    guess = replace(one, usage=replace(one.usage, source="estimated", error_ratio=0.12))
    assert (await settled(guess)).inexact == (
        "usage estimated from content (so far wrong by 12% on average)",
    )
    odd = replace(one, usage=replace(one.usage, problems=("output is missing",)))
    assert (await settled(odd)).inexact == ("output is missing",)
    nothing = replace(one, usage=Usage(problems=("the answer has no usage",)))
    assert (await settled(nothing)).total_pico is None


def priced(begin: str | None = None, end: str | None = None, **rates: str) -> PriceOverride:
    days = {"from": begin and date.fromisoformat(begin), "until": end and date.fromisoformat(end)}
    return PriceOverride.model_validate({**{k: Decimal(v) for k, v in rates.items()}, **days})


SETTINGS = Settings.model_validate(
    {
        "prices": {
            "openai/gpt-4.1": (
                priced("2026-01-01", "2026-11-01", input="1"),
                priced("2026-11-01", input="1.5", output="3"),
            )
        },
        "providers": {
            "local": Provider(
                base_url="http://127.0.0.1:1", dialects=("openai.chat",), price="free"
            ),
            "flat": Provider(
                base_url="http://127.0.0.1:1",
                dialects=("openai.chat",),
                price=Rates(input=Decimal("0.2"), output=Decimal("0.8")),
            ),
        },
    }
)


@pytest.mark.parametrize(
    ("when", "input_price"),
    [("2025-12-31T23:59", "2"), ("2026-01-01T00:00", "1"), ("2026-10-31T23:59", "1"),
     ("2026-11-01T00:00", "1.5")],
)  # fmt: skip
async def test_a_dated_price_of_the_configuration_holds_from_its_day_on(
    when: str, input_price: str
) -> None:
    cost = await settled(bill("openai", "gpt-4.1", when, input_tokens=10**6), settings=SETTINGS)
    assert dollars(cost) == input_price


async def test_a_price_of_one_s_own_without_a_cache_price_leaves_the_cache_unpriced() -> None:
    one = bill("openai", "gpt-4.1", input_tokens=10**6, cache_read_tokens=10**6)
    cost = await settled(one, settings=SETTINGS)
    assert dollars(cost) == "1.5"
    assert cost.inexact == ("no price for cache_read_tokens",)


async def test_the_ledger_s_override_wins_over_the_file_until_it_is_cleared() -> None:
    book = PriceBook(library=InProcess(), settings=SETTINGS)
    one = bill("openai", "gpt-4.1", input_tokens=10**6)
    book.override([override_price("openai", "gpt-4.1", priced(input="0.5"), "override")])
    assert dollars(await book.settle(one)) == "0.5"
    book.override([])
    assert dollars(await book.settle(one)) == "1.5"


async def test_an_override_for_the_name_asked_holds_whatever_snapshot_served() -> None:
    one = bill("openai", "gpt-4.1", served="gpt-4.1-2025-04-14", input_tokens=10**6)
    cost = await settled(one, settings=SETTINGS)
    assert (dollars(cost), cost.exact) == ("1.5", True)


async def test_a_provider_s_declared_price_holds_for_all_of_its_models() -> None:
    assert dollars(await settled(bill("local", "x", input_tokens=9), settings=SETTINGS)) == "0"
    flat = await settled(bill("flat", "y", input_tokens=10**6), settings=SETTINGS)
    assert dollars(flat) == "0.2"


async def test_a_reload_brings_new_prices_and_a_bad_one_is_refused() -> None:
    book = PriceBook(library=InProcess(), settings=SETTINGS)
    book.configure(Settings())
    assert dollars(await book.settle(bill("openai", "gpt-4.1", input_tokens=10**6))) == "2"
    with pytest.raises(ConfigInvalid, match="provider and a model"):
        config_prices({"gpt-4.1": priced(input="1")})


class Broken:
    """A library that never answers anything but its failure."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        self.asked += 1
        return {"error": "it is broken"}

    async def close(self) -> None:
        return None


async def test_a_library_that_fails_leaves_calls_unpriced_with_the_reason_and_is_left_alone() -> (
    None
):
    library = Broken()
    book = PriceBook(library=library)
    for _ in range(5):
        cost = await book.settle(bill("openai", "gpt-4.1", input_tokens=5))
        assert cost.total_pico is None
        assert "it is broken" in str(cost.inexact)
    assert library.asked == 1


class Slow(InProcess):
    """The library behind a gate, counting questions."""

    def __init__(self) -> None:
        self.gate, self.asked = asyncio.Event(), 0

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        self.asked += 1
        await self.gate.wait()
        return await super().ask(question)


async def test_a_hundred_calls_that_miss_the_same_price_ask_once() -> None:
    library = Slow()
    book = PriceBook(library=library)
    one = bill("openai", "gpt-4.1", input_tokens=1_000)
    book.prepare(one.provider, one.asked, one.at_ms)
    waiting = [asyncio.ensure_future(book.settle(one)) for _ in range(100)]  # noqa: TID251 - a test
    await asyncio.sleep(0)
    waiting[0].cancel()
    library.gate.set()
    costs = await asyncio.gather(*waiting[1:])
    assert {dollars(cost) for cost in costs} == {"0.002"}
    assert library.asked == 1


async def test_the_child_answers_like_the_library_in_this_process_and_leaves_nothing() -> None:
    child = Child()
    book = PriceBook(library=child)
    one = bill(
        "deepseek", "deepseek-v4-pro", "2026-11-20T02:00", input_tokens=7, cache_read_tokens=3
    )
    assert await book.settle(one) == await settled(one)
    process = child._process
    assert process is not None
    await book.close()
    assert process.returncode is not None
    await tasks.finished()


async def test_a_child_that_is_killed_is_started_again() -> None:
    child = Child()
    question = {"library": "openai", "model": "gpt-4.1", "at_ms": at(NOV)}
    assert "rows" in await child.ask(question)
    assert child._process is not None
    child._process.kill()
    await child._process.wait()
    assert "rows" in await child.ask(question)
    await child.close()


async def test_a_child_that_hangs_is_given_up_and_the_next_question_gets_its_own_answer() -> None:
    child = Child(wait_s=0.001)  # shorter than the library takes to start
    question = {"library": "openai", "model": "gpt-4.1", "at_ms": at(NOV)}
    assert "did not answer" in (await child.ask(question))["error"]
    assert child._process is None
    child._wait_s = 60.0
    assert "rows" in await child.ask(question)
    await child.close()


def test_no_key_is_in_reach_of_the_child() -> None:
    env = {"PATH": "/bin", "OPENAI_API_KEY": "sk-canary", "MODELSPEND_KEY_ACME": "canary", "X": "y"}
    assert "canary" not in str(child_env(env))
    assert set(child_env(env)) == {"PATH", "PYTHONPATH"}


async def test_an_idle_child_ends_by_itself() -> None:
    child = Child(idle_s=0.0)
    await child.ask({"library": "openai", "model": "gpt-4.1", "at_ms": at(NOV)})
    process = child._process
    if process is not None:
        await process.wait()
    await tasks.finished()
    assert child._process is None


def test_the_pinned_table_is_the_one_that_rows_are_marked_with() -> None:
    assert library_version() == "0.2.3"
    assert Found(None).notes == ()
    assert Price(provider="p", model="m", source="free").free
