"""Where the benchmark's messages arrive: a mail server and a web server on loopback that note when."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from benchmarks.harness import free_port

NAME = re.compile(r"\bs(\d+)\b")
"""Services are called s0, s1, ...: so a message tells whose it is."""


class Arrivals:
    """When the first message about each service arrived, and how many there were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.first: dict[int, float] = {}
        self.count = 0

    def note(self, text: str) -> None:
        """A message arrived."""
        now = time.monotonic()
        found = NAME.search(text)
        with self._lock:
            self.count += 1
            if found and not text.lstrip().startswith("Resolved"):
                self.first.setdefault(int(found[1]), now)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self.first.clear()
            self.count = 0


@contextmanager
def mail() -> Iterator[tuple[int, Arrivals]]:
    """An SMTP server: its port and what arrived."""
    arrivals = Arrivals()

    class Handler:
        """Takes every mail."""

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ARG002, N802
            """One mail; its subject is what matters."""
            text = envelope.content.decode("utf-8", "replace")
            subject = re.search(r"^Subject: (.*(?:\r?\n[ \t].*)*)", text, re.MULTILINE)
            arrivals.note(subject[1] if subject else "")
            return "250 OK"

    port = free_port()
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, arrivals
    finally:
        controller.stop()


@contextmanager
def hook() -> Iterator[tuple[int, Arrivals]]:
    """A web server that takes Apprise's ``json://``: its port and what arrived."""
    arrivals = Arrivals()

    class Handler(BaseHTTPRequestHandler):
        """Takes every message."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            """One message; its title stands first."""
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            title = re.search(r'"title": "([^"]*)', body)
            arrivals.note(title[1] if title else "")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with _serving(Handler) as port:
        yield port, arrivals


class Faults:
    """A web server of services ``/s0``, ``/s1``, ...: well until told to fail; when each first failed to answer."""

    def __init__(self) -> None:
        self.failing: set[int] = set()
        self.failures: dict[int, list[float]] = {}
        self.port = 0

    def fail(self, number: int) -> float:
        """From now on; the moment."""
        self.failures.pop(number, None)
        self.failing.add(number)
        return time.monotonic()

    def well(self) -> None:
        """Everybody."""
        self.failing.clear()


@contextmanager
def faults() -> Iterator[Faults]:
    """The services, running."""
    made = Faults()

    class Handler(BaseHTTPRequestHandler):
        """Answers as told."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            """200, or 503."""
            found = NAME.search(self.path)
            number = int(found[1]) if found else -1
            failing = number in made.failing
            if failing:
                made.failures.setdefault(number, []).append(time.monotonic())
            self.send_response(503 if failing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with _serving(Handler) as made.port:
        yield made


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
