"""Routing through the whole sidecar: who is asked, in what words, with whose key, what is told.

The providers `chatty`, `respond`, `claude` and `gem` speak one dialect each and lie at one
simulator, told apart by their keys; `openai`, `anthropic` and `google` take the caller's own.
"""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import tomli_w

from modelspend.server.keys import RELOAD
from modelspend.simulator import Simulator
from modelspend.simulator.exchange import Seen
from modelspend.simulator.server import Recorded
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.gateway.asking import CHATS, question

SPEAKS = {
    "chatty": "openai.chat",
    "respond": "openai.responses",
    "claude": "anthropic.messages",
    "gem": "gemini.generate",
}
NATIVE = {
    "openai": ["openai.chat", "openai.responses"],
    "anthropic": ["anthropic.messages"],
    "google": ["gemini.generate"],
}
AT = {dialect: name for name, dialect in SPEAKS.items()}
PAIRS = [(name, to) for name in CHATS for to in CHATS if name != to]
ENV = {name.upper(): f"sk-of-{name}" for name in SPEAKS}
HARD = (
    "Prove by induction that every tree with n vertices has n-1 edges, then reason step by step"
    " about a world in which gravity repels: what would be causally inconsistent there, and why?"
)
CANARY = "sk-cAnArY-of-the-caller"


def tree(url: str, **sections: Any) -> dict[str, Any]:
    """Settings whose profile names one model for each tier; `only_X` names one provider's alone."""
    base = {"base_url": f"{url}/v1"}
    providers: dict[str, Any] = {
        name: base
        | {
            "dialects": [dialect],
            "api_key_env": name.upper(),
            "price": {"input": 1 + n, "output": 4 + n, "cache_read": 0.1},
        }
        for n, (name, dialect) in enumerate(SPEAKS.items())
    }
    for name, dialects in NATIVE.items():
        price = {"input": 50, "output": 90}
        providers[name] = base | {"dialects": dialects, "price": price, "models": [f"{name}-own"]}
    profiles = {f"only_{name}": tiers(f"{name}/sim-ok") for name in SPEAKS}
    profiles["default"] = {
        "simple": ["chatty/small"],
        "standard": ["claude/middle"],
        "deep_reasoning": ["gem/large", "respond/large"],
    }
    return {
        "providers": providers | sections.pop("providers", {}),
        "profiles": profiles | sections.pop("profiles", {}),
        **sections,
    }


def tiers(*models: str) -> dict[str, Any]:
    """A profile with the same models for every tier."""
    return {tier: list(models) for tier in ("simple", "standard", "deep_reasoning")}


@pytest.fixture
async def front(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Sidecar]:
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **tree(simulator.url)) as running:
        yield running


def asked(dialect: str, model: str, *, stream: bool = False, text: str = "hi") -> tuple[str, Any]:
    """As `question`, for a model that is named as it stands."""
    path, body = question(dialect, "MODEL", stream=stream, text=text)
    said = json.dumps(body).replace("sim/MODEL", model)
    return path.replace("sim/MODEL", model), json.loads(said)


def who(seen: Seen) -> str:
    """The provider whose key came with a request."""
    known = {key: name.lower() for name, key in ENV.items()}
    told = [
        seen.headers.get("authorization", "").removeprefix("Bearer "),
        seen.headers.get("x-api-key", ""),
        seen.headers.get("x-goog-api-key", ""),
    ]
    (key,) = filter(None, told)
    return known.get(key, key)


def last(simulator: Simulator) -> Seen:
    return list(simulator.requests)[-1]


# `auto`, in every dialect.


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_auto_goes_to_the_model_for_its_tier_in_every_dialect(
    front: Sidecar, simulator: Simulator, dialect: str, stream: bool
) -> None:
    for text, provider, model, tier in (
        ("hi", "chatty", "small", "simple"),
        (HARD, "gem", "large", "deep_reasoning"),
    ):
        path, body = asked(dialect, "auto", stream=stream, text=text)
        status, headers, answer = await front.post(path, body)
        assert status == 200, answer
        assert (who(last(simulator)), last(simulator).model) == (provider, model)
        assert headers["x-modelspend-provider"] == provider
        assert headers["x-modelspend-model"] == model
        assert headers["x-modelspend-tier"] == tier
        assert headers["x-modelspend-category"]
        assert headers["x-modelspend-rationale"].startswith(tier)
        receipt = await front.receipt_of(headers)
        decision = receipt.decision
        assert decision
        assert (decision.mode, decision.applied, decision.profile) == ("route", True, "default")
        assert receipt.request.model == "auto"
        foreign = SPEAKS[provider] != dialect
        assert receipt.request.translated_to == (SPEAKS[provider] if foreign else None)
        assert receipt.request.splices == (
            ()
            if foreign or dialect == "gemini.generate"
            else ("model",)
            if not stream
            else ("model", "stream_options.include_usage")
        )
        kind = "text/event-stream" if stream else "application/json"
        assert headers["content-type"].startswith(kind)


@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("name", SPEAKS)
async def test_auto_with_a_profile_follows_that_profile(
    front: Sidecar, simulator: Simulator, dialect: str, name: str
) -> None:
    path, body = asked(dialect, f"auto:only_{name}", text=HARD)
    _, headers, _ = await front.post(path, body, headers={"x-modelspend-profile": "default"})
    assert who(last(simulator)) == name
    decision = (await front.receipt_of(headers)).decision
    assert decision
    assert decision.profile == f"only_{name}"


async def test_geminis_path_may_escape_its_colons(front: Sidecar, simulator: Simulator) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    for path in (
        "/v1beta/models/auto:only_gem:generateContent",
        "/v1beta/models/auto%3Aonly_gem%3AgenerateContent",
        "/models/auto%3aonly_gem:generateContent",
        "/v1/models/auto:only_gem:streamGenerateContent?alt=sse",
        "/v1beta/models/auto:only_gem:streamGenerateContent",
    ):
        status, _, answer = await front.post(path, body)
        assert status == 200, (path, answer)
        assert who(last(simulator)) == "gem"
        assert last(simulator).model == "sim-ok"


async def test_a_stream_of_gemini_is_framed_as_its_client_asked(front: Sidecar) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    for name in SPEAKS:
        path = f"/v1beta/models/auto:only_{name}:streamGenerateContent"
        _, headers, answer = await front.post(path, body)
        assert headers["content-type"].startswith("application/json")
        assert isinstance(json.loads(answer), list), name
        _, headers, answer = await front.post(f"{path}?alt=sse", body)
        assert headers["content-type"].startswith("text/event-stream")
        assert answer.startswith(b"data: "), name


@pytest.mark.parametrize("dialect", CHATS)
async def test_what_no_profile_or_mode_is_called_is_refused(front: Sidecar, dialect: str) -> None:
    path, body = asked(dialect, "auto")
    for model, header in (
        ("auto:nothing", {}),
        ("auto", {"x-modelspend-profile": "nothing"}),
        ("openai-own", {"x-modelspend-profile": "nothing"}),
        ("openai-own", {"x-modelspend-mode": "sideways"}),
        ("auto", {"x-modelspend-mode": "Route"}),
    ):
        path, body = asked(dialect, model)
        status, headers, answer = await front.post(path, body, headers=header)
        receipt = await front.receipt_of(headers)
        assert status == 400, answer
        assert not receipt.attempts
        assert (receipt.execution.error or "").startswith("bad_request: ")


async def test_modes_of_a_header_win_over_the_settings(front: Sidecar) -> None:
    for mode, applied in (("observe", False), ("shadow", False), ("route", True)):
        path, body = asked("openai.chat", "openai-own")
        _, headers, _ = await front.post(path, body, headers={"x-modelspend-mode": mode})
        receipt = await front.receipt_of(headers)
        assert receipt.decision
        assert (receipt.decision.mode, receipt.decision.applied) == (mode, applied)
        assert receipt.attempts[0].provider == ("chatty" if applied else "openai")
        chosen = "openai" if mode == "observe" else "chatty"
        assert receipt.decision.provider == chosen
        assert bool(receipt.candidates) is (mode != "observe")


async def test_in_shadow_a_receipt_says_what_it_would_have_been(
    front: Sidecar, simulator: Simulator
) -> None:
    path, body = asked("openai.chat", "openai-own", text=HARD)
    _, headers, _ = await front.post(path, body, headers={"x-modelspend-mode": "shadow"})
    receipt = await front.receipt_of(headers)
    assert receipt.decision
    assert (receipt.decision.provider, receipt.decision.model_id) == ("gem", "large")
    would = {each.provider: each.est_cost_pico for each in receipt.candidates}
    tokens = receipt.decision.inputs["input_tokens"] if receipt.decision.inputs else 0
    assert would["gem"] == tokens * 4_000_000 + 1500 * 7_000_000
    assert last(simulator).body == orjson.dumps(body) or json.loads(last(simulator).body) == body


# Without conversations there is nothing to decide.


@pytest.mark.parametrize("mode", ["observe", "shadow", "route"])
async def test_embeddings_and_counting_are_never_translated_or_routed(
    front: Sidecar, simulator: Simulator, mode: str
) -> None:
    embed = {"model": "chatty/text-embedding-3-small", "input": "hi"}
    count = {"model": "chatty/sim-ok", "messages": [{"role": "user", "content": "hi"}]}
    chosen = {"x-modelspend-mode": mode}
    before = len(simulator.requests)
    for path, body in (("/v1/embeddings", embed), ("/v1/messages/count_tokens", count)):
        status, headers, answer = await front.post(path, body, headers=chosen)
        assert status == 400, answer
        assert b"does not speak" in answer
        receipt = await front.receipt_of(headers)
        assert (receipt.execution.error or "").startswith("unsupported")
        for model in ("auto", "auto:only_claude"):
            status, headers, answer = await front.post(path, body | {"model": model})
            assert status == 400
            assert b"has none" in answer
            assert not (await front.receipt_of(headers)).attempts
    assert len(simulator.requests) == before
    counted = count | {"model": "claude/sim-ok"}
    status, _, answer = await front.post("/v1/messages/count_tokens", counted, headers=chosen)
    assert (status, who(last(simulator))) == (200, "claude")


# Explaining.


@pytest.mark.parametrize("dialect", CHATS)
@pytest.mark.parametrize("name", SPEAKS)
async def test_an_explanation_is_one_more_member_and_nothing_else(
    front: Sidecar, simulator: Simulator, dialect: str, name: str
) -> None:
    path, body = asked(dialect, f"auto:only_{name}")
    told = {}
    for asks in ("0", "1"):
        simulator.replay([])
        _, headers, answer = await front.post(path, body, headers={"x-modelspend-explain": asks})
        told[asks] = json.loads(answer), headers, answer
    plain, explained = told["0"][0], told["1"][0]
    told_why = explained.pop("modelspend")
    assert _timeless(plain) == _timeless(explained)
    assert told_why["receipt_id"] == told["1"][1]["x-modelspend-receipt"]
    assert told_why["decision"]["provider"] == name
    assert [each["provider"] for each in told_why["candidates"]] == [name]
    assert told_why["classification"]["tier"] == "simple"
    assert not told["1"][2].rstrip().endswith(b",}")
    path, body = asked(dialect, f"auto:only_{name}", stream=True)
    _, _, streamed = await front.post(path, body, headers={"x-modelspend-explain": "1"})
    assert b'"modelspend"' not in streamed
    refused, bad = asked(dialect, f"{name}/sim-400")
    _, _, refusal = await front.post(refused, bad, headers={"x-modelspend-explain": "1"})
    assert "modelspend" not in json.loads(refusal)


def _timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """Without ids and times, which are new with each call."""
    changing = {"id", "created", "created_at", "completed_at", "responseId", "createTime", "output"}
    return {key: value for key, value in answer.items() if key not in changing}


async def test_a_rationale_cannot_break_out_of_its_header(front: Sidecar) -> None:
    """A model's name is the caller's own text, and part of why it was pinned."""
    odd = ("a\nx-evil: 1", "a\r\n\r\nb", "Ünïcödé", "x" * 200, "x" * 9000)
    for name in (f"chatty/{each}" for each in odd):
        path, body = asked("openai.chat", "MODEL")
        body["model"] = name
        status, headers, _ = await front.post(path, body, headers={"x-modelspend-mode": "route"})
        assert "x-evil" not in headers
        assert status == (200 if len(name) < 300 and name.isprintable() else 400)
        assert len(headers.get("x-modelspend-rationale", "")) < 500
        assert (await front.receipt_of(headers)).request.model == (name if status == 200 else "")


# Whose words and whose key.


@pytest.mark.parametrize(("name", "to"), PAIRS)
async def test_headers_of_one_vendor_never_reach_another(
    front: Sidecar, simulator: Simulator, name: str, to: str
) -> None:
    path, body = asked(name, f"{AT[to]}/sim-ok")
    join = "&" if "?" in path else "?"
    await front.post(
        f"{path}{join}beta=true&key={CANARY}&trace=canary-query",
        body,
        headers={
            "authorization": f"Bearer {CANARY}",
            "x-api-key": CANARY,
            "x-goog-api-key": CANARY,
            "anthropic-version": "1999-01-01",
            "anthropic-beta": "canary-beta",
            "openai-organization": "org-canary",
            "openai-beta": "canary-beta",
            "x-goog-user-project": "canary-project",
            "x-stainless-lang": "canary",
            "x-custom": "canary",
            "cookie": "canary=1",
            "user-agent": "my-app/1",
            "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
            "x-modelspend-tenant": "acme",
        },
    )
    seen = last(simulator)
    assert who(seen) == AT[to]
    assert "canary" not in str(list(seen.headers.items())).lower()
    assert CANARY.lower() not in str(dict(seen.query)).lower()
    assert not seen.query.keys() & {"beta", "trace", "key"}
    assert seen.headers["user-agent"] == "my-app/1"
    assert seen.headers["traceparent"].startswith("00-0123456789abcdef")
    assert seen.headers["content-type"] == "application/json"
    version = seen.headers.get("anthropic-version")
    assert (version is not None) is (to == "anthropic.messages")
    assert version != "1999-01-01"
    assert not any(key.lower().startswith("x-modelspend") for key in seen.headers)


OWN_KEY = {
    "openai.chat": {"authorization": f"Bearer {CANARY}"},
    "openai.responses": {"authorization": f"Bearer {CANARY}"},
    "anthropic.messages": {"x-api-key": CANARY},
    "gemini.generate": {"x-goog-api-key": CANARY},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_callers_own_key_goes_to_its_own_vendor_and_nowhere_else(
    front: Sidecar, simulator: Simulator, dialect: str, stream: bool
) -> None:
    mine = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}[dialect.split(".")[0]]
    others = [*SPEAKS, *(name for name in NATIVE if name != mine)]
    for name in others:
        model = f"{name}/sim-ok" if name in SPEAKS else f"{name}-own"
        path, body = asked(dialect, model, stream=stream)
        status, _, _ = await front.post(path, body, headers=OWN_KEY[dialect])
        assert status == 200
        _without_canary(simulator)
    for name in SPEAKS:
        path, body = asked(dialect, f"auto:only_{name}", stream=stream)
        await front.post(path, body, headers=OWN_KEY[dialect])
        assert who(last(simulator)) == name
        _without_canary(simulator)
        path, body = asked(dialect, f"{mine}-own", stream=stream)
        routed = {"x-modelspend-mode": "route", "x-modelspend-profile": f"only_{name}"}
        await front.post(path, body, headers=OWN_KEY[dialect] | routed)
        assert who(last(simulator)) == name
        _without_canary(simulator)
    path, body = asked(dialect, f"{mine}-own", stream=stream)
    await front.post(path, body, headers=OWN_KEY[dialect])
    assert who(last(simulator)) == CANARY
    for receipt in await front.receipts():
        assert CANARY not in repr(receipt)


def _without_canary(simulator: Simulator) -> None:
    seen = last(simulator)
    assert CANARY not in f"{seen.path} {dict(seen.query)} {list(seen.headers.items())}"
    assert CANARY.encode() not in seen.body


@pytest.mark.parametrize("dialect", CHATS)
async def test_candidates_without_a_key_are_passed_over(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    env = {"CLAUDE": "sk-of-claude"}
    async with sidecar_for(tmp_path, simulator.url, env=env, **tree(simulator.url)) as front:
        path, body = asked(dialect, "auto:mixed", text="hi")
        profiles = {"mixed": {"simple": ["chatty/small", "nowhere/x", "unknown", "claude/small"]}}
        front.gateway.router.settings = front.gateway.router.settings.model_validate(
            {**front.gateway.router.settings.model_dump(), "profiles": profiles}
        )
        status, headers, answer = await front.post(path, body)
        assert status == 200, answer
        assert who(last(simulator)) == "claude"
        receipt = await front.receipt_of(headers)
        out = [each.filtered_out_by for each in receipt.candidates]
        assert out == ["provider_denied"] * 3 + [None]


# What cannot be said or may not be asked.


async def test_what_no_candidate_can_carry_is_refused_with_every_reason(front: Sidecar) -> None:
    body = {
        "model": "auto:three",
        "messages": [{"role": "user", "content": "hi"}],
        "n": 2,
    }
    three = ["claude/sim-ok", "gem/sim-ok", "respond/sim-ok"]
    _profile(front, "three", three)
    status, headers, answer = await front.post("/v1/chat/completions", body)
    assert status == 400
    error = json.loads(answer)["error"]
    assert error["type"] == "invalid_request_error"
    for name in ("claude/sim-ok", "gem/sim-ok", "respond/sim-ok"):
        assert f"{name} (capability:choices)" in error["message"]
    assert "`n` asks for several answers at once" in error["message"]
    receipt = await front.receipt_of(headers)
    assert not receipt.attempts
    assert (receipt.execution.error or "").startswith("no_candidate")
    _profile(front, "three", [*three, "chatty/sim-ok"])
    status, headers, _ = await front.post("/v1/chat/completions", body)
    assert (status, headers["x-modelspend-provider"]) == (200, "chatty")
    receipt = await front.receipt_of(headers)
    assert [each.filtered_out_by for each in receipt.candidates] == ["capability:choices"] * 3 + [
        None
    ]


def _profile(front: Sidecar, name: str, models: list[str]) -> None:
    router = front.gateway.router
    told = router.settings.model_dump(by_alias=True)
    told["profiles"] = {
        **told["profiles"],
        name: tiers(*models),
    }
    router.settings = router.settings.model_validate(told)


UNPAIRED = {
    "openai.chat": {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "tool", "tool_call_id": "call_lost", "content": "rain"},
        ]
    },
    "openai.responses": {
        "input": [
            {"role": "user", "content": "hi"},
            {"type": "function_call_output", "call_id": "call_lost", "output": "rain"},
        ]
    },
    "anthropic.messages": {
        "max_tokens": 99,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_lost", "content": "rain"}
                ],
            }
        ],
    },
}
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
}


@pytest.mark.parametrize("dialect", UNPAIRED)
async def test_an_unpaired_tool_result_rules_other_dialects_out_and_not_its_own(
    front: Sidecar, simulator: Simulator, dialect: str
) -> None:
    others = [f"{name}/sim-ok" for name, spoken in SPEAKS.items() if spoken != dialect]
    own = f"{AT[dialect]}/sim-ok"
    _profile(front, "p", [*others, own])
    body = {**UNPAIRED[dialect], "model": "auto:p"}
    status, headers, answer = await front.post(PATHS[dialect], body)
    assert status == 200, answer
    assert who(last(simulator)) == AT[dialect]
    out = [each.filtered_out_by for each in (await front.receipt_of(headers)).candidates]
    assert out == ["capability:unpaired_tools"] * 3 + [None]
    _profile(front, "p", others)
    status, _, answer = await front.post(PATHS[dialect], body)
    assert status == 400
    assert b"capability:unpaired_tools" in answer
    assert b"lost" in answer
    for mode in ("observe", "shadow", "route"):
        named = {**UNPAIRED[dialect], "model": _native(dialect)}
        headers_ = {"x-modelspend-mode": mode, "x-modelspend-profile": "p"}
        status, _, answer = await front.post(PATHS[dialect], named, headers=headers_)
        assert status == 200, answer
        assert json.loads(last(simulator).body) == named


def _native(dialect: str) -> str:
    return "anthropic-own" if dialect.startswith("anthropic") else "openai-own"


async def test_a_request_that_nobody_else_could_read_goes_as_it_is(
    front: Sidecar, simulator: Simulator
) -> None:
    body = {"model": "openai-own", "messages": [{"role": "wizard", "content": "hi"}]}
    for mode in ("observe", "shadow", "route"):
        before = len(simulator.requests)
        await front.post("/v1/chat/completions", body, headers={"x-modelspend-mode": mode})
        assert len(simulator.requests) == before + 1, mode
        assert json.loads(last(simulator).body) == body
        assert last(simulator).headers.get("authorization") is None  # `openai` has no key here
    status, headers, answer = await front.post("/v1/chat/completions", body | {"model": "auto"})
    assert status == 400
    assert json.loads(answer)["error"]["param"] == "messages[0].role"
    assert not (await front.receipt_of(headers)).attempts


# Constraints of tenants and workflows.


async def test_tenants_and_workflows_narrow_what_may_be_chosen(
    tmp_path: Path, simulator: Simulator
) -> None:
    sections = tree(
        simulator.url,
        profiles={"wide": {"simple": ["chatty/a", "claude/a", "gem/a", "respond/a"]}},
        tenants={
            "acme": {"profile": "wide", "constraints": {"providers": ["claude", "gem"]}},
            "poor": {"profile": "wide", "constraints": {"max_usd": 0.0001}},
            "europe": {"profile": "wide", "constraints": {"regions": ["eu"]}},
            "quiet": {"profile": "wide", "constraints": {"no_training": True}},
        },
        workflows={
            "g": {"constraints": {"providers": ["gem", "chatty"]}},
            "c": {"profile": "only_chatty"},
        },
    )
    sections["providers"]["respond"] |= {"region": "eu", "trains": False}
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **sections) as front:
        for tenant, workflow, provider in (
            ("acme", None, "claude"),
            ("acme", "g", "gem"),
            ("nobody", "g", "chatty"),
            ("acme", "c", None),
            ("europe", None, "respond"),
            ("quiet", None, "respond"),
            ("poor", None, None),
        ):
            path, body = asked("openai.chat", "auto")
            headers = {"x-modelspend-tenant": tenant}
            if workflow:
                headers["x-modelspend-workflow"] = workflow
            status, got, answer = await front.post(path, body, headers=headers)
            told = got.get("x-modelspend-provider")
            assert (status, told) == (200 if provider else 400, provider), (tenant, answer)
            receipt = await front.receipt_of(got)
            assert receipt.tenant == tenant
            if provider is None:
                assert not receipt.attempts
                assert b"budget" in answer or b"provider_denied" in answer


async def test_a_rule_holds_for_a_model_that_was_named_too(
    tmp_path: Path, simulator: Simulator
) -> None:
    sections = tree(simulator.url, tenants={"acme": {"constraints": {"providers": ["claude"]}}})
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **sections) as front:
        for model in ("openai-own", "gem/sim-ok"):
            path, body = asked("openai.chat", model)
            headers = {"x-modelspend-tenant": "acme", "x-modelspend-mode": "route"}
            headers["x-modelspend-profile"] = "only_chatty"
            status, got, answer = await front.post(path, body, headers=headers)
            assert status == 400, answer
            assert b"provider_denied" in answer
            headers["x-modelspend-mode"] = "shadow"
            status, got, _ = await front.post(path, body, headers=headers)
            assert status == 200
            decision = (await front.receipt_of(got)).decision
            assert decision
            assert decision.rationale[-1] == "as asked: route would refuse it"


async def test_a_reload_swaps_profiles_and_a_bad_one_changes_nothing(
    tmp_path: Path, simulator: Simulator
) -> None:
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **tree(simulator.url)) as front:
        path, body = asked("openai.chat", "auto:mine")
        assert (await front.post(path, body))[0] == 400
        file = tmp_path / "config.toml"
        import tomllib

        written = tomllib.loads(file.read_text("utf-8"))
        written["profiles"]["mine"] = {"simple": ["gem/sim-ok"]}
        file.write_text(tomli_w.dumps(written))
        await front.app[RELOAD]()
        assert (await front.post(path, body))[1]["x-modelspend-provider"] == "gem"
        written["profiles"]["mine"] = {"simple": ["claude/sim-ok"]}
        file.write_text(tomli_w.dumps(written) + "\nnonsense = 1\n")
        with pytest.raises(Exception, match="nonsense"):
            await front.app[RELOAD]()
        assert (await front.post(path, body))[1]["x-modelspend-provider"] == "gem"
        file.write_text(tomli_w.dumps(written))
        await front.app[RELOAD]()
        assert (await front.post(path, body))[1]["x-modelspend-provider"] == "claude"


# Large answers.


@pytest.mark.parametrize("to", CHATS)
async def test_a_large_answer_is_translated_whole(front: Sidecar, to: str) -> None:
    for name in CHATS:
        path, body = asked(name, f"{AT[to]}/sim-size-9m")
        status, headers, answer = await front.post(path, body)
        assert status == 200
        assert answer.count(b"x") >= 9 * 1024 * 1024
        receipt = await front.receipt_of(headers)
        assert receipt.execution.status == "success"
        if name != to:
            assert headers["x-modelspend-cost-usd"]
            json.loads(answer)


async def test_an_answer_beyond_what_can_be_translated_is_an_error_in_the_clients_words(
    front: Sidecar,
) -> None:
    path, body = asked("anthropic.messages", "chatty/sim-size-65m")
    status, headers, answer = await front.post(path, body)
    assert status == 502
    assert json.loads(answer)["type"] == "error"
    assert (await front.receipt_of(headers)).execution.status == "error"


# A dry run knows what cannot be said, and the caller's key.


@pytest.mark.parametrize("mode", ["observe", "shadow", "route"])
async def test_a_dry_run_refuses_what_a_call_would_be_refused_for(
    front: Sidecar, mode: str
) -> None:
    body = {"model": "claude/sim-ok", "messages": [{"role": "user", "content": "hi"}], "n": 2}
    headers = {"x-modelspend-mode": mode}
    token = {"authorization": f"Bearer {front.token}"}
    said = {"body": body, "headers": headers}
    status, _, dry = await front.post("/v1/route", said, headers=token)
    live, got, answer = await front.post("/v1/chat/completions", body, headers=headers)
    assert status == live == 400
    error = (await front.receipt_of(got)).execution.error or ""
    assert error.startswith("uncarriable: ")
    assert json.loads(dry)["title"] == "uncarriable"
    assert json.loads(dry)["detail"] in answer.decode()


async def test_a_dry_run_counts_the_callers_own_key_as_a_call_does(
    tmp_path: Path, simulator: Simulator
) -> None:
    base = {"base_url": f"{simulator.url}/v1", "dialects": ["openai.chat"], "api_key_env": "UNSET"}
    async with sidecar_for(tmp_path, simulator.url, providers={"openai": base}) as front:
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"authorization": f"Bearer {CANARY}", "x-modelspend-mode": "route"}
        said = {"body": body, "headers": headers}
        token = {"authorization": f"Bearer {front.token}"}
        _, _, dry = await front.post("/v1/route", said, headers=token)
        _, got, _ = await front.post("/v1/chat/completions", body, headers=headers)
        receipt = await front.receipt_of(got)
        assert receipt.decision
        assert receipt.decision.model_id == json.loads(dry)["selected_model"] == "gpt-5-nano"
        live = [each.filtered_out_by for each in receipt.candidates]
        assert [each["filtered_out_by"] for each in json.loads(dry)["candidates"]] == live
        assert "provider_denied" in live
        assert last(simulator).headers["authorization"] == f"Bearer {CANARY}"
        assert CANARY not in dry.decode()


# Stored answers.


async def _respond(front: Sidecar, **said: Any) -> tuple[int, dict[str, Any], Any]:
    headers = said.pop("headers", {})
    body = {"model": "auto", "input": "hi", **said}
    status, got, answer = await front.post("/v1/responses", body, headers=headers)
    return status, json.loads(answer), await front.receipt_of(got)


async def test_a_stored_answer_pins_the_provider_that_keeps_it(
    front: Sidecar, simulator: Simulator
) -> None:
    _, first, receipt = await _respond(front, model="auto:only_respond")
    assert receipt.attempts[0].provider == "respond"
    status, _, receipt = await _respond(front, previous_response_id=first["id"], input=HARD)
    assert status == 200
    assert receipt.decision
    assert (receipt.attempts[0].provider, receipt.attempts[0].model_id) == ("respond", "sim-ok")
    assert receipt.decision.strategy == "pinned"
    assert receipt.decision.rationale[-1].startswith("pinned: respond keeps")
    assert [each.provider for each in receipt.candidates] == ["respond"]
    assert json.loads(last(simulator).body)["previous_response_id"] == first["id"]
    named = {"model": "openai-own", "previous_response_id": first["id"]}
    for mode, provider in (("observe", "openai"), ("shadow", "openai"), ("route", "respond")):
        status, _, receipt = await _respond(front, **named, headers={"x-modelspend-mode": mode})
        assert (status, receipt.attempts[0].provider) == (200, provider), mode
    at_home = {"model": "respond/other", "previous_response_id": first["id"]}
    _, _, receipt = await _respond(front, **at_home, headers={"x-modelspend-mode": "route"})
    assert receipt.attempts[0].model_id == "other"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_where_an_answer_is_kept_survives_a_restart(
    tmp_path: Path, simulator: Simulator, stream: bool
) -> None:
    sections = tree(simulator.url)
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **sections) as front:
        body = {"model": "auto:only_respond", "input": "hi", "stream": stream}
        _, _, answer = await front.post("/v1/responses", body)
        kept = _kept_id(answer)
    async with sidecar_for(tmp_path, simulator.url, env=ENV, **sections) as front:
        status, _, receipt = await _respond(front, previous_response_id=kept)
        assert (status, receipt.attempts[0].provider) == (200, "respond")
        other = {"x-modelspend-tenant": "somebody-else"}
        status, answer, _ = await _respond(front, previous_response_id=kept, headers=other)
        assert (status, answer["error"]["code"]) == (400, "previous_response_not_found")


def _kept_id(answer: bytes) -> str:
    found = re.search(rb'"id":"((?:resp|msg)_[^"]+)"', answer)
    assert found, answer[:500]
    return found[1].decode()


async def test_an_answer_that_nobody_keeps_is_an_error_for_auto_and_carried_when_named(
    front: Sidecar, simulator: Simulator
) -> None:
    status, answer, receipt = await _respond(front, previous_response_id="resp_gone")
    assert status == 400
    assert answer["error"]["code"] == "previous_response_not_found"
    assert answer["error"]["param"] == "previous_response_id"
    assert not receipt.attempts
    for mode in ("observe", "shadow", "route"):
        named = {"model": "openai-own", "previous_response_id": "resp_gone"}
        status, _, receipt = await _respond(front, **named, headers={"x-modelspend-mode": mode})
        assert (status, receipt.attempts[0].provider) == (200, "openai")
        assert json.loads(last(simulator).body)["previous_response_id"] == "resp_gone"
    translated = {"model": "claude/sim-ok", "previous_response_id": "resp_gone"}
    status, answer, _ = await _respond(front, **translated)
    assert status == 400
    assert answer["error"]["param"] == "previous_response_id"


async def test_what_is_not_stored_is_not_remembered(front: Sidecar) -> None:
    cases: list[dict[str, Any]] = [
        {"model": "auto:only_respond", "store": False},
        {"model": "auto:only_claude"},
        {"model": "respond/sim-failed-after-5", "stream": True},
    ]
    for case in cases:
        stream = case.get("stream")
        body = {"input": "hi", **case}
        _, got, answer = await front.post("/v1/responses", body)
        kept = _kept_id(answer)
        assert (await front.receipt_of(got)).request.stream is bool(stream)
        status, told, _ = await _respond(front, previous_response_id=kept)
        assert (status, told["error"]["code"]) == (400, "previous_response_not_found"), case


async def test_a_conversation_of_openais_stays_with_its_provider(front: Sidecar) -> None:
    named = {"model": "openai-own", "conversation": "conv_1"}
    _, _, receipt = await _respond(front, **named, headers={"x-modelspend-mode": "route"})
    assert receipt.attempts[0].provider == "openai"
    assert receipt.decision.strategy == "pinned"
    _, _, receipt = await _respond(front, conversation="conv_1", input=HARD)
    assert (receipt.attempts[0].provider, receipt.attempts[0].model_id) == ("openai", "openai-own")


# What a provider sealed.

SEALED = "sEaLeD-by-the-first"
THINKING: dict[str, tuple[dict[str, Any], str]] = {
    "anthropic.messages": (
        {
            "max_tokens": 99,
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": SEALED},
                        {"type": "redacted_thinking", "data": SEALED},
                        {"type": "text", "text": "hello"},
                    ],
                },
                {"role": "user", "content": "again"},
            ],
            "metadata": {"user_id": "u"},
        },
        "thinking",
    ),
    "openai.responses": (
        {
            "input": [
                {"role": "user", "content": "hi"},
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [],
                    "encrypted_content": SEALED,
                },
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": "again"},
            ],
            "prompt_cache_key": "mine",
        },
        "thinking",
    ),
    "openai.chat": (
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": "hello",
                    "reasoning_details": [{"type": "reasoning.encrypted", "data": SEALED}],
                },
                {"role": "user", "content": "again"},
            ],
            "logit_bias": {"5": 1},
        },
        "thinking",
    ),
    "gemini.generate": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "hm", "thought": True, "thoughtSignature": SEALED},
                        {"text": "hello", "thoughtSignature": SEALED},
                    ],
                },
                {"role": "user", "parts": [{"text": "again"}]},
            ]
        },
        "thinking",
    ),
}


def _path(dialect: str, model: str) -> str:
    return PATHS.get(dialect) or f"/v1beta/models/{model}:generateContent"


@pytest.mark.parametrize("dialect", CHATS)
async def test_what_a_provider_sealed_does_not_go_to_another_of_its_dialect(
    tmp_path: Path, simulator: Simulator, dialect: str
) -> None:
    twins = {
        name: {
            "base_url": f"{simulator.url}/v1",
            "dialects": [dialect],
            "price": {"input": price, "output": price},
            "api_key_env": name.upper(),
        }
        for name, price in (("one", 5), ("two", 1))
    }
    sections = tree(simulator.url, providers=twins)
    sections["profiles"] |= {"p1": tiers("one/a"), "p2": tiers("two/a")}
    env = ENV | {"ONE": "sk-one", "TWO": "sk-two"}
    said, noted = THINKING[dialect]
    session = {"x-modelspend-session": "s"}
    async with sidecar_for(tmp_path, simulator.url, env=env, **sections) as front:

        async def turn(profile: str) -> tuple[bytes, Any]:
            model = f"auto:{profile}"
            body = said if dialect == "gemini.generate" else {**said, "model": model}
            _, headers, answer = await front.post(_path(dialect, model), body, headers=session)
            assert headers.get("x-modelspend-provider"), answer
            return last(simulator).body, await front.receipt_of(headers)

        _, receipt = await turn("p1")  # where it has been before is not known: as for a stranger
        assert receipt.attempts[0].provider == "one"
        sent, receipt = await turn("p1")
        assert SEALED.encode() in sent
        assert receipt.request.dropped == ()
        sent, receipt = await turn("p2")
        assert receipt.attempts[0].provider == "two"
        assert SEALED.encode() not in sent
        assert b"hello" in sent
        assert b"again" in sent
        assert receipt.request.dropped == (noted,)
        assert "reasoning" in receipt.request.splices
        assert receipt.request.translated_to is None
        for kept in ("metadata", "prompt_cache_key", "logit_bias"):
            assert (kept in said) is (kept.encode() in sent)
        for _ in range(2):  # two has written in it now, and what it wrote comes back each time
            sent, receipt = await turn("p1")
            assert receipt.attempts[0].provider == "one"
            assert SEALED.encode() not in sent


async def test_a_stranger_gets_the_very_bytes_where_nothing_is_sealed(
    front: Sidecar, simulator: Simulator
) -> None:
    body = (
        b'{ "model":"auto:only_claude" , "max_tokens":9,"x-new": [1.50],'
        b'"messages":[{"role":"user","content":"thinking about it"}]}'
    )
    status, headers, _ = await front.post("/v1/messages", body)
    assert status == 200
    assert last(simulator).body == body.replace(b'"auto:only_claude"', b'"sim-ok"')
    assert (await front.receipt_of(headers)).request.splices == ("model",)


async def test_in_observe_and_shadow_sealed_reasoning_is_the_clients_own_affair(
    front: Sidecar, simulator: Simulator
) -> None:
    said, _ = THINKING["anthropic.messages"]
    for mode in ("observe", "shadow"):
        body = orjson.dumps({**said, "model": "anthropic-own"})
        await front.post("/v1/messages", body, headers={"x-modelspend-mode": mode})
        assert last(simulator).body == body


# An answer that is no stream although one was asked for.


@pytest.mark.parametrize(("name", "to"), [each for each in PAIRS if each[1] != "gemini.generate"])
async def test_a_whole_answer_to_a_streaming_client_of_another_dialect_is_a_stream(
    front: Sidecar, simulator: Simulator, name: str, to: str
) -> None:
    path, body = asked(to, f"{AT[to]}/sim-ok")
    _, _, whole = await front.post(path, body)
    simulator.replay([Recorded(body=whole)])
    path, body = asked(name, f"{AT[to]}/sim-ok", stream=True)
    status, headers, answer = await front.post(path, body)
    receipt = await front.receipt_of(headers)
    assert status == 200
    assert receipt.execution.status == "success", receipt.execution.error
    assert b"data: " in answer, answer[:300]
