"""`modelspend prices`: the batch door, one-off quotes, and prices of one's own, by the real CLI."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from modelspend.cli import app

NOV = "2026-11-20T12:00:00Z"


class Cli:
    """The program with its ledger and configuration in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.config = home / "config.toml"
        self.config.write_text(f'[store]\npath = "{home / "data" / "ledger.db"}"\n')

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, [*args, "--config", str(self.config)], input=stdin)

    def rows(self, *args: str, stdin: str | bytes | None = None) -> list[Any]:
        result = self(*args, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name in ("MODELSPEND_CONFIG", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Cli(tmp_path)


def line(**row: Any) -> str:
    return json.dumps(row) + "\n"


SONNET = {
    "provider": "anthropic", "model": "claude-sonnet-4-6", "dialect": "anthropic.messages",
    "usage": {"input_tokens": 812, "output_tokens": 644}, "at": NOV,
}  # fmt: skip
CHAT = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}


def test_a_file_of_usages_is_priced_line_by_line_in_order(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "usages.jsonl"
    file.write_text(
        line(id="a", **SONNET) + line(id=2, provider="openai", model="gpt-4.1", usage=CHAT)
    )
    first, second = cli.rows("prices", "quote", "--file", str(file))
    assert first["id"] == "a"
    assert first["buckets"] == {
        "input_tokens": 812,
        "cache_read_tokens": 0,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "output_tokens": 644,
    }
    assert (first["cost_usd"], first["exact"]) == (0.012096, True)
    assert first["lines"][0] == {
        "bucket": "input_tokens",
        "quantity": 812,
        "unit_price_usd": 0.000003,
        "cost_usd": 0.002436,
        "price_id": first["price_id"],
    }
    assert (second["id"], second["dialect"], second["cost_usd"]) == (2, "openai.chat", 0.00208)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("not json\n", "not JSON"),
        ("[1]\n", "not a JSON object"),
        ('{"id":"x","usage":{"input_tokens":NaN}}\n', "not JSON"),
        (line(id="x", provider="openai", usage={}), "`model` is missing"),
        (line(id="x", provider="openai", model="gpt-4.1"), "`usage` is missing"),
        (line(id="x", model="llama-3", usage={}), "names no provider"),
        (line(id="x", provider=7, model="m", usage={}), "`provider` is int"),
        (line(id="x", provider="openai", model="m", dialect="morse", usage={}), "`dialect` morse"),
        (line(id="x", provider="openai", model="m", at="yesterday", usage={}), "`at`"),
        (line(id="x", provider="openai", model="m", at=1e300, usage={}), "`at`"),
    ],
)
def test_a_bad_line_gets_an_error_in_its_place_and_the_others_go_on(
    cli: Cli, bad: str, says: str
) -> None:
    stdin = line(id="a", **SONNET) + bad + line(id="b", **SONNET)
    first, wrong, last = cli.rows("prices", "quote", "--file", "-", stdin=stdin)
    assert (first["id"], last["id"]) == ("a", "b")
    assert says in wrong["error"]
    assert wrong["id"] in ("x", None)


def test_an_unknown_model_is_unknown_and_a_senseless_usage_says_why(cli: Cli) -> None:
    stdin = line(id=1, provider="openai", model="gpt-nope", usage=CHAT) + line(
        id=2, provider="openai", model="gpt-4.1", usage=None
    )
    unknown, empty = cli.rows("prices", "quote", "--file", "-", stdin=stdin)
    assert (unknown["cost_usd"], unknown["exact"]) == (None, False)
    assert unknown["lines"][0]["cost_usd"] is None
    assert (empty["cost_usd"], empty["inexact"]) == (None, ["the answer has no usage"])


@pytest.mark.parametrize(
    ("row", "provider", "dialect"),
    [
        ({"provider": "x-ai", "model": "grok-4.3"}, "xai", "openai.chat"),
        (
            {"provider": "google-vertex", "model": "gemini-2.5-pro", "dialect": "chat"},
            "google",
            "openai.chat",
        ),
        (
            {"provider": "huggingface_novita", "model": "openai/gpt-oss-120b"},
            "huggingface_novita",
            "openai.chat",
        ),
        ({"model": "mistral/mistral-large-latest"}, "mistral", "openai.chat"),
        ({"model": "gpt-4.1"}, "openai", "openai.chat"),
    ],
)
def test_providers_and_dialects_go_by_the_names_of_others_too(
    cli: Cli, row: dict[str, Any], provider: str, dialect: str
) -> None:
    [said] = cli.rows("prices", "quote", "--file", "-", stdin=line(**row, usage=CHAT, at=NOV))
    assert (said["provider"], said["dialect"]) == (provider, dialect)
    assert said["cost_usd"] > 0


@pytest.mark.parametrize(
    ("usage", "dialect"),
    [
        ({"promptTokenCount": 5, "totalTokenCount": 5}, "gemini.generate"),
        (
            {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 0},
            "anthropic.messages",
        ),
        ({"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}, "openai.responses"),
        ({"prompt_tokens": 5, "total_tokens": 5}, "openai.embeddings"),
        ({"inputTokens": 5, "outputTokens": 1, "totalTokens": 6}, "bedrock.converse"),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}}, "openai.chat"),
    ],
)
def test_without_a_dialect_the_shape_of_the_usage_tells_it(
    cli: Cli, usage: dict[str, Any], dialect: str
) -> None:
    stdin = line(id=1, provider="openrouter", model="openai/gpt-4.1", usage=usage)
    [said] = cli.rows("prices", "quote", "--file", "-", stdin=stdin)
    assert said["dialect"] == dialect
    assert said["buckets"]["input_tokens"] == 5


def test_csv_is_read_with_usage_as_json_or_as_columns(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "usages.csv"
    file.write_text(
        "\ufeffid,provider,model,prompt_tokens,completion_tokens,prompt_tokens_details.cached_tokens\n"
        "a,openai,gpt-4.1,1000,10,400\n"
        "b,openai,gpt-4.1,oops,10,\n"
    )
    good, odd = cli.rows("prices", "quote", "--file", str(file))
    assert (good["cost_usd"], good["buckets"]["cache_read_tokens"]) == (0.00148, 400)
    assert not odd["exact"]
    quoted = '"{""prompt_tokens"":1000,""completion_tokens"":10,""total_tokens"":1010}"'
    file.write_text(f"id,provider,model,usage\na,openai,gpt-4.1,{quoted}\nb,openai,gpt-4.1,nope\n")
    good, bad = cli.rows("prices", "quote", "--file", str(file))
    assert good["cost_usd"] == 0.00208
    assert "not JSON" in bad["error"]


def test_an_empty_file_is_an_empty_answer_and_a_missing_one_an_error(cli: Cli) -> None:
    assert cli.rows("prices", "quote", "--file", "-", stdin="\n\n") == []
    missing = cli("prices", "quote", "--file", "/nowhere/at/all")
    assert missing.exit_code == 1
    assert "Cannot read /nowhere/at/all" in missing.stderr


def test_one_usage_is_quoted_from_flags_and_its_lines_sum(cli: Cli) -> None:
    args = ("prices", "quote", "--provider", "openai", "--model", "gpt-4.1")
    said = json.loads(cli(*args, "--input", "1200", "--output", "300", "--json").stdout)
    assert said["cost_usd"] == 0.0048
    piped = cli(*args, "--input", "1200", "--output", "300").stdout.splitlines()
    assert piped[0].split("\t") == ["bucket", "quantity", "unit price USD", "cost USD"]
    assert piped[-1].split("\t") == ["total", "", "", "0.0048"]
    assert cli("prices", "quote").exit_code == 2


def test_a_price_set_in_the_ledger_wins_until_it_is_cleared(cli: Cli) -> None:
    quote = ("prices", "quote", "--model", "openai/gpt-4.1", "--input", "1000000", "--json")
    assert json.loads(cli(*quote).stdout)["cost_usd"] == 2
    set_ = cli("prices", "set", "openai/gpt-4.1", "--input", "0.5", "--from", "2026-01-01")
    assert set_.exit_code == 0, set_.output
    assert json.loads(cli(*quote).stdout)["cost_usd"] == 0.5
    [row] = json.loads(cli("prices", "show", "openai/gpt-4.1", "--json").stdout)
    assert (row["source"], row["from"]) == ("override", "2026-01-01T00:00:00.000Z")
    assert row["bands"] == [{"above_input": 0, "unit_prices_usd": {"input_tokens": 0.0000005}}]
    assert len(json.loads(cli("prices", "list", "--json").stdout)) == 1
    assert cli("prices", "set", "openai/gpt-4.1", "--clear").exit_code == 0
    assert json.loads(cli(*quote).stdout)["cost_usd"] == 2
    assert cli("prices", "set", "openai/gpt-4.1", "--clear").exit_code == 3


def test_a_price_is_set_under_the_name_that_receipts_use(cli: Cli) -> None:
    assert cli("prices", "set", "x-ai/grok-4.3", "--input", "1").exit_code == 0
    [row] = json.loads(cli("prices", "list", "--provider", "x-ai", "--json").stdout)
    assert row["provider"] == "xai"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["openai/m"], "No price was given"),
        (["openai/m", "--input", "abc"], "--input abc"),
        (["openai/m", "--input", "-1"], "--input -1"),
        (["openai/m", "--input", "nan"], "--input nan"),
        (["openai/m", "--input", "0.0000001"], "finer than a pico-dollar"),
        (["openai/m", "--input", "1", "--from", "soon"], "--from soon"),
        (
            ["openai/m", "--input", "1", "--from", "2026-02-01", "--until", "2026-01-01"],
            "not after",
        ),
        (["openai/m", "--input", "1", "--clear"], "--clear takes no price"),
        (["llama", "--input", "1"], "names no provider"),
    ],
)
def test_what_is_no_price_is_refused_with_its_place(cli: Cli, args: list[str], says: str) -> None:
    refused = cli("prices", "set", *args)
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_show_explains_every_band_and_tier_and_says_when_there_is_no_price(cli: Cli) -> None:
    rows = json.loads(cli("prices", "show", "openai/gpt-5.4", "--at", NOV, "--json").stdout)
    assert {row["tier"] for row in rows} == {"", "batch", "flex", "priority", "fast"}
    standard = next(row for row in rows if row["tier"] == "")
    assert [band["above_input"] for band in standard["bands"]] == [0, 272_000]
    assert standard["source"].startswith("genai-prices 0.2.3")
    piped = cli("prices", "show", "openai/gpt-5.4", "--at", NOV).stdout.splitlines()
    assert "\t272000\tinput_tokens\t5 / 1M\t" in "\n".join(piped)
    nothing = cli("prices", "show", "openai/gpt-nope")
    assert nothing.exit_code == 3
    assert "prices set openai/gpt-nope" in nothing.stderr
