"""Supabase Realtime: channels over WebSocket."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import quote, urlsplit

import websocket

from providers.answers import Dialect, Talk, Verdict, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage
from providers.supabase_auth import KEYS, STATUS_URL, VARIABLES, any_key, complaint, headers
from wsmon.http import HttpError
from wsmon.net import Exchange, start_tls
from wsmon.vocabulary import Category, Outcome, Timings

MAX_BYTES = 262_144
HEARTBEAT = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "1"}

# Headers and answers: supabase/realtime, router.ex and rate_limiter.ex
REALTIME = Dialect(
    vendor="Supabase Realtime",
    complaint=complaint,
    variables=VARIABLES,
    bases={"SUPABASE_REALTIME_URL": "{SUPABASE_URL}/realtime/v1"},
    headers={
        "x-rate-limit": "rate_limit_limit",
        "x-rate-limit-remaining": "rate_limit_remaining",
        "x-rate-rolling": "rate_rolling",
        "sb-request-id": "request_id",
    },
)


class Bounded:
    """A socket as websocket-client uses one, with a deadline over all of it and a cap on what is read."""

    def __init__(self, sock: socket.socket, ends: float) -> None:
        self._sock = sock
        self._ends = ends
        self._read = 0

    def recv(self, size: int) -> bytes:
        self._sock.settimeout(self._left())
        data = self._sock.recv(size)
        self._read += len(data)
        if self._read > MAX_BYTES:
            raise OSError("too much was sent")
        return data

    def send(self, data: bytes) -> int:
        self._sock.settimeout(self._left())
        return self._sock.send(data)

    def settimeout(self, seconds: float | None) -> None:
        """Ignored: the deadline decides."""

    def gettimeout(self) -> float:
        return self._left()

    def fileno(self) -> int:
        return self._sock.fileno()

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()

    def _left(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


@conversation(REALTIME)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The ping without a key: the gateway's own 401 proves that the project answers."""
    return reachable(talk, "GET", f"{talk.base('SUPABASE_REALTIME_URL')}/api/ping")


@conversation(REALTIME)
def authentication(talk: Talk) -> ProbeOutcome:
    """The ping with a key: runs the tenant's pipeline."""
    url = f"{talk.base('SUPABASE_REALTIME_URL')}/api/ping"
    answer = talk.ask("GET", url, headers=headers(any_key(talk)))
    talk.must(isinstance(answer.get("message"), str), "its message")
    return talk.healthy("the key works")


# Protocol: https://supabase.com/docs/guides/realtime/protocol (a heartbeat joins no channel)
@conversation(REALTIME)
def functionality(talk: Talk) -> ProbeOutcome:
    """A WebSocket opened and one heartbeat answered."""
    key = any_key(talk)
    url = f"{talk.base('SUPABASE_REALTIME_URL')}/websocket?apikey={quote(key, safe='')}&vsn=1.0.0"
    ends = time.monotonic() + talk.remaining()
    sock, opened = _open(talk, url, ends)
    began = time.monotonic()
    try:
        _heartbeat(Bounded(sock, ends), url)
    except websocket.WebSocketBadStatusException as error:
        status = error.status_code or 0  # none at all before a blank first line
        talk.took(_finished(opened, began), status or None)
        raise Verdict(_refused(talk, status)) from None
    except (TimeoutError, websocket.WebSocketTimeoutException):
        message = f"timed out after {round(talk.context.timeout, 2):g} s waiting for the heartbeat's answer"
        raise HttpError(message, Category.TIMEOUT_ERROR, timings=_finished(opened, began)) from None
    except (OSError, websocket.WebSocketConnectionClosedException):
        message = "the WebSocket broke off before the heartbeat's answer"
        raise HttpError(message, Category.NETWORK_ERROR, timings=_finished(opened, began)) from None
    except (websocket.WebSocketException, ValueError):
        talk.took(_finished(opened, began))
        message = "the WebSocket answered something else than the heartbeat's reply"
        raise Verdict(talk.say(Outcome.CRITICAL, message, Category.VALIDATION_ERROR)) from None
    finally:
        sock.close()
    talk.took(_finished(opened, began), 101)
    return talk.healthy("the WebSocket opened and answered a heartbeat")


def _open(talk: Talk, url: str, ends: float) -> tuple[socket.socket, Timings]:
    """A guarded connection, with TLS where the URL is https."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in {"http", "https"}:
        raise talk.ours("SUPABASE_URL must begin with http:// or https:// and name a host")
    sock, timings = talk.context.http.connect(
        host, port or (443 if parts.scheme == "https" else 80), talk.remaining()
    )
    if parts.scheme == "http":
        return sock, timings
    exchange = Exchange(max(0.001, ends - time.monotonic()))
    secured, _ = start_tls(sock, host, exchange)
    return secured, Timings(timings.dns_ms, timings.connect_ms, exchange.tls_ms, None, timings.total_ms)


def _heartbeat(sock: Bounded, url: str) -> None:
    """Send one heartbeat and wait for its reply; raises ValueError for anything but ``ok``."""
    channel = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
    try:
        channel.connect(  # type: ignore[no-untyped-call]
            "ws" + url.removeprefix("http"), socket=sock, redirect_limit=0, suppress_origin=True
        )
    except websocket.WebSocketException:
        if channel.status is None:
            raise
        raise websocket.WebSocketBadStatusException("a redirect", channel.status) from None
    channel.send(json.dumps(HEARTBEAT))
    while True:
        reply = json.loads(channel.recv())
        if isinstance(reply, dict) and reply.get("ref") == HEARTBEAT["ref"]:
            payload = reply.get("payload")
            if reply.get("event") != "phx_reply" or not isinstance(payload, dict) or payload.get("status") != "ok":
                raise ValueError("not ok")
            return


def _refused(talk: Talk, status: int) -> ProbeOutcome:
    """A handshake that got an ordinary HTTP answer instead of 101."""
    if status == 401:
        message = "Supabase Realtime refused the credential (401)"
        return talk.say(Outcome.ERROR, message, Category.AUTHENTICATION_ERROR)
    if status == 403:
        message = "Supabase Realtime accepts the credential, but it lacks a permission (403)"
        return talk.say(Outcome.ERROR, message, Category.AUTHENTICATION_ERROR)
    if status == 429:
        return talk.say(Outcome.DEGRADED, "Supabase Realtime limits our rate (429)", Category.RATE_LIMITED)
    category = Category.SERVER_ERROR if status >= 500 else Category.VALIDATION_ERROR
    answered = f"answered {status}" if status else "not answered in HTTP"
    return talk.say(Outcome.CRITICAL, f"the WebSocket was {answered} instead of 101", category)


def _finished(opened: Timings, began: float) -> Timings:
    waited = (time.monotonic() - began) * 1000
    total = waited + (opened.total_ms or 0) + (opened.tls_ms or 0)
    return Timings(opened.dns_ms, opened.connect_ms, opened.tls_ms, round(waited, 3), round(total, 3))


PROVIDER = Provider(
    slug="supabase_realtime",
    label="Supabase Realtime",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        connectivity_needs=("SUPABASE_URL",),
        needs=("SUPABASE_URL",),
        credentials=KEYS,
    ),
    variables=REALTIME.variables,
    base_urls=REALTIME.bases,
    status_page=StatusPage(STATUS_URL, components=("Realtime", "API Gateway")),
    docs_url="https://supabase.com/docs/guides/realtime",
)
