"""The units of a `systemd --user` service: what they say, where they lie, asking their manager.

Hides systemd's quoting. The socket is systemd's own, so calls wait while the service starts anew,
and the first call starts it. A service does not see what is set in a shell, so its keys come from
a file of variables beside the configuration.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelspend.errors import DaemonUnreachable
from modelspend.record import frozen

SERVICE, SOCKET = "modelspend.service", "modelspend.socket"
_LEDGER = "X-Ledger="  # systemd leaves alone what begins with X-
_WAIT_S = 120


@frozen
class Service:
    """What the units are made of. `folders` are those that it writes beside the ledger's."""

    command: Sequence[str]
    ledger: Path
    folders: Sequence[Path]
    variables: Path
    listen: str
    drain_s: float
    environment: Mapping[str, str]


def units(of: Service) -> dict[str, str]:
    """The text of each unit by its name."""
    return {SERVICE: _service(of), SOCKET: _SOCKET.format(listen=of.listen)}


def _service(of: Service) -> str:
    own = "".join(f"Environment={quoted(f'{k}={v}')}\n" for k, v in of.environment.items())
    others = (quoted(f"-{one}") for one in of.folders)  # one that is missing stops no service
    return _SERVICE.format(
        command=" ".join(quoted(word, command=True) for word in of.command),
        environment=own,
        variables=escaped(str(of.variables)),
        stop_s=round(of.drain_s + 15),
        ledger=escaped(str(of.ledger)),
        folders=" ".join((quoted(str(of.ledger.parent)), *others)),
    )


_SOCKET = """\
# Made by: modelspend init --systemd
[Unit]
Description=modelspend: where the sidecar listens

[Socket]
ListenStream={listen}
NoDelay=true
Backlog=4096

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
# Made by: modelspend init --systemd
[Unit]
Description=modelspend: a sidecar for language-model calls
Requires=modelspend.socket
After=modelspend.socket
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{environment}EnvironmentFile=-{variables}
Restart=on-failure
RestartSec=1
WatchdogSec=30
TimeoutStartSec=600
TimeoutStopSec={stop_s}
KillMode=mixed
LimitNOFILE=65536
X-Ledger={ledger}

# It writes the folders of its ledger and of [siem] files, makes network connections, and no more.
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# These need user namespaces; where the system forbids them (status 226/NAMESPACE), take them out.
ProtectSystem=strict
ReadWritePaths={folders}
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes

[Install]
WantedBy=default.target
"""


def quoted(word: str, *, command: bool = False) -> str:
    """A word as systemd reads it back; in a command a dollar would be a variable."""
    safe = escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    if command:
        safe = safe.replace("$", "$$")
    return safe if safe == word and not any(c in word for c in " \t'\";") else f'"{safe}"'


def escaped(text: str) -> str:
    """A percent sign would begin a specifier."""
    return text.replace("%", "%%")


def folder(env: Mapping[str, str]) -> Path:
    """Where a user's own units lie (systemd.unit(5))."""
    home = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "systemd" / "user"


def python_command(config: Path | None) -> list[str]:
    """The sidecar in the foreground, by this very interpreter."""
    named = [] if config is None else ["--config", str(config)]
    return [sys.executable, "-m", "modelspend", *named, "serve", "--log-level", "info"]


def serves(ledger: Path, env: Mapping[str, str]) -> bool:
    """Whether a unit of ours for this ledger is known to a manager that runs."""
    try:
        text = (folder(env) / SERVICE).read_text("utf-8")
    except OSError:
        return False
    ours = f"{_LEDGER}{escaped(str(ledger))}" in text.splitlines()
    return ours and _ask("show", "--property=LoadState", "--value", SERVICE) == "loaded"


def start() -> None:
    """Start the service and its socket. Raises DaemonUnreachable."""
    _do("start", SOCKET, SERVICE)


def stop(pid: int) -> bool:
    """Stop the service and its socket, if that process is the service's; whether it is."""
    if _ask("show", "--property=MainPID", "--value", SERVICE) != str(pid):
        return False
    _do("stop", SOCKET, SERVICE)
    return True


def _ask(*words: str) -> str | None:
    """What the manager answers; None when there is none."""
    if shutil.which("systemctl") is None:
        return None
    done = subprocess.run(
        ["systemctl", "--user", *words], capture_output=True, text=True, timeout=_WAIT_S
    )
    return done.stdout.strip() if done.returncode == 0 else None


def _do(*words: str) -> None:
    done = subprocess.run(
        ["systemctl", "--user", *words], capture_output=True, text=True, env=dict(os.environ)
    )
    if done.returncode:
        raise DaemonUnreachable(
            f"systemctl --user {' '.join(words)} failed: {done.stderr.strip()}",
            "See: journalctl --user -u modelspend",
        )
