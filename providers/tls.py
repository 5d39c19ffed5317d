"""Generic TLS check: the handshake succeeds, and the certificate lasts long enough."""

from __future__ import annotations

from pydantic import Field

from providers.base import Kind, ProbeContext, ProbeOutcome, Provider
from providers.options import Host, Options, Port
from wsmon import net
from wsmon.http import HttpError, TlsInfo
from wsmon.vocabulary import JSON, Category, Outcome


class TlsOptions(Options):
    """The options of kind ``tls``."""

    host: Host
    port: Port = 443
    server_name: Host | None = None
    """The name asked for and checked, when it differs from ``host``."""
    days_left: int = Field(default=14, ge=0, le=3_650)
    """Degraded when the certificate has fewer days left."""
    verify: bool | str = True
    """False, or the path of a file of certificate authorities."""


def probe(context: ProbeContext) -> ProbeOutcome:
    """Do a verified handshake; when it fails, look at the certificate without verifying it."""
    options: TlsOptions = context.options
    exchange = net.Exchange(context.timeout)
    try:
        info = _handshake(context, options, exchange, options.verify)
    except HttpError as error:
        if error.category is not Category.TLS_ERROR:
            error.timings = exchange.timings()
            raise
        return ProbeOutcome(
            Outcome.CRITICAL,
            error.category,
            error.message,
            exchange.timings(),
            details=_shown_anyway(context, options, exchange),
        )
    if info.days_left < options.days_left:
        message = f"the certificate expires in {info.days_left} days"
        return ProbeOutcome(Outcome.DEGRADED, Category.TLS_ERROR, message, exchange.timings(), details=_facts(info))
    message = f"the certificate is valid for {info.days_left} more days"
    return ProbeOutcome(Outcome.HEALTHY, None, message, exchange.timings(), details=_facts(info))


def _handshake(context: ProbeContext, options: TlsOptions, exchange: net.Exchange, verify: bool | str) -> TlsInfo:
    sock = net.connect(options.host, options.port, context.http.guard, exchange)
    wrapped, info = net.start_tls(sock, options.server_name or options.host, exchange, verify, for_http=False)
    wrapped.close()
    return info


def _shown_anyway(context: ProbeContext, options: TlsOptions, exchange: net.Exchange) -> dict[str, JSON]:
    """The refused certificate's facts, if the time suffices; its phases are not counted."""
    try:
        again = net.Exchange(exchange.left())
        return _facts(_handshake(context, options, again, verify=False))
    except HttpError:
        return {}


def _facts(info: TlsInfo) -> dict[str, JSON]:
    return {
        "tls_days_left": info.days_left,
        "not_after": info.not_after.isoformat(),
        "issuer": info.issuer,
        "subject": info.subject,
        "version": info.version,
        "cipher": info.cipher,
    }


PROVIDER = Provider(
    slug="tls",
    label="TLS certificate",
    kinds={
        "tls": Kind(
            probe, TlsOptions, default_interval=3_600, help="a valid certificate, with days left before it expires"
        )
    },
    generic=True,
)
