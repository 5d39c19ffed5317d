"""The prober: the threads of one process that claim, probe and store.

One *dispatcher* thread claims due checks and starts each at its due time; a pool of *probe* threads runs
them, at most so many per lane; one *storer* thread writes results in batches. A tick of the scheduler
only wakes the dispatcher, so a lost or doubled tick does no harm. While the database is away nothing is
claimed, and results that wait are kept and stored when it is back.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection

from monitoring import claims, cycle, store
from monitoring.breakers import probes
from monitoring.claims import Claim
from monitoring.lanes import Lane
from monitoring.stalls import StallWatch
from monitoring.store import Finished
from monitoring.workerlog import WorkerLog
from wsmon.vocabulary import Outcome

logger = structlog.get_logger(__name__)

CLAIM_LIMIT = 512
STORE_LIMIT = 512
KEPT_RESULTS = 20_000
"""Results kept while the database is away; beyond it nothing more is claimed anyway."""

GATHER_SECONDS = 0.02
"""How long the storer waits for more results to store together."""

STOP_SECONDS = 8.0


@dataclass(order=True, slots=True)
class Planned:
    """A claim and when to start it (monotonic seconds)."""

    start: float
    number: int
    claim: Claim = field(compare=False)
    claimed: float = field(compare=False)


Job: TypeAlias = Planned | None


class Prober:
    """All probing of one process. ``start()`` once, ``tick()`` each second, ``stop()`` at the end."""

    def __init__(self, threads: int, width: int) -> None:
        self.width = width
        self.threads = threads
        self.lanes: dict[str, Lane[Planned]] = {}
        self.plan: list[Planned] = []
        self.ready: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self.condition = threading.Condition()
        self.ticked = False
        self.hungry = False
        """The last claim took all it was allowed to: there may be more as soon as there is room."""
        self.load = 0
        """Claimed and not finished, over all lanes."""
        self.stopping = False
        self.numbers = itertools.count()
        self.stalls = StallWatch()
        self.log: WorkerLog | None = None
        self._workers: list[threading.Thread] = []

    # -- what others call ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the dispatcher, the storer and the stall watch; probe threads start as they are needed."""
        self.stalls.start()
        self._spawn("dispatcher", self._dispatch_forever)
        self._spawn("storer", self._store_forever)

    def tick(self) -> None:
        """There may be due checks."""
        if self.log is not None:
            self.log.ticked()
        with self.condition:
            self.ticked = True
            self.condition.notify()

    def stop(self) -> None:
        """Finish the probes that run, store what they found, give everything else back."""
        with self.condition:
            self.stopping = True
            self.condition.notify()
        deadline = time.monotonic() + STOP_SECONDS
        dispatcher, storer = self._workers[:2]
        dispatcher.join(STOP_SECONDS)  # from then on no probe thread is added
        probing = self._workers[2:]
        for _ in probing:
            self.ready.put(None)
        for thread in probing:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.results.put(None)
        storer.join(max(0.0, deadline + 1 - time.monotonic()))
        self.stalls.stop()
        if self.log is not None:
            self.log.leave()

    # -- dispatcher ---------------------------------------------------------------------------------

    def _dispatch_forever(self) -> None:
        pause = 0.0
        while not self.stopping:
            claim_now = self._start_due_and_wait(pause)
            try:
                if claim_now and not self.stopping:
                    self._claim()
                elif self.log is not None:  # of many workers, some miss ticks for long: they live all the same
                    self.log.report()
                pause = 0.0
            except Exception as problem:  # whatever it is, probing must go on
                if isinstance(problem, Error):
                    self.stalls.database_failed()
                pause = min(max(pause * 2, 0.25), 2.0)
                logger.warning(
                    "claim failed",
                    error=type(problem).__name__,
                    retry_seconds=pause,
                    exc_info=not isinstance(problem, Error),
                )
                connection.close()
        connection.close()

    def _start_due_and_wait(self, pause: float) -> bool:
        """Start what is due; sleep until the next is due or a tick comes. True: claim now."""
        if pause:
            time.sleep(pause)
        with self.condition:
            now = time.monotonic()
            while self.plan and self.plan[0].start <= now:
                self._admit(heapq.heappop(self.plan))
            if not self.ticked and not self.stopping:
                self.condition.wait(min(1.0, self.plan[0].start - now) if self.plan else 1.0)
            ticked, self.ticked = self.ticked, False
            return ticked

    def _admit(self, planned: Planned) -> None:
        lane = self.lanes[planned.claim.lane]
        lane.expected -= 1
        if lane.admit(planned):
            self._submit(planned)

    def _submit(self, planned: Planned) -> None:
        busy = sum(lane.running for lane in self.lanes.values())
        probing = len(self._workers) - 2
        if busy > probing and probing < self.threads:
            try:
                self._spawn(f"probe-{probing}", self._probe_forever)
            except RuntimeError:  # the machine has no thread left: those there are do the work
                logger.warning("no further probe thread can be started", threads=probing)
        self.ready.put(planned)

    def _claim(self) -> None:
        if self.log is None:
            self.log, silent_since = WorkerLog.join()
            self.stalls.joined(silent_since)
        self.log.report()
        with self.condition:
            limit = min(CLAIM_LIMIT, self.threads * 8 - self.load)
            room = {name: lane.room for name, lane in self.lanes.items()}
        if limit <= 0 or self.results.qsize() > KEPT_RESULTS:
            self.hungry = True
            return
        empty: Lane[Planned] = Lane(self.width)
        found = claims.claim(self.log.process_id, limit, room, empty.room)
        claimed = time.monotonic()
        if found:
            self.stalls.database_time(found[0].claimed_at, claimed)
        with self.condition:
            for claim in found:
                lane = self.lanes.setdefault(claim.lane, Lane(self.width))
                lane.expected += 1
                start = claimed + max(claim.due_in, 0.0)
                heapq.heappush(self.plan, Planned(start, next(self.numbers), claim, claimed))
            self.load += len(found)
            self.hungry = len(found) == limit

    # -- probe threads ------------------------------------------------------------------------------

    def _probe_forever(self) -> None:
        while (job := self.ready.get()) is not None:
            started = time.monotonic()
            try:
                self._probe(job, started)
            except Exception:
                logger.exception("probe failed inside wsmon", check=job.claim.check_id)
            finally:
                self._finish(job, time.monotonic() - started)
        connection.close()

    def _probe(self, job: Planned, started: float) -> None:
        waited = started - job.start
        if self.stopping or waited > claims.LEASE_MARGIN - 1:
            self._give_back(job)
            return
        admission = probes.admit(job.claim)
        if admission is None:
            self._give_back(job)
            return
        try:
            finished = cycle.probe(job.claim, started, job.claimed, self.stalls.watching_since(job.claim.claimed_at))
            if self._blameless(finished, started):
                logger.warning("result dropped: this process stood still meanwhile", check=job.claim.check_id)
                self._give_back(job)
                return
            self.results.put(finished)
            admission.end(finished.outcome)
        finally:
            admission.end(None)
        if self.log is not None:
            self.log.probed(waited)

    def _blameless(self, finished: Finished, started: float) -> bool:
        """Whether a bad outcome may be our own standstill's doing, and not the target's."""
        bad = finished.outcome is not None and finished.outcome.outcome in (
            Outcome.CRITICAL,
            Outcome.DEGRADED,
        )
        return bad and self.stalls.stalled_since(started)

    def _give_back(self, job: Planned) -> None:
        try:
            claims.give_back(job.claim)
        except Error:
            pass  # the lease runs out by itself
        finally:
            connection.close()  # probe threads are many, connections few

    def _finish(self, job: Planned, seconds: float) -> None:
        with self.condition:
            follower = self.lanes[job.claim.lane].finish(seconds)
            if follower is not None:
                self.ready.put(follower)
            self.load -= 1
            if self.hungry and self.load <= self.threads * 4:
                self.hungry = False
                self.ticked = True
                self.condition.notify()

    # -- storer -------------------------------------------------------------------------------------

    def _store_forever(self) -> None:
        while True:
            batch, last = self._gather()
            if batch:
                self._store(batch)
            if last:
                connection.close()
                return

    def _gather(self) -> tuple[list[Finished], bool]:
        """The next results to store together, and whether they are the last ones."""
        batch: list[Finished] = []
        deadline: float | None = None
        while len(batch) < STORE_LIMIT:
            try:
                one = self.results.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if one is None:
                return batch, True
            batch.append(one)
            deadline = deadline or time.monotonic() + GATHER_SECONDS
        return batch, False

    def _store(self, batch: list[Finished]) -> None:
        pause = 0.2
        while True:
            try:
                store.settle(batch)
                return
            except (OperationalError, InterfaceError) as problem:
                self.stalls.database_failed()
                logger.warning("storing failed", error=type(problem).__name__, results=len(batch))
                connection.close()
                if self.stopping:
                    return
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            except Exception:
                if len(batch) > 1:  # one that cannot be stored must not hold up the others
                    for one in batch:
                        self._store([one])
                else:
                    logger.exception("result cannot be stored", check=batch[0].check_id)
                return

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"prober-{name}", daemon=True)
        thread.start()
        self._workers.append(thread)


_prober: Prober | None = None
_lock = threading.Lock()


def prober() -> Prober:
    """This process's prober, started at the first call."""
    global _prober  # noqa: PLW0603  one per process by design
    with _lock:
        if _prober is None:
            _prober = Prober(settings.PROBE_THREADS, settings.PROBES_PER_PROVIDER)
            _prober.start()
        return _prober


def stop() -> None:
    """Stop this process's prober, if it runs."""
    global _prober
    with _lock:
        running, _prober = _prober, None
    if running is not None:
        running.stop()
