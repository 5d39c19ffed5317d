"""The outbound client against real servers that misbehave."""

from __future__ import annotations

import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import responses

from tests.servers import (
    LOOPBACK,
    Server,
    answering,
    http,
    once,
    refusing_port,
    sending,
    silent,
)
from tests.wsmon.http_cases import failure
from wsmon.http import BlockedAddress, Client, HttpError, NotJson, Response, http_client
from wsmon.vocabulary import Category


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(LOOPBACK)
    yield made
    made.close()


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
