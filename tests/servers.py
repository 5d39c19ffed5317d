"""Real servers on loopback that behave, or misbehave, as told. Each connection gets a thread.

with Server(answering(b"ok")) as server:
    client.get(server.url("/health"), timeout=1)
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Handler = Callable[["Peer"], None]
LOOPBACK = ["127.0.0.0/8", "::1/128"]


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        """Which connection of this server it is, from 1."""
        self._buffer = b""

    def read_request(self) -> bytes:
        """One request, head and body; b"" when the client hung up. Kept in ``server.requests`` too."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.sock.recv(65_536)
            if not data:
                return b""
            self._buffer += data
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(rest) < length:
            rest += self.sock.recv(65_536)
        self._buffer = rest[length:]
        request = head + b"\r\n\r\n" + rest[:length]
        self.server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def drip(self, data: bytes, every: float = 0.05) -> None:
        """Send a byte at a time until the client hangs up."""
        for index in range(len(data)):
            self.send(data[index : index + 1])
            if self.server.stopped.wait(every):
                return

    def hold(self) -> None:
        """Keep the connection open, silently, until the server is stopped."""
        self.server.stopped.wait(30)


class Server:
    """A listening socket with a handler for each connection; with ``tls``, behind a handshake."""

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.handler = handler
        self.tls = tls
        self.host = host
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._peers: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]

    def url(self, path: str = "/", host: str | None = None) -> str:
        """A URL of this server."""
        return f"{'https' if self.tls else 'http'}://{host or self._literal}:{self.port}{path}"

    @property
    def _literal(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __enter__(self) -> Server:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._listener.close()
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(sock)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._peers.append(sock)
            self.handler(Peer(self, sock, number))
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def http(
    body: bytes = b"ok\n", status: str = "200 OK", headers: dict[str, str] | None = None, *, length: bool = True
) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sending(data: bytes) -> Handler:
    """Answer every request with these bytes, keeping the connection alive."""

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(data)

    return handle


def answering(body: bytes = b"ok\n", status: str = "200 OK", headers: dict[str, str] | None = None) -> Handler:
    """Answer every request properly, keeping the connection alive."""
    return sending(http(body, status, headers))


def once(data: bytes) -> Handler:
    """Answer one request with these bytes, then close."""

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)

    return handle


def dripping(head: bytes, slow: bytes) -> Handler:
    """Answer with ``head`` at once and ``slow`` a byte at a time."""

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(head)
        peer.drip(slow)

    return handle


def silent(peer: Peer) -> None:
    """Accept, read, and never answer."""
    peer.read_request()
    peer.hold()


def endless(peer: Peer) -> None:
    """Announce and send a gigabyte."""
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    block = b"x" * 65_536
    for _ in range(16_384):
        peer.send(block)


def gzip_bomb(megabytes: int) -> bytes:
    """A small gzip answer that unpacks to many megabytes of zeros."""
    packed = gzip.compress(b"\0" * (megabytes * 1_048_576))
    return http(packed, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})


def redirecting(location: str, status: str = "302 Found") -> Handler:
    """Redirect every request."""
    return answering(b"", status, {"Location": location})


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


class Authority:
    """A certificate authority of the test's own, and servers' TLS contexts signed by it."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.file = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def context(self, *names: str, days: float = 90) -> ssl.SSLContext:
        """A server context for these names, whose certificate has ``days`` left (negative: expired)."""
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            *names, not_before=now - timedelta(days=100), not_after=now + timedelta(days=days, minutes=5)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context


def self_signed(directory: Path) -> ssl.SSLContext:
    """A server context whose certificate is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = directory / "self.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


class Udp:
    """A UDP socket on loopback that answers each datagram by a function; None keeps it silent."""

    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self._reply = reply
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.received = 0

    def __enter__(self) -> Udp:
        self._sock.settimeout(0.1)
        self._running = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join(2)
        self._sock.close()

    def _serve(self) -> None:
        while self._running:
            try:
                data, address = self._sock.recvfrom(4_096)
            except TimeoutError:
                continue
            self.received += 1
            answer = self._reply(data)
            if answer is not None:
                self._sock.sendto(answer, address)


def wait_until(holds: Callable[[], bool], seconds: float = 2.0) -> bool:
    """Wait for something another thread does; False when it does not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.005)
    return holds()
