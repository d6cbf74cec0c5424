"""The control plane: the token, what it tells, and a reload that is all or nothing."""

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend.server.app import ROUTES
from modelspend.server.keys import LIVE, RELOAD
from modelspend.simulator import Simulator
from tests.exporters.emitting import until
from tests.fakes.sidecar import Sidecar, sidecar_for

OPEN_TO_ALL = {"/healthz", "/readyz"}


async def ask(
    sidecar: Sidecar, path: str, *, method: str = "GET", token: str | None = ""
) -> tuple[int, str, Any]:
    """(status, content type, JSON) with the right token, another one, or (None) none."""
    key = sidecar.token if token == "" else token
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with sidecar.client.request(method, sidecar.url + path, headers=headers) as answer:
        body = await answer.read()
        kind = answer.content_type
        return answer.status, kind, orjson.loads(body) if "json" in kind else body


async def call(sidecar: Sidecar, model: str = "sim/sim-ok", **headers: str) -> str:
    """One call; the id of its receipt."""
    said = [{"role": "user", "content": "hi"}]
    named = {f"x-modelspend-{name}": value for name, value in headers.items()}
    _, told, _ = await sidecar.post(
        "/v1/chat/completions", {"model": model, "messages": said}, headers=named
    )
    return told["x-modelspend-receipt"]


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_every_control_route_needs_the_local_token(
    sidecar: Sidecar, token: str | None
) -> None:
    routes = [
        (
            method,
            re.sub(r"\{\w+\}", "x", path),
        )
        for method, path, handler in ROUTES
        if "control" in handler.__module__ and path not in OPEN_TO_ALL
    ]
    assert len(routes) >= 4
    for method, path in routes:
        status, kind, told = await ask(sidecar, path, method=method, token=token)
        assert (status, kind) == (401, "application/problem+json"), path
        assert "token" in told["hint"]
        assert sidecar.token not in str(told)


async def test_health_needs_no_token_and_tells_nothing_else(sidecar: Sidecar) -> None:
    assert await ask(sidecar, "/healthz", token=None) == (200, "text/plain", b"ok\n")
    assert await ask(sidecar, "/readyz", token=None) == (200, "text/plain", b"ready\n")


async def test_status_has_the_documented_shape(sidecar: Sidecar) -> None:
    _, _, told = await ask(sidecar, "/v1/status")
    documented = {
        "url", "pid", "version", "config", "ledger", "token_file", "mode", "uptime_s", "in_flight",
    }  # fmt: skip
    assert documented <= told.keys()
    assert told["url"] == sidecar.url
    assert told["mode"] == "observe"
    assert Path(told["token_file"]).stat().st_mode & 0o777 == 0o600


async def test_receipts_are_listed_filtered_and_shown(sidecar: Sidecar) -> None:
    first = await call(sidecar, tenant="acme", workflow="bot", tags="k=v")
    second = await call(sidecar, tenant="nova")
    _, _, every = await ask(sidecar, "/v1/receipts")
    assert [one["receipt_id"] for one in every] == [second, first]
    _, _, mine = await ask(sidecar, "/v1/receipts?tenant=acme")
    assert [one["receipt_id"] for one in mine] == [first]
    assert mine[0]["workflow"] == "bot"
    assert mine[0]["tags"] == {"k": "v"}
    _, _, later = await ask(sidecar, f"/v1/receipts?after={mine[0]['seq']}")
    assert [one["receipt_id"] for one in later] == [second]
    _, _, shown = await ask(sidecar, f"/v1/receipts/{first}")
    assert shown["request"]["body_kept"] is True


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/receipts/rcpt_nope", 404, "receipt_not_found"),
        ("/v1/receipts?limit=many", 400, "usage"),
        ("/v1/receipts?after=-1", 400, "usage"),
        ("/v1/receipts?colour=red", 400, "usage"),
        ("/v1/nothing", 404, "unknown_route"),
    ],
)
async def test_a_wrong_question_gets_a_problem_that_names_it(
    sidecar: Sidecar, path: str, status: int, word: str
) -> None:
    told = await ask(sidecar, path)
    assert (told[0], told[2]["title"]) == (status, word)
    assert told[2]["hint"]


async def test_a_reload_goes_on_to_its_end_when_who_asked_for_it_hangs_up(
    tmp_path: Path, simulator: Simulator
) -> None:
    """Half of one would leave a sink stopped, and nobody would be told."""
    siem = {"local": {"to": str(tmp_path / "siem.jsonl")}}
    async with sidecar_for(tmp_path, simulator.url, siem=siem) as sidecar:
        pump = sidecar.app[LIVE].pump
        for patience_s in (0.0, 0.001, 0.005, 0.02, 0.1):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await sidecar.app[RELOAD]()

            async def all_run() -> bool:
                return [one.name for one in await pump.standings()] == ["siem:local"]

            await until(all_run)
        status, _, _ = await ask(sidecar, "/v1/reload", method="POST")
        assert status == 200
        told = await asyncio.gather(*(ask(sidecar, "/v1/reload", method="POST") for _ in range(3)))
        assert [one[0] for one in told] == [200, 200, 200]
        assert [one.name for one in await pump.standings()] == ["siem:local"]


async def test_a_reload_swaps_the_providers_and_a_bad_file_changes_nothing(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        file = tmp_path / "config.toml"
        good = file.read_text()
        file.write_text(good.replace("providers.sim", "providers.renamed"))
        status, _, _ = await ask(sidecar, "/v1/reload", method="POST")
        assert status == 200
        receipt = await call(sidecar, "renamed/sim-ok")
        _, _, shown = await ask(sidecar, f"/v1/receipts/{receipt}")
        assert shown["decision"]["provider"] == "renamed"

        for bad in ("not toml [", good + "\n[nonsense]\n", good.replace("port = 0", "port = 7")):
            file.write_text(bad)
            status, _, told = await ask(sidecar, "/v1/reload", method="POST")
            assert status == 400, bad
            assert told["title"] == "config_invalid"
        receipt = await call(sidecar, "renamed/sim-ok")
        _, _, shown = await ask(sidecar, f"/v1/receipts/{receipt}")
        assert shown["execution"]["status"] == "success"
