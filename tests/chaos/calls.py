"""Requests in every dialect, and what the end of an answer looks like in each."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Door:
    """One billable route: its path and body for a model, and the mark of a whole stream."""

    dialect: str
    path: str
    end: bytes

    def body(self, *, stream: bool, prompt: str = "Say hello.") -> dict[str, Any]:
        body = _BODIES[self.dialect](prompt)
        if stream and self.dialect != "gemini.generate":
            body["stream"] = True
        return body

    def at(self, model: str, *, stream: bool) -> str:
        """The path for a model; the dialects other than Gemini name it in the body."""
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return self.path.format(model=model, verb=verb)

    def request(
        self, model: str, *, stream: bool = False, prompt: str = "Say hello."
    ) -> tuple[str, bytes]:
        """(path, body)"""
        body = self.body(stream=stream, prompt=prompt)
        if self.dialect != "gemini.generate":
            body["model"] = model
        return self.at(model, stream=stream), json.dumps(body).encode()


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


_BODIES = {
    "openai.chat": lambda prompt: {"messages": _messages(prompt)},
    "openai.responses": lambda prompt: {"input": prompt},
    "anthropic.messages": lambda prompt: {"messages": _messages(prompt), "max_tokens": 64},
    "gemini.generate": lambda prompt: {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
    "openai.embeddings": lambda prompt: {"input": prompt},
    "anthropic.count_tokens": lambda prompt: {"messages": _messages(prompt)},
}

CHAT = Door("openai.chat", "/v1/chat/completions", b"data: [DONE]")
RESPONSES = Door("openai.responses", "/v1/responses", b"event: response.completed")
MESSAGES = Door("anthropic.messages", "/v1/messages", b"event: message_stop")
GEMINI = Door("gemini.generate", "/v1beta/models/{model}:{verb}", b'"finishReason"')
EMBEDDINGS = Door("openai.embeddings", "/v1/embeddings", b"")
COUNT = Door("anthropic.count_tokens", "/v1/messages/count_tokens", b"")

STREAMING = (CHAT, RESPONSES, MESSAGES, GEMINI)
DOORS = (*STREAMING, EMBEDDINGS, COUNT)
