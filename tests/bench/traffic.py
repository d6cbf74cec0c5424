"""What is asked and answered in the benchmark: one chat request and one answer, whole or streamed.

Every streamed piece carries the moment at which it was written (CLOCK_MONOTONIC, which all
processes of a machine share), so that a client can tell how long that piece took to reach it.
"""

import json

MODEL = "bench-1"
PATH = "/v1/chat/completions"
PIECES = 20

_TURN = (
    "The nightly import stopped at row 41,207 with a timeout, although the day before it took"
    " nine minutes. This is the loop:\n```python\ndef pull(pages, client, limit=5):\n    for page"
    " in pages:\n        for attempt in range(limit):\n            try:\n                yield"
    " client.get(page)\n                break\n            except TimeoutError:\n"
    "                log.info('page %s, attempt %d', page, attempt)\n                sleep(1.5 **"
    " attempt)\n        else:\n            raise ImportStopped(page)\n```\nCan one slow page hold"
    " up all the others, and which line would you change first? "
)
_SYSTEM = (
    "You help the people who keep a data platform running. Say what you know, name the line that"
    " you mean, prefer the smallest change, and state what you could not check. "
)


def request_body(*, stream: bool) -> bytes:
    """About 2.1 KB of chat, as an agent would send it."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": _SYSTEM * 2},
            {"role": "user", "content": _TURN * 2},
            {"role": "assistant", "content": "Yes: each page may sleep for up to 13 seconds."},
            {"role": "user", "content": "Then write the change, and a test that fails first."},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def answer_body() -> bytes:
    """About 1 KB of whole answer, with its usage."""
    text = "Give each page its own deadline, and let the loop go on when one has passed. " * 6
    details = {"cached_tokens": 0, "audio_tokens": 0}
    message = {"role": "assistant", "content": text, "refusal": None}
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": {
                "prompt_tokens": 512,
                "completion_tokens": 128,
                "total_tokens": 640,
                "prompt_tokens_details": details,
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "service_tier": "default",
        }
    ).encode()


def piece(number: int, at_ns: int) -> bytes:
    """One event of a stream; the last word of its text is the moment of writing."""
    role = b'"role":"assistant",' if number == 0 else b""
    return (
        _EVENT_HEAD
        + b'{"index":0,"delta":{%b"content":"@%019d@ word"},"logprobs":null,"finish_reason":null}]}'
        % (role, at_ns)
        + b"\n\n"
    )


_EVENT_HEAD = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"bench-1","system_fingerprint":"fp_bench","choices":['
)

END = (
    _EVENT_HEAD
    + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    + _EVENT_HEAD
    + b'],"usage":{"prompt_tokens":512,"completion_tokens":20,"total_tokens":532}}\n\n'
    + b"data: [DONE]\n\n"
)
