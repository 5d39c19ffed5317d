"""The generic DNS check, against a name server of the test's own."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.providers.generic import refusal, run
from tests.servers import Udp
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome

ZONE = {
    ("shop.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("shop.example.", "MX"): ["10 mail.shop.example."],
    ("shop.example.", "TXT"): ['"v=spf1 " "-all"'],
    ("www.shop.example.", "CNAME"): ["shop.example."],
    ("empty.example.", "TXT"): ['"x"'],
}


def answer(wire: bytes) -> bytes | None:
    query = dns.message.from_wire(wire)
    question = query.question[0]
    name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
    if name == "silent.example.":
        return None
    if name == "garbage.example.":
        return wire[:2] + b"\xff" * 40
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.RA
    if name == "broken.example.":
        reply.set_rcode(dns.rcode.SERVFAIL)
    elif not any(known == name for known, _ in ZONE):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif (name, kind) in ZONE:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *ZONE[name, kind]))
    return reply.to_wire()


def probe(timeout: float = 1.0, **options: Any) -> Any:
    with Udp(answer) as server:
        return run("dns", {"server": "127.0.0.1", "port": server.port} | options, timeout=timeout)


@pytest.mark.parametrize(
    ("name", "kind", "expect", "values"),
    [
        ("shop.example", "A", [], ["192.0.2.1", "192.0.2.2"]),
        ("shop.example", "a", "192.0.2.2", ["192.0.2.1", "192.0.2.2"]),
        ("shop.example", "MX", "10 MAIL.shop.example", ["10 mail.shop.example."]),
        ("shop.example", "TXT", ["v=spf1 -all"], ["v=spf1 -all"]),
        ("www.shop.example", "CNAME", ["shop.example"], ["shop.example."]),
    ],
)
def test_records_are_found(name: str, kind: str, expect: Any, values: list[str]) -> None:
    outcome = probe(host=name, type=kind, expect=expect)
    assert outcome.outcome is Outcome.HEALTHY, outcome.message
    assert outcome.details["values"] == values
    assert outcome.timings.dns_ms is not None
    assert outcome.timings.total_ms is not None


@pytest.mark.parametrize(
    ("options", "category", "says"),
    [
        ({"host": "shop.example", "expect": "192.0.2.9"}, Category.VALIDATION_ERROR, "has no A record '192.0.2.9'"),
        ({"host": "gone.example"}, Category.DNS_ERROR, "gone.example does not exist"),
        ({"host": "empty.example"}, Category.DNS_ERROR, "has no A record"),
        ({"host": "broken.example"}, Category.DNS_ERROR, "could not answer"),
        ({"host": "silent.example"}, Category.TIMEOUT_ERROR, "timed out after 0.4 s"),
        ({"host": "garbage.example"}, None, ""),
    ],
)
def test_what_is_wrong_is_critical(options: dict[str, Any], category: Category | None, says: str) -> None:
    outcome = probe(timeout=0.4, **options)
    assert outcome.outcome is Outcome.CRITICAL
    assert category is None or outcome.category is category
    assert says in outcome.message


def test_a_private_name_server_is_our_error_and_is_not_asked() -> None:
    with Udp(answer) as server:
        outcome = run("dns", {"host": "shop.example", "server": "127.0.0.1", "port": server.port}, client=Client())
        assert server.received == 0
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)


def test_without_a_server_the_systems_own_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver  # noqa: PLC0415

    with Udp(answer) as server:

        def own() -> dns.resolver.Resolver:
            resolver = real(configure=False)
            resolver.nameservers = ["127.0.0.1"]
            resolver.port = server.port
            return resolver

        real = dns.resolver.Resolver
        monkeypatch.setattr("providers.dns.dns.resolver.Resolver", own)
        assert run("dns", {"host": "shop.example"}, client=Client()).outcome is Outcome.HEALTHY


def test_a_machine_without_name_servers_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver  # noqa: PLC0415

    def none() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr("providers.dns.dns.resolver.Resolver", none)
    outcome = run("dns", {"host": "shop.example"})
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "host"),
        ({"host": "https://example.com/"}, "must be a domain name"),
        ({"host": "h", "type": "ANY"}, "type"),
        ({"host": "h", "server": "1.1.1.1:53"}, "host name or address only"),
        ({"host": "h", "expected": "x"}, "expected"),
    ],
)
def test_bad_options_are_refused_with_the_key(options: dict[str, Any], says: str) -> None:
    assert says in refusal("dns", options)
