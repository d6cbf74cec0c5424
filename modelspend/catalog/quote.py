"""What a usage that somebody else recorded would cost: one row in, one row out.

The row goes the way of a live call (the same rules, the same book, the same `settle_cost`), so a
quote and a receipt cannot disagree. A row may call a provider by a name of others, name a provider
that has no file here but that the price library knows, and leave out the dialect, which the shape
of the usage then tells.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from modelspend.catalog import Catalog, Provider, stranger
from modelspend.catalog.cost import Bill
from modelspend.catalog.prices import PriceBook
from modelspend.catalog.usage import read
from modelspend.money import BUCKETS, Cost, Price, usd
from modelspend.receipt import Usage
from modelspend.receipt_json import cost_json, iso

_DIALECTS = {
    "chat": "openai.chat",
    "completions": "openai.chat",
    "responses": "openai.responses",
    "embeddings": "openai.embeddings",
    "messages": "anthropic.messages",
    "anthropic": "anthropic.messages",
    "generate": "gemini.generate",
    "gemini": "gemini.generate",
    "converse": "bedrock.converse",
    "bedrock": "bedrock.converse",
    "cohere": "cohere.chat",
}
_SHAPES = (
    ("promptTokenCount", "gemini.generate"),
    ("candidatesTokenCount", "gemini.generate"),
    ("totalTokenCount", "gemini.generate"),
    ("inputTokens", "bedrock.converse"),
    ("billed_units", "cohere.chat"),
    ("cache_read_input_tokens", "anthropic.messages"),
    ("cache_creation_input_tokens", "anthropic.messages"),
    ("completion_tokens", "openai.chat"),
    ("prompt_tokens", "openai.embeddings"),
)
_ALWAYS_SHOWN = BUCKETS[:5]


async def quote(
    row: Mapping[str, Any], catalog: Catalog, book: PriceBook, now_ms: int
) -> dict[str, Any]:
    """`{"id", "provider", "model", "dialect", "buckets", "lines", "cost_usd", "exact", "price_id",
    …}` for `{"id", "provider", "model", "dialect", "usage", "at"?}`.

    Raises ValueError, with what is wrong with the row in words.
    """
    provider, model = _who(row, catalog)
    raw = _raw(row)
    dialect = _dialect(row.get("dialect"), raw, provider)
    usage = read(provider.usage[dialect], raw, _counts(row))
    bill = Bill(
        provider=provider,
        dialect=dialect,
        usage=usage,
        asked=model,
        told=_text(row, "service_tier") or "",
        at_ms=instant_ms(row.get("at"), now_ms),
    )
    return {"id": row.get("id"), **quoted(bill, await book.settle(bill))}


def quoted(bill: Bill, cost: Cost) -> dict[str, Any]:
    """A priced bill as JSON."""
    said = cost_json(cost)
    return {
        "provider": bill.provider.name,
        "model": bill.asked,
        "dialect": bill.dialect,
        "tier": bill.tier,
        "buckets": _buckets(bill.usage),
        "reasoning_tokens": bill.usage.reasoning_tokens,
        "lines": said["lines"],
        "cost_usd": None if cost.total_pico is None else usd(cost.total_pico),
        "exact": said["exact"],
        "inexact": said["inexact"],
        "price_id": said["price_id"],
        "price_source": said["source"],
        "reported_usd": said["reported_usd"],
    }


def price_json(price: Price) -> dict[str, Any]:
    """A price row as JSON: dollars for one token, search or request."""
    return {
        "price_id": price.price_id,
        "provider": price.provider,
        "model": price.model,
        "tier": price.tier,
        "source": price.source,
        "free": price.free,
        "from": None if price.valid_from_ms is None else iso(price.valid_from_ms),
        "until": None if price.valid_until_ms is None else iso(price.valid_until_ms),
        "bands": [
            {
                "above_input": band.above_input,
                "unit_prices_usd": {
                    bucket: usd(band.rates[bucket]) for bucket in BUCKETS if bucket in band.rates
                },
            }
            for band in price.bands
        ],
    }


def instant_ms(said: object, now_ms: int) -> int:
    """Milliseconds UTC of a date, an instant, or a number of seconds or milliseconds.

    Raises ValueError. Null is now; what has no zone is UTC.
    """
    if said is None or said == "":
        return now_ms
    try:
        if isinstance(said, int | float) and not isinstance(said, bool):
            ms = int(said if abs(said) >= 1e11 else said * 1000)
            datetime.fromtimestamp(ms / 1000, UTC)
            return ms
        moment = datetime.fromisoformat(str(said))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"`at` is no date or instant: {str(said)[:40]}") from None


def provider_named(name: str, catalog: Catalog) -> Provider:
    """A provider by any name; a strange one is priced by the library if that knows the name."""
    return catalog.find(name) or stranger(name, library=name)


def named_model(name: str, catalog: Catalog) -> tuple[Provider, str]:
    """The provider and model of `provider/model`, or of a name that has a native owner.

    Raises ValueError.
    """
    first, slash, rest = name.partition("/")
    if slash and rest:
        return provider_named(first, catalog), rest
    owner = catalog.owner(name)
    if owner is None:
        raise ValueError(f"{name} names no provider: write it as provider/model")
    return owner, name


def _who(row: Mapping[str, Any], catalog: Catalog) -> tuple[Provider, str]:
    model, provider = _text(row, "model"), _text(row, "provider")
    if not model:
        raise ValueError("`model` is missing")
    if not provider:
        return named_model(model, catalog)
    return provider_named(provider, catalog), model


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{key}` is {type(value).__name__}, not text")
    return value.strip() if value else None


def _raw(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The raw usage object, also out of a whole answer's body."""
    if "usage" not in row:
        raise ValueError("`usage` is missing: the provider's raw usage object")
    raw = row["usage"]
    if isinstance(raw, Mapping):
        for key in ("usage", "usageMetadata"):
            if isinstance(raw.get(key), Mapping):
                inner: Mapping[str, Any] = raw[key]
                return inner
    return raw  # type: ignore[no-any-return]  # `read` takes anything, and says what is wrong with it


def _counts(row: Mapping[str, Any]) -> Mapping[str, int]:
    counts = row.get("counts")
    return counts if isinstance(counts, Mapping) else {}


def _dialect(said: object, raw: Mapping[str, Any] | None, provider: Provider) -> str:
    if said in (None, "", "default"):
        return _shape(raw, provider)
    name = _DIALECTS.get(str(said), str(said)).replace("count_tokens", "messages")
    if name not in provider.usage:
        choices = ", ".join(provider.usage)
        raise ValueError(f"`dialect` {str(said)[:40]} is none of: {choices}")
    return name


def _shape(raw: Mapping[str, Any] | None, provider: Provider) -> str:
    if isinstance(raw, Mapping):
        for key, dialect in _SHAPES:
            if key in raw:
                return dialect
    if provider.library in ("anthropic", "aws"):
        return "anthropic.messages"
    return (
        "openai.responses" if isinstance(raw, Mapping) and "input_tokens" in raw else "openai.chat"
    )


def _buckets(usage: Usage) -> dict[str, int]:
    counts = usage.quantities
    return {b: counts.get(b, 0) for b in BUCKETS if b in _ALWAYS_SHOWN or counts.get(b)}
