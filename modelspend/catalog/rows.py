"""Price rows: made from the library's answers, from the configuration, and for the ledger.

A row from the library carries what made it, the table's version and a digest of our corrections:
after an upgrade of either, old rows are asked for anew, while old receipts keep theirs.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from modelspend.catalog.provider import Provider
from modelspend.errors import ConfigInvalid
from modelspend.money import Band, Price, from_usd_per_million, from_usd_per_thousand

if TYPE_CHECKING:
    from modelspend.settings import PriceOverride, Rates
    from modelspend.settings import Provider as Section


def may_ask(provider: Provider) -> bool:
    """Whether the library can know it: by its id there, or by the address of a public host."""
    return provider.library is not None or (provider.base_url or "").startswith("https://")


def question(provider: Provider, model: str, at_ms: int) -> dict[str, Any]:
    """What `pricelib` is asked about a model at an instant."""
    known = {"library": provider.library} if provider.library else {"url": provider.base_url}
    return {**known, "model": model, "at_ms": at_ms, "flat": _flat(provider, model, at_ms)}


def _flat(provider: Provider, model: str, at_ms: int) -> bool:
    """Whether the day has no peak hours, which the library cannot say."""
    day = datetime.fromtimestamp(at_ms / 1000, UTC).date()
    for each in provider.corrections:
        if model in each.models:
            if each.peak_from and day < each.peak_from:
                return True
            weekends = each.weekends_off_peak_from
            if weekends and day >= weekends and day.weekday() >= 5:
                return True
    return False


def library_price(provider: Provider, model: str, row: Mapping[str, Any]) -> Price:
    bands = tuple(Band(above, _completed(provider, model, rates)) for above, rates in row["bands"])
    return Price(
        provider=provider.name,
        model=model,
        tier=row["tier"],
        source=source_of(provider, model),
        valid_from_ms=row["from_ms"],
        valid_until_ms=row["until_ms"],
        bands=bands,
    )


def _completed(provider: Provider, model: str, rates: Mapping[str, int]) -> dict[str, int]:
    full = dict(rates)
    for each in provider.corrections:
        if each.same and model in each.models:
            for bucket, like in each.same.items():
                if like in rates:
                    full.setdefault(bucket, rates[like])
    return full


_LIBRARY = "genai-prices"


def source_of(provider: Provider | None, model: str) -> str:
    """Where a row of the library comes from: its version, and a digest of what we corrected."""
    corrected = [
        f"{each.models.patterns}{sorted(each.same.items())}{each.peak_from}"
        f"{each.weekends_off_peak_from}"
        for each in (provider.corrections if provider else ())
        if model in each.models and not each.at_most and not each.free
    ]
    base = f"{_LIBRARY} {library_version()}"
    if not corrected:
        return base
    return f"{base}, corrected {sha256(''.join(corrected).encode()).hexdigest()[:6]}"


@cache
def library_version() -> str:
    """The version of the price table, without importing it."""
    return version(_LIBRARY)


_PER_MILLION = {
    "input_tokens": "input",
    "cache_read_tokens": "cache_read",
    "cache_write_5m_tokens": "cache_write_5m",
    "cache_write_1h_tokens": "cache_write_1h",
    "output_tokens": "output",
    "input_audio_tokens": "input_audio",
    "output_audio_tokens": "output_audio",
    "cached_audio_tokens": "cached_audio",
    "input_image_tokens": "input_image",
    "output_image_tokens": "output_image",
}
_PER_THOUSAND = {
    "web_searches": "web_search_per_1k",
    "tool_calls": "tool_call_per_1k",
    "requests": "request_per_1k",
}


def rates_in_pico(rates: "Rates") -> dict[str, int]:
    """A table of dollars per million (or thousand) as pico-dollars apiece.

    A field that is absent is no price, not a price of 0. Raises ValueError.
    """
    found: dict[str, int] = {}
    for fields, exact in (
        (_PER_MILLION, from_usd_per_million),
        (_PER_THOUSAND, from_usd_per_thousand),
    ):
        for bucket, field in fields.items():
            amount = getattr(rates, field)
            if amount is not None:
                try:
                    found[bucket] = exact(amount)
                except ValueError as why:
                    raise ValueError(f"{field}: {why}") from None
    return found


def override_price(provider: str, model: str, rates: "PriceOverride", source: str) -> Price:
    """A dated price of one's own as a row. Raises ValueError."""
    return Price(
        provider=provider,
        model=model,
        source=source,
        valid_from_ms=_day_ms(rates.from_),
        valid_until_ms=_day_ms(rates.until),
        bands=(Band(0, rates_in_pico(rates)),),
    )


def config_prices(
    prices: "Mapping[str, PriceOverride | tuple[PriceOverride, ...]]",
) -> list[Price]:
    """The rows of `[prices."provider/model"]`. Raises ConfigInvalid."""
    rows: list[Price] = []
    for name, said in prices.items():
        provider, slash, model = name.partition("/")
        if not (slash and provider and model):
            raise ConfigInvalid(
                f'[prices."{name}"] does not name a provider and a model.',
                f'Write [prices."openai/{name}"], with the provider before the slash.',
            )
        for each in said if isinstance(said, tuple) else (said,):
            try:
                rows.append(override_price(provider, model, each, "config"))
            except ValueError as why:
                raise ConfigInvalid(f'[prices."{name}"] {why}.', "Write fewer decimals.") from None
    return rows


def declared_prices(sections: "Mapping[str, Section]") -> dict[str, Price]:
    """The price that each `[providers.X]` declares for all of its models. Raises ConfigInvalid."""
    found: dict[str, Price] = {}
    for name, section in sections.items():
        if section.price == "free":
            found[name] = Price(provider=name, model="*", source="free")
        elif section.price is not None:
            where = f"[providers.{name}] price"
            try:
                bands = (Band(0, rates_in_pico(section.price)),)
            except ValueError as why:
                raise ConfigInvalid(f"{where}: {why}.", "Write fewer decimals.") from None
            found[name] = Price(provider=name, model="*", source="config", bands=bands)
    return found


def _day_ms(day: date | None) -> int | None:
    if day is None:
        return None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
