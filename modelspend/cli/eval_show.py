"""What a run of a suite came to: the line that moves while it runs, the table, the JSON.

Each row is of this run's suite alone: the mean as graded, the bound of a posterior that knows
nothing else. Items without a score count in neither; how many there are stands beside them.
"""

import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import typer

from modelspend.cli.context import note
from modelspend.cli.output import draw, write_json
from modelspend.quality import Posterior, Result
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.cli.eval_run import Ended, Run

_FAULTS_SHOWN = 5


def progress(run: "Run") -> None:
    """The line that moves, for a person at a terminal."""
    if not sys.stderr.isatty():
        return
    from modelspend.cli.eval_purse import short

    done = len(run.known) + len(run.fresh)
    lost = sum(result.score is None for result in run.fresh)
    told = f"{run.suite.name}: {done} of {run.size}, ${short(run.purse.spent_pico)}"
    typer.echo(f"\r\x1b[K{told}{f', {lost} without a score' if lost else ''}", err=True, nl=False)


@frozen
class Row:
    """One model in one category."""

    model: str
    category: str
    results: tuple[Result, ...]

    @property
    def scores(self) -> list[float]:
        return [each.score for each in self.results if each.score is not None]

    @property
    def mean(self) -> float | None:
        return round(sum(self.scores) / len(self.scores), 4) if self.scores else None

    @property
    def lower_bound(self) -> float | None:
        if not self.scores:
            return None
        posterior = Posterior().plus(sum(self.scores), len(self.scores))
        return round(posterior.lower_bound(), 4)

    @property
    def latency_p50_ms(self) -> float | None:
        answered = [each.latency_ms for each in self.results if each.outcome != "failed"]
        return round(median(answered), 1) if answered else None

    def count(self, outcome: str) -> int:
        return sum(each.outcome == outcome for each in self.results)

    def to_json(self) -> dict[str, Any]:
        from modelspend.money import usd

        cost, judge = _cost(self.results), _judge_cost(self.results)
        return {
            "model": self.model,
            "category": self.category,
            "n": len(self.scores),
            "mean": self.mean,
            "lower_bound": self.lower_bound,
            "failed": self.count("failed"),
            "ungraded": self.count("ungraded"),
            "cost_usd": usd(cost),
            "judge_cost_usd": usd(judge),
            "unpriced": _unpriced(self.results),
            "latency_p50_ms": self.latency_p50_ms,
        }


class Summary:
    """All of it; `evidence` is what became of the results in the ledger."""

    def __init__(
        self, run: "Run", ended: "Ended", run_id: str, evidence: Mapping[str, Any]
    ) -> None:
        self.run, self.ended, self.run_id, self.evidence = run, ended, run_id, evidence
        self.results = run.results
        self.size = run.size
        self.left = run.size - len(self.results)
        self.unanswered = sum(each.score is None for each in self.results)

    @property
    def spent(self) -> str:
        from modelspend.money import usd_text

        return f"${usd_text(self.run.purse.spent_pico)}"

    @property
    def next_worst(self) -> str:
        from modelspend.cli.eval_purse import short

        return f"${short(self.run.next_worst_pico)}"

    def show(self, json: bool) -> None:
        """The result on stdout, remarks on stderr."""
        if sys.stderr.isatty():
            typer.echo("\r\x1b[K", err=True, nl=False)
        rows = self._rows()
        if json:
            write_json(self._json(rows))
            return
        draw(
            ("model", "category", "n", "mean", "lower bound", "failed", "cost USD", "p50 ms"),
            [_cells(row) for row in rows],
            right=("n", "mean", "lower bound", "failed", "cost USD", "p50 ms"),
            spare=("p50 ms",),
        )
        for promotion in self.evidence["promotions"]:
            typer.echo(promotion["text"])
        self._remarks()

    def _remarks(self) -> None:
        from modelspend.money import usd_text

        judge = _judge_cost(self.results)
        spent = f"spent {self.spent}" + (f", judging {usd_text(judge)} of all" if judge else "")
        unpriced = _unpriced(self.results)
        note(spent + (f"; {unpriced} calls have no known price." if unpriced else "."))
        if self.run.known:
            note(f"{len(self.run.known)} answers are from before.")
        lost = [each for each in self.results if each.score is None]
        for each in lost[:_FAULTS_SHOWN]:
            typer.echo(f"{each.model} {each.item}: {each.outcome}: {each.why}", err=True)
        if len(lost) > _FAULTS_SHOWN:
            note(f"{len(lost) - _FAULTS_SHOWN} more are without a score.")

    def _rows(self) -> list[Row]:
        groups: dict[tuple[str, str], list[Result]] = {}
        for result in self.results:
            groups.setdefault((result.model, result.category), []).append(result)
        return [Row(*key, tuple(group)) for key, group in sorted(groups.items())]

    def _json(self, rows: Sequence[Row]) -> dict[str, Any]:
        from modelspend.money import usd

        suite = self.run.suite
        return {
            "suite": suite.name,
            "suite_sha256": suite.sha256,
            "run_id": self.run_id,
            "ended": self.ended,
            "items": len(suite.items),
            "models": [target.name for target in self.run.models],
            "judge": self.run.judge.name if self.run.judge else None,
            "asked": len(self.run.fresh),
            "kept": len(self.run.known),
            "not_asked": self.left,
            "without_score": self.unanswered,
            "spent_usd": usd(self.run.purse.spent_pico),
            "scores": [row.to_json() for row in rows],
            "evidence_added": self.evidence["added"],
            "promotions": self.evidence["promotions"],
            "lost": [
                {"model": r.model, "item": r.item, "outcome": r.outcome, "why": r.why,
                 "receipt_id": r.receipt_id}
                for r in self.results
                if r.score is None
            ],
        }  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    said = row.to_json()
    lost = said["failed"] + said["ungraded"]
    return (
        row.model,
        row.category,
        str(said["n"]),
        _number(said["mean"]),
        _number(said["lower_bound"]),
        str(lost),
        format(said["cost_usd"] + said["judge_cost_usd"], "f"),
        "-" if said["latency_p50_ms"] is None else f"{said['latency_p50_ms']:.0f}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cost(results: Sequence[Result]) -> int:
    return sum(each.cost_pico or 0 for each in results)


def _judge_cost(results: Sequence[Result]) -> int:
    return sum(each.judge_cost_pico or 0 for each in results)


def _unpriced(results: Sequence[Result]) -> int:
    """Calls that left a receipt without a cost."""
    return sum(each.receipt_id is not None and each.cost_pico is None for each in results) + sum(
        each.judge_receipt_id is not None and each.judge_cost_pico is None for each in results
    )
