"""Evidence by way of the sidecar: checked, written, and known to its decisions at once."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend.quality import CATEGORIES
from modelspend.simulator import Simulator
from tests.fakes.sidecar import Sidecar, sidecar_for

ROW = {"model": "m", "category": "code", "score": 0.9, "n": 50}


async def post(sidecar: Sidecar, path: str, body: Any) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {sidecar.token}"}
    status, _, told = await sidecar.post(f"/v1/evals/{path}", body, headers=headers)
    return status, orjson.loads(told)


async def test_new_evidence_is_read_by_the_next_decision(sidecar: Sidecar) -> None:
    assert sidecar.gateway.router.scores.bound("code", "m") is None
    status, told = await post(sidecar, "evidence", {"evidence": [ROW]})
    assert (status, told) == (200, {"added": 1, "known": 0, "promotions": []})
    assert 0.8 < sidecar.gateway.router.scores.bound("code", "m", "sim") < 0.9
    better = {**ROW, "model": "n", "score": 0.99, "n": 500}
    _, told = await post(sidecar, "evidence", {"evidence": [ROW, better]})
    assert (told["added"], told["known"]) == (1, 1)
    assert [each["model"] for each in told["promotions"]] == ["n"]
    (event,) = await sidecar.store.events.after(0)
    assert (event.kind, dict(event.data)) == ("model.promoted", told["promotions"][0])


async def test_decisions_follow_the_evidence_of_a_provider_and_of_a_bare_name(
    tmp_path: Path, simulator: Simulator
) -> None:
    tiers = {key: ["sim/one", "sim/two"] for key in ("simple", "standard", "deep_reasoning")}
    async with sidecar_for(tmp_path, simulator.url, profiles={"default": tiers}) as sidecar:

        async def chosen(said: str) -> str:
            body = {"model": "auto", "messages": [{"role": "user", "content": said}]}
            _, headers, _ = await sidecar.post("/v1/chat/completions", body)
            return str(headers["x-modelspend-model"])

        async def measured(**means: float) -> None:
            rows = [
                {"model": model.replace("_", "/"), "category": category, "score": mean, "n": 400}
                for model, mean in means.items()
                for category in CATEGORIES
            ]
            assert (await post(sidecar, "evidence", {"evidence": rows}))[0] == 200

        assert await chosen("Hello!") == "one", "without evidence the profile's order decides"
        await measured(one=0.5, two=0.9)
        assert await chosen("Good morning!") == "two"
        await measured(sim_one=0.99)
        assert await chosen("Good night!") == "one", "what was measured at the provider goes first"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "evidence"),
        ({"evidence": [ROW, {"model": "m"}]}, "evidence.1.category"),
        ({"evidence": [{**ROW, "score": 2}]}, "evidence.0"),
        ({"evidence": [{**ROW, "category": "maths"}]}, "evidence.0"),
        ({"evidence": [], "more": 1}, "more"),
        (b"nope", "body"),
    ],
)
async def test_what_is_no_evidence_is_refused_whole(
    sidecar: Sidecar, body: Any, place: str
) -> None:
    status, told = await post(sidecar, "evidence", body)
    assert status == 400
    assert told["detail"].startswith(f"{place}: "), told
    assert await sidecar.store.quality.posteriors() == {}


async def test_a_result_is_durable_once_it_is_answered(sidecar: Sidecar) -> None:
    said = {"item_key": "k", "model": "m", "suite": "s", "item": "i", "category": "code"}
    status, told = await post(
        sidecar, "results", {**said, "outcome": "answered", "score": 1.0, "at_ms": 5}
    )
    assert (status, told) == (200, {"kept": "k"})
    (kept,) = await sidecar.store.quality.results(["k"])
    assert (kept.score, kept.at_ms) == (1.0, 5)
    status, told = await post(sidecar, "results", {**said, "outcome": "answered"})
    assert status == 400
    assert "an answered item has a score" in told["detail"]
