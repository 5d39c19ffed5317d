"""What vendors send: cap -> verify -> dedupe -> store -> acknowledge. Read this first.

A plain ASGI application in front of Django, since it is called far more often than any page. The vendor
gets its 2xx when the event and its deliveries are committed; 4xx when the request is not believed, which
leaves a row; 503 when nothing could be stored, so that it sends the event again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import connection

from providers.hooks import Found, Inbound, Refused, Reply, Scheme, Verified
from webhooks import addresses, catalog
from webhooks.catalog import Source
from webhooks.ingest import Unavailable, ingest
from webhooks.refusals import UNKNOWN, refusals
from webhooks.sealing import Content
from webhooks.store import NewEvent, Saved
from wsmon import problems
from wsmon.audit import address_behind_proxies
from wsmon.http import Headers
from wsmon.vocabulary import JSON

log = structlog.get_logger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SAVE_SECONDS = 10.0
"""How long a vendor waits for the database, at most; most give up after 5 to 15 s and send again."""
BODY_SECONDS = 30.0
HEADERS_BYTES = 32_768
RETRY_AFTER = 5
LARGE = 262_144
"""Bodies from this size are verified in another thread: hashing them takes milliseconds."""


class Gone(Exception):
    """The sender hung up before its request was complete."""


@dataclass(slots=True)
class Request:
    """One request as the server gives it."""

    scope: dict[str, Any] = field(repr=False)
    receive: Receive = field(repr=False)
    name: str
    pairs: list[tuple[str, str]] = field(default_factory=list, repr=False)
    headers: Headers = field(default_factory=Headers, repr=False)
    body: bytes = field(default=b"", repr=False)
    size: int = 0
    address: str | None = None

    @property
    def query(self) -> str:
        """The query, as it was sent."""
        return str(self.scope["query_string"].decode("latin-1"))

    @property
    def path(self) -> str:
        """The path, as it was sent."""
        raw = self.scope.get("raw_path") or self.scope["path"].encode()
        return str(raw.decode("latin-1")).partition("?")[0]

    async def read(self, limit: int) -> bytes:
        """The whole body; raises :class:`Refused` (413) as soon as it is larger than ``limit``, declared or not."""
        declared = self.headers.get("content-length", "")
        self.size = int(declared) if declared.isdecimal() and len(declared) < 16 else 0
        if self.size > limit:
            self.size = min(self.size, 2**31 - 1)
            raise _too_large(limit)
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
            if size > limit:
                self.size = size
                raise _too_large(limit)
        self.size, self.body = size, b"".join(chunks)
        return self.body


def _too_large(limit: int) -> Refused:
    return Refused("too_large", f"the body is larger than {limit:,} bytes", 413)


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request below ``/api/webhooks/``."""
    request = _request(scope, receive)
    headers: dict[str, str] = {}
    try:
        reply = await _answer(request)
    except Refused as refused:
        refusals.note(_moment(time.time()), request.name, refused, request.address, request.body, request.size)
        reply, headers = _refusal(refused)
    except Gone:
        return
    except Exception as problem:
        if not isinstance(problem, Unavailable):
            log.exception("a webhook could not be handled", source=request.name)
        reply, headers = _problem(503, "nothing was stored: send it again"), {"retry-after": str(RETRY_AFTER)}
    await _send(send, scope["method"], reply, headers)


def _request(scope: dict[str, Any], receive: Receive) -> Request:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    request = Request(scope, receive, UNKNOWN, pairs, Headers(pairs))
    peer = scope.get("client") or ("", 0)
    request.address = address_behind_proxies(str(peer[0]), request.headers.get("x-forwarded-for", ""))
    return request


async def _answer(request: Request) -> Reply:
    source = await _source(request.scope["path"].removeprefix(addresses.PATH).strip("/"))
    request.name = source.slug
    scheme = source.scheme
    if scheme is None or source.problem:
        raise Refused("not_configured", source.problem or "its provider has no webhooks")
    if request.scope["method"] not in ("POST", *scheme.methods) and (
        request.scope["method"] not in ("GET", "HEAD") or scheme.greet is None
    ):
        raise Refused("method", "send a POST", 405)
    if sum(len(name) + len(value) for name, value in request.pairs) > HEADERS_BYTES:
        raise Refused("too_large", f"the headers are larger than {HEADERS_BYTES:,} bytes", 431)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read(source.max_bytes)
    except TimeoutError:
        raise Refused("malformed", f"the body took longer than {BODY_SECONDS:g} s", 408) from None
    if len(body) < LARGE:
        judged = _judge(request, source, scheme)
    else:
        judged = await asyncio.to_thread(_judge, request, source, scheme)
    if isinstance(judged, Reply):
        return judged
    saved = await ingest.save(judged, SAVE_SECONDS) if judged else []
    return scheme.accepted or _receipt(judged, saved)


def _judge(request: Request, source: Source, scheme: Scheme) -> Reply | list[NewEvent]:
    """The answer to a handshake, or the events; raises :class:`Refused`."""
    received_at = time.time()
    urls = addresses.candidates(request.path, request.query, source.url)
    inbound = Inbound(request.scope["method"], urls[0], request.headers, request.body, received_at)
    if scheme.greet is not None:
        greeting = scheme.greet(inbound, source.secrets, source.options)
        if greeting is not None:
            return greeting
    if request.scope["method"] not in scheme.methods:
        raise Refused("method", "this is no handshake: send a POST", 405)
    inbound, verified = _verify(inbound, urls if scheme.signs_url else urls[:1], source, scheme)
    if scheme.answer is not None:
        answer = scheme.answer(inbound, source.secrets, source.options)
        if answer is not None:
            return answer
    found = scheme.read(inbound, source.secrets, source.options)
    return events_of(
        inbound, source, found, request.pairs, verification_of(verified, source, received_at), request.address
    )


def _verify(inbound: Inbound, urls: Sequence[str], source: Source, scheme: Scheme) -> tuple[Inbound, Verified]:
    """Verify; where the URL is signed, by each under which wsmon may have been called."""
    for number, url in enumerate(urls, start=1):
        if number > 1:
            inbound = Inbound(inbound.method, url, inbound.headers, inbound.body, inbound.received_at)
        try:
            return inbound, scheme.verify(inbound, source.secrets, source.options)
        except Refused as refused:
            if number == len(urls) or refused.code != "signature_mismatch":
                raise
    raise AssertionError("there is always a URL")


def verification_of(verified: Verified, source: Source, received_at: float) -> dict[str, JSON]:
    """What is kept of why a request was believed."""
    kept: dict[str, JSON] = {
        "scheme": verified.scheme,
        "secret": verified.secret,
        "secrets": len(source.secrets),
        "secret_id": source.secret_id(verified.secret),
    }
    if verified.signed_at is not None:
        kept |= {"signed_at": verified.signed_at, "age": round(received_at - verified.signed_at, 3)}
    return kept


def events_of(
    inbound: Inbound,
    source: Source,
    found: Sequence[Found],
    pairs: Sequence[tuple[str, str]],
    verification: dict[str, JSON],
    address: str | None,
) -> list[NewEvent]:
    """The events of a believed request, ready to be stored."""
    content_type = inbound.headers.get("content-type", "")
    whole = Content(pairs, inbound.url, inbound.body)
    events: list[NewEvent] = []
    batch: UUID | None = None
    for one in found:
        own = whole if one.body is None else Content(pairs, inbound.url, one.body)
        event = NewEvent(
            source=source,
            key=_text(one.key, 255),
            type=_text(one.type, 200) or "unknown",
            subject=_text(one.subject, 255),
            status=one.status,
            occurred_at=one.occurred_at,
            received_at=_moment(inbound.received_at),
            content=own,
            # Of a batch the first event keeps what was signed, so that it can be verified again.
            request=whole if one.body is not None and batch is None else None,
            batch=batch,
            address=address,
            verification=verification,
            content_type=content_type,
        )
        if one.body is not None and batch is None:
            batch = event.id
        events.append(event)
    return events


def _text(text: str, limit: int) -> str:
    """PostgreSQL stores neither NUL nor half a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:limit]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def _source(path: str) -> Source:
    known = catalog.current()
    source = _named(known, path) if known is not None else None
    if source is None:  # it may be new
        known = await asyncio.to_thread(_look)
        source = _named(known, path)
    if source is None:
        raise Refused("unknown_source", "there is no such source", 404)
    return source


def _named(known: catalog.Catalog, path: str) -> Source | None:
    provider = addresses.ALIASES.get(path)
    if provider is not None:
        return known.source(provider) or known.of_provider(provider)
    return known.source(path)


def _look() -> catalog.Catalog:
    try:
        return catalog.refresh(max_age=0.1)
    finally:
        connection.close()


def _receipt(events: Sequence[NewEvent], saved: Sequence[Saved]) -> Reply:
    duplicates = len(saved) - sum(one.new for one in saved)
    ids = ", ".join([f'"{one.event_id}"' for one in saved[:100]])
    answer = f'{{"received": {len(events)}, "duplicates": {duplicates}, "events": [{ids}]}}'
    return Reply(200, answer.encode(), "application/json")


def _refusal(refused: Refused) -> tuple[Reply, dict[str, str]]:
    headers = {"allow": "POST"} if refused.status == 405 else {}
    # The rest of a body that is not read must not be taken for the next request.
    headers |= {"connection": "close"} if refused.status in (404, 408, 413, 431) else {}
    return _problem(refused.status, refused.message), headers


def _problem(status: int, detail: str) -> Reply:
    answer = problems.response(problems.Problem(status, detail))
    return Reply(status, answer.content, answer["Content-Type"])


_ALWAYS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


async def _send(send: Send, method: str, reply: Reply, headers: dict[str, str]) -> None:
    encoded = [
        *_ALWAYS,
        (b"content-type", reply.content_type.encode("latin-1", "replace")),
        (b"content-length", str(len(reply.body)).encode()),
        *((name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})
