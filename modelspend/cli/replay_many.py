"""`replay --where … --sample N`: many calls once more, each result on disk as soon as it is there.

The sample is drawn by the hash of the ids, so the same command draws the same one again and goes on
where it was stopped. An answer agrees when a grader of `eval` takes it for the original's.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any, Literal

import typer

from modelspend.cli.context import Here, note
from modelspend.cli.filters import MOST, Asked
from modelspend.cli.output import draw, write_json
from modelspend.cli.replay import again, cost_pico
from modelspend.cli.run_sidecar import found_or_started
from modelspend.errors import BudgetExceeded, DaemonUnreachable, ExitCode, ModelspendError, Usage
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.cli.client import Daemon
    from modelspend.receipt import Receipt

Agree = Literal["exact", "contains"]
_LARGEST = 10


@frozen(kw_only=True)
class Plan:
    """What is to be replayed how; `out` keeps results, `scores` gets them as `eval import` reads
    them."""

    where: str
    sample: int | None
    asked: Mapping[str, Any]
    cap_pico: int | None
    agree: Agree
    out: Path | None
    scores: Path | None

    @property
    def digest(self) -> str:
        """Names what is asked, so that results of something else are not taken for these."""
        from modelspend.money import dumps

        return sha256(dumps({**self.asked, "agree": self.agree}, sort=True)).hexdigest()[:16]


def go(at: Here, plan: Plan, *, json: bool) -> None:
    """Replay, show the summary, and end with 7 where a cap stopped it, 1 where some failed."""
    chosen = _chosen(at, plan)
    known = _known(plan)
    results = [known[each.receipt_id] for each in chosen if each.receipt_id in known]
    if results:
        note(f"{len(results)} of {len(chosen)} are in {plan.out} already.")
    failed: list[dict[str, str]] = []
    stopped = None
    todo = [each for each in chosen if each.receipt_id not in known]
    try:
        if todo:
            with found_or_started(at) as daemon:
                stopped = _all(daemon, todo, plan, results, failed)
    except KeyboardInterrupt:
        note("interrupted; with --out, the same command goes on from here.")
        _close(plan, chosen, results, failed, stopped, json=json)
        raise
    _close(plan, chosen, results, failed, stopped, json=json)
    if stopped:
        note(stopped)
        raise typer.Exit(ExitCode.BUDGET)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What results come to: ratios of the sums and of the middles, agreement, what differs most."""
    priced = [r for r in results if None not in (r["cost_usd"], r["original_cost_usd"])]
    graded = [r["score"] for r in results if r["score"] is not None]
    was, now = (sum(r[key] for r in priced) for key in ("original_cost_usd", "cost_usd"))
    old, new = (
        median(r[key] for r in results) if results else None
        for key in ("original_latency_ms", "latency_ms")
    )
    least = sorted(results, key=lambda r: (_alike(r), r["receipt_id"]))
    return {
        "replayed": len(results),
        "unpriced": len(results) - len(priced),
        "cost_usd": {"original": was, "replay": now, "ratio": _ratio(now, was)},
        "latency_ms": {"original": old, "replay": new, "ratio": _ratio(new, old)},
        "agreement": round(sum(map(float, graded)) / len(graded), 4) if graded else None,
        "graded": len(graded),
        "largest_differences": [
            {key: r[key] for key in ("receipt_id", "replay_id", "similarity", "score", "why")}
            for r in least[:_LARGEST]
        ],
    }


def _chosen(at: Here, plan: Plan) -> "list[Receipt]":
    from modelspend.cli.reading import listed, read

    filters = where(plan.where).filters(at)
    found = read(at.ledger, lambda store: listed(store, filters, MOST, None))
    able = [each.receipt for each in found if each.body_kept and each.receipt.replay_of is None]
    replays = sum(each.receipt.replay_of is not None for each in found)
    if replays:
        note(f"{replays} of {len(found)} are replays themselves, and are left out.")
    if gone := len(found) - replays - len(able):
        note(f"{gone} of {len(found)} have no body any more, and are left out.")
    if not able:
        note("Nothing to replay. See: modelspend receipts search")
    drawn = sorted(able, key=lambda r: sha256(r.receipt_id.encode()).digest())[: plan.sample]
    return sorted(drawn, key=lambda receipt: receipt.receipt_id)


def where(text: str) -> Asked:
    """`model=gpt-4.1 category=reasoning since=7d`, as the options of that name. Raises Usage."""
    known = {each.name.replace("_", "-"): each for each in fields(Asked)}
    said: dict[str, Any] = {}
    for part in shlex.split(text):
        name, equals, value = part.partition("=")
        if name not in known or not equals:
            raise Usage(f"--where {part!r} is no condition.", f"Known: {', '.join(known)}.")
        kept: Any = value
        if known[name].default is None and name in ("unpriced", "hopped"):
            kept = value.lower() in ("1", "true", "yes")
        if name == "min-latency":
            try:
                kept = float(value)
            except ValueError:
                raise Usage(f"--where {part!r} is no number.", "Write milliseconds.") from None
        said[known[name].name] = kept
    return Asked(**said)


def _all(
    daemon: "Daemon",
    todo: "Sequence[Receipt]",
    plan: Plan,
    results: list[Any],
    failed: list[dict[str, str]],
) -> str | None:
    """Why it was stopped before its end, if it was."""
    from modelspend.money import usd_text

    spent = 0
    out = plan.out.open("ab") if plan.out else None
    try:
        for done, receipt in enumerate(todo, 1):
            asked = dict(plan.asked)
            if plan.cap_pico is not None:
                asked["max_usd"] = usd_text(max(plan.cap_pico - spent, 0))
            try:
                told = again(daemon, receipt.receipt_id, asked)
            except BudgetExceeded as why:
                return f"stopped after {done - 1} of {len(todo)}: {why.text}"
            except DaemonUnreachable:
                raise
            except ModelspendError as why:
                failed.append({"receipt_id": receipt.receipt_id, "error": why.message})
                continue
            spent += cost_pico(told["replay"])
            result = _result(receipt, told, plan)
            if told["replay"]["execution"]["status"] not in ("success", "cached"):
                ended = str(told["replay"]["execution"]["status"])
                failed.append({"receipt_id": receipt.receipt_id, "error": f"it ended as {ended}"})
                continue
            results.append(result)
            _keep(out, result)
            if sys.stderr.isatty():
                typer.echo(f"\r{done} of {len(todo)}, ${usd_text(spent)} ", err=True, nl=False)
    finally:
        if out is not None:
            out.close()
        if sys.stderr.isatty():
            typer.echo("", err=True)
    return None


def _result(receipt: "Receipt", told: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    diff, replay = told["diff"], told["replay"]
    score, why = _grade(diff["answer"], plan.agree)
    last = replay["attempts"][-1] if replay["attempts"] else replay["decision"]
    return {
        "asked": plan.digest,
        "receipt_id": receipt.receipt_id,
        "replay_id": replay["receipt_id"],
        "model": f"{last['provider']}/{last['model_id']}",
        "category": receipt.classification.category if receipt.classification else "other",
        "score": score,
        "why": why,
        "similarity": diff["answer"]["similarity"],
        "original_cost_usd": diff["cost_usd"]["original"],
        "cost_usd": diff["cost_usd"]["replay"],
        "original_latency_ms": diff["latency_ms"]["original"],
        "latency_ms": diff["latency_ms"]["replay"],
    }


def _grade(answer: Mapping[str, Any], agree: Agree) -> tuple[float | None, str]:
    from modelspend.graders import Contains, Exact

    was, now = answer["original"], answer["replay"]
    if not was or now is None:
        return None, "an answer is not there as words"
    grader: Exact | Contains = (
        Exact(answers=(was,), ignore_case=True, ignore_punctuation=True)
        if agree == "exact"
        else Contains(every=(was,), ignore_case=True)
    )
    grade = grader.grade(now)
    return grade.score, grade.why


def _known(plan: Plan) -> dict[str, dict[str, Any]]:
    """The results of an earlier run of the same command; a line cut short is as good as none."""
    import json
    from decimal import Decimal

    if plan.out is None or not plan.out.exists():
        return {}
    data = plan.out.read_bytes()
    if data and not data.endswith(b"\n"):
        plan.out.write_bytes(data[: data.rfind(b"\n") + 1])
    found = {}
    for line in plan.out.read_bytes().splitlines():
        try:
            shape = json.loads(line, parse_float=Decimal)
            if shape["asked"] == plan.digest:
                found[str(shape["receipt_id"])] = shape
        except (ValueError, KeyError, TypeError):
            raise Usage(
                f"{plan.out} holds something else than results of replays.", "Name another file."
            ) from None
    return found


def _keep(out: IO[bytes] | None, result: Mapping[str, Any]) -> None:
    from modelspend.money import dumps

    if out is not None:
        out.write(dumps(result) + b"\n")
        out.flush()


def _close(
    plan: Plan,
    chosen: "Sequence[Receipt]",
    results: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, str]],
    stopped: str | None,
    *,
    json: bool,
) -> None:
    if plan.scores is not None:
        _write_scores(plan.scores, results)
    said = {"chosen": len(chosen), **summary(results), "failed": failed, "stopped": stopped}
    if json:
        write_json(said)
        return
    cost, latency = said["cost_usd"], said["latency_ms"]
    rows = [
        ["cost_usd", *(_text(cost[key]) for key in ("original", "replay", "ratio"))],
        ["latency_ms", *(_text(latency[key]) for key in ("original", "replay", "ratio"))],
    ]
    draw(("", "original", "replay", "ratio"), rows, right=("original", "replay", "ratio"))
    agreement = "-" if said["agreement"] is None else f"{said['agreement']:.1%}"
    typer.echo(
        f"\n{said['replayed']} of {len(chosen)} replayed, {len(failed)} failed;"
        f" agreement ({plan.agree}) {agreement} of {said['graded']}.\n"
    )
    differing = [
        [r["receipt_id"], r["replay_id"], _text(r["similarity"]), r["why"]]
        for r in said["largest_differences"]
        if r["similarity"] != 1
    ]
    if differing:
        draw(("receipt", "replay", "similarity", "why"), differing, right=("similarity",))
    for each in failed[:_LARGEST]:
        typer.echo(f"{each['receipt_id']}: {each['error']}", err=True)


def _write_scores(file: Path, results: Sequence[Mapping[str, Any]]) -> None:
    from modelspend.cli.output import write_aside
    from modelspend.money import dumps

    rows = [
        {
            "model": each["model"],
            "category": each["category"],
            "score": each["score"],
            "suite": "replay",
            "id": each["receipt_id"],
        }
        for each in results
        if each["score"] is not None
    ]
    write_aside(file, b"".join(dumps(row) + b"\n" for row in rows))


def _alike(result: Mapping[str, Any]) -> float:
    return -1.0 if result["similarity"] is None else float(result["similarity"])


def _ratio(now: Any, was: Any) -> float | None:
    return round(float(now) / float(was), 4) if was and now is not None else None


def _text(value: Any) -> str:
    from decimal import Decimal

    return (
        "-" if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)
    )
