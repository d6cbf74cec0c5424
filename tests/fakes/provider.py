"""A provider that answers what it is told to, byte for byte, on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = bytes | Callable[[bytes], bytes]

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}


@dataclass(slots=True)
class Provider:
    """`answer` is what the next requests get, and the end of the connection with `ends`;
    `requests` is (head, body) of those that came."""

    url: str = ""
    answer: Answer = b""
    ends: bool = False
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                body = await reader.readexactly(length)
                self.requests.append((head, body))
                writer.write(self.answer(body) if callable(self.answer) else self.answer)
                await writer.drain()
                if self.ends:
                    writer.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """One that listens while the block runs."""
    scripted = Provider(answer=whole(CHAT))
    server = await asyncio.start_server(scripted._exchange, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()


def whole(body: Any, *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    """A whole answer; `headers` are lines as they go over the wire."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    if b"content-type:" not in headers:
        headers += b"content-type: application/json\r\n"
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        headers,
        len(data),
        data,
    )
