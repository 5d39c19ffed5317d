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
from datetime import timedelta
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
TAKEN_SECONDS = 0.25
"""When to look again while others make the trial: how it ends is told within a moment."""
KEPT_SLOTS = 1_000
"""Slots of counts that are kept while the store is away; what is older is dated later than it was."""


class Sync(Protocol):
    """What a breaker needs of the thread that talks to the store."""

    @property
    def heard_at(self) -> float:
        """When the store last answered; minus infinity before."""

    def wake(self) -> None:
        """Do a round at once: something crossed its threshold."""

    def ask(self, local: LocalBreaker, token: str) -> bool | None:
        """Ask for a trial's place: granted, refused, or (None) the store does not answer."""

    def end(self, local: LocalBreaker, token: str, ending: Ending) -> threading.Event:
        """Tell how a trial ended; the event is set when the store knows, or is known to be away."""


class Era:
    """Calls between two changes, as this process sees them: replaced at each, so that late outcomes fall into it."""

    __slots__ = ("_looks", "_taken", "closed", "generation", "ok", "plain", "rejected", "shut_until")

    def __init__(self, generation: int, *, closed: bool, plain: bool) -> None:
        self.generation = generation
        self.closed = closed
        """Calls pass."""
        self.plain = plain
        """Calls pass, and of those that succeed nothing but their number matters. May change later on."""
        self.shut_until = float("-inf")
        """Until then nothing need be asked: no call passes. May change later on."""
        # next() of a count is one step of the interpreter: no update is lost, and there is no lock to wait for.
        self.ok = itertools.count().__next__
        self.rejected = itertools.count().__next__
        self._looks = 0
        self._taken = (0, 0)

    def take(self) -> tuple[int, int]:
        """How many calls succeeded, and were rejected, since the last time; one caller at a time."""
        ok, rejected = self.ok() - self._looks, self.rejected() - self._looks
        self._looks += 1
        before, self._taken = self._taken, (ok, rejected)
        return ok - before[0], rejected - before[1]


@dataclass(frozen=True, slots=True)
class Pass:
    """A call that may be made: in CLOSED (``token`` empty) or as a trial."""

    era: Era
    token: str = ""
    alone: bool = False
    """A trial of this process, the store being away."""


@dataclass(slots=True)  # not frozen: that would double what it costs to make one
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
        self.known = False
        """The store has said something of it, if only that it does not know it."""
        self._read_at = float("-inf")
        self.forget()

    def forget(self) -> None:
        """Forget what this process did: at first, and in a child after fork, whose parent reports for both."""
        self._lock = threading.Lock()
        self._counts: dict[tuple[int, float], Counts] = {}
        """By generation and start of the slot."""
        self._taken: dict[tuple[int, float], Counts] = {}
        self._drained_at = time.monotonic()
        self._ring: deque[list[float]] = deque(maxlen=BUCKETS)
        self._fold = Fold()
        self._opened: _Opened | None = None
        self._closed_alone = False
        self._alone_since: float | None = None
        self._asking = False
        self._ask_after = float("-inf")
        self._heard = threading.Event()
        if self.known:
            self._heard.set()
        # Not the one before: another thread may have been half through its counter when the process forked.
        self.era = Era(-1, closed=True, plain=True)
        self._renew_era(self._drained_at)

    # -- callers ------------------------------------------------------------------------------------

    def enter(self) -> Pass | Refusal:
        """Ask whether a call may be made. Does no I/O but for a trial, and then waits for a moment at most."""
        found = self.knock()
        return self.ask() if found is None else found

    def knock(self) -> Pass | Refusal | None:
        """The same without any wait; None when it is for the store to say, see :meth:`ask`."""
        era = self.era
        if era.closed:
            return Pass(era)
        now = time.monotonic()
        if now < era.shut_until:
            era.rejected()
            return Refusal(max(era.shut_until - now, ASK_AGAIN))
        with self._lock:
            self._renew_era(now)  # an override may be over by now
            if self.era.closed:
                return Pass(self.era)
            due = self._due(now)
            self.era.shut_until = max(due, self._ask_after)
            if self._asking or now < self.era.shut_until:
                return self._refuse(due, now)
            return self._try_alone(due, now) if self._is_alone(now) else None

    def ask(self) -> Pass | Refusal:
        """Ask the store for a trial, one caller at a time; waits for it, but for a moment at most."""
        with self._lock:
            if self._asking:
                now = time.monotonic()
                return self._refuse(now, now)
            self._asking = True
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

    def wait_known(self, seconds: float) -> bool:
        """Wait until the store has said something of it; False when it did not in time."""
        return self._heard.wait(seconds)

    @property
    def retry_in(self) -> float | None:
        """None while calls pass, else seconds until it is worth asking for a trial. Asks nobody."""
        era = self.era
        if era.closed:
            return None
        with self._lock:
            now = time.monotonic()
            self._renew_era(now)  # an override may be over by now
            if self.era.closed:
                return None
            wait = max(self._due(now), self._ask_after) - now
            return max(wait, TAKEN_SECONDS if self._is_taken(now) else 0.0)

    def finished(self, era: Era, ending: Ending) -> None:
        """Count a call that was admitted in ``era``; a stale one counts nothing."""
        if era is not self.era or ending.kind is Kind.NEUTRAL:
            return
        with self._lock:
            now = time.monotonic()
            if ending.failed:
                self._renew_era(now)  # an override that let it through may be over by now
            if era is not self.era:
                return
            self._drain(now)
            self._count(ending, now)
            if self._crossed(now):
                self._open_here(now)
            elif era.plain and self._fold.peak_floor:
                self._renew_era(now)  # from now on successes count too
            else:
                return
        self.sync.wake()

    def ended(self, passed: Pass, ending: Ending) -> threading.Event | None:
        """Tell how a trial ended; the event, if any, is set when everybody knows."""
        with self._lock:
            now = time.monotonic()
            if ending.kind is not Kind.NEUTRAL:
                self._put(passed.era.generation, now, _counts_of(ending))
            if passed.alone:
                self._ended_alone(passed, ending, now)
                return None
        return self.sync.end(self, passed.token, ending)

    # -- the sync thread ----------------------------------------------------------------------------

    def take(self) -> list[Counted]:
        """What was counted since the last time; :meth:`give_back` takes it back."""
        with self._lock:
            now = time.monotonic()
            self._drain(now)
            shared = self.shared
            if shared is None:
                return []  # the store may know it soon
            self._taken, self._counts = self._counts, {}
            slot, read_at = self.policy.slot_seconds, self._read_at
            return [
                Counted(
                    shared.service_id, generation, slot, one,
                    shared.now + timedelta(seconds=start - read_at) if start < now - 2 * slot else None,
                )
                for (generation, start), one in self._taken.items()
            ]  # fmt: skip

    def give_back(self) -> None:
        """Keep what was taken, since it could not be stored."""
        with self._lock:
            newer, self._counts, self._taken = self._counts, self._taken, {}
            for (generation, start), one in newer.items():
                self._put(generation, start, one)

    def take_fold(self) -> Fold:
        """counting: the calls since the last time, in their order."""
        with self._lock:
            fold, self._fold = self._fold, Fold()
            return fold

    def give_fold_back(self, fold: Fold) -> None:
        """Keep a fold that could not be stored."""
        with self._lock:
            self._fold = fold.followed_by(self._fold)

    def learn(self, shared: Shared | None, read_at: float) -> None:
        """Take over what the store says; None when it does not know the name (any more)."""
        with self._lock:
            now = time.monotonic()
            self._drain(now)
            before, self.shared = self.shared, shared
            if shared is not None:
                self._read_at, self.policy = read_at, shared.policy
                self._closed_alone = False
                generation = shared.state.generation
                if before is None:  # what was counted before it was known belongs to what is found
                    counts, self._counts = self._counts, {}
                    for (_none, start), one in counts.items():
                        self._put(generation, start, one)
                elif (before.service_id, before.state.generation) != (shared.service_id, generation):
                    self._ring.clear()
                    self._fold = Fold()
                if shared.state.effective is not Mode.CLOSED or generation != self.era.generation:
                    self._opened = None
            self._renew_era(now)
            self.known = True
            self._heard.set()

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
        failing = bool(shared and (shared.window.fail or any(one.fail for one in list(self._counts.values()))))
        return failing or not self.era.closed

    # -- under the lock -----------------------------------------------------------------------------

    def _state(self, now: float) -> State:
        """The shared state; without an override whose time is over, whether or not the store has said so."""
        state = self.shared.state if self.shared else State()
        over = state.override and self._override_over(now) <= now
        return replace(state, override=None) if over else state

    def _renew_era(self, now: float) -> None:
        state, era = self._state(now), self.era
        closed = self._closed_alone or (state.effective is Mode.CLOSED and self._opened is None)
        quiet = self.policy.policy == "rolling" or (state.score == 0 and self._fold.peak_floor == 0)
        plain = closed and quiet and self.policy.slow_over is None
        if (closed, state.generation) == (era.closed, era.generation):
            era.plain, era.shut_until = plain, float("-inf")
        else:
            self._drain(now)
            self.era = Era(state.generation, closed=closed, plain=plain)

    def _due(self, now: float) -> float:
        """When a trial may be made; with an override: when it is over."""
        state, shared = self._state(now), self.shared
        if state.override:
            return self._override_over(now)
        if self._opened:
            return self._opened.at + self._opened.open_for * (shared.factor if shared else 1)
        due_in = shared.due_in if shared else None
        return now if due_in is None else self._read_at + due_in

    def _override_over(self, now: float) -> float:
        shared = self.shared
        until = shared.state.override.until if shared and shared.state.override else None
        if shared is None or until is None:
            return now + LONGEST_RETRY_AFTER
        return self._read_at + (until - shared.now).total_seconds()

    def _is_alone(self, now: float) -> bool:
        return self.shared is None or now - self.sync.heard_at > STALE_SECONDS

    def _is_taken(self, now: float) -> bool:
        """Whether as many trials as may be are under way, as far as this process knows."""
        if self._asking:
            return True
        if self._is_alone(now):
            return self._alone_since is not None and now - self._alone_since < machine.LONGEST_TRIAL
        return len(self._state(now).trials) >= self.policy.trials

    def _refuse(self, due: float, now: float) -> Refusal:
        self._put(self.era.generation, now, _REJECTED)
        return Refusal(max(due - now, self._ask_after - now, ASK_AGAIN))

    def _try_alone(self, due: float, now: float) -> Pass | Refusal:
        if self._alone_since is not None and now - self._alone_since < machine.LONGEST_TRIAL:
            return self._refuse(due, now)
        self._alone_since = now
        return Pass(self.era, "alone", alone=True)

    def _ended_alone(self, passed: Pass, ending: Ending, now: float) -> None:
        self._alone_since = None
        if passed.era is not self.era or ending.kind is Kind.NEUTRAL or not self._is_alone(now):
            return
        if ending.failed:
            self._open_here(now)
        else:  # closed here, whatever the store last said, until it says more
            self._opened, self._closed_alone = None, True
            self._ring.clear()
            self._fold = Fold()
            self._renew_era(now)

    def _count(self, ending: Ending, now: float) -> None:
        one = _counts_of(ending)
        self._put(self.era.generation, now, one)
        self._into_ring(now, one.ok, one.fail)
        if self.policy.policy == "counting":
            self._fold = self._fold.then(not ending.failed)

    def _drain(self, now: float) -> None:
        """Count the calls that only bumped the era's counters: evenly over the time since the last look."""
        (ok, rejected), slot = self.era.take(), self.policy.slot_seconds
        since, self._drained_at = self._drained_at, now
        if not ok and not rejected:
            return
        parts = min(1 + int((now - since) / slot), KEPT_SLOTS)
        for part in range(parts):
            at = now - (parts - 1 - part) * slot
            share, refused = (n * (part + 1) // parts - n * part // parts for n in (ok, rejected))
            if share or refused:
                self._put(self.era.generation, at, Counts(ok=share, rejected=refused))
                self._into_ring(at, share, 0)

    def _put(self, generation: int, at: float, counts: Counts) -> None:
        slot = self.policy.slot_seconds
        key = (generation, at // slot * slot)
        mine = self._counts.get(key)
        self._counts[key] = counts if mine is None else _sum(mine, counts)
        if len(self._counts) > KEPT_SLOTS:
            oldest = self._counts.pop(next(iter(self._counts)))
            second = next(iter(self._counts))
            self._counts[second] = _sum(self._counts[second], oldest)

    def _into_ring(self, now: float, ok: int, fail: int) -> None:
        place = now // self.policy.slot_seconds
        if not self._ring or self._ring[-1][0] != place:
            self._ring.append([place, 0, 0])
        self._ring[-1][1] += ok
        self._ring[-1][2] += fail

    def _crossed(self, now: float) -> bool:
        state = self._state(now)
        if not self.era.closed or state.override:
            return False
        score = 0 if self._closed_alone else state.score
        return machine.crossed(self._window(now), self._fold.apply(score)[1], self.policy)

    def _window(self, now: float) -> Window:
        """What is known of the last seconds: everybody's calls, or ours alone while the store is away."""
        if self._is_alone(now):
            first = now // self.policy.slot_seconds - BUCKETS
            rows = [row for row in self._ring if row[0] > first]
            return Window(int(sum(row[1] for row in rows)), int(sum(row[2] for row in rows)))
        assert self.shared is not None  # noqa: S101  else it would be alone
        first = now - self.policy.window
        mine = [one for (era, at), one in self._counts.items() if era == self.era.generation and at > first]
        known = self.shared.window
        return Window(known.ok + sum(one.ok for one in mine), known.fail + sum(one.fail for one in mine))

    def _open_here(self, now: float) -> None:
        openings = 1 + (self._opened.openings if self._opened else self._state(now).openings)
        self._opened = _Opened(now, self.policy.open_for(openings), openings)
        self._closed_alone = False
        self._renew_era(now)


_REJECTED = Counts(rejected=1)


def _counts_of(ending: Ending) -> Counts:
    """One call that succeeded or failed."""
    wait = min(ending.retry_after, LONGEST_RETRY_AFTER) if ending.retry_after else None
    failed = ending.failed
    return Counts(
        ok=int(not failed),
        fail=int(failed),
        credential=int(ending.kind is Kind.CREDENTIAL),
        limited=int(ending.kind is Kind.LIMITED),
        retry_after=wait,
    )


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
