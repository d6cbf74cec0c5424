"""`status`: what the running sidecar says of itself."""

from collections.abc import Mapping
from typing import Any

import typer

from modelspend.cli.context import here
from modelspend.cli.output import Json, draw, write_json


def status(ctx: typer.Context, json: Json = False) -> None:
    """Show the running sidecar: address, ledger, mode, calls under way; exit 5 without one."""
    from modelspend.cli import client

    told = client.find(here(ctx).ledger).get("/v1/status")
    if json:
        write_json(told)
        return
    draw(("what", "value"), [(key, _said(value)) for key, value in told.items()])


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_part(one) if isinstance(one, dict) else str(one) for one in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in value.items()) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _part(one: Mapping[str, Any]) -> str:
    if "fault" not in one:
        failing = f" ({one['last_error']})" if one["retry_at"] else ""
        return (
            f"{one['name']}: {one['sent']} sent, {one['dropped']} dropped, {one['queued']} wait"
            f"{failing}"
        )
    return f"{one['fault']} at {one['provider']} until {one['ends_at'][11:19]}"
