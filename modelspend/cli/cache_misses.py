"""`cache-misses`: what providers' prompt caches should have given and did not, and why.

Only what a turn paid for although the turn before it had left it in the cache counts as missed. The
dollars are what those tokens cost above a read from the cache, at the price of that call.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelspend.cli.context import here
from modelspend.cli.filters import Asked, Limit, filtered
from modelspend.cli.output import Json, draw, on_terminal, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelspend.store import Filter, Missed, MissedSession, MissTotal, Store

    Found = tuple[list[MissTotal], list[MissedSession], list[Missed]]

By = Annotated[
    Literal["kind", "conversation", "turn"],
    typer.Option("--by", help="What makes a line: a kind of miss, a conversation, or each turn."),
]


@filtered
def cache_misses(
    ctx: typer.Context, asked: Asked, by: By = "kind", limit: Limit = 50, json: Json = False
) -> None:
    """Show what broke the providers' prompt caches, and the dollars it cost, the dearest first."""
    from modelspend.cli.reading import read

    at = here(ctx)
    filters = asked.filters(at)
    found = read(at.ledger, lambda store: _ask(store, filters, limit))
    kinds, sessions, turns = found
    if json:
        write_json(_shape(found))
    elif by == "kind":
        draw(KINDS, [_kind(one) for one in kinds], right=_NUMBERS, spare=("meaning",))
    elif by == "conversation":
        draw(
            SESSIONS,
            [_session(one) for one in sessions],
            right=_NUMBERS,
            spare=("last_at", "kinds"),
        )
    else:
        draw(TURNS, [_turn(one) for one in turns], right=_NUMBERS[1:], spare=_SPARE)
    typer.echo(footer(kinds), err=True)


async def _ask(store: "Store", filters: "Sequence[Filter]", limit: int) -> "Found":
    kept = store.conversations
    return (
        await kept.by_kind(*filters),
        await kept.by_session(*filters, limit=limit),
        await kept.misses(*filters, limit=limit),
    )


KINDS = ("kind", "misses", "tokens", "cost_usd", "meaning")
SESSIONS = ("tenant", "session_id", "misses", "tokens", "cost_usd", "kinds", "last_at")
TURNS = (
    "receipt_id",
    "created_at",
    "tenant",
    "workflow",
    "session_id",
    "provider",
    "model",
    "kind",
    "segment",
    "tokens",
    "cost_usd",
)
"""The columns of a piped list; scripts rely on their names and their order."""

_NUMBERS = ("misses", "tokens", "cost_usd")
_SPARE = ("workflow", "provider", "created_at", "session_id", "tenant", "model")


def _kind(one: "MissTotal") -> tuple[str, ...]:
    from modelspend.conversations import MISS_KINDS

    meaning = dict[str, str](MISS_KINDS.items()).get(one.kind, "")
    return (one.kind, str(one.misses), str(one.tokens), _dollars(one), meaning)


def _session(one: "MissedSession") -> tuple[str, ...]:
    from modelspend.receipt_json import iso

    total = one.total
    numbers = (str(total.misses), str(total.tokens), _dollars(total))
    return (one.tenant, one.session, *numbers, ",".join(one.kinds), iso(one.last_ms))


def _turn(one: "Missed") -> tuple[str, ...]:
    from modelspend.money import usd_text
    from modelspend.receipt_json import iso

    miss = one.miss
    return (
        one.receipt_id,
        iso(one.created_at_ms),
        one.tenant,
        one.workflow or "",
        one.session,
        one.provider or "",
        one.model or "",
        miss.kind,
        miss.place,
        str(miss.tokens),
        _unknown() if miss.cost_pico is None else usd_text(miss.cost_pico),
    )


def _dollars(total: "MissTotal") -> str:
    """What is known; nothing where no price is known at all."""
    from modelspend.money import usd_text

    return _unknown() if total.unpriced == total.misses else usd_text(total.cost_pico)


def _unknown() -> str:
    return "-" if on_terminal() else ""


def footer(kinds: "Sequence[MissTotal]") -> str:
    """All together, and how many of them no price is known for; or why there is nothing."""
    from modelspend.money import usd_text

    misses = sum(one.misses for one in kinds)
    if not misses:
        return (
            "No misses: no turn paid again for what the turn before it had left in a provider's"
            " cache. Turns are compared within a session: modelspend help http"
        )
    cost = usd_text(sum(one.cost_pico for one in kinds))
    tokens = sum(one.tokens for one in kinds)
    text = f"{misses} miss{'es' * (misses != 1)}, {tokens} tokens, {cost} USD"
    unpriced = sum(one.unpriced for one in kinds)
    return f"{text}, without {unpriced} whose price is not known." if unpriced else f"{text}."


def _shape(found: "Found") -> dict[str, Any]:
    from modelspend.receipt_json import iso

    kinds, sessions, turns = found
    return {
        "kinds": [{"kind": one.kind, **_sums(one)} for one in kinds],
        "conversations": [
            {
                "tenant": one.tenant,
                "session_id": one.session,
                "last_at": iso(one.last_ms),
                "kinds": list(one.kinds),
                **_sums(one.total),
            }
            for one in sessions
        ],
        "turns": [_one(turn) for turn in turns],
    }


def _sums(total: "MissTotal") -> dict[str, Any]:
    from modelspend.money import usd

    known = total.unpriced < total.misses
    return {
        "misses": total.misses,
        "unpriced": total.unpriced,
        "tokens": total.tokens,
        "cost_usd": usd(total.cost_pico) if known else None,
    }


def _one(one: "Missed") -> dict[str, Any]:
    from modelspend.money import usd
    from modelspend.receipt_json import iso

    miss = one.miss
    return {
        "receipt_id": one.receipt_id,
        "created_at": iso(one.created_at_ms),
        "tenant": one.tenant,
        "workflow": one.workflow,
        "session_id": one.session,
        "provider": one.provider,
        "model": one.model,
        "kind": miss.kind,
        "segment": miss.place or None,
        "tokens": miss.tokens,
        "cost_usd": None if miss.cost_pico is None else usd(miss.cost_pico),
    }
