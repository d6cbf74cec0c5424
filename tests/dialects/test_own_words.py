"""A request said again in its own dialect: every field goes back, known to us or not."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from modelspend import chat
from modelspend.dialects import CHAT_DIALECTS
from tests.dialects.recorded import DATA, Row

ANTHROPIC: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 0},
    {
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]},
            {"role": "system", "content": "said in between"},
            {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
            {"role": "user", "content": "two users"},
            {"role": "user", "content": "in a row", "id": "kept"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "s"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1.5}, "caller": 1},
                    {"type": "server_tool_use", "id": "u", "name": "web_search", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "is_error": True,
                        "content": [
                            {"type": "text", "text": "x", "citations": []},
                            {"type": "image", "source": {"type": "file", "file_id": "f"}},
                        ],
                        "cache_control": {"type": "ephemeral", "ttl": "1h"},
                    },
                    {
                        "type": "document",
                        "title": "t",
                        "source": {"type": "text", "media_type": "text/plain", "data": "ä"},
                    },
                    {
                        "type": "document",
                        "source": {"type": "url", "url": "https://x.org/a.png"},
                    },
                    {
                        "type": "image",
                        "source": {"type": "url", "url": "https://x.org/a.pdf"},
                    },
                ],
            },
        ],
        "tools": [
            {"name": "f", "input_schema": {"type": "object"}, "strict": True, "defer_loading": 1},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u"},
        "temperature": 2.0,
        "top_k": 4,
        "stop_sequences": [" "],
        "stream": True,
        "field_of_tomorrow": {"a": [1]},
    },
    {
        "max_tokens": 9,
        "messages": [],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "task_budget": {"total": 1}},
    },
    {
        "max_tokens": 9,
        "messages": [],
        "thinking": {"type": "enabled", "budget_tokens": 1025, "display": "omitted"},
    },
    {"max_tokens": 9, "messages": [], "thinking": {"type": "disabled"}},
    {
        "max_tokens": 9,
        "messages": [],
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "high"},
    },
    {
        "max_tokens": 9,
        "messages": [],
        "thinking": {"type": "adaptive"},
        "output_config": {
            "effort": "max",
            "format": {"type": "json_schema", "schema": {"$ref": "#", "minLength": 3}},
        },
    },
    {"max_tokens": 9, "messages": [], "output_config": {"format": {"type": "of_tomorrow"}}},
]

GEMINI: list[dict[str, Any]] = [
    {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    {
        "systemInstruction": {"parts": [{"text": "a"}, {"text": "b"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "", "thoughtSignature": "s0"}]},
            {"role": "user", "parts": [{"text": "two users"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True, "thoughtSignature": "s1"},
                    {"thoughtSignature": "s2"},
                    {
                        "functionCall": {"name": "f", "args": {"x_y": 1}, "willContinue": True},
                        "thoughtSignature": "s3",
                    },
                    {"executableCode": {"language": "PYTHON", "code": "1"}},
                    {"inlineData": {"data": "aa"}, "videoMetadata": {"fps": 1}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "name": "f",
                            "response": {"output": {"a": 1}},
                            "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}],
                            "scheduling": "SILENT",
                        }
                    },
                    {"functionResponse": {"id": "1", "name": "g", "response": {"error": "{}"}}},
                    {"functionResponse": {"name": "g", "response": {"output": "5"}}},
                    {"functionResponse": {"name": "g", "response": {"output": "{}"}}},
                    {"functionResponse": {"name": "g", "response": {}}},
                    {"fileData": {"fileUri": "gs://a/b.mp4"}},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "f",
                        "description": "d",
                        "parametersJsonSchema": {"type": "object", "not": {}},
                        "behavior": "BLOCKING",
                    },
                    {"name": "g"},
                ]
            },
            {"googleSearch": {}},
            {"functionDeclarations": [{"name": "h"}]},
        ],
        "toolConfig": {
            "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
            "retrievalConfig": {"languageCode": "de"},
        },
        "safetySettings": [{"category": "c", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/1",
        "fieldOfTomorrow": {"a_b": [1]},
        "generationConfig": {
            "temperature": 3,
            "topP": 0.5,
            "topK": 4,
            "seed": 5,
            "maxOutputTokens": 0,
            "stopSequences": list("abcdef"),
            "frequencyPenalty": 0,
            "candidateCount": 2,
            "responseModalities": ["TEXT"],
            "thinkingConfig": {"thinkingBudget": -1, "includeThoughts": True},
            "settingOfTomorrow": {"c_d": 1},
        },
    },
    {
        "contents": [],
        "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}},
        "generationConfig": {
            "thinkingConfig": {"thinkingLevel": "high"},
            "responseMimeType": "application/json",
            "responseJsonSchema": {"$ref": "#", "minLength": 3},
        },
    },
    {
        "contents": [],
        "toolConfig": {
            "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]},
        },
        "generationConfig": {"responseMimeType": "application/json"},
    },
    {"contents": [], "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}},
    {
        "contents": [],
        "generationConfig": {
            "responseMimeType": "text/x.enum",
            "responseSchema": {"type": "STRING", "enum": ["a", "b"]},
        },
    },
    {"contents": [], "generationConfig": {"responseSchema": {"type": "STRING"}}},
]


def said_again(name: str, path: str, fields: dict[str, Any]) -> Any:
    dialect = CHAT_DIALECTS[name]
    asked = dialect.neutral(dialect.read(path, orjson.dumps(fields)))
    encoded = dialect.encode_request(asked, "other")
    assert encoded.dropped == encoded.added == ()
    again = dialect.read(f"/v1{dialect.target(encoded.view, 'other')}", encoded.body)
    assert dialect.neutral(again).messages == asked.messages
    return orjson.loads(encoded.body)


@pytest.mark.parametrize("fields", ANTHROPIC)
def test_anthropics_own_requests_are_said_as_they_were(fields: dict[str, Any]) -> None:
    again = said_again("anthropic.messages", "/v1/messages", {"model": "c", **fields})
    assert again == {**fields, "model": "other"}


@pytest.mark.parametrize("fields", GEMINI)
def test_geminis_own_requests_are_said_as_they_were(fields: dict[str, Any]) -> None:
    again = said_again("gemini.generate", "/v1/models/m:streamGenerateContent", fields)
    assert again.pop("contents", []) == fields.get("contents")
    assert again == {name: value for name, value in fields.items() if name != "contents"}


def test_requests_to_claude_through_another_door_are_read_and_said_again(
    traffic: Callable[[str], tuple[Row, ...]],
) -> None:
    """Bedrock's InvokeModel takes Anthropic's own bodies, recorded by other clients than theirs."""
    traffic("anthropic")  # skips without the recordings
    seen = 0
    for line in (DATA / "bedrock.jsonl").read_text().splitlines():
        row = orjson.loads(line)
        if not isinstance(row["request"], dict) or "anthropic_version" not in row["request"]:
            continue
        dialect = CHAT_DIALECTS["anthropic.messages"]
        body = orjson.dumps({"model": "claude", **row["request"]})
        asked = dialect.neutral(dialect.read("/v1/messages", body))
        encoded = dialect.encode_request(asked, "claude")
        assert dialect.neutral(dialect.read("/v1/messages", encoded.body)) == asked
        if row["status"] == 200:
            answer = dialect.decode_answer(orjson.dumps(row["response"]))
            told = [block.get("text") for block in row["response"]["content"]]
            texts = [part.text for part in answer.parts if isinstance(part, chat.Text)]
            assert texts == [text for text in told if text]
        seen += 1
    assert seen > 10
