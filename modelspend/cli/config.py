"""`config show|check|path`: what is set, where each value came from, and whether it holds."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import typer

from modelspend.cli.context import here
from modelspend.cli.output import Json, draw, write_json

app = typer.Typer(help="Show and check the configuration.")


@app.command()
def show(
    ctx: typer.Context,
    json: Json = False,
    everything: bool = typer.Option(False, "--all", help="Also show what is left at its default."),
) -> None:
    """Show each setting, its value, and where the value came from."""
    from modelspend import settings

    loaded = here(ctx).load()
    values = settings.shown(loaded.settings)
    if json:
        write_json(
            [
                {"key": key, "value": _plain(value), "origin": loaded.origins[key]}
                for key, value in values.items()
            ]
        )
        return
    rows = [
        (key, _toml(value), loaded.origins[key])
        for key, value in values.items()
        if everything or loaded.origins[key] != "default" or key in _ALWAYS
    ]
    draw(("key", "value", "origin"), rows)


_ALWAYS = ("server.host", "server.port", "store.path", "store.durability", "routing.mode")


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value if isinstance(value, (str, int, float, Decimal, type(None))) else str(value)


def _toml(value: Any) -> str:
    """A value as the file would say it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, dict):
        said = ", ".join(
            f"{key} = {_toml(each)}" for key, each in value.items() if each is not None
        )
        return "{ " + said + " }"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if isinstance(value, (int, Decimal)) else f'"{value}"'


@app.command()
def check(ctx: typer.Context, json: Json = False) -> None:
    """Check the configuration whole; every fault is named with its place."""
    from modelspend.catalog import Catalog
    from modelspend.errors import ConfigInvalid

    at = here(ctx)
    try:
        loaded = at.load()
        Catalog.load(loaded.settings.providers, at.env)
    except ConfigInvalid as error:
        if json:
            write_json({"ok": False, "problems": list(error.problems), "notes": []})
        raise
    if json:
        file = str(loaded.path) if loaded.path else None
        write_json({"ok": True, "path": file, "problems": [], "notes": list(loaded.notes)})
    else:
        typer.echo(f"{loaded.path or 'No configuration file; the defaults'}: ok")


@app.command()
def path(ctx: typer.Context, json: Json = False) -> None:
    """Print the path of the configuration file, whether or not it exists."""
    from modelspend import places

    at = here(ctx)
    found: Path = places.config(at.config, at.env) or places.default_config()
    if json:
        write_json({"path": str(found), "exists": found.is_file()})
    else:
        typer.echo(str(found))
