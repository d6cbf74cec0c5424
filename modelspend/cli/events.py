"""`events`: what happened beside the receipts, and what happens, from any number on.

With a sidecar running, `--follow` listens to its feed; when that ends, or without one, it goes on
in the ledger from the very same number, so nothing is shown twice or missed.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelspend.cli.context import Here, here
from modelspend.cli.filters import Limit, ProviderName, Since, TenantName, instant
from modelspend.cli.output import Json, clean, draw, write_json
from modelspend.errors import DaemonUnreachable, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelspend.events import Wanted
    from modelspend.store import Store

_LOOK_S = 0.2
_PAGE = 500
_OLDER = 10

Types = Annotated[
    str | None,
    typer.Option(
        "--type",
        help="Only these types, with commas between: circuit.*, failover.",
        metavar="TYPES",
        show_default=False,
    ),
]


def events(
    ctx: typer.Context,
    types: Types = None,
    tenant: TenantName = None,
    provider: ProviderName = None,
    since: Since = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", help="Only what came after this number, or this receipt.", metavar="SEQ"
        ),
    ] = None,
    limit: Limit = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new ones, until interrupted.")
    ] = False,
    json: Json = False,
) -> None:
    """List events, newest first; with --after, oldest first; with --follow, as they happen."""
    from modelspend.cli.reading import read

    at = here(ctx)
    where = _wanted(at, types, tenant, provider, since)
    start = None if after is None else _number(at, after)
    if follow:
        _follow(at, where, start, json)
        return

    async def ask(store: "Store") -> "list[dict[str, Any]]":
        if start is not None:
            found = await store.events.after(start, limit, where)
        else:
            found = await store.events.newest(limit, where)
        return [one.to_json() for one in found]

    shapes = read(at.ledger, ask)
    if json:
        write_json(shapes)
        return
    draw(COLUMNS, [cells(one) for one in shapes], right=("seq",),
         spare=("receipt_id", "tenant", "level"))  # fmt: skip
    typer.echo(f"{len(shapes)} events.", err=True)


COLUMNS = ("seq", "created_at", "type", "level", "tenant", "receipt_id", "data")
"""The columns of a piped list; scripts rely on their names and their order."""


def cells(one: "Mapping[str, Any]") -> list[str]:
    """An event as its columns; its data as `name=value` for each that has one."""
    data = " ".join(
        f"{name}={_said(value)}" for name, value in one["data"].items() if value not in (None, "")
    )
    return [*("" if one[name] is None else str(one[name]) for name in COLUMNS[:-1]), data]


def _said(value: object) -> str:
    text = "yes" if value is True else "no" if value is False else str(value)
    return f'"{text}"' if " " in text else text


def _wanted(
    at: Here, types: str | None, tenant: str | None, provider: str | None, since: str | None
) -> "Wanted":
    from modelspend.events import Wanted, kinds

    try:
        patterns = kinds(types or "")
    except ValueError as error:
        raise Usage(f"--type: {error}.") from None
    since_ms = instant("--since", since, at.now_ms())
    return Wanted(kinds=patterns, tenant=tenant, provider=provider, since_ms=since_ms)


def _number(at: Here, after: str) -> int:
    """Of a number, or of a receipt."""
    if after.isascii() and after.isdigit():
        return int(after)
    from modelspend.cli.reading import one, read

    return read(at.ledger, lambda store: one(store, after)).seq


def _follow(at: Here, where: "Wanted", start: int | None, json: bool) -> None:
    """What has been first: all after the start, or since the time; else the last few."""
    from modelspend.cli.reading import read

    async def begin(store: "Store") -> int:
        if start is not None:
            return start
        last = await store.events.last(where)
        if where.since_ms is not None:
            return 0
        for one in reversed(await store.events.newest(_OLDER, where)):
            _print(one.to_json(), json)
        return last

    cursor = read(at.ledger, begin)
    for one in _from_feed(at, where, cursor):
        _print(one, json)
        cursor = one["seq"]
    read(at.ledger, lambda store: _from_ledger(store, where, cursor, json))


def _from_feed(at: Here, where: "Wanted", cursor: int) -> "Iterator[dict[str, Any]]":
    """Until the feed ends; nothing at all without a sidecar."""
    from urllib.parse import urlencode

    from modelspend.cli.client import find
    from modelspend.receipt_json import iso

    asked = {
        "after": str(cursor),
        "type": ",".join(where.kinds),
        "tenant": where.tenant,
        "provider": where.provider,
        "since": None if where.since_ms is None else iso(where.since_ms),
    }
    query = urlencode({name: value for name, value in asked.items() if value})
    try:
        daemon = find(at.ledger)
        yield from daemon.feed(f"/v1/events?{query}")
    except DaemonUnreachable:
        return


async def _from_ledger(store: "Store", where: "Wanted", cursor: int, json: bool) -> None:
    import asyncio

    seen = -1
    while True:
        newest = await store.meta.last_seq()
        if newest == seen:
            await asyncio.sleep(_LOOK_S)
            continue
        seen = newest
        full = True
        while full:
            page = await store.events.page(cursor, _PAGE, where)
            for one in page.events:
                _print(one.to_json(), json)
            cursor, full = page.cursor, len(page.events) == _PAGE


def _print(one: "Mapping[str, Any]", json: bool) -> None:
    if json:
        write_json(one, line=True)
    else:
        sys.stdout.write(line(one) + "\n")
    sys.stdout.flush()


def line(one: "Mapping[str, Any]") -> str:
    """One event on one line: time, number, level, type, whose, what of it."""
    said = dict(zip(COLUMNS, cells(one), strict=True))
    return clean(
        f"{said['created_at'][11:23]}  {said['seq']:>8}  {said['level']:<8}  {said['type']:<20}"
        f"  {said['tenant'] or '-':<14}  {said['data']}  {said['receipt_id']}"
    ).rstrip()
