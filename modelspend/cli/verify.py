"""`verify`: whether the ledger, or an export of it, says what was written.

What is found is told with the numbers of its receipts. A check that fails makes the exit code 6.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import here, note
from modelspend.cli.output import Json, Progress, draw, write_json

if TYPE_CHECKING:
    from modelspend.chain import Checkpoint, Problem
    from modelspend.cli.context import Here
    from modelspend.exported import Checked, Manifest
    from modelspend.store.verify import Verdict


def verify(
    ctx: typer.Context,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="Hold it against a checkpoint kept elsewhere."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="FILE", help="Check an exported file; no ledger is needed."
        ),
    ] = None,
    export_checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--export-checkpoint",
            metavar="FILE",
            help="Sign a checkpoint of the ledger and write it here, if all is well.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="The signing key, if it is not beside the ledger."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that nothing was edited, removed, moved or added; exit 6 and say where if it was.

    See: modelspend help verify.
    """
    from modelspend.errors import Usage

    at = here(ctx)
    if export is None:
        _ledger(at, checkpoint, export_checkpoint, key, json=json)
    elif export_checkpoint is not None:
        raise Usage(
            "--export and --export-checkpoint exclude each other.",
            "A checkpoint is made of the ledger: modelspend verify --export-checkpoint FILE",
        )
    else:
        _export(at, export, checkpoint, key, json=json)


def _key(at: "Here", named: Path | None) -> bytes | None:
    """The key that was named, or the one beside the ledger if there is one. Raises NotFound."""
    from modelspend.errors import NotFound
    from modelspend.places import checkpoint_key
    from modelspend.store.signed_checkpoints import read_key

    found = read_key(named or checkpoint_key(at.ledger))
    if found is None and named is not None:
        raise NotFound(f"There is no key in {named}.", "It is 64 hexadecimal digits.")
    return found


def _said(file: Path) -> "Checkpoint | Manifest":
    """A checkpoint, or the manifest of an export with one in it. Raises Usage, NotFound."""
    import orjson

    from modelspend.chain import checkpoint_from
    from modelspend.errors import NotFound, Usage
    from modelspend.exported import manifest_from

    try:
        said: Any = orjson.loads(file.read_bytes())
        if not isinstance(said, dict):
            raise ValueError("it is no object")
        return manifest_from(said) if "modelspend_export" in said else checkpoint_from(said)
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.", "Name the checkpoint's file.") from None
    except ValueError as why:
        raise Usage(
            f"{file} cannot be read as a checkpoint: {why}.",
            "Make one: modelspend verify --export-checkpoint FILE",
        ) from None


# The ledger.


def _ledger(
    at: "Here", checkpoint: Path | None, out: Path | None, key: Path | None, *, json: bool
) -> None:
    from modelspend.chain import Checkpoint
    from modelspend.cli.reading import read

    said = None if checkpoint is None else _said(checkpoint)
    given = [] if said is None else [said if isinstance(said, Checkpoint) else said.checkpoint]
    secret = _key(at, key)
    with Progress("numbers") as progress:
        verdict = read(
            at.ledger,
            lambda store: store.meta.verify(key=secret, given=given, progress=progress.tell),
        )
    fresh = None
    if out is not None and not verdict.wrong:
        fresh = _write_checkpoint(at, out)
    shape = _shape(verdict, fresh)
    if json:
        write_json(shape)
    else:
        draw(("check", "status", "found"), _rows(verdict, fresh, given))
        _draw_problems(verdict.problems)
    _fail(verdict.wrong, verdict.problems, shape["ok"])


def _write_checkpoint(at: "Here", out: Path) -> "Checkpoint":
    from modelspend.cli.export_proof import signed, write

    made = signed(at)
    write(out, made.to_json())
    typer.echo(f"Written: {out}. Keep it where nobody writes who can write the ledger.", err=True)
    return made


def _shape(verdict: "Verdict", fresh: "Checkpoint | None") -> dict[str, Any]:
    from modelspend.receipt_json import iso

    return {
        "ok": not verdict.wrong,
        "ledger_id": verdict.ledger_id,
        "receipts": verdict.receipts,
        "events": verdict.events,
        "bodies": verdict.bodies,
        "prices": verdict.prices,
        "last_seq": verdict.last_seq,
        "hash": verdict.hash,
        "checkpoints": verdict.checkpoints,
        "checkpoints_unsigned": verdict.unsigned,
        "breaks": [
            {
                "seq": each.seq,
                "at": iso(each.at_ms),
                "reason": each.reason,
                "missing": each.missing,
                "signed": each.signed,
            }
            for each in verdict.breaks
        ],
        "wrong": verdict.wrong,
        "problems": [problem.to_json() for problem in verdict.problems],
        "checkpoint": None if fresh is None else fresh.to_json(),
    }


def _rows(
    verdict: "Verdict", fresh: "Checkpoint | None", given: "list[Checkpoint]"
) -> list[tuple[str, str, str]]:

    def row(name: str, found: str, *fails: str) -> tuple[str, str, str]:
        wrong = sum(one.kind in fails for one in verdict.problems)
        return (name, "fail", f"{wrong} not as written") if wrong else (name, "ok", found)

    rows = [
        row("file", "every page can be read", "file"),
        row(
            "chain",
            f"{verdict.receipts:,} receipts up to number {verdict.last_seq:,}",
            *("content", "link", "missing", "number", "head"),
        ),
        row(
            "columns",
            "columns, attempts, tags, savings, failovers and daily sums follow from receipts",
            *("columns", "attempts", "tags", "failovers"),
        ),
        row(
            "bodies",
            f"{verdict.bodies:,} are kept, as they were hashed",
            "body",
        ),
        row("events", f"{verdict.events:,}, as they were written", "event"),
        row("prices", f"{verdict.prices:,} are what their ids are hashes of", "price"),
        row("checkpoints", _checkpoints(verdict, given), "checkpoint", "signature"),
    ]
    if fresh is not None:
        rows.append(("signed", "ok", f"a new {fresh.name}, key {fresh.key_id}"))
    rows += [("break", "warn", _break(each)) for each in verdict.breaks]
    return rows


def _checkpoints(verdict: "Verdict", given: "list[Checkpoint]") -> str:
    if not verdict.checkpoints:
        return "none yet: who can write the ledger could have hashed all of it anew"
    inside = verdict.checkpoints - len(given)
    said = f"{inside:,} kept in the ledger" + (f", {len(given)} from a file" if given else "")
    if verdict.unsigned:
        return f"{said}; the signatures of {verdict.unsigned:,} cannot be checked without their key"
    return f"{said}, all signatures hold"


def _break(each: Any) -> str:
    from modelspend.receipt_json import iso

    signed = "" if each.signed else "; its signature cannot be checked here"
    return (
        f"up to number {each.seq:,}, {each.missing:,} numbers are missing:"
        f" {each.reason}, {iso(each.at_ms)}{signed}"
    )


# An export.


def _export(
    at: "Here", file: Path, checkpoint: Path | None, key: Path | None, *, json: bool
) -> None:
    from modelspend.chain import Checkpoint
    from modelspend.cli.export_proof import beside
    from modelspend.errors import NotFound

    if not file.exists():
        raise NotFound(f"There is no file {file}.", "Make one: modelspend export ledger --out FILE")
    proof = checkpoint or (beside(file) if beside(file).exists() else None)
    said = None if proof is None else _said(proof)
    manifest = None if isinstance(said, Checkpoint) else said
    given = [said] if isinstance(said, Checkpoint) else []
    if proof is None:
        note("there is no checkpoint beside it; that nothing was cut off at its end is not known.")
    secret = _key(at, key)
    if manifest is not None and manifest.numbers is None:
        checked = _as_a_file(file, manifest, secret)
    else:
        checked = _by_line(file, manifest, given, secret)
    shape = {
        "ok": not checked.problems,
        "file": str(file),
        "checkpoint": None if proof is None else str(proof),
        "signed": checked.signed,
        "receipts": checked.receipts,
        "last_seq": checked.last_seq,
        "hash": checked.hash,
        "wrong": len(checked.problems),
        "problems": [problem.to_json() for problem in checked.problems],
    }
    if json:
        write_json(shape)
    else:
        draw(("check", "status", "found"), _export_rows(checked, manifest, proof))
        _draw_problems(checked.problems)
    _fail(len(checked.problems), checked.problems, not checked.problems)


def _by_line(
    file: Path, manifest: "Manifest | None", given: "list[Checkpoint]", key: bytes | None
) -> "Checked":
    from modelspend.exported import check

    with file.open("rb") as lines, Progress("lines") as progress:
        return check(progress.count(lines), manifest, given, key)


def _as_a_file(file: Path, manifest: "Manifest", key: bytes | None) -> "Checked":
    """A file whose lines are no receipts: only its own hash proves it."""
    from dataclasses import replace
    from hashlib import file_digest

    from modelspend.chain import Problem
    from modelspend.exported import check

    checked = check((), manifest, (), key)
    with file.open("rb") as whole:
        found = file_digest(whole, "sha256").hexdigest()
    if found == manifest.sha256:
        return checked
    what = "the file is not the one that was exported; its lines do not prove themselves"
    return replace(checked, problems=(*checked.problems, Problem(kind="file", what=what)))


def _export_rows(
    checked: "Checked", manifest: "Manifest | None", proof: Path | None
) -> list[tuple[str, str, str]]:
    status = "fail" if checked.problems else "ok"
    if manifest is not None and manifest.numbers is None:
        rows = [("file", status, "held to the hash in its manifest")]
    else:
        found = f"{checked.receipts:,} receipts up to number {checked.last_seq:,}"
        rows = [("lines", status, found)]
    if proof is None:
        rows.append(("checkpoint", "warn", "none"))
    elif checked.signed is None:
        rows.append(("checkpoint", "warn", f"{proof}; no key here checks its signature"))
    else:
        rows.append(("checkpoint", "ok" if checked.signed else "fail", str(proof)))
    return rows


# What both share.


def _draw_problems(problems: "tuple[Problem, ...]") -> None:
    if not problems:
        return
    rows = [
        (
            "" if one.seq is None else str(one.seq),
            "" if one.until in (None, one.seq) else str(one.until),
            one.receipt_id or "",
            one.kind,
            one.what,
        )
        for one in problems[:_SHOWN]
    ]
    columns = ("seq", "until", "receipt_id", "kind", "what")
    draw(columns, rows, right=("seq", "until"), spare=("until", "receipt_id"))


_SHOWN = 50


def _fail(wrong: int, problems: "tuple[Problem, ...]", ok: bool) -> None:
    from modelspend.errors import CheckFailed

    if ok:
        return
    more = f" (the first {_SHOWN} are shown; --json shows more)" if wrong > _SHOWN else ""
    noun = "thing is" if wrong == 1 else "things are"
    raise CheckFailed(
        f"{wrong} {noun} not as written{more}. First: {problems[0]}.",
        "Keep the file as it is, and compare it with a backup: modelspend help verify",
    )
