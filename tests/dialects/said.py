"""Small requests in neutral words, for the tests of the dialects that write them."""

from typing import Any

from modelspend import chat

WEATHER = chat.Tool(
    name="weather",
    description="Weather of a city",
    schema={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


def text(said: str) -> chat.Text:
    return chat.Text(text=said)


def user(*parts: Any) -> chat.Message:
    return chat.Message(role="user", parts=_parts(parts))


def assistant(*parts: Any) -> chat.Message:
    return chat.Message(role="assistant", parts=_parts(parts))


def system(*parts: Any) -> chat.Message:
    return chat.Message(role="system", parts=_parts(parts))


def call(call_id: str = "c1", name: str = "weather", arguments: str = "{}") -> chat.ToolCall:
    return chat.ToolCall(call_id=call_id, name=name, arguments=arguments)


def result(*parts: Any, call_id: str = "c1", **fields: Any) -> chat.Message:
    told = chat.ToolResult(call_id=call_id, parts=_parts(parts), **fields)
    return chat.Message(role="tool", parts=(told,))


def asked(*messages: chat.Message, origin: str = "openai.chat", **fields: Any) -> chat.Request:
    return chat.Request(model="any", messages=messages or (user("hi"),), origin=origin, **fields)


def _parts(parts: tuple[Any, ...]) -> tuple[chat.Part, ...]:
    return tuple(text(part) if isinstance(part, str) else part for part in parts)
