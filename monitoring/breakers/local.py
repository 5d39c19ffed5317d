"""One process's half of a breaker: what a guarded call touches, and the local window that protects alone.

A call in CLOSED reads one attribute and bumps one counter; everything else happens where something is
wrong, under a lock that is never held around the caller's function, or in the sync thread
(``breakers.sync``). Times are monotonic seconds.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

from monitoring.breakers import machine
from monitoring.breakers.machine import Fold, Mode, State, Window
from monitoring.breakers.policy import BUCKETS, LONGEST_RETRY_AFTER, Ending, Kind, Policy
from monitoring.breakers.store import Counted, Counts, Shared

STALE_SECONDS = 2.0
"""A process that has not heard from the store for so long goes on alone."""
ASK_SECONDS = 0.5
"""How long a call waits, at most, for the store's word on its trial."""
ASK_AGAIN = 0.1
"""Seconds after a refused trial in which this process asks for no other."""


class Sync(Protocol):
    """What a breaker needs of the thread that talks to the store."""

    @property
    def heard_at(self) -> float:
        """When the store last answered; minus infinity before."""

    def wake(self) -> None:
        """Do a round at once: something crossed its threshold."""

    def ask(self, local: LocalBreaker, token: str) -> bool | None:
        """Ask for a trial's place: granted, refused, or (None) the store does not answer."""

    def end(self, local: LocalBreaker, token: str, ending: Ending) -> None:
        """Tell how a trial ended, and wait a moment until it is known."""


class Era:
    """One generation as this process sees it: replaced at each change, so that late outcomes fall into it."""

    __slots__ = ("_looks", "_taken", "closed", "generation", "ok", "plain")

    def __init__(self, generation: int, *, closed: bool, plain: bool) -> None:
        self.generation = generation
        self.closed = closed
        """Calls pass."""
        self.plain = plain
        """Calls pass, and of those that succeed nothing but their number matters."""
        # next() of a count is one step of the interpreter: no update is lost, and there is no lock to wait for.
        self.ok = itertools.count().__next__
        self._looks = 0
        self._taken = 0

    def take(self) -> int:
        """How many calls succeeded since the last time; one caller at a time."""
        total = self.ok() - self._looks
        self._looks += 1
        new, self._taken = total - self._taken, total
        return new


@dataclass(frozen=True, slots=True)
class Pass:
    """A call that may be made: in CLOSED (``token`` empty) or as a trial."""

    era: Era
    token: str = ""
    alone: bool = False
    """A trial of this process, the store being away."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that may not be made; ``retry_in``: seconds until a trial may be."""

    retry_in: float


@dataclass(slots=True)
class _Opened:
    """Opened by this process's own count, until the store confirms it or says otherwise."""

    at: float
    open_for: float
    openings: int


class LocalBreaker:
    """A breaker in this process. Made once per name; thread-safe."""

    def __init__(self, name: str, sync: Sync) -> None:
        self.name = name
        self.sync = sync
        self.policy = Policy()
        self.shared: Shared | None = None
        self.era = Era(0, closed=True, plain=True)
        self.forget()

    def forget(self) -> None:
        """Start with a clean sheet: at first, and in a child after fork, whose parent reports for both."""
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._counts: dict[int, Counts] = {}
        self._ring: deque[list[float]] = deque(maxlen=BUCKETS)
        self._fold = Fold()
        self._opened: _Opened | None = None
        self._closed_alone = False
        self._alone_since: float | None = None
        self._asking = False
        self._ask_after = float("-inf")
        self.era.take()

    # -- callers ------------------------------------------------------------------------------------

    def enter(self) -> Pass | Refusal:
        """Ask whether a call may be made. Does no I/O but for a trial, and then waits for a moment at most."""
        era = self.era
        if era.closed:
            return Pass(era)
        with self._lock:
            now = time.monotonic()
            self._renew_era(now)  # an override may be over by now
            if self.era.closed:
                return Pass(self.era)
            due = self._due(now)
            if now < due or self._asking or now < self._ask_after:
                return self._refuse(due, now)
            if self._is_alone(now):
                return self._try_alone(due, now)
            self._asking = True
        return self._try_shared()

    def finished(self, era: Era, ending: Ending) -> None:
        """Count a call that was admitted in ``era``; a stale one counts nothing."""
        if era is not self.era or ending.kind is Kind.NEUTRAL:
            return
        with self._lock:
            if era is not self.era:
                return
            self._count(ending, time.monotonic())
            if era.closed and self._crossed():
                self._open_here(time.monotonic())
            elif era.plain and self._fold.peak_floor:
                self._renew_era(time.monotonic())  # from now on successes count too
            else:
                return
        self.sync.wake()

    def ended(self, passed: Pass, ending: Ending) -> None:
        """Tell how a trial ended."""
        if not passed.alone:
            self.sync.end(self, passed.token, ending)
            return
        with self._lock:
            self._alone_since = None
            if passed.era is not self.era or ending.kind is Kind.NEUTRAL:
                return
            now = time.monotonic()
            if ending.failed:
                openings = 1 + (self._opened.openings if self._opened else self._state(now).openings)
                self._opened = _Opened(now, self.policy.open_for(openings), openings)
            else:
                self._close_here(now)

    # -- the sync thread ----------------------------------------------------------------------------

    def take(self) -> list[Counted]:
        """What was counted since the last time; to be given back if it cannot be stored."""
        with self._lock:
            self._drain(time.monotonic())
            taken, self._counts = self._counts, {}
            shared = self.shared
        if shared is None:
            return []
        slot = self.policy.slot_seconds
        return [Counted(shared.service_id, generation, slot, one) for generation, one in taken.items() if one.any]

    def give_back(self, counted: Counted) -> None:
        """Count again what could not be stored; the store's clock will date it later than it was."""
        with self._lock:
            mine = self._counts.get(counted.generation, Counts())
            self._counts[counted.generation] = _sum(mine, counted.counts)

    def take_fold(self) -> Fold:
        """counting: the calls since the last time, in their order."""
        with self._lock:
            fold, self._fold = self._fold, Fold()
            return fold

    def learn(self, shared: Shared | None, read_at: float) -> None:
        """Take over what the store says. A lower generation than ours is old news."""
        with self._lock:
            if shared is None or (self.shared and shared.state.generation < self.shared.state.generation):
                return
            now = time.monotonic()
            self._drain(now)
            self.shared, self._read_at, self.policy = shared, read_at, shared.policy
            self._closed_alone = False
            if shared.state.effective is not Mode.CLOSED or shared.state.generation != self.era.generation:
                self._opened = None
            self._renew_era(now)

    def stand_down(self, before: float) -> None:
        """The store, which knows every process's calls, did not open what was opened here ``before`` its word."""
        with self._lock:
            if self._opened is not None and self._opened.at < before:
                self._opened = None
                self._renew_era(time.monotonic())

    @property
    def pressing(self) -> bool:
        """Whether the next round should come soon: there are failures, or it is not closed."""
        shared = self.shared
        failing = bool(shared and shared.window.fail) or any(one.fail for one in list(self._counts.values()))
        return failing or not self.era.closed

    @property
    def opened_here(self) -> bool:
        """Whether only this process's own count has opened it."""
        return self._opened is not None

    # -- under the lock -----------------------------------------------------------------------------

    def _state(self, now: float) -> State:
        """The shared state; without an override whose time is over, whether or not the store has said so."""
        state = self.shared.state if self.shared else State()
        over = state.override and self._override_over(now) <= now
        return replace(state, override=None) if over else state

    def _renew_era(self, now: float) -> None:
        state = self._state(now)
        closed = self._closed_alone or (state.effective is Mode.CLOSED and self._opened is None)
        quiet = self.policy.policy == "rolling" or (state.score == 0 and self._fold.peak_floor == 0)
        plain = closed and quiet and self.policy.slow_over is None
        if (closed, plain, state.generation) != (self.era.closed, self.era.plain, self.era.generation):
            self._drain(now)
            self.era = Era(state.generation, closed=closed, plain=plain)

    def _due(self, now: float) -> float:
        """When a trial may be made; with an override: when it is over."""
        state = self._state(now)
        if state.override:
            return self._override_over(now)
        if self._opened:
            return self._opened.at + self._opened.open_for
        due_in = self.shared.due_in if self.shared else None
        return now if due_in is None else self._read_at + due_in

    def _override_over(self, now: float) -> float:
        shared = self.shared
        until = shared.state.override.until if shared and shared.state.override else None
        if shared is None or until is None:
            return now + LONGEST_RETRY_AFTER
        return self._read_at + (until - shared.now).total_seconds()

    def _is_alone(self, now: float) -> bool:
        return self.shared is None or now - self.sync.heard_at > STALE_SECONDS

    def _refuse(self, due: float, now: float) -> Refusal:
        self._add(Counts(rejected=1))
        return Refusal(max(due - now, self._ask_after - now, ASK_AGAIN))

    def _try_alone(self, due: float, now: float) -> Pass | Refusal:
        if self._alone_since is not None and now - self._alone_since < machine.LONGEST_TRIAL:
            return self._refuse(due, now)
        self._alone_since = now
        return Pass(self.era, "alone", alone=True)

    def _try_shared(self) -> Pass | Refusal:
        token = str(uuid.uuid4())
        granted = None
        try:
            granted = self.sync.ask(self, token)
        finally:
            with self._lock:
                now = time.monotonic()
                self._asking = False
                if not granted:
                    self._ask_after = now + ASK_AGAIN
                refusal = None if granted else self._refuse(now, now)
        return refusal or Pass(self.era, token)

    def _count(self, ending: Ending, now: float) -> None:
        wait = min(ending.retry_after, LONGEST_RETRY_AFTER) if ending.retry_after else None
        failed = ending.failed
        self._add(
            Counts(
                ok=int(not failed),
                fail=int(failed),
                credential=int(ending.kind is Kind.CREDENTIAL),
                limited=int(ending.kind is Kind.LIMITED),
                retry_after=wait,
            )
        )
        self._into_ring(now, int(not failed), int(failed))
        if self.policy.policy == "counting":
            self._fold = self._fold.then(not failed)

    def _drain(self, now: float) -> None:
        ok = self.era.take()
        if ok:
            self._add(Counts(ok=ok))
            self._into_ring(now, ok, 0)

    def _add(self, counts: Counts) -> None:
        generation = self.era.generation
        mine = self._counts.get(generation)
        self._counts[generation] = counts if mine is None else _sum(mine, counts)

    def _into_ring(self, now: float, ok: int, fail: int) -> None:
        place = now // self.policy.slot_seconds
        if not self._ring or self._ring[-1][0] != place:
            self._ring.append([place, 0, 0])
        self._ring[-1][1] += ok
        self._ring[-1][2] += fail

    def _crossed(self) -> bool:
        if self.policy.policy == "counting":
            shared = self.shared
            _score, peak = self._fold.apply(shared.state.score if shared else 0)
            return peak >= self.policy.failure_threshold
        now = time.monotonic()
        self._drain(now)
        return machine.crossed(self._window(now), 0, self.policy)

    def _window(self, now: float) -> Window:
        """What is known of the last seconds: everybody's calls, or ours alone while the store is away."""
        if self._is_alone(now):
            first = now // self.policy.slot_seconds - BUCKETS
            rows = [row for row in self._ring if row[0] > first]
            return Window(int(sum(row[1] for row in rows)), int(sum(row[2] for row in rows)))
        assert self.shared is not None  # noqa: S101  else it would be alone
        mine = self._counts.get(self.era.generation, Counts())
        return Window(self.shared.window.ok + mine.ok, self.shared.window.fail + mine.fail)

    def _open_here(self, now: float) -> None:
        openings = self._state(now).openings + 1
        self._opened = _Opened(now, self.policy.open_for(openings), openings)
        self._closed_alone = False
        self._renew_era(now)

    def _close_here(self, now: float) -> None:
        """After a trial alone: closed here, whatever the store last said, until it says more."""
        self._opened, self._closed_alone = None, True
        self._ring.clear()
        self._renew_era(now)


def _sum(one: Counts, other: Counts) -> Counts:
    waits = [each.retry_after for each in (one, other) if each.retry_after is not None]
    return Counts(
        one.ok + other.ok,
        one.fail + other.fail,
        one.credential + other.credential,
        one.limited + other.limited,
        one.rejected + other.rejected,
        max(waits, default=None),
    )
