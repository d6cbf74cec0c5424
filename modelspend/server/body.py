"""The request's body: bounded in size and in time, and in the clear.

A compressed body is inflated here (with a bound), since it must be read; the provider then gets it
uncompressed, without its Content-Encoding.
"""

import asyncio
import zlib

from aiohttp import web

from modelspend.errors import BadRequest, BodyTooLarge, Unsupported
from modelspend.settings import Server


class BodyTimeout(BadRequest):
    """The client stopped sending half-way."""

    code, status = "body_timeout", 408


async def read_body(request: web.Request, limits: Server) -> bytes:
    """All bytes of the body, inflated.

    Raises BodyTooLarge, BodyTimeout, BadRequest (broken compression) or Unsupported (another one).
    """
    bound = limits.max_body_mib * 1024 * 1024
    if (request.content_length or 0) > bound:
        raise _too_large(limits)
    raw = await _received(request, limits, bound)
    match request.headers.get("Content-Encoding", "identity").strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip" | "deflate":
            return _inflated(raw, bound, limits)
        case other:
            raise Unsupported(
                f"A body compressed with {other} cannot be read here.",
                "Send it uncompressed, or as gzip.",
                field="Content-Encoding",
            )


async def _received(request: web.Request, limits: Server, bound: int) -> bytes:
    content = request.content
    if content.is_eof():  # all of it came with the headers, as small bodies do
        return content.read_nowait(-1)
    loop = asyncio.get_running_loop()
    latest = loop.time() + limits.body_total_s
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout_at(None) as patience:
            while not content.at_eof():
                patience.reschedule(min(loop.time() + limits.body_timeout_s, latest))
                part = await content.readany()
                size += len(part)
                if size > bound:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError:
        raise BodyTimeout(
            f"The body stopped after {size} bytes.", "Send it whole, or say less in Content-Length."
        ) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflated(raw: bytes, bound: int, limits: Server) -> bytes:
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = inflate.decompress(raw, bound + 1)
    except zlib.error:
        raise BadRequest(
            "The body is not what its Content-Encoding says.",
            "Send valid gzip, or leave the header out.",
            field="Content-Encoding",
        ) from None
    if len(plain) > bound or inflate.unconsumed_tail:
        raise _too_large(limits)
    if not inflate.eof or inflate.unused_data:
        raise BadRequest(
            "The compressed body ends too early, or more follows its end.",
            "Send it whole, as one gzip member.",
            field="Content-Encoding",
        )
    return plain


def _too_large(limits: Server) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than {limits.max_body_mib} MiB.",
        "Raise server.max_body_mib if it is meant to be.",
    )
