"""Past calls under another policy: what happened is reproduced to the last digit, what would have
happened is worked out by hand."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from modelspend import settings
from modelspend.backtest import Redecided, Tally
from modelspend.gateway.backtest import DAMAGED, NEVER_ASKED, NOT_CLASSIFIED, Backtest
from modelspend.money import price_usage
from modelspend.receipt import (
    Attempt,
    Classification,
    Decision,
    Delivery,
    Execution,
    FailureClass,
    Receipt,
    RequestInfo,
    Status,
    Usage,
    interrupted,
    total_cost,
)
from modelspend.simulator import Simulator
from modelspend.store import ALL, Bodies, Store
from tests.fakes.sidecar import sidecar_for
from tests.loops import loops_for
from tests.store.bulk import load
from tests.store.synthetic import START_MS, Traffic, intent_of

MINUTE = 60_000
PRICES = {
    "acme/big": {"input": 10, "output": 50, "cache_read": 1, "cache_write_5m": 12.5},
    "acme/mid": {"input": 4, "output": 20, "cache_read": 0.4},
    "acme/small": {"input": 1, "output": 5, "cache_read": 0.1},
}
ACME = {
    "base_url": "http://127.0.0.1:9/v1",
    "dialects": ["openai.chat"],
    "models": ["big", "mid", "small", "dark"],
}
BASE: dict[str, Any] = {"providers": {"acme": ACME}, "prices": PRICES}
DOWN: dict[str, Any] = {
    "routing": {"mode": "route"},
    "profiles": {"default": {"simple": ["small"], "standard": ["mid"], "deep_reasoning": ["big"]}},
}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loops_for(item)


def written(folder: Path, name: str, tree: Mapping[str, Any]) -> Path:
    file = folder / f"{name}.toml"
    file.write_text(tomli_w.dumps(tree))
    return file


async def again(
    folder: Path, policy: Mapping[str, Any], base: Mapping[str, Any] = BASE
) -> list[Redecided]:
    """Every receipt of the ledger in a folder, under a policy."""
    file, over = written(folder, "base", base), written(folder, "policy", policy)
    before, after = settings.load(file, {}), settings.load(file, {}, policy=over)
    store = await Store.open_read(folder / "ledger.db")
    try:
        test = await Backtest.of(store, before.settings, after.settings, {})
        return [one async for one in test.every(store, [ALL])]
    finally:
        await store.close()


# A ledger written out by hand.


def receipt(n: int, used: Mapping[str, int], **changes: Any) -> Receipt:
    """A call that asked for `big` and got it, a minute after the one before it."""
    at = START_MS + n * MINUTE
    rates = {"input_tokens": 10_000_000, "output_tokens": 50_000_000,
             "cache_read_tokens": 1_000_000}  # fmt: skip
    cost = sum(rates[bucket] * count for bucket, count in used.items())
    priced = replace(price_usage({}, None), total_pico=cost, source="calculated", inexact=())
    attempt = Attempt(
        n=1,
        provider="acme",
        model_id="big",
        started_at_ms=at,
        status=Status.SUCCESS,
        delivery=Delivery.DONE,
        http_status=200,
        usage=Usage(quantities=used, source="provider"),
        cost=priced,
        charged_pico=cost,
    )
    made = Receipt(
        receipt_id=f"rcpt_01KBACK{n:019d}",
        created_at_ms=at,
        tenant="default",
        session_id="s",
        session_source="header",
        request=RequestInfo(
            dialect="openai.chat",
            path="/v1/chat/completions",
            model="big",
            stream=False,
            sha256="0" * 64,
            size=10,
        ),
        classification=found(),
        decision=Decision(model_id="big", provider="acme"),
        attempts=(attempt,),
        execution=Execution(
            status=Status.SUCCESS,
            actual_cost_pico=cost,
            charged_pico=cost,
            actual_latency_ms=1.0,
            ttft_ms=None,
            overhead_ms=0.1,
        ),
    )
    return replace(made, **changes)


def found(tier: str = "simple", **signals: Any) -> Classification:
    return Classification(
        category="chat", confidence=0.9, complexity=0.2, tier=tier, risk_signals=signals
    )


def kept(folder: Path, *receipts: Receipt, body: bytes | None = None) -> None:
    load(folder / "ledger.db", [(one, Bodies(body) if body else None) for one in receipts])


def told(attempt: Attempt, one: Receipt) -> Receipt:
    """A receipt whose attempts are others."""
    cost = total_cost((attempt,)).total_pico
    return replace(
        one, attempts=(attempt,), execution=replace(one.execution, actual_cost_pico=cost)
    )


async def test_calls_go_where_the_policy_leads_them_at_its_prices(tmp_path: Path) -> None:
    used = {"input_tokens": 1000, "output_tokens": 100}
    tiers = ("simple", "standard", "deep_reasoning")
    kept(
        tmp_path,
        *(
            receipt(n, used, session_id=None, session_source=None, classification=found(tier))
            for n, tier in enumerate(tiers)
        ),
    )
    small, mid, big = await again(tmp_path, DOWN)
    assert (small.after, small.policy_pico, small.step) == ("acme/small", 1_500_000_000, -1)
    assert (mid.after, mid.policy_pico, mid.step) == ("acme/mid", 6_000_000_000, -1)
    assert (big.ended, big.policy_pico, big.step) == ("same", 15_000_000_000, None)
    assert {one.ledger_pico for one in (small, mid, big)} == {15_000_000_000}


async def test_a_conversation_that_moves_loses_its_cache_once_and_regains_it(
    tmp_path: Path,
) -> None:
    turns = [
        {"input_tokens": 2048, "output_tokens": 10},
        {"input_tokens": 256, "cache_read_tokens": 2048, "output_tokens": 10},
        {"input_tokens": 128, "cache_read_tokens": 2304, "output_tokens": 10},
    ]
    tiers = ("deep_reasoning", "standard", "standard")
    kept(
        tmp_path,
        *(
            receipt(n, used, classification=found(tier, nearThreshold=False))
            for n, (used, tier) in enumerate(zip(turns, tiers, strict=True))
        ),
    )
    policy = {**DOWN, "profiles": {"default": {"standard": ["mid"], "deep_reasoning": ["big"]}}}
    calls = await again(tmp_path, policy)
    # even without its cache the dearer model's output makes leaving it pay from the second turn on
    assert [one.after for one in calls] == ["acme/big", "acme/mid", "acme/mid"]
    assert [one.policy_pico for one in calls] == [
        calls[0].ledger_pico,
        2304 * 4_000_000 + 10 * 20_000_000,
        2304 * 400_000 + 128 * 4_000_000 + 10 * 20_000_000,
    ]


async def test_the_same_policy_reproduces_a_synthetic_ledger(tmp_path: Path) -> None:
    calls = [*Traffic(seed=5).receipts(400)]
    calls += [interrupted(intent_of(one)) for one in Traffic(seed=6).receipts(5)]
    calls += [
        replace(
            one,
            attempts=(),
            decision=None,
            execution=replace(
                one.execution, status=Status.REFUSED, actual_cost_pico=0, charged_pico=0
            ),
        )
        for one in Traffic(seed=7).receipts(5)
    ]
    calls += [
        replace(
            one,
            attempts=(),
            execution=replace(
                one.execution, status=Status.CACHED, actual_cost_pico=0, charged_pico=0
            ),
        )
        for one in Traffic(seed=8).receipts(5)
    ]
    kept(tmp_path, *calls)
    result = await again(tmp_path, {"routing": {"mode": "observe"}})
    assert [one.receipt_id for one in result] == [one.receipt_id for one in calls]
    assert [one.policy_pico for one in result] == [one.execution.actual_cost_pico for one in calls]
    assert {one.ended for one in result} == {"same", "not_decided"}
    assert {one.why for one in result} == {"", NEVER_ASKED}


async def test_nothing_is_lost_of_a_failed_try_an_estimate_or_an_unknown_cost(
    tmp_path: Path,
) -> None:
    used = {"input_tokens": 100, "output_tokens": 10}
    plain = receipt(1, used, session_id=None, session_source=None)
    (one,) = plain.attempts
    failed = replace(
        one,
        status=Status.ERROR,
        delivery=Delivery.NOT_SENT,
        failure_class=FailureClass.CONNECT,
        usage=Usage(),
        cost=price_usage({}, None),
    )
    unknown = replace(
        one,
        status=Status.ERROR,
        delivery=Delivery.MAYBE_ACCEPTED,
        usage=Usage(problems=("the provider may have accepted it",)),
        cost=price_usage({}, None),
    )
    free = replace(
        one, status=Status.ERROR, usage=Usage(), cost=replace(price_usage({}, None), total_pico=0)
    )
    guessed = replace(one, usage=replace(one.usage, source="estimated", error_ratio=0.1))
    kept(
        tmp_path,
        replace(plain, attempts=(failed, replace(one, n=2))),
        replace(told(unknown, plain), receipt_id="rcpt_unknown"),
        replace(told(free, plain), receipt_id="rcpt_free"),
        replace(told(guessed, plain), receipt_id="rcpt_guessed"),
        replace(
            plain,
            receipt_id="rcpt_twice",
            attempts=(one, replace(one, n=2)),
            execution=replace(plain.execution, actual_cost_pico=2 * 1_500_000_000),
        ),
    )
    same = await again(tmp_path, {})
    assert [one.policy_pico for one in same] == [one.ledger_pico for one in same]
    assert [one.ledger_pico for one in same] == [1_500_000_000, None, 0, 1_500_000_000, 3 * 10**9]
    moved = await again(tmp_path, DOWN)
    assert [one.ended for one in moved] == ["moved"] * 5
    assert [one.policy_pico for one in moved] == [150_000_000, None, 0, 150_000_000, 300_000_000]
    assert [one.exact for one in moved] == [True, False, True, False, True]


async def test_a_kept_answer_costs_nothing_under_any_policy(tmp_path: Path) -> None:
    plain = receipt(1, {"input_tokens": 100, "output_tokens": 10})
    free = replace(plain.execution, status=Status.CACHED, actual_cost_pico=0, charged_pico=0)
    kept(tmp_path, replace(plain, execution=free))
    (one,) = await again(tmp_path, DOWN)
    assert (one.after, one.policy_pico) == ("acme/small", 0)


async def test_what_has_no_price_under_the_policy_is_unknown_and_not_free(tmp_path: Path) -> None:
    kept(tmp_path, receipt(1, {"input_tokens": 100, "output_tokens": 10}))
    policy = {
        "routing": {"mode": "route"},
        "profiles": {"default": {"simple": ["dark"], "objective": {"cost": 0}}},
    }
    (one,) = await again(tmp_path, policy)
    assert (one.after, one.policy_pico, one.ledger_pico) == ("acme/dark", None, 1_500_000_000)
    tally = Tally()
    tally.add(one)
    assert (tally.newly_unpriced, tally.difference_pico) == (1, 0)


async def test_a_call_that_nobody_may_answer_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    kept(tmp_path, receipt(1, {"input_tokens": 100, "output_tokens": 10}))
    policy = {**DOWN, "tenants": {"default": {"constraints": {"providers": ["elsewhere"]}}}}
    (one,) = await again(tmp_path, policy)
    assert (one.ended, one.after, one.policy_pico) == ("refused", "", 0)
    assert "has no model that may answer" in one.why


async def test_a_profile_that_is_gone_refuses_who_asks_for_it(tmp_path: Path) -> None:
    used = {"input_tokens": 100, "output_tokens": 10}
    plain = receipt(1, used)
    assert plain.decision is not None
    gone = replace(plain.decision, inputs={"caller": {"mode": "route", "profile": "gone"}})
    kept(
        tmp_path,
        replace(plain, decision=gone),
        receipt(2, used, request=replace(plain.request, model="auto:gone")),
    )
    calls = await again(tmp_path, DOWN)
    assert [one.ended for one in calls] == ["refused", "refused"]
    assert all(one.why.startswith("There is no profile 'gone'") for one in calls)


async def test_a_callers_own_mode_wins_as_it_does_live(tmp_path: Path) -> None:
    used = {"input_tokens": 100, "output_tokens": 10}
    plain = receipt(1, used)
    assert plain.decision is not None
    kept(
        tmp_path,
        replace(plain, decision=replace(plain.decision, inputs={"caller": {"mode": "observe"}})),
        receipt(2, used),
    )
    calls = await again(tmp_path, DOWN)
    assert [one.after for one in calls] == ["acme/big", "acme/small"]


async def test_a_price_of_the_policy_holds_for_calls_that_stay(tmp_path: Path) -> None:
    kept(tmp_path, receipt(1, {"input_tokens": 100, "output_tokens": 10}))
    (one,) = await again(tmp_path, {"prices": {"acme/big": {"input": 1, "output": 2}}})
    assert (one.ended, one.policy_pico) == ("same", 120_000_000)
    (other,) = await again(tmp_path, {"prices": {"acme/mid": {"input": 1, "output": 2}}})
    assert (other.ended, other.policy_pico) == ("same", 1_500_000_000)


async def test_a_prompt_is_read_again_from_its_body_where_the_receipt_does_not_tell(
    tmp_path: Path,
) -> None:
    text = "Prove by induction that every tree with n nodes has n - 1 edges."
    body = (
        b'{"model":"big","messages":[{"role":"user","content":"%s"}],'
        b'"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]}' % text.encode()
    )
    plain = receipt(1, {"input_tokens": 100, "output_tokens": 10}, classification=None)
    kept(tmp_path, plain, body=body)
    (one,) = await again(tmp_path, DOWN)
    assert one.found is not None
    assert one.found.tier == "deep_reasoning"
    assert one.calls_tools
    either = {**DOWN["profiles"]["default"], "deep_reasoning": ["big", "mid"]}
    (stays,) = await again(tmp_path, {**DOWN, "profiles": {"default": either}})
    assert stays.after == "acme/big"
    lacking = {"profiles": {"default": either}, "models": {"acme/big": {"lacks": ["tools"]}}}
    (moved,) = await again(tmp_path, {**DOWN, **lacking})
    assert (moved.ended, moved.after) == ("moved", "acme/mid")


async def test_what_cannot_be_decided_again_stays_and_says_why(tmp_path: Path) -> None:
    used = {"input_tokens": 100, "output_tokens": 10}
    kept(
        tmp_path,
        receipt(1, used, classification=None),
        receipt(2, used, decision=None),
        receipt(3, used, classification=found("no such tier")),
    )
    calls = await again(tmp_path, DOWN)
    assert [one.why for one in calls] == [NOT_CLASSIFIED, NEVER_ASKED, NOT_CLASSIFIED]
    assert all(one.ended == "not_decided" for one in calls)
    assert all(one.policy_pico == one.ledger_pico == 1_500_000_000 for one in calls)


async def test_a_damaged_receipt_keeps_its_cost_and_is_told(tmp_path: Path) -> None:
    from modelspend.store import files

    kept(tmp_path, receipt(1, {"input_tokens": 100, "output_tokens": 10}))
    conn = files.connect_writer(tmp_path / "ledger.db", "normal")
    conn.execute("UPDATE receipts SET detail = x'0100'")
    conn.commit()
    conn.close()
    (one,) = await again(tmp_path, DOWN)
    assert (one.ended, one.why, one.policy_pico) == ("not_decided", DAMAGED, 1_500_000_000)


async def test_weights_of_a_profile_read_the_prompt_again(tmp_path: Path) -> None:
    body = (
        b'{"model":"big","messages":[{"role":"system","content":"You prove theorems by induction'
        b' and by contradiction, step by step, and write formal proofs."},'
        b'{"role":"user","content":"Hello."}]}'
    )
    kept(tmp_path, receipt(1, {"input_tokens": 9, "output_tokens": 1}), body=body)
    profile = {**DOWN["profiles"]["default"], "system_weight": 1.0}
    (one,) = await again(tmp_path, {**DOWN, "profiles": {"default": profile}})
    assert one.found is not None
    assert one.found != found()


async def test_a_name_that_the_policy_leads_elsewhere_goes_there(tmp_path: Path) -> None:
    kept(tmp_path, receipt(1, {"input_tokens": 100, "output_tokens": 10}))
    policy = {
        "providers": {
            "acme": {"models": ["mid"]},
            "other": {
                "base_url": "http://127.0.0.1:9/v1",
                "dialects": ["openai.chat"],
                "models": ["big"],
                "price": {"input": 3, "output": 6},
            },
        }
    }
    (one,) = await again(tmp_path, policy)
    assert (one.before, one.after, one.policy_pico) == ("acme/big", "other/big", 360_000_000)


# A ledger that real calls have left.

ROUTED: dict[str, Any] = {
    "routing": {"mode": "route"},
    "profiles": {
        "default": {
            "simple": ["sim/sim-ok+cached-1500"],
            "standard": ["sim/sim-cached-2000"],
            "deep_reasoning": ["sim/sim-reason-9"],
        },
        "careful": {"simple": ["sim/sim-reason-9"]},
    },
}
PROMPTS = (
    "hi there",
    "Summarise this memo in two lines. " * 30,
    "Prove by induction that every tree with n nodes has n - 1 edges.",
    "What is the capital of France?",
)
ASKED = (
    "auto",
    "auto:careful",
    "sim/sim-ok",
    "sim/sim-503",
    "sim/sim-usage-missing",
    "sim/sim-hangup",
    "sim/sim-400",
    "nowhere",
    "sim/sim-tier-flex",
)


@pytest.mark.parametrize("mode", ["observe", "shadow", "route"])
async def test_the_policy_that_was_in_force_reproduces_real_calls(
    tmp_path: Path, simulator: Simulator, mode: str
) -> None:
    sections = {**ROUTED, "routing": {"mode": mode}}
    async with sidecar_for(tmp_path, simulator.url, **sections) as sidecar:
        for turn, model in enumerate(ASKED * 3):
            messages = [{"role": "user", "content": PROMPTS[turn % len(PROMPTS)]}]
            headers = {"x-modelspend-session": f"s{turn % 4}"}
            if turn % 5 == 4:
                headers["x-modelspend-mode"] = ("observe", "route", "shadow")[turn % 3]
            if turn % 7 == 6:
                headers["x-modelspend-profile"] = "careful"
            body = {"model": model, "messages": messages, "stream": turn % 2 == 1}
            await sidecar.post("/v1/chat/completions", body, headers=headers)
        for _ in range(2):
            body = {"model": "auto", "messages": [{"role": "user", "content": "again"}]}
            headers = {"x-modelspend-cache": "on", "x-modelspend-session": "s1"}
            await sidecar.post("/v1/chat/completions", body, headers=headers)
        embedding = {"model": "sim/sim-ok", "input": "some words"}
        await sidecar.post("/v1/embeddings", embedding)
        receipts = await sidecar.receipts()
    file = tmp_path / "config.toml"
    loaded = settings.load(file, {}).settings
    store = await Store.open_read(tmp_path / "ledger.db")
    test = await Backtest.of(store, loaded, loaded, {})
    calls = [one async for one in test.every(store, [ALL])]
    await store.close()
    assert len(calls) == len(ASKED) * 3 + 3
    assert Status.CACHED in {one.execution.status for one in receipts}
    assert [one.policy_pico for one in calls] == [
        one.execution.actual_cost_pico for one in receipts
    ]
    assert {one.ended for one in calls} == {"same", "not_decided"}
    undecided = [one for one in calls if one.ended == "not_decided"]
    assert all(one.why == NEVER_ASKED and one.policy_pico == 0 for one in undecided)


async def test_a_decision_is_made_again_without_its_body_whatever_could_not_be_said_elsewhere(
    tmp_path: Path, simulator: Simulator
) -> None:
    claude = {
        "base_url": f"{simulator.url}/v1",
        "dialects": ["anthropic.messages"],
        "price": {"input": 1, "output": 1},
    }
    sections: dict[str, Any] = {
        "routing": {"mode": "route"},
        "store": {"keep_bodies": "none"},
        "profiles": {"default": {"simple": ["claude/sim-ok", "sim/sim-ok"]}},
        "providers": {"claude": claude},
    }
    async with sidecar_for(tmp_path, simulator.url, **sections) as sidecar:
        strange = [{"type": "text", "text": "hi"}, {"type": "hologram", "hologram": {}}]
        for content in ("hi there", strange):
            body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
            headers = {"x-modelspend-mode": "route", "x-modelspend-profile": "default"}
            await sidecar.post("/v1/chat/completions", body, headers=headers)
        plain, odd = await sidecar.receipts()
    assert plain.decision is not None
    assert odd.decision is not None
    assert plain.decision.provider == "claude"
    assert odd.decision.provider == "sim"
    assert plain.decision.inputs is not None
    assert odd.decision.inputs is not None
    assert "unsayable" not in plain.decision.inputs
    assert odd.decision.inputs["unsayable"] == {"anthropic.messages": "hologram"}
    assert odd.decision.inputs["caller"] == {"mode": "route", "profile": "default"}
    loaded = settings.load(tmp_path / "config.toml", {}).settings
    store = await Store.open_read(tmp_path / "ledger.db")
    test = await Backtest.of(store, loaded, loaded, {})
    calls = [one async for one in test.every(store, [ALL])]
    await store.close()
    assert [one.after for one in calls] == ["claude/sim-ok", "sim/sim-ok"]
    assert {one.ended for one in calls} == {"same"}


_tiers = st.sampled_from(["simple", "standard", "deep_reasoning"])
_usages = st.fixed_dictionaries(
    {
        "input_tokens": st.integers(0, 200_000),
        "cache_read_tokens": st.integers(0, 100_000),
        "output_tokens": st.integers(0, 5_000),
    }
)


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.tuples(_tiers, _usages, st.integers(0, 2)), min_size=1, max_size=12),
    lists=st.lists(st.sampled_from(["big", "mid", "small", "dark", "nobody"]), max_size=4),
    profile=st.sampled_from(["default", "elsewhere"]),
)
def test_a_policy_of_any_shape_accounts_for_every_call(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[str, dict[str, int], int]],
    lists: list[str],
    profile: str,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    kept(
        folder,
        *(
            receipt(n, used, classification=found(tier), session_id=f"s{session}")
            for n, (tier, used, session) in enumerate(calls)
        ),
    )
    policy = {
        "routing": {"mode": "route", "profile": profile},
        "profiles": {profile: {"simple": lists, "standard": lists[:1]}},
    }
    tally = Tally()
    results = asyncio.run(again(folder, policy))
    for one in results:
        tally.add(one)
        if one.ended == "same" and not any(r.before != r.after for r in results):
            assert one.policy_pico == one.ledger_pico
    assert sum(tally.ended.values()) == len(calls)
    assert tally.total.ledger.calls == tally.total.policy.calls == len(calls)
    identity = asyncio.run(again(folder, {}))
    assert [one.policy_pico for one in identity] == [one.ledger_pico for one in identity]
