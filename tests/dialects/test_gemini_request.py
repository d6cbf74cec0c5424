"""What a request of another dialect becomes in Gemini's words, generation by generation."""

from typing import Any

import orjson
import pytest

from modelspend import chat
from modelspend.dialects import CHAT_DIALECTS
from modelspend.dialects.dialect import Encoded
from modelspend.dialects.gemini_request import FOREIGN_CALL, generation
from modelspend.errors import BadRequest, Uncarriable
from tests.dialects.said import WEATHER, asked, assistant, call, result, system, user

GEMINI = CHAT_DIALECTS["gemini.generate"]
OLD, NEW = "gemini-2.5-flash", "gemini-3-pro-preview"
PATH = "/v1beta/models/m:generateContent"


def written(request: chat.Request, model: str = OLD) -> Encoded:
    encoded = GEMINI.encode_request(request, model)
    assert encoded.view.body == orjson.loads(encoded.body)
    again = GEMINI.read(f"/v1beta{GEMINI.target(encoded.view, model)}", encoded.body)
    assert (again.model, again.stream, again.operation, again.max_output) == (
        model,
        request.stream,
        encoded.view.operation.removesuffix("?alt=sse"),
        encoded.view.max_output,
    )
    return encoded


def body(request: chat.Request, model: str = OLD) -> Any:
    return written(request, model).view.body


def config(request: chat.Request, model: str = OLD) -> Any:
    return body(request, model).get("generationConfig", {})


def test_a_stream_has_an_operation_of_its_own() -> None:
    view = written(asked(stream=True)).view
    assert GEMINI.target(view, OLD) == f"/models/{OLD}:streamGenerateContent?alt=sse"


CONVERSATION = (
    system("Be brief."),
    user("a"),
    user("b"),
    assistant("x", call("c1", arguments='{"n": 12345678901234567890123}')),
    assistant(call("c2", "time")),
    result("one", call_id="c1"),
    result('{"zone": 1.10}', call_id="c2"),
    user("and?"),
)


def test_turns_alternate_and_results_name_their_function() -> None:
    encoded = written(asked(*CONVERSATION))
    said = encoded.view.body
    assert said["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in said["contents"]] == ["user", "model", "user"]
    _, model, last = said["contents"]
    assert [next(iter(part)) for part in model["parts"]] == ["text", "functionCall", "functionCall"]
    assert last["parts"] == [
        {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "one"}}},
        {"functionResponse": {"id": "c2", "name": "time", "response": {"zone": 1.1}}},
        {"text": "and?"},
    ]
    assert b'"args":{"n": 12345678901234567890123}' in encoded.body
    assert b'"response":{"zone": 1.10}' in encoded.body
    assert encoded.added == ()


def test_the_first_call_of_each_turn_has_the_documented_stand_in_for_a_signature() -> None:
    encoded = written(asked(*CONVERSATION), NEW)
    assert encoded.added == ("thoughtSignature",)
    signed = [
        (part["functionCall"]["id"], part.get("thoughtSignature"))
        for content in encoded.view.body["contents"]
        for part in content["parts"]
        if "functionCall" in part
    ]
    assert signed == [("c1", FOREIGN_CALL), ("c2", None)]
    assert body(asked(*CONVERSATION), "gemini-flash-latest") == encoded.view.body


@pytest.mark.parametrize(
    ("texts", "failed", "response"),
    [
        ((), False, {"output": ""}),
        (("",), False, {"output": ""}),
        (("5",), False, {"output": "5"}),
        (("[1]",), False, {"output": "[1]"}),
        (("a", "b"), False, {"output": ["a", "b"]}),
        (('{"a": 1}',), False, {"a": 1}),
        (('{"output": 1, "code": 2}',), False, {"output": '{"output": 1, "code": 2}'}),
        (('{"error": "x"}',), False, {"output": '{"error": "x"}'}),
        (("gone",), True, {"error": "gone"}),
        (("a", "b"), True, {"error": "a\nb"}),
        (('{"a": 1}',), True, {"error": '{"a": 1}'}),
    ],
)
def test_a_tools_result_is_an_object(texts: Any, failed: bool, response: Any) -> None:
    said = body(asked(user("a"), assistant(call()), result(*texts, is_error=failed)))
    (part,) = said["contents"][2]["parts"]
    assert part["functionResponse"] == {"id": "c1", "name": "weather", "response": response}


PICTURE = chat.Media(kind="image", mime="image/png", data="iVBORw0KGgo=")
LINKED = chat.Media(kind="image", url="https://x.org/a.jpg?size=2")


def test_pictures_of_a_result_stand_within_it_where_the_model_takes_them() -> None:
    request = asked(user("a"), assistant(call()), result("see", PICTURE, LINKED), user("b"))
    inline = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    linked = {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.org/a.jpg?size=2"}}
    new = written(request, NEW)
    told, *after = new.view.body["contents"][2]["parts"]
    assert told["functionResponse"]["parts"] == [inline]
    assert after == [linked, {"text": "b"}]
    assert new.dropped == ("tool_result_media",)
    old = written(request)
    told, *after = old.view.body["contents"][2]["parts"]
    assert "parts" not in told["functionResponse"]
    assert after == [inline, linked, {"text": "b"}]


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (
            chat.Media(kind="audio", mime="audio/wav", data="UklGRg=="),
            {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        ),
        (
            chat.Media(kind="file", data="JVBERi0xLjQK"),
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQK"}},
        ),
        (
            chat.Media(kind="file", url="https://x.org/clip.mp3"),
            {"fileData": {"mimeType": "audio/mpeg", "fileUri": "https://x.org/clip.mp3"}},
        ),
        (
            chat.Media(kind="video", url="https://youtu.be/1"),
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/1"}},
        ),
    ],
)
def test_media_have_a_type_told_or_found(media: chat.Media, part: Any) -> None:
    assert body(asked(user(media)))["contents"] == [{"role": "user", "parts": [part]}]


@pytest.mark.parametrize(
    ("choice", "calling", "dropped"),
    [
        (chat.ToolChoice("auto"), {"mode": "AUTO"}, ()),
        (chat.ToolChoice("none"), {"mode": "NONE"}, ()),
        (chat.ToolChoice("required"), {"mode": "ANY"}, ()),
        (
            chat.ToolChoice("named", "weather"),
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
            (),
        ),
        (chat.ToolChoice("auto", None, True), {"mode": "AUTO"}, ()),
        (chat.ToolChoice("auto", None, False), {"mode": "AUTO"}, ("parallel_tool_calls",)),
    ],
)
def test_a_choice_of_tools_is_said(
    choice: chat.ToolChoice, calling: Any, dropped: tuple[str, ...]
) -> None:
    encoded = written(asked(tools=(WEATHER,), tool_choice=choice))
    assert encoded.view.body["toolConfig"] == {"functionCallingConfig": calling}
    assert encoded.view.body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Weather of a city",
                    "parametersJsonSchema": WEATHER.schema,
                }
            ]
        }
    ]
    assert encoded.dropped == dropped


def test_a_schema_is_cut_to_what_google_documents_and_the_cuts_are_named() -> None:
    schema = {
        "type": "object",
        "$defs": {"City": {"type": "string", "minLength": 1}},
        "properties": {"city": {"$ref": "#/$defs/City"}, "unit": {"const": "C", "default": "C"}},
    }
    encoded = written(asked(tools=(chat.Tool(name="w", schema=schema, strict=True),)))
    (told,) = encoded.view.body["tools"][0]["functionDeclarations"]
    assert told["parametersJsonSchema"] == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C"]}},
    }
    assert encoded.dropped == ("strict", "schema:minLength", "schema:default")
    assert encoded.added == ("schema:$ref", "schema:enum")


def test_json_output_is_asked_for_with_its_schema() -> None:
    form = chat.OutputFormat(kind="json_schema", schema=WEATHER.schema)
    assert config(asked(output=form)) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": WEATHER.schema,
    }
    assert config(asked(output=chat.OutputFormat(kind="json"))) == {
        "responseMimeType": "application/json"
    }
    assert config(asked(output=chat.OutputFormat(kind="text"))) == {}


@pytest.mark.parametrize("kind", ["json", "json_schema"])
def test_json_output_beside_tools_is_refused_for_models_that_cannot(kind: Any) -> None:
    request = asked(tools=(WEATHER,), output=chat.OutputFormat(kind=kind, schema=WEATHER.schema))
    with pytest.raises(Uncarriable) as refused:
        written(request)
    assert refused.value.capability == kind
    assert "responseMimeType" in config(request, NEW)


SETTINGS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"max_output": 5, "seed": 7}, {"maxOutputTokens": 5, "seed": 7}, ()),
    ({"temperature": 1.5, "top_p": 0.5}, {"temperature": 1.5, "topP": 0.5}, ()),
    ({"temperature": 2.5}, {"temperature": 2.0}, ("temperature",)),
    ({"temperature": 0}, {"temperature": 0}, ()),
    ({"seed": 2**31}, {}, ("seed",)),
    ({"stop": tuple("abcdef")}, {"stopSequences": list("abcde")}, ("stop",)),
    (
        {"extra": {"top_k": 4, "frequency_penalty": 0.5, "presence_penalty": 0}},
        {"topK": 4, "frequencyPenalty": 0.5},
        (),
    ),
    ({"extra": {"top_k": "many"}}, {}, ("top_k",)),
    ({"extra": {"logit_bias": {"1": 2}}}, {}, ("logit_bias",)),
]


@pytest.mark.parametrize(("fields", "told", "dropped"), SETTINGS)
def test_settings_are_said(
    fields: dict[str, Any], told: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    encoded = written(asked(**fields))
    assert encoded.view.body.get("generationConfig", {}) == told
    assert encoded.dropped == dropped


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "dropped"),
    [
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024}, ()),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192}, ()),
        ("gemini-2.5-flash", "high", {"thinkingBudget": 24576}, ()),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}, ()),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, ("reasoning_effort:none",)),
        ("gemini-2.0-flash", "low", None, ("reasoning_effort",)),
        ("gemini-2.0-flash", "none", None, ()),
        ("gemma-3-27b-it", "high", None, ("reasoning_effort",)),
        ("gemini-3-pro-preview", "high", {"thinkingLevel": "high"}, ()),
        (
            "gemini-3-pro-preview",
            "medium",
            {"thinkingLevel": "high"},
            ("reasoning_effort:medium",),
        ),
        ("gemini-3.1-pro", "medium", {"thinkingLevel": "medium"}, ()),
        ("gemini-3-flash", "minimal", {"thinkingLevel": "minimal"}, ()),
        ("gemini-3-flash", "none", {"thinkingLevel": "minimal"}, ("reasoning_effort:none",)),
        ("gemini-3.7-flash", "minimal", {"thinkingLevel": "low"}, ("reasoning_effort:minimal",)),
        ("gemini-flash-latest", "xhigh", {"thinkingLevel": "high"}, ("reasoning_effort:xhigh",)),
        ("gemini-3-flash", "so-so", None, ("reasoning_effort",)),
    ],
)
def test_an_effort_is_asked_for_in_the_way_of_the_model(
    model: str, effort: str, thinking: Any, dropped: tuple[str, ...]
) -> None:
    encoded = written(asked(reasoning_effort=effort), model)
    told = encoded.view.body.get("generationConfig", {})
    assert told.get("thinkingConfig") == thinking
    assert encoded.dropped == dropped


def test_foreign_thinking_is_left_out_and_named() -> None:
    thought = chat.Reasoning(text="hm", sealed="abc", origin="anthropic.messages")
    encoded = written(asked(user("a"), assistant(thought, "b"), user("c")), NEW)
    assert encoded.dropped == ("thinking",)
    assert b"abc" not in encoded.body
    assert b"hm" not in encoded.body


def test_what_nests_too_deep_is_a_typed_refusal() -> None:
    schema: Any = {"type": "object"}
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(Uncarriable) as refused:
        written(asked(tools=(chat.Tool(name="w", schema=schema),)))
    assert refused.value.capability == "tool_schema"
    deep = '{"a":' * 1020 + "1" + "}" * 1020
    with pytest.raises(BadRequest, match="deep"):
        written(asked(user("a"), assistant(call(arguments=deep)), result("ok")))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("gemini-2.5-flash-lite", (2, 5)),
        ("gemini-3-pro-preview", (3, 0)),
        ("publishers/google/models/gemini-1.5-pro-002", (1, 5)),
        ("gemini-flash-latest", (99, 0)),
        ("learnlm-2.0-flash", None),
    ],
)
def test_a_model_is_known_by_its_name(name: str, version: Any) -> None:
    assert generation(name) == version


# What Google's clients send, read.


def read(fields: dict[str, Any]) -> chat.Request:
    return GEMINI.neutral(GEMINI.read(PATH, orjson.dumps(fields)))


def test_both_spellings_are_read_as_the_same() -> None:
    camel = {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}]},
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f", "args": {"x_y": 1}}}],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "f", "response": {"a_b": 2}}}],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"a_b": 1}}]}],
        "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["f"], "mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 5, "topP": 0.5, "topK": 3, "candidateCount": 2},
    }
    snake = {
        "system_instruction": {"parts": [{"text": "s"}]},
        "contents": [
            {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aa"}}]},
            {
                "role": "model",
                "parts": [{"function_call": {"name": "f", "args": {"x_y": 1}}}],
            },
            {
                "role": "user",
                "parts": [{"function_response": {"name": "f", "response": {"a_b": 2}}}],
            },
        ],
        "tools": {"function_declarations": [{"name": "f", "parameters_json_schema": {"a_b": 1}}]},
        "tool_config": {
            "function_calling_config": {"allowed_function_names": ["f"], "mode": "ANY"}
        },
        "generation_config": {
            "max_output_tokens": 5,
            "top_p": 0.5,
            "top_k": 3,
            "candidate_count": 2,
        },
    }
    asked = read(camel)
    assert read(snake) == asked
    assert asked.tool_choice == chat.ToolChoice("named", "f")
    assert asked.extra == {"candidateCount": 2, "top_k": 3}
    assert asked.max_output == 5
    (told,) = asked.messages[2].parts
    assert isinstance(told, chat.ToolCall)
    assert told.arguments == '{"x_y":1}'


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"contents": "hi"}, "contents"),
        ({"contents": [5]}, "contents[0]"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": ["hi"]}]}, "contents[0].parts[0]"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"stopSequences": [5]}}, "generationConfig.stopSequences[0]"),
        ({"tools": [[]]}, "tools[0]"),
        ({"systemInstruction": "be nice"}, "systemInstruction"),
    ],
)
def test_what_nobody_could_say_is_refused_with_its_place(fields: Any, place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(fields)
    assert refused.value.field == place


@pytest.mark.parametrize(
    ("thinking", "effort", "kept"),
    [
        ({"thinkingLevel": "LOW"}, "low", None),
        ({"thinking_budget": 0}, "none", {"thinkingBudget": 0}),
        ({"thinkingBudget": -1}, None, {"thinkingBudget": -1}),
        ({"thinkingBudget": 2000}, "medium", {"thinkingBudget": 2000}),
        (
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
            "high",
            {"includeThoughts": True},
        ),
    ],
)
def test_thinking_is_read_as_an_effort(thinking: Any, effort: Any, kept: Any) -> None:
    asked = read({"contents": [], "generationConfig": {"thinkingConfig": thinking}})
    assert asked.reasoning_effort == effort
    assert asked.extra.get("thinkingConfig") == kept


def test_googles_own_schema_language_is_read_as_json_schema() -> None:
    openapi = {
        "type": "OBJECT",
        "properties": {
            "b": {"type": "STRING", "nullable": True, "format": "enum", "enum": ["x"]},
            "a": {"type": 3, "minimum": 1},
            "l": {"type": "ARRAY", "items": {"type": "NUMBER"}, "minItems": "1"},
            "u": {"any_of": [{"type": "STRING"}, {"type": "BOOLEAN"}], "nullable": True},
        },
        "propertyOrdering": ["a", "b"],
        "required": ["a"],
    }
    declared = {"name": "f", "parameters": openapi}
    (tool,) = read({"contents": [], "tools": [{"functionDeclarations": [declared]}]}).tools
    assert isinstance(tool, chat.Tool)
    assert list(tool.schema["properties"]) == ["a", "b", "l", "u"]
    assert tool.schema == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 1},
            "b": {"type": ["string", "null"], "enum": ["x", None]},
            "l": {"type": "array", "items": {"type": "number"}, "minItems": 1},
            "u": {"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]},
        },
        "required": ["a"],
    }


@pytest.mark.parametrize(
    ("config", "choice", "kept"),
    [
        ({"mode": "AUTO"}, chat.ToolChoice("auto"), None),
        ({"mode": "any"}, chat.ToolChoice("required"), None),
        ({"mode": "VALIDATED"}, chat.ToolChoice("auto"), {"mode": "VALIDATED"}),
        (
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
            chat.ToolChoice("required"),
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
        ),
        ({"mode": "SOON"}, None, {"mode": "SOON"}),
    ],
)
def test_a_choice_that_says_more_is_kept_beside_the_nearest_word(
    config: Any, choice: Any, kept: Any
) -> None:
    asked = read({"contents": [], "toolConfig": {"functionCallingConfig": config}})
    assert asked.tool_choice == choice
    assert asked.extra == ({"toolConfig": {"functionCallingConfig": kept}} if kept else {})
