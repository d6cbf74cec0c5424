"""Where a sink may lie: looked at when it is connected to, at the very address that is dialled.

A name says nothing: it may lead elsewhere a second later, and `0x7f.1` is this machine. So the
check sits where a socket is made for one resolved address. What would reach our own networks is
refused unless the sink says `allow_private`; what hands out a machine's credentials always is.

A name is looked up in a thread of its own: the event loop has two for all names (libuv), and two
sinks whose names are answered late would have a call wait for its provider's.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

_CREDENTIALS = {
    ip_address("169.254.169.254"),
    ip_address("168.63.129.16"),  # Azure's host agent: a public address that is none
    ip_address("100.100.100.200"),
    ip_address("192.0.0.192"),
    ip_address("fd00:ec2::254"),
    ip_address("fd20:ce::254"),
}
_NEVER = {
    "a link-local address": ("169.254.0.0/16", "fe80::/10", "fec0::/10"),
    "a multicast address": ("224.0.0.0/4", "ff00::/8"),
    "a NAT64 address": ("64:ff9b::/96", "64:ff9b:1::/48"),
    "a 6to4 address": ("2002::/16", "192.88.99.0/24"),
    "a Teredo address": ("2001::/32",),
    "an IPv4 address in disguise": ("::ffff:0:0:0/96",),
    "a reserved address": ("240.0.0.0/4", "100::/64"),
}
_OWN = {
    "a loopback address": ("127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"),
    "a private address": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    "an address behind a carrier's NAT": ("100.64.0.0/10",),
}


def _networks(named: dict[str, tuple[str, ...]]) -> list[tuple[str, Any]]:
    return [(name, ip_network(text)) for name, texts in named.items() for text in texts]


_NEVER_IN, _OWN_IN = _networks(_NEVER), _networks(_OWN)


def why_not(address: str, *, allow_private: bool = False) -> str | None:
    """What speaks against dialling a resolved address, as words after "it is"; None: nothing."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return "no address"
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found in _CREDENTIALS:
        return "where a machine's credentials are handed out"
    for name, network in _NEVER_IN:
        if found in network:
            return name
    for name, network in _OWN_IN:
        if found in network:
            return None if allow_private else name
    return None if found.is_global else "not a public address"


async def resolved(host: str, port: int, kind: socket.SocketKind, family: int = 0) -> list[Any]:
    """What `socket.getaddrinfo` finds. Raises OSError."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def tell(found: list[Any] | OSError) -> None:
        if answer.done():  # nobody waits for it any more
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def look() -> None:
        found: list[Any] | OSError
        try:
            found = list(socket.getaddrinfo(host, port, family=family, type=kind))
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError("not a name")
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    try:
        threading.Thread(target=look, name="sink-name", daemon=True).start()
    except RuntimeError:  # as many as the system allows
        raise OSError("no thread can be had") from None
    return await answer


class Refused(OSError):
    """An address that a sink may not lie at; its text is fit to be shown."""


def checked(*, allow_private: bool) -> Callable[[Any], socket.socket]:
    """What makes the sockets of a connector: only for addresses that are allowed."""

    def make(info: Any) -> socket.socket:
        family, kind, proto, _, place = info
        reason = why_not(str(place[0]), allow_private=allow_private)
        if reason is not None:
            raise Refused(f"{place[0]} is {reason}")
        made = socket.socket(family=family, type=kind, proto=proto)
        made.setblocking(False)
        return made

    return make
