"""Cassettes as a shell sees them: recorded through a sidecar, played with no provider there."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest

from modelspend.cassettes import Cassette, Entry, Player, gate, masked, read, sums, written
from tests.cli.test_run import PROGRAM, REAL, Desk, desk_in

APP = """
import hashlib, json, os, sys, urllib.error, urllib.request

def post(base, path, body, key):
    request = urllib.request.Request(
        os.environ[base] + path,
        json.dumps(body).encode(),
        {"authorization": "Bearer " + key, "x-modelspend-tags": "test=" + path.strip("/")},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.read()
    except urllib.error.HTTPError as refused:
        return refused.read()

said = [{"role": "user", "content": word} for word in sys.argv[1:]]
key = os.environ["OPENAI_API_KEY"]
for turn in said:
    for stream in (False, True):
        body = {"model": "gpt-4.1", "messages": [turn], "stream": stream, "note": key}
        sys.stdout.buffer.write(post("OPENAI_BASE_URL", "/chat/completions", body, key))
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_in(tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture(scope="module")
def app(desk: Desk) -> list[str]:
    file = desk.folder / "app.py"
    file.write_text(APP)
    return [sys.executable, str(file)]


@pytest.fixture(scope="module")
def tape(desk: Desk, app: list[str]) -> str:
    """A cassette of two calls about `one`; what the app printed lies beside it."""
    file = desk.folder / "one.tape"
    recorded = cassette(desk, "record", str(file), "--", *app, "one")
    assert recorded.returncode == 0, recorded.stderr
    file.with_suffix(".stdout").write_bytes(recorded.stdout)
    return str(file)


def printed(tape: str) -> bytes:
    return Path(tape).with_suffix(".stdout").read_bytes()


def cassette(
    desk: Desk, *words: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    verb, *rest = words
    return subprocess.run(
        [*PROGRAM, "cassette", verb, "--config", str(desk.config), *rest],
        env=env or desk.env,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_what_was_recorded_is_played_byte_for_byte_with_nobody_to_ask(
    desk: Desk, app: list[str]
) -> None:
    tape = str(desk.folder / "a.tape")
    recorded = cassette(desk, "record", tape, "--", *app, "one", "two")
    assert recorded.returncode == 0, recorded.stderr
    calls, receipts = len(desk.accepted()), len(desk.receipts())
    assert calls == receipts == 4
    played = cassette(desk, "play", tape, "--", *app, "one", "two")
    assert played.returncode == 0, played.stderr
    assert played.stdout == recorded.stdout
    assert recorded.stdout.count(b"[DONE]") == 2
    assert (len(desk.accepted()), len(desk.receipts())) == (calls, receipts)
    assert REAL.encode() not in Path(tape).read_bytes()
    assert b"sk-modelspend" not in Path(tape).read_bytes()


def test_a_program_that_made_no_call_is_told_of(desk: Desk) -> None:
    tape = str(desk.folder / "empty.tape")
    recorded = cassette(desk, "record", tape, "--", sys.executable, "-c", "pass")
    assert recorded.returncode == 0, recorded.stderr
    assert b"0 calls recorded" in recorded.stderr
    assert b"modelspend help clients" in recorded.stderr


GUARD = """
import os, sys

def met(event, words):
    if event == "socket.connect":
        with open(os.environ["CONNECTS"], "a") as file:
            print(words[1][1] if isinstance(words[1], tuple) else words[1], file=file)

sys.addaudithook(met)
"""


def test_while_a_cassette_is_played_nothing_is_connected_to_but_its_player(
    desk: Desk, app: list[str], tape: str
) -> None:
    """Every connect of every process is written down, the program's and ours."""
    guard = desk.folder / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    connects = desk.folder / "connects"
    telling = "import os; print(os.environ['OPENAI_BASE_URL'], flush=True)\n"
    asking = [sys.executable, "-c", telling + APP]
    env = {**desk.env, "PYTHONPATH": str(guard), "CONNECTS": str(connects)}
    played = cassette(desk, "play", tape, "--", *asking, "one", env=env)
    assert played.returncode == 0, played.stderr
    url, _, answer = played.stdout.partition(b"\n")
    assert sha256(answer).digest() == sha256(printed(tape)).digest()
    port = url.decode().rpartition(":")[2].removesuffix("/v1")
    assert connects.read_text().split() == [port, port]


def test_a_call_that_is_not_there_names_the_nearest_one_and_quotes_no_prompt(
    desk: Desk, app: list[str], tape: str
) -> None:
    played = cassette(desk, "play", tape, "--", *app, "another-secret-word")
    assert played.returncode == 6
    assert b"cassette_miss" in played.stdout
    assert b"the nearest is call 1, which differs in messages.0.content" in played.stderr
    assert b"another-secret-word" not in played.stdout + played.stderr
    assert b"2 of 2 recorded calls were not made" in played.stderr


def test_a_call_made_more_often_than_it_was_recorded_is_a_miss(
    desk: Desk, app: list[str], tape: str
) -> None:
    played = cassette(desk, "play", tape, "--", *app, "one", "one")
    assert played.returncode == 6
    assert b"recorded 1 times" in played.stderr


def test_no_other_address_is_reached_while_a_cassette_is_played(
    desk: Desk, app: list[str], tape: str
) -> None:
    look = (
        "import urllib.request, urllib.error\n"
        "for url in ('http://canary.example/x', 'https://canary.example/x'):\n"
        "    try:\n        urllib.request.urlopen(url, timeout=5)\n"
        "    except urllib.error.URLError as refused:\n        print(refused)\n"
    )
    played = cassette(desk, "play", tape, "--", sys.executable, "-c", look)
    assert played.returncode == 6
    assert played.stdout.count(b"403") == 2, played.stdout
    assert played.stderr.count(b"canary.example") == 2


@pytest.mark.parametrize("fault", ["outage", "rate-limit", "cut"])
def test_a_fault_comes_once_before_the_answer(
    desk: Desk, app: list[str], tape: str, fault: str
) -> None:
    retrying = desk.folder / "retrying.py"
    told = "    except urllib.error.HTTPError as refused:\n        return refused.read()\n"
    once = APP.replace("def post(", "def post_once(").replace(told, "    finally:\n        pass\n")
    retrying.write_text(
        once.replace(
            "said = [",
            "import http.client\n\ndef post(*words):\n    try:\n        return post_once(*words)\n"
            "    except (OSError, http.client.HTTPException) as why:\n"
            "        print(type(why).__name__, file=sys.stderr)\n"
            "        return post_once(*words)\n\nsaid = [",
        )
    )
    words = [sys.executable, str(retrying), "one"]
    played = cassette(desk, "play", "--fault", fault, tape, "--", *words)
    assert played.returncode == 0, played.stderr
    assert played.stdout == printed(tape)
    expected = {
        "outage": b"RemoteDisconnected",
        "rate-limit": b"HTTPError",
        "cut": b"IncompleteRead",
    }
    assert played.stderr.count(expected[fault]) == 2


def test_a_cap_counts_what_calls_cost_when_they_were_recorded(
    desk: Desk, app: list[str], tape: str
) -> None:
    costs = [entry.cost_usd for entry in read(Path(tape).read_bytes()).entries]
    assert len(costs) == 2
    assert costs[0]
    played = cassette(desk, "play", "--max-usd", str(costs[0]), tape, "--", *app, "one")
    assert played.stdout.count(b"budget_exceeded") == 1
    failing = [*app[:1], "-c", APP + "\nsys.exit(1)", "one"]
    played = cassette(desk, "play", "--max-usd", str(costs[0]), tape, "--", *failing)
    assert played.returncode == 7


def test_two_cassettes_are_compared_by_test_and_held_against_a_limit(
    desk: Desk, app: list[str], tape: str
) -> None:
    one, two = tape, str(desk.folder / "b.tape")
    cassette(desk, "record", two, "--", *app, "one", "two")
    told = cassette(desk, "diff", one, two, "--json", "--fail-if", "calls>+50%")
    assert told.returncode == 6
    shape = json.loads(told.stdout, parse_float=Decimal)
    assert shape["failed"] == ["calls>+50%"]
    total = shape["tests"][-1]
    assert total["calls"] == {"before": 2, "after": 4}
    entries = read(Path(two).read_bytes()).entries
    assert total["cost_usd"]["after"] == sums(entries).cost_usd
    marked = cassette(desk, "diff", one, two, "--format", "markdown", "--fail-if", "calls>4")
    assert marked.returncode == 0
    assert b"| chat/completions | 2 \xe2\x86\x92 4 |" in marked.stdout


ENTRY = Entry(
    path="/v1/x",
    dialect="openai.chat",
    model="m",
    stream=False,
    request=b'{"a":1}',
    status=200,
    content_type="application/json",
    answer=b"\xff\x00",
    cost_usd=Decimal("0.000001"),
    tokens=3,
)


def test_a_cassette_reads_back_as_it_was_written_and_notices_a_changed_body() -> None:
    tape = Cassette(entries=(ENTRY, ENTRY), recorded_at="2026-11-01T00:00:00.000Z")
    data = b"".join(written(tape))
    assert read(data) == tape
    with pytest.raises(ValueError, match="line 2"):
        read(data.replace(b'{\\"a\\":1}', b'{\\"a\\":2}', 1))
    with pytest.raises(ValueError, match="first line"):
        read(b"{}\n")


def test_a_secret_is_masked_wherever_it_stands() -> None:
    assert masked(b"a sk-secret-1 b sk-secret-1", [b"sk-secret-1"]) == b"a *** b ***"
    assert masked(b"short", [b"short"[:3]]) == b"short"


def test_equal_requests_are_answered_in_the_order_in_which_they_were_recorded() -> None:
    player = Player(Cassette(entries=(ENTRY, ENTRY)))
    for expected in (1, 2):
        found = player.peek("/v1/x", b'{"a":1}')
        assert found is not None
        assert found[0] == expected
        player.take(found[1])
    assert player.peek("/v1/x", b'{"a":1}') is None
    assert player.unplayed == 0


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("cost>+5%", True),
        ("cost>+10%", False),
        ("cost>=+10%", True),
        ("cost>1", True),
        ("cost>+0.2", False),
        ("calls>2", False),
        ("tokens<-10%", False),
        ("cache_hits<1", True),
    ],
)
def test_a_gate_compares_exactly(text: str, holds: bool) -> None:
    from modelspend.cassettes import Sums

    before = Sums(calls=2, tokens=10, cost_usd=Decimal(1), cache_hits=0)
    after = Sums(calls=2, tokens=10, cost_usd=Decimal("1.1"), cache_hits=0)
    assert gate(text).holds(before, after) is holds


def test_a_cost_that_is_not_known_passes_no_gate() -> None:
    from modelspend.cassettes import Sums

    known = Sums(calls=1, tokens=1, cost_usd=Decimal(1), cache_hits=0)
    unknown = Sums(calls=1, tokens=1, cost_usd=None, cache_hits=0)
    assert gate("cost>+1000%").holds(known, unknown)
    with pytest.raises(ValueError, match=re.escape("is no condition")):
        gate("speed>1")
