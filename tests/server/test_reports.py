"""`GET /v1/reports/{name}`: the very JSON of the command, behind the token."""

import json
from decimal import Decimal
from typing import Any

import pytest

from modelspend.reports import REPORTS
from tests.fakes.sidecar import Sidecar
from tests.gateway.asking import question


async def get(sidecar: Sidecar, path: str, token: str | None = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token or sidecar.token}"}
    async with sidecar.client.get(sidecar.url + path, headers=headers) as answer:
        return answer.status, json.loads(await answer.read(), parse_float=Decimal)


async def test_every_report_is_served(sidecar: Sidecar) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False)
    for tenant in ("a", "b", "a"):
        await sidecar.post(path, body, headers={"x-modelspend-tenant": tenant})
    receipts = await sidecar.receipts()
    for name, _ in REPORTS:
        since = "" if name == "alerts" else "since=1h&"
        status, report = await get(sidecar, f"/v1/reports/{name}?{since}tenant=a")
        assert status == 200, report
        assert report["report"] == name
        assert report["rows"]
    status, report = await get(sidecar, "/v1/reports/spend?by=tenant")
    costs = {row["tenant"]: row["cost_usd"] for row in report["rows"]}
    mine = [r.execution.actual_cost_pico for r in receipts if r.tenant == "a"]
    assert costs["a"] == Decimal(sum(cost for cost in mine if cost is not None)) / 10**12


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/reports/nothing", 404),
        ("/v1/reports/spend?by=moon", 400),
        ("/v1/reports/spend?colour=red", 400),
        ("/v1/reports/spend?since=soon", 400),
        ("/v1/reports/spend?limit=0", 400),
        ("/v1/reports/spend?min-cost=-1", 400),
        ("/v1/reports/spend?min-latency=x", 400),
        ("/v1/reports/latency?failed=model", 400),
        ("/v1/reports/latency?failed=moon=x", 400),
    ],
)
async def test_what_cannot_be_asked_is_refused(sidecar: Sidecar, path: str, status: int) -> None:
    found, told = await get(sidecar, path)
    assert (found, told["status"]) == (status, status)


async def test_reports_need_the_token(sidecar: Sidecar) -> None:
    status, _ = await get(sidecar, "/v1/reports/spend", token="wrong")
    assert status == 401
