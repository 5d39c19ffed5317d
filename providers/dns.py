"""Generic DNS check: a name resolves, and to what is expected."""

from __future__ import annotations

from time import monotonic
from typing import Annotated, Any, Literal

import dns.exception
import dns.rdatatype
import dns.resolver
from dns.rdata import Rdata
from pydantic import Field, field_validator

from providers.base import Kind, ProbeContext, ProbeOutcome, Provider
from providers.options import Host, Options, Port, Texts
from wsmon import net
from wsmon.http import HttpError
from wsmon.vocabulary import Category, Outcome, Timings

_SHOWN = 20


class DnsOptions(Options):
    """The options of kind ``dns``."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    type: Literal["A", "AAAA", "CAA", "CNAME", "DS", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = "A"
    server: Host | None = None
    """A name server; the system's own when absent."""
    port: Port = 53
    expect: Texts = ()
    """Values that must be among the answers, e.g. ``192.0.2.1`` or ``10 mail.example.com``."""

    @field_validator("type", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if "/" in value or " " in value or "@" in value:
            raise ValueError("must be a domain name such as example.com")
        return value


def probe(context: ProbeContext) -> ProbeOutcome:
    """Ask for the records and compare them."""
    options: DnsOptions = context.options
    began = monotonic()
    resolver = _resolver(context, options)
    left = context.timeout - (monotonic() - began)
    asked, values, problem = monotonic(), [], None
    try:
        answer = resolver.resolve(options.host, options.type, lifetime=max(left, 0.01), search=False)
        values = sorted(_text(record) for record in answer)
    except dns.exception.Timeout:
        message = f"timed out after {context.timeout:g} s waiting for the name server"
        problem = Category.TIMEOUT_ERROR, message
    except dns.resolver.NXDOMAIN:
        problem = Category.DNS_ERROR, f"{options.host} does not exist"
    except dns.resolver.NoAnswer:
        problem = Category.DNS_ERROR, f"{options.host} has no {options.type} record"
    except (dns.exception.DNSException, OSError, UnicodeError):
        problem = Category.DNS_ERROR, f"the name server could not answer for {options.host}"
    timings = Timings(dns_ms=_ms(asked), total_ms=_ms(began))
    if problem is None:
        problem = _compare(options, values)
    details = {"values": values[:_SHOWN]} if values else {}
    if problem:
        return ProbeOutcome(Outcome.CRITICAL, *problem, timings, details=details)
    plural = "" if len(values) == 1 else "s"
    message = f"{len(values)} {options.type} record{plural}"
    return ProbeOutcome(Outcome.HEALTHY, None, message, timings, details=details)


def _resolver(context: ProbeContext, options: DnsOptions) -> dns.resolver.Resolver:
    if options.server is None:
        try:
            return dns.resolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            message = "this machine has no name server configured; set the option server"
            raise HttpError(message, Category.CONFIGURATION_ERROR, ours=True) from None
    resolver = dns.resolver.Resolver(configure=False)
    exchange = net.Exchange(context.timeout)
    found = net.resolve(options.server, exchange)
    resolver.nameservers = list(context.http.guard.check(options.server, found))
    resolver.port = options.port
    return resolver


def _compare(options: DnsOptions, values: list[str]) -> tuple[Category, str] | None:
    have = {_comparable(value) for value in values}
    missing = [value for value in options.expect if _comparable(value) not in have]
    if not missing:
        return None
    return Category.VALIDATION_ERROR, f"{options.host} has no {options.type} record {missing[0]!r}"


def _text(record: Rdata) -> str:
    if record.rdtype == dns.rdatatype.TXT:
        return b"".join(getattr(record, "strings", ())).decode("utf-8", "replace")
    return record.to_text()


def _comparable(value: str) -> str:
    return " ".join(value.lower().split()).rstrip(".")


def _ms(since: float) -> float:
    return round((monotonic() - since) * 1000, 3)


PROVIDER = Provider(
    slug="dns",
    label="DNS record",
    kinds={"dns": Kind(probe, DnsOptions, help="a name has the records that are expected")},
    generic=True,
)
