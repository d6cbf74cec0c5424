"""`status`, `doctor` and `tail` beside a running sidecar, and without one."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelspend.cli import client
from modelspend.cli.checks import CHECKS
from modelspend.errors import DaemonUnreachable, NotAuthorised, ReceiptNotFound
from modelspend.events import RECEIPT
from modelspend.server.events import FEED
from tests.cli.conftest import Cli, receipt, write
from tests.exporters.emitting import until
from tests.fakes.sidecar import Sidecar

ROOT = Path(__file__).parents[2]


async def run(*words: str, ledger: str, **env: str) -> tuple[int, str, str]:
    """A command in a process of its own, beside the sidecar of this one."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODELSPEND_") and not name.endswith("_BASE_URL")
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "modelspend",
        *words,
        cwd=ROOT,
        env={**clean, "MODELSPEND_STORE__PATH": ledger, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await running.communicate()
    return running.returncode or 0, out.decode(), err.decode()


async def chat(sidecar: Sidecar, model: str = "sim/gpt-4.1") -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    status, _, _ = await sidecar.post("/v1/chat/completions", body)
    assert status == 200


async def test_status_tells_what_the_contract_says(sidecar: Sidecar) -> None:
    ledger = str(sidecar.store.path)
    code, out, _ = await run("status", "--json", ledger=ledger)
    said = json.loads(out)
    assert code == 0
    assert {
        "url", "pid", "version", "config", "ledger", "token_file", "mode", "uptime_s", "in_flight",
    } <= said.keys()  # fmt: skip
    assert (said["url"], said["pid"], said["ledger"]) == (sidecar.url, os.getpid(), ledger)
    code, out, _ = await run("status", ledger=ledger)
    assert f"url\t{sidecar.url}" in out.splitlines()


def test_without_a_sidecar_status_is_exit_5_and_says_how_to_start_one(
    cli: Cli, ledger: Path
) -> None:
    for _ in ("with a ledger", "without one"):
        done = cli("status", "--json")
        assert (done.exit_code, done.stdout) == (5, "")
        assert json.loads(done.stderr)["error"]["code"] == "daemon_unreachable"
        assert "modelspend serve" in done.stderr
        ledger.unlink(missing_ok=True)


async def test_the_client_reads_a_receipt_with_exact_money_and_raises_what_it_was_told(
    sidecar: Sidecar,
) -> None:
    await chat(sidecar)
    found = await asyncio.to_thread(client.find, Path(sidecar.store.path))
    (one,) = await asyncio.to_thread(found.get, "/v1/receipts")
    (stored,) = await sidecar.stored()
    assert one["receipt_id"] == stored.receipt.receipt_id
    assert (
        sum(line["cost_usd"] for line in one["cost"]["lines"])
        == one["execution"]["actual_cost_usd"]
    )
    with pytest.raises(ReceiptNotFound):
        await asyncio.to_thread(found.get, "/v1/receipts/rcpt_none")
    assert sidecar.token not in repr(found)


async def test_a_wrong_or_missing_token_is_refused_in_words(sidecar: Sidecar) -> None:
    wrong = client.Daemon(sidecar.url, 1, "wrong")
    with pytest.raises(NotAuthorised):
        await asyncio.to_thread(wrong.get, "/v1/status")
    (Path(sidecar.store.path).parent / "token").unlink()
    code, _, err = await run("status", ledger=str(sidecar.store.path))
    assert code == 4
    assert "token" in err


async def test_what_answers_but_is_no_sidecar_is_not_believed(simulator: Any) -> None:
    stranger = client.Daemon(simulator.url, 1, "t")
    with pytest.raises(DaemonUnreachable, match="no modelspend"):
        await asyncio.to_thread(stranger.get, "/v1/status")
    gone = client.Daemon("http://127.0.0.1:1", 7, "t")
    with pytest.raises(DaemonUnreachable, match="process 7"):
        gone.get("/v1/status")


async def test_tail_shows_a_receipt_as_soon_as_it_is_written_by_another_process(
    sidecar: Sidecar,
) -> None:
    await chat(sidecar)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelspend", "tail", "--json",
        cwd=ROOT,
        env={**os.environ, "MODELSPEND_STORE__PATH": str(sidecar.store.path)},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout is not None
    first = json.loads(await running.stdout.readline())
    feed = sidecar.app[FEED]

    async def listens() -> bool:
        return [one.kinds for one in feed._clients.values()] == [(RECEIPT,)]

    await until(listens)
    shown = []
    for n in range(4):
        if n == 2:
            feed.close()  # as at the end of a sidecar: it goes on in the ledger
        await chat(sidecar, f"sim/model-{n}")
        shown.append(json.loads(await running.stdout.readline()))
    assert not feed._clients
    running.send_signal(signal.SIGINT)
    assert await running.wait() == 130
    ids = [one.receipt.receipt_id for one in await sidecar.stored()]
    assert [one["receipt_id"] for one in (first, *shown)] == ids


def findings(text: str) -> dict[str, dict[str, Any]]:
    said = json.loads(text)
    assert [check["id"] for check in said["checks"]] == list(CHECKS)
    assert said["ok"] is all(check["status"] != "fail" for check in said["checks"])
    return {check["id"]: check for check in said["checks"]}


async def test_doctor_beside_a_running_sidecar_warns_of_apps_that_go_past_it(
    sidecar: Sidecar,
) -> None:
    ledger = str(sidecar.store.path)
    code, out, err = await run("doctor", "--json", ledger=ledger)
    checks = findings(out)
    assert code == 0, err
    assert checks["D05"]["status"] == checks["D06"]["status"] == "ok"
    assert checks["D17"]["status"] == "warn"
    _, out, _ = await run("doctor", "--json", ledger=ledger, OPENAI_BASE_URL=f"{sidecar.url}/v1")
    assert findings(out)["D17"]["status"] == "ok"
    _, out, _ = await run(
        "doctor", "--json", ledger=ledger, OPENAI_BASE_URL="https://api.openai.com/v1"
    )
    past = findings(out)["D17"]
    assert (past["status"], past["found"].partition(" ")[0]) == ("warn", "OPENAI_BASE_URL")


def test_doctor_on_a_fresh_machine_finds_nothing_broken(cli: Cli) -> None:
    done = cli("doctor", "--json", env={"MODELSPEND_SERVER__PORT": "0"})
    checks = findings(done.stdout)
    assert done.exit_code == 0
    assert checks["D03"]["status"] == "warn"
    assert {check["status"] for check in checks.values()} == {"ok", "warn"}
    for check in checks.values():
        assert check["status"] == "ok" or check["next"], check


def test_doctor_names_keys_and_where_settings_came_from_but_no_secret(
    cli: Cli, ledger: Path
) -> None:
    done = cli(
        "doctor", "--json", env={"OPENAI_API_KEY": "sk-canary", "MODELSPEND_SERVER__PORT": "0"}
    )
    checks = findings(done.stdout)
    assert "OPENAI_API_KEY (openai)" in checks["D03"]["found"]
    assert "server.port (MODELSPEND_SERVER__PORT)" in checks["D02"]["found"]
    assert "canary" not in done.output


def test_doctor_fails_with_exit_6_when_the_configuration_is_wrong(
    cli: Cli, ledger: Path, home: Path
) -> None:
    file = home / "c.toml"
    file.write_text("[server]\nprot = 1\n[tenants.a]\nkeys = ['NOT_SET']\n")
    done = cli("doctor", "--json", "--config", str(file))
    assert done.exit_code == 6
    assert f"{file}:2: server.prot" in findings(done.stdout)["D01"]["found"]
    file.write_text("[tenants.a]\nkeys = ['NOT_SET']\n")
    done = cli("doctor", "--config", str(file))
    assert done.exit_code == 6
    assert "D04 tenant keys, by name" in done.stderr


def test_doctor_finds_a_taken_port(cli: Cli, ledger: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = cli("doctor", "--json", env={"MODELSPEND_SERVER__PORT": port})
    assert done.exit_code == 6
    assert findings(done.stdout)["D06"]["status"] == "fail"


def test_doctor_warns_of_files_that_others_may_read_and_says_how_to_close_them(
    cli: Cli, ledger: Path
) -> None:
    env = {"MODELSPEND_SERVER__PORT": "0"}
    assert findings(cli("doctor", "--json", env=env).stdout)["D11"]["status"] == "ok"
    ledger.chmod(0o644)
    ledger.parent.chmod(0o755)
    found = findings(cli("doctor", "--json", env=env).stdout)["D11"]
    assert found["status"] == "warn"
    subprocess.run(found["next"], shell=True, check=True)
    assert findings(cli("doctor", "--json", env=env).stdout)["D11"]["status"] == "ok"


def test_doctor_finds_a_damaged_ledger_and_an_edited_receipt(cli: Cli, ledger: Path) -> None:
    import sqlite3

    env = {"MODELSPEND_SERVER__PORT": "0"}
    with sqlite3.connect(ledger) as conn:
        conn.execute("UPDATE receipts SET cost_pico = 1 WHERE seq = 1")
    conn.close()
    assert cli("doctor", env=env).exit_code == 0  # a quick look reads pages, not receipts
    done = cli("doctor", "--full", "--json", env=env)
    assert done.exit_code == 6
    assert findings(done.stdout)["D07"]["status"] == "fail"

    ledger.write_bytes(ledger.read_bytes()[:5000] + b"\xff" * 9000)
    done = cli("doctor", "--json", env=env)
    assert done.exit_code == 6
    assert findings(done.stdout)["D07"]["status"] == "fail"


async def test_doctor_warns_when_the_newest_receipt_is_from_the_future(
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    one = receipt(1)
    await write(tmp_path / "l.db", replace(one, created_at_ms=4_000_000_000_000))
    _, out, _ = await run(
        "doctor", "--json", ledger=str(tmp_path / "l.db"), MODELSPEND_SERVER__PORT="0"
    )
    assert findings(out)["D13"]["status"] == "warn"
