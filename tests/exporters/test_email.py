"""Mail: a real SMTP server receives it over TLS, and nothing is said to one that has none."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from modelspend.alarms import RESOLVED
from modelspend.errors import ConfigInvalid
from modelspend.exporters.channels import Channel, Said
from modelspend.exporters.email import channel, message, sinks
from modelspend.exporters.http import NotNow
from modelspend.settings import Alerts, Email, Settings
from modelspend.store import Store
from tests.exporters.alerting import ended, telling, told
from tests.fakes.mail import Mail, Tls, mail_server
from tests.fakes.sink import far_end

ENV = {"MAIL_USER": "ops", "MAIL_PASSWORD": "s3cret"}
LOGIN = {"username_env": "MAIL_USER", "password_env": "MAIL_PASSWORD"}
Make = Callable[..., Channel]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def mail_to(authority: trustme.CA, tmp_path: Path) -> Make:
    """A channel that trusts the authority of these tests."""
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))

    def make(port: int, **changes: Any) -> Channel:
        said = {
            "host": "localhost",
            "port": port,
            "ca_file": pem,
            "sender": "modelspend@example.com",
            "to": ("ops@example.com", "cfo@example.com"),
            "allow_private": True,
            "timeout_s": 5.0,
        }
        return channel("team", Email(**{**said, **changes}), ENV)

    return make


@pytest.mark.parametrize("tls", ["starttls", "whole"])
async def test_a_real_server_receives_it_over_tls_from_who_it_says(
    store: Store, authority: trustme.CA, mail_to: Make, tls: Tls
) -> None:
    async with mail_server(authority, tls, ops="s3cret") as mail:
        async with telling(store, mail_to(mail.port, tls=tls, **LOGIN)) as pump:
            store.events.tell(told(name="Zürich GmbH", level="critical"))
            standing = await ended(pump, 1)
        ((letter, version, who),) = mail.got
    assert (standing.name, standing.sent) == ("email:team", 1)
    assert version in ("TLSv1.2", "TLSv1.3")
    assert who == "ops"
    assert mail.rcpt == [["ops@example.com", "cfo@example.com"]]
    assert letter["Subject"] == "[critical] fallback rate of tenant Zürich GmbH"
    assert letter["From"] == "modelspend@example.com"
    assert letter["To"] == "ops@example.com, cfo@example.com"
    assert letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_content()
    assert "20 of 40 calls (50%) in an hour were led elsewhere." in text
    assert "see: modelspend failovers --tenant acme" in text


async def test_what_goes_off_together_is_one_mail(
    store: Store, authority: trustme.CA, mail_to: Make
) -> None:
    async with mail_server(authority) as mail:
        one = mail_to(mail.port)
        async with telling(store, one):
            pass  # it is known from here on
        for n in range(30):
            store.events.tell(told(name=f"tenant-{n}", level="critical" if n == 9 else "warn"))
        await store.circuits.obeyed([])
        async with telling(store, one) as pump:
            await ended(pump, 30)
        ((letter, _, _),) = mail.got
    assert letter["Subject"].startswith("[critical] 30 alerts of modelspend on ")
    lines = set(letter.get_content().splitlines())
    for n in range(30):
        level = "critical" if n == 9 else "warn"
        assert f"[{level}] fallback rate of tenant tenant-{n}" in lines


def test_the_mail_of_one_alert_is_one_conversation_and_the_same_mail_has_one_id() -> None:
    to = ("a@example.com",)
    first, again = (message([told(at)], "m@example.com", to) for at in ("alert.fired",) * 2)
    over = message([told(RESOLVED)], "m@example.com", to)
    other = message([told(name="other")], "m@example.com", to)
    assert first["References"] == over["References"] != other["References"]
    assert first["Message-ID"] != over["Message-ID"]
    event = told()
    assert len({message([event], "m@example.com", to)["Message-ID"] for _ in range(2)}) == 1
    assert again["Subject"] == first["Subject"]


def test_no_name_can_add_a_header_or_a_recipient() -> None:
    event = told(name="acme\r\nBcc: all@example.com\n.\r\nMAIL FROM:<x>", said="x\r\n.\r\nQUIT")
    made = message([event], "m@example.com", ("a@example.com",))
    assert made["Bcc"] is None
    assert "\n" not in made["Subject"]
    raw = made.as_bytes()
    assert b"\nBcc:" not in raw.partition(b"\r\n\r\n")[0]


async def test_a_server_that_offers_no_tls_gets_no_mail(
    store: Store, authority: trustme.CA, mail_to: Make
) -> None:
    async with mail_server(authority, "none") as mail:
        with pytest.raises(NotNow, match="SMTPNotSupportedError"):
            await mail_to(mail.port).say([told()])
        assert mail.got == []
        assert (await mail_to(mail.port, tls="none").say([told()])).ok
        assert len(mail.got) == 1


async def test_a_certificate_of_somebody_else_gets_no_mail(
    authority: trustme.CA, mail_to: Make
) -> None:
    for issuer, name in ((trustme.CA(), "localhost"), (authority, "mail.example.com")):
        for tls in ("starttls", "whole"):
            async with mail_server(issuer, tls, name, ops="s3cret") as mail:  # type: ignore[arg-type]
                with pytest.raises(NotNow, match="SSLCertVerificationError"):
                    await mail_to(mail.port, tls=tls, **LOGIN).say([told()])
                assert mail.got == []


async def said_by(mail: Mail, make: Make, **changes: Any) -> Said:
    return await make(mail.port, **changes).say([told()])


async def test_what_the_server_says_decides_whether_it_is_tried_again(
    authority: trustme.CA, mail_to: Make
) -> None:
    async with mail_server(authority) as mail:
        mail.at_rcpt = {"cfo@example.com": "550 unknown"}
        some = await said_by(mail, mail_to)
        assert (some.ok, some.warning) == (True, "taken, but not for 1 of 2 recipients")
        mail.at_rcpt["ops@example.com"] = "550 unknown"
        none = await said_by(mail, mail_to)
        assert (none.ok, none.again) == (False, False)
        assert none.text == "SMTP 550: every recipient was refused"
        mail.at_rcpt = dict.fromkeys(mail.at_rcpt, "450 busy")
        assert (await said_by(mail, mail_to)).again
        mail.at_rcpt = {}
        mail.at_data = "554 spam"
        assert (await said_by(mail, mail_to)).text == "SMTP 554: it was refused"
        mail.at_data = "451 later"
        assert (await said_by(mail, mail_to)).again


async def test_what_was_taken_is_not_sent_again_whatever_the_good_bye_is(
    authority: trustme.CA, mail_to: Make
) -> None:
    async with mail_server(authority) as mail:
        for bye in ("421 too many connections", "500 what", "no number"):
            mail.at_quit = bye
            assert await said_by(mail, mail_to) == Said(ok=True, text="SMTP 250")


async def test_a_server_that_takes_it_and_then_stalls_has_taken_it(
    authority: trustme.CA, mail_to: Make
) -> None:
    async with mail_server(authority) as mail:
        mail.bye = asyncio.Event()
        try:
            assert await said_by(mail, mail_to, timeout_s=0.5) == Said(ok=True, text="SMTP 250")
        finally:
            mail.bye.set()
        assert len(mail.got) == 1


async def test_a_wrong_password_is_told_without_it_and_tried_again(
    authority: trustme.CA, mail_to: Make
) -> None:
    async with mail_server(authority, "starttls", ops="another") as mail:
        with pytest.raises(NotNow) as refused:
            await said_by(mail, mail_to, **LOGIN)
    assert refused.value.text == "localhost: SMTP 535"


@pytest.mark.parametrize("tls", ["starttls", "whole"])
@pytest.mark.parametrize("way", ["stall", "drip"])
async def test_a_server_that_stalls_or_drips_is_cut_in_time(
    mail_to: Make, tls: str, way: str
) -> None:
    """Dripping resets each timeout of a socket: only the time for all of it ends that."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = asyncio.get_running_loop().create_task(reader.read())
        while not gone.done():
            if way == "drip":
                writer.write(b"2")
            await asyncio.wait({gone}, timeout=0.02)
        gone.exception()
        writer.transport.abort()
        over.set()

    server = await asyncio.start_server(serve, "localhost", 0, family=2)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    garbled = way == "drip" and tls == "whole"
    expected = "SSLError" if garbled else "did not take it within 0.3 s"
    with pytest.raises(NotNow, match=expected):
        await mail_to(port, tls=tls, timeout_s=0.3).say([told()])
    assert time.monotonic() - began < 5
    server.close()
    async with asyncio.timeout(5):
        await over.wait()
    # The thread has ended too: one that were still waiting would hold up the end of the loop.
    async with asyncio.timeout(5):
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_server_that_drips_within_its_tls_is_cut_in_time(
    authority: trustme.CA, mail_to: Make
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    listening = socket.create_server(("localhost", 0))
    cut = threading.Event()

    def serve() -> None:
        made, _ = listening.accept()
        for answer in (b"220 mail.test\r\n", b"250-mail.test\r\n250 STARTTLS\r\n", b"220 Go\r\n"):
            made.sendall(answer)
            if not answer.startswith(b"220 Go"):
                made.recv(1000)
        try:
            with context.wrap_socket(made, server_side=True) as wrapped:
                while True:
                    wrapped.sendall(b"2")
                    time.sleep(0.02)
        except OSError:
            cut.set()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(NotNow, match=r"did not take it within 0\.5 s"):
        await mail_to(listening.getsockname()[1], timeout_s=0.5).say([told()])
    assert await asyncio.to_thread(cut.wait, 5)
    thread.join()
    listening.close()
    async with asyncio.timeout(5):
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_server_that_vanishes_is_tried_again(store: Store, mail_to: Make) -> None:
    async with far_end() as far:
        port = int(far.url.rpartition(":")[2])
    with pytest.raises(NotNow, match=r"localhost cannot be told \(ConnectionRefusedError\)"):
        await mail_to(port).say([told()])


def test_what_is_not_safe_is_refused_at_start(tmp_path: Path, store: Store) -> None:
    good = {"host": "mail.example.com", "sender": "a@b.c", "to": ("d@e.f",)}
    assert sinks(Settings(), {}, store) == []
    for wrong, why in (
        ({"tls": "none"}, "allow_private = true"),
        ({"tls": "none", "allow_private": True, **LOGIN}, "over TLS alone"),
        ({"username_env": "MAIL_USER"}, "both username_env and password_env"),
        ({"to": ()}, "at least 1"),
        ({"sender": "not an address"}, "match pattern"),
        ({"to": ("a@b.c\nBcc: d@e.f",)}, "match pattern"),
    ):
        with pytest.raises(ValidationError, match=why):
            Email(**{**good, **wrong})
    with pytest.raises(ConfigInvalid, match=r"alerts\.email\.team\.username_env names MAIL_USER"):
        channel("team", Email(**good, **LOGIN), {})
    with pytest.raises(ConfigInvalid, match="beyond ASCII") as refused:
        channel("team", Email(**good, **LOGIN), {**ENV, "MAIL_PASSWORD": "geheimnisvöll"})
    assert "geheimnis" not in str(refused.value)
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(ConfigInvalid, match="holds no certificates"):
        channel("team", Email(**good, ca_file=empty), {})
    settings = Settings(alerts=Alerts(email={"team": Email(**good)}))
    assert [one.name for one in sinks(settings, {}, store)] == ["email:team"]
