"""The outbound client against real servers that misbehave."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from tests.servers import (
    LOOPBACK,
    Authority,
    Handler,
    Peer,
    Server,
    answering,
    dripping,
    endless,
    gzip_bomb,
    http,
    once,
    redirecting,
    refusing_port,
    self_signed,
    sending,
    silent,
)
from wsmon.http import BlockedAddress, Client, HttpError, NotJson, Response, http_client
from wsmon.vocabulary import Category


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(LOOPBACK)
    yield made
    made.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def failure(client: Client, url: str, timeout: float = 2.0, **options: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        client.get(url, timeout=timeout, **options)
    assert caught.value.timings.total_ms is not None
    assert str(caught.value) == caught.value.message
    return caught.value


# -- what is sent and what comes back -----------------------------------------------------------------


def test_it_returns_the_whole_answer(client: Client) -> None:
    with Server(answering(b"hello", headers={"X-Thing": "a"})) as server:
        response = client.get(server.url("/path?q=1"), timeout=2)
    assert (response.status, response.body, response.ok) == (200, b"hello", True)
    assert response.headers["x-thing"] == "a"
    assert response.url == server.url("/path?q=1")
    assert response.tls is None
    assert server.requests[0].startswith(b"GET /path?q=1 HTTP/1.1\r\n")


def test_it_names_itself_and_sends_no_cookie_back(client: Client) -> None:
    with Server(answering(headers={"Set-Cookie": "session=1"})) as server:
        client.get(server.url(), timeout=2)
        client.get(server.url(), timeout=2)
    assert b"User-Agent: wsmon/" in server.requests[1]
    assert b"cookie" not in server.requests[1].lower()
    assert f"Host: 127.0.0.1:{server.port}".encode() in server.requests[0]


def test_it_ignores_proxies_of_the_environment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Server(answering()) as server:
        assert client.get(server.url(), timeout=2).status == 200


def test_it_posts_json_and_bodies(client: Client) -> None:
    with Server(answering()) as server:
        client.post(server.url(), json={"a": 1}, timeout=2)
        client.post(server.url(), body="grüß", headers={"content-type": "text/x"}, timeout=2)
        client.post(server.url(), timeout=2)
    first, second, third = server.requests
    assert first.endswith(b'\r\n\r\n{"a":1}')
    assert b"Content-Type: application/json" in first
    assert second.endswith("grüß".encode())
    assert b"text/x" in second
    assert b"Content-Length: 0" in third


def test_repeated_headers_are_joined(client: Client) -> None:
    with Server(once(b"HTTP/1.1 200 OK\r\nVary: a\r\nvary: b\r\nContent-Length: 0\r\n\r\n")) as server:
        response = client.get(server.url(), timeout=2)
    assert response.headers["VARY"] == "a, b"
    assert "vary" in response.headers
    assert "x" not in response.headers
    assert list(response.headers) == ["vary", "content-length"]


def test_userinfo_becomes_a_basic_header_and_leaves_the_url(client: Client) -> None:
    with Server(answering()) as server:
        response = client.get(f"http://us%40er:p%3Aw@127.0.0.1:{server.port}/", timeout=2)
    assert b"Authorization: Basic dXNAZXI6cDp3" in server.requests[0]  # us@er:p:w
    assert "us" not in response.url


def test_a_given_authorization_wins_over_userinfo(client: Client) -> None:
    with Server(answering()) as server:
        client.get(f"http://u:p@127.0.0.1:{server.port}/", headers={"authorization": "Bearer x"}, timeout=2)
    assert b"Bearer x" in server.requests[0]
    assert b"Basic" not in server.requests[0]


def test_interim_answers_are_skipped(client: Client) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with Server(sending(hint + http(b"real"))) as server:
        response = client.get(server.url(), timeout=2)
        assert (response.status, response.body) == (200, b"real")
        assert "link" not in response.headers


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body_keep_the_connection(client: Client, status: str) -> None:
    with Server(sending(f"HTTP/1.1 {status}\r\n\r\n".encode())) as server:
        for _ in range(2):
            assert client.get(server.url(), timeout=2).body == b""
        assert server.connections == 1


def test_head_reads_no_body(client: Client) -> None:
    with Server(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")) as server:
        for _ in range(2):
            assert client.request("HEAD", server.url(), timeout=2).status == 200
        assert server.connections == 1


def test_chunked_bodies_are_put_together(client: Client) -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    with Server(sending(chunks)) as server:
        for _ in range(2):
            response = client.get(server.url(), timeout=2)
            assert response.body == b"abcde"
            assert "x-t" not in response.headers
        assert server.connections == 1


def test_a_body_may_end_with_the_connection(client: Client) -> None:
    with Server(once(http(b"until the end", length=False))) as server:
        assert client.get(server.url(), timeout=2).body == b"until the end"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"packed" * 100)),
        ("deflate", zlib.compress(b"packed" * 100)),
        ("identity", b"packed" * 100),
    ],
    ids=["gzip", "deflate", "identity"],
)
def test_compressed_bodies_are_unpacked(client: Client, encoding: str, packed: bytes) -> None:
    with Server(answering(packed, headers={"Content-Encoding": encoding})) as server:
        assert client.get(server.url(), timeout=2).body == b"packed" * 100


# -- reading the body ---------------------------------------------------------------------------------


def test_json_and_text_are_read() -> None:
    assert Response(200, body=b'{"a": [1]}').json() == {"a": [1]}
    latin = Response(200, {"content-type": "text/plain; charset=latin-1"}, b"\xe9")
    assert latin.text() == "é"
    assert Response(200, {"content-type": "text/plain; charset=no-such"}, b"\xff").text() == "\ufffd"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<!doctype html><p>Sign in", "HTML page"),
        (b"{'a': 1}", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_garbage_instead_of_json_is_told(body: bytes, says: str) -> None:
    with pytest.raises(NotJson, match=says) as caught:
        Response(502, body=body).json()
    assert caught.value.category is Category.VALIDATION_ERROR
    assert not caught.value.ours
    assert "502" in caught.value.message


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
        (gzip.compress(b"x" * 5000)[:-12], "gzip", "compression is broken"),
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


# -- redirects ----------------------------------------------------------------------------------------


def test_redirects_are_returned_by_default(client: Client) -> None:
    with Server(redirecting("/elsewhere")) as server:
        response = client.get(server.url(), timeout=2)
    assert response.status == 302
    assert response.redirects == ()


def test_redirects_are_followed_on_the_same_host(client: Client) -> None:
    def handle(peer: Peer) -> None:
        while request := peer.read_request():
            found = request.startswith(b"GET /new ")
            peer.send(http(b"found") if found else http(b"", "301 Moved", {"Location": "/new#part"}))

    with Server(handle) as server:
        response = client.get(server.url("/old"), timeout=2, redirects="same-host")
    assert response.body == b"found"
    assert response.redirects == (server.url("/old"),)
    assert response.url == server.url("/new")


def test_another_host_is_refused_unless_following(client: Client) -> None:
    with Server(answering(b"other")) as other, Server(redirecting(other.url("/", host="localhost"))) as server:
        error = failure(client, server.url(), redirects="same-host")
        assert client.get(server.url(), timeout=2, redirects="follow").body == b"other"
    assert error.category is Category.VALIDATION_ERROR
    assert "redirects to another host (localhost)" in error.message


def test_credentials_do_not_follow_to_another_host(client: Client) -> None:
    with Server(answering()) as other, Server(redirecting(other.url("/", host="localhost"))) as server:
        client.get(
            server.url(),
            timeout=2,
            redirects="follow",
            headers={"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "s3cret", "Accept": "a/b"},
        )
    assert b"s3cret" in server.requests[0]
    assert b"s3cret" not in other.requests[0]
    assert b"Accept: a/b" in other.requests[0]


def test_a_body_does_not_follow_to_another_host(client: Client) -> None:
    with Server(answering()) as other, Server(redirecting(other.url(), "307 Temporary")) as server:
        with pytest.raises(HttpError, match="redirects a request with a body"):
            client.post(server.url(), body="secret", timeout=2, redirects="follow")
        assert other.requests == []


@pytest.mark.parametrize(("status", "method"), [("302 Found", b"GET"), ("303 See Other", b"GET"), ("307 T", b"POST")])
def test_the_method_follows_the_standard(client: Client, status: str, method: bytes) -> None:
    def handle(peer: Peer) -> None:
        while request := peer.read_request():
            done = b" /new " in request
            peer.send(http() if done else http(b"", status, {"Location": "/new"}))

    with Server(handle) as server:
        client.post(server.url("/old"), json={"a": 1}, timeout=2, redirects="same-host")
    assert server.requests[1].startswith(method + b" /new ")
    assert (b'{"a":1}' in server.requests[1]) == (method == b"POST")
    assert (b"Content-Type" in server.requests[1]) == (method == b"POST")


def test_a_redirect_loop_is_told(client: Client) -> None:
    with Server(redirecting("/")) as server:
        error = failure(client, server.url(), redirects="follow")
    assert error.category is Category.VALIDATION_ERROR
    assert "loop" in error.message


def test_an_endless_chain_is_cut(client: Client) -> None:
    def further(peer: Peer) -> None:
        while request := peer.read_request():
            peer.send(http(b"", "302 Found", {"Location": request.split(b" ")[1].decode() + "x"}))

    with Server(further) as server:
        error = failure(client, server.url("/x"), redirects="follow")
        assert len(server.requests) == 6
    assert "more than 5 times" in error.message


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://[::ffff:169.254.169.254]/"],
)
def test_a_redirect_to_a_private_address_is_refused(client: Client, location: str) -> None:
    with Server(redirecting(location)) as server:
        error = failure(client, server.url(), redirects="follow")
    assert isinstance(error, BlockedAddress)
    assert error.ours
    assert error.category is Category.CONFIGURATION_ERROR
    assert "WSMON_ALLOW_PRIVATE_TARGETS" in error.message


@pytest.mark.parametrize("location", ["gopher://x/", "file:///etc/passwd", "http://[::1"])
def test_a_redirect_to_no_url_is_the_targets_fault(client: Client, location: str) -> None:
    with Server(redirecting(location)) as server:
        error = failure(client, server.url(), redirects="follow")
    assert not error.ours
    assert "no URL" in error.message


# -- TLS ----------------------------------------------------------------------------------------------


def test_tls_is_described(client: Client, authority: Authority) -> None:
    with Server(answering(), tls=authority.context("127.0.0.1", days=40)) as server:
        response = client.get(server.url(), timeout=2, verify=authority.file)
        again = client.get(server.url(), timeout=2, verify=authority.file)
        assert server.connections == 1
    assert response.tls is not None
    assert response.tls.days_left == 40
    assert response.tls.version == "TLSv1.3"
    assert response.tls.issuer
    assert response.tls.subject
    assert response.timings.tls_ms is not None
    assert again.tls == response.tls
    assert again.timings.tls_ms is None


def test_an_unknown_authority_is_told(client: Client, authority: Authority) -> None:
    with Server(answering(), tls=authority.context("127.0.0.1")) as server:
        error = failure(client, server.url())
    assert error.category is Category.TLS_ERROR
    assert "not trusted" in error.message
    assert not error.ours


def test_an_expired_certificate_is_told(client: Client, authority: Authority) -> None:
    with Server(answering(), tls=authority.context("127.0.0.1", days=-3)) as server:
        error = failure(client, server.url(), verify=authority.file)
    assert error.message == "the certificate of 127.0.0.1 has expired"


def test_a_wrong_name_is_told(client: Client, authority: Authority) -> None:
    with Server(answering(), tls=authority.context("other.example")) as server:
        by_address = failure(client, server.url(), verify=authority.file)
        by_name = failure(client, server.url(host="localhost"), verify=authority.file)
    assert by_address.message == "the certificate is for another address than 127.0.0.1"
    assert by_name.message == "the certificate is for another host than localhost"
    assert by_name.category is Category.TLS_ERROR


def test_a_self_signed_certificate_is_told(client: Client, tmp_path: Path) -> None:
    with Server(answering(), tls=self_signed(tmp_path)) as server:
        error = failure(client, server.url())
        assert client.get(server.url(), timeout=2, verify=False).status == 200
    assert error.message == "the certificate of 127.0.0.1 is self-signed"


def test_plain_http_on_a_tls_port_is_told(client: Client) -> None:
    def confused(peer: Peer) -> None:
        peer.sock.recv(4096)
        peer.send(http(b"plain HTTP here", "400 Bad Request"))

    with Server(confused) as server:
        error = failure(client, f"https://127.0.0.1:{server.port}/")
    assert error.category is Category.TLS_ERROR


def test_an_unreadable_authority_file_is_our_fault(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("not a certificate")
    with Server(answering()) as server:
        for name in ("missing.pem", "empty.pem"):
            error = failure(client, f"https://127.0.0.1:{server.port}/", verify=str(tmp_path / name))
            assert error.ours
            assert "certificate authorities" in error.message


# -- our own faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "example.com/path", "ftp://example.com/", "http://", "http://[::1", "http://h:99999/", "http://h:0/", "file:///x",
     "http://exa mple.com/", "http://%00/", "http://" + "a" * 300 + ".com/"],
)  # fmt: skip
def test_a_bad_url_is_our_fault_and_is_not_quoted(client: Client, url: str) -> None:
    error = failure(client, url)
    assert error.ours
    assert error.category is Category.CONFIGURATION_ERROR


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "line\r\nInjected: yes"},
        {"X A": "b"},
        {"": "b"},
        {"X-A": "€"},
        {"Content-Length": "5"},
        {"X-A": "a\0b"},
    ],
)
def test_bad_headers_are_our_fault_and_their_values_are_not_quoted(client: Client, headers: dict[str, str]) -> None:
    with Server(answering()) as server:
        error = failure(client, server.url(), headers=headers)
        assert server.requests == []
    assert error.ours
    assert "Injected" not in error.message


def test_a_bad_method_is_our_fault(client: Client) -> None:
    with pytest.raises(HttpError) as caught:
        client.request("GET / HTTP/1.1\r\nX: y", "http://127.0.0.1/", timeout=1)
    assert caught.value.ours


def test_loopback_is_refused_by_default() -> None:
    with Server(answering()) as server:
        error = failure(Client(), server.url())
        assert server.connections == 0
    assert isinstance(error, BlockedAddress)
    assert error.ours
    assert "127.0.0.1" in error.message
    assert "loopback" in error.message


def test_secrets_do_not_reach_messages(client: Client) -> None:
    with refusing_port() as port:
        error = failure(client, f"http://user:hunter22@127.0.0.1:{port}/path/hunter22?key=hunter22")
    assert "hunter22" not in error.message
    error = failure(client, "http://tenant-s3cr3t.invalid/", secrets=["tenant-s3cr3t"])
    assert "s3cr3t" not in str(error)


def test_a_response_does_not_show_its_body_by_accident() -> None:
    response = Response(200, {"x": "s3cret"}, b"s3cret", url="http://h/?s3cret", redirects=("http://h/?s3cret",))
    assert "s3cret" not in repr(response)


# -- the seams ----------------------------------------------------------------------------------------


def test_test_doubles_of_requests_intercept_it() -> None:
    client = Client()
    with responses.RequestsMock() as mock:
        mock.get("https://api.example.com/v1", json={"a": "b" * 50}, status=201, headers={"X-A": "1"})
        response = client.get("https://api.example.com/v1", headers={"X-Key": "k"}, timeout=1)
        cut = client.get("https://api.example.com/v1", timeout=1, max_bytes=10)
        assert mock.calls[0].request.headers["x-key"] == "k"
    assert (response.status, response.headers["x-a"]) == (201, "1")
    assert json.loads(response.body) == {"a": "b" * 50}
    assert cut.truncated
    assert len(cut.body) == 10


@pytest.mark.parametrize(
    ("raised", "category"),
    [
        (requests.ConnectTimeout("s3cret"), Category.TIMEOUT_ERROR),
        (requests.ReadTimeout("s3cret"), Category.TIMEOUT_ERROR),
        (requests.exceptions.SSLError("s3cret"), Category.TLS_ERROR),
        (requests.ConnectionError("s3cret"), Category.NETWORK_ERROR),
        (OSError("s3cret"), Category.NETWORK_ERROR),
    ],
)
def test_what_requests_raises_is_translated(raised: Exception, category: Category) -> None:
    with responses.RequestsMock() as mock:
        mock.get("https://api.example.com/", body=raised)
        error = failure(Client(), "https://api.example.com/")
    assert error.category is category
    assert "s3cret" not in error.message


def test_the_shared_client_obeys_the_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsmon.http._shared", None)
    settings.ALLOW_PRIVATE_TARGETS = ["127.0.0.0/8"]
    with Server(answering()) as server:
        assert http_client().get(server.url(), timeout=2).status == 200
    assert http_client() is http_client()


def test_a_bad_entry_of_the_settings_opens_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsmon.http._shared", None)
    settings.ALLOW_PRIVATE_TARGETS = ["nonsense", "127.0.0.0/8"]
    assert http_client().guard.refuses("127.0.0.1") is None
    assert http_client().guard.refuses("10.0.0.1") == "private"
    assert "nonsense" in caplog.text


def test_a_host_header_may_be_given_in_any_case(client: Client) -> None:
    with Server(answering()) as server:
        client.get(server.url(), headers={"host": "shop.example"}, timeout=2)
    assert server.requests[0].lower().count(b"host:") == 1
    assert b"Host: shop.example" in server.requests[0]


def test_a_url_cannot_smuggle_headers(client: Client) -> None:
    with Server(answering()) as server:
        client.get(server.url("/a\r\nX-Smuggled: 1\r\n"), timeout=2)
    assert b"\r\nX-Smuggled" not in server.requests[0]


def test_a_child_process_gets_a_client_of_its_own(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsmon.http._shared", None)
    ours = http_client()
    child = os.fork()
    if child == 0:
        os._exit(0 if http_client() is not ours else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert http_client() is ours


def test_connect_gives_a_socket_with_what_is_left_of_the_time(client: Client) -> None:
    with Server(lambda peer: peer.send(b"hello")) as server:
        sock, timings = client.connect("127.0.0.1", server.port, 2)
        with sock:
            assert 0 < (sock.gettimeout() or 0) <= 2
            assert sock.recv(5) == b"hello"
    assert timings.connect_ms is not None
    with pytest.raises(BlockedAddress):
        Client().connect("127.0.0.1", server.port, 2)


def test_no_thread_is_left_behind(client: Client) -> None:
    with Server(silent) as server:
        failure(client, server.url(), timeout=0.1)
        failure(client, server.url(host="localhost"), timeout=0.1)
    assert not [thread for thread in threading.enumerate() if thread.name == "lookup"]
