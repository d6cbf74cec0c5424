"""What sinks take from where they run: variables, the name of this machine."""

import socket
from collections.abc import Mapping

from modelspend.errors import ConfigInvalid


def held(env: Mapping[str, str], key: str, variable: str) -> str:
    """What a variable holds. Raises ConfigInvalid when it is not set."""
    found = env.get(variable, "").strip()
    if not found:
        raise ConfigInvalid(
            f"{key} names {variable}, which is not set.", "Set it where the sidecar is started."
        )
    return found


def source() -> str:
    """Where this sidecar runs."""
    return socket.gethostname()
