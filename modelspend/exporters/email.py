"""Mail: alerts through an SMTP server, those that go off together in one message.

Hides the standard library's blocking client: it runs in a thread, over a socket of ours whose
address was looked at and which is cut when time is up, so that a server that drips or stalls holds
nothing for long. TLS is never given up: a server that does not offer it gets no mail.
"""

import asyncio
import smtplib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from typing import IO

from modelspend.errors import ConfigInvalid
from modelspend.events import Event
from modelspend.exporters.addresses import Refused, checked
from modelspend.exporters.channels import Channel, Said, facts, title
from modelspend.exporters.http import NotNow
from modelspend.exporters.surroundings import held, source
from modelspend.settings import Email, Settings
from modelspend.store import Store

_MOST_AT_ONCE = 50
_MOST_HEARD = 64 * 1024
_LINGER_S = 2.0
_PORTS = {"starttls": 587, "whole": 465, "none": 25}


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list[Channel]:
    """One for each `[alerts.email.NAME]`. Raises ConfigInvalid when a secret is missing."""
    return channels(settings, env, str(store.path))


def channels(settings: Settings, env: Mapping[str, str], ledger: str) -> list[Channel]:
    """The same, of the ledger at a path."""
    found = settings.alerts.email.items()
    return [channel(name, one, env) for name, one in found if one.enabled]


def channel(name: str, section: Email, env: Mapping[str, str]) -> Channel:
    """One of them, with what the environment holds for it."""
    where = f"alerts.email.{name}"
    login = None
    if section.username_env is not None and section.password_env is not None:
        login = (
            _ascii(env, f"{where}.username_env", section.username_env),
            _ascii(env, f"{where}.password_env", section.password_env),
        )
    context = _trust(where, section)

    async def say(events: Sequence[Event]) -> Said:
        post = _Post(section, login, context)
        letter = message(events, section.sender, section.to)
        try:
            async with asyncio.timeout(section.timeout_s):
                return await asyncio.to_thread(post.send, letter)
        except TimeoutError:
            text = f"{section.host} did not take it within {section.timeout_s:g} s"
            raise NotNow(text) from None
        finally:
            post.cut()

    async def close() -> None:
        """Each message has a connection of its own."""

    return Channel("email", name, section, say, close, most=_MOST_AT_ONCE, linger_s=_LINGER_S)


def _ascii(env: Mapping[str, str], key: str, variable: str) -> str:
    """What a variable holds, in letters that the standard library's client can log in with."""
    found = held(env, key, variable)
    if not found.isascii():
        raise ConfigInvalid(
            f"{key}: {variable} holds letters beyond ASCII, which cannot be logged in with.",
            "Use a name and a password of ASCII alone.",
        )
    return found


def _trust(where: str, section: Email) -> ssl.SSLContext:
    try:
        file = None if section.ca_file is None else section.ca_file.expanduser()
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError):
        raise ConfigInvalid(
            f"{where}.ca_file: {section.ca_file} holds no certificates that can be read.",
            "Name a PEM file.",
        ) from None


def message(events: Sequence[Event], sender: str, to: Sequence[str]) -> EmailMessage:
    """The mail about some alerts. The same alerts make the same Message-ID, and all mail about one
    alert refers to one root, so that a reader sees it as one conversation."""
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"] = sender, ", ".join(to)
    made["Subject"] = title(events[0]) if len(events) == 1 else _several(events)
    made["Date"] = format_datetime(datetime.fromtimestamp(events[0].at_ms / 1000, UTC))
    told = "\n".join(f"{one.kind} {one.seq} {one.at_ms} {one.data.get('alert')}" for one in events)
    made["Message-ID"] = f"<{_hash(told)}@modelspend>"
    if len(events) == 1:
        made["References"] = f"<{_hash(str(events[0].data.get('alert')))}@modelspend>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content("\n".join(_lines(events)), cte="quoted-printable")
    return made


def _hash(text: str) -> str:
    return sha256(f"{source()}\0{text}".encode()).hexdigest()[:32]


def _several(events: Sequence[Event]) -> str:
    levels = {str(one.data.get("level")) for one in events}
    worst = "critical" if "critical" in levels else "warn"
    return f"[{worst}] {len(events)} alerts of modelspend on {source()}"


def _lines(events: Sequence[Event]) -> list[str]:
    lines = []
    for event in events:
        lines += [title(event), str(event.data.get("message", ""))]
        lines += [f"  {name}: {value}" for name, value in facts(event)]
        lines.append("")
    return [*lines, f"Sent by modelspend on {source()}. Quiet it: modelspend alerts silence"]


class _Post:
    """One message on its way. `cut` may be called from elsewhere, and ends what is under way."""

    def __init__(
        self, section: Email, login: tuple[str, str] | None, context: ssl.SSLContext
    ) -> None:
        self._section, self._login, self._context = section, login, context
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._server: smtplib.SMTP | None = None
        self._over = False

    def send(self, letter: EmailMessage) -> Said:
        """Blocks. Raises NotNow when it is to be tried again."""
        section = self._section
        try:
            refused = self._sent(letter)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            return _no(min(codes), "every recipient was refused")
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            return _no(error.smtp_code, "it was refused")
        except smtplib.SMTPResponseException as error:  # of a greeting or a login: we are wrong
            raise NotNow(f"{section.host}: SMTP {error.smtp_code}") from None
        except Refused as error:
            text = (
                f"{section.host}: {error}; if it is meant, set allow_private = true for this sink"
            )
            raise NotNow(text) from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotNow(f"{section.host} cannot be told ({type(error).__name__})") from None
        if not refused:
            return Said(ok=True, text="SMTP 250")
        text = f"taken, but not for {len(refused)} of {len(section.to)} recipients"
        return Said(ok=True, text=text, warning=text)

    def _sent(self, letter: EmailMessage) -> Mapping[str, object]:
        """The recipients that it was not taken for. Once it is taken, it is: no good-bye is waited
        for, since one that were wrong or late would have it sent again."""
        section, server = self._section, self._connected()
        self._server = server
        try:
            if section.tls == "starttls":
                server.starttls(context=self._context)
            if self._login is not None:
                server.login(*self._login)
            refused = server.send_message(letter, section.sender, list(section.to))
            with suppress(smtplib.SMTPException, OSError):
                server.putcmd("QUIT")
            return refused
        finally:
            server.close()

    def _connected(self) -> smtplib.SMTP:
        section = self._section
        port = section.port or _PORTS[section.tls]
        host = section.host.strip("[]")
        post = self

        class Client(smtplib.SMTP):
            """Over a socket whose address was looked at."""

            file: _Few | None = None

            def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
                return post._dial(host, port, timeout)

            def getreply(self) -> tuple[int, bytes]:
                if self.file is None and self.sock is not None:
                    self.file = _Few(self.sock.makefile("rb"))
                return super().getreply()

        return Client(host, port, local_hostname=source(), timeout=section.timeout_s)

    def _dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        make, last = checked(allow_private=self._section.allow_private), OSError("no address")
        for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                made = self._held(make(info))
                made.settimeout(timeout_s)
                made.connect(info[4])
                if self._section.tls == "whole":
                    made = self._held(self._context.wrap_socket(made, server_hostname=host))
                return made
            except OSError as error:
                last = error
        raise last

    def _held(self, made: socket.socket) -> socket.socket:
        with self._lock:
            self._socket = made
            over = self._over
        if over:
            made.close()
            raise OSError("time is up")
        return made

    def cut(self) -> None:
        """STARTTLS puts another socket in the place of the one that was dialled."""
        with self._lock:
            self._over, dialled = True, self._socket
        for made in (self._server.sock if self._server else None, dialled):
            if made is not None:
                with suppress(OSError):
                    made.shutdown(socket.SHUT_RDWR)
                with suppress(OSError):
                    made.close()


class _Few:
    """What a server says, of which there is little: a reply has as many lines as it likes, and the
    standard library keeps them all."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _MOST_HEARD

    def readline(self, most: int) -> bytes:
        line = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("it does not stop talking")
        return line

    def close(self) -> None:
        self._file.close()


def _no(code: int, text: str) -> Said:
    return Said(ok=False, text=f"SMTP {code}: {text}", again=400 <= code < 500)
