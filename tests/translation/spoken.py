"""What a recorded answer says, read from its JSON by hand: the witness that our decoders face.

It knows nothing of the program's code, and only the shapes that the recorded rows really have.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.dialects.recorded import Row

Spoken = tuple[str, list[tuple[str, Any]], str]
"""(text, tool calls, the vendor's own word for the stop)."""

KINDS = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "MAX_TOKENS"), "length"),
    **dict.fromkeys(("content_filter", "refusal"), "filtered"),
    **dict.fromkeys(
        ("SAFETY", "PROHIBITED_CONTENT", "RECITATION", "BLOCKLIST", "SPII", "MODEL_ARMOR"),
        "filtered",
    ),
}


def kind_of_stop(spoken: Spoken) -> str:
    """Cut, filtered, or else what the answer holds: tools to be run, or nothing more."""
    _, calls, word = spoken
    return KINDS.get(word, "tools" if calls else "done")


def said(row: Row) -> Spoken | None:
    """What a successful answer says; None for an error, or one still in the making."""
    if row.status != 200:
        return None
    if row.stream:
        return _STREAMS[row.file](list(_events(str(row.response))))
    return _WHOLE[row.file](row.response)


def _events(text: str) -> Iterator[Any]:
    for line in text.replace("\r\n", "\n").split("\n"):
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data != "[DONE]":
            yield json.loads(data)


def _args(value: Any) -> Any:
    if not isinstance(value, str):
        return value or {}
    try:
        return json.loads(value or "{}")
    except ValueError:
        return value


def _chat(answer: Any) -> Spoken | None:
    if not isinstance(answer, dict) or not answer.get("choices"):
        return None
    message = answer["choices"][0].get("message") or {}
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    called = [call["function"] for call in message.get("tool_calls") or []]
    if (message.get("function_call") or {}).get("name"):
        called.append(message["function_call"])
    calls = [(call["name"], _args(call.get("arguments"))) for call in called]
    word = answer["choices"][0].get("finish_reason") or ""
    if refusal := message.get("refusal"):
        return content + refusal, calls, "refusal"
    return content, calls, word


def _chat_stream(chunks: list[Any]) -> Spoken | None:
    text = word = ""
    calls: dict[Any, list[str]] = {}
    for chunk in chunks:
        if "error" in chunk:
            return None
        for choice in chunk["choices"][:1]:
            delta = choice.get("delta") or {}
            word = choice.get("finish_reason") or word
            content = delta.get("content") or ""
            text += content if isinstance(content, str) else ""
            text += delta.get("refusal") or ""
            for call in delta.get("tool_calls") or []:
                slot = calls.setdefault(call.get("index"), ["", ""])
                slot[0] = slot[0] or call["function"].get("name") or ""
                slot[1] += call["function"].get("arguments") or ""
    return text, [(name, _args(arguments)) for name, arguments in calls.values()], word


def _response(answer: Any) -> Spoken | None:
    if not isinstance(answer, dict) or not answer.get("output"):
        return None
    text, calls = "", []
    for item in answer["output"]:
        if item["type"] == "message":
            text += "".join(part.get("text") or part.get("refusal") for part in item["content"])
        if item["type"] == "function_call":
            calls.append((item["name"], _args(item["arguments"])))
    return text, calls, (answer.get("incomplete_details") or {}).get("reason") or ""


def _response_stream(events: list[Any]) -> Spoken | None:
    last = events[-1]
    ended = last["type"] in ("response.completed", "response.incomplete")
    return _response(last["response"]) if ended else None


def _message(answer: Any) -> Spoken | None:
    if not isinstance(answer, dict) or "content" not in answer:
        return None
    blocks = answer["content"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [(b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"]
    return text, calls, answer["stop_reason"] or ""


def _message_stream(events: list[Any]) -> Spoken | None:
    text = word = ""
    calls: dict[int, list[str]] = {}
    for event in events:
        if event["type"] == "error":
            return None
        block, delta = event.get("content_block") or {}, event.get("delta") or {}
        if block.get("type") == "tool_use":
            calls[event["index"]] = [block["name"], ""]
        word = delta.get("stop_reason") or word
        text += block.get("text") or ""
        text += delta.get("text") or ""
        if event.get("index") in calls:
            calls[event["index"]][1] += delta.get("partial_json") or ""
    return text, [(name, _args(arguments)) for name, arguments in calls.values()], word


def _google(answer: Any) -> Spoken | None:
    return _google_stream(answer if isinstance(answer, list) else [answer])


def _google_stream(chunks: list[Any]) -> Spoken | None:
    text, calls, word = "", [], ""
    for chunk in chunks:
        if not isinstance(chunk, dict) or "candidates" not in chunk:
            continue
        for candidate in chunk["candidates"][:1]:
            word = candidate.get("finishReason") or word
            for part in (candidate.get("content") or {}).get("parts") or []:
                if not part.get("thought"):
                    text += part.get("text") or ""
                if call := part.get("functionCall"):
                    calls.append((call["name"], call.get("args") or {}))
    told = any(isinstance(chunk, dict) and chunk.get("candidates") for chunk in chunks)
    return (text, calls, word) if told else None


_WHOLE = {
    "openai_chat": _chat,
    "openai_responses": _response,
    "anthropic": _message,
    "gemini": _google,
}
_STREAMS = {
    "openai_chat": _chat_stream,
    "openai_responses": _response_stream,
    "anthropic": _message_stream,
    "gemini": _google_stream,
}
