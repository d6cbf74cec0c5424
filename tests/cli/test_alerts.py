"""`alerts list|test|silence` through the real command line; the report is tested with reports."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import Result

from modelspend.alarms import Alarm, Silence, Step
from modelspend.store import Store
from tests.cli.conftest import Cli
from tests.fakes.sink import Far, far_end, status

MINUTE = 60_000


def ending(code: int, cli: Cli, *words: str) -> Result:
    """What a command says that ends with a code."""
    done = cli(*words)
    assert done.exit_code == code, done.stderr
    return done


def fill(ledger: Path) -> int:
    """One that goes on, one that goes on and is silenced, one that is over; when that was."""
    now = time.time_ns() // 1_000_000

    async def put() -> None:
        store = await Store.open(ledger)
        alarms = [
            Alarm(rule="budget_burn", scope="tenant", name="acme", window="month", level="critical",
                  said="$11 of its hard cap of $10 per month are spent (110%).", told="critical",
                  window_ms=now - 9 * MINUTE, since_ms=now - 9 * MINUTE, seen_ms=now, value=1.1,
                  limit=1.0, is_open=True, see="budgets list"),
            Alarm(rule="p95_drift", scope="model", name="gpt:4", level="warn", said="Slow.",
                  window_ms=now, since_ms=now - 3 * MINUTE, seen_ms=now),
            Alarm(rule="velocity", scope="process", name="all", level="warn", said="Fast.",
                  window_ms=now, since_ms=now - 60 * MINUTE, seen_ms=now - 30 * MINUTE,
                  resolved_ms=now - 20 * MINUTE, told="warn"),
        ]  # fmt: skip
        await store.alarms.write([Step(alarm=one) for one in alarms])
        await store.alarms.silence(Silence(rule="p95_drift", at_ms=now, until_ms=now + 90 * MINUTE))
        await store.close()

    asyncio.run(put())
    return now


def test_the_list_says_what_goes_on_how_bad_it_is_and_who_was_told(cli: Cli, ledger: Path) -> None:
    fill(ledger)
    done = cli("alerts", "list", "--json")
    found = {one["id"]: one for one in json.loads(done.stdout)}
    burn, slow, fast = (
        found[key] for key in ("budget_burn:tenant:acme:month", "p95_drift:model:gpt:4",
                               "velocity:process:all")
    )  # fmt: skip
    assert (burn["state"], burn["level"], burn["told"]) == ("firing", "critical", "critical")
    assert 540 <= burn["age_s"] < 600
    assert (slow["state"], slow["told"]) == ("silenced", None)
    assert slow["silenced_until"] is not None
    assert (fast["state"], fast["age_s"]) == ("resolved", 2400)
    plain = cli("alerts", "list")
    first, second, *_ = (line.split("\t")[:4] for line in plain.stdout.splitlines()[1:])
    assert first == ["firing", "critical", "budget_burn", "tenant acme per month"]
    assert second == ["silenced", "warn", "p95_drift", "model gpt:4"]
    assert plain.stdout.splitlines()[-1].startswith("resolved\twarn\tvelocity\teverything")
    assert plain.stderr == "2 go on, 1 are over.\n"
    only = json.loads(cli("alerts", "list", "--state", "resolved", "--json").stdout)
    assert [one["id"] for one in only] == ["velocity:process:all"]


def test_without_a_ledger_or_alarms_the_list_is_empty(cli: Cli, home: Path) -> None:
    done = cli("alerts", "list", "--json")
    assert json.loads(done.stdout) == []
    assert cli("alerts", "list").stderr == "Nothing yet.\n"
    assert json.loads(cli("alerts", "silence", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["p95_drift"], ("p95_drift", None, None)),
        (["all"], (None, None, None)),
        (["all", "--scope", "tenant:acme"], (None, "tenant", "acme")),
        (["velocity", "--scope", "model"], ("velocity", "model", None)),
        (["velocity", "--scope", "model:a:b"], ("velocity", "model", "a:b")),
        (["budget_burn:tenant:acme:month"], ("budget_burn", "tenant", "acme")),
        (["p95_drift:model:gpt:4"], ("p95_drift", "model", "gpt:4")),
        (["cache_drop:tenant:new"], ("cache_drop", "tenant", "new")),
    ],
)
def test_a_silence_is_set_listed_and_lifted(
    cli: Cli, ledger: Path, words: list[str], target: tuple[str | None, ...]
) -> None:
    fill(ledger)
    cli("alerts", "silence", "p95_drift", "--lift")
    one = json.loads(cli("alerts", "silence", *words, "--for", "30m", "--json").stdout)
    assert (one["rule"], one["scope"], one["name"]) == target
    assert json.loads(cli("alerts", "silence", "--json").stdout) == [one]
    silenced = json.loads(cli("alerts", "list", "--state", "silenced", "--json").stdout)
    covered = [rule for rule in ("budget_burn", "p95_drift") if words[0].startswith((rule, "all"))]
    if "acme" in str(words):
        covered = ["budget_burn"]
    assert sorted(each["rule"] for each in silenced) == covered
    assert all(each["silenced_until"] == one["until"] for each in silenced)
    lifted = cli("alerts", "silence", *words, "--lift")
    assert lifted.stdout.endswith("is told again.\n")
    assert json.loads(cli("alerts", "silence", "--json").stdout) == []
    again = ending(3, cli, "alerts", "silence", *words, "--lift")
    assert "is not silenced" in again.stderr


def test_a_silence_says_until_when_and_is_over_by_itself(cli: Cli, ledger: Path) -> None:
    now = fill(ledger)
    done = cli("alerts", "silence", "velocity", "--for", "2d")
    assert done.stdout.startswith("Nobody is told of velocity until 20")

    async def end() -> None:
        store = await Store.open_notes(ledger)
        await store.alarms.silence(Silence(rule="velocity", at_ms=now - 9, until_ms=now - 1))
        await store.close()

    asyncio.run(end())
    listed = cli("alerts", "silence").stdout.splitlines()
    assert [line.split("\t")[0] for line in listed] == ["rule", "p95_drift"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["p95"], 3, "There is no rule 'p95'"),
        (["p95_drift", "--for", "soon"], 2, "not a length of time"),
        (["p95_drift", "--scope", "planet"], 2, "'planet' is no scope"),
        (["p95_drift:tenant:a", "--scope", "tenant"], 2, "leave out --scope"),
        (["--lift"], 2, "Nothing is named"),
    ],
)
def test_what_cannot_be_silenced_is_said(
    cli: Cli, ledger: Path, words: list[str], code: int, said: str
) -> None:
    assert said in ending(code, cli, "alerts", "silence", *words).stderr


@contextmanager
def apart() -> Iterator[Far]:
    """A far end in a thread of its own: commands run loops of their own."""
    ready, stop = threading.Event(), threading.Event()
    found: list[Far] = []

    async def serve() -> None:
        async with far_end() as far:
            far.answer = status("202 Accepted")
            found.append(far)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(20)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join()


def configured(home: Path, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "config.toml"
    file.write_text(
        '[alerts.slack.ops]\nurl_env = "SLACK"\nallow_private = true\n'
        f'[alerts.pagerduty.night]\nkey_env = "PAGER"\nallow_private = true\nurl = "{far.url}/pd"\n'
        '[alerts.email.team]\nhost = "127.0.0.1"\nport = 1\nsender = "a@b.c"\nto = ["d@e.f"]\n'
    )
    monkeypatch.setenv("MODELSPEND_CONFIG", str(file))
    monkeypatch.setenv("SLACK", f"{far.url}/hidden")
    monkeypatch.setenv("PAGER", "k" * 32)


def test_a_trial_says_what_came_back_and_fails_when_a_channel_does(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with apart() as far:
        configured(home, far, monkeypatch)
        assert json.loads(cli("alerts", "test", "ops", "--json").stdout) == [
            {"channel": "slack:ops", "ok": True, "answer": "HTTP 202"}
        ]
        assert json.loads(cli("alerts", "test", "pagerduty:night", "--json").stdout)[0]["ok"]
        assert [head[""].split()[1] for head, _ in far.got] == ["/hidden", "/pd", "/pd"]
        done = ending(6, cli, "alerts", "test")
        rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
        assert [row[:2] for row in rows] == [
            ["slack:ops", "yes"], ["pagerduty:night", "yes"], ["email:team", "no"]
        ]  # fmt: skip
        assert "127.0.0.1 is a loopback address" in rows[2][2]
        assert "1 channel has not taken the trial: email:team." in done.stderr
        far.answer = status("404 no_service")
        failed = ending(6, cli, "alerts", "test", "ops", "--json")
        assert json.loads(failed.stdout) == [
            {"channel": "slack:ops", "ok": False, "answer": "HTTP 404"}
        ]
        assert "hidden" not in failed.stdout + failed.stderr
        assert (
            "Configured: slack:ops, pagerduty:night, email:team."
            in ending(3, cli, "alerts", "test", "nobody").stderr
        )


def test_without_channels_a_trial_says_how_to_have_some(cli: Cli, home: Path) -> None:
    assert "No channel is configured." in ending(2, cli, "alerts", "test").stderr
