"""The simulated model is a pure function: same seed, same requests, same bytes; usage adds up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.simulator import Simulator
from modelspend.simulator.answers import prose
from modelspend.simulator.samples import instance
from tests.simulator.ask import CHATS, TOOL, Got, ask, tools

NAMES = ("sim-ok", "gpt-4.1", "sim-reason", "sim-cut-5", "sim-429", "sim-usage-twice", "sim-ok")


async def _conversation(seed: int) -> list[bytes]:
    async with Simulator(seed=seed) as sim:
        return [
            (await ask(sim, dialect, name, stream=stream)).body
            for name in NAMES
            for dialect in CHATS
            for stream in (False, True)
        ]


async def test_same_seed_and_requests_give_the_same_bytes() -> None:
    first = await _conversation(1)
    assert first == await _conversation(1)
    assert first[:8] != first[-8:], "each answer has an id of its own"
    other = await _conversation(2)
    ids = [json.loads(bodies[0])["id"] for bodies in (first, other)]
    assert ids[0] != ids[1], "another seed gives other ids"


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_stream_and_a_whole_answer_say_the_same(sim: Simulator, dialect: str) -> None:
    whole = await ask(sim, dialect, "sim-reason", text="Hello")
    stream = await ask(sim, dialect, "sim-reason", text="Hello", stream=True)
    assert whole.text == stream.text
    assert len({json.dumps(line["usage"]) for line in sim.ended()}) == 1


def _told(got: Got) -> int:
    """The total that the provider reports last, by its own rules of what includes what."""
    usage = got.usages[-1]
    if got.dialect == "anthropic.messages":
        merged = {k: v for told in got.usages for k, v in told.items()}
        parts = ("input", "output", "cache_read_input", "cache_creation_input")
        return sum(merged.get(f"{part}_tokens") or 0 for part in parts)
    return int(usage.get("total_tokens") or usage["totalTokenCount"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_what_is_reported_adds_up_to_what_is_charged(
    sim: Simulator, dialect: str, stream: bool
) -> None:
    for name in ("sim-ok", "sim-reason-100", "sim-tokens-1000-200+cached-300+write-40"):
        got = await ask(sim, dialect, name, stream=stream)
        line = sim.ended()[-1]
        charged = {k: v for k, v in line["charged"].items() if k != "reasoning_tokens"}
        assert _told(got) == sum(charged.values()), name


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "gemini.generate"])
async def test_a_repeated_long_prompt_is_read_from_the_cache(sim: Simulator, dialect: str) -> None:
    text = "All work and no play. " * 300
    await ask(sim, dialect, "gpt-5", text=text)
    await ask(sim, dialect, "gpt-5", text=text)
    first, again = sim.ended()
    assert "cache_read_tokens" not in first["usage"]
    assert again["usage"]["cache_read_tokens"] == len(text) // 4 // 128 * 128
    assert sum(first["usage"].values()) == sum(again["usage"].values())


@pytest.mark.parametrize(("ttl", "bucket"), [(None, "5m"), ("1h", "1h")])
async def test_anthropic_caches_only_what_is_marked(
    sim: Simulator, ttl: str | None, bucket: str
) -> None:
    mark = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    text = "All work and no play. " * 300
    system = [{"type": "text", "text": text, "cache_control": mark}]
    for _ in range(2):
        await ask(sim, "anthropic.messages", "claude-x", system=system, text="Hello")
    await ask(sim, "anthropic.messages", "claude-x", text=text)
    await ask(sim, "anthropic.messages", "claude-x", text=text)
    write, read, plain, still_plain = (line["usage"] for line in sim.ended())
    assert write[f"cache_write_{bucket}_tokens"] == read["cache_read_tokens"] == len(text) // 4
    assert not [name for name in {**plain, **still_plain} if name.startswith("cache")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", CHATS)
async def test_a_tool_is_called_when_the_prompt_names_it(
    sim: Simulator, dialect: str, stream: bool
) -> None:
    silent = await ask(sim, dialect, "gpt-5", stream=stream, **tools(dialect))
    called = await ask(
        sim, dialect, "gpt-5", stream=stream, text="Please get_weather in Oslo", **tools(dialect)
    )
    assert b"get_weather" not in silent.body
    assert b"get_weather" in called.body


async def test_the_callers_limit_is_kept_and_told(sim: Simulator) -> None:
    got = await ask(sim, "openai.chat", "gpt-5", max_tokens=5)
    assert len(got.text) <= 20
    assert got.documents[0]["choices"][0]["finish_reason"] == "length"
    assert sim.ended()[0]["charged"]["output_tokens"] == 5


async def test_structured_output_satisfies_its_schema(sim: Simulator) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": TOOL}}
    got = await ask(sim, "openai.chat", "gpt-5", response_format=asked)
    assert json.loads(got.text) == {"city": "sample", "days": 3}


def test_samples_follow_unions_references_and_bounds() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b"]},
            "when": {"type": "string", "format": "date"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 5}]},
            "node": {"$ref": "#/$defs/Node"},
            "many": {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
            "short": {"type": "string", "maxLength": 3},
            "loud": {"type": "STRING", "minLength": 9},
        },
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    }
    made = instance(schema)
    assert made["kind"] == "a"
    assert made["when"] == "2026-01-02"
    assert made["maybe"] == 5
    assert made["many"] == [True, True]
    assert made["short"] == "sam"
    assert len(made["loud"]) == 9
    assert json.dumps(made["node"]).count("next") < 20


@given(st.binary(min_size=1), st.integers(1, 300))
def test_prose_has_as_many_words_as_were_asked_for(key: bytes, words: int) -> None:
    assert len(prose(key, words).split()) == words
    assert prose(key, words) == prose(key, words)
