"""Prices that the simulator charges by, written as `MODEL:input=3,output=15`.

Names are those of the configuration's price tables, figures are dollars per million tokens, and
the model `*` is every other one. The sidecar never sees them: they are what the invoice would say.
"""

from modelspend.money import BUCKETS, Band, Price, from_usd_per_million


def parse_price(text: str) -> tuple[str, Price]:
    """The model and its price. Raises ValueError with what is wrong."""
    model, colon, rates_text = text.rpartition(":")
    if not colon or not model:
        raise ValueError(f"{text!r} is not of the form MODEL:input=3,output=15")
    rates = dict(_rate(item) for item in rates_text.split(","))
    price = Price(provider="simulator", model=model, source="simulator", bands=(Band(0, rates),))
    return model, price


def _rate(item: str) -> tuple[str, int]:
    name, equals, amount = item.strip().partition("=")
    bucket = f"{name}_tokens"
    if not equals or bucket not in BUCKETS:
        known = ", ".join(b.removesuffix("_tokens") for b in BUCKETS if b.endswith("_tokens"))
        raise ValueError(f"{item!r} is not a rate such as input=3; rates are {known}")
    return bucket, from_usd_per_million(amount)
