"""Plain SMTP: ``smtp(s)://user:password@host:port/?from=..&to=..&to=..``. No database, no Django."""

from __future__ import annotations

import ipaddress
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from wsmon.http import HttpError
from wsmon.net import tls_context

SCHEMES = ("smtp", "smtps")
PORTS = {"smtp": 587, "smtps": 465}
MOST_RECIPIENTS = 50

Connect = Callable[[str, int, float], socket.socket]
"""Opens a TCP connection, within seconds; raises HttpError."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A mail server and what it is to be used for."""

    host: str
    port: int
    tls: bool
    """From the first byte; otherwise STARTTLS, where the server offers it."""
    sender: str
    recipients: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)


def read(url: str) -> Relay:
    """Read a channel's address; raise ValueError in words that do not quote it."""
    try:
        parts = urlsplit(url)
        host, port, asked = parts.hostname, parts.port, parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("is no address such as smtp://user:password@host:587/?from=..&to=..") from None
    if parts.scheme not in SCHEMES or not host or port == 0:
        raise ValueError("must begin with smtp:// or smtps:// and name a host")
    unknown = sorted(set(asked) - {"from", "to"})
    if unknown:
        raise ValueError("may say from and to after the question mark, and nothing else")
    sender = asked.get("from", [""])[-1]
    recipients = tuple(one.strip() for given in asked.get("to", []) for one in given.split(",") if one.strip())
    if not _is_address(sender):
        raise ValueError("must say from=<the sender's address>")
    if not recipients or not all(map(_is_address, recipients)):
        raise ValueError("must say to=<an address>")
    if len(recipients) > MOST_RECIPIENTS:
        raise ValueError(f"may name {MOST_RECIPIENTS} recipients")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    tls = parts.scheme == "smtps"
    return Relay(host, port or PORTS[parts.scheme], tls, sender, recipients, user, password)


def send(relay: Relay, message: Message, connect: Connect, timeout: float) -> None:
    """Hand a message to the mail server; raise :class:`ChannelProblem`."""
    try:
        with _open(relay, connect, timeout) as server:
            _secure(server, relay)
            if relay.user:
                server.login(relay.user, relay.password)
            refused = server.send_message(letter(relay, message), relay.sender, list(relay.recipients))
    except HttpError as problem:
        raise ChannelProblem(problem.message, retry=not problem.ours) from None
    except (smtplib.SMTPException, OSError, ValueError) as problem:
        raise _problem(problem, relay) from None
    if refused:  # the others have it; a further try would tell them again
        code = next(iter(refused.values()))[0]
        raise ChannelProblem(f"{relay.host} refused {len(refused)} of the recipients ({code})", retry=False)


def letter(relay: Relay, message: Message) -> EmailMessage:
    """The mail. Mails about one alert belong together (RFC 5322, 3.6.4), and nobody's absence answers (RFC 3834)."""
    mail = EmailMessage()
    mail["Subject"] = message.title
    mail["From"] = relay.sender
    mail["To"] = ", ".join(relay.recipients)
    if message.at is not None:
        mail["Date"] = format_datetime(message.at)
    domain = parseaddr(relay.sender)[1].rpartition("@")[2]
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    if message.thread:
        mail["In-Reply-To"] = mail["References"] = f"<{message.thread}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if message.severity == "critical" and not message.resolved:
        mail["Importance"] = "high"
    mail.set_content(message.text + "\n")
    return mail


def _open(relay: Relay, connect: Connect, timeout: float) -> smtplib.SMTP:
    context = tls_context(for_http=False) if relay.tls else None

    class Guarded(smtplib.SMTP):
        """Connects where the guard lets it."""

        def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
            sock = connect(host, port, float(timeout))
            if context is None:
                return sock
            return context.wrap_socket(sock, server_hostname=relay.host)

    return Guarded(relay.host, relay.port, timeout=timeout)


def _secure(server: smtplib.SMTP, relay: Relay) -> None:
    server.ehlo_or_helo_if_needed()
    if relay.tls:
        return
    if server.has_extn("starttls"):
        server._host = relay.host  # type: ignore[attr-defined]  # smtplib's own name for the certificate's
        server.starttls(context=tls_context(for_http=False))
        server.ehlo()
    elif relay.user and not _is_here(relay.host):
        raise ChannelProblem(f"{relay.host} offers no encryption, so that no password is sent to it", retry=False)


def _problem(problem: Exception, relay: Relay) -> ChannelProblem:
    host = relay.host
    if isinstance(problem, smtplib.SMTPAuthenticationError):
        retry = 400 <= problem.smtp_code < 500
        return ChannelProblem(f"{host} refused the user or the password ({problem.smtp_code})", retry=retry)
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in problem.recipients.values()]
        return ChannelProblem(f"{host} refused every recipient ({codes[0]})", retry=all(code < 500 for code in codes))
    if isinstance(problem, smtplib.SMTPResponseException):
        said = problem.smtp_error.decode("utf-8", "replace") if isinstance(problem.smtp_error, bytes) else ""
        return ChannelProblem(f"{host} said {problem.smtp_code} {said}"[:200], retry=problem.smtp_code < 500)
    if isinstance(problem, smtplib.SMTPNotSupportedError):
        return ChannelProblem(f"{host} takes no password", retry=False)
    if isinstance(problem, ssl.SSLError):
        return ChannelProblem(f"no TLS connection to {host}", retry=True)
    if isinstance(problem, TimeoutError) or "timed out" in str(problem):  # smtplib's words for it
        return ChannelProblem(f"{host} did not answer in time", retry=True)
    if isinstance(problem, ValueError):
        return ChannelProblem("the message cannot be written as a mail", retry=False)
    return ChannelProblem(f"{host} ended the connection", retry=True)


def _is_address(text: str) -> bool:
    name, address = parseaddr(text)
    local, _, domain = address.rpartition("@")
    return bool(local and domain and " " not in address and text.isprintable() and not name.count("\n"))


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
