"""`GET /v1/reports/forecast` and `POST /v1/forecast/scenario`: the very JSON of the command."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend.simulator import Simulator
from tests.days_of_spend import write_days
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.server.test_reports import get

USD = 10**12


async def test_a_forecast_tells_of_the_file_s_budgets_by_itself(
    tmp_path: Path, simulator: Simulator
) -> None:
    write_days(tmp_path / "ledger.db", time.time_ns() // 10**6, {"acme": [10 * USD] * 30})
    caps = {"everything": {"scope": "process", "window": "total", "cap_usd": 320}}
    async with sidecar_for(tmp_path, simulator.url, budgets=caps) as sidecar:
        status, told = await get(sidecar, "/v1/reports/forecast?horizon=30")
        assert status == 200, told
        (budget,) = told["budgets"]
        assert (budget["spent_usd"], budget["cap_usd"]) == (300, 320)
        assert budget["outlook"]["unspent_usd"] == 20
        assert budget["outlook"]["reached_on"] is not None
        assert told["horizons"][0]["total"]["cost_usd"] == 300
        status, told = await get(sidecar, "/v1/reports/forecast?horizon=30&tenant=acme")
        assert (status, told["budgets"]) == (200, [])


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),  # nothing has been spent yet
        ("?horizon=0", 400),
        ("?horizon=91", 400),
        ("?horizon=-1", 400),
        ("?by=moon", 400),
        ("?budget=lots", 400),
        ("?colour=red", 400),
    ],
)
async def test_a_forecast_that_cannot_be_made_is_refused(
    sidecar: Sidecar, query: str, status: int
) -> None:
    found, told = await get(sidecar, f"/v1/reports/forecast{query}")
    assert (found, told["status"]) == (status, status)
    assert told["detail"]


async def post(sidecar: Sidecar, body: Any) -> tuple[int, Any]:
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {"authorization": f"Bearer {sidecar.token}", "content-type": "application/json"}
    url = f"{sidecar.url}/v1/forecast/scenario"
    async with sidecar.client.post(url, data=sent, headers=headers) as answer:
        return answer.status, orjson.loads(await answer.read())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"usage_growth_pct": NaN}',
        {"usage_growth_pct": "NaN"},
        {"usage_growth_pct": "Infinity"},
        {"usage_growth_pct": 1e308},
        {"cache_hit_rate_delta": 2},
        {"routing_shift_deep_pct": -1},
        {"horizon_days": 0},
        {"horizon_days": 91},
        {"model_mix": {"a": {"b": 60, "c": 60}}},
        {"model_mix": {"a": {"b": "NaN"}}},
        {"model_mix": [1]},
        {"colour": "red"},
    ],
)
async def test_a_scenario_that_no_traffic_can_do_is_refused(sidecar: Sidecar, body: Any) -> None:
    status, told = await post(sidecar, body)
    assert status == 400, told


async def test_a_scenario_s_figures_recompute_from_its_figures(
    tmp_path: Path, simulator: Simulator
) -> None:
    write_days(tmp_path / "ledger.db", time.time_ns() // 10**6, {"acme": [10 * USD] * 30})
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        status, told = await post(sidecar, {"usage_growth_pct": 10, "horizon_days": 60})
    assert status == 200, told
    assert (told["base_daily_cost_usd"], told["adjusted_daily_cost_usd"]) == (10, 11)
    assert told["savings_vs_base_usd"] == -60
    assert told["savings_by_mechanism"]["growth_usd"] == -60
    assert sum(told["savings_by_mechanism"].values()) == -60
    assert told["projection"]["base"]["total"]["cost_usd"] == 600
    assert told["projection"]["adjusted"]["cost_usd"] == 660
