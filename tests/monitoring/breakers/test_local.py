"""One process's half, without a store: what callers meet."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from monitoring.breakers.guard import CircuitOpen, Guard
from monitoring.breakers.local import ASK_AGAIN, Pass, Refusal
from monitoring.breakers.machine import Mode, State, Trial, Window
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind
from monitoring.breakers.store import Counts
from tests.monitoring.breakers.fakes import NOW, ROLLING, Clock, Process, interrupt, is_open

# -- what counts ------------------------------------------------------------------------------------


def test_each_outcome_is_counted_once(rolling: Process):
    rolling.works(3)
    rolling.fails(1)
    with pytest.raises(KeyboardInterrupt):
        rolling.guard.call(interrupt)
    found = rolling.counts()
    assert (found.ok, found.fail, found.rejected) == (3, 1, 0)
    assert rolling.counts() == Counts()


def test_eight_threads_lose_no_count(rolling: Process):
    def work() -> None:
        rolling.works(1_000)

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work) for _ in range(8)]
        seen = [rolling.counts().ok for _ in range(50)]  # while they go on
        for one in done:
            one.result()
    assert sum(seen) + rolling.counts().ok == 8_000


def test_a_late_outcome_of_an_older_generation_counts_nothing(rolling: Process):
    slow = rolling.local.era
    rolling.learn(is_open())
    rolling.learn(State(generation=3))
    rolling.local.finished(slow, FAIL)
    slow.ok()
    assert rolling.counts() == Counts()


def test_a_late_success_does_not_close_one_that_is_open(rolling: Process):
    slow = rolling.guard.trial()
    assert slow is not None
    rolling.learn(is_open())
    rolling.guard.end(slow, OK)
    assert rolling.refuses()
    assert rolling.store.ended == []


def test_failures_that_began_together_all_count(counting: Process):
    """The first one changes how successes are counted, and must not make the others stale."""
    passes = [counting.guard.trial() for _ in range(3)]
    for one in passes:
        assert one is not None
        counting.guard.end(one, FAIL)
    assert counting.refuses()


def test_a_success_that_began_before_the_first_failure_takes_it_away(counting: Process):
    def meanwhile() -> None:
        counting.fails(1)

    counting.guard.call(meanwhile)
    assert counting.local.take_fold().apply(0) == (0, 1)


def test_a_counting_one_that_is_back_at_nothing_counts_by_number_again(counting: Process):
    counting.fails(1)
    first = counting.local.era
    assert not first.plain
    counting.works()
    counting.local.take_fold()
    counting.learn()
    assert counting.local.era is first
    assert counting.local.era.plain
    counting.works(2)
    assert counting.counts().ok == 3


# (what, options of the guard, what is raised, (ok, fail))
EXCLUDED = [
    ("a type", (ValueError,), ValueError(), (0, 0)),
    ("a subclass of it", (Exception,), ValueError(), (0, 0)),
    ("another type", (KeyError,), ValueError(), (0, 1)),
    ("a function that says yes", (lambda error: True,), ValueError(), (0, 0)),
    ("a function that says no", (lambda error: False,), ValueError(), (0, 1)),
    ("a function that is broken", (lambda error: error.nothing,), ValueError(), (0, 1)),
    ("the end of the program", (), SystemExit(), (0, 0)),
    ("a cancelled call", (), asyncio.CancelledError(), (0, 0)),
]


@pytest.mark.parametrize(
    ("exclude", "error", "expected"), [one[1:] for one in EXCLUDED], ids=[one[0] for one in EXCLUDED]
)
def test_what_is_excluded_counts_neither_way(
    rolling: Process, exclude: Any, error: BaseException, expected: tuple[int, int]
):
    def raises() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Guard(rolling.local, exclude).call(raises)
    assert caught.value is error
    found = rolling.counts()
    assert (found.ok, found.fail) == expected


def test_answers_count_by_their_status(rolling: Process):
    guard = Guard(rolling.local, answers=True)
    for status in (200, 404, 429, 401, 503):
        guard.call(SimpleNamespace, status_code=status)
    found = rolling.counts()
    assert (found.ok, found.fail, found.limited, found.credential) == (1, 3, 1, 1)


def test_a_call_that_takes_too_long_counts_as_failed(clock: Clock):
    def takes(seconds: float) -> None:
        clock.now += seconds

    one = Process(clock, replace(ROLLING, slow_over=1.0))
    one.learn()
    one.guard.call(takes, 0.5)
    one.guard.call(takes, 1.5)
    Guard(one.local, slow_over=2.0).call(takes, 1.5)  # this use's own limit
    with Guard(one.local, slow_over=0.1):
        takes(0.2)
    found = one.counts()
    assert (found.ok, found.fail) == (2, 2)


def test_a_retry_after_is_told_and_capped(rolling: Process):
    for seconds in (5.0, 1e9, 7.0):
        rolling.local.finished(rolling.local.era, Ending(Kind.LIMITED, seconds))
    found = rolling.counts()
    assert (found.retry_after, found.limited) == (3600.0, 3)


# -- opening, and trials ----------------------------------------------------------------------------


def test_it_opens_on_the_calls_of_all_and_its_own(rolling: Process):
    rolling.learn(window=Window(ok=1, fail=2))
    rolling.fails(1)
    assert rolling.refuses()
    assert rolling.local._opened
    assert rolling.store.woken == 1
    assert rolling.counts().rejected == 1


def test_one_that_the_store_does_not_open_stands_down(rolling: Process, clock: Clock):
    rolling.fails(4)
    assert rolling.refuses()
    before = clock.now
    rolling.local.stand_down(before)  # it was opened after the store was asked
    assert rolling.refuses()
    clock.now += 0.1
    rolling.local.stand_down(clock.now)
    assert not rolling.refuses()


def test_a_refusal_says_how_long(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    clock.now += 10
    with pytest.raises(CircuitOpen, match=r"^vendor: the circuit breaker is open, try again in 20.0 s$") as refused:
        rolling.guard.call(interrupt)
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.name, again.retry_in, str(again)) == ("vendor", 20.0, str(refused.value))


def test_a_trial_is_asked_of_the_store_and_told_to_it(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    clock.now += 30
    rolling.works()
    assert rolling.store.ended == [(rolling.store.asked[0], OK)]
    with pytest.raises(ZeroDivisionError):
        rolling.guard.call(lambda: 1 / 0)
    assert rolling.store.ended[1] == (rolling.store.asked[1], FAIL)
    assert (rolling.counts().ok, rolling.store.woken) == (1, 0)


def test_a_trial_that_is_refused_is_not_asked_for_again_at_once(rolling: Process, clock: Clock):
    rolling.store.grants = False
    rolling.learn(is_open())
    clock.now += 30
    assert [rolling.refuses() for _ in range(5)] == [True] * 5
    assert len(rolling.store.asked) == 1
    clock.now += ASK_AGAIN
    assert rolling.refuses()
    assert len(rolling.store.asked) == 2
    assert rolling.counts().rejected == 6


def test_only_one_caller_at_a_time_waits_for_the_store(rolling: Process, clock: Clock):
    rolling.store.slow = threading.Event()
    rolling.learn(is_open())
    clock.now += 30
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(rolling.local.enter)
        while not rolling.store.asked:
            time.sleep(0.001)
        assert isinstance(rolling.local.enter(), Refusal)
        assert isinstance(rolling.local.ask(), Refusal)
        rolling.store.slow.set()
        assert isinstance(first.result(), Pass)
    assert len(rolling.store.asked) == 1


def test_a_critical_day_begins_while_it_is_open(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    clock.now += 16
    assert rolling.refuses()
    rolling.learn(is_open(), factor=0.5, now=NOW + timedelta(seconds=16))
    assert not rolling.refuses()
    assert len(rolling.store.asked) == 1


def test_a_critical_day_also_shortens_what_was_opened_here(rolling: Process, clock: Clock):
    rolling.learn(factor=0.5)
    rolling.store.leave()
    clock.now += 3
    rolling.fails(4)
    clock.now += 14.9
    assert rolling.refuses()
    clock.now += 0.2
    rolling.works()


def test_no_lock_is_held_around_the_callers_function():
    one = Process(Clock())
    one.learn()
    together = threading.Barrier(8)

    def meet() -> int:
        return together.wait(10)  # all eight must be inside at once

    for _ in ("closed", "with a deadline"):
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(lambda _: one.guard.call(meet), range(8))) == list(range(8))
        one.guard = Guard(one.local, slow_over=60.0)


# -- coroutines -------------------------------------------------------------------------------------


async def forever() -> None:
    await asyncio.sleep(3600)


async def cancelled(call: Any) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_coroutine_counts_nowhere(rolling: Process):
    asyncio.run(cancelled(rolling.guard.acall(forever)))
    assert rolling.counts() == Counts()


@pytest.mark.parametrize("how", ["acall", "async with"])
def test_a_cancelled_trial_gives_its_place_back(rolling: Process, clock: Clock, how: str):
    async def block() -> None:
        async with rolling.guard:
            await forever()

    rolling.learn(is_open())
    clock.now += 30
    asyncio.run(cancelled(rolling.guard.acall(forever) if how == "acall" else block()))
    assert rolling.store.ended == [(rolling.store.asked[0], NEUTRAL)]
    assert rolling.counts() == Counts()


def test_a_coroutine_that_is_cancelled_while_it_asks_gives_back_what_it_is_granted(rolling: Process, clock: Clock):
    async def story() -> None:
        await cancelled(rolling.guard.acall(forever))
        assert rolling.store.ended == []
        slow.set()
        while not rolling.store.ended:
            await asyncio.sleep(0.001)

    slow = rolling.store.slow = threading.Event()
    rolling.learn(is_open())
    clock.now += 30
    asyncio.run(story())
    assert rolling.store.ended == [(rolling.store.asked[0], NEUTRAL)]
    rolling.store.slow = None
    rolling.works()


def test_a_coroutine_that_is_refused_needs_no_thread(rolling: Process, monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        with pytest.raises(CircuitOpen):
            await rolling.guard.acall(forever)
        with pytest.raises(CircuitOpen):
            async with rolling.guard:
                pass

    rolling.learn(is_open())
    monkeypatch.setattr(asyncio, "to_thread", None)
    asyncio.run(story())


def test_coroutines_are_counted_and_tried(rolling: Process, clock: Clock):
    async def story() -> None:
        guard = Guard(rolling.local, slow_over=60.0)
        for one in (rolling.guard, guard):
            with pytest.raises(ZeroDivisionError):
                await one.acall(breaks)
            assert await one.acall(answers) == "yes"
        rolling.learn(is_open())
        clock.now += 30
        assert await rolling.guard.acall(answers) == "yes"
        with pytest.raises(ZeroDivisionError):
            await rolling.guard.acall(breaks)

    async def breaks() -> None:
        raise ZeroDivisionError

    async def answers() -> str:
        return "yes"

    asyncio.run(story())
    assert [ending for _token, ending in rolling.store.ended] == [OK, FAIL]
    found = rolling.counts()
    assert (found.ok, found.fail) == (3, 3)


def test_a_fallback_of_a_coroutine_may_be_one(rolling: Process):
    async def later(refused: CircuitOpen) -> str:
        return refused.name

    rolling.learn(is_open())
    assert asyncio.run(Guard(rolling.local, fallback=later).acall(forever)) == "vendor"
    assert asyncio.run(Guard(rolling.local, fallback=str).acall(forever)).startswith("vendor: ")


# -- blocks -----------------------------------------------------------------------------------------


def test_blocks_that_end_in_another_order_than_they_began_are_counted_where_they_belong(clock: Clock):
    one, other = Process(clock), Process(clock)
    one.learn()
    other.learn()

    def block(guard: Guard) -> Iterator[None]:
        with guard:
            yield

    first, second = block(one.guard), block(other.guard)
    next(first)
    next(second)
    with pytest.raises(ZeroDivisionError):
        first.throw(ZeroDivisionError())
    assert list(second) == []
    assert (one.counts(), other.counts()) == (Counts(fail=1), Counts(ok=1))


def test_a_block_that_ends_in_another_context_fails_nothing(rolling: Process):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(rolling.guard.__enter__).result()
    rolling.guard.__exit__(None, None, None)
    assert rolling.counts() == Counts()


def test_a_trial_under_way_elsewhere_is_for_the_store_to_know(rolling: Process, clock: Clock):
    rolling.store.grants = False
    rolling.learn(replace(is_open(), mode=Mode.HALF_OPEN, trials=(Trial("other", NOW),)))
    clock.now += 30
    assert rolling.refuses()
    assert len(rolling.store.asked) == 1
