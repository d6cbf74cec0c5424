"""What a classification costs: prompts of given sizes, and texts made to be dear.

Each text is classified many times and its least time counts, since other processes only ever add
to it; of the texts of a size the median and the greatest are told.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelspend.signals import classify

SIZES = (2_048, 4_096, 102_400)
REPEATS = 25
LONG = 102_400


@dataclass(frozen=True, slots=True)
class Cost:
    what: str
    texts: int
    median_us: float
    greatest_us: float


def costs(texts: Sequence[str]) -> list[Cost]:
    """The cost by size on real prompts (the long ones strung together), then on made texts."""
    strung = "\n\n".join(texts)
    found = []
    for size in SIZES:
        real = [text[:size] for text in texts if size <= len(text) < 2 * size]
        joined = [strung[at : at + size] for at in range(0, min(len(strung), 40 * size), size)]
        if real:
            found.append(_cost(f"prompts of {size // 1024} KB", real))
        found.append(_cost(f"{size // 1024} KB of prompts strung together", joined))
    found += [_cost(f"100 KB of {name}", [text]) for name, text in _made()]
    return found


def _cost(what: str, texts: Sequence[str]) -> Cost:
    least = [_least_us(text) for text in texts]
    return Cost(what, len(least), statistics.median(least), max(least))


def _least_us(text: str) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        classify(text)
        best = min(best, time.perf_counter() - start)
    return best * 1e6


def _made() -> Iterator[tuple[str, str]]:
    """Texts in which each pattern starts again and again and never ends."""
    for name, piece in (
        ("one letter", "a"),
        ("question marks", "?"),
        ("line breaks", "\n"),
        ("other scripts", "кит и 鯨 "),
        ("questions begun", "does he if what would have had who is the "),
        (
            "words of every rule",
            "each word if all prove that x = 3 must not think she knows where ",
        ),
        ("capitals", "Ab Cd "),
        ("numbers", "1 = 2 + 3 * "),
        ("brackets", "((f(x)^2)/("),
    ):
        yield name, piece * (LONG // len(piece))
