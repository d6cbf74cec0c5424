"""The price library at arm's length: a process of its own that answers questions about prices.

`genai-prices` takes 0.4 s to import and tens of megabytes, so the daemon never does: it starts
`python -m modelspend.catalog.pricelib`, which reads one JSON question a line and writes one JSON
answer a line. A question has `library` (the provider's id there) or `url`, `model`, `at_ms`, and
`flat` when time-of-day prices do not hold at that instant. The answer has the price rows around
the instant, one for each service tier, in pico-dollars; each says from when until when it holds.

The interval of a row runs between the nearest instants at which any condition of the model's
prices changes, so a question about any instant inside gives the same row, and the same id.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import genai_prices.types as lib
import orjson
from genai_prices.data_snapshot import DataSnapshot, get_snapshot

from modelspend.money import from_usd_per_million, from_usd_per_thousand

_PER_MILLION = {
    "input_tokens": ("input_mtok",),
    "cache_read_tokens": ("cache_read_mtok",),
    "cache_write_5m_tokens": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h_tokens": ("cache_write_1h_mtok",),
    "output_tokens": ("output_mtok",),
    "input_audio_tokens": ("input_audio_mtok",),
    "output_audio_tokens": ("output_audio_mtok",),
    "cached_audio_tokens": ("cache_audio_read_mtok",),
    "input_image_tokens": ("input_image_mtok",),
    "output_image_tokens": ("output_image_mtok",),
}
_PER_THOUSAND = {"web_searches": ("web_searches_kcount",), "requests": ("requests_kcount",)}

_SPLIT_OUTPUT = ("output_reasoning_mtok", "output_citation_mtok")
"""Rates for parts of the output: with one of these the output has no single rate, so none."""

_STANDARD = {"default", "standard", "web"}
_CONTEXTS = ("processing", "service_tier", "speed")


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """`{"rows": […], "known_as"}`, `{"unknown": why}` or `{"error": why}`. Never raises."""
    try:
        return _answer(get_snapshot(), question)
    except LookupError as why:
        return {"unknown": str(why.args[0] if why.args else why)}
    except Exception as why:
        return {"error": f"{type(why).__name__}: {why}"}


def _answer(snapshot: DataSnapshot, question: Mapping[str, Any]) -> dict[str, Any]:
    provider, model = snapshot.find_provider_model(
        question["model"], _exactly(snapshot, question.get("library")), None, question.get("url")
    )
    at = datetime.fromtimestamp(question["at_ms"] / 1000, UTC)
    flat = bool(question.get("flat"))
    contexts: dict[str, dict[str, str]] = {"": {}}
    if any(model is own for own in provider.models):  # a fallback's tiers are not this provider's
        contexts |= _tiers(model, at)
    rows = [_row(model, tier, context, at, flat) for tier, context in contexts.items()]
    return {"rows": [row for row in rows if row["bands"]], "known_as": f"{provider.id}/{model.id}"}


def _exactly(snapshot: DataSnapshot, library: str | None) -> lib.Provider | None:
    """The provider of an id. The library itself would take any id that contains a known name."""
    if library is None:
        return None
    for provider in snapshot.providers:
        if provider.id == library:
            return provider
    raise LookupError(f"no provider {library!r}")


def _tiers(model: lib.ModelInfo, at: datetime) -> dict[str, dict[str, str]]:
    """Tier → the context that selects it, for every tier that has a price at that instant."""
    found: dict[str, dict[str, str]] = {}
    for variant in model.price_variants or ():
        key, value = next(iter(variant.when.items()))
        if len(variant.when) > 1 or key not in _CONTEXTS or value in _STANDARD:
            continue
        if variant.constraint is None or variant.constraint.active(at):
            found[value] = dict(variant.when)
    return found


def _row(
    model: lib.ModelInfo, tier: str, context: dict[str, str], at: datetime, flat: bool
) -> dict[str, Any]:
    start, end = _around(at, _constraints(model), flat)
    # off-peak is what holds when no daily window does: the price of an instant outside them all
    when = _outside_windows(model, at) if flat else at
    return {
        "tier": tier,
        "from_ms": start,
        "until_ms": end,
        "bands": _bands(model.get_prices(when, context)),
    }


def _constraints(model: lib.ModelInfo) -> list[object]:
    """The conditions of all its prices: the rows of all tiers at an instant hold equally long."""
    standard = model.prices if isinstance(model.prices, list) else []
    every = [*standard, *(model.price_variants or ())]
    return [each.constraint for each in every if each.constraint is not None]


def _around(
    at: datetime, constraints: Iterable[object], flat: bool
) -> tuple[int | None, int | None]:
    """The last and the next instant (ms) at which a condition changes; null for no such instant."""
    instants: set[datetime] = set()
    for each in constraints:
        if isinstance(each, lib.StartDateConstraint):
            instants.add(datetime.combine(each.start_date, time(), UTC))
        elif isinstance(each, lib.TimeOfDateConstraint):
            instants |= _daily((time(), time()) if flat else (each.start_time, each.end_time), at)
    before = max((each for each in instants if each <= at), default=None)
    after = min((each for each in instants if each > at), default=None)
    return _ms(before), _ms(after)


def _daily(times: Iterable[time], at: datetime) -> set[datetime]:
    days = [at.astimezone(UTC).date() + timedelta(days=n) for n in (-1, 0, 1)]
    return {
        datetime.combine(day, each.replace(tzinfo=each.tzinfo or UTC))
        for day in days
        for each in times
    }


def _outside_windows(model: lib.ModelInfo, at: datetime) -> datetime:
    windows = [each for each in _constraints(model) if isinstance(each, lib.TimeOfDateConstraint)]
    for hour in range(24):
        moment = at.replace(hour=hour, minute=0, second=0, microsecond=0)
        if not any(window.active(moment) for window in windows):
            return moment
    return at


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp() * 1000)


def _bands(prices: lib.ModelPrice) -> list[tuple[int, dict[str, int]]]:
    """The rates from each input size on; one finer than a pico-dollar is left out, not rounded."""
    starts = {0}
    for price in prices.__dict__.values():
        if isinstance(price, lib.TieredPrices):
            starts |= {tier.start for tier in price.tiers}
    bands = [(start, _rates(prices, start)) for start in sorted(starts)]
    return bands if any(rates for _, rates in bands) else []


def _rates(prices: lib.ModelPrice, above: int) -> dict[str, int]:
    rates: dict[str, int] = {}
    for units, to_pico in (
        (_PER_MILLION, from_usd_per_million),
        (_PER_THOUSAND, from_usd_per_thousand),
    ):
        for bucket, keys in units.items():
            price = next((_at(prices, key, above) for key in keys if _has(prices, key)), None)
            if price is not None:
                try:
                    rates[bucket] = to_pico(price)
                except ValueError:
                    continue
    if any(_has(prices, key) for key in _SPLIT_OUTPUT):
        rates.pop("output_tokens", None)
    return rates


def _has(prices: lib.ModelPrice, key: str) -> bool:
    return prices.__dict__.get(key) is not None


def _at(prices: lib.ModelPrice, key: str, above: int) -> Decimal:
    price = prices.__dict__[key]
    if not isinstance(price, lib.TieredPrices):
        return Decimal(price)
    passed = [tier.price for tier in price.tiers if above >= tier.start]
    return Decimal(passed[-1]) if passed else price.base


def main() -> None:
    """Answer until the questions end."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(answer(orjson.loads(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
