"""Which answers may be given again: the key, what may be kept, and who has a say."""

import json
from typing import Any

import orjson
import pytest

from modelspend.answers import (
    OFF,
    WORDS,
    Policy,
    Word,
    calls_tools,
    kept_headers,
    key,
    may_keep,
    policy,
    varies,
    word,
)
from modelspend.errors import BadRequest
from modelspend.sections import Cache, Tenant, Workflow
from modelspend.settings import Settings

BODY = {
    "model": "gpt-4.1",
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.5,
    "stream": False,
    "stream_options": {"include_usage": True},
    "metadata": {"a": 1, "b": [1, 2, None]},
}
CALL: dict[str, Any] = {
    "tenant": "acme",
    "credential": "k1",
    "dialect": "openai.chat",
    "operation": "",
    "provider": "openai",
    "model": "gpt-4.1",
    "query": "",
    "headers": [("OpenAI-Organization", "org-1"), ("anthropic-beta", "a")],
    "fields": BODY,
}


def keyed(**changes: Any) -> bytes | None:
    return key(**(CALL | changes))


def body(**changes: Any) -> dict[str, Any]:
    return {"fields": BODY | changes}


OTHERS: dict[str, dict[str, Any]] = {
    "tenant": {"tenant": "beta"},
    "credential": {"credential": "k2"},
    "no credential": {"credential": None},
    "dialect": {"dialect": "openai.responses"},
    "operation": {"operation": "streamGenerateContent"},
    "provider": {"provider": "azure"},
    "model": {"model": "gpt-4.1-mini"},
    "query": {"query": "alt=sse"},
    "header's value": {"headers": [("OpenAI-Organization", "org-2"), ("anthropic-beta", "a")]},
    "header less": {"headers": [("OpenAI-Organization", "org-1")]},
    "header more": {"headers": [*CALL["headers"], ("x-never-heard-of", "1")]},
    "model asked": body(model="gpt-4.1-2025"),
    "text": body(messages=[{"role": "user", "content": "hi "}]),
    "role": body(messages=[{"role": "system", "content": "hi"}]),
    "number": body(temperature=0.6),
    "whole and broken number": body(temperature=1),
    "broken and whole number": body(temperature=1.0),
    "truth and number": body(temperature=True),
    "stream": body(stream=True),
    "stream options": body(stream_options={"include_usage": False}),
    "deep value": body(metadata={"a": 1, "b": [1, 2, 0]}),
    "order of a list": body(metadata={"a": 1, "b": [2, 1, None]}),
    "null and absent": body(seed=None),
    "unknown member": body(new_feature={"on": True}),
    "user": body(user="someone"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_two_different_calls_have_one_key(name: str) -> None:
    found = keyed(**OTHERS[name])
    assert found is not None
    assert found != keyed()
    assert found == keyed(**OTHERS[name])


def test_all_these_calls_have_different_keys() -> None:
    keys = [keyed(**changes) for changes in OTHERS.values()]
    assert len({*keys, keyed()}) == len(OTHERS) + 1


def test_layout_order_of_members_and_names_that_say_nothing_do_not_count() -> None:
    text = json.dumps(dict(reversed(BODY.items())), indent=4)
    assert keyed(fields=orjson.loads(text)) == keyed()
    more = [
        ("User-Agent", "x/2"),
        ("x-stainless-retry-count", "1"),
        ("Traceparent", "00-1"),
        ("Authorization", "Bearer sk-1"),
        ("x-modelspend-cache", "on"),
        ("Content-Length", "5"),
    ]
    assert keyed(headers=[*more, *reversed(CALL["headers"])]) == keyed()
    assert keyed(headers=[(n.upper(), v) for n, v in CALL["headers"]]) == keyed()


def test_parts_cannot_flow_into_each_other() -> None:
    assert keyed(tenant="a", credential="b") != keyed(tenant="ab", credential="")
    assert keyed(tenant='a","b', credential="") != keyed(tenant="a", credential='b","')


@pytest.mark.parametrize(
    "changes",
    [
        {"dialect": "anthropic.count_tokens"},
        {"dialect": "strange"},
        body(conversation="conv_1"),
        body(conversation={"id": "conv_1"}),
        body(container="c"),
        body(seed=float(2**64)),
        body(metadata={"deep": [{"n": 1e300}]}),
    ],
)
def test_where_no_two_calls_are_the_same_there_is_no_key(changes: dict[str, Any]) -> None:
    assert keyed(**changes) is None


def test_numbers_that_look_large_in_a_text_and_small_numbers_keep_their_key() -> None:
    assert keyed(**body(messages=[{"role": "user", "content": "1e300 and 5e9"}])) is not None
    assert keyed(**body(temperature=1e-9)) is not None
    big = orjson.loads(b'{"seed":18446744073709551617}')
    assert keyed(fields=big) is None, "two such numbers would be read as one"


ASKED = Policy(take=True, keep=True)
WELL: dict[str, Any] = {
    "dialect": "openai.chat",
    "status": 200,
    "finish_reason": "stop",
    "tool_calls": False,
    "error": False,
    "truncated": False,
    "content": True,
    "varies": False,
}
TOOLS, SAMPLED = {"tools": True}, {"sampled": True}
MAY: list[tuple[dict[str, Any], dict[str, bool], bool]] = [
    ({}, {}, True),
    ({"finish_reason": "end_turn"}, {}, True),
    ({"finish_reason": "STOP"}, {}, True),
    ({"finish_reason": "completed"}, {}, True),
    ({"finish_reason": "length"}, TOOLS | SAMPLED, False),
    ({"finish_reason": "max_tokens"}, TOOLS | SAMPLED, False),
    ({"finish_reason": "MAX_TOKENS"}, TOOLS | SAMPLED, False),
    ({"finish_reason": "max_output_tokens"}, TOOLS | SAMPLED, False),
    ({"finish_reason": "content_filter"}, TOOLS | SAMPLED, False),
    ({"finish_reason": "refusal"}, TOOLS | SAMPLED, False),
    ({"finish_reason": "pause_turn"}, TOOLS | SAMPLED, False),
    ({"finish_reason": None}, TOOLS | SAMPLED, False),
    ({"finish_reason": "length", "tool_calls": True}, TOOLS | SAMPLED, False),
    ({"status": 201}, TOOLS | SAMPLED, False),
    ({"status": 500}, TOOLS | SAMPLED, False),
    ({"error": True}, TOOLS | SAMPLED, False),
    ({"truncated": True}, TOOLS | SAMPLED, False),
    ({"content": False}, TOOLS | SAMPLED, False),
    ({"keep": False}, TOOLS | SAMPLED, False),
    ({"finish_reason": "tool_calls"}, {}, False),
    ({"finish_reason": "tool_use"}, SAMPLED, False),
    ({"tool_calls": True}, {}, False),
    ({"finish_reason": "tool_calls"}, TOOLS, True),
    ({"tool_calls": True, "content": False}, TOOLS, True),
    ({"tool_calls": True, "varies": True}, TOOLS, False),
    ({"varies": True}, {}, False),
    ({"varies": True}, SAMPLED, True),
    ({"dialect": "openai.embeddings", "finish_reason": None, "content": False}, {}, True),
    ({"dialect": "openai.embeddings", "finish_reason": None, "error": True}, {}, False),
]


@pytest.mark.parametrize(("answer", "asked", "kept"), MAY, ids=lambda value: str(value))
def test_only_whole_and_good_answers_are_kept(
    answer: dict[str, Any], asked: dict[str, bool], kept: bool
) -> None:
    said = dict(answer)
    what = Policy(take=True, keep=said.pop("keep", True), **asked)
    assert may_keep(what, **(WELL | said)) is kept


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0.0}, False),
        ({"temperature": None}, False),
        ({"temperature": 0.2}, True),
        ({"temperature": 0.2, "seed": 7}, False),
        ({"n": 1}, False),
        ({"n": 2}, True),
        ({"n": 2, "seed": 7}, True),
        ({"temperature": "hot"}, False),
        ({"generationConfig": {"temperature": 1}}, True),
        ({"generationConfig": {"temperature": 1, "seed": 1}}, False),
        ({"generationConfig": {"candidateCount": 3}}, True),
        ({"generation_config": {"candidate_count": 3}}, True),
        ({"generationConfig": 5}, False),
    ],
)
def test_a_request_that_asks_for_variety_is_known(fields: dict[str, Any], expected: bool) -> None:
    assert varies(fields) is expected


CALLING = [
    b'{"choices":[{"message":{"tool_calls": [ {"id":"x"}]}}]}',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}',
    b'{"choices":[{"message":{"function_call":{"name":"f"}}}]}',
    b'{"output":[{"type":"function_call"}]}',
    b'{"output":[{"type": "web_search_call"}]}',
    b'{"content":[{"type":"tool_use","id":"t"}]}',
    b'{"content":[{"type":"server_tool_use","id":"t"}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall": {"name":"f"}}]}}]}',
]
NOT_CALLING = [
    b'{"choices":[{"message":{"content":"\\"tool_calls\\":[{ and \\"functionCall\\":{"}}]}',
    b'{"choices":[{"message":{"tool_calls":null,"function_call":null}}]}',
    b'{"choices":[{"message":{"tool_calls":[]}}]}',
    b'{"tools":[{"type":"function","name":"f"}],"output":[{"type":"message"}]}',
    b'{"tool_choice":{"type":"tool"},"content":[{"type":"text"}]}',
]


def test_an_answer_that_calls_tools_is_known_in_every_dialect() -> None:
    assert all(map(calls_tools, CALLING))
    assert not any(map(calls_tools, NOT_CALLING))


@pytest.mark.parametrize("said", [None, "", "  "])
def test_no_word_is_no_word(said: str | None) -> None:
    assert word(said) is None


def test_every_word_is_understood_and_no_other() -> None:
    assert [word(known) for known in WORDS] == list(WORDS)
    assert word(" ON ") == "on"
    with pytest.raises(BadRequest, match="none of on, off, refresh, tools") as caught:
        word("yes")
    assert caught.value.field == "x-modelspend-cache"


def settled(
    said: Word | None = None,
    *,
    whole: Cache | None = None,
    tenant: Tenant | None = None,
    workflow: Workflow | None = None,
    bodies_kept: bool = True,
) -> Policy:
    settings = Settings(
        cache=whole or Cache(),
        tenants={"t": tenant or Tenant()},
        workflows={"w": workflow or Workflow()},
    )
    return policy(settings, "t", "w", said, bodies_kept=bodies_kept)


def test_nothing_is_kept_unless_somebody_asked() -> None:
    assert settled() == OFF
    assert policy(Settings(), "x", None, None, bodies_kept=True) == OFF
    assert settled("on").keep
    assert settled(whole=Cache(enabled=True)).keep
    assert settled(tenant=Tenant(cache=True)).keep
    assert settled(workflow=Workflow(cache=True)).keep


def test_a_no_is_stronger_the_closer_it_is_and_a_tenants_no_is_final() -> None:
    on = Cache(enabled=True)
    assert settled(whole=on, workflow=Workflow(cache=False)) == OFF
    assert settled(whole=on, tenant=Tenant(cache=True), workflow=Workflow(cache=False)) == OFF
    assert settled("on", whole=on, workflow=Workflow(cache=False)).keep
    for said in WORDS:
        assert settled(said, tenant=Tenant(cache=False), workflow=Workflow(cache=True)) == OFF
        assert settled(said, whole=on, bodies_kept=False) == OFF
    assert settled("off", whole=on, tenant=Tenant(cache=True)) == OFF


def test_words_say_what_may_be_taken_and_kept() -> None:
    one_hour = 3_600_000
    assert settled("on") == Policy(take=True, keep=True, sampled=True, ttl_ms=one_hour)
    assert settled("refresh") == Policy(keep=True, sampled=True, ttl_ms=one_hour)
    assert settled("tools") == Policy(
        take=True, keep=True, tools=True, sampled=True, ttl_ms=one_hour
    )
    plain = settled(whole=Cache(enabled=True))
    assert plain == Policy(take=True, keep=True, ttl_ms=one_hour)
    more = settled(whole=Cache(enabled=True, tools=True, sampled=True))
    assert (more.tools, more.sampled) == (True, True)


def test_the_time_to_live_is_the_workflows_the_tenants_or_the_whole() -> None:
    whole, tenant = Cache(enabled=True, ttl_s=10), Tenant(cache_ttl_s=20)
    assert settled(whole=whole).ttl_ms == 10_000
    assert settled(whole=whole, tenant=tenant).ttl_ms == 20_000
    workflow = Workflow(cache_ttl_s=0.5)
    assert settled(whole=whole, tenant=tenant, workflow=workflow).ttl_ms == 500


def test_only_what_stays_true_of_an_answer_is_kept_of_its_headers() -> None:
    told = [
        ("Content-Type", "text/event-stream"),
        ("x-ratelimit-remaining", "3"),
        ("set-cookie", "a"),
        ("x-request-id", "r"),
    ]
    assert kept_headers(told) == (("Content-Type", "text/event-stream"),)
