"""`/v1/drill`: asked for, seen, ended, written down."""

from typing import Any

import orjson
import pytest

from modelspend.receipt import Delivery
from tests.fakes.sidecar import Sidecar
from tests.server.test_control import ask, call


async def begin(sidecar: Sidecar, **asked: Any) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {sidecar.token}"}
    body = {"fault": "outage", "provider": "sim", "for_s": 60} | asked
    status, _, said = await sidecar.post("/v1/drill", body, headers=headers)
    return status, orjson.loads(said)


async def told(sidecar: Sidecar) -> list[Any]:
    await sidecar.store.circuits.obeyed([])
    return [one for one in await sidecar.store.events.after(0) if one.kind.startswith("drill.")]


async def test_a_drill_is_begun_seen_and_ended(sidecar: Sidecar) -> None:
    await call(sidecar)
    status, drill = await begin(sidecar)
    assert status == 200
    assert (drill["fault"], drill["provider"]) == ("outage", "sim")
    assert drill["ends_at"] > drill["started_at"]
    _, _, listed = await ask(sidecar, "/v1/drill")
    assert listed == {"items": [drill]}
    _, _, status_told = await ask(sidecar, "/v1/status")
    assert status_told["drills"] == [drill]
    receipt = await sidecar.store.receipts.get(await call(sidecar))
    (one,) = receipt.receipt.attempts
    assert (one.drill, one.delivery) == ("outage", Delivery.NOT_SENT)
    _, _, shown = await ask(sidecar, f"/v1/receipts/{receipt.receipt.receipt_id}")
    assert shown["attempts"][0]["drill"] == "outage"
    status, _, ended = await ask(sidecar, f"/v1/drill/{drill['drill_id']}", method="DELETE")
    assert (status, ended["ended"]) == (200, True)
    status, _, _ = await ask(sidecar, f"/v1/drill/{drill['drill_id']}", method="DELETE")
    assert status == 404
    receipt = await sidecar.store.receipts.get(await call(sidecar))
    assert receipt.receipt.attempts[0].drill is None
    begun, over = await told(sidecar)
    assert begun.data["drill_id"] == over.data["drill_id"] == drill["drill_id"]
    assert (over.data["why"], over.data["attempts"]) == ("stopped", 1)


async def test_one_provider_has_one_drill_and_another_its_own(sidecar: Sidecar) -> None:
    assert (await begin(sidecar))[0] == 200
    status, said = await begin(sidecar, fault="slow")
    assert (status, said["title"]) == (409, "drill_under_way")
    assert "outage" in said["detail"]


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"provider": "nobody"}, 404, "Providers: "),
        ({"fault": "flood"}, 400, "fault"),
        ({"for_s": 0}, 400, "for_s"),
        ({"for_s": 3601}, 400, "for_s"),
        ({"at": -1}, 400, "at"),
        ({"forever": True}, 400, "forever"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    sidecar: Sidecar, asked: dict[str, Any], status: int, says: str
) -> None:
    found, said = await begin(sidecar, **asked)
    assert found == status
    assert says in f"{said['detail']} {said['hint']}"
    assert await told(sidecar) == []


async def test_slow_is_slow_enough_to_be_noticed_unless_said_otherwise(sidecar: Sidecar) -> None:
    _, drill = await begin(sidecar, fault="slow")
    assert drill["delay_s"] > sidecar.app_settings.circuits.slow_s


async def test_a_drill_needs_the_local_token(sidecar: Sidecar) -> None:
    for method, path in (("GET", "/v1/drill"), ("POST", "/v1/drill"), ("DELETE", "/v1/drill/x")):
        status, _, _ = await ask(sidecar, path, method=method, token="wrong")
        assert status == 401
