"""A suite under way: every item asked of every model, each result durable as it comes.

Items go round by round, one of each model, so that models have been asked the same when a cap or a
key press stops the run. Results become evidence all at once at its end, so that a model is
promoted by a run and not by its first lucky item.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING, Literal

from modelspend.cli.eval_call import Asker, Question, Target, Told
from modelspend.cli.eval_purse import UNSTATED_OUTPUT, Purse
from modelspend.quality import Result

if TYPE_CHECKING:
    from modelspend.suites import Item, Suite

_JUDGE_TOKENS = 1_024
_JUDGE_OUTPUT = 2  # an answer's tokens, read by another model's tokenizer

Ended = Literal["done", "budget", "interrupted"]


@dataclass(slots=True, kw_only=True)
class Run:
    """One run: what to ask whom, what is known already, and what has come of it so far."""

    suite: "Suite"
    models: Sequence[Target]
    judge: Target | None
    asker: Asker
    purse: Purse
    keep: Callable[[Result], None]
    now_ms: Callable[[], int]
    known: Mapping[tuple[str, str], Result] = field(default_factory=dict)
    progress: Callable[["Run"], None] = lambda _: None
    fresh: list[Result] = field(default_factory=list)
    next_worst_pico: int = 0
    _stop: Event = field(default_factory=Event)
    _turn: Lock = field(default_factory=Lock)

    @property
    def size(self) -> int:
        return len(self.suite.items) * len(self.models)

    @property
    def results(self) -> list[Result]:
        """All results there are, in the order of the suite."""
        fresh = {(each.item_key, each.model): each for each in self.fresh}
        every = {**self.known, **fresh}
        return [every[key] for key in self._keys() if key in every]

    def go(self, jobs: int) -> Ended:
        """Ask what is not known yet, with at most so many calls under way."""
        waiting: set[Future[None]] = set()
        before = signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        try:
            with ThreadPoolExecutor(jobs, "eval") as pool:
                ended = self._submit_all(pool, jobs, waiting)
                for each in waiting:
                    each.result()
        finally:
            signal.signal(signal.SIGINT, before)
        return "interrupted" if self._stop.is_set() else ended

    def _submit_all(
        self, pool: ThreadPoolExecutor, jobs: int, waiting: "set[Future[None]]"
    ) -> Ended:
        for item, target in self._open():
            while len(waiting) >= jobs and not self._stop.is_set():
                over, _ = wait(waiting, _LOOK_S, "FIRST_COMPLETED")
                waiting -= over
                for each in over:
                    each.result()  # what went wrong in there ends the run
            if self._stop.is_set():
                return "interrupted"
            worst = self._worst(item, target)
            if not self.purse.hold(worst):
                self.next_worst_pico = worst
                return "budget"
            waiting.add(pool.submit(self._one, item, target, worst))
        return "done"

    def _open(self) -> "Iterator[tuple[Item, Target]]":
        for item in self.suite.items:
            for target in self.models:
                if (self._key(item), target.name) not in self.known:
                    yield item, target

    def _keys(self) -> Iterator[tuple[str, str]]:
        return ((self._key(i), t.name) for i in self.suite.items for t in self.models)

    def _key(self, item: "Item") -> str:
        return item.key(self.judge.name if self.judge else None)

    def _worst(self, item: "Item", target: Target) -> int:
        """What an item could cost, its judging included."""
        output = self.suite.max_tokens or UNSTATED_OUTPUT
        worst = self.purse.worst(target, item.messages, output)
        if self.judge is not None and item.needs_judge:
            read = [{"content": item.content}, {"content": " " * output * _JUDGE_OUTPUT}]
            worst += self.purse.worst(self.judge, read, _JUDGE_TOKENS)
        return worst

    def _one(self, item: "Item", target: Target, worst: int) -> None:
        costs: list[int | None] = []
        try:
            result = self._result(item, target, costs)
        finally:
            self.purse.settle(worst, costs)
        self.keep(result)
        with self._turn:
            self.fresh.append(result)
            self.progress(self)

    def _result(self, item: "Item", target: Target, costs: list[int | None]) -> Result:
        tags = {"item": item.item_id}
        told = self.asker.ask(
            target,
            Question(
                messages=item.messages,
                max_tokens=self.suite.max_tokens,
                temperature=self.suite.temperature,
                tags=tags,
            ),
        )
        costs.append(told.cost_pico)
        judged: Told | None = None
        outcome: Literal["answered", "failed", "ungraded"] = "failed"
        score, why = None, told.why
        if told.text is not None:
            try:
                score, why, judged = self._grade(item, told.text, tags)
                outcome = "answered"
            except _Ungraded as ungraded:
                outcome, why, judged = "ungraded", str(ungraded), ungraded.judged
        if judged is not None:
            costs.append(judged.cost_pico)
        return Result(
            item_key=self._key(item),
            model=target.name,
            suite=self.suite.name,
            item=item.item_id,
            category=item.category,
            outcome=outcome,
            score=score,
            why=why,
            receipt_id=told.receipt_id,
            cost_pico=told.cost_pico,
            judge_receipt_id=judged.receipt_id if judged else None,
            judge_cost_pico=judged.cost_pico if judged else None,
            latency_ms=told.latency_ms,
            at_ms=self.now_ms(),
        )

    def _grade(
        self, item: "Item", answer: str, tags: Mapping[str, str]
    ) -> tuple[float, str, Told | None]:
        """(score, why, what the judge said). Raises _Ungraded."""
        from modelspend.graders import Judge

        if not isinstance(item.grader, Judge):
            try:
                grade = item.grader.grade(answer)
            except ValueError as why:
                raise _Ungraded(str(why)) from None
            return grade.score, grade.why, None
        assert self.judge is not None
        told = self.asker.ask(
            self.judge,
            Question(
                messages=(
                    {"role": "system", "content": item.grader.system()},
                    {"role": "user", "content": item.grader.question(item.asked, answer)},
                ),
                max_tokens=_JUDGE_TOKENS,
                temperature=0.0,
                tags={**tags, "judge": "yes"},
            ),
        )
        if told.text is None:
            raise _Ungraded(f"the judge failed: {told.why}", told)
        try:
            grade = item.grader.read(told.text)
        except ValueError as why:
            raise _Ungraded(str(why), told) from None
        return grade.score, grade.why, told


class _Ungraded(Exception):
    """There is an answer and no grade; what the judge did say has its cost."""

    def __init__(self, why: str, judged: Told | None = None) -> None:
        super().__init__(why)
        self.judged = judged


_LOOK_S = 0.2  # how often a full house looks whether Ctrl-C was pressed
