"""The launchd agent of the sidecar on a Mac: what its property list says and where it lies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelspend.record import frozen

LABEL = "com.modelspend.sidecar"


@frozen
class Agent:
    """What the property list is made of."""

    command: Sequence[str]
    ledger: Path
    drain_s: float
    environment: Mapping[str, str]


def agent(of: Agent) -> bytes:
    """The property list. It is restarted when it fails, not when it was told to stop."""
    import plistlib

    log = str(of.ledger.with_name("sidecar.log"))
    said: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": list(of.command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ExitTimeOut": round(of.drain_s + 15),
        "Umask": 0o077,
        "ProcessType": "Interactive",  # a background one is slowed down, and calls with it
        "SoftResourceLimits": {"NumberOfFiles": 65_536},
        "StandardOutPath": log,
        "StandardErrorPath": log,
        "EnvironmentVariables": dict(of.environment),
    }
    return plistlib.dumps(said, sort_keys=False)


def place() -> Path:
    """Where a user's agents lie (launchd.plist(5))."""
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
