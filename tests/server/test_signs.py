"""What is told when it changes: how providers are, who was turned away, whom privacy ruled out."""

from pathlib import Path
from typing import Any

from modelspend.health import Sample, standing
from modelspend.server.keys import LIVE
from modelspend.server.signs import Signs
from modelspend.simulator import Simulator
from tests.fakes.sidecar import PRICE, Sidecar, sidecar_for

HELLO = [{"role": "user", "content": "Hello there"}]


def signs(sidecar: Sidecar) -> Signs:
    return Signs(sidecar.app[LIVE], sidecar.store)


async def told(sidecar: Sidecar, kind: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    """(level, tenant, data) of every event of a kind."""
    await sidecar.store.budgets.fire(())  # behind all that is being written
    found = await sidecar.store.events.after(0, limit=1000)
    return [(one.level, one.tenant, dict(one.data)) for one in found if one.kind == kind]


async def ask(sidecar: Sidecar, model: str, times: int = 1, **headers: str) -> None:
    for _ in range(times):
        body = {"model": model, "messages": HELLO}
        url = f"{sidecar.url}/v1/chat/completions"
        async with sidecar.client.post(url, json=body, headers=headers) as answer:
            await answer.read()
    await sidecar.receipts()


async def test_a_provider_that_fails_and_recovers_is_told_of_once_each(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        looking = signs(sidecar)
        await ask(sidecar, "sim/sim-500", 12)
        for _ in range(2):
            await looking.look_at_providers()
        await ask(sidecar, "sim/sim-ok", 24)
        await looking.look_at_providers()
        await ask(sidecar, "sim/sim-ok", 1200 - 36)
        await looking.look_at_providers()
        moves = [
            (level, data["provider"], data["was"], data["standing"], data["calls"])
            for level, _, data in await told(sidecar, "provider.health")
        ]
    assert moves == [
        ("critical", "sim", "ok", "down", 12),
        ("warn", "sim", "down", "degraded", 36),
        ("info", "sim", "degraded", "ok", 1200),
    ]


def test_a_few_attempts_say_nothing_of_a_provider() -> None:
    few = Sample(0, "sim", "")
    for _ in range(9):
        few.add("server_error", 10.0, None)
    assert standing(few, "ok") == "ok"
    few.add("server_error", 10.0, None)
    assert standing(few, "ok") == "down"
    assert standing(Sample(0, "sim", ""), "degraded") == "degraded"


async def test_who_was_turned_away_at_the_door_is_told_with_how_often(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        looking = signs(sidecar)
        await looking.look_at_the_door()
        await ask(sidecar, "sim/sim-ok", 3, Host="evil.example")
        await ask(sidecar, "sim/sim-ok", 2, Origin="http://evil.example")
        await ask(sidecar, "nobody/none", 2)
        async with sidecar.client.get(f"{sidecar.url}/v1/status") as answer:
            assert answer.status == 401
        for _ in range(2):
            await looking.look_at_the_door()
        found = await told(sidecar, "audit.anomaly")
    assert {(level, data["code"], data["count"]) for level, _, data in found} == {
        ("warn", "wrong_host", 3),
        ("warn", "forbidden", 2),
        ("warn", "not_authorised", 1),
    }
    assert len(found) == 3


async def test_what_privacy_ruled_out_is_counted_by_tenant(
    tmp_path: Path, simulator: Simulator
) -> None:
    tiers = {tier: ["sim/sim-ok", "shy/sim-ok"] for tier in ("simple", "standard")}
    shy = {"base_url": f"{simulator.url}/v1", "dialects": ["openai.chat"], "price": PRICE}
    profile = {**tiers, "deep_reasoning": tiers["simple"], "constraints": {"no_training": True}}
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"shy": {**shy, "trains": False}},
        profiles={"quiet": profile},
        tenants={"acme": {"keys": ["ACME"]}},
        env={"ACME": "ms-acme-key-1"},
    ) as sidecar:
        looking = signs(sidecar)
        await ask(sidecar, "auto:quiet", 3, Authorization="Bearer ms-acme-key-1")
        assert {one.tenant for one in await sidecar.receipts()} == {"acme"}
        for _ in range(2):
            await looking.look_at_privacy()
        ((level, tenant, data),) = await told(sidecar, "privacy.dropped")
    assert (level, tenant, data["candidates"]) == ("info", "acme", 3)
    assert len(data["day"]) == 10
