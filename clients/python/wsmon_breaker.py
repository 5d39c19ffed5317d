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
I/O. Two daemon threads talk to wsmon: one tells how calls ended, one hears what it decided. A call waits for wsmon
only where the breaker is open and a trial is due, and then half a second at most. While wsmon is away this process's
own calls open and close its breakers. Times are monotonic; what wsmon says is judged by wsmon's own clock.
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
import socket
import ssl
import threading
import time
import urllib.parse
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Callable, NamedTuple

__all__ = ["Breakers", "CircuitOpen", "Guard"]

ROOT = "/api/admin/circuit-breakers"
QUIET, FAILING, AT_ONCE = 1.0, 0.25, 0.02  # seconds to the next report: usually, after a failure, after too many
TIMEOUT = 2.0  # seconds for each step of a request, all of them in the threads
UNANSWERED = 1.0  # a report under way for so long counts as wsmon being away
ASK, ASK_AGAIN = 0.5, 0.1  # seconds that a call waits for wsmon's word on its trial, and that the next one waits then
POLL = 15.0  # the longest time between two readings of all states while there is no stream
SILENCE = 25.0  # seconds without a byte (wsmon sends one every 10) after which a stream is dead
RESTORED = timedelta(seconds=10)  # a lower generation is old news, but if so much younger of a restored database
MOST_ITEMS = 1000
LONGEST_WAIT, LONGEST_TRIAL = 3600.0, 120.0
TRANSIENT = frozenset({401, 403, 408, 425, 429})  # 4xx that count; any other is the request's own fault
JSON = {"Content-Type": "application/json"}
NEVER, FOREVER = float("-inf"), float("inf")

_log = logging.getLogger("wsmon_breaker")


class CircuitOpen(Exception):
    """The call was not made: the breaker is open. ``retry_in``: seconds until the next trial may be made."""

    def __init__(self, name: str, retry_in: float) -> None:
        super().__init__(name, retry_in)
        self.name, self.retry_in = name, retry_in

    def __str__(self) -> str:
        return f"{self.name}: the circuit breaker is open, try again in {self.retry_in:.1f} s"


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
            wait = _seconds(getattr(headers_of or answer, "headers", None), None)
            return Outcome(True, status) if status < 400 else Outcome(False, status, wait)
    return OK


def _seconds(headers: Any, otherwise: Any) -> Any:
    """What Retry-After says, if it is a number of seconds."""
    try:
        seconds = float(headers.get("Retry-After"))
    except (AttributeError, TypeError, ValueError):
        return otherwise
    return min(seconds, LONGEST_WAIT) if seconds >= 0 else otherwise


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # "Z" is read from Python 3.11 on


# One breaker in this process ----------------------------------------------------------------------


class _Era:
    """One generation: replaced at each change, so that what ends late is told apart."""

    __slots__ = ("_looks", "_taken", "closed", "generation", "ok", "plain")

    def __init__(self, generation: int, *, closed: bool, plain: bool) -> None:
        self.generation = generation
        self.closed, self.plain = closed, plain  # calls pass; and only the number of those that succeed matters
        self.ok = itertools.count().__next__  # one step of the interpreter: nothing is lost, nobody waits
        self._looks = self._taken = 0

    def take(self) -> int:
        """How many calls succeeded since the last time."""
        total, before = self.ok() - self._looks, self._taken
        self._looks, self._taken = self._looks + 1, total
        return total - before


class _Word(NamedTuple):
    """What wsmon last said of a breaker; ``due`` (of a trial) and ``heard`` are monotonic, ``clock`` wsmon's."""

    state: str
    generation: int
    forced: bool
    due: float
    clock: datetime
    heard: float


class _Pass(NamedTuple):
    """A call that was let through; ``trial``: wsmon's token, or ``ALONE`` for a trial without wsmon."""

    era: _Era
    started: float = 0.0
    trial: str = ""


ALONE = "alone"
Told = concurrent.futures.Future  # what the reporting thread will have found


@dataclass
class _Item:
    """Calls that ended alike at about the same time."""

    outcome: Outcome
    at: float
    count: int = 1

    def body(self, word: _Word | None) -> dict[str, Any]:
        found = {**self.outcome._asdict(), "count": self.count}
        if word and time.monotonic() - self.at > QUIET:  # by wsmon's clock, not by ours
            found["at"] = (word.clock + timedelta(seconds=self.at - word.heard)).isoformat()
        return {name: value for name, value in found.items() if value is not None}


class _Local:
    """A breaker in this process: what its callers touch. Its lock is never held around a guarded call."""

    def __init__(self, name: str, owner: Breakers) -> None:
        self.name, self.owner, self.policy = name, owner, Policy()
        self.word: _Word | None = None
        self.forget()

    def forget(self) -> None:
        """Start with a clean sheet: at first, and in a child after fork, whose parent reports for both."""
        self.lock = threading.Lock()
        self.items: list[_Item] = []  # to be told
        self._recent: collections.deque[_Item] = collections.deque(maxlen=MOST_ITEMS)  # this process's own window
        self._score = self._rejected = 0
        self._silent = False  # wsmon has no such service
        self._own: tuple[float, int] | None = None  # decided here: open until, how often in a row (0: closed)
        self._busy_until = self._ask_after = NEVER
        self._lease, self._renew_at = "", FOREVER  # of wsmon's trial that is made here
        # Not the one before: another thread may have been half through its counter when the process forked.
        self.era = _Era(-1, closed=True, plain=True)
        self._turn()

    @property
    def is_open(self) -> bool:
        return not self.era.closed

    def enter(self) -> _Pass | Told[Any]:
        """Let a call pass, refuse it, or ask for a trial: wait a moment, then see what :meth:`asked` says."""
        now = time.monotonic()
        if self.is_open:
            with self.lock:
                if self.is_open:
                    if now < max(self._due(), self._busy_until, self._ask_after):
                        raise self._refuse(now)
                    self._busy_until = now + LONGEST_TRIAL  # one at a time
                    if self.owner.away or self._own or self.word is None:
                        return _Pass(self.era, now, ALONE)
                    return self.owner.submit(self.owner.ask, self)
        return _Pass(self.era, now)

    def asked(self, answer: Told[Any]) -> _Pass:
        """What became of asking for a trial: nobody waits for it any longer."""
        token, wait = (answer.done() and answer.result()) or ("", ASK_AGAIN)
        now = time.monotonic()
        if not token:
            self.abandon(answer)
        with self.lock:
            if token:
                self._lease, self._renew_at = token, now + wait
            elif self.is_open:  # or wsmon closed it while we asked
                self._ask_after = now + wait
                raise self._refuse(now)
            return _Pass(self.era, now, token)

    def abandon(self, answer: Told[Any]) -> None:
        """Make no trial; what is granted all the same is given back."""

        def give_back(answer: Told[Any]) -> None:
            token = (answer.result() or ("",))[0]
            if token:
                self.owner.submit(self.owner.tell, self, [], 0, token)

        self._busy_until = NEVER
        if not answer.cancel():
            answer.add_done_callback(give_back)

    def leave(self, passed: _Pass, outcome: Outcome) -> Told[Any] | None:
        """Count how a call ended; where it was wsmon's trial, wait a moment until wsmon knows."""
        if passed.trial:
            with self.lock:
                self._busy_until, self._lease, self._renew_at = NEVER, "", FOREVER
            if passed.trial != ALONE:
                return self.owner.submit(self.owner.end, self, passed, outcome)
            self.decide(passed, outcome)
        elif outcome.ok and passed.era.plain:
            passed.era.ok()
        elif outcome.ok is not None:
            with self.lock:
                if passed.era.generation != self.era.generation or not self.era.closed:
                    return None  # it has changed since the call was let through
                self._count(outcome, 1)
                crossed = not outcome.ok and self._crossed()
                if crossed and (self.owner.unheard or self.word is None):
                    self._open_here(outcome.retry_after)
                self._turn()  # counting: after a failure successes matter too
            if not outcome.ok:
                self.owner.hurry(AT_ONCE if crossed else FAILING)
        return None

    def decide(self, passed: _Pass, outcome: Outcome) -> None:
        """Judge a trial without wsmon."""
        with self.lock:
            if passed.era is self.era and outcome.ok:
                self._own = 0.0, 0
                self._recent.clear()
                self._turn()
            elif passed.era is self.era and outcome.ok is not None:
                self._open_here(outcome.retry_after)

    # The threads'

    def learn(self, item: dict[str, Any], heard: float) -> None:
        """Take over wsmon's word, unless it is older than what is known: they arrive by several ways."""
        clock, generation = _time(item["now"]), int(item["generation"])
        with self.lock:
            before = self.word
            if before and generation < before.generation and clock < before.clock + RESTORED:
                return
            if "policy" in item:
                known = {name: value for name, value in item.get("parameters", {}).items() if name in Policy._fields}
                self.policy = self.policy._replace(policy=item["policy"], **known)
            self._count(OK, self.era.take())
            changed = before is not None and generation != before.generation
            if changed:
                self.items, self._score, self._ask_after = [], 0, NEVER
                self._recent.clear()
            if changed or item["state"] != "CLOSED" or (self._own and not self._own[1]):
                self._own = None
            self._silent = False
            if before and before.forced and not changed and "forced" not in item:  # an answer says less than it did
                self.word = before._replace(clock=clock, heard=heard)
            else:
                forced = item.get("forced") is not None
                at = item.get("forced_until") if forced else item.get("next_attempt_at")
                due = heard + (_time(at) - clock).total_seconds() if at else FOREVER if forced else NEVER
                self.word = _Word(item["state"], generation, forced, due, clock, heard)
            self._turn()

    def unknown(self) -> None:
        """wsmon has no service of that name: this process's own calls decide alone, and nothing is told."""
        with self.lock:
            self.word, self._silent = None, True
            self._turn()

    def take(self) -> tuple[list[_Item], int, str]:
        """What is to be told, and the token of a trial whose lease is to be renewed."""
        with self.lock:
            self._count(OK, self.era.take())
            self._turn()
            now, rejected, token = time.monotonic(), self._rejected, ""
            items = [item for item in self.items if now - item.at < self.policy.window]
            self.items, self._rejected = [], 0
            if self._renew_at <= now < self._busy_until:
                token, self._renew_at = self._lease, now + 3.0
            return ([], 0, "") if self._silent else (items, rejected, token)

    def keep(self, items: list[_Item], rejected: int) -> None:
        """Tell it later. wsmon did not hear of it: open here, if this process's own calls say so."""
        with self.lock:
            self.items = (items + self.items)[-MOST_ITEMS:]
            self._rejected += rejected
            if self.era.closed and self._crossed():
                self._open_here(None)

    # Under the lock

    def _refuse(self, now: float) -> CircuitOpen:
        self._rejected += 1
        return CircuitOpen(self.name, min(max(self._due() - now, self._ask_after - now, ASK_AGAIN), LONGEST_WAIT))

    def _due(self) -> float:
        """When the next trial may be made."""
        return self._own[0] if self._own else self.word.due if self.word else NEVER

    def _turn(self) -> None:
        """Begin another era if something has changed."""
        word = self.word
        closed = not self._own[1] if self._own else word is None or word.state == "CLOSED"
        plain = closed and self.policy.slow_over is None and (self.policy.policy == "rolling" or self._score == 0)
        generation = word.generation if word else 0
        if (closed, plain, generation) != (self.era.closed, self.era.plain, self.era.generation):
            self._count(OK, self.era.take())
            self.era = _Era(generation, closed=closed, plain=plain)

    def _count(self, outcome: Outcome, number: int) -> None:
        now = time.monotonic()
        self._score = max(self._score - number, 0) if outcome.ok else self._score + number
        for item in reversed(self.items[-1:] if self.policy.policy == "counting" else self.items[-8:]):
            if item.outcome == outcome and now - item.at < FAILING:  # counting: the order matters
                item.count += number
                return
        if number:
            self.items = [*self.items[1 - MOST_ITEMS :], _Item(outcome, now, number)]
            self._recent.append(self.items[-1])

    def _crossed(self) -> bool:
        policy = self.policy
        if policy.policy == "counting":
            return self._score >= policy.failure_threshold
        self._count(OK, self.era.take())
        first = time.monotonic() - policy.window
        counts = [(item.count, item.outcome.ok) for item in self._recent if item.at > first]
        volume, fail = sum(count for count, _ok in counts), sum(count for count, ok in counts if not ok)
        return volume >= policy.min_volume and fail + 1e-9 >= policy.error_threshold * volume

    def _open_here(self, retry_after: float | None) -> None:
        """For twice as long each time in a row."""
        before, policy = self._own[1] if self._own else 0, self.policy
        longest = max(policy.recovery_max, policy.recovery_timeout)
        seconds = min(policy.recovery_timeout * 2.0 ** min(before, 30), longest)
        self._own = time.monotonic() + max(seconds, retry_after or 0.0), before + 1
        self._score = 0
        self._turn()


# What programs use --------------------------------------------------------------------------------

_entered: ContextVar[tuple[_Pass, ...]] = ContextVar("wsmon_breaker_entered", default=())


class Guard:
    """One breaker, as one place in a program uses it. Thread-safe, and may be kept for good.

    ``exclude``: exceptions that count neither way (types, or functions of the exception that return True).
    ``answers``: whether what a call returns counts by its HTTP status.
    ``slow_over``: seconds over which a call counts as failed, instead of the policy's.
    ``fallback``: called with the :class:`CircuitOpen` instead of raising it; its result is the call's.
    """

    __slots__ = ("_answers", "_exclude", "_fallback", "_local", "_plain", "_slow_over", "name")

    def __init__(
        self,
        local: _Local,
        exclude: tuple[Any, ...] = (),
        answers: bool = False,
        slow_over: float | None = None,
        fallback: Callable[[CircuitOpen], Any] | None = None,
    ) -> None:
        self._local, self.name, self._exclude, self._fallback = local, local.name, exclude, fallback
        self._answers, self._slow_over, self._plain = answers, slow_over, not answers and slow_over is None

    @property
    def is_open(self) -> bool:
        """Whether a call would be refused now, as far as is known here; a trial may still be let through."""
        return self._local.is_open

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``fn`` if the breaker lets it through; raise :class:`CircuitOpen` if not."""
        era = self._local.era
        if not (era.plain and self._plain):
            return self._call(fn, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._leave(_Pass(era), error)
            raise
        era.ok()
        return result

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            passed = self._enter()
        except CircuitOpen as refused:
            if self._fallback is None:
                raise
            return self._fallback(refused)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._leave(passed, error)
            raise
        self._leave(passed, None, result)
        return result

    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The same for a coroutine function."""
        era, passed = self._local.era, None
        if not (era.plain and self._plain):
            try:
                passed = await self._aenter()
            except CircuitOpen as refused:
                if self._fallback is None:
                    raise
                found = self._fallback(refused)
                return await found if inspect.isawaitable(found) else found
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            await self._aleave(passed or _Pass(era), error)
            raise
        if passed is None:
            era.ok()
        else:
            await self._aleave(passed, None, result)
        return result

    def __call__(self, fn: Any) -> Any:
        """Guard every call of a function or coroutine function."""

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self.call(fn, *args, **kwargs)

        @functools.wraps(fn)
        async def guarded_later(*args: Any, **kwargs: Any) -> Any:
            return await self.acall(fn, *args, **kwargs)

        return guarded_later if inspect.iscoroutinefunction(fn) else guarded

    def __enter__(self) -> Guard:
        """Enter if the breaker lets the block through; raise :class:`CircuitOpen` if not (there is no fallback)."""
        _entered.set((*_entered.get(), self._enter()))
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Count how the block ended."""
        self._leave(_pop(), error)

    async def __aenter__(self) -> Guard:
        """The same in a coroutine."""
        _entered.set((*_entered.get(), await self._aenter()))
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Count how the block ended."""
        await self._aleave(_pop(), error)

    def _enter(self) -> _Pass:
        passed = self._local.enter()
        if isinstance(passed, _Pass):
            return passed
        try:
            concurrent.futures.wait([passed], ASK)
        except BaseException:
            self._local.abandon(passed)
            raise
        return self._local.asked(passed)

    async def _aenter(self) -> _Pass:
        passed = self._local.enter()
        if isinstance(passed, _Pass):
            return passed
        try:
            await _wait(passed)
        except BaseException:
            self._local.abandon(passed)
            raise
        return self._local.asked(passed)

    def _leave(self, passed: _Pass, error: BaseException | None, answer: Any = None) -> None:
        told = self._local.leave(passed, self._outcome(passed, error, answer))
        if told:
            concurrent.futures.wait([told], ASK)

    async def _aleave(self, passed: _Pass, error: BaseException | None, answer: Any = None) -> None:
        told = self._local.leave(passed, self._outcome(passed, error, answer))
        if told:
            await _wait(told)

    def _outcome(self, passed: _Pass, error: BaseException | None, answer: Any) -> Outcome:
        policy = self._local.policy
        if error is not None:
            excluded = (isinstance(error, one) if isinstance(one, type) else one(error) for one in self._exclude)
            return NEUTRAL if any(excluded) else of_exception(error, policy)
        outcome = of_answer(answer, policy) if self._answers else OK
        limit = policy.slow_over if self._slow_over is None else self._slow_over
        return FAIL if outcome.ok and limit is not None and time.monotonic() - passed.started > limit else outcome


def _pop() -> _Pass:
    *rest, passed = _entered.get()
    _entered.set(tuple(rest))
    return passed


async def _wait(told: Told[Any]) -> None:
    """For ``ASK`` seconds at most; it goes on without us."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def wake(_told: Told[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(done.set)

    told.add_done_callback(wake)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(done.wait(), ASK)


class Breakers:
    """All breakers of one wsmon in this process: ``breakers("stripe")``. Make one per program and keep it."""

    def __init__(self, url: str, token: str, *, context: ssl.SSLContext | None = None) -> None:
        """``url``: wsmon's own, without a path unless it has one; ``context``: for TLS with an authority of yours."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the URL of a wsmon: {url!r}")
        self._root = parts.path.rstrip("/") + ROOT
        self._connect = functools.partial(http.client.HTTPConnection, parts.hostname, parts.port)
        if parts.scheme == "https":
            tls = context or ssl.create_default_context()
            self._connect = functools.partial(http.client.HTTPSConnection, parts.hostname, parts.port, context=tls)
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "wsmon_breaker"}
        self._locals: dict[str, _Local] = {}
        self._plain: dict[str, Guard] = {}
        self._report_at: float
        self._threads: list[threading.Thread] = []
        self._forget()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def __call__(self, name: str, **how: Any) -> Guard:
        """The breaker of the service of that name; see :class:`Guard` for what may be said of its use."""
        found = None if how else self._plain.get(name)
        if found is None:
            self._start()
            found = Guard(self._local(name), **how)
            if not how:
                self._plain[name] = found
        return found

    def close(self, seconds: float = 1.0) -> None:
        """Tell what was counted and end the threads; ``breakers(name)`` starts new ones. Runs by itself at exit."""
        with self._lock:
            threads, self._threads = self._threads, []
            self._plain.clear()
            self._stop.set()
        self.submit(bool)
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)
        for thread in threads[:1]:  # the other has nothing to tell
            thread.join(seconds)

    # For callers

    @property
    def away(self) -> bool:
        """Whether wsmon does not answer, so that trials are made without it."""
        since = self._busy_since
        return bool(self._away) or (since is not None and time.monotonic() - since > UNANSWERED)

    @property
    def unheard(self) -> bool:
        """Whether wsmon does not count our calls, so that they open breakers here."""
        return time.monotonic() < self._hold_until or self.away

    def hurry(self, seconds: float) -> None:
        """Report within so many seconds."""
        at = time.monotonic() + seconds
        if at < self._report_at - 0.01:
            self._report_at = at
            self.submit(bool)

    def submit(self, job: Callable[..., Any], *args: Any) -> Told[Any]:
        """Have the reporting thread do it, next."""
        told: Told[Any] = Told()
        self._jobs.put((told, functools.partial(job, *args)))
        return told

    def _local(self, name: str) -> _Local:
        with self._lock:
            if name not in self._locals:
                self._locals[name] = _Local(name, self)
            return self._locals[name]

    def _forget(self) -> None:
        """Start anew: at first, and in a child after fork, which has no thread."""
        running = bool(self._threads)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._jobs: queue.SimpleQueue[tuple[Told[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._threads = []
        self._away = ""  # or why
        self._busy_since: float | None = None
        self._report_at = self._hold_until = NEVER
        self._stream: socket.socket | None = None
        self._delay, self._etag = 1.0, ""
        for local in self._locals.values():
            local.forget()
        if running:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if not self._threads:
                self._stop = threading.Event()
                self._connection = self._connect(timeout=TIMEOUT)
                for run in (self._work, self._listen):
                    self._threads.append(threading.Thread(target=run, args=(self._stop,), daemon=True))
                    self._threads[-1].start()

    # The thread that tells

    def _work(self, stop: threading.Event) -> None:
        """Do what callers wait for, and report in between."""
        while True:
            wait = 0.0 if stop.is_set() else max(0.0, self._report_at - time.monotonic())
            try:
                told, job = self._jobs.get(timeout=wait)
            except queue.Empty:
                _safely(self._report)
                if stop.is_set():
                    return
            else:
                if told.set_running_or_notify_cancel():
                    told.set_result(_safely(job))

    def _report(self) -> None:
        """Tell how calls ended since the last time, and renew the trials under way."""
        self._report_at = time.monotonic() + QUIET
        lost = time.monotonic() < self._hold_until
        for local in list(self._locals.values()):
            items, rejected, token = local.take()
            if token:
                self._post("trial", local, {"trial": token})
            if items or rejected:
                lost = lost or not self.tell(local, items, rejected)
                if lost:
                    local.keep(items, rejected)
                elif not all(item.outcome.ok for item in items):
                    self.hurry(FAILING)

    def tell(self, local: _Local, items: list[_Item], rejected: int, trial: str = "") -> bool:
        """Send outcomes (a trial without any was not made); False when they should be sent again."""
        body = {"outcomes": [item.body(local.word) for item in items], "rejected": rejected}
        status, headers, found = self._post("outcomes", local, {**body, "trial": trial} if trial else body)
        if status == 202:
            local.learn(found, time.monotonic())
        elif status == 404:
            local.unknown()
        elif status == 429:
            self._hold_until = time.monotonic() + _seconds(headers, 1.0)
        elif status:
            _log.warning("wsmon refused a report of %s: HTTP %s", local.name, status)
        return status not in (0, 429)

    def ask(self, local: _Local) -> tuple[str, float]:
        """Ask for a trial: its token and when to renew it, or "" and when to ask again, in seconds."""
        status, headers, found = self._post("trial", local, {})
        if status == 200:
            return found["trial"], found["lease_seconds"] / 3
        return "", max(_seconds(headers, 1.0), ASK_AGAIN) if status else ASK_AGAIN

    def end(self, local: _Local, passed: _Pass, outcome: Outcome) -> None:
        """Tell how a trial ended, or judge it here."""
        items = [] if outcome.ok is None else [_Item(outcome, time.monotonic())]
        if not self.tell(local, items, 0, passed.trial):
            local.decide(passed, outcome)

    def _post(self, what: str, local: _Local, body: Any) -> tuple[int, Any, dict[str, Any]]:
        """Status, headers and content; status 0 when wsmon does not answer as it should, and we go on alone."""
        path = f"/{what}/{urllib.parse.quote(local.name, safe='')}"
        self._busy_since = time.monotonic()
        try:
            status, headers, found = self._exchange(self._connection, "POST", path, json.dumps(body))
            why = f"HTTP {status}" if status >= 500 or status in (401, 403) else ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, headers, found, why = 0, None, {}, type(error).__name__
        self._busy_since = None
        if why and why != self._away:
            _log.warning("wsmon does not answer as it should (%s): going on alone", why)
        self._away = why
        return (0 if why else status), headers, found

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None, **more: str
    ) -> tuple[int, Any, dict[str, Any]]:
        kept = connection.sock is not None
        try:
            connection.request(method, self._root + path, body, {**self._headers, **JSON, **more})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if not (kept and isinstance(error, ConnectionError)):
                raise
            return self._exchange(connection, method, path, body, **more)  # it was kept too long: once more
        return answer.status, answer.headers, json.loads(data) if answer.status in (200, 202) else {}

    # The thread that hears

    def _listen(self, stop: threading.Event) -> None:
        """Read the stream; while there is none ask for all states, now and then."""
        while not stop.is_set():
            _safely(self._read_stream, stop)
            _safely(self._poll, stop)
            stop.wait(self._delay * random.uniform(0.7, 1.3))  # noqa: S311 - so that not all programs come back at once
            self._delay = min(self._delay * 2, POLL)

    def _read_stream(self, stop: threading.Event) -> None:
        with contextlib.closing(self._connect(timeout=SILENCE)) as connection:
            connection.request("GET", self._root + "/stream", headers=self._headers)
            self._stream = connection.sock
            answer = connection.getresponse()
            event, line = "", answer.status == 200 and answer.readline()
            while line and not stop.is_set():
                self._delay = 1.0
                field, _colon, value = line.decode().rstrip().partition(": ")
                if field == "event":
                    event = value
                elif field == "data" and event in ("breaker", "breakers"):  # wsmon sends it as one line
                    found = json.loads(value)
                    self._hear(found if event == "breakers" else [found], all_of_them=event == "breakers")
                line = answer.readline()

    def _poll(self, stop: threading.Event) -> None:
        if stop.is_set():
            return
        with contextlib.closing(self._connect(timeout=TIMEOUT)) as connection:
            status, headers, found = self._exchange(connection, "GET", "/status", **{"If-None-Match": self._etag})
        if status == 200:
            self._etag = headers.get("ETag", "")
            items = [{**item, "now": found["last_updated"]} for item in found["breakers"]]
            self._hear(items, all_of_them=True)

    def _hear(self, items: list[dict[str, Any]], *, all_of_them: bool) -> None:
        heard = time.monotonic()
        for item in items:
            self._local(item["service"]).learn(item, heard)
        if all_of_them:
            for name in set(self._locals) - {item["service"] for item in items}:
                self._locals[name].unknown()


def _safely(job: Callable[..., Any], *args: Any) -> Any:
    """The threads live on whatever wsmon answers."""
    try:
        return job(*args)
    except Exception as error:
        _log.info("wsmon is not heard or not understood: %s", type(error).__name__)
        return None
