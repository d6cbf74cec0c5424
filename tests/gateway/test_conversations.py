"""Where conversations are, and what of them is probably cached."""

from dataclasses import replace

from modelspend.gateway import conversations
from modelspend.gateway.conversations import CACHE_LIVES_MS, Conversations, Turn
from modelspend.routing import Stay

TURN = Turn(provider="openai", model="gpt-5", at_ms=1000, cached_tokens=5000)


def test_a_conversation_is_known_by_tenant_and_session() -> None:
    known = Conversations()
    known.took("acme", "s", TURN)
    known.took("acme", None, TURN)
    assert known.stay("acme", "s", 1001) == Stay(
        provider="openai", model="gpt-5", cached_tokens=5000, turns=1
    )
    assert known.stay("other", "s", 1001) is None
    assert known.stay("acme", "t", 1001) is None
    assert known.stay("acme", None, 1001) is None
    assert known.providers("acme", "s") == {"openai"}
    assert known.providers("acme", None) == known.providers("x", "s") == frozenset()


def test_a_cache_counts_while_it_may_still_live() -> None:
    known = Conversations()
    known.took("acme", "s", TURN)
    alive = known.stay("acme", "s", 1000 + CACHE_LIVES_MS - 1)
    gone = known.stay("acme", "s", 1000 + CACHE_LIVES_MS)
    assert alive is not None
    assert gone is not None
    assert (alive.cached_tokens, gone.cached_tokens) == (5000, 0)


def test_the_caches_of_the_last_few_models_are_remembered() -> None:
    known = Conversations()
    for n in range(6):
        known.took("acme", "s", replace(TURN, provider=f"p{n}", at_ms=1000 + n))
    known.took("acme", "s", replace(TURN, provider="p4", at_ms=2000, cached_tokens=7000))
    stay = known.stay("acme", "s", 2001)
    assert stay is not None
    assert (stay.name, stay.cached_tokens, stay.turns) == ("p4/gpt-5", 7000, 7)
    assert stay.elsewhere == {"p5/gpt-5": 5000, "p3/gpt-5": 5000, "p2/gpt-5": 5000}
    assert known.providers("acme", "s") == {f"p{n}" for n in range(6)}
    later = known.stay("acme", "s", 1004 + CACHE_LIVES_MS)
    assert later is not None
    assert later.elsewhere == {"p5/gpt-5": 5000}
    assert later.cached_at("p5/gpt-5") == 5000
    assert later.cached_at("p3/gpt-5") == 0


def test_the_oldest_conversation_is_forgotten_first() -> None:
    known = Conversations()
    for n in range(conversations._MOST + 2):
        known.took("acme", f"s{n}", TURN)
        known.took("acme", "s0", TURN)
    assert known.stay("acme", "s0", 1001) is not None
    assert known.stay("acme", "s1", 1001) is None
    assert known.stay("acme", "s9", 1001) is not None
