"""What a model takes, told by its name: cases as OpenAI's own refusals spell them."""

from typing import Any

import orjson
import pytest

from modelspend import chat, translation
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.openai_models import abilities, fitting_effort

REASONING = ["o3", "o4-mini", "gpt-5", "openai/gpt-5-mini", "gpt-5.1", "gpt-5.4-2026-03-05"]
PLAIN = ["gpt-4o-mini", "gpt-4.1", "gpt-3.5-turbo", "chatgpt-4o-latest", "gpt-5-chat-latest"]
STRANGERS = ["llama-4", "mistral-large", "openai/gpt-oss-120b", "deepseek-chat", "auto1", "foo3"]


@pytest.mark.parametrize("model", REASONING)
def test_reasoning_models_take_no_sampling_and_no_stops(model: str) -> None:
    able = abilities(model)
    assert (able.sampling, able.stop, able.limit) == (False, False, "max_completion_tokens")
    assert able.efforts


@pytest.mark.parametrize("model", PLAIN)
def test_other_models_of_openai_take_no_effort(model: str) -> None:
    able = abilities(model)
    assert (able.sampling, able.stop, able.efforts) == (True, True, ())
    assert able.limit == "max_completion_tokens"


@pytest.mark.parametrize("model", STRANGERS)
def test_models_of_others_are_taken_to_read_what_most_servers_read(model: str) -> None:
    able = abilities(model)
    assert (able.sampling, able.stop, able.efforts, able.limit) == (True, True, None, "max_tokens")


@pytest.mark.parametrize(
    ("effort", "model", "asked", "note"),
    [
        ("high", "gpt-5", "high", None),
        ("none", "gpt-5", "minimal", "reasoning_effort:none"),
        ("none", "gpt-5.1", "none", None),
        ("minimal", "gpt-5.1", "low", "reasoning_effort:minimal"),
        ("xhigh", "gpt-5.1", "high", "reasoning_effort:xhigh"),
        ("xhigh", "gpt-5.2", "xhigh", None),
        ("none", "o3", "low", "reasoning_effort:none"),
        ("none", "gpt-4o", None, None),
        ("low", "gpt-4o", None, "reasoning_effort"),
        ("odd", "gpt-5", None, "reasoning_effort"),
        ("odd", "llama-4", "odd", None),
        (None, "gpt-5", None, None),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_knows(
    effort: str | None, model: str, asked: str | None, note: str | None
) -> None:
    assert fitting_effort(effort, abilities(model)) == (asked, note)


def request(**settings: Any) -> chat.Request:
    hi = chat.Message(role="user", parts=(chat.Text(text="hi"),))
    return chat.Request(model="m", origin="anthropic.messages", messages=(hi,), **settings)


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses"])
def test_what_the_model_would_refuse_is_dropped_and_named(dialect: str) -> None:
    asked = request(temperature=0.2, top_p=1, stop=("END",), max_output=50)
    told = translation.prepare(asked, to=dialect).request
    encoded = CHAT_DIALECTS[dialect].encode_request(told, "gpt-5-mini")
    body = orjson.loads(encoded.body)
    assert sorted(encoded.dropped) == ["stop", "temperature"]
    assert body.keys().isdisjoint({"temperature", "top_p", "stop", "max_tokens"})
    assert 50 in body.values()


def test_the_same_request_reaches_other_models_whole() -> None:
    asked = request(temperature=0.2, stop=("END",), max_output=50, reasoning_effort="low")
    told = translation.prepare(asked, to="openai.chat").request
    encoded = CHAT_DIALECTS["openai.chat"].encode_request(told, "llama-4")
    assert encoded.dropped == ()
    body = orjson.loads(encoded.body)
    assert (body["temperature"], body["stop"], body["max_tokens"]) == (0.2, ["END"], 50)
    assert body["reasoning_effort"] == "low"
