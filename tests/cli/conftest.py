"""A real ledger with known receipts in it, and the real command line in front of it."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelspend.cli import app
from modelspend.money import Band, Price, price_usage
from modelspend.receipt import (
    Attempt,
    Classification,
    Delivery,
    Execution,
    Receipt,
    RequestInfo,
    Status,
    Usage,
)
from modelspend.store import Bodies, Store
from tests.store.synthetic import intent_of

DAY_MS = 86_400_000
START_MS = 1_793_491_200_000  # 2026-11-01
PRICE = Price(
    provider="openai",
    model="gpt-4.1",
    source="genai-prices 0.2.3",
    bands=(Band(0, {"input_tokens": 2_000_000, "output_tokens": 8_000_000}),),
)

Cli = Callable[..., Result]


def receipt(n: int, *, known: bool = True, **changes: object) -> Receipt:
    """The n-th receipt: n thousand input tokens, on day n of November 2026."""
    at = START_MS + (n - 1) * DAY_MS
    quantities = {"input_tokens": 1000 * n, "output_tokens": 10}
    cost = price_usage(quantities, PRICE if known else None)
    attempt = Attempt(
        n=1,
        provider="openai",
        model_id="gpt-4.1",
        started_at_ms=at,
        status=Status.SUCCESS,
        delivery=Delivery.DONE,
        http_status=200,
        latency_ms=100.0 * n,
        usage=Usage(quantities=quantities, source="provider", raw={"total_tokens": 1000 * n + 10}),
        cost=cost,
        charged_pico=cost.total_pico or 0,
    )
    made = Receipt(
        receipt_id=f"rcpt_01KTEST{n:02d}0000000000000000A"[:31],
        created_at_ms=at,
        tenant="acme",
        workflow="support-bot",
        session_id=f"conv-{n}",
        session_source="header",
        request=RequestInfo(
            dialect="openai.chat",
            path="/v1/chat/completions",
            model="gpt-4.1",
            stream=False,
            sha256="0" * 64,
            size=100,
        ),
        classification=Classification(
            category="chat", confidence=0.9, complexity=0.1, tier="simple", risk_signals={}
        ),
        attempts=(attempt,),
        execution=Execution(
            status=Status.SUCCESS,
            actual_cost_pico=cost.total_pico,
            charged_pico=cost.total_pico or 0,
            actual_latency_ms=100.0 * n,
            ttft_ms=None,
            overhead_ms=0.5,
        ),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def ended(one: Receipt, status: Status) -> Receipt:
    return replace(one, execution=replace(one.execution, status=status))


RECEIPTS = (
    receipt(1),
    receipt(2, tenant="beta", tags={"team": "search", "env": "prod"}),
    receipt(3, known=False, workflow="=cmd|' /C calc'!A0"),
    ended(receipt(4, tenant="beta"), Status.ERROR),
    ended(receipt(5), Status.REFUSED),
    receipt(600 // 100, tenant="red \x1b[31m\ttab", session_id=None, session_source=None),
    ended(receipt(7), Status.TRUNCATED),
)


async def write(path: Path, *receipts: Receipt) -> None:
    store = await Store.open(path)
    try:
        for one in receipts:
            await store.calls.begin(intent_of(one))
            await store.calls.finish(one, Bodies(b"{}", b"{}"), prices=[PRICE])
    finally:
        await store.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger")
    asyncio.run(write(folder / "ledger.db", *RECEIPTS))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, without configuration, keys or ledger."""
    import os

    for name in list(os.environ):
        if name.startswith("MODELSPEND_") or name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    for name, folder in (("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def ledger(home: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The known receipts, in a ledger that every command finds."""
    folder = home / "ledger"
    shutil.copytree(written, folder)
    folder.chmod(0o700)
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(folder / "ledger.db"))
    return folder / "ledger.db"


@pytest.fixture
def cli(home: Path) -> Cli:
    """Runs a command in this process; the result has exit_code, stdout and stderr."""
    runner = CliRunner()

    def run(*words: str, env: dict[str, str] | None = None) -> Result:
        return runner.invoke(app, list(words), env=env)

    return run
