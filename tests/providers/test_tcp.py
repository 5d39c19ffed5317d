"""The generic TCP check."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.generic import refusal, run
from tests.servers import Peer, Server, refusing_port
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome


def greeting(peer: Peer) -> None:
    peer.send(b"220 mail ready\r\n")
    if peer.sock.recv(100).startswith(b"EHLO"):
        peer.send(b"250 hello\r\n")
    peer.hold()


def probe(server: Server, timeout: float = 1.0, **options: Any) -> Any:
    return run("tcp", {"host": "127.0.0.1", "port": server.port} | options, timeout=timeout)


def test_an_open_port_is_healthy() -> None:
    with Server(lambda peer: peer.hold()) as server:
        outcome = probe(server)
    assert outcome.outcome is Outcome.HEALTHY
    assert outcome.timings.connect_ms is not None
    assert outcome.timings.first_byte_ms is None


@pytest.mark.parametrize("options", [{"expect": "220 mail"}, {"send": "EHLO x\r\n", "expect": "250 hello"}])
def test_a_dialogue_is_held(options: dict[str, Any]) -> None:
    with Server(greeting) as server:
        outcome = probe(server, **options)
    assert outcome.outcome is Outcome.HEALTHY
    assert outcome.message == "answered as expected"
    assert outcome.timings.first_byte_ms is not None


def test_what_is_sent_needs_no_answer() -> None:
    with Server(greeting) as server:
        assert probe(server, send="hello").outcome is Outcome.HEALTHY


@pytest.mark.parametrize(
    ("handler", "category", "says"),
    [
        (lambda peer: peer.send(b"500 go away"), Category.NETWORK_ERROR, "closed the connection"),
        (lambda peer: peer.hold(), Category.TIMEOUT_ERROR, "waiting for the first byte"),
        (greeting, Category.TIMEOUT_ERROR, "waiting for what is expected"),
        (lambda peer: peer.drip(b"a" * 500), Category.TIMEOUT_ERROR, "waiting for what is expected"),
        (lambda peer: peer.send(b"x" * 5_000_000), Category.VALIDATION_ERROR, "did not send what is expected"),
    ],
)
def test_what_does_not_come_is_critical(handler: Any, category: Category, says: str) -> None:
    with Server(handler) as server:
        outcome = probe(server, timeout=0.3, expect="never said")
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, category)
    assert says in outcome.message
    assert len(outcome.details.get("received", "")) <= 200


def test_a_closed_port_is_critical() -> None:
    with refusing_port() as port:
        outcome = run("tcp", {"host": "127.0.0.1", "port": port})
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.NETWORK_ERROR)
    assert "refused" in outcome.message


def test_a_private_host_is_our_error() -> None:
    outcome = run("tcp", {"host": "10.0.0.1", "port": 5432}, client=Client())
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "h"}, "port"),
        ({"host": "h", "port": 0}, "port"),
        ({"host": "h", "port": 65536}, "port"),
        ({"host": "http://h", "port": 1}, "host name or address only"),
        ({"host": "h:80", "port": 1}, "host name or address only"),
        ({"host": "bad..host", "port": 1}, "not a valid host name"),
        ({"host": "", "port": 1}, "host"),
        ({"host": "h", "port": 1, "expects": "x"}, "expects"),
    ],
)
def test_bad_options_are_refused_with_the_key(options: dict[str, Any], says: str) -> None:
    assert says in refusal("tcp", options)


@pytest.mark.parametrize("host", ["::1", "[::1]", "fe80::1%eth0", "bücher.example", "_srv.example", "example.com."])
def test_hosts_of_every_kind_are_accepted(host: str) -> None:
    from providers.tcp import TcpOptions  # noqa: PLC0415

    assert TcpOptions.model_validate({"host": host, "port": 1})
