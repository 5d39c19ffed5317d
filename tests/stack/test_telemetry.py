"""Traces reach an OpenTelemetry collector, when one is named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.whole import Stack
from wsmon import telemetry

Spans = list[tuple[str, bytes]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Spans]]:
    """A collector's URL, and what was sent to it."""
    received: Spans = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def test_nothing_is_sent_when_no_collector_is_named() -> None:
    assert telemetry.start() is False


@pytest.mark.stack
def test_requests_become_spans_but_a_heartbeats_secret_url_does_not(
    make_stack: Callable[..., Stack], collector: tuple[str, Spans]
) -> None:
    url, received = collector
    stack = make_stack({"OTEL_EXPORTER_OTLP_ENDPOINT": url}).start()
    session = stack.login()
    session.post(f"{stack.url}/api/heartbeat/a-secret-token", timeout=10)
    assert stack.stop() == 0  # what is left is sent at the end
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    assert b"login" in sent
    assert b"a-secret-token" not in sent
