"""What callers use: ``breaker("stripe").call(fn, ...)``, ``with breaker("stripe"):``, ``@breaker("stripe")``.

Each also for coroutines: ``await breaker("stripe").acall(fn, ...)``, ``async with``, and the decorator by
itself knows a coroutine function.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

import structlog

from monitoring.breakers import judging
from monitoring.breakers.local import ASK_SECONDS, LocalBreaker, Pass, Refusal
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind
from monitoring.breakers.sync import syncer

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Excluded = tuple[type[BaseException] | Callable[[BaseException], bool], ...]


class CircuitOpen(Exception):
    """The call was not made: the breaker is open, or another trial is running.

    ``retry_in``: seconds until the next trial may be made. Says nothing of why it is open: that may come
    from another process, and callers show exceptions to people.
    """

    def __init__(self, name: str, retry_in: float) -> None:
        super().__init__(name, retry_in)
        self.name = name
        self.retry_in = retry_in

    def __str__(self) -> str:
        return f"{self.name}: the circuit breaker is open, try again in {self.retry_in:.1f} s"


_entered: ContextVar[tuple[tuple[Guard, Pass, float], ...]] = ContextVar("wsmon_breaker_entered", default=())
"""The blocks that this thread or task is in, the innermost last: a guard is one for all of them."""


class Guard:
    """One breaker, as one place in a program uses it. Thread-safe, and may be kept for good.

    ``exclude``: exceptions that count neither way (types, or functions of the exception that return True).
    ``answers``: whether what a call returns counts by its HTTP status (``status_code``, ``status``).
    ``slow_over``: seconds over which a call counts as failed, instead of the policy's.
    ``fallback``: called with the :class:`CircuitOpen` instead of raising it; its result is the call's.
    """

    __slots__ = ("_answers", "_exclude", "_fallback", "_local", "_plain", "_slow_over")

    def __init__(
        self,
        local: LocalBreaker,
        exclude: Excluded = (),
        *,
        answers: bool = False,
        slow_over: float | None = None,
        fallback: Callable[[CircuitOpen], Any] | None = None,
    ) -> None:
        self._local = local
        self._exclude = exclude
        self._answers = answers
        self._slow_over = slow_over
        self._fallback = fallback
        self._plain = not answers and slow_over is None

    @property
    def name(self) -> str:
        """The service's, or a circuit's such as "destination:app"."""
        return self._local.name

    @property
    def is_open(self) -> bool:
        """Whether a call would be refused now, as far as this process knows; a trial may still be let through."""
        return not self._local.era.closed

    @property
    def retry_in(self) -> float | None:
        """None while calls pass, else seconds until :meth:`trial` is worth a try, 0 being now. Does no I/O.

        As far as this process knows, see :attr:`known`. It may become sooner, so look again now and then.
        """
        return self._local.retry_in

    @property
    def known(self) -> bool:
        """Whether the shared state has reached this process. Until it has, calls pass and only its own count."""
        return self._local.known

    def wait_known(self, timeout: float) -> bool:
        """Wait until it is known, ``timeout`` seconds at most; whether it is. A process needs it once per breaker."""
        return self._local.wait_known(timeout)

    @property
    def is_forced(self) -> bool:
        """Whether a person's word stands above the breaker's own state, as far as this process knows."""
        shared = self._local.shared
        return bool(shared and shared.state.override)

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn`` if the breaker lets it through; raise :class:`CircuitOpen` if not."""
        local = self._local
        era = local.era
        plain = era.plain and self._plain
        if not plain:
            return self._call(fn, *args, **kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            local.finished(era, self._of(error))
            raise
        if era.plain:
            era.ok()
        else:  # since when a failure was counted, and each success takes one away
            local.finished(era, OK)
        return result

    def _call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            passed = self._enter()
        except CircuitOpen as refused:
            if self._fallback is None:
                raise
            return cast(T, self._fallback(refused))
        started = time.monotonic()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._leave(passed, self._of(error), started)
            raise
        self._leave(passed, self._of_answer(result), started)
        return result

    async def acall(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for a coroutine function."""
        local = self._local
        era = local.era
        plain = era.plain and self._plain
        if not plain:
            return await self._acall(fn, *args, **kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            local.finished(era, self._of(error))
            raise
        if era.plain:
            era.ok()
        else:  # since when a failure was counted, and each success takes one away
            local.finished(era, OK)
        return result

    async def _acall(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            passed = await self._aenter()
        except CircuitOpen as refused:
            if self._fallback is None:
                raise
            found = self._fallback(refused)
            return cast(T, await found if inspect.isawaitable(found) else found)
        started = time.monotonic()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            await self._aleave(passed, self._of(error), started)
            raise
        await self._aleave(passed, self._of_answer(result), started)
        return result

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Guard every call of a function or coroutine function."""
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def guarded_later(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.acall(fn, *args, **kwargs)

            return cast(Callable[P, T], guarded_later)

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(fn, *args, **kwargs)

        return guarded

    def __enter__(self) -> Guard:
        """Enter if the breaker lets the block through; raise :class:`CircuitOpen` if not (there is no fallback)."""
        self._push(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count how the block ended."""
        for passed, started in self._pop():
            self._leave(passed, OK if error is None else self._of(error), started)

    async def __aenter__(self) -> Guard:
        """The same in a coroutine."""
        self._push(await self._aenter())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count how the block ended."""
        for passed, started in self._pop():
            await self._aleave(passed, OK if error is None else self._of(error), started)

    def trial(self) -> Pass | None:
        """A pass for a call that is made elsewhere, to be ended with :meth:`end`; None when refused."""
        passed = self._local.enter()
        return None if isinstance(passed, Refusal) else passed

    def end(self, passed: Pass, ending: Ending) -> None:
        """Tell how a call with a pass of :meth:`trial` ended; of a trial, wait a moment until it is known."""
        known = self._tell(passed, ending)
        if known is not None and ending.kind is not Kind.NEUTRAL:
            known.wait(ASK_SECONDS)

    def of_status(self, status: int, retry_after: float | None = None) -> Ending:
        """What an answer of that HTTP status counts as, by this breaker's policy."""
        return self._local.policy.of_status(status, retry_after)

    # -- parts --------------------------------------------------------------------------------------

    def _enter(self) -> Pass:
        return self._passed(self._local.enter())

    async def _aenter(self) -> Pass:
        found = self._local.knock()
        return self._passed(await self._ask_later() if found is None else found)

    async def _ask_later(self) -> Pass | Refusal:
        """Ask the store in another thread. A caller that is cancelled meanwhile makes no trial: it is given back."""
        lock = threading.Lock()
        given_up, answers = False, []

        def ask() -> Pass | Refusal:
            answer = self._local.ask()
            with lock:
                answers.append(answer)
            if given_up:
                give_back()
            return answer

        def give_back() -> None:
            with lock:
                answer = answers.pop() if answers else None
            if isinstance(answer, Pass):
                self._tell(answer, NEUTRAL)

        try:
            return await asyncio.to_thread(ask)
        except BaseException:
            given_up = True
            give_back()
            raise

    def _passed(self, found: Pass | Refusal) -> Pass:
        if isinstance(found, Refusal):
            raise CircuitOpen(self._local.name, found.retry_in) from None
        return found

    def _push(self, passed: Pass) -> None:
        _entered.set((*_entered.get(), (self, passed, time.monotonic())))

    def _pop(self) -> list[tuple[Pass, float]]:
        """The innermost block of this guard: blocks of generators may end in another order than they began.

        None at all in a block that ends in another context than it began in.
        """
        entered = _entered.get()
        mine = [number for number, one in enumerate(entered) if one[0] is self][-1:]
        _entered.set(tuple(one for number, one in enumerate(entered) if number not in mine))
        return [entered[number][1:] for number in mine]

    def _tell(self, passed: Pass, ending: Ending) -> threading.Event | None:
        if passed.token:
            return self._local.ended(passed, ending)
        self._local.finished(passed.era, ending)
        return None

    def _leave(self, passed: Pass, ending: Ending, started: float) -> None:
        self.end(passed, self._timed(ending, time.monotonic() - started))

    async def _aleave(self, passed: Pass, ending: Ending, started: float) -> None:
        timed = self._timed(ending, time.monotonic() - started)
        known = self._tell(passed, timed)
        if known is not None and timed.kind is not Kind.NEUTRAL:
            await asyncio.to_thread(known.wait, ASK_SECONDS)

    def _timed(self, ending: Ending, seconds: float) -> Ending:
        if self._slow_over is not None:
            return FAIL if ending.kind is Kind.OK and seconds > self._slow_over else ending
        return self._local.policy.timed(ending, seconds)

    def _of(self, error: BaseException) -> Ending:
        try:
            for one in self._exclude:
                if isinstance(error, one) if isinstance(one, type) else one(error):
                    return NEUTRAL
            return judging.of_exception(error, self._local.policy)
        except Exception:  # a caller's function, or a property of the exception
            log.exception("breakers: an exception could not be judged", breaker=self.name)
            return FAIL

    def _of_answer(self, answer: Any) -> Ending:
        return judging.of_answer(answer, self._local.policy) if self._answers else OK


_plain: dict[str, Guard] = {}


def breaker(
    name: str,
    *,
    exclude: Excluded = (),
    answers: bool = False,
    slow_over: float | None = None,
    fallback: Callable[[CircuitOpen], Any] | None = None,
) -> Guard:
    """The breaker of the service or circuit of that name; see :class:`Guard` for what may be said of its use.

    A name that nothing has gets a breaker of this process alone, with the default policy: a breaker
    never fails a call by itself.
    """
    if not exclude and not answers and slow_over is None and fallback is None:
        found = _plain.get(name)
        if found is None:
            found = _plain.setdefault(name, Guard(syncer.breaker(name)))
        return found
    return Guard(syncer.breaker(name), exclude, answers=answers, slow_over=slow_over, fallback=fallback)
