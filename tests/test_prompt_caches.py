"""Caches along a conversation, by hand: what is lost when it goes elsewhere, what is regained."""

from modelspend.prompt_caches import Caching, PromptCaches, Thread

OLD, NEW = ("anthropic", "sonnet"), ("anthropic", "haiku")
MARKED = Caching(dialect="anthropic.messages", unasked=False, writes=True, writes_hour=True)
UNASKED = Caching(dialect="openai.chat", unasked=True)
MINUTE = 60_000


def turn(
    thread: Thread,
    used: dict[str, int],
    at_ms: int,
    *,
    to: tuple[str, str] = NEW,
    before: Caching = MARKED,
    after: Caching = MARKED,
) -> dict[str, int]:
    """What a turn uses at `to`; the conversation goes on from there."""
    if to == OLD:
        now = thread.used_as_it_was(used, OLD, at_ms, before)
    else:
        now = thread.used_elsewhere(used, OLD, to, at_ms, before, after)
    thread.went(OLD, used, before, to, now, after, at_ms)
    return now


FIRST = {"input_tokens": 50, "cache_write_5m_tokens": 1950, "output_tokens": 100}
SECOND = {"input_tokens": 50, "cache_read_tokens": 1950, "cache_write_5m_tokens": 200,
          "output_tokens": 30}  # fmt: skip


def test_a_conversation_that_stays_keeps_every_usage() -> None:
    thread = Thread()
    assert turn(thread, FIRST, 0, to=OLD) == FIRST
    assert turn(thread, SECOND, 90 * MINUTE, to=OLD) == SECOND


def test_a_switch_writes_what_was_read_and_the_next_turn_reads_it() -> None:
    thread = Thread()
    turn(thread, FIRST, 0, to=OLD)
    assert turn(thread, SECOND, MINUTE) == {
        "input_tokens": 50,
        "cache_write_5m_tokens": 2150,
        "output_tokens": 30,
    }
    third = {"input_tokens": 60, "cache_read_tokens": 2150, "cache_write_5m_tokens": 90}
    assert turn(thread, third, 2 * MINUTE) == third


def test_a_cache_that_rested_too_long_is_lost() -> None:
    thread = Thread()
    turn(thread, FIRST, 0)
    late = turn(thread, SECOND, 5 * MINUTE)
    assert late == {"input_tokens": 50, "cache_write_5m_tokens": 2150, "output_tokens": 30}


def test_a_cache_written_for_an_hour_lives_for_one() -> None:
    thread = Thread()
    hour = {"input_tokens": 50, "cache_write_1h_tokens": 1950}
    turn(thread, hour, 0)
    later = {"input_tokens": 50, "cache_read_tokens": 1950, "cache_write_1h_tokens": 200}
    assert turn(thread, later, 59 * MINUTE) == later


def test_without_a_price_for_writes_what_was_cached_becomes_fresh_input() -> None:
    thread = Thread()
    turn(thread, FIRST, 0, to=OLD)
    moved = turn(thread, SECOND, MINUTE, to=("openai", "mini"), after=UNASKED)
    assert moved == {"input_tokens": 2200, "output_tokens": 30}


def test_a_cache_that_works_by_itself_gives_back_whole_blocks() -> None:
    thread = Thread()
    mini = ("openai", "mini")
    turn(thread, FIRST, 0, to=mini, after=UNASKED)
    moved = turn(thread, SECOND, MINUTE, to=mini, after=UNASKED)
    assert moved == {"input_tokens": 2200 - 1920, "cache_read_tokens": 1920, "output_tokens": 30}


def test_a_request_that_marks_nothing_is_not_cached_where_marks_are_needed() -> None:
    thread = Thread()
    used = {"input_tokens": 700, "cache_read_tokens": 1280, "output_tokens": 5}
    for minute in range(2):
        moved = turn(thread, used, minute * MINUTE, before=UNASKED, after=MARKED)
        assert moved == {"input_tokens": 1980, "output_tokens": 5}


def test_prompts_below_the_least_size_are_neither_written_nor_read() -> None:
    thread = Thread()
    small = {"input_tokens": 10, "cache_write_5m_tokens": 1000}
    assert turn(thread, small, 0) == {"input_tokens": 1010}


def test_a_prompt_that_changed_in_the_ledger_reads_no_more_elsewhere() -> None:
    thread = Thread()
    mini = ("openai", "mini")
    first = {"input_tokens": 4000}
    turn(thread, first, 0, to=mini, before=UNASKED, after=UNASKED)
    changed = {"input_tokens": 3000, "cache_read_tokens": 1024}
    moved = turn(thread, changed, MINUTE, to=mini, before=UNASKED, after=UNASKED)
    assert moved == changed


def test_coming_back_finds_only_what_the_policy_left_there() -> None:
    thread = Thread()
    turn(thread, FIRST, 0, to=OLD)
    turn(thread, SECOND, MINUTE)
    third = {"input_tokens": 60, "cache_read_tokens": 2150, "cache_write_5m_tokens": 90}
    back = turn(thread, third, 2 * MINUTE, to=OLD)
    assert back == {"input_tokens": 60, "cache_read_tokens": 1950, "cache_write_5m_tokens": 290}


def test_cached_audio_becomes_fresh_audio() -> None:
    used = {"input_tokens": 10, "cached_audio_tokens": 5, "input_audio_tokens": 2}
    assert turn(Thread(), used, 0) == {"input_tokens": 10, "input_audio_tokens": 7}


def test_the_tokens_of_a_prompt_are_never_more_or_fewer_than_they_were() -> None:
    thread = Thread()
    for minute in range(40):
        used = {"input_tokens": 37 * minute, "cache_read_tokens": 211 * minute}
        used["cache_write_5m_tokens"] = 17 * minute
        to = (OLD, NEW, ("openai", "mini"))[minute % 3]
        moved = turn(thread, used, minute * MINUTE, to=to, after=UNASKED if minute % 2 else MARKED)
        assert sum(moved.values()) == sum(used.values())
        assert all(n > 0 for bucket, n in moved.items() if bucket not in used)


def test_the_plan_of_the_next_turn_knows_where_the_policy_has_the_conversation() -> None:
    thread = Thread()
    assert thread.stay(0) is None
    turn(thread, FIRST, 0)
    stay = thread.stay(MINUTE)
    assert stay is not None
    assert (stay.provider, stay.model, stay.cached_tokens) == (*NEW, 1950)
    late = thread.stay(6 * MINUTE)
    assert late is not None
    assert late.cached_tokens == 0


def test_conversations_that_rested_longest_are_forgotten_and_tenants_share_none() -> None:
    caches = PromptCaches(most=2)
    first = caches.thread("acme", "s")
    assert caches.thread("acme", "s") is first
    assert caches.thread("beta", "s") is not first
    caches.thread("acme", "other")
    assert caches.thread("acme", "s") is not first
    assert caches.thread("acme", None) is not caches.thread("acme", None)
