"""A destination on a real socket, and a vendor in front of the inbound application."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from webhooks.inbound import application

SECRET = "whsec_test"


@dataclass
class Received:
    """One request that a receiver got."""

    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)


class Receiver:
    """Answers as told: ``answer(request) -> (status, headers, body)``; keeps every request."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"ok")
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Received({name.lower(): value for name, value in self.headers.items()}, body)
                with receiver.lock:
                    receiver.received.append(request)
                status, headers, answer = receiver.answer(request)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(answer))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def bodies(self) -> list[bytes]:
        """What came, in the order of arrival."""
        with self.lock:
            return [one.body for one in self.received]


@dataclass
class Answered:
    """What a vendor gets."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The answer as JSON."""
        return json.loads(self.body)


def stripe_headers(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """A signature as Stripe makes it."""
    seconds = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={seconds},v1={digest}", "content-type": "application/json"}


def stripe_event(number: int = 1, kind: str = "payment_intent.succeeded") -> bytes:
    """An event's body."""
    data = {"object": {"id": f"pi_{number}", "object": "payment_intent", "amount": 4200}}
    event = {"id": f"evt_{number}", "object": "event", "type": kind, "created": int(time.time()), "data": data}
    return json.dumps(event).encode()


async def call(
    path: str,
    body: bytes | Sequence[bytes] = b"",
    headers: dict[str, str] | Sequence[tuple[str, str]] = (),
    *,
    method: str = "POST",
    query: str = "",
    hang_up: bool = False,
) -> Answered:
    """One request to the inbound application, as the web server hands it over."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) or hang_up}
        for number, chunk in enumerate(chunks, start=1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": ("203.0.113.7", 4711),
    }
    await application(scope, receive, send)
    if not sent:
        return Answered(0, {}, b"")
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answered(sent[0]["status"], found, b"".join(message["body"] for message in sent[1:]))


def post(path: str, body: bytes | Sequence[bytes] = b"", headers: Any = (), **options: Any) -> Answered:
    """:func:`call`, from a test that is no coroutine."""
    return asyncio.run(call(path, body, headers, **options))
