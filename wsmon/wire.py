"""HTTP/1.1 on a socket, under the transport adapter of ``requests`` (wsmon/http.py).

Why not urllib3's pool: here the deadline holds over every single read, the caps hold before anything is
buffered or decoded, each phase is timed, and a request costs a third of the CPU. The parser is llhttp's,
strict, by way of httptools.
"""

from __future__ import annotations

import select
import socket
import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple

import httptools

from wsmon import net
from wsmon.net import Exchange, Guard, HttpError, TlsInfo
from wsmon.vocabulary import Category

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "REPORT"})
_READ = 65_536
_HEADER_BYTES = 65_536
_HEADERS = 200
_OLDEST = 300.0
"""Seconds after which a connection is replaced, so that moved names and new certificates are noticed."""
_IDLE_FOR_POST = 3.0
"""A request that must not be sent twice takes no connection that the other side may just be closing."""


class Target(NamedTuple):
    """Where a URL leads: everything the wire needs, parsed once."""

    scheme: str
    host: str
    port: int
    path: str
    netloc: str
    url: str
    authorization: str | None


class _Stale(Exception):
    """A kept-alive connection turned out closed before the first byte of an answer."""


class Connection:
    """An open connection and what is known of it."""

    __slots__ = ("born", "sock", "tls", "used")

    def __init__(self, sock: socket.socket, tls: TlsInfo | None) -> None:
        self.sock = sock
        self.tls = tls
        self.born = self.used = monotonic()

    def is_fit(self, longest_idle: float) -> bool:
        """False when it is too old, was idle too long, was closed, or has bytes nobody asked for."""
        now = monotonic()
        if now - self.born > _OLDEST or now - self.used > longest_idle:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class IdleConnections:
    """Kept-alive connections by target. At most ``limit`` in all: the longest idle one is closed first."""

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._by_key: OrderedDict[object, deque[Connection]] = OrderedDict()
        self._count = 0

    def take(self, key: object, longest_idle: float) -> Connection | None:
        """Return a fit connection, the last one used; close those that are not."""
        while True:
            with self._lock:
                connections = self._by_key.get(key)
                if not connections:
                    return None
                connection = connections.pop()
                self._count -= 1
            if connection.is_fit(longest_idle):
                return connection
            connection.sock.close()

    def give(self, key: object, connection: Connection) -> None:
        """Keep a connection for the next exchange."""
        connection.used = monotonic()
        with self._lock:
            connections = self._by_key.get(key)
            if connections is None:
                connections = self._by_key[key] = deque()
            connections.append(connection)
            self._by_key.move_to_end(key)
            self._count += 1
            surplus = self._pop_oldest() if self._count > self._limit else None
        if surplus is not None:
            surplus.sock.close()

    def _pop_oldest(self) -> Connection | None:
        while self._by_key:
            key, connections = next(iter(self._by_key.items()))
            if connections:
                self._count -= 1
                return connections.popleft()
            del self._by_key[key]
        return None

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            connections = [one for several in self._by_key.values() for one in several]
            self._by_key.clear()
            self._count = 0
        for connection in connections:
            connection.sock.close()


class Answer:
    """An HTTP answer while and after it is parsed: the callbacks of httptools, and their result.

    Callbacks never raise (httptools would wrap it): what is wrong is left in ``fault``.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_encoded",
        "_head",
        "_interim",
        "_keep_alive",
        "_limit",
        "_parser",
        "_size",
        "complete",
        "extra",
        "fault",
        "framed",
        "headers",
        "headers_done",
        "status",
        "tls",
        "truncated",
    )

    def __init__(self, method: str, max_bytes: int, tls: TlsInfo | None) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head = method == "HEAD"
        self._limit = max_bytes
        self._body: list[bytes] = []
        self._size = 0
        self._encoded = 0
        self._decoder: Any = None
        self._interim = self._keep_alive = False
        self.tls = tls
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.headers_done = self.complete = self.truncated = self.extra = self.framed = False
        self.fault = ""

    def feed(self, data: bytes) -> None:
        """Take bytes off the wire; raise :class:`HttpError` when they are not HTTP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fault = "switched to another protocol"
        except httptools.HttpParserError:
            if not self.complete:
                self.fault = "answers, but not in proper HTTP"
            self.extra = True

    def is_reusable(self) -> bool:
        """True when the connection may carry another exchange."""
        clean = self.complete and not (self.truncated or self.extra or self.fault)
        return clean and self.framed and self._keep_alive

    def body(self) -> bytes:
        """The decoded body, at most ``max_bytes`` long; raise :class:`HttpError` for a broken encoding."""
        if self._decoder is not None and self._encoded and not self.truncated and not self._decoder.eof:
            raise HttpError("the answer's compression is broken", Category.VALIDATION_ERROR)
        whole = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        return whole[: self._limit]

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped."""
        if self.headers_done:
            return
        if len(self.headers) >= _HEADERS:
            self.fault = f"sent more than {_HEADERS} headers"
            return
        self.headers.append((name.decode("latin-1"), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        """Find out how the body is framed and encoded."""
        if self.headers_done:
            self.extra = True
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            return
        self.status = status
        self.headers_done = True
        self._keep_alive = self._parser.should_keep_alive()  # later the parser has forgotten
        self.framed = self._head or status in (204, 304)
        for name, value in self.headers:
            lower = name.lower()
            if lower in ("content-length", "transfer-encoding"):
                self.framed = True
            elif lower == "content-encoding" and not (self._head or status in (204, 304)):
                self._choose_decoder(value.lower())
        if self._head:
            self.complete = True

    def _choose_decoder(self, encoding: str) -> None:
        if encoding in ("gzip", "x-gzip"):
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif encoding == "deflate":
            self._decoder = zlib.decompressobj()
        elif encoding != "identity":
            self.fault = "answered in an encoding nobody asked for"

    def on_body(self, data: bytes) -> None:
        """A piece of the body; whatever is beyond the cap is not kept."""
        if self.truncated or self.complete or self.fault:
            return
        self._encoded += len(data)
        if self._decoder is not None:
            try:
                data = self._decoder.decompress(data, self._limit - self._size + 1)
            except zlib.error:
                self.fault = "answered with broken compression"
                return
        self._body.append(data)
        self._size += len(data)
        self.truncated = self._size > self._limit or self._encoded > self._limit

    def on_message_complete(self) -> None:
        """The end, or the end of an interim answer (1xx)."""
        if self._interim and not self.headers_done:
            self._interim = False
            self.headers.clear()
            return
        self.complete = True


class Call:
    """One request about to be sent. ``urlopen`` is what ``requests`` calls; the rest is ours."""

    def __init__(
        self,
        target: Target,
        exchange: Exchange,
        idle: IdleConnections,
        guard: Guard,
        *,
        verify: bool | str,
        max_bytes: int,
    ) -> None:
        self.target = target
        self.exchange = exchange
        self.idle = idle
        self.guard = guard
        self.verify = verify
        self.max_bytes = max_bytes
        self.key = (target.scheme, target.host, target.port, verify)

    def urlopen(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], **_ignored: object
    ) -> Answer:
        """Send the request and read the whole answer; raise :class:`HttpError`.

        A kept-alive connection found closed is replaced once, silently, for methods that may be repeated.
        """
        lines = [f"{method} {url} HTTP/1.1\r\nHost: {headers.get('Host') or self.target.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")
        repeatable = method in IDEMPOTENT
        connection = self.idle.take(self.key, _OLDEST if repeatable else _IDLE_FOR_POST)
        if connection is not None:
            try:
                return self._converse(connection, method, request, reused=True)
            except _Stale:
                if not repeatable:
                    raise self._broken("closed the connection instead of answering") from None
        return self._converse(self._open(), method, request, reused=False)

    def _open(self) -> Connection:
        target, exchange = self.target, self.exchange
        sock = net.connect(target.host, target.port, self.guard, exchange)
        if target.scheme == "https":
            return Connection(*net.start_tls(sock, target.host, exchange, self.verify))
        return Connection(sock, None)

    def _converse(self, connection: Connection, method: str, request: bytes, *, reused: bool) -> Answer:
        answer = Answer(method, self.max_bytes, connection.tls)
        keep = False
        try:
            self._send(connection.sock, request)
            self._receive(connection.sock, answer, reused)
            keep = answer.is_reusable()
        finally:
            if keep:
                self.idle.give(self.key, connection)
            else:
                connection.sock.close()
        return answer

    def _send(self, sock: socket.socket, request: bytes) -> None:
        self.exchange.phase = "sending the request"
        sock.settimeout(self.exchange.left())
        try:
            sock.sendall(request)
        except TimeoutError:
            raise self.exchange.timed_out() from None
        except OSError:
            return  # it may have answered before it hung up; reading tells

    def _receive(self, sock: socket.socket, answer: Answer, reused: bool) -> None:
        exchange = self.exchange
        exchange.phase = "waiting for the first byte"
        sent = monotonic()
        received = 0
        while not (answer.complete or answer.truncated):
            data = self._read(sock, stale=reused and not received)
            if not received:
                exchange.first_byte_ms = net.add_ms(exchange.first_byte_ms, sent)
                exchange.phase = "reading the answer"
            if not data:
                self._end(answer, received)
                return
            received += len(data)
            answer.feed(data)
            if answer.fault:
                raise self._invalid(answer.fault)
            if received > _HEADER_BYTES and not answer.headers_done:
                raise self._invalid(f"sent more than {_HEADER_BYTES // 1024} KiB of headers")

    def _read(self, sock: socket.socket, *, stale: bool) -> bytes:
        sock.settimeout(self.exchange.left())
        try:
            data = sock.recv(_READ)
        except TimeoutError:
            raise self.exchange.timed_out() from None
        except OSError:
            if stale:
                raise _Stale from None
            raise self._broken(f"broke the connection while we were {self.exchange.phase}") from None
        if not data and stale:
            raise _Stale
        return data

    def _end(self, answer: Answer, received: int) -> None:
        """The other side closed: the end of an unframed body, or a fault."""
        if not received:
            raise self._broken("closed the connection without an answer")
        if not answer.headers_done:
            raise self._broken("closed the connection in the middle of the headers")
        if answer.framed:
            raise self._broken("closed the connection in the middle of the answer")
        answer.complete = True

    def _broken(self, what: str) -> HttpError:
        return HttpError(f"{self.target.host} {what}", Category.NETWORK_ERROR)

    def _invalid(self, what: str) -> HttpError:
        return HttpError(f"{self.target.host} {what}", Category.VALIDATION_ERROR)
