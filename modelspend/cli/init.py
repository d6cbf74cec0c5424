"""`init`: a configuration file in which every key is explained, made from the sections themselves.

Everything in it is a comment that shows the default, so a fresh file changes nothing. Keys are
looked for in the environment by name; their values are not read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from modelspend.cli.context import here, note
from modelspend.cli.output import Json, write_json

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking again.")]


def init(
    ctx: typer.Context,
    yes: Yes = False,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Write the units of a systemd --user service instead.")
    ] = False,
    launchd: Annotated[
        bool, typer.Option("--launchd", help="Write a launchd agent (macOS) instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a configuration file in which every key is explained, and say what to do next."""
    from modelspend import places

    at = here(ctx)
    if systemd or launchd:
        from modelspend.cli.init_startup import write_startup

        write_startup(at, systemd=systemd, launchd=launchd, overwrite=yes, json=json)
        return
    path = places.config(at.config, at.env) or places.default_config()
    kept = write_whole(path, example(), overwrite=yes)
    found = keys_found(at.env)
    if json:
        write_json({"path": str(path), "kept": str(kept) if kept else None, "keys": found})
        return
    typer.echo(str(path))
    if kept:
        note(f"the file that was there is kept as {kept}")
    for line in _next_steps(found):
        typer.echo(line, err=True)


def keys_found(env: Mapping[str, str]) -> dict[str, str]:
    """Provider → the name of the variable that holds its key, for each key that is set."""
    from modelspend.catalog import known_providers

    return {
        name: next(key for key in provider.keys if env.get(key))
        for name, provider in sorted(known_providers().items())
        if any(env.get(key) for key in provider.keys)
    }


def _next_steps(found: Mapping[str, str]) -> Iterator[str]:
    if found:
        yield "Keys found: " + ", ".join(f"{key} ({name})" for name, key in found.items())
        yield "Next: modelspend serve, then point an app at it: modelspend help clients"
    else:
        yield "No provider's key was found in this shell (such as OPENAI_API_KEY)."
        yield "Next: set one and run modelspend serve; or, without any key: modelspend demo"


def write_whole(path: Path, text: str | bytes, *, overwrite: bool) -> Path | None:
    """Write a private file whole or not at all; the name that an older one is kept under."""
    import os

    from modelspend.errors import Usage

    if path.is_dir():
        raise Usage(f"{path} is a folder.", f"Name a file: --config {path / 'config.toml'}")
    exists = path.exists()
    if exists and not overwrite:
        raise Usage(
            f"{path} exists already and was left as it is.",
            "Replace it (a copy is kept): add --yes",
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    data = text.encode() if isinstance(text, str) else text
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    kept = path.with_name(f"{path.name}.old") if exists else None
    if kept:
        path.replace(kept)
    fresh.replace(path)
    return kept


_NAMED: Mapping[
    str, Mapping[str, Mapping[str, Any]]
] = {  # a section of names is shown by such examples
    "profiles": {
        "default": {
            "simple": ["gpt-5-nano", "claude-haiku-4-5"],
            "standard": ["gpt-5-mini", "claude-haiku-4-5"],
            "deep_reasoning": ["claude-sonnet-4-6", "gpt-5"],
            "constraints": {"providers": ["openai", "anthropic"], "max_usd": 0.5},
        }
    },
    "providers": {
        "local": {
            "base_url": "http://127.0.0.1:18080/v1",
            "dialects": ["openai.chat", "openai.responses", "anthropic.messages"],
            "api_key_env": "LOCAL_API_KEY",
            "models": ["smollm2"],
            "price": "free",
            "region": "eu-central-1",
            "trains": False,
            "on_disconnect": "cancel",
            "api_version": "2025-04-01-preview",
        }
    },
    "models": {
        "local/smollm2": {"context": 8192, "output": 2048, "lacks": ["tools", "vision"]},
    },
    "prices": {
        "local/tuned-1": {
            "input": 0.2,
            "output": 0.8,
            "from": "2026-11-01",
            "until": "2027-01-01",
        }
    },
    "tenants": {
        "acme-prod": {
            "budget_usd": 4000,
            "keys": ["MODELSPEND_KEY_ACME"],
            "keep_bodies": "none",
            "body_retention_days": 7,
            "profile": "default",
            "constraints": {"regions": ["eu-central-1"]},
            "cache": True,
            "cache_ttl_s": 600,
            "rewrite": True,
        }
    },
    "workflows": {
        "support-bot": {
            "profile": "default",
            "constraints": {"no_training": True},
            "cache": True,
            "cache_ttl_s": 60,
            "rewrite": False,
        }
    },
    "budgets": {
        "each-session": {
            "scope": "session",
            "name": "*",
            "cap_usd": 5,
            "window": "24h",
            "zone": "Europe/Berlin",
            "unpriced": "hold",
            "unpriced_usd": 0.5,
            "slice_usd": 0.02,
        }
    },
    "limits": {
        "loops": {"scope": "session", "name": "*", "usd_per_minute": 2, "repeats": 20},
    },
    "webhooks": {
        "ops": {
            "url": "https://hooks.example.com/modelspend",
            "tenant": "acme-prod",
            "secrets": ["OPS_HOOK_SECRET"],
        }
    },
    "siem": {
        "soc": {
            "format": "cef",
            "to": "tls://siem.example.com:6514",
            "tenant": "acme-prod",
            "token_env": "SOC_TOKEN",
            "ca_file": "~/siem-ca.pem",
            "hostname": "gateway-1",
        }
    },
    "views": {
        "dear-errors": {
            "tenant": "acme-prod",
            "workflow": "support-bot",
            "model": "gpt-4.1",
            "provider": "openai",
            "category": "reasoning",
            "status": ["error", "truncated"],
            "session": "conv-42",
            "min_cost_usd": 0.5,
            "min_latency_ms": 2000,
            "unpriced": True,
            "since": "7d",
        }
    },
}
_WITHIN: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]] = {
    # a section of names within another one
    ("alerts", "slack"): ("ops", {"url_env": "OPS_SLACK_URL", "rules": ["budget_burn"]}),
    ("alerts", "pagerduty"): (
        "night",
        {"level": "critical", "key_env": "PAGERDUTY_KEY", "url": "https://events.example.com/v2"},
    ),
    ("alerts", "email"): (
        "finance",
        {
            "rules": ["budget_burn", "velocity"],
            "host": "smtp.example.com",
            "port": 587,
            "ca_file": "~/modelspend/mail-ca.pem",
            "username_env": "SMTP_USER",
            "password_env": "SMTP_PASSWORD",
            "sender": "modelspend@example.com",
            "to": ["finance@example.com"],
        },
    ),
}
_OTHERWISE = {
    "path": "~/modelspend/ledger.db",
    "baseline_model": "openai/gpt-4.1",
    "url_env": "OPS_HOOK_URL",
    "to_env": "SOC_ADDRESS",
    "tenant": "acme-prod",
    "endpoint": "https://collector.example.com/v1/traces",
    "url": "https://relay.example.com",
    "protocol": "http/protobuf",
}
_UNIT_PRICE = 1


def example() -> str:
    """The text of `config.example.toml`: every key, its meaning, its default or an example."""
    return "\n".join(_example()) + "\n"


def _example() -> Iterator[str]:
    from modelspend.layers import dotted
    from modelspend.sections import Settings

    yield "## modelspend's configuration. A line with one # shows a default or an example: take the"
    yield "## mark away to set it. With nothing set, provider keys in the environment are enough."
    yield "## Any key can be set as a variable too: MODELSPEND_SERVER__PORT=9000."
    for section in Settings.model_fields:
        for named in _NAMED.get(section, ("",)):
            path = (section, named) if named else (section,)
            yield ""
            yield from _table(path, f"{'# ' if named else ''}[{dotted(path)}]")
        for within, (named, _) in _WITHIN.items():
            if within[0] == section:
                yield ""
                yield from _table((*within, named), f"# [{dotted((*within, named))}]")


def _table(path: tuple[str, ...], header: str) -> Iterator[str]:
    from modelspend.layers import field_at, known_keys, table_at
    from modelspend.sections import Settings

    table = table_at(Settings, path)
    assert table is not None
    yield from _comment((table.__doc__ or "").partition("\n")[0])
    yield header
    shown: Mapping[str, Any] = _NAMED.get(path[0], {}).get(path[-1], {})
    if path[:-1] in _WITHIN:
        shown = _WITHIN[path[0], path[1]][1]
    for key in known_keys(Settings, path):
        if (*path, key) in _WITHIN:
            continue
        declared = field_at(Settings, (*path, key))
        assert declared is not None
        value = shown.get(key, declared.default)
        if value is None:
            value = _OTHERWISE.get(key, _UNIT_PRICE)
        yield from _comment(declared.description or "")
        yield f"# {_toml(key, value)}"


def _comment(text: str) -> list[str]:
    return [f"## {line}" for line in wrap(text, 94)]


def _toml(key: str, value: Any) -> str:
    """`key = value` on one line."""
    import tomli_w
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return f"{key} = {{ {', '.join(_toml(name, each) for name, each in value.items())} }}"
    if isinstance(value, (list, tuple)):
        inner = (tomli_w.dumps({"v": each}).strip().removeprefix("v = ") for each in value)
        return f"{key} = [{', '.join(inner)}]"
    return tomli_w.dumps({key: value}).strip()
