"""Requests that we write for a vendor, judged by the types of that vendor's own client.

Google's refuse every field that they do not know. Anthropic's say which fields a block has, so what
is not among them is found by comparing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import anthropic.types as claude
import pydantic
import pytest
from google.genai import types as google

from modelspend import translation
from modelspend.dialects import CHAT_DIALECTS
from modelspend.errors import BadRequest, Uncarriable, UnpairedToolCall, Unsupported
from tests.dialects.recorded import FILES, Row

Traffic = Callable[[str], tuple[Row, ...]]
SOURCES = [file for file, name in FILES.items() if name in CHAT_DIALECTS]
MODELS = {
    "anthropic.messages": ("claude-3-5-haiku-latest", "claude-sonnet-4-5", "claude-opus-4-7"),
    "gemini.generate": ("gemini-2.5-flash", "gemini-3-pro-preview"),
}

BLOCKS = {
    "text": claude.TextBlockParam,
    "image": claude.ImageBlockParam,
    "document": claude.DocumentBlockParam,
    "tool_use": claude.ToolUseBlockParam,
    "tool_result": claude.ToolResultBlockParam,
}
SOURCE_TYPES = {
    ("image", "base64"): claude.Base64ImageSourceParam,
    ("image", "url"): claude.URLImageSourceParam,
    ("document", "base64"): claude.Base64PDFSourceParam,
    ("document", "text"): claude.PlainTextSourceParam,
    ("document", "url"): claude.URLPDFSourceParam,
}
THINKING = {
    "enabled": claude.ThinkingConfigEnabledParam,
    "adaptive": claude.ThinkingConfigAdaptiveParam,
}
CHOICES = {
    "auto": claude.ToolChoiceAutoParam,
    "any": claude.ToolChoiceAnyParam,
    "tool": claude.ToolChoiceToolParam,
    "none": claude.ToolChoiceNoneParam,
}


def fits(shape: Any, value: Mapping[str, Any]) -> None:
    """The fields that must be there are, of their types, and no others."""
    _adapter(shape).validate_python(value)
    assert value.keys() <= shape.__annotations__.keys(), (shape, value.keys())


@cache
def _adapter(shape: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(shape, config=None)


def judged_by_anthropic(body: Mapping[str, Any]) -> None:
    allowed = set(claude.message_create_params.MessageCreateParamsBase.__annotations__)
    # The client no longer offers sampling, which models before 4.7 still take.
    assert body.keys() <= allowed | {"temperature", "top_p", "top_k", "stream"}
    assert isinstance(body["max_tokens"], int)
    roles = [message["role"] for message in body["messages"]]
    assert all(one != two for one, two in pairwise(roles))
    assert roles[:1] != ["assistant"]
    for block in body.get("system", ()):
        fits(claude.TextBlockParam, block)
    for message in body["messages"]:
        assert message["content"]
        for block in message["content"]:
            anthropic_block(block)
    for tool in body.get("tools", ()):
        fits(claude.ToolParam, tool)
        assert tool["input_schema"]["type"] == "object"
    if "tool_choice" in body:
        fits(CHOICES[body["tool_choice"]["type"]], body["tool_choice"])
    if "thinking" in body:
        fits(THINKING[body["thinking"]["type"]], body["thinking"])
        assert body["thinking"].get("budget_tokens", 1024) in range(1024, body["max_tokens"])
    if "output_config" in body:
        fits(claude.OutputConfigParam, body["output_config"])


def anthropic_block(block: Mapping[str, Any]) -> None:
    fits(BLOCKS[block["type"]], block)
    if "source" in block:
        fits(SOURCE_TYPES[block["type"], block["source"]["type"]], block["source"])
        media = claude.Base64ImageSourceParam.__annotations__["media_type"]
        if block["type"] == "image" and "media_type" in block["source"]:
            assert block["source"]["media_type"] in str(media)
    if block["type"] == "text":
        assert block["text"].strip()
    for inner in block.get("content", ()):
        anthropic_block(inner)


def judged_by_google(body: Mapping[str, Any]) -> None:
    known = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
    assert body.keys() <= known
    roles = [content["role"] for content in body["contents"]]
    assert all(one != two for one, two in pairwise(roles))
    assert roles[:1] != ["model"]
    called: list[tuple[str, str]] = []
    for content in [*body["contents"], *filter(None, [body.get("systemInstruction")])]:
        google.Content.model_validate(content)
        assert content["parts"]
        for part in content["parts"]:
            if call := part.get("functionCall"):
                called.append((call["id"], call["name"]))
            if told := part.get("functionResponse"):
                assert isinstance(told["response"], dict)
                called.remove((told["id"], told["name"]))
    assert called == []
    for tool in body.get("tools", ()):
        google.Tool.model_validate(tool)
    google.GenerationConfig.model_validate(body.get("generationConfig", {}))
    google.ToolConfig.model_validate(body.get("toolConfig", {}))


JUDGES = {"anthropic.messages": judged_by_anthropic, "gemini.generate": judged_by_google}
PAIRS = [(file, to) for file in SOURCES for to in JUDGES if FILES[file] != to]


@pytest.mark.parametrize(("file", "to"), PAIRS)
def test_every_recorded_request_has_the_shape_that_the_vendor_publishes(
    file: str, to: str, traffic: Traffic
) -> None:
    source, target = CHAT_DIALECTS[FILES[file]], CHAT_DIALECTS[to]
    seen: Counter[str] = Counter()
    for row in traffic(file):
        for model in MODELS[to]:
            try:
                asked = source.neutral(source.read(row.path, row.body))
                prepared = translation.prepare(asked, to=to)
                encoded = target.encode_request(prepared.request, model)
            except (BadRequest, Unsupported, UnpairedToolCall, Uncarriable):
                seen["refused"] += 1
                continue
            JUDGES[to](encoded.view.body)
            seen["judged"] += 1
    assert seen["judged"] > 2 * seen["refused"]
    print(f"{file} → {to}: {dict(seen)}")


def test_the_judges_find_what_is_wrong() -> None:
    bad_for_google: list[dict[str, Any]] = [
        {"contents": [{"role": "user", "parts": [{"text": "a", "mood": "b"}]}]},
        {"contents": [], "generationConfig": {"topq": 1}},
        {"contents": [], "tools": [{"functionDeclarations": [{"parameters": {"const": 1}}]}]},
        {"contents": [{"role": "user", "parts": []}]},
    ]
    for body in bad_for_google:
        with pytest.raises((pydantic.ValidationError, AssertionError)):
            judged_by_google(body)
    text = {"type": "text", "text": "a"}
    base: dict[str, Any] = {"model": "m", "max_tokens": 5}
    good = base | {"messages": [{"role": "user", "content": [text]}]}
    judged_by_anthropic(good)
    for change in (
        {"seed": 5},
        {"tool_choice": {"type": "auto", "name": "x"}},
        {"tools": [{"name": "x"}]},
        {"messages": [{"role": "user", "content": [text | {"type": "image"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]},
    ):
        with pytest.raises((pydantic.ValidationError, AssertionError)):
            judged_by_anthropic(good | change)
    assert get_args(claude.StopReason)
