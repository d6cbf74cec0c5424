"""What a conversation leaves behind for its next turn, and what that turn missed in the cache.

One session may hold several threads: an agent's side calls go out under the same session with
another prompt, and would look like broken caches if each were compared with the call before it. So
a few threads are kept, and a turn continues the one with which it shares a message. Nothing here
holds a prompt: segments are hashes.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

from modelspend.money import INPUT_BUCKETS
from modelspend.record import record
from modelspend.segments import (
    AREAS,
    DifferenceKind,
    Segment,
    Segments,
    first_difference,
    masks,
    shared,
)

MissKind = DifferenceKind | Literal["expired", "provider_miss"]

MISS_KINDS: Mapping[MissKind, str] = {
    "model_switch": "another model or provider was asked",
    "tool_order": "the same tools came in another order",
    "tools_changed": "a tool was added, removed or changed",
    "system_timestamp": "a date, id or number in the system prompt changed",
    "system_changed": "the system prompt changed",
    "settings_changed": "a setting that is part of the prefix changed",
    "history_truncated": "earlier messages were dropped",
    "history_edited": "an earlier message was changed",
    "expired": "the same prefix came too late",
    "provider_miss": "the same prefix came in time, and the provider did not read it",
}
"""Every kind, and what it says in words."""

THREADS = 4  # of one session; the one that was idle longest goes first
_MOST_SEGMENTS = 1024  # the first ones are kept, of the rest one hash
_BLOCK = 128  # automatic caches count in blocks of so many tokens, and from a least size on
_LEAST = {"gemini.generate": 4096}
_LEAST_ELSEWHERE = 1024
_NOISE = 2 * _BLOCK  # so little missing of an unchanged prefix is a matter of blocks
FIVE_MINUTES_MS, HOUR_MS, _DAY = 300_000, 3_600_000, 86_400_000
_WRITES = ("cache_write_5m_tokens", "cache_write_1h_tokens")
_CACHED_KINDS = ("cache_read_tokens", *_WRITES)


@record
class Turn:
    """One call of a conversation, as the next one needs it.

    `cached_tokens` is what the provider's cache should hold of it afterwards, `lifetime_ms` for
    how long. `rest` counts the segments beyond those that are kept, `rest_digest` is their hash.
    """

    dialect: str
    provider: str
    model: str
    at_ms: int
    segments: Segments
    input_tokens: int = 0
    cached_tokens: int = 0
    lifetime_ms: int = FIVE_MINUTES_MS
    rest: int = 0
    rest_digest: bytes = b""


@record
class Conversation:
    """The threads of a session, the newest first, and how many turns they had together."""

    turns: int
    threads: tuple[Turn, ...]

    @property
    def last(self) -> Turn:
        return self.threads[0]


@record
class Miss:
    """Tokens that a cache should have given and did not; `cost_pico` is null without a price."""

    kind: MissKind
    place: str
    tokens: int
    cost_pico: int | None


def known_masks(conversation: Conversation | None) -> dict[bytes, bytes]:
    """What `segments.cut` need not compute again for the next turn."""
    threads = conversation.threads if conversation else ()
    return masks(segment for turn in threads for segment in turn.segments)


def turn_of(
    *,
    dialect: str,
    fields: Mapping[str, Any],
    segments: Segments,
    provider: str,
    model: str,
    at_ms: int,
    quantities: Mapping[str, int],
    before: Turn | None,
) -> Turn:
    """A turn that succeeded, from what was sent and the usage that the provider told.

    Anthropic tells what it wrote; elsewhere a cache takes all input by itself, in whole blocks.
    """
    total = sum(quantities.get(bucket, 0) for bucket in INPUT_BUCKETS)
    known = sum(quantities.get(bucket, 0) for bucket in _CACHED_KINDS)
    automatic = kept_unasked(dialect, total)
    kept, beyond = segments[:_MOST_SEGMENTS], segments[_MOST_SEGMENTS:]
    return Turn(
        dialect=dialect,
        provider=provider,
        model=model,
        at_ms=at_ms,
        segments=kept,
        input_tokens=total,
        cached_tokens=known if dialect == "anthropic.messages" else max(known, automatic),
        lifetime_ms=_lifetime(fields, quantities, before),
        rest=len(beyond),
        rest_digest=_fold(beyond),
    )


def kept_unasked(dialect: str, tokens: int) -> int:
    """What a cache that works by itself holds of a prompt: whole blocks, from a least size on."""
    return tokens // _BLOCK * _BLOCK if tokens >= least_kept(dialect) else 0


def least_kept(dialect: str) -> int:
    """Prompts below this many tokens are kept by no provider of a dialect."""
    return _LEAST.get(dialect, _LEAST_ELSEWHERE)


def _lifetime(fields: Mapping[str, Any], quantities: Mapping[str, int], before: Turn | None) -> int:
    """How long a cache holds what it was given: as asked, else as it was written, else the
    shortest time that providers state (five minutes; as of 2026-11)."""
    if fields.get("prompt_cache_retention") == "24h":
        return _DAY
    if quantities.get("cache_write_1h_tokens"):
        return HOUR_MS
    written = quantities.get("cache_write_5m_tokens")
    return before.lifetime_ms if before and not written else FIVE_MINUTES_MS


def thread_of(conversation: Conversation | None, segments: Segments) -> Turn | None:
    """The earlier turn that a request continues: it shares a message with it, and of several that
    do, the one with the longest common beginning, then the newest."""
    if conversation is None:
        return None
    said = {one.digest for one in segments if one.area == "messages"}
    alike = [
        turn
        for turn in conversation.threads
        if any(one.digest in said for one in turn.segments if one.area == "messages")
    ]
    return max(alike, key=lambda turn: _common(turn.segments, segments), default=None)


def _common(before: Segments, now: Segments) -> int:
    return sum(
        shared(
            [one for one in before if one.area == area], [one for one in now if one.area == area]
        )
        for area in AREAS
    )


def sent_as_they_are(before: Turn | None, segments: Segments) -> int:
    """How many leading segments of a request went out unchanged in the turn before it: what the
    provider's cache knows in the client's own bytes, so that it must not be rewritten now."""
    return shared(before.segments, segments) if before else 0


def missed(
    before: Turn | None,
    now: Turn,
    sent: Segments,
    quantities: Mapping[str, int],
    rates: Mapping[str, int] | None,
) -> Miss | None:
    """What a turn paid for although the one before it had left it in the cache; None for nothing.

    `sent` are all segments of this turn; `rates` are pico-dollars a token by bucket. Never more is
    claimed than this turn paid for as input, and nothing where reading the cache is no cheaper.
    """
    if before is None or not before.cached_tokens or not _caches(before, rates):
        return None
    paid = {bucket: quantities.get(bucket, 0) for bucket in ("input_tokens", *_WRITES)}
    unread = before.cached_tokens - quantities.get("cache_read_tokens", 0)
    lost = min(unread, sum(paid.values()))
    if lost <= 0:
        return None
    kind, place = _cause(before, now, sent)
    if kind in ("expired", "provider_miss") and lost < _NOISE:
        return None
    return Miss(kind=kind, place=place, tokens=lost, cost_pico=_cost(lost, paid, rates))


def _caches(before: Turn, rates: Mapping[str, int] | None) -> bool:
    """Whether there is a cache to miss: its price says so, or, without prices, its own counts."""
    if rates is None:
        return before.dialect == "anthropic.messages"
    return rates.get("cache_read_tokens", rates.get("input_tokens", 0)) < rates.get(
        "input_tokens", 0
    )


def _cause(before: Turn, now: Turn, sent: Segments) -> tuple[MissKind, str]:
    if (before.provider, before.model) != (now.provider, now.model):
        return "model_switch", "model"
    difference = first_difference(before.segments, sent)
    if difference is not None:
        return difference.kind, difference.place
    if before.rest:
        beyond = sent[_MOST_SEGMENTS : _MOST_SEGMENTS + before.rest]
        if _fold(beyond) != before.rest_digest:
            kind: MissKind = "history_truncated" if len(beyond) < before.rest else "history_edited"
            return kind, f"messages[{before.segments[-1].position + 1}…]"
    late = now.at_ms - before.at_ms > before.lifetime_ms
    return ("expired" if late else "provider_miss"), ""


def _cost(lost: int, paid: Mapping[str, int], rates: Mapping[str, int] | None) -> int | None:
    """Each lost token at the difference between what it was billed as and a read from the cache.

    What the provider wrote anew is taken first, the cheaper kind before the dearer, the rest was
    fresh input. Null when one of the rates is not known.
    """
    if rates is None or "cache_read_tokens" not in rates:
        return None
    cost, read = 0, rates["cache_read_tokens"]
    for bucket in (*_WRITES, "input_tokens"):
        count = min(lost, paid[bucket])
        if count and bucket not in rates:
            return None
        if count:
            cost += count * (rates[bucket] - read)
            lost -= count
    return cost


def continued(conversation: Conversation | None, before: Turn | None, now: Turn) -> Conversation:
    """The conversation with one more turn, which takes the place of the one that it continues."""
    if conversation is None:
        return Conversation(turns=1, threads=(now,))
    others = tuple(turn for turn in conversation.threads if turn is not before)
    return Conversation(turns=conversation.turns + 1, threads=(now, *others)[:THREADS])


def _fold(segments: Sequence[Segment]) -> bytes:
    if not segments:
        return b""
    return sha256(b"".join(one.digest for one in segments)).digest()[:8]
