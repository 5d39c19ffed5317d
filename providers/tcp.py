"""Generic TCP check: a connection, and optionally a short dialogue."""

from __future__ import annotations

import socket
from dataclasses import replace
from time import monotonic

from pydantic import Field

from providers.base import Kind, ProbeContext, ProbeOutcome, Provider
from providers.options import Host, Options, Port
from wsmon.vocabulary import JSON, Category, Outcome, Timings

_LARGEST = 65_536
_SAMPLE = 200


class TcpOptions(Options):
    """The options of kind ``tcp``."""

    host: Host
    port: Port
    send: str | None = Field(default=None, max_length=10_000)
    """Sent once connected, as UTF-8; write line ends as ``\\r\\n`` in double quotes."""
    expect: str | None = Field(default=None, min_length=1, max_length=1_000)
    """A text that must come from the other side."""


def probe(context: ProbeContext) -> ProbeOutcome:
    """Connect, send, and read until the expected text came."""
    options: TcpOptions = context.options
    began = monotonic()
    sock, timings = context.http.connect(options.host, options.port, context.timeout)
    with sock:
        if options.send is None and options.expect is None:
            return ProbeOutcome(Outcome.HEALTHY, None, f"port {options.port} accepts connections", timings)
        return _talk(sock, options, began + context.timeout, timings, context.timeout)


def _talk(sock: socket.socket, options: TcpOptions, until: float, timings: Timings, timeout: float) -> ProbeOutcome:
    began = monotonic()
    received, first_ms, problem = b"", None, None
    try:
        sock.sendall((options.send or "").encode())
        wanted = (options.expect or "").encode()
        while wanted and wanted not in received and len(received) < _LARGEST:
            sock.settimeout(max(until - monotonic(), 0.001))
            data = sock.recv(4_096)
            if first_ms is None:
                first_ms = round((monotonic() - began) * 1000, 3)
            if not data:
                problem = Category.NETWORK_ERROR, "closed the connection before it sent what is expected"
                break
            received += data
            if monotonic() > until:
                raise TimeoutError
        else:
            if wanted and wanted not in received:
                problem = Category.VALIDATION_ERROR, "did not send what is expected"
    except TimeoutError:
        what = "what is expected" if received else "the first byte"
        problem = Category.TIMEOUT_ERROR, f"timed out after {timeout:g} s waiting for {what}"
    except OSError:
        problem = Category.NETWORK_ERROR, "broke the connection"
    total = (timings.total_ms or 0.0) + (monotonic() - began) * 1000
    timings = replace(timings, first_byte_ms=first_ms, total_ms=round(total, 3))
    if problem is None:
        message = "answered as expected" if options.expect else "took what was sent"
        return ProbeOutcome(Outcome.HEALTHY, None, message, timings)
    category, message = problem
    details: dict[str, JSON] = {"received": received.decode("utf-8", "replace")[:_SAMPLE]} if received else {}
    subject = "" if category is Category.TIMEOUT_ERROR else f"{options.host}:{options.port} "
    return ProbeOutcome(Outcome.CRITICAL, category, subject + message, timings, details=details)


PROVIDER = Provider(
    slug="tcp",
    label="TCP port",
    kinds={"tcp": Kind(probe, TcpOptions, help="a port accepts connections and, if asked, answers")},
    generic=True,
)
