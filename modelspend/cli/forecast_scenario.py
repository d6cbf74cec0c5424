"""The scenarios of `forecast`: what was typed, and what a change saves by mechanism."""

import sys
from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import TYPE_CHECKING, Any

import typer

from modelspend.cli.context import Here, note
from modelspend.cli.filters import Asked
from modelspend.cli.output import draw, on_terminal, write_json
from modelspend.errors import Usage

if TYPE_CHECKING:
    from modelspend.forecast import Horizon
    from modelspend.scenario import Change, Tally
    from modelspend.store import Store

Worked = tuple["Tally", int, "Horizon | None"]
"""The calls added up, of how many days, and the forecast of all of them where there is one."""


def scenario(at: Here, asked: Asked, horizon: int, typed: Mapping[str, Any], *, json: bool) -> None:
    """Price the last weeks again under a change, and tell what it saves in so many days."""
    from modelspend.scenario import to_json

    change = change_of(typed)
    tally, days, ahead = worked_out(at, asked, horizon, change)
    said = to_json(change, tally, days, horizon, ahead)
    if json:
        write_json(said)
    else:
        _draw(said)
    _talk(tally, said)


def worked_out(at: Here, asked: Asked, horizon: int, change: "Change") -> Worked:
    """The receipts of the last weeks under a change. Raises TooLittleHistory, UnknownModel."""
    from modelspend.cli.reading import read

    settings, where = at.load().settings, asked.filters(at)

    async def work(store: "Store") -> Worked:
        from modelspend.gateway.scenario import Scenario
        from modelspend.reports.forecast import horizon_of, recent
        from modelspend.scenario import WINDOW

        filters, days = await recent(store, where, at.now_ms(), WINDOW)
        made = await Scenario.of(store, settings, change)
        async for done in made.run(store, filters):
            _progress(done)
        _progress(None)
        return made.tally, days, await horizon_of(store, where, at.now_ms(), horizon)

    return read(at.ledger, work)


def change_of(typed: Mapping[str, Any]) -> "Change":
    """What was typed. Raises Usage."""
    from modelspend.scenario import Change

    mix: dict[str, dict[str, Decimal]] = {}
    for text in typed["mix"] or ():
        source, equals, rest = text.partition("=")
        target, colon, share = rest.rpartition(":")
        if not (source and equals and target and colon):
            raise Usage(f"--mix: not a change of models: {text!r}.", f"Write {_MIX}.")
        if target in mix.get(source, {}):
            raise Usage(f"--mix: {source}={target} is said twice.", f"Write it once: {_MIX}.")
        mix.setdefault(source, {})[target] = _number("--mix", share)
    shift_to = typed["shift_to"]
    if shift_to and typed["shift_deep"] is None:
        raise Usage("--shift-to says where --shift-deep goes.", "Write --shift-deep 20 as well.")
    try:
        return Change(
            shift_deep_pct=_number("--shift-deep", typed["shift_deep"]),
            shift_to=shift_to,
            cache_hit_delta=_number("--cache-hit", typed["cache_hit"]),
            growth_pct=_number("--growth", typed["growth"]),
            mix=mix,
        )
    except ValueError as why:
        raise Usage(f"{why}.", "See: modelspend help forecast") from None


_MIX = "--mix gpt-5=claude-haiku-4-5:30"


def _number(option: str, text: str | None) -> Decimal:
    try:
        found = Decimal((text or "0").removesuffix("%"))
    except DecimalException:
        found = Decimal("nan")
    if not found.is_finite():
        raise Usage(f"{option}: not a number: {text!r}.", "Write digits, such as 20 or +0.15.")
    return found


def _progress(done: int | None) -> None:
    """Says on a terminal how far it has come; null clears the line."""
    if sys.stderr.isatty():
        said = "" if done is None else f"{done:,} receipts priced again"
        sys.stderr.write(f"\r\x1b[K{said}")
        sys.stderr.flush()


FIGURES = ("figure", "usd_a_day", "usd")
MOVES = ("mechanism", "from", "to", "calls", "before_usd", "after_usd")
"""The columns of a piped list; scripts rely on their names and their order."""


def _draw(said: Mapping[str, Any]) -> None:
    """The days as they are, what each mechanism takes off, and the days as they would be."""
    days = said["horizon_days"]
    base, adjusted = said["base_daily_cost_usd"], said["adjusted_daily_cost_usd"]
    rows = [("as it is", _text(base), _text(base * days))]
    for name, saved in said["savings_by_mechanism"].items():
        if saved or on_terminal() is False:
            rows.append((name.removesuffix("_usd"), _signed(-saved / days), _signed(-saved)))
    rows.append(("with the change", _text(adjusted), _text(adjusted * days)))
    draw(FIGURES, rows, right=FIGURES[1:])
    if said["moves"]:
        typer.echo("")
        moves = [tuple(map(_text, move.values())) for move in said["moves"]]
        draw(MOVES, moves, right=MOVES[3:], spare=("before_usd",))


def _signed(value: Decimal) -> str:
    return f"+{_text(value)}" if value > 0 and on_terminal() else _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, Decimal):
        return str(value)
    if on_terminal():
        return f"{value:,.2f}" if abs(value) >= 1 or not value else f"{value:.4g}"
    return format(value, "f")


def _talk(tally: "Tally", said: Mapping[str, Any]) -> None:
    """The assumptions and what is missing, on stderr."""
    saved, ratio = said["savings_vs_base_usd"], said["routing_savings_ratio_used"]
    again, reached = said["priced_again"], said["reached"]
    verb = "costs" if saved < 0 else "saves"
    share = "" if ratio is None else f" ({abs(100 * ratio):.1f} %)"
    typer.echo(
        f"It {verb} {_text(abs(saved))} USD{share} in {said['horizon_days']} days, if they are like"
        f" the last {again['days']}: {again['calls']} receipts priced again.",
        err=True,
    )
    asked = said["asked"]
    if asked["routing_shift_deep_pct"] and reached["routing_shift_deep_pct"] is None:
        note("No receipt is of the tier deep_reasoning, so nothing shifts.")
    elif asked["routing_shift_deep_pct"]:
        note(
            f"{reached['routing_shift_deep_pct']} % of the cost of deep_reasoning shifts: whole"
            " conversations, which lose their caches."
        )
    for source, targets in reached["model_mix"].items():
        for target, share in targets.items():
            if share is not None:
                note(f"{share} % of the cost of {source} goes to {target}.")
    lost = -sum(said["saved_beside_moves"].values())
    if lost:
        note(
            f"Calls that do not move cost {_text(abs(lost))} USD {'more' if lost > 0 else 'less'}"
            f" in these {again['days']} days, since others share their conversations' caches."
        )
    if asked["cache_hit_rate_delta"] and reached["cache_hit_rate"] is not None:
        rates = reached["cache_hit_rate"], reached["cache_hit_rate_after"]
        note(f"{100 * rates[0]:.1f} % of prompt tokens are read from caches, {100 * rates[1]:.1f} %"
             " after it.")  # fmt: skip
    for model in tally.unseen:
        note(f"No receipt is of {model}, so nothing of it moves.")
    if tally.unpriced:
        note(f"{tally.unpriced} receipts have no known cost and are left out.")
    for why, calls in sorted(tally.stuck.items()):
        note(f"{calls} calls stay as they are: {why}.")
    if tally.inexact:
        note(f"The new cost of {tally.inexact} calls is not exact.")
    ahead = said["projection"]
    if ahead is not None:
        band = ahead["adjusted"]["bands"]["80"]
        note(
            f"With the trend of the ledger the {said['horizon_days']} days would cost"
            f" {_text(ahead['adjusted']['cost_usd'])} USD after it, 80 % between {_text(band[0])}"
            f" and {_text(band[1])}."
        )
