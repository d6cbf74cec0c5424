"""A sink that is taken out or renamed: nothing of it is lost or kept in silence."""

import asyncio
import logging
import sqlite3
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from modelspend import tasks
from modelspend.errors import LedgerUnavailable
from modelspend.server.keys import RELOAD
from modelspend.simulator import Simulator
from tests.exporters.emitting import until
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.fakes.sink import Far, far_end, status
from tests.server.test_control import ask, call
from tests.server.test_metrics import scraped
from tests.store.synthetic import Traffic
from tests.store.test_trouble import _fill, _give_room, _limit, _until_healthy


def hook(far: Far, **more: Any) -> dict[str, Any]:
    types = ["receipt.created"]
    return {"url": far.url, "types": types, "allow_private": True, "retry_s": [0.01] * 3, **more}


@asynccontextmanager
async def with_webhooks(
    folder: Path, simulator: Simulator, **hooks: dict[str, Any]
) -> AsyncIterator[Sidecar]:
    async with sidecar_for(folder, simulator.url, webhooks=hooks) as sidecar:
        yield sidecar


async def reloaded(sidecar: Sidecar, folder: Path, **hooks: dict[str, Any]) -> None:
    """The configuration with these webhooks alone, and read again."""
    file = folder / "config.toml"
    tree = tomllib.loads(file.read_text())
    file.write_text(tomli_w.dumps({**tree, "webhooks": hooks}))
    await sidecar.app[RELOAD]()


async def left_behind(sidecar: Sidecar) -> list[str]:
    _, _, told = await ask(sidecar, "/v1/status")
    assert not set(told["sinks_left_behind"]) & {one["name"] for one in told["sinks"]}
    return list(told["sinks_left_behind"])


async def warned(caplog: pytest.LogCaptureFixture, text: str) -> str:
    """The one line about what was left behind, once it is there."""
    found: list[str] = []

    async def there() -> bool:
        found[:] = [one.getMessage() for one in caplog.records if text in one.getMessage()]
        return bool(found)

    await until(there)
    (only,) = found
    return only


async def forget(sidecar: Sidecar, name: str) -> tuple[int, Any]:
    code, _, told = await ask(sidecar, f"/v1/sinks?name={name}", method="DELETE")
    return code, told


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "ledger.db")) as conn:
        return conn.execute(query).fetchall()


async def test_a_start_says_who_was_left_behind_and_a_section_that_is_back_goes_on(
    tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with far_end() as far:
        far.answer = "stall"
        async with with_webhooks(tmp_path, simulator, ops=hook(far)) as sidecar:
            first = await call(sidecar)
            await far.until(1)
        with caplog.at_level(logging.WARNING, "modelspend.sinks"):
            async with with_webhooks(tmp_path, simulator, renamed=hook(far)) as sidecar:
                said = await warned(caplog, "nothing asks for it any more")
                second = await call(sidecar)
                assert await left_behind(sidecar) == ["webhook:ops"]
                _, found = await scraped(sidecar)
                sinks = {dict(labels).get("sink") for _, labels in found}
                assert sinks == {None, "webhook:renamed"}
        assert said == (
            "sink webhook:ops: nothing asks for it any more; 1 wait for it. To go on, put"
            " [webhooks.ops] back; to let it go: modelspend sinks forget webhook:ops --yes"
        )
        caplog.clear()
        far.answer = status("200 OK")
        far.got.clear()
        async with with_webhooks(tmp_path, simulator, ops=hook(far)) as sidecar:
            assert await left_behind(sidecar) == ["webhook:renamed"]

            async def both() -> bool:
                (one,) = (await ask(sidecar, "/v1/status"))[2]["sinks"]
                return bool(one["sent"] == 2 and not one["queued"])

            await until(both)
        assert [first in str(body) or second in str(body) for _, body in far.got] == [True, True]


async def test_a_reload_says_it_too_and_what_is_off_or_asked_for_is_not_left_behind(
    tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with far_end() as far:
        both = {"ops": hook(far), "acme": hook(far)}
        async with with_webhooks(tmp_path, simulator, **both) as sidecar:
            assert await left_behind(sidecar) == []
            await reloaded(sidecar, tmp_path, ops=hook(far, enabled=False), acme=hook(far))
            assert await left_behind(sidecar) == []
            await tasks_of_warnings()
            assert caplog.records == []
            with caplog.at_level(logging.WARNING, "modelspend.sinks"):
                await reloaded(sidecar, tmp_path, ops=hook(far))
                assert "webhook:acme" in await warned(caplog, "nothing asks for it any more")
            assert await left_behind(sidecar) == ["webhook:acme"]


async def tasks_of_warnings() -> None:
    while any("left behind" in task.get_name() for task in tasks._running):
        await asyncio.sleep(0.01)


async def test_what_a_variable_alone_asked_for_is_told_of_when_the_variable_is_gone(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with far_end() as far:
        otlp = {"allow_private": True}
        env = {"OTLP_ENDPOINT": far.url}
        async with sidecar_for(tmp_path, simulator.url, env=env, otlp=otlp) as sidecar:
            assert await left_behind(sidecar) == []
        async with sidecar_for(tmp_path, simulator.url, otlp=otlp) as sidecar:
            assert await left_behind(sidecar) == ["otlp"]
            assert (await forget(sidecar, "otlp"))[0] == 200
        off = {**otlp, "enabled": False}
        async with sidecar_for(tmp_path, simulator.url, env=env, otlp=otlp):
            pass
        async with sidecar_for(tmp_path, simulator.url, otlp=off) as sidecar:
            assert await left_behind(sidecar) == []


async def test_one_is_let_go_with_what_waits_for_it_and_that_is_told(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with far_end() as far:
        far.answer = status("500 No")
        dying = hook(far, retry_s=[0.01])
        async with with_webhooks(tmp_path, simulator, ops=dying) as sidecar:
            await call(sidecar)

            async def dead() -> bool:
                (one,) = (await ask(sidecar, "/v1/status"))[2]["sinks"]
                return bool(one["dropped"] == 1)

            await until(dead)
            await reloaded(sidecar, tmp_path, ops=hook(far, retry_s=[3600]))
            await call(sidecar)
            await until(waiting(tmp_path, 1))
            code, told = await forget(sidecar, "webhook:ops")
            assert (code, told["title"]) == (409, "sink_in_use")
            assert rows(tmp_path, "SELECT name FROM sinks") == [("webhook:ops",)]

            await reloaded(sidecar, tmp_path)
            await call(sidecar)  # it would have been told of this as well
            code, told = await forget(sidecar, "webhook:ops")
            assert (code, told["queued"], told["dropped"]) == (200, 2, 1)
            assert await left_behind(sidecar) == []
            code, told = await forget(sidecar, "webhook:ops")
            assert (code, told["title"]) == (404, "not_found")
    (event,) = rows(tmp_path, "SELECT data FROM events WHERE kind = 'sink.forgotten'")
    assert '"sink":"webhook:ops"' in event[0]
    assert '"waited":2' in event[0]
    assert rows(tmp_path, "SELECT name FROM sinks") == []
    left = rows(tmp_path, "SELECT status FROM webhook_deliveries")
    assert left == [("dead",)]
    assert len(rows(tmp_path, "SELECT * FROM webhook_dead_letters")) == 1


def waiting(folder: Path, count: int) -> Any:
    async def so_many() -> bool:
        query = "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending' AND attempts > 0"
        return bool(rows(folder, query) == [(count,)])

    return so_many


async def test_a_reload_while_the_ledger_takes_no_writes_changes_nothing_and_says_so(
    tmp_path: Path, simulator: Simulator
) -> None:
    """It would stop the sinks, and could not begin them again."""
    async with (
        far_end() as far,
        with_webhooks(tmp_path, simulator, ops=hook(far)) as sidecar,
    ):
        await _limit(sidecar.store, 1)
        await _fill(sidecar.store, Traffic(seed=3))
        old = sidecar.app_settings
        with pytest.raises(LedgerUnavailable, match="nothing was reloaded"):
            await reloaded(sidecar, tmp_path, ops=hook(far), acme=hook(far))
        assert sidecar.app_settings is old
        _, _, told = await ask(sidecar, "/v1/status")
        assert [one["name"] for one in told["sinks"]] == ["webhook:ops"]
        _give_room(sidecar.store)
        await _until_healthy(sidecar.store)
        await sidecar.app[RELOAD]()
        _, _, told = await ask(sidecar, "/v1/status")
        assert [one["name"] for one in told["sinks"]] == ["webhook:ops", "webhook:acme"]


async def test_sinks_know_of_the_calls_that_are_under_way(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        under_way = sidecar.store.right_of_way.calls
        calls = [tasks.spawn(call(sidecar, model="sim/sim-delay-300"), "call") for _ in range(2)]

        async def both() -> bool:
            return bool(under_way() == 2)

        await until(both)
        await asyncio.gather(*calls)
        assert under_way() == 0
