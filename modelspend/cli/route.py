"""`modelspend route`: the decision about a prompt or a request, without sending it.

A running sidecar is asked, since it knows its conversations and circuits; without one the same
decision is made here from the configuration and the ledger.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from modelspend.cli.context import Here, here, note
from modelspend.cli.output import Json, clean, draw, write_json
from modelspend.errors import DaemonUnreachable, ModelspendError, Usage

if TYPE_CHECKING:
    from modelspend.cli.client import Daemon
    from modelspend.store import Store

R = TypeVar("R")
Said = dict[str, Any]


def route(
    ctx: typer.Context,
    prompt: Annotated[str | None, typer.Argument(metavar="[PROMPT]", show_default=False)] = None,
    body: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A request as an app would send it, JSON.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSONL or CSV of prompts or bodies; - is stdin."),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="The dialect of the body.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Decide by this profile.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Decide for this tenant.")
    ] = None,
    json: Json = False,
) -> None:
    """Decide who would answer, and say why; nothing is sent."""
    if sum(given is not None for given in (prompt, body, file)) != 1:
        raise Usage(
            "There must be one of a prompt, --body FILE and --file FILE.",
            'Try: modelspend route "Prove that there are infinitely many primes."',
        )
    extra = _extra(dialect, profile, tenant)
    with _decider(here(ctx)) as decider:
        if file is not None:
            _many(decider, file, extra, json)
            return
        asked: Said = {"prompt": prompt} if body is None else {"body": _read(body)}
        said = decider.decide({**asked, **extra})
    if json:
        write_json(said)
    else:
        _draw(said)


def _extra(dialect: str | None, profile: str | None, tenant: str | None) -> Said:
    headers = {"x-modelspend-profile": profile, "x-modelspend-tenant": tenant}
    told = {name: value for name, value in headers.items() if value is not None}
    return {**({"dialect": dialect} if dialect else {}), **({"headers": told} if told else {})}


def _read(body: Path) -> Any:
    import orjson

    try:
        return orjson.loads(body.read_bytes())
    except OSError as why:
        raise ModelspendError(f"Cannot read {body}: {why.strerror}.") from None
    except orjson.JSONDecodeError as why:
        raise Usage(
            f"{body} is not JSON: {why}.", "Give a request body as an app sends it."
        ) from None


class _Decider(Protocol):
    def decide(self, asked: Mapping[str, Any]) -> Said:
        """The decision. Raises ModelspendError."""
        ...


@contextmanager
def _decider(place: Here) -> Iterator[_Decider]:
    """The running sidecar, else this process with what the file and the ledger say."""
    from modelspend.cli.client import find

    try:
        yield _There(find(place.ledger))
    except DaemonUnreachable:
        with _here(place) as alone:
            yield alone


class _There:
    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon

    def decide(self, asked: Mapping[str, Any]) -> Said:
        said: Said = self._daemon.post("/v1/route", asked)
        return said


@contextmanager
def _here(place: Here) -> Iterator[_Decider]:
    import asyncio

    with asyncio.Runner() as runner:
        yield _Alone(place, runner)


class _Alone:
    """A router of this process; it has no conversations, and asks the price table itself."""

    def __init__(self, place: Here, runner: Any) -> None:
        from modelspend.catalog import Catalog
        from modelspend.catalog.library import InProcess
        from modelspend.catalog.prices import PriceBook
        from modelspend.estimate import Estimator
        from modelspend.gateway.conversations import Conversations
        from modelspend.gateway.router import Router

        settings = place.load().settings
        rows, overrides, ratios = _kept(place.ledger)
        self._run = runner.run
        self._router = Router(
            Catalog.load(settings.providers, place.env),
            PriceBook(rows=rows, overrides=overrides, settings=settings, library=InProcess()),
            Estimator(ratios),
            settings,
            Conversations(),
        )

    def decide(self, asked: Mapping[str, Any]) -> Said:
        from time import time_ns

        from modelspend.gateway.dryrun import decide

        work = decide(asked, self._router, _no_session, time_ns() // 1_000_000)
        said: Said = self._run(work)
        return said


def _no_session(value: bytes, purpose: str) -> str:
    """Without a sidecar there is no conversation to stay with."""
    return ""


def _kept(ledger: Path) -> tuple[Any, Any, Any]:
    """Price rows, overrides and learnt ratios of the ledger, if there is one."""
    from modelspend.cli.reading import read

    if not ledger.exists():
        return (), (), ()

    async def ask(store: "Store") -> tuple[Any, Any, Any]:
        prices = store.prices
        return await prices.rows(), await prices.overrides(), await store.ratios.load()

    return read(ledger, ask)


def _many(decider: _Decider, file: str, extra: Said, json: bool) -> None:
    from modelspend.cli.batch import prompt_row, rows

    wrong = 0

    def decisions() -> Iterator[Said]:
        nonlocal wrong
        for row in rows(file, prompt_row):
            said = _one(decider, row, extra)
            wrong += "error" in said
            yield said

    if json:
        for said in decisions():
            write_json(said, line=True)
    else:
        draw(
            ("id", "tier", "model", "complexity", "confidence", "signals"), map(_cells, decisions())
        )
    if wrong:
        note(f"{wrong} lines could not be decided; each says why.")


def _one(decider: _Decider, row: "Mapping[str, Any] | ValueError", extra: Said) -> Said:
    if isinstance(row, ValueError):
        return {"id": None, "error": str(row)}
    try:
        return {"id": row.get("id"), **decider.decide({**extra, **row})}
    except DaemonUnreachable:
        raise
    except ModelspendError as why:
        return {"id": row.get("id"), "error": why.text}


def _cells(said: Said) -> tuple[str, ...]:
    name = "" if said["id"] is None else str(said["id"])
    if "error" in said:
        return (name, "", "", "", "", said["error"])
    signals = said["risk_signals"].get("advancedReasoningDetails", ())
    return (
        name,
        said["tier"] or "",
        said["selected_model"],
        f"{said['complexity']:.2f}",
        f"{said['confidence']:.2f}",
        " ".join(signals),
    )


def _draw(said: Said) -> None:
    for line in _lines(said):
        sys.stdout.write(clean(line) + "\n")
    rows = [_candidate(n, each) for n, each in enumerate(said["candidates"], 1)]
    if rows:
        sys.stdout.write("\n")
        draw(("", "candidate", "score", "about USD", "remark"), rows, right=("score", "about USD"))


def _lines(said: Said) -> Iterator[str]:
    yield (
        f"{said['tier']}   {said['category']}   complexity {said['complexity']:.2f}"
        f"   confidence {said['confidence']:.2f}"
    )
    yield (
        f"→ {said['provider']}/{said['selected_model']}   ({said['strategy']}, {said['mode']},"
        f" profile {said['profile']})"
    )
    for reason in said["rationale"]:
        yield f"  · {reason}"


def _candidate(n: int, each: Mapping[str, Any]) -> tuple[str, ...]:
    cost = each["est_cost_usd"]
    remark = each["filtered_out_by"] or ", ".join(each["reasons"])
    score = "" if each["score"] is None else f"{each['score']:.3f}"
    return (
        str(n),
        f"{each['provider']}/{each['model_id']}",
        score,
        "unknown" if cost is None else f"{cost:f}",
        remark,
    )
