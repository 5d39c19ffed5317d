"""The stand-in vendors' server: one port on loopback, a path prefix per vendor.

``start()`` returns a :class:`Demo`. ``demo.set("stripe", "fail")`` takes a vendor out of the script,
``demo.set("stripe", None)`` gives it back; ``POST /control`` with ``{"vendor", "behaviour"}`` does the
same, ``GET /control`` tells how everybody behaves; ``{"critical_day": true}`` plays a Saturday (false: a usual day,
null: as the calendar has it). ``/inbox/`` shows what wsmon told, and has a switch for each of these.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from demo import news
from demo.inbox import Inbox
from demo.script import SCRIPT, Behaviour, Scene, scene
from demo.shapes import SHAPES, Reply, Request, Shape

HANG_SECONDS = 30.0
SLOW_SECONDS = (1.2, 1.9)
RETRY_AFTER = {"Retry-After": "5"}
LARGEST_BODY = 65_536
HTML = "<!DOCTYPE html><html><head><title>Proxy</title></head><body><h1>Gateway</h1></body></html>"
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# https://www.rfc-editor.org/rfc/rfc6455#section-1.3


class UnknownVendor(LookupError):
    """There is no stand-in of that name."""


class Demo:
    """The running stand-ins. Without a script everybody behaves well until told otherwise."""

    def __init__(self, port: int = 0, script: Sequence[Scene] = SCRIPT) -> None:
        self._script = script
        self._told: dict[str, tuple[Behaviour, float]] = {}
        self.inbox = Inbox()
        self.wsmon = ""
        """The address of wsmon, for links."""
        self.switch_day: Callable[[bool | None], None] | None = None
        """What switches a critical day on and off."""
        self._began = time.monotonic()
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="demo", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where the stand-ins listen."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address without a vendor's prefix."""
        return f"http://127.0.0.1:{self.port}"

    def behaviour(self, vendor: str) -> Behaviour:
        """How a vendor behaves just now: as told, else as scripted."""
        return self.lasting(vendor)[0]

    def lasting(self, vendor: str) -> tuple[Behaviour, float]:
        """The same, and for how many seconds already."""
        told, now = self._told.get(vendor), time.monotonic()
        return (told[0], now - told[1]) if told else scene(self._script, vendor, now - self._began)

    def set(self, vendor: str, how: Behaviour | str | None) -> None:
        """Tell a vendor how to behave from now on; ``None`` hands it back to the script.

        Raises :class:`UnknownVendor`, and ValueError for an unknown behaviour.
        """
        if vendor not in SHAPES:
            raise UnknownVendor(vendor)
        if how is None:
            self._told.pop(vendor, None)
        else:
            self._told[vendor] = Behaviour(how), time.monotonic()

    def behaviours(self) -> dict[str, Behaviour]:
        """How everybody behaves just now."""
        return {vendor: self.behaviour(vendor) for vendor in SHAPES}

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        self._stopping.wait(seconds)

    def hang(self, vendor: str) -> None:
        """Keep a caller waiting for as long as the vendor hangs."""
        until = time.monotonic() + HANG_SECONDS
        while self.behaviour(vendor) is Behaviour.HANG and time.monotonic() < until:
            if self._stopping.wait(0.1):
                return

    def environment(self) -> dict[str, str]:
        """The variables that point wsmon at the stand-ins, with made-up credentials."""
        return {
            "WSMON_ALLOW_PRIVATE_TARGETS": "127.0.0.0/8",
            "WSMON_CONTROL_TARGETS": f"127.0.0.1:{self.port}",
            "DEMO_CHAT_URL": f"json://127.0.0.1:{self.port}/inbox/chat",
            "DEMO_PHONE_URL": f"json://127.0.0.1:{self.port}/inbox/phone",
            **news.variables(self.url),
            "STRIPE_API_BASE": f"{self.url}/stripe",
            "STRIPE_SECRET_KEY": "sk_test_demo51HvKq0000000000",
            "RESEND_API_BASE": f"{self.url}/resend",
            "RESEND_API_KEY": "re_demo_0000000000000000",
            "TWILIO_API_BASE": f"{self.url}/twilio",
            "TWILIO_MESSAGING_BASE": f"{self.url}/twilio",
            "TWILIO_ACCOUNT_SID": "ACdemo00000000000000000000000000",
            "TWILIO_AUTH_TOKEN": "demo-twilio-auth-token",
            "GOOGLE_API_BASE": f"{self.url}/google",
            "GOOGLE_TOKEN_BASE": f"{self.url}/google",
            "GOOGLE_CLIENT_ID": "demo.apps.googleusercontent.com",
            "GOOGLE_CLIENT_SECRET": "demo-google-client-secret",
            "GOOGLE_REFRESH_TOKEN": "demo-google-refresh-token",
            "SUPABASE_URL": f"{self.url}/supabase",
            "SUPABASE_ANON_KEY": "demo-supabase-anon-key",
            "SUPABASE_SERVICE_ROLE_KEY": "demo-supabase-service-role-key",
            "DEMO_SITE_URL": f"{self.url}/site/health",
            "DEMO_STATUS_URL": f"{self.url}/status/api/v2/summary.json",
            "DEMO_APP_URL": f"{self.url}/app/hooks",
            "DEMO_LEDGER_URL": f"{self.url}/ledger/hooks",
            "DEMO_LEDGER_FINALIZED_URL": f"{self.url}/ledger/hooks/finalized",
            "DEMO_MAILER_URL": f"{self.url}/mailer/hooks",
            "DEMO_APP_SECRET": "whsec_ZGVtby1hcHAtc2lnbmluZy1zZWNyZXQtMDAwMQ==",
            "STRIPE_WEBHOOK_SECRET": "whsec_demo_stripe_0000000000000000",
            "RESEND_WEBHOOK_SECRET": "whsec_ZGVtby1yZXNlbmQtc2VjcmV0LTAwMDAwMDAwMDAwMQ==",
            "GOOGLE_CALENDAR_CHANNEL_TOKEN": "demo-calendar-channel-token",
        }

    def stop(self) -> None:
        """Close the port and let everybody who waits go."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def start(port: int = 0, script: Sequence[Scene] = SCRIPT) -> Demo:
    """Start the stand-ins on ``port`` of 127.0.0.1 (0: any free one)."""
    return Demo(port, script)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], demo: Demo) -> None:
        self.demo = demo
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "stand-in"
    disable_nagle_algorithm = True
    timeout = 120

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_PROPFIND = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the demo's output is wsmon's."""

    def _serve(self) -> None:
        try:
            body = self._body()
            path, query = urlsplit(self.path)[2:4]
            if path == "/control":
                return self._send(self._control(body))
            if path == "/" or path.startswith("/inbox"):
                return self._send(self._inbox(path, body))
            if path.startswith("/news/"):
                return self._send(self._news(path.split("/")[2]))
            _, vendor, *rest = [*path.split("/", 2), ""]
            shape = SHAPES.get(vendor)
            if shape is None:
                return self._send(Reply(404, {"message": "no such stand-in"}))
            return self._play(vendor, shape, "/" + rest[0], query)
        except (OSError, ValueError, LookupError):  # the caller went away, or sent nonsense
            self.close_connection = True

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdigit() else 0
        if size > LARGEST_BODY:
            self.close_connection = True
        return self.rfile.read(min(size, LARGEST_BODY))

    def _play(self, vendor: str, shape: Shape, path: str, query: str) -> None:
        demo = self.server.demo
        how = demo.behaviour(vendor)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, how)
        if vendor == "status":
            how = Behaviour.WELL
        if how is Behaviour.HANG:
            demo.hang(vendor)
            self.close_connection = True
            return
        demo.wait(random.uniform(*(SLOW_SECONDS if how is Behaviour.SLOW else shape.latency)))  # noqa: S311
        if path.endswith("/websocket") and "sec-websocket-key" in headers and how in _WORKING:
            self._heartbeat(headers["sec-websocket-key"])
            return
        self._send(_reply(how, shape, request))

    def _control(self, body: bytes) -> Reply:
        demo = self.server.demo
        if self.command == "POST":
            try:
                form = self.headers.get_content_type() == "application/x-www-form-urlencoded"
                self._grant(dict(parse_qsl(body.decode(), keep_blank_values=True)) if form else json.loads(body))
            except (ValueError, LookupError, TypeError, AttributeError):
                return Reply(422, {"message": "give a vendor and a behaviour", "behaviours": list(Behaviour)})
            if form:
                return Reply(303, "", {"Location": "/inbox/"})
        return Reply(200, {"behaviours": demo.behaviours()})

    def _grant(self, wish: Mapping[str, Any]) -> None:
        demo = self.server.demo
        if "critical_day" not in wish:
            return demo.set(wish["vendor"], wish.get("behaviour") or None)
        day = {"on": True, "off": False, "": None}.get(wish["critical_day"], wish["critical_day"])
        if demo.switch_day is None or not (day is None or isinstance(day, bool)):
            raise ValueError("no such day")
        return demo.switch_day(day)

    def _inbox(self, path: str, body: bytes) -> Reply:
        demo = self.server.demo
        if self.command == "POST":
            return demo.inbox.take(path.removeprefix("/inbox/"), body)
        return demo.inbox.as_json() if path == "/inbox.json" else demo.inbox.page(demo.behaviours(), demo.wsmon)

    def _news(self, provider: str) -> Reply:
        if provider not in news.PAGES:
            return Reply(404, {"message": "no such page"})
        return news.page(provider, *self.server.demo.lasting(news.PAGES[provider]))

    def _send(self, reply: Reply) -> None:
        """Head and body in one write: two would wait for each other's acknowledgement."""
        is_text = isinstance(reply.body, str)
        content = reply.body.encode() if is_text else json.dumps(reply.body).encode()
        headers = {
            "Content-Type": "text/html" if is_text else "application/json",
            "Content-Length": str(len(content)),
            **reply.headers,
        }
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        self.wfile.write(head + (b"" if self.command == "HEAD" else content))

    def _heartbeat(self, key: str) -> None:
        """Upgrade to a WebSocket, answer one Phoenix heartbeat and close."""
        accept = base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET_GUID).digest()).decode()  # noqa: S324
        self.close_connection = True
        self.connection.settimeout(10)
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        size = self.rfile.read(2)[1] & 0x7F
        mask, masked = self.rfile.read(4), self.rfile.read(size)
        heard = json.loads(bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked)))
        said = {"topic": "phoenix", "event": "phx_reply", "ref": heard["ref"], "payload": {"status": "ok"}}
        text = json.dumps(said).encode()
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.rfile.read(2)


_WORKING = {Behaviour.WELL, Behaviour.SLOW}


def _reply(how: Behaviour, shape: Shape, request: Request) -> Reply:
    """What a vendor that behaves like this says."""
    if how is Behaviour.FAIL:
        return Reply(503, "<html><body><h1>503 Service Unavailable</h1></body></html>")
    if how is Behaviour.GARBAGE:
        return Reply(200, HTML)
    if how is Behaviour.LIMIT:
        return _with_headers(shape.limited, RETRY_AFTER)
    if how is Behaviour.REFUSE and request.has_credential:
        return shape.refused
    return shape.answer(request)


def _with_headers(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return Reply(reply.status, reply.body, dict(reply.headers) | dict(headers))
