"""The dispatcher: the threads of one process that claim deliveries, send them and store what came of it.

One *dispatch* thread listens for NOTIFY and claims; *send* threads make the tries, so many for each lane;
one *settle* thread stores results in batches. Send threads are shared out in ``claims``: no destination has more
of a lane than it leaves free, so that however many hang at once the next one is not kept waiting. A tick of the
scheduler only wakes it: work is in rows, and a lost nudge delays a delivery by a moment. While the database is
away nothing is claimed, and results that wait are kept and stored when it is back.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.db import connection

from monitoring.breakers import breaker
from monitoring.breakers.guard import Guard
from monitoring.breakers.local import Pass
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending
from webhooks import catalog, claims, jobs, settling, store
from webhooks.catalog import Catalog
from webhooks.claims import Claim
from webhooks.jobs import Job
from webhooks.schedule import Answer
from webhooks.settling import Tried
from webhooks.vocabulary import Lane
from wsmon.connections import AWAY, drop_connection, own_connection
from wsmon.ears import Ears
from wsmon.http import http_client
from wsmon.vocabulary import Category

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.25
"""How often it looks for what has become due, when nothing tells it."""
SWEEP_SECONDS = 2.0
SETTLE_LIMIT = 200
GATHER_SECONDS = 0.003
"""How long the settle thread waits for more results to store together."""
KNOW_SECONDS = 1.0
"""How long a process that has just started waits for the states of the breakers."""
STOP_SECONDS = 8.0
UNSETTLED = 5_000
"""Results that wait for the database; beyond it nothing is claimed."""
SHARES = {Lane.LIVE: 1.0, Lane.RETRY: 0.25, Lane.REPLAY: 0.25}
"""Send threads of each lane, of ``settings.DELIVERY_THREADS``: budgets of their own, nothing is shared."""


class Dispatcher:
    """All sending of one process. ``start()`` once, ``tick()`` each second, ``stop()`` at the end."""

    def __init__(self, threads: int) -> None:
        self.room = {lane: max(int(threads * share), 1) for lane, share in SHARES.items()}
        self.ready: dict[Lane, queue.SimpleQueue[Job | None]] = {lane: queue.SimpleQueue() for lane in Lane}
        self.results: queue.SimpleQueue[Tried | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.free = dict(self.room)
        self.held: dict[Lane, Counter[int]] = {lane: Counter() for lane in Lane}
        """Threads of each lane by destination."""
        self.senders: dict[Lane, list[threading.Thread]] = {lane: [] for lane in Lane}
        self.trials: set[int] = set()
        """Destinations at which a trial is being asked for or made."""
        self.met: set[int] = set()
        """Destinations whose breaker this process has asked for."""
        self.stopping = False
        self.woken = False
        self.swept_at = float("-inf")
        self.ears = Ears(store.CHANNEL)
        self._threads: list[threading.Thread] = []

    # -- what others call ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start claiming and storing; send threads start as they are needed."""
        for name, target in (("dispatch", self._dispatch_forever), ("settle", self._settle_forever)):
            thread = threading.Thread(target=target, name=f"deliveries-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """There may be something to send."""
        if not self.woken:
            self.woken = True
            self.ears.ring()

    def stop(self) -> None:
        """Finish the tries that run, store what they found, give everything else back."""
        self.stopping = True
        self.woken = False
        self.wake()
        deadline = time.monotonic() + STOP_SECONDS
        dispatch, settle = self._threads
        dispatch.join(STOP_SECONDS)
        for lane, senders in self.senders.items():
            for _ in senders:
                self.ready[lane].put(None)
        for senders in self.senders.values():
            for thread in senders:
                thread.join(max(0.0, deadline - time.monotonic()))
        while self.trials and time.monotonic() < deadline:
            time.sleep(0.02)
        self.results.put(None)
        settle.join(max(0.0, deadline + 1 - time.monotonic()))
        self.ears.close()

    # -- the dispatch thread ------------------------------------------------------------------------

    def _dispatch_forever(self) -> None:
        own_connection("-c statement_timeout=15s -c lock_timeout=5s", prepare=True)
        pause, more = 0.0, False
        while not self.stopping:
            try:
                self.ears.wait(0.0 if more else max(pause, LOOK_SECONDS))
                self.ears.hear()
                self.woken = False  # only now: who rings until then is heard by the look that follows
                self.ears.listen()
                more = self.step()
                pause = 0.0
            except Exception as problem:  # whatever it is, sending must go on
                pause = min(max(pause * 2, 0.25), 2.0)
                more = False
                self.ears.deaf()
                unknown = not isinstance(problem, AWAY)
                log.warning("claiming deliveries failed", error=type(problem).__name__, exc_info=unknown)
                drop_connection()
        with contextlib.suppress(*AWAY):
            self._give_back_all()
        drop_connection()

    def step(self) -> bool:
        """Claim what is due and hand it to the send threads; whether there may be more at once."""
        if time.monotonic() > self.swept_at + SWEEP_SECONDS:
            self.swept_at = time.monotonic()
            lost = claims.release_expired()
            if lost:
                log.warning("deliveries of a process that died are sent again", deliveries=lost)
        known = catalog.refresh()
        shut = self._shut(known)
        self._ask_for_trials(shut)
        more = False
        for lane in Lane:
            with self.lock:
                free, held = self.free[lane], dict(self.held[lane])
            if free <= 0 or self.stopping or self.results.qsize() > UNSETTLED:
                continue
            found = claims.claim(lane, free, shut, held)
            for one in found:
                self._hand_over(jobs.prepare(one, known))
            more = more or len(found) == free
        return more and any(self.free.values())

    def _shut(self, known: Catalog) -> dict[int, Guard]:
        """The destinations that nothing may be sent to, but for a trial, by id."""
        guards = {number: breaker(one.breaker) for number, one in known.destinations.items()}
        new = [guard for number, guard in guards.items() if number not in self.met]
        deadline = time.monotonic() + KNOW_SECONDS
        for guard in new:  # it may be open since before this process began
            guard.wait_known(max(0.0, deadline - time.monotonic()))
        self.met |= set(guards)
        return {number: guard for number, guard in guards.items() if guard.retry_in is not None}

    def _ask_for_trials(self, shut: dict[int, Guard]) -> None:
        asking = [number for number, guard in shut.items() if guard.retry_in == 0 and number not in self.trials]
        for number in claims.due_destinations(asking):
            self.trials.add(number)
            thread = threading.Thread(target=self._try_once, args=(number, shut[number]), daemon=True)
            thread.start()

    def _try_once(self, destination_id: int, guard: Guard) -> None:
        """A trial of an open breaker: ask for its place, then claim one delivery and send it."""
        passed = guard.trial()
        try:
            claim = claims.claim_trial(destination_id) if passed is not None else None
            if claim is not None and passed is not None:
                job = jobs.prepare(claim, catalog.refresh())
                if job.refused is not None or job.destination is None:  # nothing is sent: the place is given back
                    self._finish(job, job.refused)
                    return
                pass_, passed = passed, None
                self._finish(job, self._send(job, guard, pass_))
        except AWAY as problem:
            log.warning("a trial could not be made", error=type(problem).__name__)
        finally:
            if passed is not None:
                guard.end(passed, NEUTRAL)
            connection.close()
            self.trials.discard(destination_id)
            self.wake()

    def _hand_over(self, job: Job) -> None:
        lane = job.claim.lane
        with self.lock:
            self.free[lane] -= 1
            self.held[lane][job.claim.destination_id] += 1
            busy = self.room[lane] - self.free[lane]
        if busy > len(self.senders[lane]):
            thread = threading.Thread(
                target=self._send_forever, args=(lane,), name=f"deliveries-{lane.name.lower()}", daemon=True
            )
            thread.start()
            self.senders[lane].append(thread)
        self.ready[lane].put(job)

    def _give_back_all(self) -> None:
        """What was claimed and not begun is for others, or for the next start."""
        waiting: list[Claim] = []
        for lane in Lane:
            with contextlib.suppress(queue.Empty):
                while (job := self.ready[lane].get_nowait()) is not None:
                    waiting.append(job.claim)
        claims.give_back(waiting)

    # -- send threads -------------------------------------------------------------------------------

    def _send_forever(self, lane: Lane) -> None:
        while (job := self.ready[lane].get()) is not None:
            try:
                self._guarded(job)
            except Exception:
                log.exception("a delivery failed inside wsmon", delivery=job.claim.id)
            finally:
                self._free_again(job.claim)

    def _free_again(self, claim: Claim) -> None:
        """A thread has ended its work: look at once for more where there was not one for everything."""
        with self.lock:
            free, held = self.free[claim.lane], self.held[claim.lane]
            had = held[claim.destination_id]
            self.free[claim.lane] = free + 1
            held[claim.destination_id] -= 1
            if had == 1:
                del held[claim.destination_id]
        if free == 0 or had >= free // 2:
            self.wake()

    def _guarded(self, job: Job) -> None:
        if job.refused is not None or job.destination is None:
            self._finish(job, job.refused)
            return
        guard = breaker(job.destination.breaker)
        passed = None if guard.retry_in is not None else guard.trial()
        if passed is None:  # it has opened since: this was no try
            self._give_back(job)
            return
        self._finish(job, self._send(job, guard, passed))

    def _send(self, job: Job, guard: Guard, passed: Pass) -> Answer | None:
        ending: Ending = NEUTRAL
        try:
            answer = jobs.send(job, http_client())
            ending = _ending(answer, guard)
            return answer
        except Exception as problem:  # it shows, and is tried as often as any other
            log.exception("a delivery failed inside wsmon", delivery=job.claim.id)
            return jobs.ours(f"wsmon itself failed ({type(problem).__name__})")
        finally:
            guard.end(passed, ending)

    def _finish(self, job: Job, answer: Answer | None) -> None:
        if answer is None or job.destination is None:
            self._give_back(job)
        else:
            self.results.put(Tried(job.claim, job.destination, answer, job.began_at or datetime.now(UTC)))

    def _give_back(self, job: Job) -> None:
        try:
            claims.give_back([job.claim])
        except AWAY:
            pass  # the lease runs out by itself
        finally:
            connection.close()  # send threads are many, connections few

    # -- the settle thread --------------------------------------------------------------------------

    def _settle_forever(self) -> None:
        own_connection(prepare=True)
        last = False
        while not last:
            batch, last = self._gather()
            if batch:
                self._settle(batch)
                self.wake()
        drop_connection()

    def _gather(self) -> tuple[list[Tried], bool]:
        first = self.results.get()
        if first is None:
            return [], True
        batch = [first]
        deadline = time.monotonic() + GATHER_SECONDS
        while len(batch) < SETTLE_LIMIT:
            try:
                one = self.results.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if one is None:
                return batch, True
            batch.append(one)
        return batch, False

    def _settle(self, batch: list[Tried]) -> None:
        pause = 0.1
        while True:
            try:
                settling.settle(batch)
                return
            except AWAY as problem:
                log.warning("storing tries failed", error=type(problem).__name__, tries=len(batch))
                drop_connection()
                if self.stopping and pause > 1:
                    return
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            except Exception:
                if len(batch) > 1:  # one that cannot be stored must not hold up the others
                    for one in batch:
                        self._settle([one])
                else:
                    log.exception("a try cannot be stored", delivery=batch[0].claim.id)
                return


def _ending(answer: Answer, guard: Guard) -> Ending:
    """What a try counts as for the destination's breaker; a fault of our own configuration says nothing."""
    if answer.ok:
        return OK
    if answer.http_status is not None:
        return guard.of_status(answer.http_status, answer.retry_after)
    return NEUTRAL if answer.category is Category.CONFIGURATION_ERROR else FAIL


_dispatcher: Dispatcher | None = None
_lock = threading.Lock()


def dispatcher() -> Dispatcher:
    """This process's dispatcher, started at the first call."""
    global _dispatcher  # noqa: PLW0603  one per process by design
    with _lock:
        if _dispatcher is None:
            _dispatcher = Dispatcher(settings.DELIVERY_THREADS)
            _dispatcher.start()
        return _dispatcher


def tick() -> None:
    """Make sure that it runs."""
    dispatcher().wake()


def stop() -> None:
    """Stop this process's dispatcher, if it runs."""
    global _dispatcher
    with _lock:
        running, _dispatcher = _dispatcher, None
    if running is not None:
        running.stop()
