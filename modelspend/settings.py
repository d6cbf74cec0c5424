"""Settings: one frozen tree. Flags win over `MODELSPEND_*`, which win over the file, over defaults.

Hides where values come from; what they are is told in `sections`. Secrets never stand in the tree:
it names the environment variables that hold them. `load` is the only place in the product's plain
Python that reads a file.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from modelspend import budgets, layers, places, windows
from modelspend.alert_sections import Alerts, Email, PagerDuty, Slack
from modelspend.errors import ConfigInvalid
from modelspend.layers import Layer, Problem
from modelspend.money import from_usd
from modelspend.record import frozen
from modelspend.sections import (
    BUILT_IN_PROFILE,
    Budget,
    Cache,
    Circuits,
    Constraints,
    DialectName,
    Limit,
    ModelFacts,
    PriceOverride,
    Profile,
    Provider,
    Rates,
    Retries,
    Rewrite,
    Routing,
    Savings,
    Server,
    Settings,
    Store,
    Tenant,
    Upstream,
    View,
    Workflow,
)
from modelspend.sink_sections import Datadog, Otlp, Siem, Webhook

__all__ = [
    "BUILT_IN_PROFILE",
    "Alerts",
    "Budget",
    "Cache",
    "Circuits",
    "Constraints",
    "Datadog",
    "DialectName",
    "Email",
    "Limit",
    "Loaded",
    "ModelFacts",
    "Otlp",
    "PagerDuty",
    "PriceOverride",
    "Profile",
    "Provider",
    "Rates",
    "Retries",
    "Rewrite",
    "Routing",
    "Savings",
    "Server",
    "Settings",
    "Siem",
    "Slack",
    "Store",
    "Tenant",
    "Upstream",
    "View",
    "Webhook",
    "Workflow",
    "budgets_at",
    "budgets_of",
    "is_loopback",
    "load",
    "shown",
]


@frozen(kw_only=True)
class Loaded:
    """The settings, the file they came from, and where each value came from.

    `origins` maps dotted keys to `default`, `config.toml:3`, a variable's name, or `flag`. `notes`
    are sentences about what is set but has no effect in this version: show them, never hide them.
    """

    settings: Settings
    path: Path | None
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def ledger(self) -> Path:
        """Where the ledger lies."""
        return self.settings.store.path or places.default_ledger()


def load(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    policy: Path | None = None,
) -> Loaded:
    """The settings from a file, variables and flags (`overrides`: dotted key → value).

    Without `path`, `MODELSPEND_CONFIG` names the file, else the platform's folder may hold one.
    `policy` is a second file: what it says about decisions and prices wins over all others, and
    the rest of it is checked and left out.
    Raises ConfigInvalid with every problem found, each with its place and what to write instead.
    """
    env = os.environ if env is None else env
    found = _find(path, env)
    read = [_file(found)] if found else []
    read += _variables(env, read[0].tree if read else {})
    read += _flags(overrides or {})
    read += [_file(policy)] if policy else []
    problems = [problem for layer in read for problem in layer.problems]
    for layer in read:
        textual = layer.origin in env
        problems += layers.check(Settings, layer, textual=textual)
    _refuse(problems)
    if policy:
        read[-1] = _about_decisions(read[-1])
    settings, origins = _merge(read, found)
    _refuse(_contradictions(settings, read))
    return Loaded(settings=settings, path=found, origins=origins, notes=_notes(settings))


def _find(path: Path | None, env: Mapping[str, str]) -> Path | None:
    chosen = places.config(path, env)
    if chosen is not None and not chosen.is_file():
        by = "--config" if path is not None else places.CONFIG_VARIABLE
        what = "is a folder" if chosen.is_dir() else "does not exist"
        raise ConfigInvalid(
            f"The configuration file {chosen} (named by {by}) {what}.",
            "Name a file, or write one there: modelspend init",
        )
    return chosen


def _file(path: Path) -> Layer:
    try:
        return layers.read_toml(str(path), path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        problem = Problem(str(path), "", f"not UTF-8 text (byte {error.start}).")
    except OSError as error:
        problem = Problem(str(path), "", f"cannot be read: {error.strerror}.")
    return Layer(str(path), {}, problems=(problem,))


_DECIDING = ("routing", "profiles", "providers", "models", "prices", "tenants", "workflows")


def _about_decisions(layer: Layer) -> Layer:
    """The layer without the sections that no decision and no price depends on."""
    tree = {name: table for name, table in layer.tree.items() if name in _DECIDING}
    return replace(layer, tree=tree)


_PREFIX = "MODELSPEND_"
_NOT_SETTINGS = ("CONFIG", "DEBUG", "DATA", "KEY_")
"""What else begins with our prefix: the file's own path, and variables that hold keys."""


def _variables(env: Mapping[str, str], tree: Mapping[str, Any]) -> list[Layer]:
    """One layer for each variable that sets something, in the order of their names."""
    held = {name for _, value in layers.leaves(tree) for name in _texts(value)}
    ours = sorted(name for name, value in env.items() if name.startswith(_PREFIX) and value)
    read = (_variable(name, env[name]) for name in ours if name not in held)
    return [layer for layer in read if layer is not None]


def _texts(value: Any) -> list[str]:
    return [
        text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
    ]


def _variable(name: str, value: str) -> Layer | None:
    said = name.removeprefix(_PREFIX).lower()
    section = said.partition("__")[0]
    if section not in Settings.model_fields:
        return _unknown_variable(name, said)
    # 30 ms that are paid only where a variable is set
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

    class Variables(Settings, BaseSettings):
        """The same tree as pydantic-settings wants it, to read one variable at a time."""

        model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__")

    source = EnvSettingsSource(Variables)
    source.env_vars = {name.lower(): value}
    try:
        return Layer(name, source())
    except SettingsError:
        text = 'not readable; write a list as ["one", "two"] and a table as {"key": "value"}.'
        return Layer(name, {}, problems=(Problem(name, said.replace("__", "."), text),))


def _unknown_variable(name: str, said: str) -> Layer | None:
    """A variable that looks like a setting and is none is refused; any other is left alone."""
    if said.upper().startswith(_NOT_SETTINGS):
        return None
    known = [
        f"{section}__{key}"
        for section in Settings.model_fields
        for key in layers.known_keys(Settings, (section,))
    ]
    near = layers.nearest(said, known)
    if near is None and "__" not in said:
        return None
    hint = f"did you mean {_PREFIX}{near.upper()}?" if near else "see: modelspend help config."
    return Layer(name, {}, problems=(Problem(name, "", f"sets nothing; {hint}"),))


def _flags(overrides: Mapping[str, Any]) -> list[Layer]:
    read = []
    for key, value in overrides.items():
        if value is not None:
            tree: Any = str(value) if isinstance(value, Path) else value
            for step in reversed(key.split(".")):
                tree = {step: tree}
            read.append(Layer("flag", tree))
    return read


def _merge(read: list[Layer], file: Path | None) -> tuple[Settings, dict[str, str]]:
    """The tree of all layers, later ones over earlier ones, and where each leaf came from."""
    tree: dict[str, Any] = {}
    where: dict[str, str] = {}
    for layer in read:
        for path, value in layers.leaves(layer.tree):
            _put(tree, path, value)
            where[layers.dotted(path)] = layer.place(path)
    tree["store"] = {**tree.get("store", {}), "path": _ledger(tree, file, where)}
    settings = Settings.model_validate(tree, context={"textual": True})
    return settings, {key: where.get(key, "default") for key in shown(settings)}


def _ledger(tree: Mapping[str, Any], file: Path | None, where: Mapping[str, str]) -> Path:
    named = tree.get("store", {}).get("path")
    if not named:
        return places.default_ledger()
    if file and where["store.path"].startswith(f"{file}:"):
        return places.beside(file, named)
    return Path(named).expanduser().absolute()


def _put(tree: dict[str, Any], path: layers.Path, value: Any) -> None:
    for step in path[:-1]:
        inner = tree.get(str(step))
        tree[str(step)] = tree = dict(inner) if isinstance(inner, Mapping) else {}
    if path:
        tree[str(path[-1])] = value


def shown(settings: Settings) -> dict[str, Any]:
    """Every setting by its dotted key, in the order of the schema; what is unset is null."""
    tree = settings.model_dump(mode="python", by_alias=True)
    return {layers.dotted(path): value for path, value in layers.leaves(tree)}


def _refuse(problems: list[Problem]) -> None:
    if not problems:
        return
    told = tuple(dict.fromkeys(str(problem) for problem in problems))
    many = f"The configuration has {len(told)} problems:\n  " if len(told) > 1 else ""
    raise ConfigInvalid(
        many + "\n  ".join(told),
        "Every key is explained in: modelspend help config",
        problems=told,
    )


def _contradictions(settings: Settings, read: list[Layer]) -> list[Problem]:
    """What only the whole tree shows: an open door without keys, a ledger that cannot be."""
    return [
        *_open_door(settings, read),
        *_shared_keys(settings, read),
        *_no_such_profile(settings, read),
        *_twice_capped(settings, read),
        *_unreachable(settings, read),
    ]


def _place(read: list[Layer], *path: str) -> str:
    """Where the last layer that sets a key sets it."""
    for layer in reversed(read):
        if any(found[: len(path)] == path for found, _ in layers.leaves(layer.tree)):
            return layer.place(path)
    return "default"


def _open_door(settings: Settings, read: list[Layer]) -> list[Problem]:
    server = settings.server
    if is_loopback(server.host):
        return []
    place = _place(read, "server", "host")
    if not server.allow_remote:
        text = f"{server.host} is no loopback address; write 127.0.0.1, or set server.allow_remote."
        return [Problem(place, "server.host", text)]
    if not any(tenant.keys for tenant in settings.tenants.values()):
        text = "remote callers need keys; name their variables in [tenants.NAME] keys = [...]."
        return [Problem(_place(read, "server", "allow_remote"), "server.allow_remote", text)]
    return []


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _shared_keys(settings: Settings, read: list[Layer]) -> list[Problem]:
    owner: dict[str, str] = {}
    problems = []
    for name, tenant in settings.tenants.items():
        for key in tenant.keys:
            if owner.setdefault(key, name) != name:
                text = f"{key} already names a key of tenant {owner[key]}; each needs its own."
                place = _place(read, "tenants", name, "keys")
                problems.append(Problem(place, layers.dotted(("tenants", name, "keys")), text))
    return problems


def _no_such_profile(settings: Settings, read: list[Layer]) -> list[Problem]:
    """Every name of a profile must lead to one."""
    named = [
        (("routing", "profile"), settings.routing.profile),
        *((("tenants", name, "profile"), each.profile) for name, each in settings.tenants.items()),
        *((("workflows", name, "profile"), e.profile) for name, e in settings.workflows.items()),
    ]
    there = {"default", *settings.profiles}
    return [
        Problem(
            _place(read, *path),
            layers.dotted(path),
            f"there is no profile {name}; write [profiles.{name}], or one of:"
            f" {', '.join(sorted(there))}.",
        )
        for path, name in named
        if name is not None and name not in there
    ]


def _twice_capped(settings: Settings, read: list[Layer]) -> list[Problem]:
    """Two budgets of the same scope, name and window: which one holds would be a guess."""
    seen: dict[str, str] = {}
    problems = []
    for path, budget in budgets_at(settings):
        where = layers.dotted(path)
        first = seen.setdefault(budget.key, where)
        if first != where:
            text = f"{first} already caps {budget.title} per {budget.window.name}; keep one."
            problems.append(Problem(_place(read, *path), where, text))
    return problems


def budgets_of(settings: Settings) -> tuple[budgets.Budget, ...]:
    """The budgets that the file declares."""
    return tuple(budget for _, budget in budgets_at(settings))


def budgets_at(settings: Settings) -> Iterator[tuple[tuple[str, ...], budgets.Budget]]:
    """The same, each with the place of its key."""
    for name, tenant in settings.tenants.items():
        if tenant.budget_usd is not None:
            yield (
                ("tenants", name, "budget_usd"),
                budgets.Budget(
                    scope="tenant",
                    name=name,
                    window=windows.parse("month"),
                    cap_pico=from_usd(tenant.budget_usd),
                    origin=f"tenants.{name}",
                ),
            )
    for name, section in settings.budgets.items():
        yield (
            ("budgets", name),
            budgets.Budget(
                scope=section.scope,
                name=budgets.PROCESS if section.scope == "process" else section.name,
                window=windows.parse(section.window, section.zone),
                cap_pico=None if section.cap_usd is None else from_usd(section.cap_usd),
                hard=section.hard,
                unpriced=section.unpriced,
                unpriced_pico=from_usd(section.unpriced_usd),
                output_limit=section.output_limit,
                slice_pico=None if section.slice_usd is None else from_usd(section.slice_usd),
                marks=tuple(sorted(set(section.alert_at))),
                origin=f"budgets.{name}",
            ),
        )


def _unreachable(settings: Settings, read: list[Layer]) -> list[Problem]:
    """Why a ledger cannot lie where it should: a folder, below a file, or not ours to write."""
    path = settings.store.path
    if path is None:
        return []
    place = _place(read, "store", "path")
    if path.is_dir():
        return [Problem(place, "store.path", f"{path} is a folder; write {path / 'ledger.db'}.")]
    above = next((folder for folder in path.parents if folder.exists()), path.parent)
    if not above.is_dir():
        return [Problem(place, "store.path", f"{above} is a file, so nothing can lie below it.")]
    if not path.exists() and not os.access(above, os.W_OK | os.X_OK):
        return [Problem(place, "store.path", f"{above} cannot be written; name another folder.")]
    if path.exists() and not os.access(path, os.R_OK):
        return [Problem(place, "store.path", f"{path} cannot be read by this user.")]
    return []


def _notes(settings: Settings) -> tuple[str, ...]:
    """What is set and has no effect."""
    sliced = (
        f"{layers.dotted(('budgets', name, 'slice_usd'))} has no effect: only a hard cap is held."
        for name, budget in settings.budgets.items()
        if budget.slice_usd is not None and (not budget.hard or budget.cap_usd is None)
    )
    killed = (
        f"{layers.dotted(('limits', name, 'then'))} refuses only: sessions and keys can be killed."
        for name, limit in settings.limits.items()
        if limit.then == "kill" and limit.scope == "tenant"
    )
    empty = (
        f"{layers.dotted(('limits', name))} has no effect: set usd_per_minute or repeats."
        for name, limit in settings.limits.items()
        if limit.usd_per_minute is None and limit.repeats is None
    )
    return (*sliced, *killed, *empty)
