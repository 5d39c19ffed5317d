"""Circuit breakers that a wsmon shares with every program. Copy this file: Python 3.9+, nothing to install.

    from wsmon_breaker import Breakers, CircuitOpen

    breakers = Breakers("https://wsmon.example", token)  # once per program; scopes monitoring:read and :admin

    answer = breakers("stripe").call(requests.get, url, timeout=5)
    with breakers("stripe"):
        ...
    @breakers("stripe", fallback=lambda refused: None)  # also for coroutine functions
    def charge(): ...
    answer = await breakers("stripe").acall(client.get, url)

A call that succeeds while the breaker is closed costs one attribute read and one step of a counter: no lock, no
I/O. One daemon thread tells wsmon how calls ended and hears what it decided. A call waits for wsmon only where
the breaker is open and a trial is due, and then half a second at most. While wsmon is away this process's own
calls open and close its breakers. Times are monotonic; what wsmon says is judged by wsmon's own clock.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import concurrent.futures
import contextlib
import functools
import http.client
import inspect
import itertools
import json
import logging
import os
import queue
import random
import selectors
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Callable, NamedTuple

__all__ = ["Breakers", "CircuitOpen", "Guard"]

ROOT = "/api/admin/circuit-breakers"
QUIET, FAILING, AT_ONCE = 1.0, 0.25, 0.02
"""Seconds to the next report: usually, after a failure, and when failures cross the threshold."""
TIMEOUT = 2.0
"""Seconds for each step of a request to wsmon, all of them in the thread."""
UNANSWERED = 1.0
"""A request that is under way for so many seconds counts as wsmon being away."""
ASK = 0.5
"""Seconds that a call waits for wsmon's word on its trial."""
ASK_AGAIN = 0.1
POLL = 15.0
"""Between two readings of all states while there is no stream."""
SILENCE = 25.0
"""Seconds without a byte (wsmon sends one every 10) after which a stream is dead."""
RESTORED = timedelta(seconds=10)
"""A word of a lower generation is old news; one that is so much younger is of a database that was restored."""
SAME = timedelta(milliseconds=5)
"""Times that differ by less are one: some are sent in milliseconds."""
MOST_ITEMS = 1000
UNKNOWN = 60.0
"""Seconds for which nothing is told of a service that wsmon does not know."""
LONGEST_WAIT = 3600.0
LONGEST_TRIAL = 120.0
GIVEN_BACK = 499
"""Status by which a trial is given back: nothing is known of how the call would have ended."""
BUCKETS = 10
TRANSIENT = frozenset({401, 403, 408, 425, 429})
"""4xx that count; any other is the request's own fault, and counts neither way."""

_log = logging.getLogger("wsmon_breaker")


class CircuitOpen(Exception):
    """The call was not made: the breaker is open. ``retry_in``: seconds until the next trial may be made."""

    def __init__(self, name: str, retry_in: float) -> None:
        super().__init__(f"{name}: the circuit breaker is open, try again in {retry_in:.1f} s")
        self.name = name
        self.retry_in = retry_in

    def __reduce__(self) -> tuple[type[CircuitOpen], tuple[str, float]]:
        return type(self), (self.name, self.retry_in)


class Policy(NamedTuple):
    """A breaker's parameters, as wsmon sends them; durations are seconds."""

    policy: str = "rolling"
    error_threshold: float = 0.5
    min_volume: int = 20
    window: float = 10.0
    failure_threshold: int = 5
    recovery_timeout: float = 30.0
    recovery_max: float = 300.0
    slow_over: float | None = None
    ignore_status: tuple[int, ...] = ()

    def open_for(self, openings: int) -> float:
        """How long it stays open the ``openings``-th time in a row."""
        longest = max(self.recovery_max, self.recovery_timeout)
        return float(min(self.recovery_timeout * 2 ** min(openings - 1, 30), longest))


class Outcome(NamedTuple):
    """How a call ended; ``ok`` is None when it counts neither way."""

    ok: bool | None
    status: int | None = None
    retry_after: float | None = None


OK, FAIL, NEUTRAL = Outcome(True), Outcome(False), Outcome(None)


def of_exception(error: BaseException, policy: Policy) -> Outcome:
    """What a call that raised counts as: by its HTTP status, if the exception carries one."""
    cancelled = (asyncio.CancelledError, concurrent.futures.CancelledError)
    if isinstance(error, cancelled) or not isinstance(error, Exception):
        return NEUTRAL
    answer = getattr(error, "response", None)
    for source in (error, answer):
        found = of_answer(source, policy, error if answer is None else answer)  # requests' answers may be false
        if found is not OK:
            return FAIL if found.ok else found
    return FAIL


def of_answer(answer: Any, policy: Policy, headers_of: Any = None) -> Outcome:
    """What a call that returned ``answer`` counts as; ``OK`` itself when it has no HTTP status."""
    for name in ("status_code", "http_status", "code", "status"):
        status = getattr(answer, name, None)
        if isinstance(status, int) and 100 <= status <= 599:
            if status in policy.ignore_status or (400 <= status < 500 and status not in TRANSIENT):
                return Outcome(None, status)
            return Outcome(status < 400, status, None if status < 400 else _retry_after(headers_of or answer))
    return OK


def _retry_after(answer: Any) -> float | None:
    try:
        seconds = float(answer.headers.get("Retry-After"))
    except (AttributeError, TypeError, ValueError):
        return None
    return min(seconds, LONGEST_WAIT) if seconds >= 0 else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # "Z" is read from Python 3.11 on


# One breaker in this process ----------------------------------------------------------------------


class _Era:
    """One generation: replaced at each change, so that what ends late is told apart."""

    __slots__ = ("_looks", "_taken", "closed", "generation", "ok", "plain")

    def __init__(self, generation: int, *, closed: bool, plain: bool) -> None:
        self.generation = generation
        self.closed = closed  # calls pass
        self.plain = plain  # calls pass, and of those that succeed only their number matters
        self.ok = itertools.count().__next__  # one step of the interpreter: nothing is lost, nobody waits
        self._looks = self._taken = 0

    def take(self) -> int:
        """How many calls succeeded since the last time."""
        total = self.ok() - self._looks
        self._looks += 1
        new, self._taken = total - self._taken, total
        return new


class _Word(NamedTuple):
    """What wsmon last said of a breaker; ``due`` and ``heard`` are monotonic, ``due_at`` and ``clock`` wsmon's."""

    state: str
    generation: int
    forced: bool
    due: float | None
    due_at: datetime | None
    clock: datetime
    heard: float


def _word(item: dict[str, Any], same: _Word | None, clock: datetime, heard: float) -> _Word:
    """``same``: the last word of the same generation; an answer to outcomes says less than it did."""
    forced = item.get("forced") is not None if "forced" in item else bool(same and same.forced)
    text = item.get("forced_until") if forced else item.get("next_attempt_at")
    due_at = _time(text) if text else None
    due = heard + (due_at - clock).total_seconds() if due_at else None
    if same and forced and "forced" not in item:
        due_at, due = same.due_at, same.due
    elif same and due_at and same.due_at and abs(due_at - same.due_at) < SAME and due and same.due:
        due = min(due, same.due)  # words are late by as long as they were under way
    return _Word(item["state"], item["generation"], forced, due, due_at, clock, heard)


class _Pass(NamedTuple):
    era: _Era
    trial: str = ""


_ALONE = "alone"


class _Item:
    """Calls that ended alike at about the same time."""

    __slots__ = ("at", "count", "outcome", "seconds")

    def __init__(self, outcome: Outcome, at: float, count: int, seconds: float) -> None:
        self.outcome, self.at, self.count, self.seconds = outcome, at, count, seconds

    def body(self) -> dict[str, Any]:
        ok, status, retry_after = self.outcome
        found = {"ok": bool(ok), "duration_ms": round(self.seconds * 1000 / self.count, 3), "count": self.count}
        more = {"status": GIVEN_BACK if ok is None else status, "retry_after": retry_after}
        return {**found, **{name: value for name, value in more.items() if value is not None}}


class _Local:
    """A breaker in this process: what its callers touch. Its lock is never held around a guarded call."""

    def __init__(self, name: str, owner: Breakers) -> None:
        self.name = name
        self.owner = owner
        self.policy = Policy()
        self.word: _Word | None = None
        self.forget()

    def forget(self) -> None:
        """Start with a clean sheet: at first, and in a child after fork, whose parent reports for both."""
        self.lock = threading.Lock()
        self.items: list[_Item] = []
        self.rejected = 0
        self._ring: collections.deque[list[float]] = collections.deque(maxlen=BUCKETS)
        self._score = 0
        self._opened: tuple[float, int] | None = None  # by this process: (until, how many times in a row)
        self._closed_alone = False
        self._trying_since: float | None = None
        self._asking = False
        self._ask_after = self._silent_until = float("-inf")
        # Not the one before: another thread may have been half through its counter when the process forked.
        self.era = _Era(-1, closed=True, plain=True)
        self._renew(time.monotonic())

    def enter(self) -> _Pass:
        """Let a call pass, or raise :class:`CircuitOpen`."""
        era = self.era
        if era.closed:
            return _Pass(era)
        with self.lock:
            now = time.monotonic()
            due = self._due()
            if self.era.closed:
                return _Pass(self.era)
            if now < due or self._asking or now < self._ask_after:
                raise self._refuse(due, now)
            if self.owner.away or self._opened or self.word is None:
                if self._trying_since is not None and now - self._trying_since < LONGEST_TRIAL:
                    raise self._refuse(due, now)
                self._trying_since = now
                return _Pass(self.era, _ALONE)
            self._asking = True
        return self._ask()

    def _ask(self) -> _Pass:
        token, wait = "", ASK_AGAIN
        try:
            token, wait = self.owner.ask(self)
        finally:
            with self.lock:
                now = time.monotonic()
                self._asking = False
                if not token:
                    self._ask_after = now + wait
        if token:
            return _Pass(self.era, token)
        with self.lock:
            if self.era.closed:  # wsmon closed it while we asked
                return _Pass(self.era)
            raise self._refuse(now, now)

    def finished(self, era: _Era, outcome: Outcome, seconds: float = 0.0) -> None:
        """Count a call that was let through in ``era``, unless the breaker has changed since."""
        if outcome.ok is None:
            return
        with self.lock:
            if era.generation != self.era.generation or not self.era.closed:
                return
            now = time.monotonic()
            self._count(outcome, now, 1, seconds)
            crossed = not outcome.ok and self._crossed(now)
            if crossed and (self.owner.unheard or self.word is None):
                self._open_here(now, outcome.retry_after)
            elif era.plain:
                self._renew(now)  # counting: from now on successes matter too
        if not outcome.ok:
            self.owner.hurry(AT_ONCE if crossed else FAILING)

    def ended(self, passed: _Pass, outcome: Outcome, seconds: float) -> None:
        """Tell how a trial ended."""
        alone = passed.trial == _ALONE
        if not alone and self.owner.end(self, passed.trial, _Item(outcome, time.monotonic(), 1, seconds)):
            return
        with self.lock:
            self._trying_since = None
            if passed.era is not self.era or outcome.ok is None:
                return
            now = time.monotonic()
            if outcome.ok:
                self._opened, self._closed_alone = None, True
                self._ring.clear()
                self._renew(now)
            else:
                self._open_here(now, outcome.retry_after)

    def protect(self) -> None:
        """Open here, if its own calls say so: wsmon has just gone away."""
        with self.lock:
            now = time.monotonic()
            if self.era.closed and self._crossed(now):
                self._open_here(now, None)

    # The thread's

    def learn(self, item: dict[str, Any], clock_text: str, heard: float) -> None:
        """Take over wsmon's word, unless it is older than what is known: they arrive by several ways."""
        clock, generation = _time(clock_text), int(item["generation"])
        with self.lock:
            before, now = self.word, time.monotonic()
            if before and generation < before.generation and clock < before.clock + RESTORED:
                return
            same = before if before and before.generation == generation else None
            if "policy" in item:
                known = {name: value for name, value in item.get("parameters", {}).items() if name in Policy._fields}
                self.policy = self.policy._replace(policy=item["policy"], **known)
            self._drain(now)
            if before and not same:
                self.items, self._score, self._ask_after = [], 0, float("-inf")
                self._ring.clear()
            if item["state"] != "CLOSED" or (before and not same):
                self._opened = None
            self._closed_alone, self._silent_until = False, float("-inf")
            self.word = _word(item, same, clock, heard)
            self._renew(now)

    def unknown(self) -> None:
        """wsmon has no service of that name: this process's own calls decide alone."""
        with self.lock:
            self.word, self.items, self.rejected = None, [], 0
            self._silent_until = time.monotonic() + UNKNOWN
            self._renew(time.monotonic())

    def take(self) -> tuple[list[_Item], int]:
        """What is to be told; to be given back if it cannot be."""
        with self.lock:
            now = time.monotonic()
            self._drain(now)
            if self.policy.policy == "counting":
                self._renew(now)
            items = [item for item in self.items if now - item.at < self.policy.window]
            rejected, self.items, self.rejected = self.rejected, [], 0
            return ([], 0) if now < self._silent_until else (items[-MOST_ITEMS:], rejected)

    def give_back(self, items: list[_Item], rejected: int) -> None:
        """Keep for later what could not be told."""
        with self.lock:
            self.items = (items + self.items)[-MOST_ITEMS:]
            self.rejected += rejected

    # Under the lock

    def _refuse(self, due: float, now: float) -> CircuitOpen:
        self.rejected += 1
        return CircuitOpen(self.name, min(max(due - now, self._ask_after - now, ASK_AGAIN), LONGEST_WAIT))

    def _due(self) -> float:
        if self._opened:
            return self._opened[0]
        word = self.word
        if word is None or word.due is None:
            return float("inf") if word and word.forced else float("-inf")
        return word.due

    def _renew(self, now: float) -> None:
        word = self.word
        closed = self._closed_alone or (self._opened is None and (word is None or word.state == "CLOSED"))
        plain = closed and self.policy.slow_over is None and (self.policy.policy == "rolling" or self._score == 0)
        generation = word.generation if word else 0
        if (closed, plain, generation) != (self.era.closed, self.era.plain, self.era.generation):
            self._drain(now)
            self.era = _Era(generation, closed=closed, plain=plain)

    def _drain(self, now: float) -> None:
        number = self.era.take()
        if number:
            self._count(OK, now, number, 0.0)

    def _count(self, outcome: Outcome, now: float, number: int, seconds: float) -> None:
        counting = self.policy.policy == "counting"  # there the order matters
        for item in reversed(self.items[-1:] if counting else self.items[-8:]):
            if item.outcome == outcome and now - item.at < FAILING:
                item.count += number
                item.seconds += seconds
                break
        else:
            self.items.append(_Item(outcome, now, number, seconds))
            del self.items[:-MOST_ITEMS]
        self._score = max(self._score - number, 0) if outcome.ok else self._score + number
        place = now // (self.policy.window / BUCKETS)
        if not self._ring or self._ring[-1][0] != place:
            self._ring.append([place, 0, 0])
        self._ring[-1][1 if outcome.ok else 2] += number

    def _crossed(self, now: float) -> bool:
        policy = self.policy
        if policy.policy == "counting":
            return self._score >= policy.failure_threshold
        self._drain(now)
        first = now // (policy.window / BUCKETS) - BUCKETS
        rows = [row for row in self._ring if row[0] > first]
        fail = sum(row[2] for row in rows)
        volume = fail + sum(row[1] for row in rows)
        return volume >= policy.min_volume and fail + 1e-9 >= policy.error_threshold * volume

    def _open_here(self, now: float, retry_after: float | None) -> None:
        openings = 1 + (self._opened[1] if self._opened else 0)
        self._opened = now + max(self.policy.open_for(openings), retry_after or 0.0), openings
        self._closed_alone, self._score = False, 0
        self._renew(now)


# What programs use --------------------------------------------------------------------------------

_entered: ContextVar[tuple[tuple[_Pass, float], ...]] = ContextVar("wsmon_breaker_entered", default=())


class Guard:
    """One breaker, as one place in a program uses it. Thread-safe, and may be kept for good.

    ``exclude``: exceptions that count neither way (types, or functions of the exception that return True).
    ``answers``: whether what a call returns counts by its HTTP status.
    ``slow_over``: seconds over which a call counts as failed, instead of the policy's.
    ``fallback``: called with the :class:`CircuitOpen` instead of raising it; its result is the call's.
    """

    __slots__ = ("_answers", "_exclude", "_fallback", "_local", "_plain", "_slow_over")

    def __init__(
        self,
        local: _Local,
        exclude: tuple[Any, ...] = (),
        answers: bool = False,
        slow_over: float | None = None,
        fallback: Callable[[CircuitOpen], Any] | None = None,
    ) -> None:
        self._local, self._exclude, self._answers = local, exclude, answers
        self._slow_over, self._fallback = slow_over, fallback
        self._plain = not answers and slow_over is None

    @property
    def name(self) -> str:
        """The service's."""
        return self._local.name

    @property
    def is_open(self) -> bool:
        """Whether a call would be refused now, as far as is known here; a trial may still be let through."""
        return not self._local.era.closed

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``fn`` if the breaker lets it through; raise :class:`CircuitOpen` if not."""
        era = self._local.era
        if not (era.plain and self._plain):
            return self._call(fn, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._local.finished(era, self._of(error))
            raise
        era.ok()
        return result

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            passed = self._local.enter()
        except CircuitOpen as refused:
            if self._fallback is None:
                raise
            return self._fallback(refused)
        started = time.monotonic()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._leave(passed, self._of(error), started)
            raise
        self._leave(passed, self._of_answer(result), started)
        return result

    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The same for a coroutine function."""
        era = self._local.era
        if not (era.plain and self._plain):
            return await self._acall(fn, args, kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self._local.finished(era, self._of(error))
            raise
        era.ok()
        return result

    async def _acall(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            passed = await self._aenter()
        except CircuitOpen as refused:
            if self._fallback is None:
                raise
            found = self._fallback(refused)
            return await found if inspect.isawaitable(found) else found
        started = time.monotonic()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            await self._aleave(passed, self._of(error), started)
            raise
        await self._aleave(passed, self._of_answer(result), started)
        return result

    def __call__(self, fn: Any) -> Any:
        """Guard every call of a function or coroutine function."""
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def guarded_later(*args: Any, **kwargs: Any) -> Any:
                return await self.acall(fn, *args, **kwargs)

            return guarded_later

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self.call(fn, *args, **kwargs)

        return guarded

    def __enter__(self) -> Guard:
        """Enter if the breaker lets the block through; raise :class:`CircuitOpen` if not (there is no fallback)."""
        _entered.set((*_entered.get(), (self._local.enter(), time.monotonic())))
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Count how the block ended."""
        *rest, (passed, started) = _entered.get()
        _entered.set(tuple(rest))
        self._leave(passed, OK if error is None else self._of(error), started)

    async def __aenter__(self) -> Guard:
        """The same in a coroutine."""
        passed = await self._aenter()
        _entered.set((*_entered.get(), (passed, time.monotonic())))
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Count how the block ended."""
        *rest, (passed, started) = _entered.get()
        _entered.set(tuple(rest))
        await self._aleave(passed, OK if error is None else self._of(error), started)

    async def _aenter(self) -> _Pass:
        era = self._local.era
        return _Pass(era) if era.closed else await asyncio.to_thread(self._local.enter)

    def _leave(self, passed: _Pass, outcome: Outcome, started: float) -> None:
        seconds = time.monotonic() - started
        limit = self._local.policy.slow_over if self._slow_over is None else self._slow_over
        if outcome.ok and limit is not None and seconds > limit:
            outcome = FAIL
        if passed.trial:
            self._local.ended(passed, outcome, seconds)
        else:
            self._local.finished(passed.era, outcome, seconds)

    async def _aleave(self, passed: _Pass, outcome: Outcome, started: float) -> None:
        if passed.trial:  # wsmon is told, for which a coroutine must not wait
            await asyncio.shield(asyncio.to_thread(self._leave, passed, outcome, started))
        else:
            self._leave(passed, outcome, started)

    def _of(self, error: BaseException) -> Outcome:
        for one in self._exclude:
            if isinstance(error, one) if isinstance(one, type) else one(error):
                return NEUTRAL
        return of_exception(error, self._local.policy)

    def _of_answer(self, answer: Any) -> Outcome:
        return of_answer(answer, self._local.policy) if self._answers else OK


class _Job:
    """Something a call waits for, for a moment: a trial's place, or its end being known."""

    def __init__(self, local: _Local, token: str = "", item: _Item | None = None) -> None:
        self.local, self.token, self.item = local, token, item
        self.asked_at = time.monotonic()
        self.done = threading.Event()
        self.answered = False
        self.wait = ASK_AGAIN
        self.given_up = False


class Breakers:
    """All breakers of one wsmon in this process: ``breakers("stripe")``. Make one per program and keep it."""

    _thread: threading.Thread | None
    _report_at: float

    def __init__(self, url: str, token: str, *, context: ssl.SSLContext | None = None) -> None:
        """``url``: wsmon's own, without a path unless it has one; ``context``: for TLS with an authority of yours."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the URL of a wsmon: {url!r}")
        self._address = parts.hostname, parts.port
        self._root = parts.path.rstrip("/") + ROOT
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "wsmon_breaker"}
        self._locals: dict[str, _Local] = {}
        self._plain: dict[str, Guard] = {}
        self._forget()
        _all.add(self)

    def __call__(
        self,
        name: str,
        *,
        exclude: tuple[Any, ...] = (),
        answers: bool = False,
        slow_over: float | None = None,
        fallback: Callable[[CircuitOpen], Any] | None = None,
    ) -> Guard:
        """The breaker of the service of that name; see :class:`Guard` for what may be said of its use."""
        if exclude or answers or slow_over is not None or fallback is not None:
            return Guard(self._local(name), exclude, answers, slow_over, fallback)
        found = self._plain.get(name)
        return found or self._plain.setdefault(name, Guard(self._local(name)))

    def close(self, seconds: float = 1.0) -> None:
        """Tell what was counted and end the thread; ``breakers(name)`` starts a new one. Runs by itself at exit."""
        with self._lock:
            thread, self._stopping = self._thread, True
        self._ring()
        if thread is not None:
            thread.join(seconds)
        with self._lock:
            self._thread, self._stopping = None, False

    # For callers

    @property
    def away(self) -> bool:
        """Whether wsmon does not answer, so that trials are made without it."""
        return self._away or self._waits_in_vain()

    @property
    def unheard(self) -> bool:
        """Whether wsmon does not count our calls, so that they open breakers here."""
        return self._unheard or self.away

    def _waits_in_vain(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > UNANSWERED

    def hurry(self, seconds: float) -> None:
        """Report within so many seconds."""
        at = time.monotonic() + seconds
        if at < self._report_at - 0.01:
            self._report_at = at
            self._ring()

    def ask(self, local: _Local) -> tuple[str, float]:
        """Ask for a trial's place: its token, or "" and the seconds after which to ask again."""
        job = self._submit(_Job(local))
        job.done.wait(ASK)
        with self._lock:
            job.given_up = not job.token  # a place that is granted from now on is given back
        return job.token, job.wait

    def end(self, local: _Local, token: str, item: _Item) -> bool:
        """Tell how a trial ended; wait a moment until wsmon knows. False when it does not answer."""
        job = self._submit(_Job(local, token, item))
        return job.done.wait(ASK) and job.answered

    def _submit(self, job: _Job) -> _Job:
        self._jobs.put(job)
        self._start()
        self._ring()
        return job

    def _local(self, name: str) -> _Local:
        found = self._locals.get(name)
        if found is None:
            with self._lock:
                found = self._locals.setdefault(name, _Local(name, self))
            if name in self._words:
                found.learn(*self._words[name])
        self._start()
        return found

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # it is ringing already
            self._bell.send(b"!")

    # The thread

    def _forget(self) -> None:
        """Without a thread: at first, and in a child after fork."""
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._running: dict[str, tuple[_Local, float, float]] = {}  # trials: when to renew, until when
        self._words: dict[str, tuple[dict[str, Any], str, float]] = {}
        self._thread = None
        self._stopping = False
        self._away, self._unheard = True, False  # until it answers
        self._busy_since: float | None = None
        self._report_at = self._stream_at = self._poll_at = self._hold_until = float("-inf")
        self._stream_delay = 1.0
        self._etag = ""
        self._reported: str | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._stream: _Stream | None = None
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        for local in self._locals.values():
            local.forget()

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="wsmon_breaker", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except Exception:
                _log.exception("a step failed")
                time.sleep(1.0)
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._report()
        self._close_stream()

    def _step(self) -> None:
        self._wait()
        self._serve()
        self._read_stream()
        if time.monotonic() >= self._report_at:
            self._report()
        self._renew_trials()
        if self._stream is None and time.monotonic() >= self._stream_at:
            self._open_stream()
        if self._stream is None and time.monotonic() >= self._poll_at:
            self._poll()

    def _wait(self) -> None:
        times = [self._report_at, *(renew for _local, renew, _until in self._running.values())]
        times += [self._stream.dead_at] if self._stream else [self._stream_at, self._poll_at]
        with selectors.DefaultSelector() as ears:
            ears.register(self._ear, selectors.EVENT_READ)
            if self._stream:
                ears.register(self._stream.socket, selectors.EVENT_READ)
            if self._jobs.empty():
                ears.select(max(0.0, min(times) - time.monotonic()))
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def _request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and content; raises ``OSError`` or ``HTTPException`` when wsmon does not answer."""
        self._busy_since = time.monotonic()
        try:
            status, found, data = self._exchange(method, path, None if body is None else json.dumps(body), headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop_connection()
            self._lost(type(error).__name__)
            raise
        finally:
            self._busy_since = None
        if status >= 500 or status in (401, 403):
            self._lost(f"HTTP {status}", away=status != 403)
        else:
            self._away = False
        content = (
            json.loads(data) if data and found.get("content-type", "").partition(";")[0].endswith("json") else {}
        )
        return status, found, content

    def _exchange(self, method: str, path: str, body: Any, more: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {}), **more}
        while True:
            fresh = self._connection is None
            connection = self._connection = self._connection or self._connect()
            try:
                connection.request(method, self._root + path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
            except (ConnectionError, http.client.BadStatusLine):
                self._drop_connection()
                if fresh:
                    raise
                continue  # it was kept too long: once more, on a new one
            if answer.will_close:
                self._drop_connection()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, data

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address
        if self._context:
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _lost(self, why: str, *, away: bool = True) -> None:
        """Go on alone; said once."""
        if self._reported != why:
            self._reported = why
            _log.warning("wsmon does not answer as it should (%s): going on alone", why)
        self._away, self._unheard = away, True
        for local in list(self._locals.values()):
            local.protect()

    # Trials

    def _serve(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            try:
                if job.item is not None:
                    self._running.pop(job.token, None)
                    job.answered = self._tell(job.local, [job.item], 0, job.token)
                elif not job.given_up:
                    self._ask_for(job)
            except (OSError, http.client.HTTPException):
                pass  # `_lost` knows
            finally:
                job.done.set()

    def _ask_for(self, job: _Job) -> None:
        status, headers, found = self._request("POST", f"/trial/{_quoted(job.local.name)}", {})
        if status == 200:
            now, token = time.monotonic(), found["trial"]
            with self._lock:
                job.token = "" if job.given_up else token
            if job.token:
                self._running[token] = job.local, now + found["lease_seconds"] / 3, now + LONGEST_TRIAL
            else:
                self._tell(job.local, [_Item(NEUTRAL, now, 1, 0.0)], 0, token)
        elif status == 404:
            job.local.unknown()
        elif status in (409, 429):
            job.wait = _seconds(headers.get("retry-after"), 1.0)
        else:
            job.wait = 5.0

    def _renew_trials(self) -> None:
        now = time.monotonic()
        for token, (local, renew, until) in list(self._running.items()):
            if now >= until:
                del self._running[token]
            elif now >= renew:
                self._running[token] = local, now + 3.0, until
                with contextlib.suppress(OSError, http.client.HTTPException):
                    status, _headers, _found = self._request(
                        "POST", f"/trial/{_quoted(local.name)}", {"trial": token}
                    )
                    if status == 409:  # it ran out
                        self._running.pop(token, None)

    # Reports

    def _report(self) -> None:
        """Tell how calls ended since the last time."""
        failing = False
        for local in list(self._locals.values()):
            items, rejected = local.take()
            failing = failing or any(not item.outcome.ok for item in items)
            if not (items or rejected):
                continue
            told = False
            try:
                told = time.monotonic() >= self._hold_until and self._tell(local, items, rejected)
            except (OSError, http.client.HTTPException):
                local.give_back(items, rejected)
                break
            if not told:
                local.give_back(items, rejected)
        self._report_at = time.monotonic() + (FAILING if failing and not self._away else QUIET)

    def _tell(self, local: _Local, items: list[_Item], rejected: int, trial: str = "") -> bool:
        """Send outcomes; False when they should be sent again."""
        word, now = local.word, time.monotonic()
        outcomes = []
        for item in items:
            body = item.body()
            if word and not trial and now - item.at > QUIET:  # wsmon's clock, not ours
                body["at"] = (word.clock + timedelta(seconds=item.at - word.heard)).isoformat()
            outcomes.append(body)
        body = {"outcomes": outcomes, "rejected": rejected, **({"trial": trial} if trial else {})}
        status, headers, found = self._request("POST", f"/outcomes/{_quoted(local.name)}", body)
        if status == 202:
            self._unheard, self._reported = False, None
            local.learn(found, found["now"], time.monotonic())
        elif status == 404:
            local.unknown()
        elif status == 429:
            self._unheard = True
            self._hold_until = time.monotonic() + _seconds(headers.get("retry-after"), 1.0)
            return False
        elif status >= 500 or status in (401, 403):
            return False
        else:
            _log.warning("wsmon refused a report of %s: %s %s", local.name, status, found.get("detail"))
        return True

    # What wsmon says

    def _hear(self, items: list[dict[str, Any]], clock: str | None = None, *, all_of_them: bool = False) -> None:
        heard = time.monotonic()
        words = {item["service"]: (item, clock or item["now"], heard) for item in items}
        self._words = words if all_of_them else {**self._words, **words}
        for name, local in list(self._locals.items()):
            if name in words:
                local.learn(*words[name])
            elif all_of_them:
                local.unknown()

    def _poll(self) -> None:
        self._poll_at = time.monotonic() + _spread(POLL)
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, headers, found = self._request("GET", "/status", **{"If-None-Match": self._etag})
            if status == 200:
                self._etag = headers.get("etag", "")
                self._hear(found["breakers"], found["last_updated"], all_of_them=True)

    def _open_stream(self) -> None:
        try:
            self._busy_since = time.monotonic()
            self._stream = _Stream(self._connect(), self._root + "/stream", self._headers)
            self._stream_delay, self._away = 1.0, False
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._stream_at = time.monotonic() + _spread(self._stream_delay)
            self._stream_delay = min(self._stream_delay * 2, 30.0)
            _log.info("no stream from wsmon: %s", error)
        finally:
            self._busy_since = None

    def _read_stream(self) -> None:
        if self._stream is None:
            return
        events, alive = self._stream.read()
        for event, data in events:
            if event == "breakers":
                self._hear(json.loads(data), all_of_them=True)
            elif event == "breaker":
                self._hear([json.loads(data)])
        if not alive:
            self._close_stream()
            self._stream_at = time.monotonic() + _spread(self._stream_delay) / 2
            self._poll_at = float("-inf")

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.socket.close()
        self._stream = None


class _Stream:
    """An open event stream, read without blocking."""

    def __init__(self, connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> None:
        connection.request("GET", path, headers={**headers, "Accept": "text/event-stream"})
        self.socket: socket.socket = connection.sock
        self._raw, self._text = bytearray(), bytearray()
        while b"\r\n\r\n" not in self._raw:
            data = self.socket.recv(65_536)
            if not data or len(self._raw) > 65_536:
                raise ConnectionError("no answer")
            self._raw += data
        head, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != b"200":
            self.socket.close()
            raise ConnectionError(head.split(b"\r\n")[0].decode("latin-1"))
        self._chunked = b"transfer-encoding: chunked" in head.lower()
        self._raw = bytearray(rest)
        self.socket.setblocking(False)
        self.dead_at = time.monotonic() + SILENCE

    def read(self) -> tuple[list[tuple[str, str]], bool]:
        """The events that have arrived, as (name, data), and whether more may come."""
        alive = time.monotonic() < self.dead_at
        try:
            while alive:
                data = self.socket.recv(65_536)
                alive = bool(data)
                self._raw += data
                self.dead_at = time.monotonic() + SILENCE
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            alive = False
        self._unchunk()
        *blocks, rest = bytes(self._text).split(b"\n\n")
        self._text = bytearray(rest)
        return [event for event in map(_event, blocks) if event[0]], alive

    def _unchunk(self) -> None:
        """Move what is complete from the chunks (RFC 9112, 7.1) to the text."""
        if not self._chunked:
            self._text += self._raw
            self._raw.clear()
        while (end := self._raw.find(b"\r\n")) > 0:
            size = int(self._raw[:end].partition(b";")[0], 16)
            if len(self._raw) < end + size + 4:
                return
            self._text += self._raw[end + 2 : end + 2 + size]
            del self._raw[: end + size + 4]


def _event(block: bytes) -> tuple[str, str]:
    fields = [line.partition(": ") for line in block.decode().split("\n")]
    names = [value for field, _colon, value in fields if field == "event"]
    return (names[0] if names else ""), "\n".join(value for field, _colon, value in fields if field == "data")


def _spread(seconds: float) -> float:
    """So that many programs do not come back at the same moment."""
    return seconds * random.uniform(0.7, 1.3)  # noqa: S311


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return min(max(float(text or ""), ASK_AGAIN), LONGEST_WAIT)
    except ValueError:
        return otherwise


_all: weakref.WeakSet[Breakers] = weakref.WeakSet()


def _after_fork() -> None:
    for breakers in list(_all):
        breakers._forget()
        if breakers._locals:
            breakers._start()


def _at_exit() -> None:
    for breakers in list(_all):
        breakers.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
