"""Bounded regular expressions: they agree with Python's own, and nothing keeps them busy."""

import random
import re
import time

import pytest

from modelspend.patterns import LONGEST_TEXT, Pattern

ATOMS = (
    "a", "b", "c", "[ab]", "[^a]", ".", r"\d", r"\w", r"\W", r"\s", "[a-c1]", "(?:ab|a)", "(a|b|)",
    r"\b", r"\B", "^", "$", r"\A", r"\Z", "(?:a*)", "(?:a|bc)", "(?i:A)", "(?s:.)", "(?m:^|$)",
    "(?a:[^b])", r"[\d\s]", r"[^\w]", "é",
)  # fmt: skip
PLACES = (r"\b", r"\B", "^", "$", r"\A", r"\Z")
REPEATS = ("*", "+", "?", "{2}", "{1,3}", "*?", "{0,2}?")


def pattern(rng: random.Random, depth: int = 0) -> str:
    out = ""
    for _ in range(rng.randint(1, 4)):
        atom = rng.choice(ATOMS)
        if depth < 2 and rng.random() < 0.25:
            other = "|" + pattern(rng, depth + 1) if rng.random() < 0.5 else ""
            atom = f"(?:{pattern(rng, depth + 1)}{other})"
        repeat = rng.choice(REPEATS) if rng.random() < 0.4 and atom not in PLACES else ""
        out += atom + repeat
    return out


def test_it_finds_what_pythons_engine_finds() -> None:
    rng = random.Random(7)
    for _ in range(4_000):
        text = "".join(rng.choice("abcA1 \n_xé") for _ in range(rng.randint(1, 7)))
        said, ignore_case = pattern(rng), rng.random() < 0.3
        known = re.compile(said, re.IGNORECASE if ignore_case else 0)
        ours = Pattern(said, ignore_case=ignore_case)
        assert ours.search(text) == bool(known.search(text)), (said, text)
        assert ours.fullmatch(text) == bool(known.fullmatch(text)), (said, text)


@pytest.mark.parametrize("said", ["(a|a)*b", "(a+)+b", "(.*)*x", ".*.*.*.*x", "(a?){50}a{50}b"])
def test_what_hangs_other_engines_ends(said: str) -> None:
    began = time.perf_counter()
    assert not Pattern(said).search("a" * 5_000)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("(?=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "back-reference"),
        ("(a)?(?(1)b|c)", "condition"),
        ("(?>a)", "atomic"),
        ("a*+", "possessive"),
        ("a{0,5000}", "too large"),
        ("(a{100}){100}", "too large"),
        ("(", "not a regular expression"),
        ("a{99999999999999}", "not a regular expression"),
    ],
)
def test_what_cannot_be_bounded_is_refused_by_name(said: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Pattern(said)


def test_a_text_beyond_the_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        Pattern("a").search("b" * (LONGEST_TEXT + 1))
