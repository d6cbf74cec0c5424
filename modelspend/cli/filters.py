"""Which receipts: the options that mean the same in every command, and the saved views.

Each option is declared once, as a field of `Asked`; `filtered` gives a command all of them. What
is typed wins over what a view says.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from modelspend.cli.context import Here, with_options
from modelspend.errors import Usage
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.settings import View
    from modelspend.store import Filter

MOST = 100_000


def _option(*names: str, help: str, metavar: str) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


@frozen(kw_only=True)
class Asked:
    """What was typed; None where nothing was."""

    tenant: Annotated[str | None, _option("--tenant", help="Only this tenant.", metavar="NAME")] = (
        None
    )
    workflow: Annotated[
        str | None, _option("--workflow", help="Only this workflow.", metavar="NAME")
    ] = None
    model: Annotated[
        str | None, _option("--model", help="Only this model, as served.", metavar="NAME")
    ] = None
    provider: Annotated[
        str | None, _option("--provider", help="Only this provider.", metavar="NAME")
    ] = None
    category: Annotated[
        str | None, _option("--category", help="Only this category.", metavar="NAME")
    ] = None
    status: Annotated[
        str | None,
        _option("--status", help="Only these statuses, with commas between.", metavar="STATUS"),
    ] = None
    session: Annotated[
        str | None, _option("--session", help="Only this session.", metavar="ID")
    ] = None
    min_cost: Annotated[
        str | None, _option("--min-cost", help="At least this many dollars.", metavar="USD")
    ] = None
    min_latency: Annotated[
        float | None,
        _option("--min-latency", help="At least this many milliseconds.", metavar="MS"),
    ] = None
    unpriced: Annotated[
        bool | None,
        typer.Option("--unpriced/--priced", help="Only receipts whose cost is not known, or is."),
    ] = None
    region: Annotated[
        str | None, _option("--region", help="Only this region of a provider.", metavar="NAME")
    ] = None
    tag: Annotated[
        str | None,
        _option(
            "--tag", help="Only with this tag; !NAME: without any of a name.", metavar="NAME=VALUE"
        ),
    ] = None
    hopped: Annotated[
        bool | None,
        typer.Option("--hopped/--not-hopped", help="Only with more than one attempt, or with one."),
    ] = None
    failed: Annotated[
        str | None,
        _option(
            "--failed",
            help="Only with a failed attempt: any, or model=NAME, provider=NAME, region=NAME.",
            metavar="WHERE",
        ),
    ] = None
    since: Annotated[
        str | None,
        _option("--since", help="From then on: 7d, 24h, mtd, 2026-11-01.", metavar="WHEN"),
    ] = None
    until: Annotated[
        str | None,
        _option("--until", help="Up to then; a day is included whole.", metavar="WHEN"),
    ] = None
    view: Annotated[
        str | None,
        _option(
            "--view", help="A saved view: on-call, finance, security, your own.", metavar="NAME"
        ),
    ] = None

    def filters(self, here: Here) -> "tuple[Filter, ...]":
        """One filter, or several of which any may match (some views ask so). Raises Usage."""
        from modelspend.store import Filter

        now_ms = here.now_ms()
        arms = view_named(self.view, here) if self.view else (None,)
        typed = {
            "tenant": self.tenant,
            "workflow": self.workflow,
            "model": self.model,
            "provider": self.provider,
            "category": self.category,
            "status": _statuses(self.status) or None,
            "session": self.session,
            "min_cost_pico": None if self.min_cost is None else _dollars(self.min_cost),
            "min_latency_ms": self.min_latency,
            "unpriced": self.unpriced,
            "region": self.region,
            "tag": self.tag,
            "hopped": self.hopped,
            "failed": None if self.failed is None else failed_at(self.failed),
            "since_ms": instant("--since", self.since, now_ms),
            "until_ms": instant("--until", self.until, now_ms),
        }
        said: dict[str, Any] = {key: value for key, value in typed.items() if value is not None}
        return tuple(
            replace(_from_view(view, now_ms) if view else Filter(), **said) for view in arms
        )


def filtered(run: Callable[..., None]) -> Callable[..., None]:
    """The command with every option of `Asked`, which it gets as one argument, `asked`."""
    hints = get_type_hints(Asked, include_extras=True)
    options = {each.name: (hints[each.name], each.default) for each in fields(Asked)}
    return with_options(run, options, into=("asked", Asked))


Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="At most this many.")]
Since = Annotated[
    str | None, _option("--since", help="From then on: 7d, 24h, mtd, 2026-11-01.", metavar="WHEN")
]
Until = Annotated[
    str | None, _option("--until", help="Up to then; a day is included whole.", metavar="WHEN")
]
TenantName = Annotated[str | None, _option("--tenant", help="Only this tenant.", metavar="NAME")]
ProviderName = Annotated[
    str | None, _option("--provider", help="Only this provider.", metavar="NAME")
]
After = Annotated[
    str | None, _option("--after", help="Only what was written after this receipt.", metavar="ID")
]


def _statuses(text: str | None) -> tuple[str, ...]:
    from modelspend.receipt import Status

    asked = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    for each in asked:
        if each not in set(Status):
            raise Usage(f"There is no status {each!r}.", f"Statuses: {', '.join(Status)}.")
    return asked


def failed_at(text: str) -> str:
    """Where an attempt must have failed, as it was typed. Raises Usage."""
    from modelspend.store import PLACES

    place, equals, _ = text.partition("=")
    if text != "any" and not (equals and place in PLACES):
        raise Usage(
            f"--failed cannot be {text!r}.",
            f"Write any, or {', '.join(f'{place}=NAME' for place in PLACES)}.",
        )
    return text


def _dollars(text: str) -> int:
    from modelspend.money import from_usd

    try:
        return from_usd(text.removeprefix("$"))
    except ValueError as error:
        raise Usage(f"--min-cost: {error}.", "Write dollars, such as --min-cost 0.05.") from None


def instant(option: str, text: str | None, now_ms: int) -> int | None:
    """Milliseconds UTC of what was typed for an option; None where nothing was. Raises Usage."""
    from modelspend import periods

    if text is None:
        return None
    try:
        return periods.instant(text, now_ms, end=option == "--until")
    except ValueError as error:
        raise Usage(f"{option}: {error}.") from None


_DEAR_USD = Decimal(1)


def view_named(name: str, here: Here) -> "tuple[View, ...]":
    """A view from the configuration, or one that is always there. Raises NotFound."""
    from modelspend.errors import NotFound
    from modelspend.receipt import Status
    from modelspend.settings import View

    saved = here.load().settings.views
    if name in saved:
        return (saved[name],)
    went_wrong = (Status.ERROR, Status.TRUNCATED, Status.INTERRUPTED)
    always: dict[str, tuple[View, ...]] = {
        "on-call": (View(status=went_wrong),),
        "finance": (View(min_cost_usd=_DEAR_USD), View(unpriced=True)),
        "security": (View(status=(Status.REFUSED,)),),
    }
    if name not in always:
        known = ", ".join([*always, *saved])
        raise NotFound(f"There is no view {name!r}.", f"Views: {known}; add one as [views.{name}].")
    return always[name]


def _from_view(view: "View", now_ms: int) -> "Filter":
    from modelspend.money import from_usd
    from modelspend.store import Filter

    return Filter(
        tenant=view.tenant,
        workflow=view.workflow,
        model=view.model,
        provider=view.provider,
        category=view.category,
        status=tuple(view.status),
        session=view.session,
        min_cost_pico=None if view.min_cost_usd is None else from_usd(view.min_cost_usd),
        min_latency_ms=view.min_latency_ms,
        unpriced=view.unpriced,
        since_ms=instant("since", view.since, now_ms),
    )
