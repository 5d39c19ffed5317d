"""Deadlines, caps, garbage and kept connections, against real servers that misbehave."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers import (
    LOOPBACK,
    Handler,
    Peer,
    Server,
    answering,
    dripping,
    endless,
    gzip_bomb,
    http,
    once,
    refusing_port,
    sending,
    silent,
)
from tests.wsmon.http_cases import failure
from wsmon.http import Client, HttpError
from wsmon.vocabulary import Category


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(LOOPBACK)
    yield made
    made.close()


# -- deadlines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "phase"),
    [
        (silent, "waiting for the first byte"),
        (lambda peer: peer.hold(), "waiting for the first byte"),
        (dripping(b"HTTP/1.1 200 OK\r\n", b"X-Slow: " + b"a" * 500), "reading the answer"),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"a" * 500), "reading the answer"),
        (
            dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 99),
            "reading the answer",
        ),
        (dripping(b"", b"HTTP/1.1 200 OK\r\n"), "reading the answer"),
    ],
)
def test_the_deadline_beats_silence_and_dripping(client: Client, handler: Handler, phase: str) -> None:
    with Server(handler) as server:
        error = failure(client, server.url(), timeout=0.3)
    assert error.category is Category.TIMEOUT_ERROR
    assert error.message == f"timed out after 0.3 s {phase}"
    assert not error.ours


def test_the_deadline_beats_a_hanging_handshake(client: Client) -> None:
    with Server(lambda peer: peer.hold()) as server:
        error = failure(client, f"https://127.0.0.1:{server.port}/", timeout=0.3)
    assert error.category is Category.TIMEOUT_ERROR
    assert "in the TLS handshake" in error.message
    assert error.timings.connect_ms is not None
    assert error.timings.first_byte_ms is None


def test_the_deadline_beats_a_peer_that_does_not_read(client: Client) -> None:
    with Server(lambda peer: peer.hold()) as server, pytest.raises(HttpError) as caught:
        client.post(server.url(), body=b"x" * 20_000_000, timeout=0.3)
    assert caught.value.category is Category.TIMEOUT_ERROR
    assert "sending the request" in caught.value.message


def test_the_deadline_holds_over_all_redirects(client: Client) -> None:
    def slow(peer: Peer) -> None:
        while request := peer.read_request():
            peer.server.stopped.wait(0.15)
            number = int(request.split(b" ")[1].strip(b"/") or b"0")
            peer.send(http(b"", "302 Found", {"Location": f"/{number + 1}"}))

    with Server(slow) as server:
        error = failure(client, server.url("/0"), timeout=0.4, redirects="follow")
    assert error.category is Category.TIMEOUT_ERROR


# -- sizes --------------------------------------------------------------------------------------------


def test_a_gigabyte_is_cut_at_the_cap(client: Client) -> None:
    with Server(endless) as server:
        response = client.get(server.url(), timeout=5, max_bytes=100_000)
        assert len(response.body) == 100_000
        assert response.truncated
        assert client.get(server.url(), timeout=5, max_bytes=10).body == b"x" * 10
        assert server.connections == 2  # what was cut is not used again


def test_a_gzip_bomb_is_cut_at_the_cap(client: Client) -> None:
    with Server(sending(gzip_bomb(64))) as server:
        response = client.get(server.url(), timeout=5)
    assert len(response.body) == 1_048_576
    assert response.truncated


def test_a_body_of_exactly_the_cap_is_whole(client: Client) -> None:
    with Server(answering(b"x" * 1000)) as server:
        response = client.get(server.url(), timeout=2, max_bytes=1000)
    assert len(response.body) == 1000
    assert not response.truncated


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 300, "more than 200 headers"),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 300_000, "more than 64 KiB of headers"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000, "more than 64 KiB of headers"),
    ],
)
def test_too_many_and_too_large_headers_are_refused(client: Client, data: bytes, says: str) -> None:
    with Server(once(data)) as server:
        error = failure(client, server.url())
    assert error.category is Category.VALIDATION_ERROR
    assert says in error.message


# -- answers that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    ],
)
def test_garbage_instead_of_http_is_told(client: Client, data: bytes) -> None:
    with Server(once(data + b"\r\n" * 3)) as server:
        error = failure(client, server.url())
    assert error.category is Category.VALIDATION_ERROR
    assert error.message == "127.0.0.1 answers, but not in proper HTTP"
    assert not error.ours


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nX-A", "in the middle of the headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "in the middle of the answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "in the middle of the answer"),
    ],
)
def test_closing_early_is_told(client: Client, data: bytes, says: str) -> None:
    with Server(once(data)) as server:
        error = failure(client, server.url())
        assert server.connections == 1  # a fresh connection is never retried
    assert error.category is Category.NETWORK_ERROR
    assert says in error.message


def test_a_reset_is_told(client: Client) -> None:
    def reset(peer: Peer) -> None:
        peer.read_request()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.sock.close()

    with Server(reset) as server:
        error = failure(client, server.url())
    assert error.category is Category.NETWORK_ERROR
    assert "broke the connection" in error.message


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (b"not gzip at all", "gzip", "broken compression"),
        (gzip.compress(b"x" * 5000, mtime=0)[:-12], "gzip", "compression is broken"),
        (b"abc", "br", "encoding nobody asked for"),
    ],
)
def test_broken_compression_is_told(client: Client, body: bytes, encoding: str, says: str) -> None:
    with Server(answering(body, headers={"Content-Encoding": encoding})) as server:
        error = failure(client, server.url())
    assert error.category is Category.VALIDATION_ERROR
    assert says in error.message


def test_a_switch_to_another_protocol_is_refused(client: Client) -> None:
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    with Server(once(upgrade)) as server:
        assert failure(client, server.url()).category is Category.VALIDATION_ERROR


def test_a_refused_connection_is_told(client: Client) -> None:
    with refusing_port() as port:
        error = failure(client, f"http://127.0.0.1:{port}/")
    assert error.category is Category.NETWORK_ERROR
    assert error.message == f"127.0.0.1:{port} refused the connection"


def test_a_name_that_does_not_exist_is_told(client: Client) -> None:
    error = failure(client, "http://nosuchhost.invalid/")
    assert error.category is Category.DNS_ERROR
    assert "nosuchhost.invalid" in error.message


# -- keeping connections ------------------------------------------------------------------------------


def test_connections_are_kept_and_their_phases_not_timed_twice(client: Client) -> None:
    with Server(answering()) as server:
        first = client.get(server.url(), timeout=2).timings
        second = client.get(server.url(), timeout=2).timings
        assert server.connections == 1
    assert first.connect_ms is not None
    assert (second.dns_ms, second.connect_ms, second.tls_ms) == (None, None, None)
    assert second.first_byte_ms is not None
    assert second.total_ms is not None
    assert second.total_ms >= second.first_byte_ms


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"])
def test_connections_that_say_so_are_not_kept(client: Client, head: bytes) -> None:
    with Server(once(head + b"Content-Length: 2\r\n\r\nok")) as server:
        for _ in range(2):
            assert client.get(server.url(), timeout=2).body == b"ok"
        assert server.connections == 2


def test_bytes_that_nobody_asked_for_spoil_a_connection(client: Client) -> None:
    with Server(sending(http(b"first") + http(b"smuggled"))) as server:
        assert client.get(server.url(), timeout=2).body == b"first"
        assert client.get(server.url(), timeout=2).body == b"first"
        assert server.connections == 2


def closing_after_first(peer: Peer) -> None:
    """Answer once, take a second request on the same connection, and close without a word."""
    peer.read_request()
    peer.send(http(b"from connection %d" % peer.number))
    peer.read_request()


def test_a_kept_connection_found_closed_is_replaced_silently(client: Client) -> None:
    with Server(closing_after_first) as server:
        assert client.get(server.url(), timeout=2).body == b"from connection 1"
        assert client.get(server.url(), timeout=2).body == b"from connection 2"
        assert len(server.requests) == 3


def test_a_request_that_may_not_be_repeated_is_not(client: Client) -> None:
    with Server(closing_after_first) as server:
        client.get(server.url(), timeout=2)
        with pytest.raises(HttpError) as caught:
            client.post(server.url(), body="pay", timeout=2)
        assert server.connections == 1
    assert caught.value.category is Category.NETWORK_ERROR


def test_the_silent_retry_happens_once(client: Client) -> None:
    def first_only(peer: Peer) -> None:
        peer.read_request()
        if peer.number == 1:
            peer.send(http())
            peer.read_request()

    with Server(first_only) as server:
        client.get(server.url(), timeout=2)
        error = failure(client, server.url())
        assert server.connections == 2
    assert "without an answer" in error.message


def test_many_threads_share_a_client(client: Client) -> None:
    with Server(answering()) as server, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: client.get(server.url(), timeout=5).status, range(200)))
        assert server.connections <= 16
    assert found == [200] * 200


def test_only_so_many_idle_connections_are_kept() -> None:
    client = Client(LOOPBACK, connections=2)
    servers = [Server(answering()) for _ in range(3)]
    for server in servers:
        with server:
            client.get(server.url(), timeout=2)
    with Server(answering()) as one, Server(answering()) as two, Server(answering()) as three:
        for server in (one, two, three, one):
            client.get(server.url(), timeout=2)
        assert (one.connections, two.connections, three.connections) == (2, 1, 1)
    client.close()


def test_a_closed_client_connects_anew(client: Client) -> None:
    with Server(answering()) as server:
        client.get(server.url(), timeout=2)
        client.close()
        client.get(server.url(), timeout=2)
        assert server.connections == 2
