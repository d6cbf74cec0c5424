"""What a request of another dialect becomes in Anthropic's words, model by model."""

from base64 import b64encode
from typing import Any

import orjson
import pytest

from modelspend import chat
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.anthropic_models import abilities
from modelspend.dialects.dialect import Encoded
from modelspend.errors import BadRequest, Uncarriable
from tests.dialects.said import WEATHER, asked, assistant, call, result, system, user

ANTHROPIC = CHAT_DIALECTS["anthropic.messages"]


def written(request: chat.Request, model: str = "claude-sonnet-4-5") -> Encoded:
    encoded = ANTHROPIC.encode_request(request, model)
    assert encoded.view.body == orjson.loads(encoded.body)
    assert encoded.view.max_output == encoded.view.body["max_tokens"]
    assert encoded.view.stream == bool(encoded.view.body.get("stream"))
    return encoded


def body(request: chat.Request, model: str = "claude-sonnet-4-5") -> Any:
    return written(request, model).view.body


def test_a_limit_is_put_in_where_nobody_asked_for_one_and_said_so() -> None:
    encoded = written(asked())
    assert encoded.view.body["max_tokens"] == 4096
    assert encoded.added == ("max_tokens",)
    encoded = written(asked(max_output=7))
    assert encoded.view.body["max_tokens"] == 7
    assert encoded.added == ()


def test_turns_alternate_and_results_follow_their_calls() -> None:
    said = body(
        asked(
            system("Be brief."),
            user("a"),
            user("b"),
            assistant("x", call("c1", arguments='{"n": 12345678901234567890123, "f": 1.10}')),
            assistant(call("c2")),
            result("one", call_id="c1"),
            result("two", call_id="c2", is_error=True),
            user("and?"),
        )
    )
    assert said["system"] == [{"type": "text", "text": "Be brief."}]
    assert [message["role"] for message in said["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in said["messages"][1]["content"]] == [
        "text",
        "tool_use",
        "tool_use",
    ]
    first, second, third = said["messages"][2]["content"]
    assert first == {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "one"}],
    }
    assert second["is_error"] is True
    assert third == {"type": "text", "text": "and?"}


def test_arguments_keep_their_digits() -> None:
    encoded = written(
        asked(
            user("a"),
            assistant(call(arguments='{"n": 12345678901234567890123, "f": 1.10}')),
            result("ok"),
        )
    )
    assert b'"input":{"n": 12345678901234567890123, "f": 1.10}' in encoded.body


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", {}),
        ("  ", {}),
        ("[1]", {"raw_arguments": "[1]"}),
        ('{"a', {"raw_arguments": '{"a'}),
        ("null", {"raw_arguments": "null"}),
    ],
)
def test_arguments_that_are_no_object_are_kept_in_one(arguments: str, told: Any) -> None:
    said = body(asked(user("a"), assistant(call(arguments=arguments)), result("ok")))
    assert said["messages"][1]["content"][0]["input"] == told


def test_text_of_nothing_but_white_space_is_left_out_since_it_is_refused() -> None:
    said = body(asked(user("a"), assistant(" ", call()), result("  "), user("\n", "b")))
    assert [block["type"] for block in said["messages"][1]["content"]] == ["tool_use"]
    assert said["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1"},
        {"type": "text", "text": "b"},
    ]


PIXEL = "iVBORw0KGgoAAAANSUhEUg=="
PDF = "JVBERi0xLjQK"


@pytest.mark.parametrize(
    ("media", "block"),
    [
        (
            chat.Media(kind="image", mime="image/png", data=PIXEL),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png"}},
        ),
        (
            chat.Media(kind="image", data=PIXEL),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png"}},
        ),
        (
            chat.Media(kind="image", url="https://x.org/a.jpg", extra={"detail": "auto"}),
            {"type": "image", "source": {"type": "url", "url": "https://x.org/a.jpg"}},
        ),
        (
            chat.Media(kind="file", mime="application/pdf", data=PDF, extra={"filename": "a.pdf"}),
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf"},
            },
        ),
        (
            chat.Media(kind="file", url="https://x.org/a"),
            {"type": "document", "source": {"type": "url", "url": "https://x.org/a"}},
        ),
        (
            chat.Media(kind="file", mime="text/csv", data=b64encode("ä,b".encode()).decode()),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "ä,b"},
            },
        ),
    ],
)
def test_media_are_said_as_blocks(media: chat.Media, block: Any) -> None:
    encoded = written(asked(user("see", media)))
    told = encoded.view.body["messages"][0]["content"][1]
    if media.data and told["source"]["type"] == "base64":
        assert told["source"].pop("data") == media.data
    assert told == block
    assert encoded.dropped == ()


@pytest.mark.parametrize(
    ("media", "capability"),
    [
        (chat.Media(kind="audio", mime="audio/wav", data="UklGRg=="), "audio"),
        (chat.Media(kind="video", url="https://x.org/a.mp4"), "video"),
        (chat.Media(kind="file", mime="audio/mpeg", data="SUQz"), "audio"),
        (chat.Media(kind="image", mime="image/svg+xml", data="PHN2Zz4="), "vision"),
        (chat.Media(kind="file", mime="application/zip", data="UEsDBA=="), "file"),
    ],
)
def test_media_that_no_claude_model_takes_are_refused(media: chat.Media, capability: str) -> None:
    with pytest.raises(Uncarriable) as refused:
        written(asked(user(media)))
    assert refused.value.capability == capability
    assert refused.value.field == "messages[0]"


CHOICES: list[tuple[chat.ToolChoice | None, Any]] = [
    (None, None),
    (chat.ToolChoice("auto"), {"type": "auto"}),
    (chat.ToolChoice("none"), {"type": "none"}),
    (chat.ToolChoice("required"), {"type": "any"}),
    (chat.ToolChoice("named", "weather"), {"type": "tool", "name": "weather"}),
    (
        chat.ToolChoice("auto", None, False),
        {"type": "auto", "disable_parallel_tool_use": True},
    ),
    (
        chat.ToolChoice("required", None, True),
        {"type": "any", "disable_parallel_tool_use": False},
    ),
]


@pytest.mark.parametrize(("choice", "told"), CHOICES)
def test_a_choice_of_tools_is_said(choice: chat.ToolChoice | None, told: Any) -> None:
    said = body(asked(tools=(WEATHER,), tool_choice=choice))
    assert said.get("tool_choice") == told
    assert said["tools"] == [
        {
            "name": "weather",
            "description": "Weather of a city",
            "input_schema": WEATHER.schema,
        }
    ]


def test_strictness_goes_along_where_the_schema_allows_it_and_is_named_where_not() -> None:
    strict = chat.Tool(name="weather", schema=WEATHER.schema, strict=True)
    assert body(asked(tools=(strict,)))["tools"][0]["strict"] is True
    assert written(asked(tools=(strict,)), "claude-sonnet-4-0").dropped == ("strict",)
    loose = {**WEATHER.schema, "properties": {"city": {"type": "string", "minLength": 1}}}
    encoded = written(asked(tools=(chat.Tool(name="w", schema=loose, strict=True),)))
    assert encoded.view.body["tools"][0]["input_schema"] == loose
    assert encoded.dropped == ("strict",)


def test_a_tool_that_takes_one_of_several_objects_is_refused() -> None:
    either = chat.Tool(name="w", schema={"anyOf": [{"type": "object"}, {"type": "object"}]})
    with pytest.raises(Uncarriable) as refused:
        written(asked(tools=(either,)))
    assert refused.value.capability == "tool_schema"
    assert body(asked(tools=(chat.Tool(name="w"),)))["tools"][0]["input_schema"] == {
        "type": "object"
    }


def test_a_json_schema_goes_into_the_field_that_is_made_for_it() -> None:
    form = chat.OutputFormat(kind="json_schema", schema=WEATHER.schema)
    told = body(asked(output=form))["output_config"]
    assert told == {"format": {"type": "json_schema", "schema": WEATHER.schema}}


@pytest.mark.parametrize(
    ("kind", "schema", "model", "capability"),
    [
        ("json", None, "claude-sonnet-4-5", "json"),
        ("json_schema", {"type": "object"}, "claude-sonnet-4-0", "json_schema"),
        ("json_schema", {"type": "object"}, "claude-3-7-sonnet-latest", "json_schema"),
        ("json_schema", {"$ref": "#"}, "claude-sonnet-4-5", "json_schema"),
    ],
)
def test_json_that_a_model_cannot_promise_is_refused(
    kind: Any, schema: Any, model: str, capability: str
) -> None:
    with pytest.raises(Uncarriable) as refused:
        written(asked(output=chat.OutputFormat(kind=kind, schema=schema)), model)
    assert refused.value.capability == capability


SAMPLED: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ("claude-sonnet-4-5", {"temperature": 0.5}, {"temperature": 0.5}, ()),
    ("claude-sonnet-4-5", {"temperature": 1.7}, {"temperature": 1}, ("temperature",)),
    ("claude-sonnet-4-5", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ("top_p",)),
    ("claude-sonnet-4-5", {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}, ()),
    ("claude-sonnet-4-5", {"top_p": 0.9}, {"top_p": 0.9}, ()),
    (
        "claude-3-5-haiku-20241022",
        {"temperature": 0.5, "top_p": 0.9},
        {"temperature": 0.5, "top_p": 0.9},
        (),
    ),
    ("claude-opus-4-7", {"temperature": 0.5, "top_p": 0.9}, {}, ("temperature", "top_p")),
    ("claude-sonnet-5", {"temperature": 1.0}, {}, ()),
    ("claude-sonnet-5", {"extra": {"top_k": 5}}, {}, ("top_k",)),
    ("claude-haiku-4-5", {"extra": {"top_k": 5}}, {"top_k": 5}, ()),
    ("claude-haiku-4-5", {"extra": {"top_k": "many"}}, {}, ("top_k",)),
    ("smollm2", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, ()),
    ("claude-haiku-4-5", {"seed": 7}, {}, ("seed",)),
    ("claude-haiku-4-5", {"stop": ("END", " \n")}, {"stop_sequences": ["END"]}, ("stop",)),
    ("claude-haiku-4-5", {"extra": {"logit_bias": {}}}, {}, ("logit_bias",)),
]


@pytest.mark.parametrize(("model", "fields", "told", "dropped"), SAMPLED)
def test_sampling_is_fitted_to_the_model(
    model: str, fields: dict[str, Any], told: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    encoded = written(asked(max_output=9, **fields), model)
    always = {"model": model, "max_tokens": 9, "messages": encoded.view.body["messages"]}
    assert encoded.view.body == always | told
    assert encoded.dropped == dropped


AFTER_A_TOOL = (user("a"), assistant(call()), result("ok"))
FORCED = {"tools": (WEATHER,), "tool_choice": chat.ToolChoice("required")}
ADAPTIVE = {"type": "adaptive"}
Thought = tuple[str, str, Any, Any, int, tuple[str, ...]]
THOUGHT: list[Thought] = [
    # model, effort, thinking, effort told, limit put in, dropped
    ("claude-sonnet-4-5", "low", {"type": "enabled", "budget_tokens": 1024}, None, 5120, ()),
    ("claude-sonnet-4-5", "high", {"type": "enabled", "budget_tokens": 24576}, None, 28672, ()),
    ("claude-sonnet-4-5", "none", None, None, 4096, ()),
    ("claude-3-5-haiku-20241022", "low", None, None, 4096, ("reasoning_effort",)),
    ("smollm2", "low", None, None, 4096, ("reasoning_effort",)),
    ("claude-opus-4-6", "max", ADAPTIVE, "max", 28672, ()),
    ("claude-opus-4-6", "xhigh", ADAPTIVE, "high", 28672, ("reasoning_effort:xhigh",)),
    ("claude-sonnet-4-6", "medium", ADAPTIVE, "medium", 12288, ()),
    ("claude-opus-4-7", "xhigh", ADAPTIVE, "xhigh", 28672, ()),
    ("claude-opus-4-7", "minimal", ADAPTIVE, "low", 5120, ("reasoning_effort:minimal",)),
    ("claude-sonnet-5", "none", None, "low", 4096, ("reasoning_effort:none",)),
    ("claude-sonnet-5", "so-so", None, None, 4096, ("reasoning_effort",)),
]


@pytest.mark.parametrize(("model", "effort", "thinking", "told", "limit", "dropped"), THOUGHT)
def test_an_effort_is_asked_for_in_the_way_of_the_model(
    model: str, effort: str, thinking: Any, told: Any, limit: int, dropped: tuple[str, ...]
) -> None:
    encoded = written(asked(reasoning_effort=effort), model)
    said = encoded.view.body
    assert said.get("thinking") == thinking
    assert said.get("output_config") == (told and {"effort": told})
    assert said["max_tokens"] == limit
    assert encoded.dropped == dropped


def test_a_budget_stays_within_half_of_the_limit_and_gives_way_where_it_would_be_refused() -> None:
    half = written(asked(reasoning_effort="high", max_output=6000))
    assert half.view.body["thinking"] == {"type": "enabled", "budget_tokens": 3000}
    for fields in ({"max_output": 2000}, FORCED):
        encoded = written(asked(reasoning_effort="high", **fields))
        assert "thinking" not in encoded.view.body
        assert encoded.dropped == ("reasoning_effort",)
    goes_on = written(asked(*AFTER_A_TOOL, reasoning_effort="high", tools=(WEATHER,)))
    assert "thinking" not in goes_on.view.body
    assert goes_on.dropped == ("reasoning_effort",)
    adaptive = body(asked(*AFTER_A_TOOL, reasoning_effort="high"), "claude-opus-4-7")
    assert adaptive["thinking"] == ADAPTIVE
    forced = body(asked(reasoning_effort="high", **FORCED), "claude-opus-4-7")
    assert "thinking" not in forced
    assert forced["output_config"] == {"effort": "high"}


def test_beside_thinking_there_is_no_sampling() -> None:
    encoded = written(asked(reasoning_effort="low", temperature=0.2, top_p=0.5))
    assert encoded.dropped == ("temperature", "top_p")
    assert not {"temperature", "top_p"} & encoded.view.body.keys()


def test_foreign_thinking_is_left_out_and_named_and_no_signature_is_made_up() -> None:
    thought = chat.Reasoning(text="hm", sealed="abc", origin="openai.responses")
    encoded = written(asked(user("a"), assistant(thought, "b"), user("c")))
    assert encoded.dropped == ("thinking",)
    assert b"signature" not in encoded.body
    assert b"hm" not in encoded.body


def test_an_opened_answer_is_continued_by_old_models_and_refused_for_new_ones() -> None:
    opened = asked(user("a"), assistant("The answer is "))
    assert body(opened)["messages"][-1]["content"] == [{"type": "text", "text": "The answer is"}]
    with pytest.raises(Uncarriable) as refused:
        written(opened, "claude-opus-4-6")
    assert refused.value.capability == "prefill"


def test_what_nests_too_deep_is_a_typed_refusal() -> None:
    schema: Any = {"type": "object"}
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(BadRequest, match="deep"):
        written(asked(tools=(chat.Tool(name="w", schema=schema),)))
    deep = '{"a":' * 1020 + "1" + "}" * 1020
    with pytest.raises(BadRequest, match="deep"):
        written(asked(user("a"), assistant(call(arguments=deep)), result("ok")))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("claude-3-7-sonnet-20250219", "budget"),
        ("claude-3-opus-20240229", "none"),
        ("claude-2.1", "none"),
        ("claude-opus-4-20250514", "budget"),
        ("claude-sonnet-4-5@20250929", "budget"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "budget"),
        ("anthropic/claude-opus-4.6", "adaptive"),
        ("anthropic/claude-4.7-opus", "adaptive"),
        ("claude-mythos-preview", "adaptive"),
        ("claude-fable-5-2", "adaptive"),
        ("kimi-k2", "none"),
    ],
)
def test_a_model_is_known_by_its_name_in_every_spelling(name: str, version: str) -> None:
    assert abilities(name).thinking == version


def test_a_conversation_that_says_nothing_is_refused_before_it_is_sent() -> None:
    for silent in (asked(system("a")), asked(user(" \n")), asked(user())):
        with pytest.raises(BadRequest, match="says anything") as refused:
            written(silent)
        assert refused.value.field == "messages"


def test_a_conversation_whose_opening_was_white_space_is_opened_by_the_user() -> None:
    encoded = written(asked(user(" "), assistant("a"), user("b")))
    assert encoded.view.body["messages"][0]["content"] == [{"type": "text", "text": "."}]
    assert encoded.added == ("opening_turn", "max_tokens")
