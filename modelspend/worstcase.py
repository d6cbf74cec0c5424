"""What a call may cost at most, from its bytes alone: the money that is held before it goes out.

No tokenizer makes more tokens of a text than it has bytes in UTF-8, and a body in JSON has at least
as many bytes as the texts in it, so its length bounds its input, with room for what a provider puts
around messages and tools. That holds for text only. A picture, a file, a stored conversation or a
tool that the provider runs can cost more than its few bytes say: for those there is no bound, and
`unbounded` says why.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from unicodedata import normalize

import orjson

from modelspend.money import Price
from modelspend.record import record

AROUND = 512
"""Tokens that a provider puts around a request: roles, the date, the form of an answer."""

AROUND_TOOLS = 1_024
"""Tokens of instructions that tools bring along (Anthropic's table says 264 to 530;
docs.anthropic.com, tool use, pricing, read 2026-11-25)."""

AROUND_KNOWN_TOOL = 2_048
"""Tokens of a tool that is named and not described: 245 to 1,234 by the same table."""

_SPOKEN = frozenset(
    {
        "text",
        "input_text",
        "output_text",
        "reasoning_text",
        "summary_text",
        "refusal",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "search_result",
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
    }
)
"""Parts and items that are what they say; all else may stand for more."""

_GEMINI_SPOKEN = frozenset(
    {
        "text",
        "thought",
        "thoughtSignature",
        "thought_signature",
        "functionCall",
        "function_call",
        "functionResponse",
        "function_response",
        "executableCode",
        "codeExecutionResult",
    }
)
_OWN_TOOLS = (None, "function", "custom")
_NAMED_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")  # run by the client
_STORED = ("previous_response_id", "conversation", "prompt", "cachedContent", "cached_content")
_SERVED = (
    "web_search_options",
    "mcp_servers",
    "container",
    "search_parameters",
    "plugins",
    "models",  # OpenRouter: others may answer, at other prices
)
_SEARCHING = ("-search", "sonar", "deep-research", "compound")
"""Parts of the names of models that read more than they are given (Groq's compound systems answer a
question of 40 bytes with 5,000 tokens of input: recorded, data/traffic)."""

_TEXT_IN = ("input_tokens", "cache_read_tokens")
_WRITES = ("cache_write_5m_tokens", "cache_write_1h_tokens")
_OUT = ("output_tokens", "output_audio_tokens", "output_image_tokens")


@record
class Bound:
    """Most tokens that a request can have as input, and as output for each token of its limit.

    `extra_output` is output that no limit counts (a prediction that is thrown away is billed).
    `writes` tells that the request may write to a provider's cache, which costs more.
    """

    input_tokens: int
    answers: int = 1
    extra_output: int = 0
    writes: bool = True


def bound(dialect: str, body: Mapping[str, Any], raw: bytes) -> Bound:
    """The bound of a request that is not `unbounded`; `raw` are the bytes that are sent."""
    tools = _list(body.get("tools"))
    named = sum(str(_object(tool).get("type")).startswith(_NAMED_TOOLS) for tool in tools)
    around = AROUND + (AROUND_TOOLS if tools else 0) + AROUND_KNOWN_TOOL * named
    answers = body.get("n")
    if dialect == "gemini.generate":
        configs = [_object(body.get(name)) for name in ("generationConfig", "generation_config")]
        counts = [each.get(k) for each in configs for k in ("candidateCount", "candidate_count")]
        answers = max((n for n in counts if isinstance(n, int)), default=1)
    return Bound(
        input_tokens=_bytes(raw) + around,
        answers=max(1, answers) if isinstance(answers, int) else 1,
        extra_output=_bytes(raw) if body.get("prediction") else 0,
        writes=dialect != "anthropic.messages" or b"cache_control" in raw or b"\\u00" in raw,
    )


def _bytes(raw: bytes) -> int:
    """Bytes of the text in its longest spelling: some tokenizers write letters out (NFKC)."""
    if raw.isascii() and b"\\u" not in raw:
        return len(raw)
    said = orjson.dumps(orjson.loads(raw)).decode()  # letters in place of their \\u escapes
    return max(len(raw), len(normalize("NFKC", said).encode()))


def unbounded(dialect: str, body: Mapping[str, Any], model: str) -> str | None:
    """Why the input of a request cannot be bounded by its bytes; null when it can."""
    for name in (*_STORED, *_SERVED):
        if body.get(name):
            return f"`{name}` stands for more than the request says"
    if any(word in model for word in _SEARCHING):
        return f"{model} searches by itself"
    for tool in _list(body.get("tools")):
        if why := _foreign_tool(dialect, _object(tool)):
            return f"the tool {why} is run by the provider"
    match dialect:
        case "gemini.generate":
            found = _gemini_part(body)
        case "openai.embeddings":
            found = _foreign_input(body.get("input"))
        case _:
            spoken = [body.get(name) for name in ("system", "messages", "input", "instructions")]
            found = next(filter(None, map(_foreign, spoken)), None)
    return f"its input has a part of the kind {found}" if found else None


def _foreign_tool(dialect: str, tool: Mapping[str, Any]) -> str | None:
    if dialect == "gemini.generate":
        known = {"functionDeclarations", "function_declarations"}
        return next((name for name in tool if name not in known), None)
    kind = tool.get("type")
    if kind in _OWN_TOOLS or (isinstance(kind, str) and kind.startswith(_NAMED_TOOLS)):
        return None
    return str(kind)


def _foreign(said: object) -> str | None:
    """The first part that is not what it says, wherever contents nest."""
    waiting = [said]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            kind = each.get("type")
            if kind is None and "role" not in each:
                return "without a type"
            if kind == "document" and _object(each.get("source")).get("type") == "text":
                continue
            if kind is not None and kind not in _SPOKEN:
                return str(kind)
            if each.get("audio"):
                return "audio"  # an earlier spoken answer, named by its id
            waiting += [each.get(name) for name in ("content", "output", "summary")]
    return None


def _gemini_part(body: Mapping[str, Any]) -> str | None:
    system = body.get("systemInstruction") or body.get("system_instruction")
    contents = [*_list(body.get("contents")), body.get("contents"), system]
    for content in contents:
        parts = _object(content).get("parts")
        for part in parts if isinstance(parts, list) else [parts]:
            for name, value in _object(part).items():
                if name not in _GEMINI_SPOKEN:
                    return name
                if name in ("functionResponse", "function_response") and _object(value).get(
                    "parts"
                ):
                    return f"{name}.parts"
    return None


def _foreign_input(said: object) -> str | None:
    """Of an embedding: texts and token ids, each of which has at least as many bytes as tokens."""
    waiting = [said]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif not isinstance(each, str | int):
            return type(each).__name__
    return None


# Money.


@record
class Rates:
    """The dearest price that a model could be served at: of all its service tiers."""

    prices: tuple[Price, ...]

    def most(self, bound: Bound, output_tokens: int) -> int | None:
        """The most that a call can cost with so many tokens of output; null when no price says."""
        found = [_most(price, bound, output_tokens) for price in self.prices]
        known = [each for each in found if each is not None]
        return max(known) if known and len(known) == len(found) else None

    def output_rate(self, bound: Bound) -> int:
        """The dearest rate of a token of output."""
        bands = [band for price in self.prices for band in _reached(price, bound.input_tokens)]
        return max((max((band.get(b, 0) for b in _OUT), default=0) for band in bands), default=0)


def _most(price: Price, bound: Bound, output_tokens: int) -> int | None:
    if price.free:
        return 0
    buckets = (*_TEXT_IN, *_WRITES) if bound.writes else _TEXT_IN
    output = output_tokens * bound.answers + bound.extra_output
    most: int | None = None
    for rates in _reached(price, bound.input_tokens):
        if "input_tokens" not in rates and "requests" not in rates:
            return None
        given = bound.input_tokens * max(rates.get(bucket, 0) for bucket in buckets)
        if output and not any(bucket in rates for bucket in _OUT):
            return None
        written = output * max(rates.get(bucket, 0) for bucket in _OUT)
        most = max(most or 0, given + written + rates.get("requests", 0))
    return most


def _reached(price: Price, input_tokens: int) -> Iterable[Mapping[str, int]]:
    """The rates of every band that a request of at most so many tokens can fall into."""
    return [
        band.rates
        for band in price.bands
        if not band.above_input or input_tokens > band.above_input
    ]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
