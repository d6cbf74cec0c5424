"""The program that `run` runs: how it is found, what it may know, how its signals and end are ours.

What a reader would not guess: Ctrl-C is not passed on from a terminal. The terminal has sent it to
the program already, and a second one would cut its clean-up short.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from modelspend.errors import CannotRun, NoCommand

if TYPE_CHECKING:
    from modelspend.settings import Settings

_PASSED_ON = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_FROM_TERMINAL = ("SIGINT", "SIGQUIT")

_OPENAI = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_OTHERS = ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE", "GOOGLE_GEMINI_BASE_URL")
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")
_MORE_SECRETS = ("ANTHROPIC_AUTH_TOKEN",)  # wins over the API key in Anthropic's own clients
_NO_PROXY = ("127.0.0.1", "localhost", "::1")


def find(name: str, env: Mapping[str, str]) -> str:
    """The program's path. Raises NoCommand or CannotRun, as a shell would say it."""
    found = shutil.which(name, path=env.get("PATH", os.defpath))
    if found is not None:
        return found
    if os.path.exists(name) and os.sep in name:
        raise CannotRun(
            f"{name} is not a program that can be started.",
            f"Make it one (chmod +x {name}), or name what runs it.",
        )
    raise NoCommand(
        f"There is no program {name!r}.", "Write it as in a shell: modelspend run -- python app.py"
    )


def environment(env: Mapping[str, str], settings: "Settings", url: str, key: str) -> dict[str, str]:
    """The program's environment: base URLs and one throw-away key; no provider's or tenant's."""
    secret = _secrets(settings)
    out = {name: value for name, value in env.items() if name not in secret}
    out.update(dict.fromkeys(_OPENAI, f"{url}/v1"))
    out.update(dict.fromkeys(_OTHERS, url))
    out.update(dict.fromkeys(_KEYS, key))
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host.strip() for host in env.get(name, "").split(",") if host.strip()]
        out[name] = ",".join([*hosts, *(host for host in _NO_PROXY if host not in hosts)])
    return out


def secret_values(env: Mapping[str, str], settings: "Settings") -> list[str]:
    """The keys in an environment that no program of ours is shown."""
    return [env[name] for name in sorted(_secrets(settings)) if env.get(name)]


def _secrets(settings: "Settings") -> set[str]:
    from modelspend.catalog import known_providers

    names = {key for provider in known_providers().values() for key in provider.keys}
    names |= {each.api_key_env for each in settings.providers.values() if each.api_key_env}
    names |= {key for tenant in settings.tenants.values() for key in tenant.keys}
    return names | set(_MORE_SECRETS)


def carry(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run it to its end; its exit code, or 128 + n when signal n ended it. Raises CannotRun."""
    with _signals() as started:
        try:
            process = subprocess.Popen(command, env=dict(env))
        except OSError as error:
            raise CannotRun(f"{command[0]} cannot be started: {error.strerror}.") from None
        started.append(process)
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """While the block lasts, what we are told to do is told to the program instead."""
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if signal.Signals(number).name in _FROM_TERMINAL and _in_foreground():
            return
        for process in running:
            process.send_signal(number)

    numbers = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield running
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether a terminal sends its Ctrl-C to our process group, the program's too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
