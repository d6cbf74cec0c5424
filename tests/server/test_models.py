"""`GET /v1/models` and knocking."""

from pathlib import Path

from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for


async def listed(sidecar: Sidecar, path: str = "/v1/models") -> list[tuple[str, str]]:
    async with sidecar.client.get(sidecar.url + path) as answer:
        assert answer.status == 200
        return [(row["owned_by"], row["id"]) for row in (await answer.json())["data"]]


async def test_models_are_the_union_of_what_is_configured_and_what_providers_list(
    tmp_path: Path, simulator: Simulator
) -> None:
    local = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ["openai.chat"],
        "models": ["tuned-1"],
    }
    async with sidecar_for(tmp_path, simulator.url, providers={"local": local}) as sidecar:
        every = await listed(sidecar)
        assert ("local", "tuned-1") in every
        assert ("sim", "sim-ok") in every
        assert len(every) == len(set(every))
        assert every == await listed(sidecar, "/models") == await listed(sidecar, "/v1beta/models")


async def test_a_provider_that_lists_nothing_leaves_its_configured_models(tmp_path: Path) -> None:
    dead = {
        "base_url": "http://127.0.0.1:9/v1",
        "dialects": ["openai.chat"],
        "models": ["tuned-1"],
    }
    async with sidecar_for(tmp_path, "http://127.0.0.1:9", providers={"dead": dead}) as sidecar:
        assert await listed(sidecar) == [("dead", "tuned-1")]


async def test_a_model_that_nobody_lists_is_not_found_in_the_callers_dialect(
    sidecar: Sidecar,
) -> None:
    async with sidecar.client.get(sidecar.url + "/v1/models/nope") as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "unknown_model"


async def test_agents_may_knock(sidecar: Sidecar) -> None:
    async with sidecar.client.head(sidecar.url + "/") as answer:
        assert answer.status == 200
