"""Providers' prompt caches, along conversations that might have gone elsewhere than they did.

For each conversation two histories are kept side by side: where it was (the ledger) and where it
would have been (a policy). As long as they are the same, a usage stands as the provider told it.
From the first turn that goes elsewhere on, what was read from a cache is read only if the policy's
own history would have left it there. What a reader would not guess: where the ledger shows that a
turn read less than its cache held, its prompt had changed, and no other cache is credited with
more than that.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from modelspend.conversations import FIVE_MINUTES_MS, HOUR_MS, kept_unasked, least_kept
from modelspend.record import record
from modelspend.routing import Stay

Where = tuple[str, str]
"""A provider and its model."""

_READ, _FRESH = "cache_read_tokens", "input_tokens"
_WRITE, _WRITE_HOUR = "cache_write_5m_tokens", "cache_write_1h_tokens"
_PROMPT = (_FRESH, _READ, _WRITE, _WRITE_HOUR)
_FRESH_OF = {"cached_audio_tokens": "input_audio_tokens"}
_MOST = 50_000  # conversations; the one that rested longest is forgotten


@record
class Caching:
    """How a model's provider caches prompts: by itself or where the request marks it, and what of
    it has a price of its own."""

    dialect: str
    unasked: bool
    reads: bool = True
    writes: bool = False
    writes_hour: bool = False


@record
class Kept:
    """What a turn left in a provider's cache."""

    at_ms: int
    tokens: int
    lives_ms: int = FIVE_MINUTES_MS

    def at(self, now_ms: int) -> int:
        """The tokens that are there still."""
        return self.tokens if now_ms - self.at_ms < self.lives_ms else 0


@record
class Turn:
    """The last turn of a conversation, as a decision about the next one reads it."""

    where: Where
    kept: Kept


@dataclass(slots=True)
class Thread:
    """One conversation: where the ledger and the policy have it, and what each cache holds.

    `elsewhere` once a turn went another way than it did in the ledger.
    """

    was: Turn | None = None
    now: Turn | None = None
    held: dict[Where, Kept] = field(default_factory=dict)
    elsewhere: bool = False
    turns: int = 0

    def stay(self, at_ms: int) -> Stay | None:
        """The model that the conversation would be on, for the plan of its next turn."""
        if self.now is None:
            return None
        provider, model = self.now.where
        return Stay(
            provider=provider,
            model=model,
            cached_tokens=self.now.kept.at(at_ms),
            turns=self.turns,
            elsewhere={
                "/".join(where): alive
                for where, kept in self.held.items()
                if where != self.now.where and (alive := kept.at(at_ms))
            },
        )

    def used_as_it_was(
        self, used: Mapping[str, int], where: Where, at_ms: int, caching: Caching
    ) -> dict[str, int]:
        """The usage of a turn that stays at its model: what it read must still have been there."""
        read = used.get(_READ, 0)
        if not self.elsewhere or not read:
            return dict(used)
        there = min(read, self._held(where, at_ms))
        written = read - there if caching.writes else 0
        return _with(used, there, used.get(_WRITE, 0) + written, used.get(_WRITE_HOUR, 0))

    def used_elsewhere(
        self,
        used: Mapping[str, int],
        was: Where,
        now: Where,
        at_ms: int,
        before: Caching,
        after: Caching,
    ) -> dict[str, int]:
        """The usage of a turn that goes to another model, whose cache holds only what earlier
        turns left there: everything else is fresh input, or written anew where that is billed."""
        prompt = _prompt(used)
        may_read = min(self._held(now, at_ms), self._alike(used, was, at_ms))
        if prompt < least_kept(after.dialect):
            read, written = 0, 0
        elif after.unasked:
            read = min(may_read, prompt)
            written = prompt - read if after.writes else 0
        elif not before.unasked:  # the request marks what is to be kept, and its usage shows it
            marked = prompt - used.get(_FRESH, 0)
            read = min(may_read, marked)
            written = marked - read if after.writes else 0
        else:
            read, written = 0, 0
        if not after.reads:
            read = 0
        hour = after.writes_hour and bool(used.get(_WRITE_HOUR))
        moved = _with(used, read, 0 if hour else written, written if hour else 0)
        for bucket, fresh in _FRESH_OF.items():
            if bucket in moved:
                moved[fresh] = moved.get(fresh, 0) + moved.pop(bucket)
        return moved

    def _held(self, where: Where, at_ms: int) -> int:
        kept = self.held.get(where)
        return 0 if kept is None else kept.at(at_ms)

    def _alike(self, used: Mapping[str, int], was: Where, at_ms: int) -> int:
        """How many tokens at most begin as the turn before did, as far as the ledger shows it."""
        prompt, before = _prompt(used), self.was
        if before is None or before.where != was:
            return prompt
        could, did = min(before.kept.at(at_ms), prompt), used.get(_READ, 0)
        return did if did < could else prompt

    def went(
        self,
        was: Where,
        used: Mapping[str, int],
        before: Caching,
        now: Where | None,
        used_now: Mapping[str, int],
        after: Caching,
        at_ms: int,
    ) -> None:
        """A turn went well in the ledger; `now` is null when the policy would refuse it."""
        self.was = Turn(where=was, kept=_kept(used, before, at_ms))
        self.elsewhere |= now != was
        if now is not None:
            self.turns += 1
            kept = _kept(used_now, after, at_ms)
            self.now, self.held[now] = Turn(where=now, kept=kept), kept


def read_more(used: Mapping[str, int], share: Fraction, least: int) -> dict[str, int]:
    """The usage if so much more of its prompt were read from a cache, less where it is negative.

    What is read more was a write, else fresh; what is read less is fresh. Prompts shorter than
    `least` tokens are kept by no cache.
    """
    prompt, read = _prompt(used), used.get(_READ, 0)
    if prompt < least:
        return dict(used)
    now = min(prompt, max(0, read + int(share * prompt)))
    written, hour = used.get(_WRITE, 0), used.get(_WRITE_HOUR, 0)
    spared = min(written, max(0, now - read))
    spared_hour = min(hour, max(0, now - read - spared))
    return _with(used, now, written - spared, hour - spared_hour)


def reads(used: Mapping[str, int]) -> tuple[int, int]:
    """(tokens read from a cache, tokens of the prompt)."""
    return used.get(_READ, 0), _prompt(used)


class PromptCaches:
    """The conversations of a ledger that is read in order."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._threads: OrderedDict[tuple[str, str], Thread] = OrderedDict()

    def thread(self, tenant: str, session_id: str | None) -> Thread:
        """The conversation of a call; one of its own where it belongs to none."""
        if session_id is None:
            return Thread()
        key = tenant, session_id
        thread = self._threads.get(key)
        if thread is None:
            thread = self._threads[key] = Thread()
            if len(self._threads) > self._most:
                self._threads.popitem(last=False)
        self._threads.move_to_end(key)
        return thread


def _prompt(used: Mapping[str, int]) -> int:
    return sum(used.get(bucket, 0) for bucket in _PROMPT)


def _with(used: Mapping[str, int], read: int, written: int, hour: int) -> dict[str, int]:
    """The usage with its prompt split anew; what is neither read nor written is fresh."""
    fresh = _prompt(used) - read - written - hour
    split = {_FRESH: fresh, _READ: read, _WRITE: written, _WRITE_HOUR: hour}
    others = {bucket: n for bucket, n in used.items() if bucket not in split}
    return {**{bucket: n for bucket, n in split.items() if n}, **others}


def _kept(used: Mapping[str, int], caching: Caching, at_ms: int) -> Kept:
    known = _prompt(used) - used.get(_FRESH, 0)
    unasked = kept_unasked(caching.dialect, _prompt(used)) if caching.unasked else 0
    lives = HOUR_MS if used.get(_WRITE_HOUR) else FIVE_MINUTES_MS
    return Kept(at_ms=at_ms, tokens=max(known, unasked), lives_ms=lives)
