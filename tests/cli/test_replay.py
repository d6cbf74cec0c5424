"""`modelspend replay` as a shell sees it: a sidecar of its own, or the one that runs."""

import json
import subprocess
from decimal import Decimal
from pathlib import Path

from tests.cli.test_run import PROGRAM, REAL, Desk, asking, desk

__all__ = ["desk"]


def replay(desk: Desk, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "replay", "--config", str(desk.config), *words],
        env=desk.env,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_a_receipt_is_replayed_without_a_daemon_and_set_side_by_side(desk: Desk) -> None:
    assert desk.run(asking("gpt-4.1")).returncode == 0
    (original,) = desk.receipts()
    told = replay(desk, "last", "--model", "openai/gpt-4.1-mini", "--json")
    assert told.returncode == 0, told.stderr
    said = json.loads(told.stdout, parse_float=Decimal)
    assert said["original"]["receipt_id"] == original["receipt_id"]
    assert said["replay"]["replay_of"] == original["receipt_id"]
    cost = said["diff"]["cost_usd"]
    assert cost["original"] == original["execution"]["actual_cost_usd"]
    assert cost["change"] == cost["replay"] - cost["original"] < 0
    assert len(desk.receipts()) == 2
    text = replay(desk, original["receipt_id"])
    assert text.returncode == 0, text.stderr
    assert "The answers say the same" in text.stdout
    assert "cost_usd" in text.stdout


def test_several_replays_are_several_receipts_and_their_spread(desk: Desk) -> None:
    desk.run(asking("gpt-4.1"))
    said = json.loads(replay(desk, "last", "--n", "3", "--json").stdout, parse_float=Decimal)
    ids = {each["receipt_id"] for each in said["replays"]}
    assert len(ids) == 3
    assert len(desk.receipts()) == 4
    assert said["replay"] == said["replays"][0]
    spread = said["spread"]
    assert spread["answers"] == 1
    assert spread["cost_usd"]["least"] == spread["cost_usd"]["most"] > 0
    assert spread["latency_ms"]["least"] <= spread["latency_ms"]["median"]


def test_a_dry_run_sends_nothing_and_masks_the_key(desk: Desk) -> None:
    desk.run(asking("gpt-4.1"))
    told = replay(desk, "last", "--dry-run", "--set", "temperature=0.5")
    assert told.returncode == 0, told.stderr
    assert "authorization: ***" in told.stdout
    assert '"temperature":0.5' in told.stdout
    assert REAL not in told.stdout + told.stderr
    assert len(desk.accepted()) == len(desk.receipts()) == 1


def test_a_cap_that_a_replay_could_pass_ends_in_seven(desk: Desk) -> None:
    desk.run(asking("gpt-4.1"))
    told = replay(desk, "last", "--max-usd", "0.000000001")
    assert told.returncode == 7, told.stderr
    assert len(desk.accepted()) == 1


def test_a_request_that_is_not_kept_ends_in_three(desk: Desk) -> None:
    config = Path(desk.config)
    config.write_text(config.read_text().replace("[store]", '[store]\nkeep_bodies = "none"'))
    desk.run(asking("gpt-4.1"))
    told = replay(desk, "last")
    assert told.returncode == 3, told.stderr
    assert "store.keep_bodies" in told.stderr
    assert replay(desk, "rcpt_nothing").returncode == 3


def test_a_new_system_prompt_comes_from_a_file(desk: Desk) -> None:
    desk.run(asking("gpt-4.1"))
    prompt = desk.folder / "prompt.txt"
    prompt.write_text("Answer in one word.")
    told = replay(desk, "last", "--system", str(prompt), "--dry-run", "--json")
    body = json.loads(json.loads(told.stdout)["body"])
    assert body["messages"][0] == {"role": "system", "content": "Answer in one word."}


def test_many_are_replayed_within_a_cap_and_go_on_where_they_were_stopped(desk: Desk) -> None:
    desk.run(asking("gpt-4.1", "gpt-4.1", "gpt-4.1", "gpt-4.1-mini"))
    results, scores = desk.folder / "results.jsonl", desk.folder / "scores.jsonl"
    words = ["--where", "model=gpt-4.1 since=1d", "--model", "openai/gpt-4.1-mini", "--json"]
    kept = ["--out", str(results), "--scores", str(scores)]
    stopped = replay(desk, *words, *kept, "--max-usd", "0.0000001")
    assert stopped.returncode == 7, stopped.stderr
    assert json.loads(stopped.stdout)["replayed"] == 0
    two = replay(desk, *words, *kept, "--sample", "2")
    assert two.returncode == 0, two.stderr
    assert json.loads(two.stdout)["replayed"] == 2
    every = replay(desk, *words, *kept)
    assert every.returncode == 0, every.stderr
    said = json.loads(every.stdout, parse_float=Decimal)
    assert (said["chosen"], said["replayed"]) == (3, 3)
    made = [each for each in desk.receipts() if each["replay_of"] and each["attempts"]]
    assert len(made) == 3  # the two of the sample were not made again
    total = sum(each["execution"]["actual_cost_usd"] for each in made)
    assert said["cost_usd"]["replay"] == total
    assert 0 < said["cost_usd"]["ratio"] < 1
    assert said["agreement"] == 1
    assert len(said["largest_differences"]) == 3
    taken = subprocess.run(
        [*PROGRAM, "eval", "import", "--config", str(desk.config), str(scores), "--json"],
        env=desk.env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout)["added"] == 3


def test_who_is_left_out_of_many_is_told_and_why(desk: Desk) -> None:
    desk.run(asking("gpt-4.1", "gpt-4.1"))
    words = ["--model", "openai/gpt-4.1", "--json"]
    every = replay(desk, "--where", "model=gpt-4.1 since=1d", *words)
    assert every.returncode == 0, every.stderr
    assert "left out" not in every.stderr
    again = replay(
        desk, "--where", "model=gpt-4.1 since=1d", *words, "--out", str(desk.folder / "again.jsonl")
    )
    assert "2 of 4 are replays themselves" in again.stderr
    assert "no body" not in again.stderr
    nobody = replay(desk, "--where", "model=none since=1d", *words)
    assert "Nothing to replay" in nobody.stderr


def test_what_cannot_be_a_condition_is_told_with_those_that_can(desk: Desk) -> None:
    desk.run(asking("gpt-4.1"))
    told = replay(desk, "--where", "colour=red")
    assert told.returncode == 2
    assert "category" in told.stderr
    assert replay(desk).returncode == 2
