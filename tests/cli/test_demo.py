"""The demo as a new user meets it: a real process, real sockets, its own ledger."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelspend.cli import demo_traffic
from modelspend.cli.demo_model import missing
from modelspend.cli.slip import WIDTH, slip
from modelspend.receipt_json import from_json

CANARY = "sk-canary-8f1d0c2e"
PROGRAM = (sys.executable, "-m", "modelspend")


def world(folder: Path) -> dict[str, str]:
    """The environment of a user with a key, a home, and a ledger of their own elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MODELSPEND")}
    return {
        **kept,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "OPENAI_API_KEY": CANARY,
        "ANTHROPIC_API_KEY": CANARY,
    }


def run(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *words], env=env, text=True, capture_output=True, check=False)


def shown(told: subprocess.CompletedProcess[str]) -> Any:
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout, parse_float=Decimal)


class Played:
    """One whole showing and the receipts that it left."""

    def __init__(self, folder: Path) -> None:
        self.env = world(folder)
        self.ended = run("demo", "--once", "--json", "--port", "0", env=self.env)
        self.said = shown(self.ended)
        self.config = self.said["config"]
        asked = ("receipts", "list", "--json", "--limit", "100000", "--config", self.config)
        self.receipts: list[dict[str, Any]] = shown(run(*asked, env=self.env))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("demo"))


def cost(receipt: dict[str, Any]) -> Decimal | None:
    return receipt["execution"]["actual_cost_usd"]


def test_every_figure_of_the_summary_can_be_added_up_from_the_receipts(played: Played) -> None:
    said, receipts = played.said, played.receipts
    assert said["calls"] == len(receipts)
    assert said["cost_usd"] == sum(cost(each) or 0 for each in receipts)
    assert said["unpriced"] == sum(cost(each) is None for each in receipts)
    assert said["exact"] + said["estimated"] + said["unpriced"] == said["calls"]
    for name, key in (("by_tenant", "tenant"), ("by_status", "status")):
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for each in receipts:
            group = each["execution"][key] if key == "status" else each[key]
            sums[group] += cost(each) or 0
        assert {group: row["cost_usd"] for group, row in said[name].items()} == sums
        assert sum(row["calls"] for row in said[name].values()) == said["calls"]


def test_every_call_of_sixty_days_has_one_receipt_on_its_day(played: Played) -> None:
    today = date.fromisoformat(
        max(each["created_at"] for each in played.receipts)[:10]
    ) + timedelta(1)
    sent = Counter(
        str(today - timedelta(demo_traffic.DAYS - burst.day))
        for burst in demo_traffic.history(today)
        for _ in burst.asks
    )
    assert Counter(each["created_at"][:10] for each in played.receipts) == sent
    assert len(sent) == demo_traffic.DAYS


def test_the_traffic_is_of_every_dialect_streamed_and_not_and_some_of_it_goes_wrong(
    played: Played,
) -> None:
    receipts = played.receipts
    assert {each["request"]["dialect"] for each in receipts} == {
        "openai.chat",
        "openai.responses",
        "openai.embeddings",
        "anthropic.messages",
        "gemini.generate",
    }
    assert {each["request"]["stream"] for each in receipts} == {True, False}
    statuses = Counter(each["execution"]["status"] for each in receipts)
    assert statuses.keys() == {"success", "error", "truncated", "client_disconnect"}
    assert statuses["success"] > 0.9 * len(receipts)
    codes = {each["execution"]["http_status"] for each in receipts}
    assert {200, 429, 503} <= codes
    failures = {attempt["failure_class"] for each in receipts for attempt in each["attempts"]}
    assert {
        "rate_limit",
        "overloaded",
        "error_in_stream",
        "disconnected",
        "client_gone",
    } <= failures
    for bucket in ("cache_read_tokens", "cache_write_5m_tokens"):
        assert any(each["usage"][bucket] for each in receipts), bucket
    assert any(each["usage"]["source"] == "estimated" for each in receipts)
    assert any(each["attempts"][0]["finish_reason"] == "tool_calls" for each in receipts)


def test_a_model_without_a_price_costs_null_and_not_nothing(played: Played) -> None:
    unpriced = [each for each in played.receipts if each["request"]["model"] == "tuned-7b"]
    assert unpriced
    assert {cost(each) for each in unpriced} == {None}
    assert played.said["unpriced"] == len(unpriced)


def test_the_receipt_that_is_shown_is_in_the_ledger_and_its_lines_make_its_total(
    played: Played,
) -> None:
    receipt = played.said["receipt"]
    (stored,) = [r for r in played.receipts if r["receipt_id"] == receipt["receipt_id"]]
    assert cost(stored) == cost(receipt)
    lines = receipt["cost"]["lines"]
    assert len(lines) >= 3
    assert all(line["quantity"] * line["unit_price_usd"] == line["cost_usd"] for line in lines)
    assert sum(line["cost_usd"] for line in lines) == cost(receipt)


def test_the_printed_slip_has_every_line_of_the_receipt_and_fits_a_narrow_terminal(
    played: Played,
) -> None:
    for shape in played.receipts:
        lines = slip(from_json(shape))
        assert max(map(len, lines)) <= WIDTH, lines
        printed = [line for line in lines if " × " in line]
        assert len(printed) == len(shape["cost"]["lines"])
        total = cost(shape)
        assert lines[-1].endswith("cost not known" if total is None else f"${Decimal(total):f}")


def test_the_keys_of_the_shell_are_never_used_and_the_own_ledger_is_never_touched(
    played: Played,
) -> None:
    data = Path(played.env["XDG_DATA_HOME"])
    assert [each.name for each in (data / "modelspend").iterdir()] == ["demo"]
    for file in data.rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes()
    assert {each["key_id"] for each in played.receipts} == {None}


def test_the_shells_settings_do_not_reach_it_and_ctrl_c_while_it_serves_ends_it_well(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine.db"
    env = {
        **world(tmp_path),
        "MODELSPEND_STORE__PATH": str(mine),
        "MODELSPEND_SERVER__PORT": "not a port",
    }
    with Serving(env) as demo:
        pass
    assert demo.process.returncode == 0, demo.told
    assert "MODELSPEND_STORE__PATH is set" in demo.told
    assert "Traceback" not in demo.told
    assert not mine.exists()
    config = str(tmp_path / "data" / "modelspend" / "demo" / "config.toml")
    left = run("receipts", "list", "--json", "--config", config, env=world(tmp_path))
    assert "interrupted" not in {each["execution"]["status"] for each in shown(left)}


class Serving:
    """A demo that goes on serving; its history is left out where `keep` finds a ledger."""

    def __init__(self, env: dict[str, str], *more: str) -> None:
        self.env = env
        self.process = subprocess.Popen(
            [*PROGRAM, "demo", "--port", "0", *more],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.commands: list[str] = []
        self.told = ""

    def __enter__(self) -> "Serving":
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.match(r"  (\S.* --config \S+)$", line):
                self.commands.append(match[1])
            if len(self.commands) == 3:
                break
        assert len(self.commands) == 3
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        _, self.told = self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def serving(played: Played) -> Iterator[Serving]:
    with Serving(played.env, "--keep") as demo:
        yield demo


def test_the_three_commands_work_as_they_are_typed(serving: Serving) -> None:
    follow, listing, explain = serving.commands
    for command in (listing, explain):
        told = subprocess.run(
            command, shell=True, env=serving.env, text=True, capture_output=True, check=False
        )
        assert told.returncode == 0, told.stderr
        assert "rcpt_" in told.stdout
    assert "tail" in follow


def test_tail_shows_calls_that_come_in_while_it_watches(serving: Serving) -> None:
    words = [*shlex.split(serving.commands[0]), "--last", "0"]
    words = [os.path.expanduser(word.replace("~", serving.env["HOME"], 1)) for word in words]
    with subprocess.Popen(words, env=serving.env, text=True, stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        assert "rcpt_" in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)


def test_a_second_demo_is_refused_and_told_where_the_first_one_is(serving: Serving) -> None:
    second = run("demo", "--once", env=serving.env)
    assert second.returncode == 1
    assert re.search(r"A demo runs already, at http://127\.0\.0\.1:\d+", second.stderr)


def test_keep_serves_the_ledger_of_last_time_and_adds_no_history(
    played: Played, serving: Serving
) -> None:
    asked = ("receipts", "list", "--json", "--limit", "100000", "--config", played.config)
    now = shown(run(*asked, env=played.env))
    old = {each["receipt_id"] for each in played.receipts}
    assert old <= {each["receipt_id"] for each in now}
    newest_of_history = max(each["created_at"] for each in played.receipts)[:10]
    added = [each for each in now if each["receipt_id"] not in old]
    assert all(each["created_at"][:10] > newest_of_history for each in added)


def test_ctrl_c_in_the_middle_of_the_history_is_an_interruption(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "demo", "--once", "--port", "0"],
        env=world(tmp_path),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert "60 days" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err


def test_a_port_that_is_taken_is_an_error_when_it_was_asked_for(
    played: Played, serving: Serving
) -> None:
    config = Path(played.config).read_text()
    assert "port = 0" in config
    url = shown(run("status", "--json", "--config", played.config, env=played.env))["url"]
    elsewhere = {**played.env, "XDG_DATA_HOME": played.env["XDG_DATA_HOME"] + "-2"}
    taken = run("demo", "--once", "--port", url.rpartition(":")[2], env=elsewhere)
    assert taken.returncode == 2
    assert "cannot be listened on" in taken.stderr


def test_real_without_its_packages_says_what_to_install(tmp_path: Path) -> None:
    if not missing():
        pytest.skip("the packages of --real are installed here")
    told = run("demo", "--real", env=world(tmp_path))
    assert told.returncode == 2
    assert "pip install xllamacpp" in told.stderr
    assert not (tmp_path / "data").exists()


# The traffic by itself.


def test_the_same_day_has_the_same_calls_and_another_day_has_others() -> None:
    day = date(2026, 3, 1)
    assert list(demo_traffic.history(day)) == list(demo_traffic.history(day))
    assert list(demo_traffic.history(day)) != list(demo_traffic.history(day + timedelta(1)))


@pytest.mark.parametrize("offset", range(7))
def test_work_days_are_busier_than_week_ends_and_the_second_month_than_the_first(
    offset: int,
) -> None:
    today = date(2026, 3, 1) + timedelta(offset)
    by_day: Counter[int] = Counter()
    for burst in demo_traffic.history(today):
        by_day[burst.day] += len(burst.asks)
    first = today - timedelta(demo_traffic.DAYS)
    weekend = [n for day, n in by_day.items() if (first + timedelta(day)).weekday() >= 5]
    work = [n for day, n in by_day.items() if (first + timedelta(day)).weekday() < 5]
    assert sum(weekend) / len(weekend) < 0.6 * sum(work) / len(work)
    assert sum(by_day[day] for day in range(30)) < sum(by_day[day] for day in range(30, 60))
    assert all(by_day[day] for day in range(60))


def test_every_fault_happens_in_a_history_and_only_one_that_leaves_hangs_up() -> None:
    asks = [ask for burst in demo_traffic.history(date(2026, 3, 1)) for ask in burst.asks]
    for fault in demo_traffic._FAULTS:
        met = [ask for ask in asks if fault in ask.headers["x-sim-behave"].split("+")]
        assert len(met) >= 3, fault
        assert {ask.leaves for ask in met} == {fault == demo_traffic._SILENCE}


@pytest.mark.full
def test_a_real_model_tells_its_own_usage_in_every_dialect(tmp_path: Path) -> None:
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    said = shown(run("demo", "--real", "--once", "--json", env=world(tmp_path)))
    asked = ("receipts", "list", "--json", "--config", said["config"])
    receipts = shown(run(*asked, env=world(tmp_path)))
    ways = Counter((each["request"]["dialect"], each["request"]["stream"]) for each in receipts)
    dialects = ("openai.chat", "openai.responses", "anthropic.messages")
    assert ways == {(dialect, stream): 1 for dialect in dialects for stream in (False, True)}
    for each in receipts:
        assert each["execution"]["status"] == "success"
        assert each["usage"]["source"] == "provider"
        assert each["usage"]["output_tokens"] > 0
        assert (cost(each), each["cost"]["exact"]) == (0, True)
    *later, first = receipts
    assert first["usage"]["cache_read_tokens"] == 0
    assert all(each["usage"]["cache_read_tokens"] > 20 for each in later)
