"""The generic TLS check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.generic import refusal, run
from tests.servers import Authority, Server, answering, refusing_port, self_signed
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def probe(server: Server, authority: Authority, **options: Any) -> Any:
    return run("tls", {"host": "127.0.0.1", "port": server.port, "verify": authority.file} | options)


def test_a_valid_certificate_is_healthy(authority: Authority) -> None:
    with Server(answering(), tls=authority.context("127.0.0.1", days=60)) as server:
        outcome = probe(server, authority)
    assert outcome.outcome is Outcome.HEALTHY
    assert outcome.message == "the certificate is valid for 60 more days"
    assert outcome.details["tls_days_left"] == 60
    assert outcome.details["version"] == "TLSv1.3"
    assert set(outcome.details) >= {"issuer", "subject", "not_after", "cipher"}
    assert outcome.timings.tls_ms is not None


@pytest.mark.parametrize(("least", "expected"), [(14, Outcome.DEGRADED), (5, Outcome.HEALTHY)])
def test_days_left_are_compared(authority: Authority, least: int, expected: Outcome) -> None:
    with Server(answering(), tls=authority.context("127.0.0.1", days=9)) as server:
        outcome = probe(server, authority, days_left=least)
    assert outcome.outcome is expected
    assert "9" in outcome.message


def test_the_server_name_may_differ(authority: Authority) -> None:
    with Server(answering(), tls=authority.context("shop.example")) as server:
        assert probe(server, authority, server_name="shop.example").outcome is Outcome.HEALTHY
        wrong = probe(server, authority)
    assert (wrong.outcome, wrong.category) == (Outcome.CRITICAL, Category.TLS_ERROR)


def test_an_expired_certificate_is_critical_and_shown(authority: Authority) -> None:
    with Server(answering(), tls=authority.context("127.0.0.1", days=-3)) as server:
        outcome = probe(server, authority)
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TLS_ERROR)
    assert outcome.message == "the certificate of 127.0.0.1 has expired"
    assert outcome.details["tls_days_left"] == -3


def test_a_self_signed_certificate_is_critical_unless_unverified(authority: Authority, tmp_path: Path) -> None:
    with Server(answering(), tls=self_signed(tmp_path)) as server:
        assert probe(server, authority).category is Category.TLS_ERROR
        assert probe(server, authority, verify=False, days_left=1).outcome is Outcome.HEALTHY


def test_a_port_that_speaks_no_tls_is_critical(authority: Authority) -> None:
    with Server(lambda peer: peer.send(b"220 plain text here\r\n")) as server:
        outcome = probe(server, authority)
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TLS_ERROR)
    assert outcome.details == {}


def test_a_handshake_that_hangs_times_out() -> None:
    with Server(lambda peer: peer.hold()) as server:
        outcome = run("tls", {"host": "127.0.0.1", "port": server.port}, timeout=0.3)
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TIMEOUT_ERROR)
    assert outcome.timings.total_ms is not None


def test_a_closed_port_is_critical() -> None:
    with refusing_port() as port:
        assert run("tls", {"host": "127.0.0.1", "port": port}).category is Category.NETWORK_ERROR


def test_a_private_host_is_our_error() -> None:
    outcome = run("tls", {"host": "192.168.0.1"}, client=Client())
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)


@pytest.mark.parametrize(
    ("options", "says"), [({}, "host"), ({"host": "h", "days_left": -1}, "days_left"), ({"host": "h", "x": 1}, "x")]
)
def test_bad_options_are_refused_with_the_key(options: dict[str, Any], says: str) -> None:
    assert says in refusal("tls", options)
