"""Caps before, during and after a call, through a whole sidecar in front of the simulator."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from modelspend import budgets, tasks, windows
from modelspend.budgets import Budget
from modelspend.money import from_usd
from modelspend.receipt import Receipt, Status
from modelspend.server.app import ROUTES
from modelspend.simulator import Simulator
from tests.fakes.sidecar import CUT, PRICE, Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question
from tests.store.conftest import outside

IN, OUT = 1_000_000, 2_000_000
"""Pico-dollars a token of the price of `sim`; writing to a cache costs a quarter more than IN."""


def capped(usd: str | None, scope: str = "process", **more: Any) -> dict[str, Any]:
    cap = {} if usd is None else {"cap_usd": Decimal(usd)}
    return {"scope": scope, "window": "day", **cap, **more}


def short(
    dialect: str, model: str = "sim-ok", *, stream: bool = False
) -> tuple[str, dict[str, Any]]:
    """A question with an output limit of 100."""
    path, body = question(dialect, model, stream=stream)
    match dialect:
        case "gemini.generate":
            body["generationConfig"] = {"maxOutputTokens": 100}
        case "openai.responses":
            body["max_output_tokens"] = 100
        case _:
            body["max_tokens"] = 100
    return path, body


async def usage(sidecar: Sidecar, n: int = 0) -> tuple[int, int]:
    """(spent, held) of a budget, in pico-dollars."""
    one = sidecar.gateway.purse.rules.all[n]
    (found,) = await sidecar.store.budgets.usage([one], sidecar.gateway.now_ms())
    return found.spent_pico, found.held_pico


async def events(sidecar: Sidecar, kind: str) -> list[Any]:
    return [each for each in await sidecar.store.events.after(0, 1000) if each.kind == kind]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_call_that_fits_is_charged_what_it_cost_and_holds_no_more(
    tmp_path: Path, simulator: Simulator, dialect: str, stream: bool
) -> None:
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": capped("1")}) as sidecar:
        status, headers, _ = await sidecar.post(*short(dialect, stream=stream))
        assert status == 200
        receipt = await sidecar.receipt_of(headers)
        assert receipt.execution.charged_pico == receipt.execution.actual_cost_pico
        assert await usage(sidecar) == (receipt.execution.charged_pico, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_call_that_does_not_fit_is_refused_for_good_and_reaches_nobody(
    tmp_path: Path, simulator: Simulator, dialect: str, stream: bool
) -> None:
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": capped("0.0001", zone="Europe/Berlin")}
    ) as sidecar:
        status, headers, said = await sidecar.post(*short(dialect, stream=stream))
        receipt = await sidecar.receipt_of(headers)
        told = await events(sidecar, "budget.refused")
        await sidecar.gateway.purse.tell_refusals(sidecar.gateway.now_ms())
        told = await events(sidecar, "budget.refused")
    assert status == 402
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    for words in (
        b"This sidecar has spent $0 and holds $0 of its daily cap of $0.0001",
        b"begins anew at ",
        b"modelspend budgets set process --window day --zone Europe/Berlin --max-usd USD",
    ):
        assert words in said
    assert not simulator.requests
    assert receipt.execution.status is Status.REFUSED
    assert receipt.attempts == ()
    assert (receipt.execution.actual_cost_pico, receipt.execution.charged_pico) == (0, 0)
    assert [each.data["calls"] for each in told] == [1]


def test_every_billable_route_goes_through_the_one_admission() -> None:
    """Whatever takes POST is a call, which only `chat.carry` serves, or needs the local token."""
    for method, path, handler in ROUTES:
        if method == "POST":
            made_by = handler.__qualname__.partition(".")[0]
            assert made_by in ("served", "guarded"), path
            assert made_by == "served" or path.startswith("/v1/"), path


CALLS = [path for method, path, h in ROUTES if method == "POST" and "served" in h.__qualname__]
BODIES: dict[str, Any] = {
    "completions": {"model": "sim/sim-ok", "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"model": "sim/sim-ok", "input": "hi"},
    "messages": {
        "model": "sim/sim-ok",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "embeddings": {"model": "sim/sim-ok", "input": "hi"},
    "gemini": {"contents": [{"parts": [{"text": "hi"}]}]},
}


@pytest.mark.parametrize("path", CALLS)
async def test_a_blocked_sidecar_answers_no_billable_route(
    tmp_path: Path, simulator: Simulator, path: str
) -> None:
    """Every route of the table is asked; counting tokens alone costs nothing and goes on."""
    tuned = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ["gemini.generate"],
        "models": ["tunedModels/mine"],
        "price": PRICE,
    }
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": capped("0")}, providers={"tuned": tuned}
    ) as sidecar:
        where, _, pattern = path.partition("{rest")
        verbs = ("generateContent", "streamGenerateContent") if pattern else ("",)
        for verb in verbs:
            model = "mine" if "tuned" in where else "sim/sim-ok"
            url = f"{where}{model}:{verb}" if verb else where
            last = "gemini" if verb else where.rpartition("/")[2]
            body = BODIES["messages" if last == "count_tokens" else last]
            status, _, said = await sidecar.post(url, body)
            if last == "count_tokens":
                assert status == 200
            else:
                assert (status, b"is blocked: its cap is $0" in said) == (402, True), url
    assert all("count_tokens" in seen.path for seen in simulator.requests)


async def test_calls_at_once_are_admitted_exactly_as_often_as_they_fit(
    tmp_path: Path, simulator: Simulator
) -> None:
    path, body = short("openai.chat", "sim-delay-20")
    size = len(orjson.dumps(body)) + 512 - len("sim/")
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": capped("0.02")}) as sidecar:
        answers = await asyncio.gather(*(sidecar.post(path, orjson.dumps(body)) for _ in range(60)))
    hold = size * IN * 5 // 4 + 100 * OUT
    assert sorted(status for status, *_ in answers).count(200) == from_usd("0.02") // hold


async def test_an_absent_limit_is_spliced_in_and_the_receipt_says_so(
    tmp_path: Path, simulator: Simulator
) -> None:
    fields = {
        "openai.chat": "max_tokens",
        "openai.responses": "max_output_tokens",
        "gemini.generate": "generationConfig.maxOutputTokens",
    }
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": capped("1", output_limit=77)}
    ) as sidecar:
        for dialect, field in fields.items():
            path, body = question(dialect, "sim-ok", stream=False)
            _, headers, _ = await sidecar.post(path, body)
            receipt = await sidecar.receipt_of(headers)
            assert field in receipt.request.splices
            sent = orjson.loads(simulator.requests[-1].body)
            for name in field.split("."):
                sent = sent[name]
            assert sent == 77
        path, body = question("anthropic.messages", "sim-ok", stream=False)
        _, headers, _ = await sidecar.post(path, body)
        assert "max_tokens" not in (await sidecar.receipt_of(headers)).request.splices


@pytest.mark.parametrize(
    ("path", "body", "sent"),
    [
        ("openai.chat", {"max_tokens": 0}, {"max_tokens": 77}),
        ("openai.chat", {"max_completion_tokens": -1, "max_tokens": 5}, None),
        ("openai.chat", {"max_tokens": None}, {"max_tokens": 77}),
        (
            "gemini.generate",
            {"generationConfig": None},
            {"generationConfig": {"maxOutputTokens": 77}},
        ),
        (
            "gemini.generate",
            {"generation_config": {"max_output_tokens": -5, "topK": 3}},
            {"generation_config": {"max_output_tokens": 77, "topK": 3}},
        ),
        (
            "gemini.generate",
            {"generationConfig": {}},
            {"generationConfig": {"maxOutputTokens": 77}},
        ),
    ],
)
async def test_a_limit_that_limits_nothing_gives_way_to_one_that_does(
    tmp_path: Path, simulator: Simulator, path: str, body: dict[str, Any], sent: Any
) -> None:
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": capped("1", output_limit=77)}
    ) as sidecar:
        url, asked = question(path, "sim-ok", stream=False)
        await sidecar.post(url, {**asked, **body})
    got = orjson.loads(simulator.requests[-1].body)
    assert {name: got[name] for name in body} == (
        sent or {"max_completion_tokens": 77, "max_tokens": 77}
    )


async def test_a_call_under_no_budget_is_sent_as_it_came(
    sidecar: Sidecar, simulator: Simulator
) -> None:
    path, body = question("openai.chat", "sim-ok", stream=False)
    raw = orjson.dumps({**body, "model": "sim/sim-ok"})
    await sidecar.post(path, raw)
    assert simulator.requests[-1].body == raw.replace(b"sim/sim-ok", b"sim-ok")


SCOPES: list[tuple[str, str, dict[str, str]]] = [
    ("tenant", "acme", {"x-modelspend-tenant": "acme"}),
    ("workflow", "bot", {"x-modelspend-workflow": "bot"}),
    ("session", "s1", {"x-modelspend-session": "s1"}),
    ("model", "sim-ok", {}),
    ("model", "sim/sim-ok", {}),
]


@pytest.mark.parametrize("each", [False, True], ids=["named", "each"])
@pytest.mark.parametrize(("scope", "name", "headers"), SCOPES)
async def test_a_budget_caps_what_it_names_and_nobody_else(
    tmp_path: Path, simulator: Simulator, scope: str, name: str, headers: dict[str, str], each: bool
) -> None:
    if each and name == "sim-ok":
        pytest.skip("a rule for each model counts by provider/model")
    budget = capped("0.00099", scope, name="*" if each else name)
    async with sidecar_for(tmp_path, simulator.url, budgets={"b": budget}) as sidecar:
        path, body = short("openai.chat")
        first, *_ = await sidecar.post(path, body, headers=headers)
        second, _, said = await sidecar.post(path, body, headers=headers)
        body["model"] = "sim/sim-echo"
        other, *_ = await sidecar.post(path, body)
    assert (first, second, other) == (200, 402, 200)
    assert f"{scope.capitalize()} {name} has spent".encode() in said


async def test_a_key_is_capped_by_its_fingerprint(tmp_path: Path, simulator: Simulator) -> None:
    key = {"authorization": "Bearer sk-something"}
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"b": capped("0.00099", "key", name="*")}
    ) as sidecar:
        path, body = short("openai.chat")
        statuses = [(await sidecar.post(path, body, headers=key))[0] for _ in range(2)]
        other, *_ = await sidecar.post(path, body)
    assert statuses == [200, 402]
    assert other == 200


async def test_tenants_have_a_hard_monthly_cap_by_one_line(
    tmp_path: Path, simulator: Simulator
) -> None:
    tenants = {"acme": {"budget_usd": Decimal("0.00099")}}
    async with sidecar_for(tmp_path, simulator.url, tenants=tenants) as sidecar:
        path, body = short("openai.chat")
        said = [
            await sidecar.post(path, body, headers={"x-modelspend-tenant": "acme"})
            for _ in range(2)
        ]
    assert [status for status, *_ in said] == [200, 402]
    assert b"Tenant acme has spent" in said[1][2]
    assert b"monthly cap of $0.00099" in said[1][2]


async def test_a_warning_budget_counts_and_tells_and_refuses_nothing(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"b": capped("0.00001", hard=False)}
    ) as sidecar:
        path, body = question("openai.chat", "sim-ok", stream=False)
        _, headers, _ = await sidecar.post(path, body)
        receipt = await sidecar.receipt_of(headers)
        assert receipt.request.splices == ("model",)
        assert await usage(sidecar) == (receipt.execution.charged_pico, 0)
        assert [e.data["rule"] for e in await events(sidecar, "budget.threshold")] == [
            "50%",
            "80%",
            "100%",
        ]


@pytest.mark.parametrize(("policy", "status"), [("block", 402), ("hold", 200), ("allow", 200)])
async def test_what_nobody_can_bound_is_blocked_held_or_allowed(
    tmp_path: Path, simulator: Simulator, policy: str, status: int
) -> None:
    """A model without a price, and a picture whose bytes say nothing of its tokens."""
    unpriced = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ["openai.chat"],
    }
    budget = capped("1", unpriced=policy, unpriced_usd=Decimal("0.4"))
    picture = {"type": "image_url", "image_url": {"url": "https://example.test/cat.png"}}
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"b": budget}, providers={"odd": unpriced}
    ) as sidecar:
        path, body = short("openai.chat")
        seen = body | {"messages": [{"role": "user", "content": [picture]}]}
        first, _, said = await sidecar.post(path, body | {"model": "odd/sim-ok"})
        second, headers, also = await sidecar.post(path, seen)
        spent, held = await usage(sidecar)
        receipt = await sidecar.receipt_of(headers)
    assert (first, second, held) == (status, status, 0)
    if policy == "block":
        assert b"odd/sim-ok has no price that covers it" in said
        assert b"a part of the kind image_url" in also
    told = receipt.execution.charged_pico
    assert spent == {"block": 0, "hold": from_usd("0.4") + told, "allow": told}[policy]


async def test_a_request_may_set_a_cap_for_itself(sidecar: Sidecar, simulator: Simulator) -> None:
    path, body = short("openai.chat")
    cap = "x-modelspend-max-usd"
    low, headers, said = await sidecar.post(path, body, headers={cap: "0.0005"})
    enough, *_ = await sidecar.post(path, body, headers={cap: "0.002"})
    wrong, _, what = await sidecar.post(path, body, headers={cap: "much"})
    assert (low, enough, wrong) == (402, 200, 400)
    assert b"x-modelspend-max-usd is $0.0005" in said
    assert b"no amount of dollars" in what
    assert headers["x-should-retry"] == "false"
    assert len(simulator.requests) == 1
    assert [one.execution.status for one in await sidecar.receipts()] == [
        Status.REFUSED,
        Status.SUCCESS,
        Status.ERROR,
    ]


UNKNOWN = [
    # behaviour, stream, whether what was held is charged
    ("sim-usage-missing", False, True),
    ("sim-usage-missing", True, True),
    ("sim-usage-negative", False, True),
    ("sim-usage-huge", False, True),
    ("sim-usage-nan", False, True),
    ("sim-usage-string", False, True),
    ("sim-usage-null", True, True),
    ("sim-hangup", False, True),
    ("sim-reset", False, True),
    ("sim-lost", False, True),
    ("sim-cut-4", True, True),
    ("sim-no-done", True, True),
    ("sim-error-after-3", True, True),
    ("sim-429", False, False),
    ("sim-500", False, False),
    ("sim-200-error-first", True, False),
]


@pytest.mark.parametrize(("model", "stream", "held"), UNKNOWN)
async def test_an_unknown_cost_is_charged_as_it_was_held_and_a_refusal_is_not(
    tmp_path: Path, simulator: Simulator, model: str, stream: bool, held: bool
) -> None:
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": capped("1")}) as sidecar:
        await sidecar.post(*short("openai.chat", model, stream=stream))
        receipt = await sidecar.receipt()
        charged = receipt.execution.charged_pico
        assert await usage(sidecar) == (charged, 0)
        if held:
            assert charged > 100 * OUT
        else:
            assert charged == 0
        assert charged >= (receipt.execution.actual_cost_pico or 0) >= 0


async def test_a_client_that_hangs_up_is_charged_what_was_held(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": capped("1")}) as sidecar:
        path, body = short("openai.chat", "sim-chunks-20+drip-20", stream=True)
        async with sidecar.client.post(sidecar.url + path, json=body) as answer:
            await answer.content.readany()
        receipt = await sidecar.receipt()
        assert receipt.execution.status is Status.CLIENT_DISCONNECT
        assert receipt.execution.charged_pico > 100 * OUT
        assert await usage(sidecar) == (receipt.execution.charged_pico, 0)


async def test_a_second_try_without_the_usage_option_takes_the_hold_over(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": capped("0.0012")}) as sidecar:
        status, headers, _ = await sidecar.post(
            *short("openai.chat", "sim-no-usage-option", stream=True)
        )
        receipt = await sidecar.receipt_of(headers)
        assert status == 200
        assert len(receipt.attempts) == 2
        assert receipt.attempts[0].charged_pico == 0
        assert await usage(sidecar) == (receipt.execution.charged_pico, 0)
        assert receipt.execution.charged_pico <= from_usd("0.0012")


async def test_a_kept_answer_costs_no_budget_anything(tmp_path: Path, simulator: Simulator) -> None:
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": capped("1")}, cache={"enabled": True}
    ) as sidecar:
        path, body = short("openai.chat")
        body["temperature"] = 0
        await sidecar.post(path, body)
        spent = await usage(sidecar)
        while (await sidecar.receipts())[-1].execution.status is not Status.CACHED:
            await sidecar.post(path, body)
            before, spent = spent, await usage(sidecar)
        assert spent == before


async def test_a_cap_of_nothing_lets_no_kept_answer_through(
    tmp_path: Path, simulator: Simulator
) -> None:
    budget = capped("0", "tenant", name="acme")
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"b": budget}, cache={"enabled": True}
    ) as sidecar:
        path, body = short("openai.chat")
        body["temperature"] = 0
        await sidecar.post(path, body)
        while (await sidecar.receipts())[-1].execution.status is not Status.CACHED:
            await sidecar.post(path, body)
        blocked, *_ = await sidecar.post(path, body, headers={"x-modelspend-tenant": "acme"})
    assert blocked == 402


async def test_what_its_pace_foretells_is_told_once_for_each_and_again_in_the_next_window(
    tmp_path: Path, simulator: Simulator
) -> None:
    """Half of a cap within a tenth of the month, for one of those that a rule is for."""
    each = capped("0.1", "tenant", name="*", window="month")
    async with sidecar_for(tmp_path, simulator.url, budgets={"each": each}) as sidecar:
        purse, store = sidecar.gateway.purse, sidecar.store
        path, body = short("openai.chat")
        await sidecar.post(path, body, headers={"x-modelspend-tenant": "acme"})
        (rule,) = purse.rules.all
        one = budgets.one_of(rule, "acme")
        start, end = windows.span(one.window, sidecar.gateway.now_ms())
        for first, last in ((start, end), (end, windows.span(one.window, end)[1])):
            tenth = first + (last - first) * 11 // 100
            slot = windows.slot(one.window, tenth)
            with outside(tmp_path / "ledger.db") as conn:
                conn.execute(
                    "INSERT INTO budget_sums SELECT id, ?, ?, 0 FROM budgets WHERE name = 'acme'"
                    " ON CONFLICT DO UPDATE SET spent_pico = excluded.spent_pico",
                    (slot.start, from_usd("0.05")),
                )
            for _ in range(3):
                await purse.foresee(tenth)
        told = await events(sidecar, "budget.threshold")
        assert (await store.budgets.firings(one))[end] == ["burn", "projected"]
    assert [(e.data["rule"], e.data["name"], e.tenant) for e in told] == [
        ("burn", "acme", "acme"),
        ("projected", "acme", "acme"),
    ] * 2
    assert told[0].data["burn_usd_per_hour"]
    assert told[1].data["exhausted_at"] < told[3].data["exhausted_at"]


async def test_a_translated_call_holds_and_settles_like_any_other(
    tmp_path: Path, simulator: Simulator
) -> None:
    providers = {
        "claude": {
            "base_url": f"{simulator.url}/v1",
            "dialects": ["anthropic.messages"],
            "price": PRICE,
        }
    }
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": capped("1", output_limit=50)}, providers=providers
    ) as sidecar:
        path, body = question("openai.chat", "sim-ok", stream=False)
        _, headers, _ = await sidecar.post(path, body | {"model": "claude/sim-ok"})
        receipt = await sidecar.receipt_of(headers)
        assert receipt.request.translated_to == "anthropic.messages"
        assert await usage(sidecar) == (receipt.execution.actual_cost_pico, 0)


async def test_an_override_in_the_ledger_wins_and_is_noticed(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": capped("0")}) as sidecar:
        path, body = short("openai.chat")
        purse, settings = sidecar.gateway.purse, sidecar.app_settings
        (blocked,) = purse.rules.all
        before, *_ = await sidecar.post(path, body)
        await sidecar.store.budgets.set_override(
            replace(blocked, cap_pico=from_usd(1)), sidecar.gateway.now_ms()
        )
        await purse.refresh(settings, sidecar.gateway.now_ms())
        after, *_ = await sidecar.post(path, body)
        (raised,) = purse.rules.all
        assert raised.origin.startswith("ledger, set 20")
        await sidecar.store.budgets.clear_override("process", "all", None)
        await purse.refresh(settings, sidecar.gateway.now_ms())
        again, *_ = await sidecar.post(path, body)
    assert (before, after, again) == (402, 200, 402)


async def test_near_its_cap_a_profile_takes_a_cheaper_model(
    tmp_path: Path, simulator: Simulator
) -> None:
    dear = {"base_url": f"{simulator.url}/v1", "dialects": ["openai.chat"], "models": ["big"]}
    providers = {"dear": {**dear, "price": {"input": 100, "output": 200}}}
    names = {tier: ["dear/big", "sim/sim-ok"] for tier in ("simple", "standard", "deep_reasoning")}
    for near, status in (("refuse", 402), ("degrade", 200)):
        async with sidecar_for(
            tmp_path / near,
            simulator.url,
            budgets={"all": capped("0.01")},
            providers=providers,
            profiles={"default": {**names, "near_cap": near}},
        ) as sidecar:
            path, body = short("openai.chat")
            got, headers, said = await sidecar.post(path, body | {"model": "auto"})
            assert got == status, said
            receipt = await sidecar.receipt_of(headers)
            if near == "degrade":
                assert receipt.decision is not None
                assert receipt.decision.model_id == "sim-ok"
                out = {c.model_id: c.filtered_out_by for c in receipt.candidates}
                assert out == {"big": "budget", "sim-ok": None}
                assert receipt.decision.inputs is not None
                assert receipt.decision.inputs["over_cap"] == ["dear/big"]
                full = await sidecar.post(path, body | {"model": "auto", "max_tokens": 9999})
                assert (full[0], b"This sidecar has spent" in full[2]) == (402, True)


# Runaways.


async def test_a_session_that_was_killed_is_refused_and_its_stream_is_cut_until_lifted(
    tmp_path: Path, simulator: Simulator
) -> None:
    session = {"x-modelspend-session": "mad"}
    control = {}
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        control = {"authorization": f"Bearer {sidecar.token}"}
        path, body = question("anthropic.messages", "sim-chunks-400+drip-20", stream=True)
        running = tasks.spawn(sidecar.post(path, body, headers=session), "a stream")
        while not sidecar.gateway.endings.relays:
            await asyncio.sleep(0.01)
        killed = await sidecar.post("/v1/kill", {"name": "mad"}, headers=control)
        _, _, cut = await asyncio.wait_for(running, 5)
        refused, headers, said = await sidecar.post(path, body, headers=session)
        other, *_ = await sidecar.post(*question("openai.chat", "sim-ok", stream=False))
    assert orjson.loads(killed[2]) == {"name": "mad", "stopped": True, "cut": 1}
    assert cut.endswith(CUT)
    assert b"event: error" in cut
    assert (refused, other, headers["x-should-retry"]) == (402, 200, "false")
    assert b"modelspend kill mad --lift" in said
    async with sidecar_for(tmp_path, simulator.url) as sidecar:  # it survives a restart
        control = {"authorization": f"Bearer {sidecar.token}"}
        path, body = question("openai.chat", "sim-ok", stream=False)
        still, *_ = await sidecar.post(path, body, headers=session)
        await sidecar.post("/v1/kill", {"name": "mad", "lift": True}, headers=control)
        lifted, *_ = await sidecar.post(path, body, headers=session)
        unknown, *_ = await sidecar.post("/v1/kill", {"name": "mad", "lift": True}, headers=control)
        told = [each.kind for each in await sidecar.store.events.after(0, 1000)]
        ends = [one.execution.status for one in await sidecar.receipts()]
    assert (still, lifted, unknown) == (402, 200, 404)
    assert told == ["caller.stopped", "caller.lifted"]
    assert ends[:2] == [Status.BUDGET_STOPPED, Status.REFUSED]


@pytest.mark.parametrize("model", ["sim-delay-200+chunks-100+drip-20", "sim-chunks-400+drip-20"])
async def test_a_key_that_is_killed_while_it_waits_for_an_answer_gets_none(
    tmp_path: Path, simulator: Simulator, model: str
) -> None:
    """Before the head has come there is no stream to cut: it is cut as soon as there is one."""
    key = {"authorization": "Bearer sk-something"}
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        path, body = question("openai.chat", model, stream=True)
        running = tasks.spawn(sidecar.post(path, body, headers=key), "a stream")
        while not simulator.requests:
            await asyncio.sleep(0.001)
        (fingerprint,) = {intent for intent in await _keys_of(sidecar)}
        await sidecar.gateway.stop(fingerprint, "by hand")
        status, _, said = await asyncio.wait_for(running, 5)
        refused, *_ = await sidecar.post(path, body, headers=key)
        receipt = (await sidecar.receipts())[0]
    assert (status, refused) == (200, 402)
    assert said.endswith(CUT)
    assert b"has been stopped" in said
    assert receipt.execution.status is Status.BUDGET_STOPPED


async def _keys_of(sidecar: Sidecar) -> list[str]:
    """The fingerprints that open calls name."""
    with outside(Path(sidecar.app_settings.store.path)) as conn:
        return [
            orjson.loads(said)["key_id"] for (said,) in conn.execute("SELECT detail FROM intents")
        ]


async def test_a_session_that_is_killed_is_led_to_nobody_else(
    tmp_path: Path, simulator: Simulator
) -> None:
    other = {"base_url": f"{simulator.url}/v1", "dialects": ["openai.chat"], "price": PRICE}
    models = ("sim/sim-delay-200+503", "other/sim-ok")
    async with sidecar_for(
        tmp_path,
        simulator.url,
        providers={"other": other},
        profiles={"p": dict.fromkeys(("simple", "standard", "deep_reasoning"), models)},
        retries={"backoff_s": 0.001},
    ) as sidecar:
        path, body = question("openai.chat", "sim-ok", stream=False)
        asked = sidecar.post(
            path, body | {"model": "auto:p"}, headers={"x-modelspend-session": "mad"}
        )
        running = tasks.spawn(asked, "a call")
        while not simulator.requests:
            await asyncio.sleep(0.001)
        await sidecar.gateway.stop("mad", "by hand")
        status, *_ = await running
        receipt = await sidecar.receipt()
    assert status == 503
    assert [each.provider for each in receipt.attempts] == ["sim"]
    assert len(simulator.requests) == 1


async def test_the_same_request_over_and_over_is_a_loop(
    tmp_path: Path, simulator: Simulator
) -> None:
    limits = {"loops": {"scope": "session", "repeats": 3}}
    session = {"x-modelspend-session": "agent"}
    async with sidecar_for(tmp_path, simulator.url, limits=limits) as sidecar:
        path, body = short("openai.chat")
        statuses = [(await sidecar.post(path, body, headers=session))[0] for _ in range(4)]
        body["max_tokens"] = 99
        other, *_ = await sidecar.post(path, body, headers=session)
        alone, *_ = await sidecar.post(*short("openai.chat"))
        told = await events(sidecar, "caller.runaway")
    assert statuses == [200, 200, 402, 402]
    assert (other, alone) == (200, 200)
    assert [each.data["rule"] for each in told] == ["loops"]


async def test_too_much_money_a_minute_stops_the_session_for_good_where_that_is_the_rule(
    tmp_path: Path, simulator: Simulator
) -> None:
    limits = {"fast": {"scope": "session", "usd_per_minute": Decimal("0.0001"), "then": "kill"}}
    session = {"x-modelspend-session": "agent"}
    async with sidecar_for(tmp_path, simulator.url, limits=limits) as sidecar:
        path, body = short("openai.chat")
        statuses = []
        while 402 not in statuses:
            statuses.append((await sidecar.post(path, body, headers=session))[0])
            assert len(statuses) < 50
        _, _, said = await sidecar.post(path, body, headers=session)
        assert [stop.name for stop in await sidecar.store.budgets.stops()] == ["agent"]
        told = [each.kind for each in await sidecar.store.events.after(0, 1000)]
    assert b"Calls of agent are stopped" in said
    assert told == ["caller.stopped", "caller.runaway"]


# Slices.


async def test_a_sliced_stream_is_cut_when_its_next_slice_does_not_fit(
    tmp_path: Path, simulator: Simulator
) -> None:
    """A limit of 30,000 tokens would hold six cents; it is let in under two, and cut before.

    What its provider bills by then is in `test_slices.py`.
    """
    budget = capped("0.02", slice_usd=Decimal("0.002"))
    models = {"sim/sim-size-40k+drip-1": {"lacks": ["reasoning"]}}
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": budget}, models=models
    ) as sidecar:
        path, body = question("openai.chat", "sim-size-40k+drip-1", stream=True)
        status, headers, said = await sidecar.post(path, body | {"max_tokens": 30_000})
        receipt = await sidecar.receipt_of(headers)
        spent, held = await usage(sidecar)
    assert status == 200
    assert said.endswith(CUT)
    assert b"budget_exceeded" in said
    assert receipt.execution.status is Status.BUDGET_STOPPED
    assert receipt.attempts[0].failure_class == "budget"
    assert (spent, held) == (receipt.execution.charged_pico, 0)
    assert spent <= from_usd("0.02")


async def test_a_sliced_stream_that_fits_goes_to_its_end_and_costs_what_it_did(
    tmp_path: Path, simulator: Simulator
) -> None:
    budget = capped("0.2", slice_usd=Decimal("0.002"))
    models = {"sim/sim-size-40k": {"lacks": ["reasoning"]}}
    async with sidecar_for(
        tmp_path, simulator.url, budgets={"all": budget}, models=models
    ) as sidecar:
        path, body = question("openai.chat", "sim-size-40k", stream=True)
        _, headers, said = await sidecar.post(path, body | {"max_tokens": 60_000})
        receipt = await sidecar.receipt_of(headers)
        assert b"[DONE]" in said
        assert receipt.execution.status is Status.SUCCESS
        assert await usage(sidecar) == (receipt.execution.actual_cost_pico, 0)


async def test_a_model_that_may_think_unseen_is_not_sliced(
    tmp_path: Path, simulator: Simulator
) -> None:
    budget = capped("0.02", slice_usd=Decimal("0.002"))
    async with sidecar_for(tmp_path, simulator.url, budgets={"all": budget}) as sidecar:
        path, body = question("openai.chat", "sim-size-40k", stream=True)
        status, *_ = await sidecar.post(path, body | {"max_tokens": 30_000})
    assert status == 402


# Restarts.


async def test_what_was_spent_and_what_a_run_may_spend_outlive_nothing_they_should_not(
    tmp_path: Path, simulator: Simulator
) -> None:
    cap = {"b": capped("0.0022")}
    path, body = short("openai.chat")
    statuses: list[int] = []
    for _ in range(3):
        async with sidecar_for(tmp_path, simulator.url, budgets=cap) as sidecar:
            statuses += [(await sidecar.post(path, body))[0] for _ in range(6)]
            spent, held = await usage(sidecar)
            assert held == 0
            assert spent == sum(one.execution.charged_pico for one in await sidecar.receipts())
    assert statuses[0] == 200
    assert statuses == sorted(statuses)
    assert 402 in statuses


async def test_a_run_has_a_cap_of_its_own(tmp_path: Path, simulator: Simulator) -> None:
    async with sidecar_for(tmp_path, simulator.url) as sidecar:
        control = {"authorization": f"Bearer {sidecar.token}"}
        _, _, opened = await sidecar.post(
            "/v1/runs", {"pid": 1, "max_usd": "0.00099"}, headers=control
        )
        bad, *_ = await sidecar.post("/v1/runs", {"pid": 1, "max_usd": "x"}, headers=control)
        run = orjson.loads(opened)
        key = {"authorization": f"Bearer {run['key']}"}
        path, body = short("openai.chat")
        said = [await sidecar.post(path, body, headers=key) for _ in range(2)]
        free, *_ = await sidecar.post(path, body)
        of = Budget(scope="run", name=run["run_id"], window=windows.TOTAL, cap_pico=None)
        (stands,) = await sidecar.store.budgets.usage([of], sidecar.gateway.now_ms())
        receipts: Sequence[Receipt] = await sidecar.receipts()
    assert (bad, free) == (400, 200)
    assert [status for status, *_ in said] == [200, 402]
    assert b"modelspend run --max-usd USD" in said[1][2]
    assert stands.spent_pico == receipts[0].execution.charged_pico


def test_overlapping_words_for_a_budget_are_one_budget() -> None:
    month = windows.parse("month")
    file = Budget(scope="tenant", name="a", window=month, cap_pico=5, slice_pico=7)
    set_ = Budget(scope="tenant", name="a", window=month, cap_pico=9, hard=False, origin="ledger")
    (only,) = budgets.in_force([file], [set_])
    assert (only.cap_pico, only.hard, only.slice_pico, only.origin) == (9, False, 7, "ledger")


def test_a_cap_that_is_set_for_one_keeps_what_the_rule_for_each_says() -> None:
    month = windows.parse("month")
    each = Budget(
        scope="session", name="*", window=month, cap_pico=5, unpriced="hold", slice_pico=7
    )
    one = Budget(scope="session", name="s", window=month, cap_pico=9, origin="ledger")
    rule, raised = budgets.in_force([each], [one])
    assert rule == each
    assert (raised.name, raised.cap_pico, raised.unpriced, raised.slice_pico, raised.origin) == (
        "s", 9, "hold", 7, "ledger"
    )  # fmt: skip
