"""What a provider says it was used for and what it charged: the files that their consoles export.

Hides ten shapes and their traps: Anthropic writes cents in its API and rounds to cents in its CSV,
OpenAI's input includes what was cached, a file of usage holds no money and one of costs often no
tokens.

Shapes read on 2026-11-25 from the providers' references (platform.openai.com/docs/api-reference/
usage, docs.claude.com/en/api/admin-api/usage-cost, openrouter.ai/docs) and from exported files.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from modelspend.charges import (
    DAY_MS,
    BadFile,
    Charge,
    anthropic_bucket,
    count,
    instant,
    money,
    openai_cost,
    openai_counts,
    tier,
)
from modelspend.record import frozen

ProviderName = Literal["openai", "anthropic", "openrouter"]


def read(text: str, provider: ProviderName) -> list[Charge]:
    """Every row that charges or counts something. Raises BadFile."""
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        rows = list(_READ_JSON[provider](_pages(text)))
    else:
        rows = list(_table(text, provider))
    finest = min((row.step_pico for row in rows if row.cost_pico is not None), default=1)
    return [row if row.cost_pico is None else replace(row, step_pico=finest) for row in rows]


# CSV.


@frozen
class _Row:
    """A line by its columns; what is asked for and cannot be read is told with its place."""

    line: int
    cells: Mapping[str, str]

    def text(self, *names: str) -> str:
        """The first of the columns that is there and says something; `--` says nothing."""
        for name in names:
            said = self.cells.get(name, "").strip()
            if said not in ("", "--", "null", "None"):
                return said
        return ""

    def count(self, *names: str) -> int | None:
        said, name = self.text(*names), self._named(names)
        if not said:
            return None
        return count(said, self.line, name)

    def money(self, *names: str) -> tuple[int, int] | None:
        """(pico-dollars, how finely they are written)."""
        said, name = self.text(*names), self._named(names)
        return money(said, self.line, name) if said else None

    def day(self, *names: str) -> tuple[int, int]:
        said, name = self.text(*names), self._named(names)
        start = instant(said, self.line, name)
        return start, start + DAY_MS

    def _named(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if name in self.cells), names[0])


def _table(text: str, provider: ProviderName) -> Iterator[Charge]:
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        shape = next((s for s in _TABLES[provider] if set(s.needs) <= set(header)), None)
        if shape is None:
            asked = "; or ".join(", ".join(each.needs) for each in _TABLES[provider])
            raise BadFile(
                f"this is no {provider} export that is known: its first line must name the"
                f" columns {asked}",
                line=1,
            )
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                what = f"{len(cells)} cells, where the first line names {len(header)} columns"
                raise BadFile(what, line=lines.line_num)
            yield from shape.read(_Row(lines.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as why:
        raise BadFile(f"it is not CSV ({why})", line=lines.line_num) from None


@frozen
class _Table:
    needs: tuple[str, ...]
    read: Callable[[_Row], Iterable[Charge]]


def _anthropic_costs(row: _Row) -> Iterator[Charge]:
    start, end = row.day("usage_date_utc")
    cost, listed = row.money("cost_usd"), row.money("list_price_usd")
    if cost is None:
        raise BadFile("there is no amount", line=row.line, column="cost_usd")
    kind, token = row.text("cost_type"), row.text("token_type")
    yield Charge(
        start_ms=start,
        end_ms=end,
        model=row.text("model"),
        line=row.line,
        bucket=anthropic_bucket(token or kind, row.line),
        tier=tier(row.text("speed"), row.text("usage_type")),
        cost_pico=cost[0],
        list_pico=listed[0] if listed else None,
        step_pico=cost[1],
    )


_ANTHROPIC_COUNTS = {
    "usage_input_tokens_no_cache": "input_tokens",
    "usage_input_tokens_cache_read": "cache_read_tokens",
    "usage_input_tokens_cache_write_5m": "cache_write_5m_tokens",
    "usage_input_tokens_cache_write_1h": "cache_write_1h_tokens",
    "usage_output_tokens": "output_tokens",
    "web_search_count": "web_searches",
}


def _anthropic_usage(row: _Row) -> Iterator[Charge]:
    start, end = row.day("usage_date_utc")
    for column, bucket in _ANTHROPIC_COUNTS.items():
        if quantity := row.count(column):
            yield Charge(
                start_ms=start,
                end_ms=end,
                model=row.text("model_version", "model"),
                line=row.line,
                bucket=bucket,
                tier=tier(row.text("speed"), row.text("usage_type")),
                quantity=quantity,
            )


def _openai_costs(row: _Row) -> Iterator[Charge]:
    amount = row.money("amount_value")
    if amount is None:  # a day on which nothing was charged
        return
    start, end = _openai_times(row)
    yield openai_cost(
        row.text("line_item"), amount, row.text("amount_currency"), row.line, start, end,
        row.count("quantity") if "token" in row.text("quantity_unit").lower() else None,
    )  # fmt: skip


def _openai_usage(row: _Row) -> Iterator[Charge]:
    start, end = _openai_times(row)
    yield from openai_counts(
        lambda *names: row.count(*names),
        row.text("model"),
        tier(row.text("service_tier"), "batch" if row.text("batch").lower() == "true" else ""),
        (row.line, start, end),
    )


def _openai_times(row: _Row) -> tuple[int, int]:
    start = instant(row.text("start_time", "start_time_iso"), row.line, "start_time")
    ended = row.text("end_time", "end_time_iso")
    return start, instant(ended, row.line, "end_time") if ended else start + DAY_MS


def _openrouter_calls(row: _Row) -> Iterator[Charge]:
    at = instant(row.text("created_at"), row.line, "created_at")
    cost, byok = row.money("cost_total"), row.money("byok_usage_inference")
    if cost is None:
        raise BadFile("there is no amount", line=row.line, column="cost_total")
    yield Charge(
        start_ms=at - at % DAY_MS,
        end_ms=at - at % DAY_MS + DAY_MS,
        model=row.text("model_permaslug"),
        line=row.line,
        cost_pico=cost[0] + (byok[0] if byok else 0),
        step_pico=cost[1],
        requests=1,
        prompt=row.count("tokens_prompt"),
        cached=row.count("tokens_cached"),
        output=row.count("tokens_completion"),
        call_id=row.text("generation_id") or None,
    )


def _openrouter_days(row: _Row) -> Iterator[Charge]:
    start, end = row.day("date")
    cost, byok = row.money("usage"), row.money("byok_usage_inference", "byok usage")
    if cost is None:
        raise BadFile("there is no amount", line=row.line, column="usage")
    yield Charge(
        start_ms=start,
        end_ms=end,
        model=row.text("model_permaslug", "slug", "model"),
        line=row.line,
        cost_pico=cost[0] + (byok[0] if byok else 0),
        step_pico=cost[1],
        requests=row.count("requests"),
        prompt=row.count("prompt_tokens", "prompt tokens"),
        output=row.count("completion_tokens", "completion tokens"),
    )


_TABLES: Mapping[ProviderName, tuple[_Table, ...]] = {
    "anthropic": (
        _Table(("usage_date_utc", "model", "token_type", "cost_usd"), _anthropic_costs),
        _Table(("usage_date_utc", "model_version", "usage_output_tokens"), _anthropic_usage),
    ),
    "openai": (
        _Table(("start_time", "amount_value", "line_item"), _openai_costs),
        _Table(("start_time", "model", "input_tokens", "output_tokens"), _openai_usage),
    ),
    "openrouter": (
        _Table(("generation_id", "created_at", "cost_total", "model_permaslug"), _openrouter_calls),
        _Table(("date", "slug", "usage"), _openrouter_days),
        _Table(("date", "model", "usage"), _openrouter_days),
    ),
}


# JSON: the answers of the usage and cost APIs, one page or a list of them.


def _pages(text: str) -> Iterator[Mapping[str, Any]]:
    try:
        said = json.loads(text, parse_float=Decimal)
    except ValueError as why:
        line = getattr(why, "lineno", 1)
        raise BadFile(f"it is not JSON ({why})", line=line) from None
    pages = said if isinstance(said, list) else [said]
    for page in pages:
        data = page.get("data") if isinstance(page, dict) else None
        if not isinstance(data, list):
            raise BadFile("a page of the API has a list named data, and this has none")
        if page.get("has_more") and page is pages[-1]:
            raise BadFile("there are more pages than these: has_more is true in the last one")
        yield from (one for one in data if isinstance(one, dict))


def _results(buckets: Iterator[Mapping[str, Any]]) -> Iterator[tuple[Any, Any, Mapping[str, Any]]]:
    for bucket in buckets:
        start = bucket.get("start_time", bucket.get("starting_at"))
        end = bucket.get("end_time", bucket.get("ending_at"))
        for result in bucket.get("results") or ():
            yield start, end, result


def _openai_json(buckets: Iterator[Mapping[str, Any]]) -> Iterator[Charge]:
    for n, (start, end, result) in enumerate(_results(buckets), start=1):
        times = (n, instant(str(start), n, "start_time"), instant(str(end), n, "end_time"))
        if "amount" in result:
            amount = result["amount"] or {}
            value = money(str(amount.get("value", "")), n, "amount.value")
            currency, item = str(amount.get("currency", "usd")), result.get("line_item") or ""
            yield openai_cost(item, value, currency, *times, None)
            continue
        batch = "batch" if result.get("batch") else ""
        yield from openai_counts(
            _counter(result, n), str(result.get("model") or ""),
            tier(str(result.get("service_tier") or ""), batch), times,
        )  # fmt: skip


def _counter(result: Mapping[str, Any], line: int) -> Callable[..., int | None]:
    def counted(*names: str) -> int | None:
        for name in names:
            if result.get(name) is not None:
                return count(str(result[name]), line, name)
        return None

    return counted


def _anthropic_json(buckets: Iterator[Mapping[str, Any]]) -> Iterator[Charge]:
    for n, (start, end, result) in enumerate(_results(buckets), start=1):
        start_ms, end_ms = (
            instant(str(start), n, "starting_at"),
            instant(str(end), n, "ending_at"),
        )
        shared = Charge(
            start_ms=start_ms,
            end_ms=end_ms,
            model=str(result.get("model") or ""),
            line=n,
            tier=tier(str(result.get("speed") or ""), str(result.get("service_tier") or "")),
        )
        if "amount" in result:
            cents, step = money(str(result["amount"]), n, "amount")
            kind = str(result.get("token_type") or result.get("cost_type") or "")
            bucket = anthropic_bucket(kind, n) if kind else None
            cost = _hundredth(cents)
            yield replace(shared, bucket=bucket, cost_pico=cost, step_pico=max(_hundredth(step), 1))
            continue
        written = result.get("cache_creation") or {}
        searched = result.get("server_tool_use") or {}
        for bucket, said in (
            ("input_tokens", result.get("uncached_input_tokens")),
            ("cache_read_tokens", result.get("cache_read_input_tokens")),
            ("cache_write_5m_tokens", written.get("ephemeral_5m_input_tokens")),
            ("cache_write_1h_tokens", written.get("ephemeral_1h_input_tokens")),
            ("output_tokens", result.get("output_tokens")),
            ("web_searches", searched.get("web_search_requests")),
        ):
            if said and (quantity := count(str(said), n, bucket)):
                yield replace(shared, bucket=bucket, quantity=quantity)


def _hundredth(pico: int) -> int:
    return int((Decimal(pico) / 100).to_integral_value())


def _openrouter_json(rows: Iterator[Mapping[str, Any]]) -> Iterator[Charge]:
    for n, row in enumerate(rows, start=1):
        cells = {name.lower(): "" if value is None else str(value) for name, value in row.items()}
        yield from _openrouter_days(_Row(n, cells))


_READ_JSON: Mapping[ProviderName, Callable[[Iterator[Mapping[str, Any]]], Iterator[Charge]]] = {
    "openai": _openai_json,
    "anthropic": _anthropic_json,
    "openrouter": _openrouter_json,
}
