"""Conversations: each planted miss gets its cause and its price, and nothing else gets one."""

from collections.abc import Mapping
from typing import Any

import pytest

from modelspend.conversations import (
    MISS_KINDS,
    THREADS,
    Conversation,
    Miss,
    Turn,
    continued,
    known_masks,
    missed,
    sent_as_they_are,
    thread_of,
    turn_of,
)
from modelspend.segments import Segments, cut

OPENAI = {"input_tokens": 2_000_000, "cache_read_tokens": 500_000, "output_tokens": 8_000_000}
CLAUDE = {
    "input_tokens": 3_000_000,
    "cache_read_tokens": 300_000,
    "cache_write_5m_tokens": 3_750_000,
    "cache_write_1h_tokens": 6_000_000,
}
MINUTE = 60_000


def asked(*turns: str, system: str = "You help.", **more: Any) -> dict[str, Any]:
    said = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    return {"messages": [{"role": "system", "content": system}, *said], **more}


class Talk:
    """One session, call after call, as the gateway keeps it."""

    def __init__(self, dialect: str = "openai.chat", rates: Mapping[str, int] | None = OPENAI):
        self.dialect = dialect
        self.rates = rates
        self.kept: Conversation | None = None
        self.at = 1_000_000

    def call(
        self,
        fields: dict[str, Any],
        *,
        after_ms: int = MINUTE,
        model: str = "m",
        provider: str = "p",
        **quantities: int,
    ) -> Miss | None:
        self.at += after_ms
        sent = cut(self.dialect, fields, known_masks(self.kept))
        before = thread_of(self.kept, sent)
        now = turn_of(
            dialect=self.dialect,
            fields=fields,
            segments=sent,
            provider=provider,
            model=model,
            at_ms=self.at,
            quantities=quantities,
            before=before,
        )
        found = missed(before, now, sent, quantities, self.rates)
        self.kept = continued(self.kept, before, now)
        return found


def test_a_conversation_whose_cache_works_has_no_miss() -> None:
    talk = Talk()
    assert talk.call(asked("a"), input_tokens=5000) is None
    found = talk.call(asked("a", "b", "c"), input_tokens=900, cache_read_tokens=4992)
    assert found is None
    assert talk.kept is not None
    assert (talk.kept.turns, len(talk.kept.threads)) == (2, 1)


PLANTED = [
    ("system_timestamp", "system[0]", asked("a", "b", "c", system="It is 08:16.")),
    ("system_changed", "system[0]", asked("a", "b", "c", system="Be rude.")),
    ("settings_changed", "settings[0]", asked("a", "b", "c", system="It is 08:15.",
                                              response_format={"type": "json_object"})),
    ("tools_changed", "tools[0]", asked("a", "b", "c", system="It is 08:15.", tools=[{"a": 1}])),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "place", "fields"), PLANTED, ids=[each[0] for each in PLANTED])
def test_a_planted_change_is_named_with_the_dollars_that_it_cost(
    kind: str, place: str, fields: dict[str, Any]
) -> None:
    talk = Talk()
    talk.call(asked("a", system="It is 08:15."), input_tokens=5000)
    found = talk.call(fields, input_tokens=6000)
    assert found == Miss(kind=kind, place=place, tokens=4992, cost_pico=4992 * 1_500_000)  # type: ignore[arg-type]


def test_only_what_was_not_read_counts() -> None:
    talk = Talk()
    talk.call(asked("a", "b", "c"), input_tokens=5000)
    found = talk.call(asked("a", "X", "c", "d", "e"), input_tokens=3000, cache_read_tokens=2048)
    assert found is not None
    assert (found.kind, found.place) == ("history_edited", "messages[2]")
    assert (found.tokens, found.cost_pico) == (4992 - 2048, (4992 - 2048) * 1_500_000)


def test_never_more_is_claimed_than_the_turn_had_as_input() -> None:
    talk = Talk()
    talk.call(asked("a", "b", "c", "d", "e"), input_tokens=50_000)
    found = talk.call(asked("c", "d", "e"), input_tokens=1_500)
    assert found is not None
    assert (found.kind, found.place, found.tokens) == ("history_truncated", "messages[1]", 1_500)


@pytest.mark.parametrize(
    ("after_ms", "kind"), [(4 * MINUTE, "provider_miss"), (6 * MINUTE, "expired")]
)
def test_the_same_prefix_unread_is_the_providers_miss_in_time_and_expired_later(
    after_ms: int, kind: str
) -> None:
    talk = Talk()
    talk.call(asked("a"), input_tokens=5000)
    found = talk.call(asked("a", "b", "c"), after_ms=after_ms, input_tokens=6000)
    assert found is not None
    assert (found.kind, found.place, found.tokens) == (kind, "", 4992)


def test_a_cache_lives_as_long_as_it_was_asked_to() -> None:
    talk = Talk()
    long = {"prompt_cache_retention": "24h"}
    talk.call(asked("a", **long), input_tokens=5000)
    found = talk.call(asked("a", "b", "c", **long), after_ms=600 * MINUTE, input_tokens=6000)
    assert found is not None
    assert found.kind == "provider_miss"
    for bucket, kind in (("cache_write_1h_tokens", "provider_miss"),
                         ("cache_write_5m_tokens", "expired")):  # fmt: skip
        talk = Talk("anthropic.messages", CLAUDE)
        talk.call(asked("a"), input_tokens=10, **{bucket: 8000})
        found = talk.call(asked("a", "b", "c"), after_ms=50 * MINUTE, input_tokens=9000)
        assert found is not None
        assert found.kind == kind


def test_a_few_tokens_less_than_expected_are_a_matter_of_blocks() -> None:
    talk = Talk()
    talk.call(asked("a"), input_tokens=5000)
    same = asked("a", "b", "c")
    assert talk.call(same, input_tokens=900, cache_read_tokens=4992 - 255) is None


def test_another_model_or_provider_is_a_switch_whatever_else_changed() -> None:
    for other in ({"model": "n"}, {"provider": "q"}):
        talk = Talk()
        talk.call(asked("a"), input_tokens=5000)
        found = talk.call(asked("a", "b", "c", system="New."), input_tokens=6000, **other)  # type: ignore[arg-type]
        assert found is not None
        assert (found.kind, found.place) == ("model_switch", "model")


def test_a_side_call_of_an_agent_is_no_miss_and_hides_none() -> None:
    talk = Talk()
    talk.call(asked("a"), input_tokens=50_000)
    side = asked("Give this talk a title: a", system="Titles.")
    assert talk.call(side, model="small", input_tokens=3000) is None
    assert talk.call(asked("a", "b", "c"), input_tokens=500, cache_read_tokens=49_920) is None
    found = talk.call(asked("a", "b", "c", "d", "e", system="New."), input_tokens=51_000)
    assert found is not None
    assert (found.kind, found.tokens) == ("system_changed", 50_304)


def test_single_questions_under_one_session_are_no_conversation() -> None:
    talk = Talk()
    for text in ("one", "two", "three"):
        assert talk.call(asked(text), input_tokens=5000) is None


def test_a_few_threads_are_kept_and_the_idle_one_goes_first() -> None:
    talk = Talk()
    for n in range(THREADS + 1):
        talk.call(asked(f"thread {n}"), input_tokens=5000)
    assert talk.kept is not None
    assert (talk.kept.turns, len(talk.kept.threads)) == (THREADS + 1, THREADS)
    assert talk.call(asked("thread 0", "b", "c"), input_tokens=6000) is None
    found = talk.call(asked("thread 4", "b", "c"), input_tokens=6000)
    assert found is not None


def test_where_writes_are_told_only_what_was_written_or_read_can_be_missed() -> None:
    talk = Talk("anthropic.messages", CLAUDE)
    talk.call(asked("a"), input_tokens=9000)
    assert talk.call(asked("a", "b", "c", system="New."), input_tokens=9000) is None
    talk.call(asked("a", "b", "c", system="New."), input_tokens=100, cache_write_5m_tokens=8000)
    changed = asked("a", "b", "c", "d", "e", system="Newer.")
    found = talk.call(changed, input_tokens=100, cache_write_5m_tokens=8500)
    assert found == Miss(
        kind="system_changed", place="system[0]", tokens=8000, cost_pico=8000 * 3_450_000
    )


def test_each_lost_token_costs_what_it_was_billed_as() -> None:
    talk = Talk("anthropic.messages", CLAUDE)
    talk.call(asked("a"), input_tokens=1, cache_write_1h_tokens=1000)
    found = talk.call(
        asked("a", "b", "c", system="New."),
        input_tokens=500,
        cache_write_5m_tokens=300,
        cache_write_1h_tokens=400,
    )
    assert found is not None
    assert found.tokens == 1000
    assert found.cost_pico == 300 * 3_450_000 + 400 * 5_700_000 + 300 * 2_700_000


@pytest.mark.parametrize(
    "rates",
    [{"input_tokens": 5}, {"input_tokens": 5, "cache_read_tokens": 5}, {}, None],
    ids=["no-cached-rate", "as-dear", "free", "unpriced"],
)
def test_without_a_cheaper_cached_rate_there_is_no_cache_to_miss(
    rates: dict[str, int] | None,
) -> None:
    talk = Talk(rates=rates)
    talk.call(asked("a"), input_tokens=5000)
    assert talk.call(asked("a", "b", "c", system="New."), input_tokens=6000) is None


def test_a_miss_without_a_price_has_tokens_and_no_dollars() -> None:
    talk = Talk("anthropic.messages", None)
    talk.call(asked("a"), input_tokens=1, cache_write_5m_tokens=5000)
    found = talk.call(asked("a", "b", "c", system="New."), input_tokens=6000)
    assert found is not None
    assert (found.tokens, found.cost_pico) == (5000, None)
    talk.rates = {"input_tokens": 3, "cache_read_tokens": 1}
    talk.call(asked("a", "b", "c", system="New."), input_tokens=6, cache_write_5m_tokens=5000)
    found = talk.call(asked("a", "b", "c"), input_tokens=6, cache_write_5m_tokens=6000)
    assert found is not None
    assert found.cost_pico is None, "what was written has no price here"


@pytest.mark.parametrize(("dialect", "least"), [("openai.chat", 1024), ("gemini.generate", 4096)])
def test_automatic_caches_begin_at_a_least_size(dialect: str, least: int) -> None:
    def turn(total: int) -> Turn:
        return turn_of(
            dialect=dialect,
            fields={},
            segments=(),
            provider="p",
            model="m",
            at_ms=0,
            quantities={"input_tokens": total},
            before=None,
        )

    assert turn(least - 1).cached_tokens == 0
    assert turn(least).cached_tokens == least
    assert turn(least + 127).cached_tokens == least
    assert turn(least + 128).cached_tokens == least + 128


def test_a_very_long_history_is_compared_whole_though_not_kept_whole() -> None:
    talk = Talk()
    words = [f"{n}" for n in range(1501)]
    talk.call(asked(*words), input_tokens=90_000)
    assert talk.kept is not None
    assert len(talk.kept.last.segments) == 1024
    more = asked(*words, "x", "y")
    assert talk.call(more, input_tokens=500, cache_read_tokens=89_984) is None
    edited = [*words, "x", "y", "z", "w"]
    edited[1400] = "other"
    found = talk.call(asked(*edited), input_tokens=91_000)
    assert found is not None
    assert (found.kind, found.place) == ("history_edited", "messages[1024…]")
    found = talk.call(asked(*words[:1200]), input_tokens=80_000)
    assert found is not None
    assert (found.kind, found.place) == ("history_truncated", "messages[1024…]")
    same = Talk()
    same.call(asked(*words), input_tokens=90_000)
    found = same.call(more, input_tokens=91_000)
    assert found is not None
    assert found.kind == "provider_miss"


def _sent(*turns: str) -> Segments:
    return cut("openai.chat", asked(*turns))


def test_what_went_out_as_it_is_is_counted_up_to_the_first_that_did_not() -> None:
    talk = Talk()
    talk.call(asked("a", "b", "rewritten"), input_tokens=10)
    before = thread_of(talk.kept, _sent("a", "b", "original", "d", "e"))
    assert before is not None
    assert sent_as_they_are(before, _sent("a", "b", "original", "d", "e")) == 3
    assert sent_as_they_are(before, _sent("a", "b", "rewritten", "d", "e")) == 4
    assert sent_as_they_are(None, _sent("a")) == 0


def test_every_kind_of_miss_has_its_words() -> None:
    assert len(MISS_KINDS) == 10
    assert all(words.islower() or "," in words for words in MISS_KINDS.values())
