"""The command line: one file for each command, listed in `COMMANDS` in the order of the help.

A command file imports only Typer and its neighbours here; whatever is heavy is imported inside the
command, so that help, errors and completions answer at once.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, cast

import typer
from typer.main import get_group

from modelspend import __version__
from modelspend.cli import (
    alerts,
    backtest,
    backup,
    budgets,
    cache_misses,
    cassette,
    circuits,
    completions,
    config,
    demo,
    doctor,
    down,
    drill,
    eval,
    events,
    explain,
    export,
    failovers,
    forecast,
    help,
    incidents,
    init,
    kill,
    latency,
    mix,
    prices,
    receipts,
    reconcile,
    reload,
    replay,
    restore,
    roi,
    route,
    run,
    savings,
    serve,
    simulate,
    sinks,
    spend,
    status,
    tail,
    tenants,
    top,
    up,
    verify,
    webhooks,
)
from modelspend.cli.context import Commands, ConfigFile, take_config

Command = Callable[..., None] | typer.Typer

COMMANDS: tuple[tuple[str, Command], ...] = (
    ("demo", demo.demo),
    ("serve", serve.serve),
    ("run", run.run),
    ("up", up.up),
    ("down", down.down),
    ("reload", reload.reload),
    ("status", status.status),
    ("top", top.top),
    ("doctor", doctor.doctor),
    ("init", init.init),
    ("config", config.app),
    ("tail", tail.tail),
    ("receipts", receipts.app),
    ("explain", explain.explain),
    ("route", route.route),
    ("circuits", circuits.app),
    ("incidents", incidents.incidents),
    ("failovers", failovers.failovers),
    ("events", events.events),
    ("webhooks", webhooks.app),
    ("sinks", sinks.app),
    ("drill", drill.drill),
    ("replay", replay.replay),
    ("cassette", cassette.app),
    ("backtest", backtest.backtest),
    ("spend", spend.spend),
    ("savings", savings.savings),
    ("mix", mix.mix),
    ("latency", latency.latency),
    ("tenants", tenants.tenants),
    ("alerts", alerts.app),
    ("forecast", forecast.forecast),
    ("roi", roi.roi),
    ("cache-misses", cache_misses.cache_misses),
    ("export", export.app),
    ("verify", verify.verify),
    ("backup", backup.backup),
    ("restore", restore.restore),
    ("reconcile", reconcile.reconcile),
    ("prices", prices.app),
    ("budgets", budgets.app),
    ("kill", kill.kill),
    ("eval", eval.app),
    ("simulate", simulate.simulate),
    ("completions", completions.completions),
    ("help", help.help),
)
"""Every command by its name; a group of commands is a `typer.Typer`."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"modelspend {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    config: ConfigFile = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A sidecar for language-model calls: every call leaves one exact receipt in dollars.

    Start here: modelspend demo. Longer help: modelspend help.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


class _OnDemand(Mapping[str, Any]):
    """Every command by its name, in the order of `COMMANDS`, made when it is asked for: to make
    all of them takes longer than most commands do."""

    def __getitem__(self, name: str) -> Any:
        return _made(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _made(name: str) -> Any:
    command = dict(COMMANDS)[name]
    alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.callback()(_root)
    if isinstance(command, typer.Typer):
        _add_group(alone, name, command)
    else:
        alone.command(name)(take_config(command))
    return get_group(alone).commands[name]


def _add_group(to: typer.Typer, name: str, group: typer.Typer) -> None:
    for each in group.registered_commands:
        if each.callback is not None:
            each.callback = take_config(each.callback)
    alone = group.registered_callback
    by_itself = alone is not None and alone.invoke_without_command is True
    if by_itself and alone is not None and alone.callback is not None:
        alone.callback = take_config(alone.callback)
    to.add_typer(group, name=name, no_args_is_help=not by_itself)


class _Root(Commands):
    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.commands = cast(Any, _OnDemand())  # it is never written to

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of `COMMANDS`, groups among the others."""
        return list(self.commands)


def _build() -> typer.Typer:
    """The program as one Typer application, every command with `--config`."""
    root = typer.Typer(
        cls=_Root,
        invoke_without_command=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    root.callback()(_root)
    return root


app = _build()


def main() -> None:
    """The `modelspend` program."""
    app(prog_name="modelspend", args=sys.argv[1:])
