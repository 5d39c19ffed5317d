"""The one thread of a process that talks to the store for all of its breakers.

Four times a second while something fails or is not closed, else once a second, and at once when the store
notifies or a breaker crosses its threshold: it writes what was counted, reads the shared states, opens what
crossed, and does what time alone does. It has a connection of its own, so that it sees and writes what is
committed, whatever transaction a caller is in. While the store is away it goes on trying; nobody waits for it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import queue
import select
import socket
import threading
import time
from dataclasses import dataclass, field

import structlog
from django.db import Error, connection, connections

from monitoring.breakers import machine, store
from monitoring.breakers.local import ASK_SECONDS, LocalBreaker
from monitoring.breakers.machine import Mode
from monitoring.breakers.policy import Ending
from monitoring.breakers.store import Shared

log = structlog.get_logger(__name__)

BUSY_SECONDS, QUIET_SECONDS = 0.25, 1.0
"""Between two rounds, while something fails or is not closed, and otherwise."""
RENEW_SECONDS = machine.LEASE / 3
RETRY_SECONDS = 1.0
"""Between two tries while the store is away."""


@dataclass(eq=False, slots=True)
class _Job:
    """Something a caller waits for, for a moment: a trial's place, or its end being known."""

    local: LocalBreaker
    token: str
    ending: Ending | None = None
    done: threading.Event = field(default_factory=threading.Event)
    granted: bool | None = None


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
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Without a thread: at first, and in a child after fork."""
        self.heard_at = float("-inf")
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._woken = False
        self._notified = True
        self._connected = False
        self._reported = False
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)

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
            self._ring()

    def ask(self, local: LocalBreaker, token: str) -> bool | None:
        """Ask for a trial's place: granted, refused, or (None) no answer in time."""
        job = _Job(local, token)
        self._submit(job)
        return job.granted if job.done.wait(ASK_SECONDS) else None

    def end(self, local: LocalBreaker, token: str, ending: Ending) -> None:
        """Tell how a trial ended; wait a moment until the store knows, so that the next call meets it."""
        job = _Job(local, token, ending)
        self._submit(job)
        job.done.wait(ASK_SECONDS)

    def stop(self, seconds: float = 2.0) -> None:
        """Write what was counted and end the thread; a later call starts a new one."""
        with self._lock:
            thread, self._stopping = self._thread, True
        self._ring()
        if thread is not None:
            thread.join(seconds)
        with self._lock:
            self._thread, self._stopping = None, False

    def _submit(self, job: _Job) -> None:
        self._jobs.put(job)
        with self._lock:
            self._start()
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is ringing already
            self._bell.send(b"!")

    # -- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        _own_connection()
        next_round = 0.0
        while not self._stopping:
            try:
                self._wait(max(0.0, next_round - time.monotonic()))
                self._connect()
                self._serve()
                if self._woken or self._notified or time.monotonic() >= next_round:
                    self._woken = self._notified = False
                    self.round()
                next_round = time.monotonic() + self._pause()
            except Error as problem:
                self._lost(problem)
                next_round = time.monotonic() + RETRY_SECONDS
            except Exception:
                log.exception("breakers: a round failed")
                next_round = time.monotonic() + RETRY_SECONDS
        self._finish()

    def _pause(self) -> float:
        pressing = self._running or any(local.pressing for local in list(self.breakers.values()))
        return BUSY_SECONDS if pressing else QUIET_SECONDS

    def _wait(self, seconds: float) -> None:
        """Until something rings, the store notifies, or the time is over."""
        ears: list[int] = [self._ear.fileno()]
        if self._connected:
            ears.append(connection.connection.fileno())
        select.select(ears, [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass
        if self._connected:
            wire = connection.connection.pgconn
            wire.consume_input()
            while wire.notifies():
                self._notified = True

    def _connect(self) -> None:
        if self._connected:
            return
        connection.ensure_connection()
        connection.connection.add_notify_handler(self._notice)
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {store.CHANNEL}")
        self._connected, self._reported, self._notified = True, False, True

    def _notice(self, _notify: object) -> None:
        self._notified = True

    def _lost(self, problem: Exception) -> None:
        if not self._reported:
            log.warning("breakers: the store does not answer, going on alone", error=type(problem).__name__)
        self._connected, self._reported = False, True
        connection.close()
        self._answer_without_store()

    def _answer_without_store(self) -> None:
        while not self._jobs.empty():
            self._jobs.get_nowait().done.set()

    def round(self) -> None:
        """One step: write, read, act. Raises ``django.db.Error`` when the store does not answer."""
        started = time.monotonic()
        locals_ = list(self.breakers.values())
        self._flush(locals_)
        self._read(locals_)
        for local in locals_:
            if local.shared is not None:
                self._act(local, local.shared)
                local.stand_down(started)
        now = time.monotonic()
        for token, running in list(self._running.items()):
            if now - running.started < machine.LONGEST_TRIAL and now - running.renewed > RENEW_SECONDS:
                running.renewed = now
                store.renew(running.service_id, token)

    def _flush(self, locals_: list[LocalBreaker]) -> None:
        taken = [(local, one) for local in locals_ for one in local.take()]
        try:
            store.count([one for _local, one in taken])
        except Error:
            for local, one in taken:
                local.give_back(one)
            raise

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
                new = store.add_to_score(shared.service_id, state.generation, fold)
        elif state.mode is Mode.CLOSED and machine.crossed(shared.window, 0, shared.policy):
            new = store.open_if_crossed(shared.service_id, state.generation)
        if _time_is_up(shared):
            new = store.sweep(shared.service_id) or new
        if new is not None:
            local.learn(new, time.monotonic())

    def _serve(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            try:
                self._do(job)
            finally:
                job.done.set()

    def _do(self, job: _Job) -> None:
        shared = job.local.shared
        if shared is None:
            return
        if job.ending is not None:
            self._running.pop(job.token, None)
            new = store.end_trial(shared.service_id, job.token, job.ending, _me())
        else:
            new = store.admit(shared.service_id, job.token, _me())
            job.granted = new is not None
            if new is not None:
                now = time.monotonic()
                self._running[job.token] = _Running(shared.service_id, now, now)
        if new is not None:
            job.local.learn(new, time.monotonic())

    def _finish(self) -> None:
        try:
            self._connect()
            self._serve()
            self._flush(list(self.breakers.values()))
        except Error:
            pass  # the store is away: what was counted in the last second is not worth waiting for
        finally:
            self._answer_without_store()
            self._connected = False
            connection.close()


def _time_is_up(shared: Shared) -> bool:
    state = shared.state
    over = state.override and state.override.until and state.override.until <= shared.now
    return bool(over) or any(trial.until <= shared.now for trial in state.trials)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _own_connection() -> None:
    """Give this thread a connection outside the pool, which callers may have emptied."""
    own = connections.create_connection("default")
    own.settings_dict = copy.deepcopy(own.settings_dict)
    own.settings_dict["OPTIONS"].pop("pool", None)
    own.settings_dict["CONN_MAX_AGE"] = None
    connections["default"] = own


syncer = Syncer()


def _after_fork() -> None:
    syncer._lock = threading.Lock()
    known = bool(syncer.breakers)
    syncer.forget()
    for local in syncer.breakers.values():
        local.forget()
    if known:
        syncer._start()


os.register_at_fork(after_in_child=_after_fork)
