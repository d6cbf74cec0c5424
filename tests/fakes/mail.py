"""A mail server (aiosmtpd) with TLS, that takes what it is sent or says what it is told to."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Literal

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Tls = Literal["starttls", "whole", "none"]


@dataclass(slots=True)
class Mail:
    """`got` has (mail, over which TLS version, as whom); `at_rcpt` maps a recipient to an answer,
    `at_data` is one for the whole of it, `at_quit` one for the
    good-bye, which waits for `bye`."""

    port: int = 0
    got: list[tuple[EmailMessage, str | None, str | None]] = field(default_factory=list)
    rcpt: list[list[str]] = field(default_factory=list)
    at_rcpt: dict[str, str] = field(default_factory=dict)
    at_data: str = "250 OK"
    at_quit: str = "221 Bye"
    bye: asyncio.Event | None = None
    users: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(  # aiosmtpd's own name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        answer = self.at_rcpt.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # aiosmtpd's own name
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        if self.at_data.startswith("250"):
            assert isinstance(envelope.content, bytes)
            letter = message_from_bytes(envelope.content, policy=default)
            assert isinstance(letter, EmailMessage)
            who = session.auth_data.login.decode() if session.auth_data else None
            tls = server.transport.get_extra_info("ssl_object")
            self.got.append((letter, tls.version() if tls else None, who))
            self.rcpt.append(list(envelope.rcpt_tos))
        return self.at_data

    async def handle_QUIT(  # aiosmtpd's own name
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        if self.bye is not None:
            await self.bye.wait()
        return self.at_quit

    def authenticate(self, server: Any, session: Any, envelope: Any, how: str, data: Any) -> Any:
        assert isinstance(data, LoginPassword)
        right = self.users.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=right, handled=False, auth_data=data)


@asynccontextmanager
async def mail_server(
    authority: trustme.CA, tls: Tls = "starttls", name: str = "localhost", **users: str
) -> AsyncIterator[Mail]:
    """One that listens while the block runs, with a certificate for `name`."""
    mail = Mail(users=users)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)

    def session() -> SMTP:
        with warnings.catch_warnings():  # it cannot know that TLS was there before it
            warnings.simplefilter("ignore", UserWarning)
            return made()

    def made() -> SMTP:
        return SMTP(
            mail,
            hostname="mail.test",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            auth_required=bool(users),
            auth_require_tls=tls == "starttls",
            authenticator=mail.authenticate,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(
        session, "localhost", 0, family=2, ssl=context if tls == "whole" else None
    )
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()
