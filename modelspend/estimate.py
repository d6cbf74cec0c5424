"""Usage that no provider told: counted from characters by a ratio learnt from those that did.

For each provider and model, and for input and output apart, it keeps how many characters went
with how many tokens, and how far off its own guess was each time, taken before learning from it.
A model that was seen little leans on what was learnt overall, and that on four characters a token.
"""

import math
from collections.abc import Iterable

from modelspend.money import INPUT_BUCKETS
from modelspend.receipt import Usage
from modelspend.record import frozen

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

_OVERALL = "*"


@frozen
class Ratio:
    """Sums over `samples` answers whose usage the provider told; learning is adding.

    `key` is `input provider/model` or `output provider/model`, with `*` for all models together.
    `error_sum` adds up the relative errors (0.1 is 10 %) that the estimates would have had.
    """

    key: str
    samples: int = 0
    chars: int = 0
    tokens: int = 0
    error_sum: float = 0.0

    def plus(self, more: "Ratio") -> "Ratio":
        return Ratio(
            self.key,
            self.samples + more.samples,
            self.chars + more.chars,
            self.tokens + more.tokens,
            self.error_sum + more.error_sum,
        )

    def chars_per_token(self, wider: float) -> float:
        """Its own ratio, drawn towards the wider one while it has seen little."""
        weighted = self.chars + wider * _PRIOR_WEIGHT
        return max(weighted / (self.tokens + _PRIOR_WEIGHT), 0.01)


class Estimator:
    """Guesses tokens from characters, and learns from every usage that a provider told."""

    def __init__(self, ratios: Iterable[Ratio] = ()) -> None:
        self._ratios = {ratio.key: ratio for ratio in ratios}

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
        given = self._tokens("input", f"{provider}/{model}", input_chars)
        written = self._tokens("output", f"{provider}/{model}", output_chars)
        quantities = {"input_tokens": given, "output_tokens": written}
        return Usage(
            quantities={bucket: n for bucket, n in quantities.items() if n},
            source="estimated",
            error_ratio=self._error(f"{provider}/{model}", given, written),
            problems=problems,
        )

    def input_tokens(self, chars: int) -> int:
        """Tokens of a prompt of so many characters, whichever model reads it."""
        return self._tokens("input", _OVERALL, chars)

    def samples(self, provider: str, model: str) -> int:
        """How many answers of a model it has learnt from."""
        return self._of("input", f"{provider}/{model}").samples

    def learn(
        self, provider: str, model: str, usage: Usage, *, input_chars: int, output_chars: int
    ) -> tuple[Ratio, ...]:
        """Learn from a usage that the provider told; what is to be added to the sums kept.

        Nothing is learnt from sound and pictures, whose characters nobody wrote, nor from a usage
        that made no sense.
        """
        told = usage.quantities
        if usage.source != "provider" or usage.problems or any(map(told.get, _NOT_TEXT)):
            return ()
        given = sum(told.get(bucket, 0) for bucket in INPUT_BUCKETS)
        written = sum(told.get(bucket, 0) for bucket in _OUTPUT_BUCKETS)
        return (
            *self._learn("input", f"{provider}/{model}", input_chars, given),
            *self._learn("output", f"{provider}/{model}", output_chars, written),
        )

    def _learn(self, side: str, model: str, chars: int, tokens: int) -> list[Ratio]:
        if chars <= 0 or tokens <= 0:
            return []
        error = abs(self._tokens(side, model, chars) - tokens) / tokens
        learnt = [Ratio(f"{side} {name}", 1, chars, tokens, error) for name in (model, _OVERALL)]
        for each in learnt:
            self._ratios[each.key] = self._ratios.get(each.key, Ratio(each.key)).plus(each)
        return learnt

    def _tokens(self, side: str, model: str, chars: int) -> int:
        overall = self._of(side, _OVERALL).chars_per_token(PRIOR_CHARS_PER_TOKEN)
        return math.ceil(max(chars, 0) / self._of(side, model).chars_per_token(overall))

    def _of(self, side: str, name: str) -> Ratio:
        return self._ratios.get(f"{side} {name}", _UNSEEN)

    def _error(self, model: str, given: int, written: int) -> float | None:
        """The mean relative error seen so far, input and output weighed by what was estimated."""
        weighed, weight = 0.0, 0
        for side, tokens in (("input", given), ("output", written)):
            ratio = self._of(side, model)
            if not ratio.samples:
                ratio = self._of(side, _OVERALL)
            if ratio.samples and tokens:
                weighed += ratio.error_sum / ratio.samples * tokens
                weight += tokens
        return round(weighed / weight, 4) if weight else None


_UNSEEN = Ratio("")
