"""How good a model is at a kind of task, as far as anybody has measured it.

Each score is evidence; all evidence on a model in a category is one Beta posterior, and decisions
read its lower bound, so that a model with three right answers out of three does not beat one with
ninety-five out of a hundred. Where nobody has measured there is no posterior and no bound: nothing
is assumed, and the tiers that a profile declares rule.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from typing import Any, Literal

import orjson

from modelspend.beta import quantile
from modelspend.record import frozen

CATEGORIES = (
    "code",
    "reasoning",
    "analysis",
    "extraction",
    "summarization",
    "creative",
    "chat",
    "other",
)
CREDIBILITY = 0.9
MOST_ANSWERS = 10_000_000  # for one line of evidence: sums of millionths stay in 64 bits

_PRIOR = 0.5
"""Jeffreys' prior, Beta(½, ½): it weighs as much as one answer, half right.

Of the two usual weak priors its 90 % bound is the one that is true nearest to 90 % of the time:
for true shares between 0.5 and 1 it covers 93, 91, 91 and 90 % at 5, 10, 20 and 50 answers, where
the uniform Beta(1, 1) covers 97, 95, 94 and 93 % (`tests/test_quality.py` computes both exactly).
"""

Key = tuple[str, str]
"""(model, category)."""


@frozen
class Posterior:
    """What is believed of the share of tasks that a model does right; alone, it is the prior."""

    alpha: float = _PRIOR
    beta: float = _PRIOR

    def plus(self, successes: float, n: float) -> "Posterior":
        """After `n` more answers worth `successes`; a fraction counts as a part of one right."""
        if not 0 <= successes <= n:
            raise ValueError(f"{successes:g} successes of {n:g} answers make no sense")
        return Posterior(self.alpha + successes, self.beta + (n - successes))

    @property
    def n(self) -> float:
        """How many answers it rests on, the prior left out."""
        return self.alpha + self.beta - 2 * _PRIOR

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)

    def lower_bound(self, credibility: float = CREDIBILITY) -> float:
        """The share that the true one is above with that credibility; computed once."""
        return _lower_bound(self.alpha, self.beta, credibility)


@lru_cache(maxsize=4096)
def _lower_bound(alpha: float, beta: float, credibility: float) -> float:
    return quantile(1 - credibility, alpha, beta)


@frozen
class Scores:
    """Every posterior with its bound worked out, for who decides: `bound` is two look-ups."""

    posteriors: Mapping[Key, Posterior] = field(default_factory=dict)
    _bounds: dict[Key, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bounds = {key: each.lower_bound() for key, each in self.posteriors.items()}
        object.__setattr__(self, "_bounds", bounds)

    def bound(self, category: str, model: str, provider: str = "") -> float | None:
        """The bound of a model in a category, None where nothing was measured.

        What was measured of `provider/model` goes before what was measured of the bare name.
        """
        own = self._bounds.get((f"{provider}/{model}", category))
        return own if own is not None else self._bounds.get((model, category))


NO_SCORES = Scores()


@frozen
class Promotion:
    """A model's bound is now the best of its category; it was `over`'s before."""

    model: str
    category: str
    over: str
    difference_pp: float

    @property
    def sentence(self) -> str:
        """gpt-5.4 promoted on reasoning after eval +2.1 pp"""
        gap = f" {self.difference_pp:+.1f}" if self.difference_pp >= 0.05 else ", by less than 0.1"
        return f"{self.model} promoted on {self.category} after eval{gap} pp"

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "category": self.category,
            "over": self.over,
            "difference_pp": round(self.difference_pp, 2),
            "text": self.sentence,
        }


def promotions(
    before: Mapping[Key, Posterior], after: Mapping[Key, Posterior]
) -> tuple[Promotion, ...]:
    """Who took over a category: at most one model in each, and none where nobody led before."""
    leaders, bounds = _leaders(before), _bounds(after)
    found = []
    for category, leader in _leaders(after).items():
        over = leaders.get(category)
        if over is None or over == leader:
            continue
        best, incumbent = bounds[leader, category], bounds.get((over, category), 0.0)
        if best > incumbent:  # equals stay as they are
            found.append(Promotion(leader, category, over, (best - incumbent) * 100))
    return tuple(sorted(found, key=lambda each: each.category))


def _bounds(posteriors: Mapping[Key, Posterior]) -> dict[Key, float]:
    return {key: posterior.lower_bound() for key, posterior in posteriors.items()}


def _leaders(posteriors: Mapping[Key, Posterior]) -> dict[str, str]:
    """The model with the highest bound in each category; of equals the first by name."""
    ranked = sorted(_bounds(posteriors).items(), key=lambda item: (-item[1], item[0]))
    leaders: dict[str, str] = {}
    for (model, category), _ in ranked:
        leaders.setdefault(category, model)
    return leaders


# Evidence: one line of a file, or one item of a suite.


@frozen(kw_only=True)
class Evidence:
    """`n` answers with a mean score, all of one model in one category.

    `item` names what was asked, where that is known: the same item measured again takes the place
    of the older measurement, for asking a question twice is not asking two questions. Rows without
    one add up. `evidence_id` is a hash of what the row says, so a row counts once. Raises
    ValueError.
    """

    model: str
    category: str
    score: float
    n: int = 1
    source: Literal["import", "run"] = "import"
    suite: str = ""
    task: str = ""
    item: str = ""
    receipt_id: str = ""
    at_ms: int = 0
    evidence_id: str = ""

    def __post_init__(self) -> None:
        if not self.model or len(self.model) > _LONGEST or not self.model.isprintable():
            raise ValueError(f"`model` must be a name of at most {_LONGEST} characters")
        if self.category not in CATEGORIES:
            raise ValueError(f"`category` {_quoted(self.category)} is none of: {_CHOICES}")
        if not 0 <= self.score <= 1:
            raise ValueError(_out_of_range(self.score))
        if not 1 <= self.n <= MOST_ANSWERS:
            raise ValueError(f"`n` must be a whole number from 1 to {MOST_ANSWERS:,}")
        for name in ("suite", "task", "item"):
            value = getattr(self, name)
            if len(value) > _LONGEST or not value.isprintable():
                raise ValueError(f"`{name}` must be printable, at most {_LONGEST} characters")

    @property
    def subject(self) -> str:
        """What was measured, if that has a name: the newest row of a subject counts."""
        return _digest(self.source, self.suite, self.model, self.item) if self.item else ""


_LONGEST = 200
_CHOICES = ", ".join(CATEGORIES)


def identified(rows: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """The rows of one file with their ids.

    Two rows that say the same are two rows, and the file read again gives the same ids again: the
    n-th of equal rows is always the n-th.
    """
    seen: dict[tuple[Any, ...], int] = {}
    out = []
    for row in rows:
        said = (row.source, row.suite, row.model, row.category, row.task, row.item,
                row.score, row.n, row.receipt_id)  # fmt: skip
        seen[said] = seen.get(said, 0) + 1
        out.append(replace(row, evidence_id=f"ev_{_digest(*said, seen[said])}"))
    return tuple(out)


def _digest(*said: object) -> str:
    return sha256(orjson.dumps(said)).hexdigest()[:24]


# A line of somebody's file.


def row_of(said: Mapping[str, Any], at_ms: int, category: str | None = None) -> Evidence:
    """The evidence of `{"model", "category" or "task", "score", "n"?, "suite"?, "id"?}`.

    `category` is for tasks that nobody knows here. Raises ValueError with what is wrong, in words.
    """
    unknown = sorted(str(key) for key in said.keys() - _KEYS)
    if unknown:
        raise ValueError(f"unknown key {_quoted(unknown[0])}; known: {', '.join(sorted(_KEYS))}")
    task = _text(said, "task")
    return Evidence(
        model=_text(said, "model") or _missing("model"),
        category=_category(_text(said, "category"), task, category),
        score=_number(said, "score"),
        n=_count(said),
        suite=_text(said, "suite"),
        task=task,
        item=_text(said, "id"),
        at_ms=at_ms,
    )


_KEYS = {"model", "category", "task", "score", "n", "suite", "id"}


def category_of(task: str) -> str | None:
    """The category of a task: its own name, or that of a known benchmark (`mmlu`, `gsm8k`)."""
    name = "_".join("".join(c if c.isalnum() else " " for c in task.lower()).split())
    if name in CATEGORIES:
        return name
    steps = name.split("_")
    longest = ("_".join(steps[:end]) for end in range(len(steps), 0, -1))
    return next((BENCHMARKS[step] for step in longest if step in BENCHMARKS), None)


def _category(told: str, task: str, otherwise: str | None) -> str:
    if told:
        if told not in CATEGORIES:
            raise ValueError(f"`category` {_quoted(told)} is none of: {_CHOICES}")
        return told
    if not task:
        if otherwise:
            return otherwise
        raise ValueError("neither `category` nor `task` is there: which kind of task is it?")
    found = category_of(task) or otherwise
    if found is None:
        raise ValueError(
            f"task {_quoted(task)} belongs to no known category: add `category`, or --category"
        )
    return found


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"`{key}` is not text")
    return str(value).strip()


def _missing(key: str) -> str:
    raise ValueError(f"`{key}` is missing")


def _number(said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    if value is None or value == "":
        _missing(key)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"`{key}` {_quoted(value)} is no number")
    return number


def _count(said: Mapping[str, Any]) -> int:
    if said.get("n") in (None, ""):
        return 1
    number = _number(said, "n")
    if number != int(number):
        raise ValueError(f"`n` {_quoted(said['n'])} is not whole")
    return int(number)


def _out_of_range(score: float) -> str:
    share = f": if it is a percentage, write {score / 100:g}" if 1 < score <= 100 else ""
    return f"`score` {score:g} is not between 0 and 1{share}"


def _quoted(value: object) -> str:
    return repr(str(value)[:40])


def _table(**names: str) -> Iterator[tuple[str, str]]:
    for category, benchmarks in names.items():
        yield from ((name, category) for name in benchmarks.split())


BENCHMARKS: Mapping[str, str] = dict(
    _table(
        code="""humaneval mbpp apps ds_1000 ds1000 livecodebench bigcodebench swe_bench swebench
            codeforces cruxeval aider spider bird_sql multipl_e evalplus repobench""",
        reasoning="""mmlu gsm8k math aime gpqa bbh big_bench_hard arc arc_agi hellaswag winogrande
            musr zebralogic logiqa commonsenseqa strategyqa mgsm piqa olympiadbench hle drop""",
        analysis="financebench finqa tat_qa tabfact convfinqa scienceqa chartqa",
        extraction="""squad squad_v2 conll2003 naturalquestions natural_questions docred ace2005
            kleister sroie cord""",
        summarization="cnn_dailymail xsum samsum govreport multi_news qmsum arxiv_summarization",
        creative="creative_writing eqbench_creative writingprompts litbench",
        chat="mt_bench alpaca_eval alpacaeval arena_hard chatbot_arena lmarena wildbench",
        other="ifeval truthfulqa simpleqa triviaqa boolq translation flores wmt",
    )
)
"""Benchmarks by the category that most of their tasks belong to; variants go by their first words
(`mmlu_pro`, `humaneval_plus`). The category beside a score always wins over this table."""


# What is believed, told; and what a run keeps until it is believed.


@frozen(kw_only=True)
class Result:
    """What became of one item of a suite, asked of one model.

    `answered` has a score. `failed` has none: the model gave no answer (`why` is a kind of
    failure). `ungraded`: there was an answer and no grade, for the judge failed. Costs are null
    when no price is known.
    """

    item_key: str
    model: str
    suite: str
    item: str
    category: str
    outcome: Literal["answered", "failed", "ungraded"]
    score: float | None = None
    why: str = ""
    receipt_id: str | None = None
    cost_pico: int | None = None
    judge_receipt_id: str | None = None
    judge_cost_pico: int | None = None
    latency_ms: float = 0.0
    at_ms: int = 0

    def __post_init__(self) -> None:
        if (self.outcome == "answered") != (self.score is not None):
            raise ValueError("an answered item has a score, and no other has")

    def evidence(self) -> Evidence | None:
        """What it says of the model, if it was graded."""
        if self.score is None:
            return None
        return Evidence(
            model=self.model,
            category=self.category,
            score=self.score,
            source="run",
            suite=self.suite,
            item=self.item,
            receipt_id=self.receipt_id or "",
            at_ms=self.at_ms,
        )


@frozen(kw_only=True)
class Source:
    """Where evidence came from: what one suite, or one task of an import, adds to a posterior."""

    model: str
    category: str
    source: str
    suite: str
    task: str
    n: int
    successes: float


def believed(sources: Sequence[Source]) -> dict[Key, Posterior]:
    """The posterior of every model and category, whatever the order of its evidence."""

    def key(each: Source) -> Key:
        return (each.model, each.category)

    out: dict[Key, Posterior] = {}
    for which, some in groupby(sorted(sources, key=key), key=key):
        evidence = list(some)
        successes, n = math.fsum(each.successes for each in evidence), sum(e.n for e in evidence)
        out[which] = Posterior().plus(min(successes, n), n)
    return out
