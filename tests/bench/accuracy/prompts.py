"""The labelled prompts: which should escalate by their source's label, and what we make of them.

`READ` says which tasks' rows were read while the rules were written; on all others the rules are
judged blind, which is as good as a task left out. (The forms of public benchmarks are known to
whoever writes such rules; their rows here were not looked at.)
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelspend.receipt import Classification
from modelspend.signals import classify

READ: Mapping[str, str] = {
    "arena_hard_v0.1": "45 rows at random, then those in which a rule fired",
    "user_oriented": "30 rows at random, then those in which a rule fired",
}
"""Tasks of which rows were read, and how many. Both are freely worded and hold no template. Of the
questions for routing some twenty were read."""

FREE = ("mt_bench", "vicuna_bench", "user_oriented", "arena_hard_v0.1")
"""Sets of prompts that people worded freely."""

HARD_FORMS = (
    "words:alphabet",
    "sentence:increment",
    "words:last_first",
    "words:paragraph_last_first",
    "sentence:alliteration_increment",
    "words:palindrome",
    "custom:",
)
MT_BENCH_HARD = {"reasoning", "math", "coding"}
VICUNA_HARD = {"counterfactual", "math", "coding", "fermi"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """`wanted` is whether to escalate; None where the source does not say."""

    task: str
    label: str
    text: str
    wanted: bool | None


@dataclass(frozen=True, slots=True)
class Judged:
    prompt: Prompt
    found: Classification

    @property
    def escalated(self) -> bool:
        return self.found.tier == "deep_reasoning"


def judged(folder: Path) -> list[Judged]:
    return [Judged(prompt, classify(prompt.text)) for prompt in prompts(folder)]


def prompts(folder: Path) -> list[Prompt]:
    mapping = json.loads((folder / "prompts" / "categories.json").read_text("utf-8"))
    found = []
    for row in rows(folder / "prompts" / "labelled_half.jsonl"):
        task, label = row["task"], row["label"]
        found.append(Prompt(task, label, row["text"], _wanted(task, label, mapping)))
    return found


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a text may hold line ends of other kinds."""
    return map(json.loads, path.read_text("utf-8").rstrip("\n").split("\n"))


def _wanted(task: str, label: str, mapping: Mapping[str, Mapping[str, object]]) -> bool | None:
    """The mapping of `categories.json`; where it says "by label", the words of that file."""
    if task == "hitom":
        return {"0": False, "1": None}.get(label[-1], True)
    if task == "mt_bench":
        return label in MT_BENCH_HARD
    if task == "vicuna_bench":
        return label in VICUNA_HARD
    if task == "ifbench":
        return _form_wanted(label)
    wanted = mapping[task]["escalate"]
    return wanted if isinstance(wanted, bool) else None


def _form_wanted(label: str) -> bool | None:
    parts = label.split(",")
    if any(part.startswith(HARD_FORMS) for part in parts):
        return True
    plain = all(part.startswith(("format:", "count:")) for part in parts)
    return False if plain else None


IMPLIED: Mapping[str, str] = {
    "mt_bench/coding": "code",
    "mt_bench/reasoning": "reasoning",
    "mt_bench/math": "reasoning",
    "mt_bench/extraction": "extraction",
    "mt_bench/writing": "creative",
    "mt_bench/roleplay": "creative",
    "mt_bench/stem": "analysis",
    "mt_bench/humanities": "analysis",
    "vicuna_bench/coding": "code",
    "vicuna_bench/math": "reasoning",
    "vicuna_bench/fermi": "reasoning",
    "vicuna_bench/counterfactual": "reasoning",
    "vicuna_bench/writing": "creative",
    "vicuna_bench/roleplay": "creative",
    "vicuna_bench/knowledge": "analysis",
    "humaneval": "code",
    "commongen": "creative",
    "natural_qa": "other",
    "trivia_qa": "other",
    "commonsense_qa": "other",
    "openbook_qa": "other",
    "math": "reasoning",
    "agentverse-logicgrid": "reasoning",
    "bbh/formal_fallacies": "reasoning",
    "bbh/logical_deduction_three_objects": "reasoning",
    "bbh/web_of_lies": "reasoning",
    "bbh/temporal_sequences": "reasoning",
    "cladder_easy": "reasoning",
}
"""The category that a source's label implies; other labels imply none."""


def implied(prompt: Prompt) -> str | None:
    return IMPLIED.get(prompt.task) or IMPLIED.get(f"{prompt.task}/{prompt.label}")


def confusion(rows: Iterable[Judged]) -> dict[tuple[str, str], int]:
    """How often a prompt of the first category was taken for the second."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if wanted := implied(row.prompt):
            pair = (wanted, row.found.category)
            counts[pair] = counts.get(pair, 0) + 1
    return counts
