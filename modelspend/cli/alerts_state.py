"""`alerts list` and `alerts silence`: what has gone off and who was told, and having it quiet.

Both are read from and written to the ledger, with a sidecar or without one; a running sidecar takes
a silence up at its next look at the rules.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.output import Json, draw, write_json
from modelspend.errors import NotFound, Usage

if TYPE_CHECKING:
    from modelspend.alarms import Alarm, Silence
    from modelspend.store import Store

R = TypeVar("R")

State = Annotated[
    Literal["firing", "silenced", "resolved"] | None,
    typer.Option("--state", help="Only those in this state.", show_default=False),
]
ANY = "all"
LISTED = ("state", "level", "rule", "whom", "for", "told", "what")


def list_(ctx: typer.Context, state: State = None, json: Json = False) -> None:
    """List what has gone off: whether it goes on, how bad it is, who is told of it.

    Kept for 30 days after its end. `told` is the worst level that channels have heard of.
    """
    at = here(ctx)
    found = [one for one in _shapes(at) if state in (None, one["state"])]
    if json:
        write_json(found)
        return
    draw(LISTED, [_row(one) for one in found], right=("for",), spare=("told", "for"), fold="what")
    on = sum(one["state"] != "resolved" for one in found)
    typer.echo(f"{on} go on, {len(found) - on} are over." if found else "Nothing yet.", err=True)


def _shapes(at: Here) -> list[dict[str, Any]]:
    from modelspend.alarms import silenced_until

    now_ms = at.now_ms()
    alarms: list[Alarm] = _read(at, lambda store: store.alarms.known(), [])
    silences: list[Silence] = _read(at, lambda store: store.alarms.silences(), [])
    return [one.to_json(now_ms, silenced_until(one, silences, now_ms)) for one in alarms]


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    from modelspend.cli.report import age

    whom = "everything" if one["scope"] == "process" else f"{one['scope']} {one['name']}"
    if one["window"]:
        whom += f" per {one['window']}"
    return (
        one["state"],
        one["level"],
        one["rule"],
        whom,
        age(one["age_s"]),
        one["told"] or "nobody",
        one["message"],
    )


def silence(
    ctx: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RULE|ID]", help="A rule, an id of `alerts list`, or all."),
    ] = None,
    length: Annotated[
        str, typer.Option("--for", metavar="TIME", help="So long, such as 30m or 2d.")
    ] = "2h",
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope",
            metavar="SCOPE[:NAME]",
            help="Only of this kind, or of this one: tenant:acme.",
        ),
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Tell again.")] = False,
    json: Json = False,
) -> None:
    """Tell nobody of some alerts for a while; alone, list what is silenced.

    What goes on when the time is over is told then. The end of what was told already is told.
    """
    at = here(ctx)
    if what is None:
        if lift or scope is not None:
            raise Usage("Nothing is named.", "Such as: modelspend alerts silence p95_drift")
        _list_silences(at, json)
        return
    rule, of, name = _target(at, what, scope)
    if lift:
        if not _write(at, lambda store: store.alarms.lift(rule, of, name)):
            raise NotFound(f"{_said(rule, of, name)} is not silenced.", _SEE)
        told: dict[str, Any] = {"rule": rule or None, "scope": of or None, "name": name or None}
        _show({**told, "lifted": True}, f"{_said(rule, of, name)} is told again.", json)
        return
    one = _silence(at, rule, of, name, length)
    _write(at, lambda store: store.alarms.silence(one))
    until = f"{one.to_json()['until'][:16]}Z"
    _show(one.to_json(), f"Nobody is told of {_said(rule, of, name)} until {until}.", json)


_SEE = "See: modelspend alerts silence"


def _silence(at: Here, rule: str, scope: str, name: str, length: str) -> "Silence":
    from modelspend import periods
    from modelspend.alarms import Silence

    try:
        long_ms = periods.duration_s(length) * 1000
    except ValueError as why:
        raise Usage(f"--for: {why}.") from None
    now_ms = at.now_ms()
    return Silence(rule=rule, scope=scope, name=name, at_ms=now_ms, until_ms=now_ms + long_ms)


def _target(at: Here, what: str, scope: str | None) -> tuple[str, str, str]:
    """(rule, scope, name) of what is meant; an empty text is any. Raises NotFound, Usage."""
    from modelspend.alerts import RULES, Scope

    rule, colon, rest = what.partition(":")
    if rule not in (*RULES, ANY):
        raise NotFound(f"There is no rule {rule!r}.", f"Rules: {', '.join(RULES)}, or {ANY}.")
    if colon and scope is not None:
        raise Usage("An id has its scope: leave out --scope.")
    if colon:
        alarms: list[Alarm] = _read(at, lambda store: store.alarms.known(), [])
        known = [(one.rule, one.scope, one.name) for one in alarms if one.key == what]
        if known:
            return known[0]
    of, _, name = (rest if colon else scope or "").partition(":")
    if of and of not in get_args(Scope):
        raise Usage(f"{of!r} is no scope.", f"One of: {', '.join(get_args(Scope))}.")
    return "" if rule == ANY else rule, of, name


def _said(rule: str, scope: str, name: str) -> str:
    return f"{rule or 'any rule'}{f' of {scope}' if scope else ''}{f' {name}' if name else ''}"


def _list_silences(at: Here, json: bool) -> None:
    silences: list[Silence] = _read(at, lambda store: store.alarms.silences(), [])
    found = [one for one in silences if at.now_ms() < one.until_ms]
    if json:
        write_json([one.to_json() for one in found])
        return
    rows = [(one.rule or ANY, one.scope or ANY, one.name or ANY, one.to_json()["until"])
            for one in found]  # fmt: skip
    draw(("rule", "scope", "name", "until"), rows)


def _show(shape: dict[str, Any], sentence: str, json: bool) -> None:
    if json:
        write_json(shape)
    else:
        typer.echo(sentence)


def _read(at: Here, question: "Callable[[Store], Awaitable[R]]", without: R) -> R:
    """The answer of the ledger; `without` one there is nothing to ask."""
    from modelspend.cli.reading import read

    return read(at.ledger, question) if at.ledger.exists() else without


def _write(at: Here, act: "Callable[[Store], Awaitable[R]]") -> R:
    import asyncio

    from modelspend.store import Store

    async def run() -> R:
        store = await Store.open_notes(at.ledger)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())
