"""Calls as a provider bills them: our attempts and its files, both made from the same calls.

A call is changed on one side alone, and what that costs is what `reconcile` must find.
"""

import csv
import io
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal

from modelspend.charges import DAY_MS
from modelspend.money import usd_text
from modelspend.receipt_json import from_iso, iso
from modelspend.reconcile import Tried

START_MS = from_iso("2026-11-02T00:00:00Z")
DAYS = 6

PRICES: Mapping[str, Mapping[str, int]] = {
    "gpt-5-2025-08-07": {
        "input_tokens": 1_250_000,
        "cache_read_tokens": 125_000,
        "cache_write_5m_tokens": 1_250_000,
        "output_tokens": 10_000_000,
    },
    "gpt-5-nano-2025-08-07": {
        "input_tokens": 50_000,
        "cache_read_tokens": 5_000,
        "cache_write_5m_tokens": 50_000,
        "output_tokens": 400_000,
    },
}
CLAUDE: Mapping[str, Mapping[str, int]] = {
    "claude-haiku-4-5-20251001": {
        "input_tokens": 1_000_000,
        "cache_read_tokens": 100_000,
        "cache_write_5m_tokens": 1_250_000,
        "cache_write_1h_tokens": 2_000_000,
        "output_tokens": 5_000_000,
    },
    "claude-sonnet-4-5-20250929": {
        "input_tokens": 3_000_000,
        "cache_read_tokens": 300_000,
        "cache_write_5m_tokens": 3_750_000,
        "cache_write_1h_tokens": 6_000_000,
        "output_tokens": 15_000_000,
    },
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call; `lines` are (bucket → (tokens, pico-dollars apiece))."""

    at_ms: int
    model: str
    lines: Mapping[str, tuple[int, int]]
    tier: str = ""
    call_id: str = ""
    priced: bool = True
    extra: Mapping[str, int] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        return sum(n * unit for n, unit in self.lines.values()) + sum(self.extra.values())

    @property
    def day(self) -> int:
        return self.at_ms - self.at_ms % DAY_MS


def calls(
    seed: int, prices: Mapping[str, Mapping[str, int]] = PRICES, *, each_day: int = 8
) -> list[Call]:
    """Some days of traffic, every model on every day, none of it near midnight."""
    rng = random.Random(seed)
    made = []
    for n in range(DAYS):
        for model, rates in prices.items():
            for k in range(each_day):
                at = START_MS + n * DAY_MS + rng.randint(2, 21) * 3_600_000 + k * 1_000
                tokens = {
                    "input_tokens": rng.randint(2_000, 90_000),
                    "cache_read_tokens": rng.randint(1_000, 40_000),
                    "output_tokens": rng.randint(500, 9_000),
                }
                lines = {bucket: (count, rates[bucket]) for bucket, count in tokens.items()}
                made.append(
                    Call(at_ms=at, model=model, lines=lines, call_id=f"gen-{n}-{k}-{model}")
                )
    return made


def tries(made: Iterable[Call]) -> list[Tried]:
    """Our attempts of some calls."""
    return [
        Tried(
            at_ms=call.at_ms,
            model=call.model,
            tier=call.tier,
            receipt_id=f"rcpt_{n}",
            cost_pico=call.cost if call.priced else None,
            lines=tuple(
                (bucket, count, unit if call.priced else None)
                for bucket, (count, unit) in call.lines.items()
            ),
            call_id=call.call_id,
        )
        for n, call in enumerate(made)
    ]


Sums = dict[tuple[int, str, str, str], list[int]]


def sums(made: Iterable[Call], zone_ms: int = 0) -> Sums:
    """(day, model, tier, bucket) → [tokens, pico-dollars]."""
    found: Sums = defaultdict(lambda: [0, 0])
    for call in made:
        shifted = call.at_ms - zone_ms
        for bucket, (count, unit) in call.lines.items():
            cell = found[shifted - shifted % DAY_MS, call.model, call.tier, bucket]
            cell[0] += count
            cell[1] += count * unit + call.extra.get(bucket, 0)
    return dict(sorted(found.items()))


def _csv(header: str, rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


_OPENAI = {
    "input_tokens": "input",
    "cache_read_tokens": "cached input",
    "cache_write_5m_tokens": "cache writes",
    "output_tokens": "output",
}


def openai_costs(made: Iterable[Call], zone_ms: int = 0, *, counted: bool = True) -> str:
    """The dashboard's export of costs."""
    header = (
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,"
        "quantity_unit,line_item,user_id,api_key_id,project_id,organization_id"
    )
    rows: list[list[object]] = [
        [day // 1000, (day + DAY_MS) // 1000, iso(day), iso(day + DAY_MS), usd_text(pico), "usd",
         count if counted else "", "tokens" if counted else "",
         f"{tier + ' | ' if tier else ''}{model}, {_OPENAI[bucket]}", "", "key_1", "proj_1", "org"]
        for (day, model, tier, bucket), (count, pico) in sums(made, zone_ms).items()
    ]  # fmt: skip
    rows.insert(0, [START_MS // 1000, (START_MS + DAY_MS) // 1000, *[""] * 11])
    return _csv(header, rows)


def openai_costs_json(made: Iterable[Call]) -> str:
    """Pages of /v1/organization/costs, grouped by line item."""
    by_day: dict[int, list[object]] = defaultdict(list)
    for (day, model, tier, bucket), (_, pico) in sums(made).items():
        item = f"{tier + ' | ' if tier else ''}{model}, {_OPENAI[bucket]}"
        amount = {"value": float(usd_text(pico)), "currency": "usd"}
        by_day[day].append({"object": "organization.costs.result", "amount": amount,
                            "line_item": item, "project_id": None})  # fmt: skip
    buckets = [
        {"object": "bucket", "start_time": day // 1000, "end_time": (day + DAY_MS) // 1000,
         "results": results}
        for day, results in by_day.items()
    ]  # fmt: skip
    return json.dumps({"object": "page", "data": buckets, "has_more": False, "next_page": None})


def openai_usage_json(made: Iterable[Call]) -> str:
    """A page of /v1/organization/usage/completions, grouped by model and tier."""
    by_cell: dict[tuple[int, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (day, model, tier, bucket), (count, _) in sums(made).items():
        by_cell[day, model, tier][bucket] += count
    buckets = []
    for (day, model, tier), counts in by_cell.items():
        prompt = sum(counts[b] for b in counts if b != "output_tokens")
        result = {
            "object": "organization.usage.completions.result", "model": model,
            "input_tokens": prompt, "output_tokens": counts["output_tokens"],
            "input_cached_tokens": counts.get("cache_read_tokens", 0),
            "input_cache_write_tokens": counts.get("cache_write_5m_tokens", 0),
            "num_model_requests": 1, "batch": tier == "batch",
            "service_tier": "default" if tier in ("", "batch") else tier,
        }  # fmt: skip
        buckets.append({"object": "bucket", "start_time": day // 1000,
                        "end_time": (day + DAY_MS) // 1000, "results": [result]})  # fmt: skip
    return json.dumps({"object": "page", "data": buckets, "has_more": False, "next_page": None})


def openai_usage_csv(made: Iterable[Call]) -> str:
    """The dashboard's export of usage."""
    said = json.loads(openai_usage_json(made))
    names = ("model", "batch", "service_tier", "input_tokens", "output_tokens",
             "input_cached_tokens", "input_cache_write_tokens", "num_model_requests")  # fmt: skip
    rows = [
        [bucket["start_time"], bucket["end_time"], *(result[name] for name in names)]
        for bucket in said["data"]
        for result in bucket["results"]
    ]
    return _csv(f"start_time,end_time,{','.join(names)}", rows)


_TITLES = {
    "claude-haiku-4-5-20251001": "Claude Haiku 4.5",
    "claude-sonnet-4-5-20250929": "Claude Sonnet 4.5",
}
_KINDS = {
    "input_tokens": "input_no_cache",
    "cache_read_tokens": "input_cache_read",
    "cache_write_5m_tokens": "input_cache_write_5m",
    "cache_write_1h_tokens": "input_cache_write_1h",
    "output_tokens": "output",
}


def anthropic_costs(
    made: Iterable[Call], zone_ms: int = 0, *, digits: int = 2, discount: Decimal = Decimal(0)
) -> str:
    """The console's export of costs; it rounds to cents."""
    header = (
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,"
        "list_price_usd,cost_type,inference_geo,speed"
    )
    rows = []
    for (day, model, tier, bucket), (_, pico) in sums(made, zone_ms).items():
        listed = rounded(pico, digits)
        cost = rounded(int(pico * (1 - discount)), digits)
        rows.append(
            [iso(day)[:10], _TITLES[model], "Default", "a key", tier or "message", "≤ 200k",
             _KINDS[bucket], cost, listed, "token", "not_available", ""]
        )  # fmt: skip
    return _csv(header, rows)


def rounded(pico: int, digits: int) -> Decimal:
    """Dollars with so many digits."""
    return Decimal(usd_text(pico)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def anthropic_usage(made: Iterable[Call]) -> str:
    """The console's export of usage."""
    header = (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
        "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,"
        "web_search_count,inference_geo,speed"
    )
    by_cell: dict[tuple[int, str, str], dict[str, int]] = defaultdict(dict)
    for (day, model, tier, bucket), (count, _) in sums(made).items():
        by_cell[day, model, tier][bucket] = count
    order = ("input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
             "cache_read_tokens", "output_tokens")  # fmt: skip
    rows = [
        [iso(day)[:10], model, "a key", "Default", tier or "standard", "≤ 200k",
         *(counts.get(bucket, 0) for bucket in order), 0, "not_available", ""]
        for (day, model, tier), counts in by_cell.items()
    ]  # fmt: skip
    return _csv(header, rows)


def openrouter_calls(made: Iterable[Call]) -> str:
    """The activity page's export, a row for each generation."""
    header = (
        "generation_id,created_at,cost_total,cost_web_search,cost_cache,cost_file_processing,"
        "byok_usage_inference,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,"
        "model_permaslug,provider_name,variant,cancelled"
    )
    rows = []
    for call in made:
        count = {bucket: n for bucket, (n, _) in call.lines.items()}
        prompt = sum(n for bucket, n in count.items() if bucket != "output_tokens")
        rows.append(
            [call.call_id, iso(call.at_ms).replace("T", " ").removesuffix("Z"),
             usd_text(call.cost), "0", "0", "0", "0", prompt, count.get("output_tokens", 0), 0,
             count.get("cache_read_tokens", 0), call.model, "OpenAI", "standard", "false"]
        )  # fmt: skip
    return _csv(header, rows)


def changed(made: list[Call], at: int, **fields: object) -> list[Call]:
    """The same calls, one of them another."""
    return [replace(call, **fields) if n == at else call for n, call in enumerate(made)]  # type: ignore[arg-type]
