"""A provider's charge in this product's words: which model, tier and bucket, how much, how fine.

Hides how consoles and APIs name the same things: `gpt-5-2025-08-07, cached input`, `priority |
gpt-5.6, output`, `input_no_cache`, `Claude Haiku 4.5`. An amount keeps the unit of its last written
digit, so that a difference below it is known to be rounding.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException

from modelspend.money import PICO_PER_USD
from modelspend.record import frozen

DAY_MS = 86_400_000


class BadFile(ValueError):
    """A file that cannot be read: where, and what is wrong there."""

    def __init__(self, what: str, *, line: int | None = None, column: str | None = None) -> None:
        place = ", ".join(
            text for text in (line and f"line {line}", column and f"column {column}") if text
        )
        super().__init__(f"{place}: {what}" if place else what)
        self.line, self.column = line, column


@frozen(kw_only=True)
class Charge:
    """One row of a file: `cost_pico` is null in a file of usage, `quantity` in one of costs.

    `start_ms` to `end_ms` is the time that it is for. `bucket` is null where a row is for all kinds
    of tokens: then `prompt`, `cached` and `output` say what is known of them. `step_pico` is how
    finely amounts are written. `list_pico` is the price before a discount.
    """

    start_ms: int
    end_ms: int
    model: str
    line: int
    bucket: str | None = None
    tier: str = ""
    cost_pico: int | None = None
    list_pico: int | None = None
    step_pico: int = 1
    quantity: int | None = None
    requests: int | None = None
    prompt: int | None = None
    cached: int | None = None
    output: int | None = None
    call_id: str | None = None


def openai_cost(
    item: str,
    amount: tuple[int, int],
    currency: str,
    line: int,
    start: int,
    end: int,
    quantity: int | None,
) -> Charge:
    if currency.lower() not in ("", "usd"):
        raise BadFile(f"an amount in {currency}; only usd can be compared", line=line)
    model, tier, bucket = _line_item(item)
    return Charge(
        start_ms=start,
        end_ms=end,
        model=model,
        line=line,
        bucket=bucket,
        tier=tier,
        cost_pico=amount[0],
        step_pico=amount[1],
        quantity=quantity if bucket else None,
    )


_ITEM = re.compile(
    r"^(?:(?P<tier>batch|flex|priority) \| )?(?P<model>[^,|]+?)(?: (?P<kind>text|audio|image))?,"
    r" (?P<piece>cached[ _]input|input[ _]cached|cache[ _]writes?|input|output)(?:_tokens)?"
    r"(?:, long context)?$",
    re.IGNORECASE,
)
_PIECES = {
    ("", "input"): "input_tokens",
    ("", "cached"): "cache_read_tokens",
    ("", "writes"): "cache_write_5m_tokens",
    ("", "output"): "output_tokens",
    ("audio", "input"): "input_audio_tokens",
    ("audio", "cached"): "cached_audio_tokens",
    ("audio", "output"): "output_audio_tokens",
    ("image", "input"): "input_image_tokens",
    ("image", "output"): "output_image_tokens",
}


def _line_item(item: str) -> tuple[str, str, str | None]:
    """(model, tier, bucket) of `priority | gpt-5-2025-08-07, cached input`; else the item alone."""
    found = _ITEM.match(item.strip())
    if found is None:
        return (
            ("", "", "web_searches") if "web search" in item.lower() else (item.strip(), "", None)
        )
    kind, piece = (found["kind"] or "").lower(), found["piece"].lower()
    name = "writes" if "write" in piece else "cached" if "cached" in piece else piece
    bucket = _PIECES.get(("" if kind == "text" else kind, name))
    return found["model"], (found["tier"] or "").lower(), bucket


def openai_counts(
    count: Callable[..., int | None], model: str, tier: str, place: tuple[int, int, int]
) -> Iterator[Charge]:
    """`input_tokens` include what was cached, written to a cache, and audio."""
    line, start, end = place
    cached = count("input_cached_tokens") or 0
    written = count("input_cache_write_tokens") or 0
    audio_in, audio_out = count("input_audio_tokens") or 0, count("output_audio_tokens") or 0
    fresh = count("input_uncached_tokens")
    if fresh is None:
        fresh = (count("input_tokens") or 0) - cached - written - audio_in
    for bucket, quantity in (
        ("input_tokens", max(fresh, 0)),
        ("cache_read_tokens", cached),
        ("cache_write_5m_tokens", written),
        ("input_audio_tokens", audio_in),
        ("output_tokens", max((count("output_tokens") or 0) - audio_out, 0)),
        ("output_audio_tokens", audio_out),
    ):
        if quantity:
            yield Charge(
                start_ms=start, end_ms=end, model=model, line=line, bucket=bucket, tier=tier,
                quantity=quantity,
            )  # fmt: skip


_ANTHROPIC_KINDS = {
    "input_no_cache": "input_tokens",
    "uncached_input_tokens": "input_tokens",
    "input_cache_read": "cache_read_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "input_cache_write": "cache_write_5m_tokens",
    "input_cache_write_5m": "cache_write_5m_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "input_cache_write_1h": "cache_write_1h_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "output": "output_tokens",
    "output_tokens": "output_tokens",
    "web_search": "web_searches",
    "code_execution": "tool_calls",
}


def anthropic_bucket(kind: str, line: int) -> str | None:
    if kind.lower() in ("token", "tokens"):
        return None
    bucket = _ANTHROPIC_KINDS.get(kind.lower())
    if bucket is None:
        known = ", ".join(_ANTHROPIC_KINDS)
        raise BadFile(f"{kind!r} is none of {known}", line=line, column="token_type")
    return bucket


def tier(*said: str) -> str:
    """The first tier that is named; what is neither standard nor known is the standard one."""
    for each in said:
        if each.lower() in ("batch", "flex", "priority", "fast", "flex_discount"):
            return each.lower()
    return ""


def count(said: str, line: int, column: str) -> int:
    try:
        exact = Decimal(said.replace(",", ""))
        if exact != int(exact) or not 0 <= exact < 10**15:
            raise ValueError
    except (DecimalException, ValueError, OverflowError):
        raise BadFile(f"{said[:40]!r} is no count of tokens", line=line, column=column) from None
    return int(exact)


def money(said: str, line: int, column: str) -> tuple[int, int]:
    """(pico-dollars, the unit of the last digit that is written); may be negative: a credit."""
    try:
        exact = Decimal(said.strip().removeprefix("$").replace(",", ""))
        if not exact.is_finite() or abs(exact) >= 10**9:
            raise ValueError
        pico = int((exact * PICO_PER_USD).to_integral_value())
        digits = exact.as_tuple().exponent
    except (DecimalException, ValueError):
        raise BadFile(f"{said[:40]!r} is no amount", line=line, column=column) from None
    assert isinstance(digits, int)
    return pico, max(10 ** (12 + min(digits, 0)) if digits > -12 else 1, 1)


def instant(said: str, line: int, column: str) -> int:
    """Milliseconds UTC of seconds, a day, or ISO 8601; without a zone it is UTC."""
    text = said.strip()
    try:
        if re.fullmatch(r"[0-9]{9,11}", text):
            return int(text) * 1000
        parsed = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        what = f"{said[:40]!r} is no day or instant; write 2026-11-01"
        raise BadFile(what, line=line, column=column) from None
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


_DATED = re.compile(r"-(?:20[0-9]{6}|20[0-9]{2}-[0-9]{2}-[0-9]{2}|latest)$")


def model_key(name: str) -> str:
    """One name for what consoles, APIs and answers call the same model: `Claude Haiku 4.5` is
    `claude-haiku-4-5-20251001`, `gpt-5` is `gpt-5-2025-08-07`."""
    said = re.sub(r"[\s._]+", "-", name.strip().lower()).split(":", 1)[0]
    owner, slash, rest = said.rpartition("/")
    return f"{owner}{slash}{_DATED.sub('', rest)}"
