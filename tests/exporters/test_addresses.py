"""Where a sink may not lie: every spelling of a place that is ours, and no connection to any.

The table is dialled for real: two canaries listen on loopback, and none of the spellings may reach
one.
"""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from modelspend.exporters import http
from modelspend.exporters.addresses import checked, resolved, why_not
from modelspend.exporters.http import Door, NotNow
from modelspend.exporters.wire import Wire, address
from tests.fakes.receiver import receiver
from tests.fakes.sink import far_end, status
from tests.loops import Threads

SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.1.",
    "127.1.2.3",
    "127.255.255.254",
    "0",
    "0.0.0.0",
    "0x0",
    "00000000",
    "0.1.2.3",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:7f00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::ffff:0.0.0.0]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a00:1]",
    "[64:ff9b:1::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[2002:7f00:1::1]",
    "[2002:a00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:7f00:1::]",
    "[2001:0:53aa:64c:0:0:80ff:fffe]",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.170.2",
    "169.254.0.1",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "[fd20:ce::254]",
    "10.0.0.1",
    "10.255.255.255",
    "0xa.1",
    "012.0.0.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "192.168.1.254",
    "0xc0a80001",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:192.168.0.1]",
    "100.64.0.1",
    "100.127.255.254",
    "198.18.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.255",
    "[ff02::1]",
    "240.0.0.1",
    "255.255.255.255",
    "[2001:db8::1]",
    "[100::1]",
    "①②⑦.⓪.⓪.①",
]


def test_the_table_is_as_long_as_it_says() -> None:
    assert len(set(SPELLINGS)) >= 80


async def test_no_spelling_of_our_own_places_is_connected_to() -> None:
    async with far_end() as four, far_end("::1") as six:
        ports = [far.url.rpartition(":")[2] for far in (four, six)]
        places = [f"{spelling}:{port}" for spelling in SPELLINGS for port in ports]
        refused = await asyncio.gather(*map(_refused, places))
        assert not any("hidden" in text for text in refused)
        assert (four.connected, six.connected) == (0, 0)


async def _refused(place: str) -> str:
    async with Door(allow_private=False, timeout_s=10.0) as door:
        with pytest.raises(NotNow) as refused:
            await door.post(f"https://{place}/hook?key=hidden", b"{}", {})
    return refused.value.text


async def test_the_table_bites_without_the_check() -> None:
    """The very same spellings reach the canary when nobody looks: it is no empty table."""
    reach = ("127.0.0.1", "localhost", "0x7f.1", "0x7f000001", "[::ffff:127.0.0.1]")
    assert set(reach) <= set(SPELLINGS)
    async with far_end() as four, aiohttp.ClientSession() as session:
        port = four.url.rpartition(":")[2]
        for spelling in reach:
            async with session.post(f"http://{spelling}:{port}/", data=b"{}") as answer:
                assert answer.status == 200
        assert four.connected == len(reach)


class _FlipFlop(AbstractResolver):
    """A name that is public when it is looked at, and private when it is dialled."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = "93.184.216.34" if self.asked % 2 == 0 else "127.0.0.1"
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        return None


async def test_a_name_that_changes_its_mind_is_refused_at_the_socket() -> None:
    async with far_end() as canary:
        port = canary.url.rpartition(":")[2]
        resolver = _FlipFlop()
        connector = aiohttp.TCPConnector(
            resolver=resolver, socket_factory=checked(allow_private=False), use_dns_cache=False
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.post(f"http://rebind.test:{port}/", data=b"{}")
        assert resolver.asked == 1
        assert canary.connected == 0


async def test_a_redirect_is_an_answer_and_leads_nowhere() -> None:
    async with far_end() as canary, far_end() as far:
        far.answer = status("307 Look there", f"location: {canary.url}/\r\n")
        async with Door(allow_private=True, timeout_s=2.0) as door:
            answer = await door.post(far.url, b"{}", {})
        assert (answer.status, answer.ok) == (307, False)
        assert canary.connected == 0


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with far_end() as proxy, far_end() as far:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with Door(allow_private=True, timeout_s=2.0) as door:
            assert (await door.post(far.url, b"{}", {})).ok
        assert (proxy.connected, far.connected) == (0, 1)


async def test_plain_http_is_for_private_places_only() -> None:
    async with Door(allow_private=False, timeout_s=2.0) as door:
        with pytest.raises(NotNow, match="use https"):
            await door.post("http://example.com/", b"{}", {})


async def test_the_refusal_names_the_address_and_the_setting() -> None:
    async with Door(allow_private=False, timeout_s=2.0) as door:
        with pytest.raises(NotNow) as refused:
            await door.post("https://localhost:9/secret-path", b"{}", {})
    assert "is a loopback address" in refused.value.text
    assert "allow_private = true" in refused.value.text
    assert "secret-path" not in refused.value.text


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "172.32.0.1"]
)
def test_a_public_address_is_fine(address: str) -> None:
    assert why_not(address) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "fd12::1", "100.64.0.1"])
def test_private_places_are_for_sinks_that_say_so(address: str) -> None:
    assert why_not(address) is not None
    assert why_not(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "224.0.0.1",
     "fe80::1%eth0", "2002:7f00:1::", "64:ff9b::7f00:1", "::ffff:169.254.169.254"],
)  # fmt: skip
def test_credentials_and_disguises_are_refused_whatever_is_set(address: str) -> None:
    assert why_not(address, allow_private=True) is not None


def test_retry_after_is_read_as_seconds_or_a_date() -> None:
    assert http.wait_s("7") == 7.0
    assert http.wait_s("Sun, 22 Nov 2026 00:01:30 GMT", now_s=1_795_305_600.0) == 90.0
    assert http.wait_s("Sun, 22 Nov 2026 00:01:30 GMT", now_s=1_895_305_600.0) == 0.0
    assert http.wait_s("99999999999") == 86_400.0
    assert [http.wait_s(text) for text in (None, "", "soon", "nan", "-5")] == [None] * 4 + [0.0]


async def test_a_name_is_asked_for_off_the_event_loop() -> None:
    async with Door(allow_private=False, timeout_s=0.2) as door:
        waiting = asyncio.get_running_loop().create_task(
            door.post("https://nowhere.invalid/", b"{}", {})
        )
        await asyncio.sleep(0)
        assert not waiting.done()
        with pytest.raises(NotNow):
            await waiting


async def test_the_name_of_a_sink_is_looked_up_where_no_call_waits_behind_it() -> None:
    """uvloop looks up two names at a time: two sinks whose names are answered late had a call wait
    for as long. A loop without uvloop takes a thread of its own pool for it."""
    threads = Threads(max_workers=1)
    asyncio.get_running_loop().set_default_executor(threads)
    async with far_end() as far, receiver() as syslog:
        port = far.url.rpartition(":")[2]
        async with Door(allow_private=True, timeout_s=5) as door:
            assert (await door.post(f"http://localhost:{port}/", b"x", {})).ok
        to = address(f"tcp://localhost:{syslog.port}")
        wire = Wire(to, allow_private=True, timeout_s=5)
        assert await wire.send([b"x"]) == 0
        await wire.close()
    assert threads.asked == 0


async def test_a_name_that_nobody_knows_and_one_that_is_none_are_told() -> None:
    for name in ("nowhere.invalid", "a" * 70 + ".test"):
        with pytest.raises(OSError, match=r".+"):
            await resolved(name, 1, socket.SOCK_STREAM)
