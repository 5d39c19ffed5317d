"""A wsmon's breaker API of a test's own making: it says what it is told to say, and keeps what it hears."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROOT = "/api/admin/circuit-breakers"
TOKEN = "a-token-for-tests"


class Fake:
    """The API. ``ahead``: how many seconds its clock is before the test's."""

    def __init__(self, *names: str, port: int = 0) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.trial_asks: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[tuple[str, int]] = []
        self.ahead = 0.0
        self.grant = True
        self.no_stream = False
        self.broken: int | None = None
        self.ignores_outcomes = False
        self.hang = threading.Event()
        self.released = threading.Event()
        self._streams: list[Any] = []
        self._lock = threading.Lock()
        for name in names:
            self.say(name)
        fake = self

        class Handler(_Handler):
            wsmon = fake

        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def now(self, more: float = 0.0) -> str:
        return (datetime.now(UTC) + timedelta(seconds=self.ahead + more)).isoformat()

    def say(self, name: str, state: str = "CLOSED", due_in: float | None = None, **more: Any) -> None:
        """Change a breaker, one generation on, and tell every stream."""
        before = self.items.get(name, {"generation": -1, "parameters": {}})
        item = {
            "service": name,
            "state": state,
            "policy": "rolling",
            "forced": None,
            "forced_until": None,
            "generation": before["generation"] + 1,
            "next_attempt_at": None if due_in is None else self.now(due_in),
            "cause": None,
            "parameters": before["parameters"],
        } | more
        self.items[name] = item
        self.push("breaker", item | {"now": self.now()})

    def push(self, event: str, data: Any) -> None:
        with self._lock:
            for handler in list(self._streams):
                handler.event(event, data)

    def cut_streams(self) -> None:
        with self._lock:
            for handler in self._streams:
                with contextlib.suppress(OSError):  # it has gone away by itself
                    handler.connection.shutdown(2)
            self._streams.clear()

    @property
    def streams(self) -> int:
        return len(self._streams)

    def outcomes(self, name: str) -> list[dict[str, Any]]:
        return [one for service, body in self.reports if service == name for one in body["outcomes"]]

    def count(self, name: str, *, ok: bool) -> int:
        return sum(one["count"] for one in self.outcomes(name) if one["ok"] is ok)

    def stop(self) -> None:
        self.hang.clear()
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self.cut_streams()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wsmon: Fake

    def do_GET(self) -> None:
        if self._faulty():
            return
        if self.path == ROOT + "/stream":
            self._stream()
        elif self.path == ROOT + "/status":
            self._status()
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._faulty():
            return
        what, name = self.path.removeprefix(ROOT).strip("/").split("/")
        if name not in self.wsmon.items:
            self._answer(404, {"detail": "there is no service of that name"})
        elif what == "trial":
            self._trial(name, body)
        else:
            self._outcomes(name, body)

    def _faulty(self) -> bool:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {})
            return True
        if self.wsmon.hang.is_set():
            self.wsmon.released.wait(20)
        if self.wsmon.broken is not None:
            self._answer(self.wsmon.broken, {}, **{"Retry-After": "1"})
            return True
        return False

    def _stream(self) -> None:
        if self.wsmon.no_stream:
            self._answer(429, {})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.wsmon._lock:
            self.chunk(b"retry: 2000\n\n")
            self.event("breakers", [item | {"now": self.wsmon.now()} for item in self.wsmon.items.values()])
            self.wsmon._streams.append(self)
        while self in self.wsmon._streams:
            time.sleep(0.05)
        self.close_connection = True

    def event(self, name: str, data: Any) -> None:
        self.chunk(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        try:
            for piece in (data[:7], data[7:]):  # events are not cut where chunks are
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        except OSError:
            self.wsmon._streams.remove(self)

    def _status(self) -> None:
        tag = f'"{hash(json.dumps(self.wsmon.items))}"'
        if self.headers.get("If-None-Match") == tag:
            self.wsmon.requests.append(("status", 304))
            self._answer(304, None, ETag=tag)
            return
        self.wsmon.requests.append(("status", 200))
        names = [dict(item) for item in self.wsmon.items.values()]
        for item in names:
            del item["parameters"]
        self._answer(200, {"breakers": names, "last_updated": self.wsmon.now()}, ETag=tag)

    def _trial(self, name: str, body: dict[str, Any]) -> None:
        self.wsmon.trial_asks.append((name, body))
        if not self.wsmon.grant:
            self._answer(409, {"detail": "no"}, **{"Retry-After": "1"})
            return
        token = body.get("trial") or f"trial-{len(self.wsmon.trial_asks)}"
        self._answer(200, {"trial": token, "lease_seconds": 10.0})

    def _outcomes(self, name: str, body: dict[str, Any]) -> None:
        self.wsmon.reports.append((name, body))
        trial = body.get("trial")
        if trial and body["outcomes"] and body["outcomes"][0].get("status") != 499:
            state = ("CLOSED", None) if body["outcomes"][0]["ok"] else ("OPEN", 60.0)
            self.wsmon.say(name, *state)
        item = self.wsmon.items[name]
        keys = ("state", "generation", "next_attempt_at")
        said = {key: item[key] for key in keys} | {"now": self.wsmon.now(), "accepted": 1, "ignored": 0}
        self._answer(202, said)

    def _answer(self, status: int, body: Any, **headers: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
