"""The one thread of a process that talks to the store for all of its breakers.

Four times a second while something fails or is not closed, else once a second, and at once when the store
notifies or a breaker crosses its threshold: it writes what was counted, reads the shared states, opens what
crossed, and does what time alone does. It has a connection of its own, so that it sees and writes what is
committed, whatever transaction a caller is in. While the store is away it goes on trying; nobody waits for it.
"""

from __future__ import annotations

import atexit
import os
import queue
import socket
import threading
import time
from dataclasses import dataclass, field

import structlog
from django.db import connection

from monitoring.breakers import machine, store
from monitoring.breakers.local import ASK_SECONDS, LocalBreaker
from monitoring.breakers.machine import Fold, Mode
from monitoring.breakers.policy import NEUTRAL, Ending
from monitoring.breakers.store import Shared
from wsmon.connections import AWAY, drop_connection, own_connection
from wsmon.ears import Ears

log = structlog.get_logger(__name__)

BUSY_SECONDS, QUIET_SECONDS = 0.25, 1.0
"""Between two rounds, while something fails or is not closed, and otherwise."""
FULL_SECONDS = 5.0
"""After so long a round reads every breaker, and not only those that something is wrong with: NOTIFY may be lost."""
RENEW_SECONDS = machine.LEASE / 3
RETRY_SECONDS = 1.0
"""Between two tries while the store is away."""
PATIENCE = "-c statement_timeout=5s -c lock_timeout=1s"
"""For the thread's own connection: whoever holds a breaker's row for long must not keep all the others waiting."""


@dataclass(eq=False, slots=True)
class _Job:
    """Something a caller waits for, for a moment: a trial's place, or its end being known."""

    local: LocalBreaker
    token: str
    ending: Ending | None = None
    done: threading.Event = field(default_factory=threading.Event)
    granted: bool | None = None
    given_up: bool = False
    """The caller waits no more."""
    made_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Running:
    """A trial of this process under way."""

    service_id: int
    started: float
    renewed: float


class Syncer:
    """All of this process's breakers by name, and the thread that keeps them in step with the store."""

    def __init__(self) -> None:
        self.breakers: dict[str, LocalBreaker] = {}
        self.heard_at = float("-inf")
        self.forget()

    def forget(self) -> None:
        """Without a thread: at first, and in a child after fork. What was heard last stays true."""
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._woken = False
        self._notified = True
        self._reported = False
        self._full_at = float("-inf")
        self._ears = Ears(store.CHANNEL)

    def breaker(self, name: str) -> LocalBreaker:
        """The breaker of that name; starts the thread at the first call."""
        found = self.breakers.get(name)
        if found is None:
            with self._lock:
                found = self.breakers.setdefault(name, LocalBreaker(name, self))
                self._start()
            self.wake()
        return found

    def _start(self) -> None:
        if self._thread is None and not self._stopping:
            self._thread = threading.Thread(target=self._run, name="breakers", daemon=True)
            self._thread.start()

    # -- callers ------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Do a round at once."""
        if not self._woken:
            self._woken = True
            self._ears.ring()

    def ask(self, local: LocalBreaker, token: str) -> bool | None:
        """Ask for a trial's place: granted, refused, or (None) no answer in time."""
        job = _Job(local, token)
        self._submit(job)
        job.done.wait(ASK_SECONDS)
        with self._lock:  # either it is granted by now, or the thread sees that nobody waits
            job.given_up = not job.done.is_set()
        return None if job.given_up else job.granted

    def end(self, local: LocalBreaker, token: str, ending: Ending) -> threading.Event:
        """Tell how a trial ended; the event is set when the store knows, or is known to be away."""
        job = _Job(local, token, ending)
        self._submit(job)
        return job.done

    def stop(self, seconds: float = 2.0) -> None:
        """Write what was counted and end the thread; a later call starts a new one."""
        with self._lock:
            thread, self._stopping = self._thread, True
        self._ears.ring()
        if thread is not None:
            thread.join(seconds)
        with self._lock:
            self._thread, self._stopping = None, False

    def _submit(self, job: _Job) -> None:
        self._jobs.put(job)
        with self._lock:
            self._start()
        self._ears.ring()

    # -- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        own_connection(PATIENCE)
        last_round = float("-inf")
        me = threading.current_thread()
        while self._thread is me and not self._stopping:
            try:
                called = self._ears.listening and (self._woken or self._notified)
                self._ears.wait(0.0 if called else last_round + self._pause() - time.monotonic())
                self._notified |= self._ears.hear()
                self._listen()
                self._serve()
                if self._woken or self._notified or time.monotonic() >= last_round + self._pause():
                    full, self._woken, self._notified = self._notified, False, False
                    last_round = time.monotonic()
                    self.round(full=full)
            except Exception as problem:
                self._lost(problem)
                last_round = time.monotonic()
        self._finish()

    def _pause(self) -> float:
        if not self._ears.listening:
            return RETRY_SECONDS
        pressing = self._running or any(local.pressing for local in list(self.breakers.values()))
        return BUSY_SECONDS if pressing else QUIET_SECONDS

    def _listen(self) -> None:
        if self._ears.listen():
            connection.connection.add_notify_handler(self._notice)
            self._reported, self._notified = False, True

    def _notice(self, _notify: object) -> None:
        self._notified = True

    def _lost(self, problem: Exception) -> None:
        if not isinstance(problem, AWAY):
            log.error("breakers: a round failed", exc_info=problem)
        elif not self._reported:
            log.warning("breakers: the store does not answer, going on alone", error=type(problem).__name__)
            self._reported = True
        self._ears.deaf()
        drop_connection()
        self._answer_without_store()

    def _answer_without_store(self) -> None:
        """Let nobody wait; how trials ended is told later, as long as somebody may want to know."""
        waiting = [self._jobs.get_nowait() for _ in range(self._jobs.qsize())]
        for job in waiting:
            job.done.set()
            if job.ending is not None and time.monotonic() - job.made_at < machine.LONGEST_TRIAL:
                self._jobs.put(job)

    def round(self, *, full: bool = True) -> None:
        """One step: write, read, act. Raises ``django.db.Error`` when the store does not answer.

        Not ``full``: read only those that something is wrong with, of perhaps thousands.
        """
        started = time.monotonic()
        locals_ = list(self.breakers.values())
        failing = self._flush(locals_)
        wrong = [local for local in locals_ if local in failing or local.pressing or local.shared is None]
        if full or started >= self._full_at + FULL_SECONDS:
            self._full_at, wrong = started, locals_
        self._read(wrong)
        for local in wrong:
            if local.shared is not None:
                self._act(local, local.shared)
                local.stand_down(started)
        now = time.monotonic()
        for token, running in list(self._running.items()):
            if now - running.started >= machine.LONGEST_TRIAL:
                self._running.pop(token, None)
            elif now - running.renewed > RENEW_SECONDS:
                running.renewed = now
                store.renew(running.service_id, token)

    def _flush(self, locals_: list[LocalBreaker]) -> set[LocalBreaker]:
        """Write what was counted; return the breakers of which calls failed."""
        taken = [(local, one) for local in locals_ for one in local.take()]
        try:
            store.count([one for _local, one in taken])
        except Exception:
            for local in locals_:
                local.give_back()
            raise
        return {local for local, one in taken if one.counts.fail}

    def _read(self, locals_: list[LocalBreaker]) -> None:
        found = store.read([local.name for local in locals_])
        read_at = time.monotonic()
        self.heard_at = read_at
        for local in locals_:
            local.learn(found.get(local.name), read_at)

    def _act(self, local: LocalBreaker, shared: Shared) -> None:
        state = shared.state
        new: Shared | None = None
        if shared.policy.policy == "counting":
            fold = local.take_fold()
            if fold.peak_floor or fold.delta:
                new = self._add_to_score(local, shared, fold)
        elif state.mode is Mode.CLOSED and not state.override and machine.crossed(shared.window, 0, shared.policy):
            new = store.open_if_crossed(shared.service_id, state.generation)
        if _time_is_up(shared):
            new = store.sweep(shared.service_id) or new
        if new is not None:
            local.learn(new, time.monotonic())

    def _add_to_score(self, local: LocalBreaker, shared: Shared, fold: Fold) -> Shared | None:
        try:
            return store.add_to_score(shared.service_id, shared.state.generation, fold)
        except Exception:
            local.give_fold_back(fold)
            raise

    def _serve(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            try:
                if job.ending is not None:
                    self._end(job, job.ending)
                elif not job.given_up:
                    self._admit(job)
            except Exception:
                self._jobs.put(job)  # for _lost() to answer, or to tell later
                raise
            with self._lock:
                job.done.set()
            if job.granted and job.given_up:  # nobody makes this trial: it must not count as lost
                self._end(job, NEUTRAL)

    def _admit(self, job: _Job) -> None:
        shared = job.local.shared
        if shared is None:
            return
        new = store.admit(shared.service_id, job.token, _me())
        job.granted = new is not None
        if new is not None:
            now = time.monotonic()
            self._running[job.token] = _Running(shared.service_id, now, now)
            job.local.learn(new, now)

    def _end(self, job: _Job, ending: Ending) -> None:
        known = self._running.get(job.token) or job.local.shared
        if known is None:
            return
        new = store.end_trial(known.service_id, job.token, ending, _me())
        self._running.pop(job.token, None)
        if new is not None:
            job.local.learn(new, time.monotonic())

    def _finish(self) -> None:
        try:
            self._listen()
            self._serve()
            self.round()
            self._flush(list(self.breakers.values()))  # of breakers that the round has made known
            for token, running in self._running.items():  # nobody would tell how they ended
                store.end_trial(running.service_id, token, NEUTRAL, _me())
            self._running.clear()
        except Exception as problem:  # the store is away: the last second is not worth waiting for
            self._lost(problem)
        finally:
            self._answer_without_store()
            self._ears.deaf()
            connection.close()


def _time_is_up(shared: Shared) -> bool:
    state = shared.state
    over = state.override and state.override.until and state.override.until <= shared.now
    return bool(over) or any(trial.until <= shared.now for trial in state.trials)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


syncer = Syncer()


def stop() -> None:
    """Write what this process counted and end its thread: it stops."""
    syncer.stop()


def _after_fork() -> None:
    known = bool(syncer.breakers)
    syncer.forget()
    for local in syncer.breakers.values():
        local.forget()
    if known:
        syncer._start()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop)  # the thread is a daemon, which would not be waited for
