"""Asking the simulator in each dialect; answers are read with no help from the package itself."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from modelspend.simulator import Simulator

CHATS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")

TOOL = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city", "days"],
}


@dataclass(slots=True)
class Got:
    """What a client saw of one answer; `broke` names how it ended, "" for well."""

    dialect: str
    stream: bool
    status: int = 0
    headers: Any = field(default_factory=CIMultiDict)
    body: bytes = b""
    broke: str = ""

    @property
    def line(self) -> bytes:
        """The body with line feeds alone for line ends."""
        return self.body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    @property
    def documents(self) -> list[Any]:
        """The JSON of every event, or of the one answer."""
        if not self.stream:
            return [json.loads(self.body)]
        return [json.loads(data) for data in self.datas if data != b"[DONE]"]

    @property
    def datas(self) -> list[bytes]:
        """The data of every whole event."""
        return [data for block in self.line.split(b"\n\n")[:-1] if (data := _data(block))]

    @property
    def text(self) -> str:
        return "".join(_texts(self.dialect, document) for document in self.documents)

    @property
    def usages(self) -> list[Any]:
        """Every usage object, in the order in which they came; a null one counts."""
        return [
            holder[key]
            for document in self.documents
            for holder in (document, document.get("response"), document.get("message"))
            for key in ("usage", "usageMetadata")
            if isinstance(holder, dict) and key in holder
        ]

    @property
    def whole(self) -> bool:
        """Whether the terminal event came (or the JSON of a whole answer is there)."""
        if not self.stream:
            try:
                return bool(json.loads(self.body))
            except ValueError:
                return False
        last = self.datas[-1] if self.datas else b""
        return {
            "openai.chat": last == b"[DONE]",
            "openai.responses": b'"type":"response.completed"' in last,
            "anthropic.messages": b'"type":"message_stop"' in last,
            "gemini.generate": b'"finishReason"' in last,
        }[self.dialect]

    @property
    def error(self) -> Any:
        """The error object that the answer tells, if it tells one."""
        documents = self.documents
        last = documents[-1] if documents else {}
        return last.get("error") or (last.get("response") or {}).get("error")


def body(
    dialect: str, model: str, *, stream: bool = False, text: str = "Hello", **more: Any
) -> Any:
    """A request in the dialect; Gemini's model and stream stand in the path."""
    if dialect == "openai.chat":
        asked = {"model": model, "messages": [{"role": "user", "content": text}]}
        option = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return {**asked, **option, **more}
    if dialect == "openai.responses":
        return {"model": model, "input": text, "stream": stream, **more}
    if dialect == "anthropic.messages":
        messages = [{"role": "user", "content": text}]
        return {"model": model, "max_tokens": 4096, "messages": messages, "stream": stream, **more}
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


def tools(dialect: str) -> dict[str, Any]:
    """The fields of a request that offer one tool."""
    function = {"name": "get_weather", "description": "", "parameters": TOOL}
    return {
        "openai.chat": {"tools": [{"type": "function", "function": function}]},
        "openai.responses": {"tools": [{"type": "function", **function}]},
        "anthropic.messages": {"tools": [{"name": "get_weather", "input_schema": TOOL}]},
        "gemini.generate": {"tools": [{"functionDeclarations": [function]}]},
    }[dialect]


def path(dialect: str, model: str, *, stream: bool = False) -> str:
    operation = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return {
        "openai.chat": "/v1/chat/completions",
        "openai.responses": "/v1/responses",
        "anthropic.messages": "/v1/messages",
        "gemini.generate": f"/v1beta/models/{model}:{operation}",
    }[dialect]


async def ask(
    sim: Simulator, dialect: str, model: str, *, stream: bool = False, **more: Any
) -> Got:
    """One call by a well-made HTTP client, over a connection of its own."""
    got = Got(dialect, stream)
    url = sim.url + path(dialect, model, stream=stream)
    asked = body(dialect, model, stream=stream, **more)
    try:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as client,
            client.post(url, json=asked, allow_redirects=False) as answer,
        ):
            got.status, got.headers = answer.status, answer.headers
            async for piece in answer.content.iter_any():
                got.body += piece
    except aiohttp.ServerDisconnectedError:
        got.broke = "disconnected"
    except aiohttp.ClientPayloadError:
        got.broke = "incomplete"
    except aiohttp.ClientOSError:
        got.broke = "reset"
    except aiohttp.ClientResponseError:
        got.broke = "protocol"
    await sim.quiet()
    return got


async def ask_raw(
    sim: Simulator, dialect: str, model: str, *, stream: bool = False, until: bytes = b""
) -> tuple[bytes, str]:
    """What comes over a bare socket, and its end: `eof`, `reset`, or `left` once `until` came."""
    reader, writer = await connect(sim, dialect, model, stream=stream)
    seen = b""
    try:
        while not (until and until in seen):
            piece = await reader.read(65536)
            if not piece:
                return seen, "eof"
            seen += piece
        return seen, "left"
    except ConnectionResetError:
        return seen, "reset"
    finally:
        writer.close()
        await sim.quiet()


async def connect(
    sim: Simulator, dialect: str, model: str, *, stream: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection on which the request has been sent."""
    place = urlsplit(sim.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    payload = json.dumps(body(dialect, model, stream=stream)).encode()
    head = (
        f"POST {path(dialect, model, stream=stream)} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    return reader, writer


def _data(block: bytes) -> bytes:
    lines = [line for line in block.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line]
    return b"\n".join(
        line.removeprefix(b"data:").removeprefix(b" ")
        for line in lines
        if line.startswith(b"data:")
    )


def _texts(dialect: str, document: Any) -> str:
    if dialect == "openai.chat":
        says = [c.get("delta") or c.get("message") or {} for c in document.get("choices", ())]
        return "".join(s.get("content") or "" for s in says)
    if dialect == "openai.responses":
        if document.get("type") == "response.output_text.delta":
            return str(document["delta"])
        parts = [p for item in document.get("output", ()) for p in item.get("content", ())]
        return "".join(p.get("text", "") for p in parts)
    if dialect == "anthropic.messages":
        says = [document.get("delta") or {}, *document.get("content", ())]
        return "".join(s.get("text", "") for s in says)
    contents = [c.get("content") or {} for c in document.get("candidates", ())]
    parts = [p for content in contents for p in content.get("parts", ())]
    return "".join(p.get("text", "") for p in parts if not p.get("thought"))
