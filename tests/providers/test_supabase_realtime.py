"""Supabase Realtime."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import providers
from providers.base import ProbeContext, ProbeOutcome
from providers.runner import run
from tests.providers.contract import NOW, Reply, VendorContract, World, planted
from wsmon import net
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome

URL = {"SUPABASE_URL": "https://weddings.supabase.co"}
HEADERS = {"x-rate-limit": "100", "x-rate-limit-remaining": "99", "x-rate-rolling": "0.4"}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NAMED = ("SUPABASE_URL", "SUPABASE_ANON_KEY")


class TestSupabaseRealtime(VendorContract):
    slug = "supabase_realtime"
    variables = URL | {"SUPABASE_ANON_KEY": planted("sb_publishable_")}
    connectivity_variables = URL
    routes = [("GET", r"^https://weddings\.supabase\.co/realtime/v1/api/ping$", Reply(200, "ping", HEADERS))]
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(429, "limited")
    speaking_kinds = ("authentication",)  # functionality goes over a WebSocket, below
    missing = {"connectivity": ("SUPABASE_URL",), "authentication": NAMED, "functionality": NAMED}

    def test_it_shows_the_headroom(self) -> None:
        details = self.probe("authentication", self.healthy_world()).details
        assert (details["rate_limit_limit"], details["rate_limit_remaining"]) == (100, 99)

    def test_its_url_can_be_set_apart(self) -> None:
        world = World(self.slug, [("GET", "^https://realtime.example.com/api/ping$", Reply(401, "anonymous"))])
        outcome = self.probe("connectivity", world, {"SUPABASE_REALTIME_URL": "https://realtime.example.com"} | URL)
        assert outcome.outcome == Outcome.HEALTHY


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A short unmasked WebSocket frame: https://www.rfc-editor.org/rfc/rfc6455#section-5.2."""
    return bytes([0x80 | opcode, len(payload)]) + payload


def phoenix(status: str = "ok", ref: str = "1", event: str = "phx_reply") -> bytes:
    reply = {"topic": "phoenix", "event": event, "payload": {"status": status, "response": {}}, "ref": ref}
    return frame(json.dumps(reply).encode())


class Server:
    """One WebSocket server on loopback that takes one client after the other."""

    def __init__(
        self,
        behave: Callable[[socket.socket, dict[str, str], str], None],
        secured: ssl.SSLContext | None = None,
    ) -> None:
        self.behave = behave
        self.secured = secured
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if secured else ''}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.path = ""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                try:
                    self._greet(self.secured.wrap_socket(peer, server_side=True) if self.secured else peer)
                except OSError:
                    continue

    def _greet(self, peer: socket.socket) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = peer.recv(4096)
            if not more:
                return
            raw += more
        first, *lines = raw.decode().split("\r\n")
        self.path = first.split()[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.behave(peer, headers, self.path)


def upgrade(peer: socket.socket, headers: dict[str, str]) -> None:
    accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()).decode()
    peer.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )


def heard(peer: socket.socket) -> Any:
    """The JSON of one short masked frame."""
    _, length = peer.recv(2)
    size = length & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", peer.recv(2))
    mask = peer.recv(4)
    return json.loads(bytes(byte ^ mask[at % 4] for at, byte in enumerate(peer.recv(size))))


def answering(*frames: bytes) -> Callable[[socket.socket, dict[str, str], str], None]:
    def behave(peer: socket.socket, headers: dict[str, str], path: str) -> None:
        upgrade(peer, headers)
        assert heard(peer)["event"] == "heartbeat"
        for each in frames:
            peer.sendall(each)
        peer.recv(1)

    return behave


def plain(status: str) -> Callable[[socket.socket, dict[str, str], str], None]:
    def behave(peer: socket.socket, headers: dict[str, str], path: str) -> None:
        peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    return behave


@contextmanager
def serving(
    behave: Callable[[socket.socket, dict[str, str], str], None], secured: ssl.SSLContext | None = None
) -> Iterator[Server]:
    server = Server(behave, secured)
    try:
        yield server
    finally:
        server.listener.close()


class TestHeartbeat:
    """The WebSocket, over a real socket."""

    def probe(self, url: str, timeout: float = 3, allowed: tuple[str, ...] = ("127.0.0.0/8",)) -> ProbeOutcome:
        context = ProbeContext(
            http=Client(allowed),
            timeout=timeout,
            now=NOW,
            variables={"SUPABASE_URL": url, "SUPABASE_ANON_KEY": planted("sb_publishable_")},
        )
        outcome = run(providers.get("supabase_realtime"), "functionality", context)
        assert "planted" not in str(outcome)
        return outcome

    def test_an_answered_heartbeat_is_healthy(self) -> None:
        with serving(answering(phoenix())) as server:
            outcome = self.probe(server.url)
        assert outcome.outcome == Outcome.HEALTHY, outcome.message
        assert outcome.http_status == 101
        assert outcome.timings.total_ms
        assert server.path.startswith("/realtime/v1/websocket?apikey=sb_publishable_planted-Secret%2B")
        assert server.path.endswith("&vsn=1.0.0")

    def test_other_messages_and_pings_before_it_do_not_matter(self) -> None:
        frames = (phoenix(ref="other", event="presence"), frame(b"ping", 9), phoenix())
        with serving(answering(*frames)) as server:
            assert self.probe(server.url).outcome == Outcome.HEALTHY

    @pytest.mark.parametrize(
        "sent",
        [phoenix(status="error"), frame(b"garbage"), frame(b"\xff\xfe"), frame(b"", 8), frame(b"x", 2)],
        ids=["not ok", "garbage", "not text", "a close", "binary"],
    )
    def test_any_other_reply_is_not_the_vendor_s(self, sent: bytes) -> None:
        with serving(answering(sent)) as server:
            outcome = self.probe(server.url)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR)

    @pytest.mark.parametrize(
        ("status", "outcome", "category"),
        [
            ("401 Unauthorized", Outcome.ERROR, Category.AUTHENTICATION_ERROR),
            ("403 Forbidden", Outcome.ERROR, Category.AUTHENTICATION_ERROR),
            ("429 Too Many Requests", Outcome.DEGRADED, Category.RATE_LIMITED),
            ("503 Service Unavailable", Outcome.CRITICAL, Category.SERVER_ERROR),
            ("200 OK", Outcome.CRITICAL, Category.VALIDATION_ERROR),
        ],
    )
    def test_a_refused_upgrade_is_judged_by_its_status(
        self, status: str, outcome: Outcome, category: Category
    ) -> None:
        with serving(plain(status)) as server:
            found = self.probe(server.url)
        assert (found.outcome, found.category) == (outcome, category)
        assert found.http_status == int(status[:3])

    def test_a_redirect_is_not_followed(self) -> None:
        asked: list[str] = []

        def redirect(peer: socket.socket, headers: dict[str, str], path: str) -> None:
            asked.append(path)
            peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

        with serving(redirect) as server:
            outcome = self.probe(server.url)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR)
        assert (outcome.http_status, outcome.message) == (302, "the WebSocket was answered 302 instead of 101")
        assert len(asked) == 1

    @pytest.mark.parametrize("sent", [b"\r\n", b"SSH-2.0-x\r\n\r\n", b"\xff\xfe\r\n\r\n"])
    def test_what_is_not_http_is_not_the_vendor_s(self, sent: bytes) -> None:
        with serving(lambda peer, headers, path: peer.sendall(sent)) as server:
            outcome = self.probe(server.url)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR)
        assert "None" not in outcome.message

    def test_silence_ends_at_the_deadline(self) -> None:
        with serving(answering()) as server:
            outcome = self.probe(server.url, timeout=0.3)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TIMEOUT_ERROR)
        assert outcome.timings.total_ms

    def test_a_handshake_that_drips_ends_at_the_deadline(self) -> None:
        def drip(peer: socket.socket, headers: dict[str, str], path: str) -> None:
            for _ in range(200):
                peer.sendall(b"H")
                time.sleep(0.05)

        with serving(drip) as server:
            outcome = self.probe(server.url, timeout=0.4)
        assert outcome.category == Category.TIMEOUT_ERROR

    def test_a_flood_is_cut_off(self) -> None:
        def flood(peer: socket.socket, headers: dict[str, str], path: str) -> None:
            upgrade(peer, headers)
            peer.sendall(b"\x82\x7f" + struct.pack(">Q", 1 << 30))
            for _ in range(1 << 14):
                peer.sendall(b"x" * 65_536)

        with serving(flood) as server:
            outcome = self.probe(server.url, timeout=20)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.NETWORK_ERROR)

    def test_a_connection_that_breaks_off_is_a_network_error(self) -> None:
        with serving(lambda peer, headers, path: None) as server:
            outcome = self.probe(server.url)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.NETWORK_ERROR)
        assert outcome.message == "the WebSocket broke off before the heartbeat's answer"

    def test_the_guard_holds_for_the_websocket_too(self) -> None:
        with serving(answering(phoenix())) as server:
            outcome = self.probe(server.url, allowed=())
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)

    def test_it_works_over_tls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        trusting = net.tls_context(str(tmp_path / "ca.pem"))
        monkeypatch.setattr(net, "tls_context", lambda *_, **__: trusting)
        secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(secured)
        with serving(answering(phoenix()), secured) as server:
            outcome = self.probe(server.url)
        assert outcome.outcome == Outcome.HEALTHY, outcome.message
        assert outcome.timings.tls_ms

    def test_a_plain_server_behind_https_is_a_tls_error(self) -> None:
        with serving(plain("200 OK")) as server:
            outcome = self.probe(server.url.replace("http:", "https:"), timeout=0.5)
        assert outcome.outcome == Outcome.CRITICAL
        assert outcome.category in {Category.TLS_ERROR, Category.TIMEOUT_ERROR}

    @pytest.mark.parametrize("url", ["weddings", "ftp://x", "http://", "http://[::1", "http://x:99999999"])
    def test_a_url_that_is_none_is_our_mistake(self, url: str) -> None:
        outcome = self.probe(url)
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
