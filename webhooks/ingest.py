"""Group commit: requests that come at the same time are stored in one transaction.

One thread of each web process takes whatever waits, stores it, and then lets every request of it be
acknowledged. Nobody waits for a batch to fill: under light load a batch is one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from django.db import DataError, IntegrityError, connection

from webhooks import catalog, store
from webhooks.refusals import refusals
from webhooks.store import NewEvent, Saved
from wsmon.connections import AWAY, drop_connection, own_connection

log = structlog.get_logger(__name__)

BATCH = 200
"""Requests in one transaction, at most."""
WAITING = 4_000
WAITING_BYTES = 64 * 1_048_576
"""Requests, and bytes of their bodies, that may wait or be under way; beyond it the answer is 503."""
IDLE_SECONDS = 1.0
RETRY_SECONDS = 0.25


class Unavailable(Exception):
    """Nothing was stored, or nobody knows: the vendor is to send it again."""


@dataclass(eq=False, slots=True)
class _Job:
    events: Sequence[NewEvent]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Saved]]
    size: int = 0
    saved: list[Saved] = field(default_factory=list)
    problem: Exception | None = None


class Ingest:
    """The thread of one web process that stores what comes in. Starts by itself."""

    def __init__(self) -> None:
        self._handed: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._fresh: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        self._waiting = 0
        self._bytes = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looked_at = float("-inf")

    async def save(self, events: Sequence[NewEvent], seconds: float) -> list[Saved]:
        """Store the events of one request; raises :class:`Unavailable`, at the latest after ``seconds``."""
        loop = asyncio.get_running_loop()
        size = sum([len(event.content.body) for event in events])
        job = _Job(events, loop, loop.create_future(), size)
        with self._lock:
            if self._waiting >= WAITING or self._bytes + size > max(WAITING_BYTES, size):
                raise Unavailable("too many requests wait to be stored")
            self._waiting += 1
            self._bytes += size
            self._start()
            self._collect(job)
        # Not asyncio.timeout, which costs more than the rest of this.
        deadline = loop.call_later(seconds, _give_up, job.future)
        try:
            return await job.future
        finally:
            deadline.cancel()

    def _collect(self, job: _Job) -> None:
        """Hand over what comes in one turn of the event loop together: waking the thread for each is dear."""
        fresh = self._fresh.get(job.loop)
        if fresh is None:
            self._fresh[job.loop] = fresh = []
            job.loop.call_soon(self._hand_over, job.loop)
        fresh.append(job)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._handed.put(self._fresh.pop(loop))

    def start(self) -> None:
        """Start the thread, so that the catalog is known before the first request."""
        with self._lock:
            self._start()

    def stop(self, seconds: float = 3.0) -> None:
        """Store what waits, write what was refused, and end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._handed.put(None)
            thread.join(seconds)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
            self._thread.start()

    # -- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        own_connection("-c statement_timeout=8s -c lock_timeout=5s", prepare=True)
        last = False
        while not last:
            batch, last = self._gather()
            for start in range(0, len(batch), BATCH):
                self._store(batch[start : start + BATCH])
            self._chores(now=last)
        connection.close()

    def _gather(self) -> tuple[list[_Job], bool]:
        """What waits, at least one or a second later nothing; and whether it is the last."""
        batch: list[_Job] = []
        try:
            jobs = self._handed.get(timeout=IDLE_SECONDS)
            while jobs is not None:
                batch += jobs
                if len(batch) >= BATCH:
                    return batch, False
                jobs = self._handed.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _store(self, batch: list[_Job]) -> None:
        try:
            saved = store.save([event for job in batch for event in job.events])
        except AWAY as problem:
            if isinstance(problem, DataError | IntegrityError):
                self._store_one_by_one(batch, problem)
                return
            log.warning("events could not be stored", error=type(problem).__name__, requests=len(batch))
            drop_connection()
            for job in batch:
                job.problem = problem
        except Exception as problem:
            self._store_one_by_one(batch, problem)
            return
        else:
            rest = iter(saved)
            for job in batch:
                job.saved = [next(rest) for _ in job.events]
        self._answer(batch)

    def _store_one_by_one(self, batch: list[_Job], problem: Exception) -> None:
        """One that cannot be stored must not keep the others out."""
        if len(batch) > 1:
            for job in batch:
                self._store([job])
            return
        log.error("an event cannot be stored", source=batch[0].events[0].source.slug, exc_info=problem)
        batch[0].problem = problem
        self._answer(batch)

    def _answer(self, batch: list[_Job]) -> None:
        with self._lock:
            self._waiting -= len(batch)
            self._bytes -= sum(job.size for job in batch)
        for loop in {job.loop for job in batch}:
            with contextlib.suppress(RuntimeError):  # it is closed, and with it whoever waited
                loop.call_soon_threadsafe(_resolve, [job for job in batch if job.loop is loop])

    def _chores(self, *, now: bool) -> None:
        """Once a second: look for changes of the configuration, write what was refused."""
        if not now and time.monotonic() < self._looked_at + catalog.LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            catalog.refresh()
            refusals.write()
        except Exception as problem:  # whatever it is, what comes in must be stored
            unknown = not isinstance(problem, AWAY)
            log.warning("ingest: its chores failed", error=type(problem).__name__, exc_info=unknown)
            drop_connection()
            time.sleep(RETRY_SECONDS)


def _give_up(future: asyncio.Future[list[Saved]]) -> None:
    if not future.done():
        future.set_exception(Unavailable("the database does not answer in time"))


def _resolve(batch: Sequence[_Job]) -> None:
    for job in batch:
        if job.future.done():  # the request has given up
            continue
        if job.problem is not None:
            job.future.set_exception(Unavailable(type(job.problem).__name__))
        else:
            job.future.set_result(job.saved)


ingest = Ingest()


def stop() -> None:
    """Store what waits in this process: it stops."""
    ingest.stop()


def _after_fork() -> None:
    global ingest  # noqa: PLW0603  a child has no thread
    ingest = Ingest()
    catalog.forget()


os.register_at_fork(after_in_child=_after_fork)
