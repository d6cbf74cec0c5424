"""Usage that no provider told: counted from characters by a ratio learnt from those that did.

For each provider and model, and for input and output apart, it keeps how many characters went
with how many tokens, and how far off its own guess was each time, taken before learning from it.
A model that was seen little leans on what was learnt overall, and that on four characters a token.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from modelspend.money import INPUT_BUCKETS
from modelspend.receipt import Usage

PRIOR_CHARS_PER_TOKEN = 4.0
_PRIOR_WEIGHT = 200  # tokens' worth of belief in the wider ratio

_OUTPUT_BUCKETS = ("output_tokens", "output_audio_tokens", "output_image_tokens")
_NOT_TEXT = (
    "input_audio_tokens",
    "cached_audio_tokens",
    "input_image_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)

RatioRow = tuple[str, str, str, int, int, int, float]
"""(provider, model, "input" or "output", chars, tokens, calls, sum of relative errors)."""

_Key = tuple[str, str, str]
_OVERALL = ("", "")


@dataclass(slots=True)
class _Ratio:
    chars: int = 0
    tokens: int = 0
    calls: int = 0
    errors: float = 0.0

    def chars_per_token(self, wider: float) -> float:
        """Its own ratio, drawn towards the wider one while it has seen little."""
        weighted = self.chars + wider * _PRIOR_WEIGHT
        return max(weighted / (self.tokens + _PRIOR_WEIGHT), 0.01)


class Estimator:
    """Guesses tokens from characters, and learns from every usage that a provider told."""

    def __init__(self, rows: Iterable[RatioRow] = ()) -> None:
        self._ratios: dict[_Key, _Ratio] = {}
        for provider, model, side, *sums in rows:
            self._ratios[provider, model, side] = _Ratio(*sums)

    def usage(
        self,
        provider: str,
        model: str,
        *,
        input_chars: int,
        output_chars: int,
        problems: tuple[str, ...] = (),
    ) -> Usage:
        """The estimated usage of a call; `problems` are those of the usage that it replaces."""
        given = self._tokens((provider, model, "input"), input_chars)
        written = self._tokens((provider, model, "output"), output_chars)
        quantities = {"input_tokens": given, "output_tokens": written}
        return Usage(
            quantities={bucket: n for bucket, n in quantities.items() if n},
            source="estimated",
            error_ratio=self._error(provider, model, given, written),
            problems=problems,
        )

    def learn(
        self, provider: str, model: str, usage: Usage, *, input_chars: int, output_chars: int
    ) -> tuple[RatioRow, ...]:
        """Learn from a usage that the provider told; the rows that changed, to be kept.

        Nothing is learnt from sound and pictures, whose characters nobody wrote, nor from a usage
        that made no sense.
        """
        told = usage.quantities
        if usage.source != "provider" or usage.problems or any(map(told.get, _NOT_TEXT)):
            return ()
        given = sum(told.get(bucket, 0) for bucket in INPUT_BUCKETS)
        written = sum(told.get(bucket, 0) for bucket in _OUTPUT_BUCKETS)
        return (
            *self._learn(provider, model, "input", input_chars, given),
            *self._learn(provider, model, "output", output_chars, written),
        )

    def rows(self) -> tuple[RatioRow, ...]:
        """All that was learnt."""
        return tuple(map(self._row, self._ratios))

    def _learn(
        self, provider: str, model: str, side: str, chars: int, tokens: int
    ) -> list[RatioRow]:
        if chars <= 0 or tokens <= 0:
            return []
        keys = ((provider, model, side), (*_OVERALL, side))
        error = abs(self._tokens(keys[0], chars) - tokens) / tokens
        for key in keys:
            ratio = self._ratios.setdefault(key, _Ratio())
            ratio.chars += chars
            ratio.tokens += tokens
            ratio.calls += 1
            ratio.errors += error
        return [self._row(key) for key in keys]

    def _row(self, key: _Key) -> RatioRow:
        ratio = self._ratios[key]
        return (*key, ratio.chars, ratio.tokens, ratio.calls, ratio.errors)

    def _tokens(self, key: _Key, chars: int) -> int:
        overall = self._ratios.get((*_OVERALL, key[2]), _Ratio())
        wider = overall.chars_per_token(PRIOR_CHARS_PER_TOKEN)
        return math.ceil(max(chars, 0) / self._ratios.get(key, _Ratio()).chars_per_token(wider))

    def _error(self, provider: str, model: str, given: int, written: int) -> float | None:
        """The mean relative error seen so far, input and output weighed by what was estimated."""
        weighed, weight = 0.0, 0
        for side, tokens in (("input", given), ("output", written)):
            ratio = self._ratios.get((provider, model, side)) or self._ratios.get((*_OVERALL, side))
            if ratio is not None and ratio.calls and tokens:
                weighed += ratio.errors / ratio.calls * tokens
                weight += tokens
        return round(weighed / weight, 4) if weight else None
