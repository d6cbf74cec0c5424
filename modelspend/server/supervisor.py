"""What a service manager and we tell each other: ready, stopping, still alive, and open sockets.

Hides systemd's protocol (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), read 2026-11-25):
variables of the environment and datagrams to a socket. Without them nothing is told and nobody is
missed. The sign of life comes from the event loop, so a loop that hangs is found and restarted.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager

from modelspend.errors import ConfigInvalid
from modelspend.record import frozen
from modelspend.settings import Settings, is_loopback

log = logging.getLogger("modelspend")

_FIRST_SOCKET = 3
_BEATS = 3  # signs of life in the time after which one is missed
_TO_CLOSE_S = 15.0  # after the drain: cutting what is left, settling it, closing the ledger
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_SOCKET_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@frozen
class Supervisor:
    """Who started us: where it listens, how often it wants to hear of us, what it has opened."""

    address: str | None = None
    watchdog_s: float | None = None
    sockets: tuple[socket.socket, ...] = ()

    @classmethod
    def take(cls, env: MutableMapping[str, str]) -> "Supervisor":
        """What the environment tells; it is taken out, for it is meant for no child of ours.

        Raises ConfigInvalid for a socket that is none of TCP.
        """
        mine = {name: env.pop(name, "") for name in (*_VARIABLES, *_SOCKET_VARIABLES)}
        watched = mine["WATCHDOG_PID"] in ("", str(os.getpid())) and mine["WATCHDOG_USEC"].isdigit()
        given = mine["LISTEN_FDS"] if mine["LISTEN_PID"] == str(os.getpid()) else ""
        count = int(given) if given.isdigit() else 0
        return cls(
            address=mine["NOTIFY_SOCKET"] or None,
            watchdog_s=int(mine["WATCHDOG_USEC"]) / 1e6 if watched else None,
            sockets=tuple(_taken(_FIRST_SOCKET + n) for n in range(count)),
        )

    def tell(self, *lines: str) -> None:
        """One message. A manager that does not listen is nothing that calls should suffer from."""
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.setblocking(False)
                to.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", lines[0], error.strerror)

    def stopping(self, calls: int, limit_s: float) -> None:
        """We are draining, and how long that may take."""
        status = f"STATUS=Draining: {calls} calls under way"
        longest = round((limit_s + _TO_CLOSE_S) * 1e6)
        self.tell("STOPPING=1", status, f"EXTEND_TIMEOUT_USEC={longest}")

    def reloading(self) -> None:
        """The configuration is being read again; `READY=1` tells when that is done."""
        monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell("RELOADING=1", f"MONOTONIC_USEC={monotonic}")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Signs of life from the running loop while the block lasts, the drain included."""
        if self.watchdog_s is None:
            yield
            return
        loop, pause_s = asyncio.get_running_loop(), self.watchdog_s / _BEATS
        timer: asyncio.Handle | None = None

        def beat() -> None:
            nonlocal timer
            self.tell("WATCHDOG=1")
            timer = loop.call_later(pause_s, beat)

        beat()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()


def _taken(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    found = socket.socket(fileno=descriptor)
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        raise ConfigInvalid(
            "The service manager passed a socket that is none of TCP.",
            "Name addresses such as ListenStream=127.0.0.1:8787: modelspend init --systemd",
        )
    found.setblocking(False)
    return found


def check_sockets(given: Sequence[socket.socket], settings: Settings) -> None:
    """Raises ConfigInvalid for a socket that other machines can reach, unless that is allowed and
    callers need keys; and for more than one port, since the Host of a call must name ours."""
    ports = sorted({each.getsockname()[1] for each in given})
    if len(ports) > 1:
        raise ConfigInvalid(
            f"The service manager listens on several ports: {', '.join(map(str, ports))}.",
            "Name one port, at as many loopback addresses as you like.",
        )
    keys = any(tenant.keys for tenant in settings.tenants.values())
    for each in given:
        host = each.getsockname()[0]
        if not is_loopback(host) and not (settings.server.allow_remote and keys):
            raise ConfigInvalid(
                f"The service manager listens on {host}, which is no loopback address.",
                "Write ListenStream=127.0.0.1:8787; or set server.allow_remote and tenant keys.",
            )
