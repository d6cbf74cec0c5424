"""`eval import|run|scores`: evidence on the quality of models, from files and from suites.

A line or an item that goes wrong is told with its place and holds up no other. What was measured
becomes one posterior for each model and category; decisions read its lower bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import BudgetExceeded, ExitCode, NotFound, Usage

if TYPE_CHECKING:
    from modelspend.cli.eval_call import Target
    from modelspend.cli.eval_show import Summary
    from modelspend.quality import Evidence, Result
    from modelspend.suites import Suite

app = typer.Typer(help="Import scores, run suites, show what is known of models' quality.")

_FAULTS_SHOWN = 20
_SUITES = Path(__file__).parent / "suites"

Category = Annotated[str | None, typer.Option(metavar="NAME", help="Only this category.")]


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL or CSV; - is stdin.")],
    category: Annotated[
        str | None, typer.Option(metavar="NAME", help="The category of tasks not known here.")
    ] = None,
    json: Json = False,
) -> None:
    """Import scores, each line {"model", "category" or "task", "score", "n"?, "suite"?, "id"?}.

    The same line again adds nothing. A line that cannot be taken is told with its number, the
    others are taken, and the exit code is 1.
    """
    from modelspend.cli.eval_write import added
    from modelspend.quality import CATEGORIES, identified

    at = here(ctx)
    if category is not None and category not in CATEGORIES:
        raise Usage(f"--category {category}: there is none.", f"One of: {', '.join(CATEGORIES)}.")
    good, faults = _rows(file, category, at.now_ms())
    done = added(at, identified(good))
    if json:
        write_json({**done, "errors": faults})
    else:
        typer.echo(f"{done['added']} added, {done['known']} known already.")
        for promotion in done["promotions"]:
            typer.echo(promotion["text"])
        for fault in faults[:_FAULTS_SHOWN]:
            typer.echo(f"{file}:{fault['line']}: {fault['error']}.", err=True)
        if len(faults) > _FAULTS_SHOWN:
            note(f"{len(faults) - _FAULTS_SHOWN} more lines could not be taken; see --json.")
    if faults:
        raise typer.Exit(ExitCode.FAILED)


def _rows(
    file: str, category: str | None, at_ms: int
) -> "tuple[list[Evidence], list[dict[str, Any]]]":
    from modelspend.cli.batch import numbered
    from modelspend.quality import row_of

    good: list[Evidence] = []
    faults: list[dict[str, Any]] = []
    for line, row in numbered(file, dict):
        try:
            if isinstance(row, ValueError):
                raise row
            good.append(row_of(row, at_ms, category))
        except ValueError as why:
            faults.append({"line": line, "error": str(why)})
    return good, faults


@app.command()
def scores(
    ctx: typer.Context,
    category: Category = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    json: Json = False,
) -> None:
    """Show what is known: posterior mean, the lower bound that decisions read, n, the sources."""
    from modelspend.cli.reading import read
    from modelspend.quality import CATEGORIES, believed

    at = here(ctx)
    if category is not None and category not in CATEGORIES:
        raise Usage(f"--category {category}: there is none.", f"One of: {', '.join(CATEGORIES)}.")
    found = read(at.ledger, lambda store: store.quality.sources()) if at.ledger.exists() else []
    some = [
        each for each in found if category in (None, each.category) and model in (None, each.model)
    ]
    known = sorted(believed(some).items(), key=lambda item: (item[0][1], -item[1].lower_bound()))
    shown = [
        {
            "model": name,
            "category": kind,
            "n": posterior.n,
            "mean": round(posterior.mean, 4),
            "lower_bound": round(posterior.lower_bound(), 4),
            "sources": [
                {"source": s.source, "suite": s.suite or None, "task": s.task or None, "n": s.n}
                for s in some
                if (s.model, s.category) == (name, kind)
            ],
        }
        for (name, kind), posterior in known
    ]
    if json:
        write_json(shown)
        return
    draw(
        ("category", "model", "n", "mean", "lower bound", "sources"),
        [_score_cells(each) for each in shown],
        right=("n", "mean", "lower bound"),
        spare=("sources",),
    )
    if not shown:
        note("nothing was measured yet: modelspend help eval.")


def _score_cells(said: Mapping[str, Any]) -> tuple[str, ...]:
    sources = ", ".join(each["suite"] or each["task"] or each["source"] for each in said["sources"])
    numbers = f"{said['n']:g}", f"{said['mean']:.3f}", f"{said['lower_bound']:.3f}"
    return (said["category"], said["model"], *numbers, sources)


@app.command()
def run(
    ctx: typer.Context,
    suite: Annotated[
        str, typer.Option(metavar="DIR", help="A folder of *.jsonl; `basics` comes with this.")
    ],
    models: Annotated[str, typer.Option(metavar="A,B", help="Models, with commas between.")],
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model that judge graders ask.")
    ] = None,
    max_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="Stop before a call could pass this.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what was answered before; ask the rest.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many items per category.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Calls at once.")] = 4,
    json: Json = False,
) -> None:
    """Run a suite: ask every model every item through the sidecar, grade, and keep the evidence.

    Each result is durable as it comes. The exit code is 1 when items were not answered, and 7 when
    --max-usd stopped it; with --resume the same command then goes on.
    """
    from modelspend.catalog import Catalog
    from modelspend.cli import eval_purse, eval_show, eval_write, run_sidecar
    from modelspend.cli.eval_call import Asker, target_of
    from modelspend.cli.eval_run import Run
    from modelspend.quality import identified

    at = here(ctx)
    cap = eval_purse.cap_of(max_usd)
    what = _suite(suite, limit)
    settings = at.load().settings
    catalog = Catalog.load(settings.providers, at.env)
    targets = tuple(target_of(name, catalog) for name in _names(models))
    judging = target_of(judge, catalog) if judge else None
    _check_judge(what, targets, judging)
    asked = (*targets, *filter(None, (judging,)))
    prices = eval_purse.prices_of(at, settings, asked) if cap is not None else {}
    known = _known(at, what, targets, judge, resume)
    with run_sidecar.found_or_started(at) as daemon:
        opened = {"workflow": "eval", "tags": {"suite": what.name}}
        with run_sidecar.opened(daemon, opened) as (run_id, key):
            one = Run(
                suite=what,
                models=targets,
                judge=judging,
                asker=Asker(daemon, key),
                purse=eval_purse.Purse(cap, prices),
                keep=lambda result: daemon.post("/v1/evals/results", asdict(result)),
                now_ms=at.now_ms,
                known=known,
                progress=eval_show.progress,
            )
            ended = one.go(jobs)
        rows = identified(filter(None, (each.evidence() for each in one.results)))
        done = eval_write.through(daemon, rows)
    summary = eval_show.Summary(one, ended, run_id, done)
    summary.show(json)
    _end(summary, max_usd)


def _names(models: str) -> list[str]:
    names = list(dict.fromkeys(filter(None, (name.strip() for name in models.split(",")))))
    if not names:
        raise Usage("--models names none.", "Such as: --models gpt-4.1-mini,claude-haiku-4-5")
    return names


def _suite(named: str, limit: int | None) -> "Suite":
    """The suite of a folder, or of a name that comes with the program."""
    from modelspend.suites import SETTINGS, suite_of

    folder = Path(named)
    if not folder.is_dir() and (_SUITES / named).is_dir() and named.isidentifier():
        folder = _SUITES / named
    if not folder.is_dir():
        own = ", ".join(sorted(each.name for each in _SUITES.iterdir()))
        raise NotFound(
            f"There is no folder {named}.", f"A suite is a folder; these come with it: {own}."
        )
    files = [*folder.glob("*.jsonl"), *folder.glob(SETTINGS)]
    texts = {file.name: _read_text(file) for file in files}
    found = suite_of(folder.resolve().name, texts)
    return found.first(limit) if limit else found


def _read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as why:
        raise Usage(f"{file} is not UTF-8: byte {why.start}.") from None


def _check_judge(suite: "Suite", targets: "Sequence[Target]", judge: "Target | None") -> None:
    judged = [item for item in suite.items if item.needs_judge]
    if judged and judge is None:
        raise Usage(
            f"{len(judged)} items need a judging model, {judged[0].place} first.",
            "Name one: --judge MODEL",
        )
    if judge is not None and not judged:
        note("no item needs a judge: --judge has no effect.")
    if judge is not None and judge.name in {each.name for each in targets}:
        note(f"{judge.name} judges its own answers, too.")


def _known(
    at: Here, suite: "Suite", targets: "Sequence[Target]", judge: str | None, resume: bool
) -> "dict[tuple[str, str], Result]":
    """What was answered before, if this run is to go on from it."""
    from modelspend.cli.reading import read

    if not at.ledger.exists():
        return {}
    keys = [item.key(judge) for item in suite.items]
    found = read(at.ledger, lambda store: store.quality.results(keys))
    asked = {each.name for each in targets}
    answered = {
        (r.item_key, r.model): r for r in found if r.outcome == "answered" and r.model in asked
    }
    if answered and not resume:
        note(f"{len(answered)} of these were answered before; --resume keeps such answers.")
        return {}
    return answered


def _end(summary: "Summary", max_usd: str | None) -> None:
    """Raises what ends the command, unless all was answered."""
    if summary.ended == "interrupted":
        note("interrupted; go on: the same command with --resume.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if summary.ended == "budget":
        raise BudgetExceeded(
            f"Stopped before --max-usd {max_usd} could be passed: {summary.spent} were spent, and"
            f" the next item could cost up to {summary.next_worst}."
            f" {summary.left} of {summary.size} were not asked.",
            "Raise it and go on: the same command with --resume.",
        )
    if summary.unanswered:
        note(f"{summary.unanswered} items have no score; ask them again: --resume.")
        raise typer.Exit(ExitCode.FAILED)
