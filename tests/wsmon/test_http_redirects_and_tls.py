"""Redirects and TLS of the outbound client, against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import (
    LOOPBACK,
    Authority,
    Peer,
    Server,
    answering,
    http,
    redirecting,
    self_signed,
)
from tests.wsmon.http_cases import failure
from wsmon.http import BlockedAddress, Client, HttpError
from wsmon.vocabulary import Category


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(LOOPBACK)
    yield made
    made.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


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
