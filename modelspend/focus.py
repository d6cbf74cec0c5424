"""The ledger as FOCUS 1.2 rows, the FinOps Foundation's format for bills of any provider.

One row is what one tenant and workflow used of one meter (input, cached input, output, …) of one
model on one day (UTC) at one price. The columns and their rules are those of the specification
(focus.finops.org, version 1.2 of 2025-05-29); what a rule leaves open is said beside the column.
A reader would not guess that what has no known price has no row: a cost may not be empty there,
and an unknown one is not 0. `InvoiceId` is empty, for nobody has sent an invoice yet.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from modelspend.money import usd_text

_DAY_MS = 86_400_000

COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
)

_METERS = {
    "input_tokens": "Input Tokens",
    "cache_read_tokens": "Cached Input Tokens",
    "cache_write_5m_tokens": "Cache Write Tokens (5 minutes)",
    "cache_write_1h_tokens": "Cache Write Tokens (1 hour)",
    "output_tokens": "Output Tokens",
    "input_audio_tokens": "Audio Input Tokens",
    "output_audio_tokens": "Audio Output Tokens",
    "cached_audio_tokens": "Cached Audio Input Tokens",
    "input_image_tokens": "Image Input Tokens",
    "output_image_tokens": "Image Output Tokens",
    "web_searches": "Web Searches",
    "tool_calls": "Tool Calls",
    "requests": "Requests",
}
_UNITS = {"web_searches": "Searches", "tool_calls": "Calls", "requests": "Requests"}


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """What makes one row. Names that are not known are empty; `day` counts from 1970."""

    day: int
    tenant: str
    workflow: str
    provider: str
    region: str
    model: str
    bucket: str
    price_id: str
    unit_pico: int


class Uses:
    """Quantities by what makes a row, added up one cost line at a time."""

    def __init__(self) -> None:
        self._quantities: dict[Use, int] = {}

    def add(self, use: Use, quantity: int) -> None:
        self._quantities[use] = self._quantities.get(use, 0) + quantity

    def __iter__(self) -> Iterator[tuple[Use, int]]:
        """In one fixed order: a second export of the same receipts is the same bytes."""
        return iter(sorted(self._quantities.items()))

    @property
    def cost_pico(self) -> int:
        return sum(use.unit_pico * quantity for use, quantity in self._quantities.items())


def rows(uses: Iterable[tuple[Use, int]], titles: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The rows, in the order of `COLUMNS`; null is empty. `titles` are providers' full names."""
    for use, quantity in uses:
        yield tuple(_row(use, quantity, titles.get(use.provider, use.provider)).values())


def _row(use: Use, quantity: int, provider: str) -> dict[str, str]:
    start = datetime.fromtimestamp(use.day * _DAY_MS / 1000, UTC)
    month = start.replace(day=1)
    cost, unit = _decimal(use.unit_pico * quantity), _decimal(use.unit_pico)
    amount, counted = f"{quantity}.0", _UNITS.get(use.bucket, "Tokens")
    meter = _METERS.get(use.bucket, use.bucket)
    tags = {"workflow": use.workflow} if use.workflow else {}
    said = {
        "BilledCost": cost,
        "BillingAccountId": use.provider,
        "BillingAccountName": provider,
        "BillingAccountType": "Provider account",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _time((month + timedelta(days=31)).replace(day=1)),
        "BillingPeriodStart": _time(month),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{use.model}: {meter.lower()}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _time(start + timedelta(days=1)),
        "ChargePeriodStart": _time(start),
        "ConsumedQuantity": amount,
        "ConsumedUnit": counted,
        "ContractedCost": cost,
        "ContractedUnitPrice": unit,
        "EffectiveCost": cost,
        "InvoiceIssuerName": provider,
        "ListCost": cost,
        "ListUnitPrice": unit,
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "PricingQuantity": amount,
        "PricingUnit": counted,
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": use.region,
        "RegionName": use.region,
        "ResourceId": f"{use.provider}/{use.model}",
        "ResourceName": use.model,
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{provider} API",
        "ServiceSubcategory": "Generative AI",
        "SkuId": f"{use.provider}/{use.model}/{use.bucket}",
        "SkuMeter": meter,
        "SkuPriceId": use.price_id,
        "SubAccountId": use.tenant,
        "SubAccountName": use.tenant,
        "SubAccountType": "Tenant",
        "Tags": orjson.dumps(tags).decode(),
    }
    return {column: said.get(column, "") for column in COLUMNS}


def _decimal(pico: int) -> str:
    """Exact, and with a point: readers take a column's type from its first values."""
    text = usd_text(pico)
    return text if "." in text else f"{text}.0"


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
