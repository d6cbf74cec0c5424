"""`budgets list|set|holds|history`: caps in dollars, where they stand, and what calls hold of them.

All of it is read from the ledger and the file, with a daemon or without one. What `set` writes wins
over the file, and a running sidecar takes it up within two seconds.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.output import Json, bar, draw, on_terminal, write_json
from modelspend.errors import NotFound, Usage

if TYPE_CHECKING:
    from modelspend.budgets import Budget
    from modelspend.budgets import Usage as Stand
    from modelspend.store import HeldCall, Store
    from modelspend.windows import Window

app = typer.Typer(help="Show and set caps in dollars, and what calls hold of them.")

R = TypeVar("R")

ScopeName = Annotated[
    str,
    typer.Argument(metavar="SCOPE", help="process, tenant, workflow, session, key or model."),
]
Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help='Which one; "*" is each. Not for process.')
]
WindowText = Annotated[
    str | None,
    typer.Option("--window", metavar="WINDOW", help="day, week, month, total, or such as 24h."),
]
Zone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="Time zone of its day, week or month.")
]


@app.command("list")
def list_(
    ctx: typer.Context,
    scope: Annotated[str | None, typer.Option(help="Only budgets of this scope.")] = None,
    name: Annotated[str | None, typer.Option(help="Only the budgets of this name.")] = None,
    each: Annotated[
        int, typer.Option(min=0, metavar="N", help="The dearest N under a rule for each.")
    ] = 10,
    json: Json = False,
) -> None:
    """List every budget: its cap, what is spent and held of it, and when it begins anew."""
    at = here(ctx)
    wanted = [b for b in _in_force(at) if scope in (None, b.scope)]
    stands = [one for one in _stands(at, wanted, each, name) if name in (None, one.budget.name)]
    if json:
        write_json([one.to_json() for one in stands])
        return
    draw(_COLUMNS, [_row(one) for one in stands], right=_NUMBERS, spare=_SPARE)
    if not stands:
        typer.echo("No budget is in force. Set one: modelspend help budgets", err=True)


@app.command("set")
def set_(
    ctx: typer.Context,
    scope: ScopeName,
    name: Name = None,
    max_usd: Annotated[
        str | None, typer.Option("--max-usd", metavar="USD", help="The cap; 0 blocks.")
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="No cap: only count.")] = False,
    window: WindowText = None,
    zone: Zone = None,
    hard: Annotated[
        bool | None, typer.Option("--hard/--warn", help="Refuse what may pass it, or only warn.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Return to the file's cap.")] = False,
    json: Json = False,
) -> None:
    """Set a cap in the ledger, where it wins over the file; or clear it again."""
    from modelspend.cli.eval_purse import cap_of

    at = here(ctx)
    if (max_usd is not None) + unlimited + clear != 1:
        raise Usage("Say one thing: --max-usd USD, --unlimited or --clear.")
    found = _the_one(at, scope, name, window, zone)
    if clear:
        gone = _write(
            at, lambda store: store.budgets.clear_override(found.scope, found.name, found.window)
        )
        if not gone:
            raise NotFound(
                f"Nothing is set in the ledger for {found.title} per {found.window.name}.",
                "See: modelspend budgets list",
            )
    else:
        from dataclasses import replace

        put = replace(
            found,
            cap_pico=None if unlimited else cap_of(max_usd),
            hard=found.hard if hard is None else hard,
        )
        _write(at, lambda store: store.budgets.set_override(put, at.now_ms()))
    stands = _stands(at, [b for b in _in_force(at) if b.key == found.key], 0, None)
    if json:
        write_json(stands[0].to_json() if stands else {"cleared": 1})
    else:
        said = _sentence(stands[0]) if stands else "no budget any more."
        typer.echo(f"{found.title} per {found.window.name}: {said}")


@app.command()
def holds(ctx: typer.Context, json: Json = False) -> None:
    """List what open calls hold of budgets, the oldest first."""
    from modelspend.store import read_lock

    at = here(ctx)
    nothing: list[HeldCall] = []
    found = _read(at, lambda store: store.budgets.holds(), nothing)
    holder = read_lock(at.ledger)
    live = holder.boot_id if holder is not None else None
    if json:
        write_json([_held(one, at.now_ms(), live) for one in found])
        return
    draw(
        ("receipt", "age_s", "held_usd", "scope", "name", "window", "lease"),
        [_held_row(one, at.now_ms(), live) for one in found],
        right=("age_s", "held_usd"),
        spare=("window", "lease"),
    )
    if any(one.boot_id != live for one in found):
        typer.echo(
            "The process that took some of them is gone: the next start of the sidecar charges"
            " these.",
            err=True,
        )


@app.command()
def history(
    ctx: typer.Context,
    scope: ScopeName,
    name: Name = None,
    window: WindowText = None,
    zone: Zone = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many windows.")] = 12,
    json: Json = False,
) -> None:
    """Show what each window of a budget has spent, made from the receipts, the newest first."""
    at = here(ctx)
    found = _the_one(at, scope, name, window, zone)
    if not found.window.calendar:
        raise Usage(
            f"The budget of {found.title} has no windows that end: it is {found.window.text}.",
            "Name one: --window day, week or month.",
        )

    async def ask(store: "Store") -> "tuple[list[tuple[Stand, int]], dict[int, list[str]]]":
        rows = await store.budgets.history(found, at.now_ms(), limit)
        return rows, await store.budgets.firings(found)

    nothing: tuple[list[tuple[Stand, int]], dict[int, list[str]]] = ([], {})
    rows, told = _read(at, ask, nothing)
    if json:
        write_json([_window_json(stand, many, told) for stand, many in rows])
        return
    draw(
        ("starts_at", "resets_at", "spent_usd", "calls", "used", "told"),
        [_window_row(stand, many, told) for stand, many in rows],
        right=("spent_usd", "calls"),
        spare=("told", "resets_at"),
    )


# What is in force.


def _in_force(at: Here) -> "list[Budget]":
    """The file's budgets with the ledger's over them."""
    from modelspend import budgets
    from modelspend.budgets import Budget
    from modelspend.settings import budgets_of

    file, nothing = budgets_of(at.load().settings), list[Budget]()
    ledger = _read(at, lambda store: store.budgets.overrides(), nothing)
    return list(budgets.in_force(file, ledger))


def _the_one(
    at: Here, scope: str, name: str | None, window: str | None, zone: str | None
) -> "Budget":
    """The budget that is meant: the only one of its name, unless a window says which."""
    from modelspend.budgets import PROCESS, SCOPES, Budget

    scopes = [each for each in SCOPES if each != "run"]
    chosen = next((each for each in scopes if each == scope), None)
    if chosen is None:
        raise Usage(f"{scope!r} is no scope.", f"One of: {', '.join(scopes)}.")
    if (name is None) != (chosen == "process"):
        what = "has no name" if chosen == "process" else "needs a name"
        raise Usage(f"A budget of scope {chosen} {what}.", "Such as: tenant acme-prod")
    called = PROCESS if name is None else name
    there = [b for b in _in_force(at) if (b.scope, b.name) == (chosen, called)]
    wanted = _window(window or "month", zone) if window or zone or not there else None
    if wanted is None and len(there) > 1:
        windows = ", ".join(each.window.name for each in there)
        raise Usage(f"{there[0].title} has several budgets: {windows}.", "Say which: --window")
    match = [each for each in there if wanted is None or each.window == wanted]
    if match:
        return match[0]
    assert wanted is not None
    return Budget(scope=chosen, name=called, window=wanted, cap_pico=None)


def _window(text: str, zone: str | None) -> "Window":
    from modelspend.windows import parse

    try:
        return parse(text, zone or "UTC")
    except ValueError as why:
        raise Usage(f"{why}.") from None


def _stands(at: Here, wanted: "list[Budget]", each: int, name: str | None) -> "list[Stand]":
    from modelspend.budgets import EACH, Usage, one_of

    now = at.now_ms()

    async def ask(store: "Store") -> "list[Stand]":
        named: list[Budget] = []
        for budget in wanted:
            if budget.name != EACH:
                named.append(budget)
                continue
            found = await store.budgets.names(budget, now, limit=each)
            if name is not None and name not in found:
                found.append(name)
            named += [one_of(budget, one) for one in found if one != EACH]
        return await store.budgets.usage(named, now)

    nothing = [
        Usage(budget=b, spent_pico=0, held_pico=0, starts_at_ms=None, resets_at_ms=None)
        for b in wanted
        if b.name != EACH
    ]
    return _read(at, ask, nothing)


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


# How it is shown.

_COLUMNS = (
    "scope", "name", "window", "cap_usd", "spent_usd", "held_usd", "used", "resets_at", "origin"
)  # fmt: skip
_NUMBERS = ("cap_usd", "spent_usd", "held_usd")
_SPARE = ("origin", "resets_at", "held_usd", "window")


def _row(stand: "Stand") -> tuple[str, ...]:
    from modelspend.money import usd_text

    budget = stand.budget
    cap = "unlimited" if budget.cap_pico is None else _money(budget.cap_pico)
    return (
        budget.scope,
        budget.name,
        budget.window.name,
        cap if budget.hard or budget.cap_pico is None else f"{cap} (warn)",
        _money(stand.spent_pico) if on_terminal() else usd_text(stand.spent_pico),
        _money(stand.held_pico) if on_terminal() else usd_text(stand.held_pico),
        _used(stand),
        _when(stand.resets_at_ms),
        budget.origin,
    )


def _used(stand: "Stand") -> str:
    """A bar of what is spent and, lighter, what is held; a share in per cent without a terminal."""
    cap = stand.budget.cap_pico
    if cap is None:
        return ""
    if cap == 0:
        return "blocked" if stand.budget.hard else "100%"
    if not on_terminal():
        return f"{(stand.spent_pico + stand.held_pico) / cap:.1%}"
    return f"{bar(stand.spent_pico / cap, stand.held_pico / cap)} {stand.spent_pico / cap:4.0%}"


def _money(pico: int) -> str:
    """Dollars for a table: exact below a cent, else to the hundredth of a cent, rounded up."""
    from modelspend.cli.eval_purse import short
    from modelspend.money import usd_text

    return usd_text(pico) if pico < 10**10 or not on_terminal() else short(pico)


def _when(ms: int | None) -> str:
    from modelspend.receipt_json import iso

    return "" if ms is None else f"{iso(ms)[:16]}Z" if on_terminal() else iso(ms)


def _sentence(stand: "Stand") -> str:
    from modelspend.money import usd_text

    budget = stand.budget
    if budget.cap_pico is None:
        cap = "no cap"
    else:
        cap = f"{'a hard' if budget.hard else 'a warning'} cap of ${usd_text(budget.cap_pico)}"
    return f"{cap}, ${usd_text(stand.spent_pico)} spent ({budget.origin})."


def _held(one: "HeldCall", now_ms: int, live: str | None) -> dict[str, Any]:
    from modelspend.money import usd
    from modelspend.receipt_json import iso

    return {
        "receipt_id": one.receipt_id,
        "created_at": iso(one.created_at_ms),
        "age_s": round((now_ms - one.created_at_ms) / 1000, 3),
        "tenant": one.tenant,
        "scope": one.scope,
        "name": one.name,
        "window": one.window,
        "held_usd": usd(one.held_pico),
        "lease": "live" if one.boot_id == live else "expired",
    }


def _held_row(one: "HeldCall", now_ms: int, live: str | None) -> tuple[str, ...]:
    from modelspend.money import usd_text

    said = _held(one, now_ms, live)
    age, held = f"{said['age_s']:.1f}", usd_text(one.held_pico)
    return one.receipt_id, age, held, one.scope, one.name, one.window, said["lease"]


def _window_json(stand: "Stand", many: int, told: dict[int, list[str]]) -> dict[str, Any]:
    return {**stand.to_json(), "calls": many, "told": told.get(stand.starts_at_ms or 0, [])}


def _window_row(stand: "Stand", many: int, told: dict[int, list[str]]) -> tuple[str, ...]:
    return (
        _when(stand.starts_at_ms),
        _when(stand.resets_at_ms),
        _money(stand.spent_pico),
        f"{many:,}" if on_terminal() else str(many),
        _used(stand),
        " ".join(told.get(stand.starts_at_ms or 0, [])),
    )
