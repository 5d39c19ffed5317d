"""Server-sent events for programs: everything once, then what changes. Their notifications are ``wsmon.live``'s.

``settings.PROGRAM_STREAMS`` says which paths there are and what each sends. A stream of kind ``breaker`` begins
with one event ``breakers``, a JSON array of all there are; each change is an event ``breaker``, a JSON object of
the array's shape. After a gap, and to a client that reads too slowly, the array is sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from importlib import import_module
from io import BytesIO
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.utils.module_loading import import_string

from wsmon import callers, live, problems
from wsmon.hub import STATE_DELAY, Hub, Viewer, current_hub, sse
from wsmon.live import MAX_PER_SESSION, MAX_PER_USER, MAX_VIEWERS, TOO_MANY_WAIT, Receive, Send
from wsmon.models import ApiToken
from wsmon.problems import Problem
from wsmon.vocabulary import JSON

MAX_PER_TOKEN = 200
"""Open streams of one token in one web process: a program has one in each of its own processes."""
MANY = 200
"""When more than so many change at once, the whole list is sent instead."""
BY_ID = "token:"
"""Stands before the id of a viewer's token, in the place of a session's key, which has no colon."""

Render = Callable[[set[int]], list[dict[str, JSON]]]


class Listener(Viewer):
    """One program's stream. While it is ``behind`` it takes no changes, and then the whole list."""

    def __init__(self, session_key: str, user: str, wanted: Callable[[], None]) -> None:
        super().__init__(session_key, b"retry: 2000\n\n", user)
        self.behind = True
        self.waits = False
        """It has read all that it was sent."""
        self._wanted = wanted

    def offer(self, chunk: bytes) -> None:
        """Queue a change, unless the list that it waits for will be newer."""
        if not self.behind:
            super().offer(chunk)

    def start_with(self, everything: bytes) -> None:
        """Queue the whole list, in the place of whatever is queued."""
        self._chunks, self._bytes = [everything], len(everything)
        self._wake.set()

    def keep_alive(self) -> None:
        """Send a comment, if there is nothing else to send."""
        if not self._chunks:
            self._wake.set()

    def _start_over(self) -> None:
        self.behind = True
        self._chunks, self._bytes = [], 0

    async def next(self) -> bytes | None:
        """All that is queued; asks for the list first when it is behind."""
        self.waits = True
        if self.behind:
            self._wanted()
        try:
            return await super().next()
        finally:
            self.waits = False


class ProgramFeed:
    """All streams of one kind in this event loop. One task renders, so that nothing old follows something new."""

    def __init__(self, kind: str, render: Render, scope: str, hub: Hub) -> None:
        self.kind = kind
        self.scope = scope
        self.viewers: set[Viewer] = set()
        self._render = render
        self._hub = hub
        self._changed: set[int] = set()
        self._wake = asyncio.Event()

    def join(self, key: str, user: str) -> Listener:
        """Add a stream."""
        listener = Listener(key, user, self._wake.set)
        self.viewers.add(listener)
        return listener

    def leave(self, viewer: Viewer) -> None:
        """Forget a stream that ended."""
        self.viewers.discard(viewer)

    def has_too_many(self, key: str, user: str) -> bool:
        """Whether this token, session or account may open no more streams."""
        of_user = [viewer for viewer in self.viewers if viewer.user == user]
        of_key = sum(viewer.session_key == key for viewer in of_user)
        if key.startswith(BY_ID):
            return of_key >= MAX_PER_TOKEN
        return of_key >= MAX_PER_SESSION or len(of_user) >= MAX_PER_USER

    # What the hub calls ----------------------------------------------------------------------

    def take(self, body: Any) -> None:
        """Note which services changed; an empty list means all of them."""
        ids = {int(number) for number in body["services"]}
        self._changed |= ids
        if not ids or len(self._changed) > MANY:
            self.start_over()
        self._wake.set()

    def start_over(self) -> None:
        """Send the whole list to everybody."""
        self._changed.clear()
        for listener in self._listeners():
            listener.behind = True
        self._wake.set()

    def keep_alive(self) -> None:
        """Send a comment where there is nothing else to send, so that nobody takes the stream for dead."""
        for listener in self._listeners():
            listener.keep_alive()

    async def flush(self) -> None:
        """Render what changed, and the whole list for those who need it."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(STATE_DELAY)
            self._wake.clear()
            changed, self._changed = self._changed, set()
            try:
                await self._send(changed)
            except Exception:
                self.start_over()
                raise

    async def recheck(self) -> None:
        """End the streams of tokens that were revoked, and of sessions that are no longer of active staff."""
        keys = {viewer.session_key for viewer in self.viewers}
        if not keys:
            return
        allowed = await self._hub.in_thread(self._entitled, keys)
        for viewer in list(self.viewers):
            if viewer.session_key in keys - allowed:
                viewer.end()

    # Parts -----------------------------------------------------------------------------------

    def _listeners(self) -> Iterable[Listener]:
        return cast(set[Listener], self.viewers)

    async def _send(self, changed: set[int]) -> None:
        if changed and any(not listener.behind for listener in self._listeners()):
            items = await self._hub.in_thread(self._render, changed)
            chunk = b"".join(sse(self.kind, _json(item)) for item in items)
            for listener in self._listeners() if chunk else ():
                listener.offer(chunk)
        late = [listener for listener in self._listeners() if listener.behind and listener.waits]
        if late:
            for listener in late:
                listener.behind = False  # before it is read: a gap from now on makes it behind again
            everything = sse(f"{self.kind}s", _json(await self._hub.in_thread(self._render, set())))
            for listener in late:
                listener.start_with(everything)

    def _entitled(self, keys: set[str]) -> set[str]:
        ids = [int(key.removeprefix(BY_ID)) for key in keys if key.startswith(BY_ID)]
        found = ApiToken.objects.filter(pk__in=ids, revoked_at=None, scopes__contains=[self.scope])
        sessions = live.entitled({key for key in keys if not key.startswith(BY_ID)})
        return sessions | {f"{BY_ID}{pk}" for pk in found.values_list("pk", flat=True)}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# The endpoint ------------------------------------------------------------------------------------


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request to a path of ``settings.PROGRAM_STREAMS``: a stream, or a problem document.

    HEAD answers the same status without a stream.
    """
    hub = current_hub(live.entitled)
    feed = _feed(hub, scope["path"])
    try:
        if scope["method"] not in ("GET", "HEAD"):
            raise Problem(405, "only GET is allowed here", headers={"Allow": "GET, HEAD"})
        key, user = await hub.in_thread(_caller, scope, feed.scope)
        if hub.closing or len(hub.everybody) >= MAX_VIEWERS:
            raise Problem(503, "this server takes no more streams now", headers={"Retry-After": "5"})
        if feed.has_too_many(key, user):
            raise Problem.too_many(TOO_MANY_WAIT)
    except Problem as problem:
        await live.refuse_with(send, problems.response(problem))
        return
    except Exception:
        unavailable = Problem(503, "the database does not answer", headers={"Retry-After": "5"})
        await live.refuse_with(send, problems.response(unavailable))
        raise
    if scope["method"] == "HEAD":
        headers = [*live.STREAM_HEADERS, (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await live.stream(feed.join(key, user), feed.leave, receive, send)


def _feed(hub: Hub, path: str) -> ProgramFeed:
    kind, render, scope = settings.PROGRAM_STREAMS[path]
    if kind not in hub.feeds:
        hub.attach(ProgramFeed(kind, import_string(render), scope, hub))
    return cast(ProgramFeed, hub.feeds[kind])


def _caller(scope: dict[str, Any], token_scope: str) -> tuple[str, str]:
    """Who asks, as (key, account); raises :class:`Problem` when they may not."""
    request = ASGIRequest(scope, BytesIO())
    headers = dict(scope["headers"])
    key = None
    if b"authorization" not in headers:
        if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
            raise Problem.forbidden("pages of other sites may not read this")
        key = live.session_key(headers)
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
        request.user = get_user(request)
    callers.authenticate(request, token_scope, settings.LIVE_PERMISSION)
    token = getattr(request, "api_token", None)
    return (f"{BY_ID}{token.pk}", "") if token else (key or "", str(request.user.pk))
