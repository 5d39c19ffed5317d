"""Plain SMTP, against real servers on loopback."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from monitoring.models import Notification
from monitoring.notifications import mail
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from tests import servers
from tests.monitoring.notifications.factories import make_channel, raised, send_due
from wsmon.http import guarded_connect

pytestmark = pytest.mark.usefixtures("loopback_targets")

MESSAGE = Message(
    id="m-1",
    kind="opened",
    severity="critical",
    title="Stripe is down",
    body="503 since 9:00",
    url="http://wsmon.test/incidents/1/",
    ack_url="http://wsmon.test/ack/x/",
    thread="alert-7",
    at=datetime(2026, 6, 10, 12, tzinfo=UTC),
)


@dataclass
class Inbox:
    """What a mail server got."""

    mails: list[tuple[list[str], bytes]] = field(default_factory=list)
    answer: str = "250 OK"
    refuse: str = ""

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if self.refuse and address.startswith(self.refuse):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.mails.append((list(envelope.rcpt_tos), envelope.content))
        return self.answer


@contextmanager
def smtp(inbox: Inbox, **options: Any) -> Iterator[int]:
    """A mail server; its port."""
    controller = Controller(inbox, hostname="127.0.0.1", port=servers_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def servers_port() -> int:
    with servers.refusing_port() as port:
        return port


def url(port: int, login: str = "", scheme: str = "smtp", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{login}{host}:{port}/?from=wsmon@example.com&to=ops@example.com&to=ana@example.com"


def send(address: str, message: Message = MESSAGE) -> None:
    mail.send(mail.read(address), message, lambda host, port, timeout: guarded_connect(host, port, timeout)[0], 2)


def problem(address: str) -> ChannelProblem:
    with pytest.raises(ChannelProblem) as raised_:
        send(address)
    return raised_.value


def test_a_mail_says_it_all() -> None:
    inbox = Inbox()
    with smtp(inbox) as port:
        send(url(port))
    ((recipients, raw),) = inbox.mails
    letter = message_from_bytes(raw, policy=default)
    assert recipients == ["ops@example.com", "ana@example.com"]
    assert (letter["Subject"], letter["From"], letter["To"]) == (
        "Stripe is down",
        "wsmon@example.com",
        "ops@example.com, ana@example.com",
    )
    assert (letter["Message-ID"], letter["References"]) == ("<m-1@example.com>", "<alert-7@example.com>")
    assert (letter["Auto-Submitted"], letter["Importance"]) == ("auto-generated", "high")
    body = letter.get_content()
    assert "503 since 9:00" in body
    assert "Acknowledge: http://wsmon.test/ack/x/" in body


def test_the_password_is_given_where_the_server_asks_for_it() -> None:
    seen: list[tuple[bytes, bytes]] = []

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        seen.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)

    inbox = Inbox()
    with smtp(inbox, authenticator=check, auth_require_tls=False, auth_required=True) as port:
        send(url(port, "us%40er:right@"))
        refused = problem(url(port, "user:wrong@"))
    assert seen[0] == (b"us@er", b"right")
    assert (len(inbox.mails), refused.retry) == (1, False)
    assert "refused the user or the password (535)" in refused.text
    assert "wrong" not in refused.text


def test_no_password_is_sent_in_clear_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_is_here", lambda _host: False)
    with smtp(Inbox()) as port:
        refused = problem(url(port, "user:secret@"))
    assert (refused.retry, refused.text) == (
        False,
        "127.0.0.1 offers no encryption, so that no password is sent to it",
    )


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> servers.Authority:
    found = servers.Authority(tmp_path)
    genuine = mail.tls_context
    monkeypatch.setattr(mail, "tls_context", lambda **more: genuine(found.file, **more))
    return found


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_tls_from_the_start_or_by_starttls(authority: servers.Authority, scheme: str) -> None:
    context = authority.context("localhost")
    inbox = Inbox()
    options = {"tls_context": context} if scheme == "smtp" else {"ssl_context": context}
    with tls_smtp(inbox, options) as port:
        send(url(port, scheme=scheme, host="localhost"))
    assert len(inbox.mails) == 1


def test_a_certificate_of_another_host_is_not_accepted(authority: servers.Authority) -> None:
    with tls_smtp(Inbox(), {"tls_context": authority.context("elsewhere")}) as port:
        found = problem(url(port, host="localhost"))
    assert (found.text, found.retry) == ("no TLS connection to localhost", True)


@contextmanager
def tls_smtp(inbox: Inbox, options: dict[str, ssl.SSLContext]) -> Iterator[int]:
    class Trusted(Controller):
        def _trigger_server(self) -> None:
            """Controller's own self-test would need the certificate to be trusted."""
            client = ssl.create_default_context()
            client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection((self.hostname, self.port), 5) as sock:
                wrapped = client.wrap_socket(sock) if self.ssl_context else sock
                wrapped.recv(1024)

    controller = Trusted(inbox, hostname="127.0.0.1", port=servers_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.mark.parametrize(("answer", "retry"), [("451 later", True), ("554 no", False), ("421 shutting down", True)])
def test_what_the_server_answers_says_whether_to_try_again(answer: str, retry: bool) -> None:
    with smtp(Inbox(answer=answer)) as port:
        found = problem(url(port))
    assert found.retry is retry
    assert answer[:3] in found.text


def test_refused_recipients() -> None:
    inbox = Inbox(refuse="ana")
    with smtp(inbox) as port:
        some = problem(url(port))
        inbox.refuse = ""
        inbox.refuse = "o"
        every = problem(url(port).replace("&to=ana@example.com", ""))
    assert (some.text, some.retry) == ("127.0.0.1 refused 1 of the recipients (550)", False)
    assert (every.text, every.retry) == ("127.0.0.1 refused every recipient (550)", False)


@pytest.mark.parametrize(
    ("handler", "word"),
    [
        (servers.silent, "did not answer in time"),
        (servers.once(b""), "ended the connection"),
        (servers.once(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "127.0.0.1"),
    ],
)
def test_something_else_than_a_mail_server(handler: Callable[[Any], None], word: str) -> None:
    def greet(peer: Any) -> None:
        if handler is servers.silent:
            peer.hold()
        elif word == "127.0.0.1":
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with servers.Server(greet) as server:
        found = problem(url(server.port))
    assert word in found.text
    assert found.retry


def test_nobody_there_and_a_private_address(settings: Any) -> None:
    with servers.refusing_port() as port:
        found = problem(url(port))
    assert (found.retry, "refused the connection" in found.text) == (True, True)
    blocked = problem(url(25, host="10.0.0.1"))
    assert (blocked.retry, "WSMON_ALLOW_PRIVATE_TARGETS" in blocked.text) == (False, True)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://h/?from=a@b.c&to=a@b.c", "must begin with smtp://"),
        ("smtp:///?from=a@b.c&to=a@b.c", "must begin with smtp://"),
        ("smtp://h:99999/?from=a@b.c&to=a@b.c", "is no address"),
        ("smtp://h/?to=a@b.c", "from="),
        ("smtp://h/?from=a@b.c", "to="),
        ("smtp://h/?from=a@b.c&to=nobody", "to="),
        ("smtp://h/?from=a@b.c&to=a@b.c&cc=x@y.z", "nothing else"),
        ("smtp://h/?from=a@b.c&" + "&".join(f"to=a{n}@b.c" for n in range(51)), "50 recipients"),
    ],
)
def test_what_is_no_address(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        mail.read(address)


def test_ports_by_default() -> None:
    assert mail.read("smtp://h/?from=a@b.c&to=a@b.c,d@e.f") == mail.Relay(
        "h", 587, False, "a@b.c", ("a@b.c", "d@e.f")
    )
    assert mail.read("smtps://h/?from=a@b.c&to=a@b.c").port == 465


@pytest.mark.django_db
def test_an_alert_arrives_by_mail() -> None:
    inbox = Inbox()
    with smtp(inbox) as port:
        make_channel("mail", url(port))
        raised("a", title="Stripe\nis down")
        send_due()
    assert Notification.objects.get().state == "sent"
    assert message_from_bytes(inbox.mails[0][1], policy=default)["Subject"] == "Stripe is down"
