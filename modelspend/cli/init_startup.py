"""`init --systemd` and `--launchd`: files that make the sidecar a service of this user.

They name this very interpreter, configuration and ledger. Nothing is started, and no key is
written: what to do about both is said.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelspend.cli import init_launchd, init_systemd
from modelspend.cli.context import Here, note
from modelspend.cli.output import write_json
from modelspend.errors import Usage

if TYPE_CHECKING:
    from modelspend.settings import Loaded, Settings

_CARRIED = ("MODELSPEND_STORE__PATH",)
"""Variables of this shell that say where things are, which the service would not see."""


def write_startup(at: Here, *, systemd: bool, launchd: bool, overwrite: bool, json: bool) -> None:
    """Write the files and say what comes next. Raises Usage, ConfigInvalid."""
    from modelspend.cli.init import keys_found, write_whole

    if systemd and launchd:
        raise Usage("--systemd and --launchd exclude each other.", "Choose that of this system.")
    files = _units(at) if systemd else _agent(at)
    taken = [path for path in files if path.exists()]
    if taken and not overwrite:
        raise Usage(
            f"{taken[0]} exists already and was left as it is.",
            "Replace it (a copy is kept): add --yes",
        )
    kept = [write_whole(path, text, overwrite=overwrite) for path, text in files.items()]
    keys = keys_found(at.env)
    steps = _systemd_steps(at, keys) if systemd else _launchd_steps(keys)
    if json:
        write_json({"written": [str(path) for path in files],
                    "kept": [str(path) for path in kept if path], "next": steps})  # fmt: skip
        return
    for path in files:
        typer.echo(str(path))
    for old in filter(None, kept):
        note(f"what was there is kept as {old}")
    for step in steps:
        typer.echo(step, err=True)


def _units(at: Here) -> dict[Path, str]:
    loaded = _loaded(at)
    server = loaded.settings.server
    host = f"[{server.host.strip('[]')}]" if ":" in server.host else server.host
    if host == "localhost":  # an address is wanted, not a name
        host = "127.0.0.1"
    if not server.port:
        raise Usage(
            "A service needs a port of its own, and server.port is 0.", "Write server.port = 8787."
        )
    made = init_systemd.units(
        init_systemd.Service(
            command=init_systemd.python_command(_config(at)),
            ledger=loaded.ledger,
            folders=_written(loaded.settings),
            variables=_variables(at),
            listen=f"{host}:{server.port}",
            drain_s=server.drain_s,
            environment=_carried(at.env),
        )
    )
    folder = init_systemd.folder(at.env)
    return {folder / name: text for name, text in made.items()}


def _agent(at: Here) -> dict[Path, bytes]:
    loaded = _loaded(at)
    made = init_launchd.agent(
        init_launchd.Agent(
            command=init_systemd.python_command(_config(at)),
            ledger=loaded.ledger,
            drain_s=loaded.settings.server.drain_s,
            environment=_carried(at.env),
        )
    )
    return {init_launchd.place(): made}


def _loaded(at: Here) -> "Loaded":
    """The settings; the ledger's folder is made, for a service may make none."""
    loaded = at.load()
    loaded.ledger.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return loaded


def _written(settings: "Settings") -> list[Path]:
    """The folders of files that SIEM sinks write; made where that is allowed, for a service may
    make none."""
    places = (one.to for one in settings.siem.values() if one.enabled and one.to)
    found = {Path(to).expanduser().parent for to in places if to.startswith(("/", "~"))}
    for folder in found:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return sorted(found)


def _config(at: Here) -> Path | None:
    from modelspend import places

    found = places.config(at.config, at.env)
    return None if found is None else found.absolute()


def _variables(at: Here) -> Path:
    """The file of the service's own variables, beside the configuration."""
    from modelspend import places

    return (_config(at) or places.default_config()).with_name("environment")


def _carried(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: str(Path(env[name]).expanduser().absolute()) for name in _CARRIED if env.get(name)
    }


def _systemd_steps(at: Here, keys: Mapping[str, str]) -> list[str]:
    names = ", ".join(sorted(keys.values())) or "such as OPENAI_API_KEY"
    return [
        f"Keys: a service does not see this shell's. Write them ({names}) as NAME=value lines to"
        f" {_variables(at)}, mode 0600.",
        "Start: systemctl --user daemon-reload && systemctl --user enable --now"
        f" {init_systemd.SOCKET} {init_systemd.SERVICE}",
        'Without a login too: loginctl enable-linger "$USER"',
        "Then: modelspend status; journalctl --user -u modelspend",
    ]


def _launchd_steps(keys: Mapping[str, str]) -> list[str]:
    names = ", ".join(sorted(keys.values())) or "such as OPENAI_API_KEY"
    return [
        f"Keys: an agent does not see this shell's. Write them ({names}) under"
        " EnvironmentVariables in the file, which only you can read.",
        f'Start: launchctl bootstrap gui/$(id -u) "{init_launchd.place()}"',
        f"Stop: launchctl bootout gui/$(id -u)/{init_launchd.LABEL}",
    ]
