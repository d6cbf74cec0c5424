"""The same small question in each dialect."""

from typing import Any

CHATS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")


def question(
    dialect: str, model: str, *, stream: bool, text: str = "hi there"
) -> tuple[str, dict[str, Any]]:
    """(path, body) that asks `model` of the provider `sim`."""
    name = f"sim/{model}"
    turn = [{"role": "user", "content": text}]
    match dialect:
        case "openai.chat":
            return "/v1/chat/completions", {"model": name, "stream": stream, "messages": turn}
        case "openai.responses":
            return "/v1/responses", {"model": name, "stream": stream, "input": text}
        case "anthropic.messages":
            limit = {"max_tokens": 999}
            return "/v1/messages", {"model": name, "stream": stream, "messages": turn, **limit}
        case "gemini.generate":
            how = "streamGenerateContent?alt=sse" if stream else "generateContent"
            contents = [{"role": "user", "parts": [{"text": text}]}]
            return f"/v1beta/models/{name}:{how}", {"contents": contents}
    raise ValueError(dialect)
