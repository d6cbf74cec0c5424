"""What each dialect sees in a request: model, session, limits, routes; and what it refuses."""

from random import Random
from typing import Any

import orjson
import pytest

from modelspend import chat
from modelspend.dialects import CHAT_DIALECTS, DIALECTS
from modelspend.errors import BadRequest, Unsupported
from modelspend.translation import needs

CHAT, RESPONSES = DIALECTS["openai.chat"], DIALECTS["openai.responses"]
MESSAGES, COUNT = DIALECTS["anthropic.messages"], DIALECTS["anthropic.count_tokens"]
GEMINI, EMBEDDINGS = DIALECTS["gemini.generate"], DIALECTS["openai.embeddings"]


def read(name: str, path: str = "/v1/x", **fields: Any) -> Any:
    return DIALECTS[name].read(path, orjson.dumps({"model": "m"} | fields))


def test_all_dialects_are_listed_by_their_own_name() -> None:
    assert {name: dialect.name for name, dialect in DIALECTS.items()} == {
        name: name
        for name in (
            "openai.chat",
            "openai.responses",
            "openai.embeddings",
            "anthropic.messages",
            "anthropic.count_tokens",
            "gemini.generate",
        )
    }


@pytest.mark.parametrize("name", ["openai.chat", "openai.responses", "anthropic.messages"])
@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"model": 7}, "`model` is a number"),
        ({"model": ""}, "`model` is empty"),
        ({"model": "  "}, "`model` is empty"),
        ({"model": None}, "`model` is empty"),
        ({"model": ["m"]}, "`model` is an array"),
        ({"stream": "true"}, "`stream` is a string"),
        ({"stream": 1}, "`stream` is a number"),
    ],
)
def test_a_wrong_type_is_refused_by_name(name: str, fields: dict[str, Any], found: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(name, **fields)
    assert found in refused.value.message
    assert refused.value.field == next(iter(fields))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("openai.chat", {"max_tokens": "9"}, "max_tokens"),
        ("openai.chat", {"max_completion_tokens": True}, "max_completion_tokens"),
        ("openai.chat", {"max_tokens": 9.5}, "max_tokens"),
        ("openai.chat", {"stream_options": []}, "stream_options"),
        ("openai.chat", {"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ("openai.chat", {"prompt_cache_key": 1}, "prompt_cache_key"),
        ("openai.responses", {"max_output_tokens": {}}, "max_output_tokens"),
        ("openai.responses", {"conversation": 1}, "conversation"),
        ("openai.responses", {"conversation": {"id": 1}}, "conversation.id"),
        ("openai.responses", {"background": "yes"}, "background"),
        ("anthropic.messages", {"max_tokens": "9"}, "max_tokens"),
        ("anthropic.messages", {"metadata": "u"}, "metadata"),
        ("anthropic.messages", {"metadata": {"user_id": 1}}, "metadata.user_id"),
    ],
)
def test_a_field_that_we_read_must_have_its_type(
    name: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        read(name, **fields)
    assert refused.value.field == field


def test_gemini_config_must_be_an_object_with_a_whole_limit() -> None:
    path = "/v1beta/models/m:generateContent"
    for config, field in (
        ("x", "generationConfig"),
        ({"maxOutputTokens": "9"}, "generationConfig.maxOutputTokens"),
    ):
        with pytest.raises(BadRequest) as refused:
            GEMINI.read(path, orjson.dumps({"generationConfig": config}))
        assert refused.value.field == field


def test_a_missing_model_is_refused_everywhere_but_in_gemini() -> None:
    for name, dialect in DIALECTS.items():
        if name != "gemini.generate":
            with pytest.raises(BadRequest, match="`model` is missing"):
                dialect.read("/v1/x", b"{}")
    assert GEMINI.read("/v1/models/m:generateContent", b"{}").model == "m"


def test_what_the_provider_alone_reads_passes() -> None:
    view = read("openai.chat", messages="nonsense", temperature="hot", tools={"a": 1}, user=7)
    assert view.session is None
    assert DIALECTS["openai.chat"].prefix(view) == b""


@pytest.mark.parametrize(
    ("name", "fields", "limit"),
    [
        ("openai.chat", {"max_tokens": 5}, 5),
        ("openai.chat", {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ("openai.chat", {"max_tokens": None}, None),
        ("openai.chat", {"max_tokens": -1}, None),
        ("openai.chat", {"max_tokens": 100.0}, 100),
        ("openai.responses", {"max_output_tokens": 5}, 5),
        ("anthropic.messages", {"max_tokens": 5}, 5),
    ],
)
def test_output_limit(name: str, fields: dict[str, Any], limit: int | None) -> None:
    assert read(name, **fields).max_output == limit


def test_gemini_limit_in_both_spellings() -> None:
    for body in (
        {"generationConfig": {"maxOutputTokens": 9}},
        {"generation_config": {"max_output_tokens": 9}},
    ):
        assert GEMINI.read("/models/m:generateContent", orjson.dumps(body)).max_output == 9


CODE = "user_1234_account_55aa_session_11111111-2222"


@pytest.mark.parametrize(
    ("name", "fields", "session", "source"),
    [
        ("openai.chat", {"prompt_cache_key": "k", "user": "u"}, "k", "prompt_cache_key"),
        ("openai.chat", {"user": "u", "prompt_cache_key": ""}, None, None),
        ("openai.responses", {"conversation": "conv_1"}, "conv_1", "conversation"),
        ("openai.responses", {"conversation": {"id": "conv_1"}}, "conv_1", "conversation"),
        (
            "openai.responses",
            {"conversation": {}, "prompt_cache_key": "k"},
            "k",
            "prompt_cache_key",
        ),
        ("openai.responses", {"conversation": None}, None, None),
        ("anthropic.messages", {"metadata": {"user_id": "u1"}}, "u1", "metadata.user_id"),
        (
            "anthropic.messages",
            {"metadata": {"user_id": CODE}},
            "11111111-2222",
            "metadata.user_id",
        ),
        (
            "anthropic.messages",
            {"metadata": {"user_id": '{"device_id":"d","session_id":"s-9"}'}},
            "s-9",
            "metadata.user_id",
        ),
        ("anthropic.messages", {"metadata": {"user_id": "{odd"}}, "{odd", "metadata.user_id"),
        ("anthropic.messages", {"metadata": {}}, None, None),
    ],
)
def test_session(
    name: str, fields: dict[str, Any], session: str | None, source: str | None
) -> None:
    view = read(name, **fields)
    assert (view.session, view.session_source) == (session, source)


def test_background_responses_are_refused_as_unmeterable() -> None:
    with pytest.raises(Unsupported, match="cannot be metered") as refused:
        read("openai.responses", background=True)
    assert refused.value.field == "background"
    assert read("openai.responses", background=False).stream is False


@pytest.mark.parametrize(
    ("path", "model", "operation", "upstream"),
    [
        (
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "gemini-2.5-pro",
            "generateContent",
            "/models/gemini-2.5-pro",
        ),
        ("/v1/models/m:streamGenerateContent?alt=sse", "m", "streamGenerateContent", "/models/m"),
        ("/models/m:generateContent", "m", "generateContent", "/models/m"),
        (
            "/v1beta/models/google/gemma-3.1:generateContent",
            "google/gemma-3.1",
            "generateContent",
            "/models/google/gemma-3.1",
        ),
        (
            "/v1beta/models/google%2Fgemma:generateContent",
            "google/gemma",
            "generateContent",
            "/models/google/gemma",
        ),
        ("/v1beta/models/a%20b:generateContent", "a b", "generateContent", "/models/a%20b"),
        ("/v1beta/models/ft:x:generateContent", "ft:x", "generateContent", "/models/ft%3Ax"),
        (
            "/v1beta/tunedModels/t-1:generateContent",
            "tunedModels/t-1",
            "generateContent",
            "/tunedModels/t-1",
        ),
        (
            "/v1beta1/projects/p/locations/global/publishers/google/models/g-1:generateContent",
            "g-1",
            "generateContent",
            "/models/g-1",
        ),
    ],
)
def test_gemini_model_and_operation_stand_in_the_path(
    path: str, model: str, operation: str, upstream: str
) -> None:
    view = GEMINI.read(path, b"{}")
    assert (view.model, view.operation) == (model, operation)
    assert view.stream == (operation == "streamGenerateContent")
    assert GEMINI.target(view, view.model) == f"{upstream}:{operation}"


def test_gemini_refuses_other_operations_and_paths_without_a_model() -> None:
    with pytest.raises(Unsupported, match="embedContent"):
        GEMINI.read("/v1beta/models/m:embedContent", b"{}")
    for path in ("/v1beta/models/", "/v1beta/models/:generateContent", "/v1beta/models/m"):
        with pytest.raises(BadRequest, match="path"):
            GEMINI.read(path, b"{}")


def test_upstream_paths() -> None:
    view = read("openai.chat")
    targets = [
        dialect.target(view, "x/y") for dialect in (CHAT, RESPONSES, EMBEDDINGS, MESSAGES, COUNT)
    ]
    assert targets == [
        "/chat/completions",
        "/responses",
        "/embeddings",
        "/messages",
        "/messages/count_tokens",
    ]


def test_only_a_chat_stream_that_did_not_ask_is_asked_for_usage() -> None:
    for fields, wants in (
        ({}, True),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": None}, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
    ):
        body = orjson.dumps({"model": "m"} | fields)
        view = CHAT.read("", body)
        assert view.wants_usage is wants
        assert (CHAT.with_usage(body, view) is None) is wants
    for name in ("openai.responses", "anthropic.messages"):
        view = read(name, stream=True)
        assert DIALECTS[name].with_usage(b"{}", view) is None


def test_the_opening_of_a_conversation_stays_the_same_as_it_grows() -> None:
    system, asked = "Be kind.", "Hello?"
    said = {"role": "assistant", "content": "Hi."}
    later = {"role": "user", "content": "And now?"}
    first = {"role": "user", "content": asked}
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (
            "openai.chat",
            {"messages": [{"role": "system", "content": system}, first]},
            {"messages": [{"role": "system", "content": system}, first, said, later]},
        ),
        (
            "openai.responses",
            {"instructions": system, "input": asked},
            {"instructions": system, "input": [first, said, later]},
        ),
        (
            "anthropic.messages",
            {"system": system, "messages": [first]},
            {"system": [{"type": "text", "text": system}], "messages": [first, said, later]},
        ),
    ]
    for name, short, long in cases:
        start = DIALECTS[name].prefix(read(name, **short))
        assert start == DIALECTS[name].prefix(read(name, **long)) != b""
        other = {**short, "messages": [later], "input": "And now?"}
        assert start != DIALECTS[name].prefix(read(name, **other))


def test_input_characters_leave_out_media() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    text = {"type": "text", "text": "x" * 100}
    plain = CHAT.input_chars(read("openai.chat", messages=[{"role": "user", "content": [text]}]))
    both = CHAT.input_chars(
        read("openai.chat", messages=[{"role": "user", "content": [text, image]}])
    )
    assert 100 <= plain < 150
    assert both - plain < 50


def test_embedding_of_token_ids_has_a_size() -> None:
    assert EMBEDDINGS.input_chars(read("openai.embeddings", input="abcd")) == 4
    assert EMBEDDINGS.input_chars(read("openai.embeddings", input=["ab", "cd"])) == 4
    assert EMBEDDINGS.input_chars(read("openai.embeddings", input=[[1, 2], [3]])) == 12
    assert EMBEDDINGS.input_chars(read("openai.embeddings", input=[1, 2, 3])) == 12


def test_the_four_dialects_say_the_same_thing_in_neutral_words() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    args = {"city": "Bonn"}
    chat_body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "U"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"city":"Bonn"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "R"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "D", "parameters": schema},
            }
        ],
        "tool_choice": "required",
        "max_tokens": 9,
    }
    responses_body = {
        "model": "m",
        "instructions": "S",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "U"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"city":"Bonn"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "R"},
        ],
        "tools": [{"type": "function", "name": "f", "description": "D", "parameters": schema}],
        "tool_choice": "required",
        "max_output_tokens": 9,
    }
    anthropic_body = {
        "model": "m",
        "system": "S",
        "messages": [
            {"role": "user", "content": "U"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": args}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "R"}],
            },
        ],
        "tools": [{"name": "f", "description": "D", "input_schema": schema}],
        "tool_choice": {"type": "any"},
        "max_tokens": 9,
    }
    gemini_body = {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "U"}]},
            {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "f", "args": args}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "c1", "name": "f", "response": {"r": 1}}}],
            },
        ],
        "tools": [
            {"functionDeclarations": [{"name": "f", "description": "D", "parameters": schema}]}
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 9},
    }
    bodies = {
        "openai.chat": chat_body,
        "openai.responses": responses_body,
        "anthropic.messages": anthropic_body,
        "gemini.generate": gemini_body,
    }
    for name, body in bodies.items():
        said = DIALECTS[name].decode_request("/v1/models/m:generateContent", orjson.dumps(body))
        assert said.origin == name
        assert said.model == "m"
        assert said.max_output == 9
        assert said.tools == (chat.Tool(name="f", description="D", schema=schema),)
        assert said.tool_choice == chat.ToolChoice("required")
        assert [message.parts[0] for message in said.messages[:2]] == [
            chat.Text(text="S"),
            chat.Text(text="U"),
        ]
        call, result = said.messages[2].parts[0], said.messages[3].parts[0]
        assert call == chat.ToolCall(call_id="c1", name="f", arguments='{"city":"Bonn"}')
        assert isinstance(result, chat.ToolResult)
        assert result.call_id == "c1"


def test_what_has_no_neutral_word_is_kept_verbatim() -> None:
    part = {"type": "brand_new", "x": [1]}
    tool = {"type": "web_search_20250305", "name": "web_search"}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [part]}],
        "tools": [tool],
        "brand": {"new": 1},
    }
    said = MESSAGES.decode_request("/v1/messages", orjson.dumps(body))
    assert said.messages[0].parts == (chat.Opaque(origin="anthropic.messages", value=part),)
    assert said.tools == (chat.Opaque(origin="anthropic.messages", value=tool),)
    assert said.extra == {"brand": {"new": 1}}


_ODD: tuple[Any, ...] = (None, True, 7, 0.5, "a text", "", [], {}, [{"type": "text", "text": "x"}])


def _somehow(random: Random, plain: Any) -> Any:
    return plain if random.random() < 0.85 else random.choice(_ODD)


def _message(random: Random) -> Any:
    said: dict[str, Any] = {
        "role": _somehow(random, random.choice(("system", "user", "assistant", "tool"))),
        "content": _somehow(random, "Compare the two plans."),
    }
    for name, value in (("tool_calls", [{}]), ("name", "ann"), ("refusal", "no")):
        if random.random() < 0.05:
            said[name] = _somehow(random, value)
    return _somehow(random, said)


def _body(random: Random) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "m",
        "messages": _somehow(random, [_message(random) for _ in range(random.randrange(3))]),
    }
    for name, value in (
        ("temperature", 0.2),
        ("max_tokens", 64),
        ("system", "Be brief."),
        ("stream", False),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("response_format", {"type": "json_object"}),
        ("modalities", ["audio"]),
        ("reasoning_effort", "high"),
    ):
        if random.random() < 0.15:
            body[name] = _somehow(random, value)
    return body


@pytest.mark.parametrize("name", CHAT_DIALECTS)
def test_a_request_of_only_words_is_sound_and_needs_nothing_of_a_model(name: str) -> None:
    dialect, random, plain = CHAT_DIALECTS[name], Random(7), 0
    for _ in range(4_000):
        try:
            view = dialect.read("/v1/x", orjson.dumps(_body(random)))
        except (BadRequest, Unsupported):
            continue
        if dialect.only_words(view):
            plain += 1
            assert not needs(dialect.neutral(view))
    assert plain > 100 or name in ("openai.responses", "gemini.generate")
