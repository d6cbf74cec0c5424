"""Dollars as integers: money at rest is a whole number of pico-dollars (1e-12 USD).

Every published per-token price is whole in that unit ($0.0375 per million tokens is 37,500
pico-dollars a token), so a line is a product of two integers and nothing is ever rounded. Decimals
appear only at the doors: `from_usd` on the way in, `usd` and `dumps` on the way out.
"""

from collections.abc import Mapping
from dataclasses import field
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from hashlib import sha256
from typing import Any, Literal

import orjson

from modelspend.record import frozen, record

PICO_PER_USD = 10**12
MAX_PICO = 4_000_000 * PICO_PER_USD  # caps and prices above this are refused: sums stay in 64 bits

_HIGHEST = Decimal(MAX_PICO // PICO_PER_USD)
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])  # never rounds in silence

BUCKETS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "cached_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "web_searches",
    "tool_calls",
    "requests",
)
"""The disjoint buckets that can cost money, in the order in which they are printed.

`reasoning_tokens` is not among them: it is a part of `output_tokens`, shown and never added.
"""

INPUT_BUCKETS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "input_image_tokens",
)
"""What a long-context threshold counts: all input, cached or not."""


def from_usd(amount: Decimal | str | int) -> int:
    """Pico-dollars of an exact dollar amount.

    Raises ValueError when it is not a number, is negative, above 4 million dollars, or finer than
    a pico-dollar. Floats are not taken: they have been rounded already.
    """
    return _pico(amount, 12)


def from_usd_per_million(price: Decimal | str | int) -> int:
    """Pico-dollars per token of a price published in dollars per million tokens."""
    return _pico(price, 6)


def from_usd_per_thousand(price: Decimal | str | int) -> int:
    """Pico-dollars apiece of a price published in dollars per thousand (searches, requests)."""
    return _pico(price, 9)


def _pico(amount: Decimal | str | int, places: int) -> int:
    """`amount` with its point moved `places` to the right, whole and within bounds."""
    try:
        said = Decimal(amount)
        if not said.is_finite() or said < 0 or said > _HIGHEST:
            raise ValueError(f"an amount must be between 0 and 4,000,000 USD, not {amount}")
        exact = _EXACT.scaleb(said, places)
        whole = _EXACT.to_integral_value(exact)
    except DecimalException:
        raise ValueError(f"not an amount of money: {str(amount)[:40]!r}") from None
    if exact != whole:
        raise ValueError(f"{str(amount)[:40]} USD is finer than a pico-dollar (1e-12 USD)")
    return int(whole)


def usd(pico: int) -> Decimal:
    """The same amount in dollars, exact, without trailing zeros or an exponent."""
    return Decimal(usd_text(pico))


def usd_text(pico: int) -> str:
    """Exact decimal dollars: `12096000000` is `0.012096`."""
    sign = "-" if pico < 0 else ""
    whole, part = divmod(abs(pico), PICO_PER_USD)
    if not part:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{part:012d}".rstrip("0")


def dumps(value: Any, *, indent: bool = False, sort: bool = False) -> bytes:
    """JSON in which a `Decimal` is written digit by digit, never through a float."""
    options = (orjson.OPT_INDENT_2 if indent else 0) | (orjson.OPT_SORT_KEYS if sort else 0)
    return orjson.dumps(value, default=_decimal, option=options)


def _decimal(value: object) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


@frozen
class Band:
    """The rates of a price from an input size on: bucket → pico-dollars per unit.

    `above_input` is a number of tokens. The band applies to the whole request when its input,
    cached or not, is greater: long-context prices are cliffs, not margins.
    """

    above_input: int
    rates: Mapping[str, int]


@frozen(kw_only=True)
class Price:
    """One frozen price row: what a provider took for a model, from an instant on.

    `tier` is the service tier it holds for ("" is the standard one; "batch", "flex", "priority").
    `source` says where it came from ("genai-prices 0.2.3", "config", "override", "free").
    """

    provider: str
    model: str
    source: str
    tier: str = ""
    valid_from_ms: int | None = None
    valid_until_ms: int | None = None
    bands: tuple[Band, ...] = ()
    price_id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.price_id:
            object.__setattr__(self, "price_id", content_id(self))

    @property
    def free(self) -> bool:
        """Declared free: every bucket costs 0. Free is declared, never assumed."""
        return self.source == "free"

    def rates_at(self, input_total: int) -> Mapping[str, int]:
        """The rates for a request of that many input tokens, cached ones included."""
        chosen: Mapping[str, int] = {}
        for band in self.bands:
            if not band.above_input or input_total > band.above_input:
                chosen = band.rates
        return chosen


def content_id(price: Price) -> str:
    """The id of a price row: a hash of all that it says, so equal rows are one row."""
    said = {
        "provider": price.provider,
        "model": price.model,
        "source": price.source,
        "tier": price.tier,
        "from": price.valid_from_ms,
        "until": price.valid_until_ms,
        "bands": [[band.above_input, dict(band.rates)] for band in price.bands],
    }
    return "price_" + sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@frozen
class CostLine:
    """bucket × unit price = cost; both are null when the bucket has no price."""

    bucket: str
    quantity: int
    unit_pico: int | None
    cost_pico: int | None
    price_id: str | None


CostSource = Literal["calculated", "free", "unpriced", "none"]


@record
class Cost:
    """The lines of one attempt and what they add up to.

    `total_pico` is null when nothing about it is known (no price, or no usage). `inexact` lists,
    in words, why a known total may differ from the invoice; empty means exact.
    """

    lines: tuple[CostLine, ...] = ()
    total_pico: int | None = None
    source: CostSource = "none"
    price_id: str | None = None
    inexact: tuple[str, ...] = ()
    reported_pico: int | None = None

    @property
    def exact(self) -> bool:
        return self.total_pico is not None and not self.inexact


NO_COST = Cost()


def price_usage(quantities: Mapping[str, int], price: Price | None) -> Cost:
    """What a usage costs at a price; `quantities` maps buckets to whole, non-negative counts.

    A non-zero bucket without a price of its own gives a line without a cost and an inexact total:
    it is never billed as another bucket, and never as nothing. Where no bucket has a price, the
    total is null.
    """
    used = [(bucket, quantities[bucket]) for bucket in BUCKETS if quantities.get(bucket)]
    if price is None:
        lines = tuple(CostLine(bucket, n, None, None, None) for bucket, n in used)
        return Cost(lines=lines, source="unpriced", inexact=("no price for this model",))
    rates = price.rates_at(sum(quantities.get(bucket, 0) for bucket in INPUT_BUCKETS))
    lines = tuple(
        _line(bucket, n, 0 if price.free else rates.get(bucket), price.price_id)
        for bucket, n in used
        if price.free or bucket in rates or bucket not in _UNBILLED_UNLESS_PRICED
    )
    return _total(lines, price)


def _line(bucket: str, n: int, unit: int | None, price_id: str) -> CostLine:
    return CostLine(bucket, n, unit, None if unit is None else n * unit, price_id)


def _total(lines: tuple[CostLine, ...], price: Price) -> Cost:
    known = [line.cost_pico for line in lines if line.cost_pico is not None]
    total = sum(known) if known or not lines else None
    inexact = [f"no price for {line.bucket}" for line in lines if line.cost_pico is None]
    if total is not None and total > MAX_PICO:
        total = None
        inexact.append("more than 4 million dollars for one call: not believed")
    return Cost(
        lines=lines,
        total_pico=total,
        source="unpriced" if total is None else "free" if price.free else "calculated",
        price_id=price.price_id,
        inexact=tuple(inexact),
    )


_UNBILLED_UNLESS_PRICED = frozenset({"requests"})
"""What most providers do not bill: without a price it is no line."""
