"""The web process's side of live updates: one LISTEN connection, one rendering, many open pages.

What is rendered comes from the module named in ``settings.LIVE_RENDERER``: ``changed(service_ids)`` and
``regular()``, both returning ``{event: html}``. Nothing is rendered while nobody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

import psycopg
import structlog
from django.conf import settings
from django.db import connections

from wsmon.vocabulary import JSON

CHANNEL = "wsmon_live"
STATE_DELAY = 0.02
"""Seconds to wait for more changes of the same moment before they are rendered together."""
TICK_EVERY = 1.0
REGULAR_EVERY = 5.0
PING_EVERY = 10.0
RECHECK_EVERY = 30.0
WRITE_LIMIT = 60.0
"""A browser that takes no bytes for so many seconds is gone."""
QUEUE_CHUNKS, QUEUE_BYTES = 32, 1_000_000
RENDER_LIMIT = 200
"""When more services than this change at once, pages fetch what they show instead."""

P = ParamSpec("P")
T = TypeVar("T")
Entitled = Callable[[set[str]], set[str]]
log = structlog.get_logger(__name__)


def sse(event: str, data: str) -> bytes:
    """One server-sent event (WHATWG HTML, 9.2.6): each line of ``data`` gets its own field."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {event}\n{lines}\n".encode()


RESYNC = sse("resync", "")
SIGNED_OUT = sse("signed-out", "")


class Viewer:
    """One open stream: what it still has to be sent. Never more than a bound; then ``resync``."""

    def __init__(self, session_key: str, first: bytes, user: str = "") -> None:
        self.session_key = session_key
        self.user = user
        self.task: asyncio.Future[None] | None = None
        self.writing_since: float | None = None
        self._chunks = [first]
        self._bytes = len(first)
        self._wake = asyncio.Event()
        self._wake.set()
        self._ended = False

    def offer(self, chunk: bytes) -> None:
        """Queue ``chunk``; a browser too slow for it is told to fetch everything once instead."""
        if len(self._chunks) >= QUEUE_CHUNKS or self._bytes + len(chunk) > QUEUE_BYTES:
            self._start_over()
        else:
            self._chunks.append(chunk)
            self._bytes += len(chunk)
        self._wake.set()

    def _start_over(self) -> None:
        self._chunks, self._bytes = [RESYNC], len(RESYNC)

    def end(self) -> None:
        """Close the stream after what is queued."""
        self._ended = True
        self._wake.set()

    async def next(self) -> bytes | None:
        """All that is queued as one write; ``None`` at the end."""
        await self._wake.wait()
        self._wake.clear()
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._bytes = [], 0
        if chunk:
            if self._ended:
                self._wake.set()
            return chunk
        return None if self._ended else b": \n\n"


class Feed(Protocol):
    """Streams of another audience than pages, fed from the same LISTEN connection (``wsmon.streams``)."""

    kind: str
    viewers: set[Viewer]

    def take(self, body: Any) -> None:
        """Note the body of one notification of ``kind``."""

    def start_over(self) -> None:
        """Notifications may have been missed: send everything again."""

    def keep_alive(self) -> None:
        """Send every stream something."""

    async def flush(self) -> None:
        """Write what was noted to the streams, for ever."""

    async def recheck(self) -> None:
        """End the streams of those who may not read any more."""


class Hub:
    """All open streams of one event loop, and the tasks that feed them while there are any."""

    _open: ClassVar[set[Hub]] = set()

    def __init__(self, entitled: Entitled) -> None:
        self.viewers: set[Viewer] = set()
        self.feeds: dict[str, Feed] = {}
        self.closing = False
        self.listening = False
        self.changed_at = 0.0
        self._entitled = entitled
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, "live")
        self._tasks: list[asyncio.Task[None]] = []
        self._changed: set[int] = set()
        self._breakers: set[int] | None = None
        self._relayed: set[str] = set()
        self._change = asyncio.Event()
        self._ticks: dict[str, dict[str, JSON]] = {}
        self._look = asyncio.Event()
        self._sent: dict[str, str] = {}

    # Viewers ---------------------------------------------------------------------------------

    def join(self, session_key: str, user: str, since: float) -> Viewer:
        """Add a stream of a page rendered at ``since`` (epoch seconds), which may have missed a change.

        The first one starts the LISTEN connection and the timers.
        """
        missed = RESYNC if self.changed_at >= since else b""
        viewer = Viewer(session_key, b"retry: 2000\n\n" + self._ping("hello") + missed, user)
        self.viewers.add(viewer)
        self._sent.clear()  # the new page may be older than what was sent last: send it all again
        self._look.set()
        self._start()
        return viewer

    def attach(self, feed: Feed) -> None:
        """Feed streams of another audience too."""
        self.feeds[feed.kind] = feed
        self._start()
        self._run(feed.flush)

    @property
    def everybody(self) -> list[Viewer]:
        """The streams of every audience."""
        return [*self.viewers, *(viewer for feed in self.feeds.values() for viewer in feed.viewers)]

    def _start(self) -> None:
        if self._tasks:
            return
        Hub._open.add(self)
        _end_streams_on_signals()
        for step in (self._listen, self._flush_changes, self._flush_ticks, self._regularly, self._mind):
            self._run(step)

    def _run(self, step: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(_forever(step), name=getattr(step, "__name__", "?")))

    def open_streams(self, session_key: str, user: str) -> tuple[int, int]:
        """How many streams this session, and this account in all its sessions, has open here."""
        of_user = [viewer for viewer in self.viewers if viewer.user == user]
        return sum(viewer.session_key == session_key for viewer in of_user), len(of_user)

    def leave(self, viewer: Viewer) -> None:
        """Forget a stream that ended."""
        self.viewers.discard(viewer)

    def broadcast(self, chunk: bytes) -> None:
        """Queue the same bytes for every stream."""
        for viewer in self.viewers:
            viewer.offer(chunk)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run database work in a thread that gives its connection back at once."""

        def run() -> T:
            try:
                return work(*args, **kwargs)
            finally:
                connections.close_all()

        return await self._loop.run_in_executor(self._threads, run)

    @classmethod
    def close_all(cls) -> None:
        """End every stream of every event loop of this process. Safe from any thread and signal handler."""
        for hub in list(cls._open):
            try:
                hub._loop.call_soon_threadsafe(hub.close)
            except RuntimeError:  # its event loop was closed, and the streams with it: the others end all the same
                cls._open.discard(hub)

    def close(self) -> None:
        """End the streams and the tasks; new streams are refused."""
        self.closing = True
        for viewer in self.everybody:
            viewer.end()
        for task in self._tasks:
            task.cancel()
        Hub._open.discard(self)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Feed ------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Keep one LISTEN connection; after every gap the pages fetch what they show once."""
        delay, reported = 0.2, False
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**_connection_parameters()) as listener:
                    await listener.execute(f"LISTEN {CHANNEL}")
                    delay, reported = 0.2, False
                    self._heard(True)
                    await self._take_from(listener)
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not reported:
                    log.warning("live_feed_lost", error=type(error).__name__)
                reported = True
            self._heard(False)
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - spreads reconnects
            delay = min(delay * 2, 5)

    def _heard(self, listening: bool) -> None:
        """Tell every page whether changes arrive; whatever was missed meanwhile is fetched once."""
        if listening == self.listening:
            return
        self.listening = listening
        self.changed_at = time.time()
        self.broadcast(self._ping("ping") + (RESYNC if listening else b""))
        for feed in self.feeds.values() if listening else ():
            feed.start_over()

    async def _take_from(self, listener: psycopg.AsyncConnection[Any]) -> None:
        while True:
            async for notice in listener.notifies(timeout=PING_EVERY):
                self.take(notice.payload)
            # A frozen server closes nothing: ask it something.
            await asyncio.wait_for(listener.execute("SELECT 1"), 5)

    def take(self, payload: str) -> None:
        """Note one notification for the next flush; a malformed one is logged and dropped."""
        try:
            kind, body = json.loads(payload)
            if kind in ("state", "breaker"):
                self.changed_at = time.time()
            if kind in self.feeds:
                self.feeds[kind].take(body)
            if not self.viewers:
                return
            if kind == "state":
                self._changed.update(int(number) for number in body["services"])
                self._change.set()
            elif kind == "breaker":
                self._breakers = {int(number) for number in body["services"]} | (self._breakers or set())
                self._change.set()
            elif kind == "tick":
                for check, (service, *news) in body["checks"].items():
                    self._ticks.setdefault(str(service), {})[check] = news
            elif kind == "self":
                self._look.set()
            elif kind in settings.LIVE_RELAYED:
                self._relayed.add(kind)
                self._change.set()
                if kind in settings.LIVE_LOOKED_AT:
                    self._look.set()
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("live_notification_malformed", length=len(payload))

    # Flushes: at most one write per viewer each ----------------------------------------------

    async def _flush_changes(self) -> None:
        while True:
            await self._change.wait()
            await asyncio.sleep(STATE_DELAY)
            self._change.clear()
            changed, self._changed = self._changed, set()
            if changed or self._breakers is not None:
                self.changed_at = time.time()
            self._tell_breakers()
            self._relay()
            if not changed or not self.viewers:
                continue
            if len(changed) > RENDER_LIMIT:
                self.broadcast(RESYNC)
                continue
            try:
                events = await self.in_thread(_renderer().changed, changed)
            except Exception:
                self.broadcast(RESYNC)
                raise
            for number in changed:  # ticks from before the change would undo it
                self._ticks.pop(str(number), None)
            self.broadcast(self._fresh(events))

    def _tell_breakers(self) -> None:
        """Which breakers changed; those who show them ask. None named: any of them may have."""
        breakers, self._breakers = self._breakers, None
        if breakers is not None and self.viewers:
            ids = sorted(breakers) if len(breakers) <= RENDER_LIMIT else []
            self.broadcast(sse("breakers", json.dumps({"ids": ids})))

    def _relay(self) -> None:
        """That there is news of a kind; those who show it ask."""
        kinds, self._relayed = self._relayed, set()
        for kind in sorted(kinds):
            self.broadcast(sse(kind, ""))

    async def _flush_ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_EVERY - time.time() % TICK_EVERY)
            ticks, self._ticks = self._ticks, {}
            if ticks and self.viewers:
                self.broadcast(sse("tick", json.dumps({"services": ticks}, separators=(",", ":"))))

    async def _regularly(self) -> None:
        """What no notification tells: that nobody probes any more, that the median moved."""
        while True:
            self._look.clear()
            if self.viewers:
                chunk = self._fresh(await self.in_thread(_renderer().regular))
                if chunk:
                    self.broadcast(chunk)
            await asyncio.sleep(1)  # also when many pages come at once
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), REGULAR_EVERY - 1)

    async def _mind(self) -> None:
        """Ping, drop browsers that take nothing any more, and end streams of those who signed out."""
        rechecked = self._loop.time()
        while True:
            await asyncio.sleep(PING_EVERY)
            self.broadcast(self._ping("ping"))
            for feed in self.feeds.values():
                feed.keep_alive()
            now = self._loop.time()
            for viewer in self.everybody:
                if viewer.task and viewer.writing_since and now - viewer.writing_since > WRITE_LIMIT:
                    viewer.task.cancel()
            if now - rechecked >= RECHECK_EVERY - 1:
                rechecked = now
                await self.recheck()
                for feed in self.feeds.values():
                    await feed.recheck()

    async def recheck(self) -> None:
        """End the streams whose session is no longer one of active staff."""
        keys = {viewer.session_key for viewer in self.viewers}
        if not keys:
            return
        allowed = await self.in_thread(self._entitled, keys)
        for viewer in list(self.viewers):
            if viewer.session_key in keys - allowed:
                viewer.offer(SIGNED_OUT)
                viewer.end()

    def _fresh(self, events: Mapping[str, str]) -> bytes:
        """The events as bytes, without those that every page has already. Rows are always sent."""
        chunks = []
        for event, html in events.items():
            row = event == "list" or event.startswith("svc-")
            if row or self._sent.get(event) != html:
                chunks.append(sse(event, html))
            if not row:
                self._sent[event] = html
        return b"".join(chunks)

    def _ping(self, event: str) -> bytes:
        return sse(event, json.dumps({"now": round(time.time(), 3), "feed": self.listening or not self._tasks}))


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    """Run a task of the hub again after a fault, so that one bad row cannot end live updates."""
    while True:
        try:
            await step()
        except Exception as error:
            log.exception("live_task_failed", task=getattr(step, "__name__", "?"), error=type(error).__name__)
        await asyncio.sleep(1)


def _renderer() -> Any:
    return import_module(settings.LIVE_RENDERER)


def _connection_parameters() -> dict[str, Any]:
    """Django's parameters, without what only its own cursors need."""
    parameters = connections["default"].get_connection_params()
    return {key: value for key, value in parameters.items() if key not in ("cursor_factory", "context")} | {
        "autocommit": True
    }


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def current_hub(entitled: Entitled) -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        for ended in [other for other in _hubs if other.is_closed()]:
            del _hubs[ended]
        _hubs[loop] = Hub(entitled)
    return _hubs[loop]


def _end_streams_on_signals() -> None:
    """A server waits for its open answers before it stops: on SIGTERM and SIGINT they end first.

    Only where signals can be set (the main thread); elsewhere the launcher calls ``live.shut_down``.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if not callable(before) or getattr(before, "ends_streams", False):
            continue

        def handler(signum: int, frame: Any, before: Callable[[int, Any], Any] = before) -> None:
            Hub.close_all()
            before(signum, frame)

        handler.ends_streams = True  # type: ignore[attr-defined]
        signal.signal(number, handler)
