"""The whole of a breaker, as a caller meets it, on a real store."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from monitoring.breakers import CircuitOpen, breaker, store
from monitoring.breakers.machine import Mode
from monitoring.models import Breaker, BreakerMinute, BreakerTransition, Service
from tests.monitoring.factories import make_service
from tests.whole import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("syncer")]

COUNTING = {"policy": "counting", "recovery_timeout": 0.3}
ROLLING = {"min_volume": 10, "recovery_timeout": 0.3}


class Down(Exception):
    """What a call raises whose target is down."""


def fail() -> None:
    raise Down("refused")


def works() -> str:
    return "yes"


def fails(name: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Down):
            breaker(name).call(fail)


def service(**policy: Any) -> Service:
    return make_service("vendor", breaker=policy)


def known(name: str) -> None:
    breaker(name)
    eventually(lambda: breaker(name)._local.shared, "the store was read")


def state() -> Breaker:
    return Breaker.objects.get()


def test_five_failures_open_it_at_once_and_the_store_agrees():
    service(**COUNTING)
    known("vendor")
    fails("vendor", 5)
    with pytest.raises(CircuitOpen) as refused:
        breaker("vendor").call(works)
    assert 0 < refused.value.retry_in <= 0.3
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    (row,) = BreakerTransition.objects.all()
    assert (row.old, row.new, row.trigger, row.cause) == ("CLOSED", "OPEN", "threshold", "outage")


def test_two_trials_that_succeed_close_it():
    service(**COUNTING)
    known("vendor")
    fails("vendor", 5)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    time.sleep(0.35)
    assert breaker("vendor").call(works) == "yes"
    assert state().state == "HALF_OPEN"
    assert breaker("vendor").call(works) == "yes"
    assert state().state == "CLOSED"
    assert breaker("vendor").call(works) == "yes"
    triggers = list(BreakerTransition.objects.order_by("id").values_list("trigger", flat=True))
    assert triggers == ["threshold", "trial admitted", "trial succeeded"]


def test_a_trial_that_fails_opens_it_for_longer():
    service(**COUNTING)
    known("vendor")
    fails("vendor", 5)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    time.sleep(0.35)
    fails("vendor", 1)
    row = state()
    assert (row.state, row.openings, row.open_for) == ("OPEN", 2, 0.6)
    with pytest.raises(CircuitOpen):
        breaker("vendor").call(works)


def test_a_rolling_one_opens_at_half_of_its_volume():
    service(**ROLLING)
    known("vendor")
    for _ in range(5):
        breaker("vendor").call(works)
    fails("vendor", 5)
    with pytest.raises(CircuitOpen):
        breaker("vendor").call(works)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    eventually(lambda: sum(BreakerMinute.objects.values_list("rejected", flat=True)) == 1, "the refusal was counted")
    assert [sum(column) for column in zip(*BreakerMinute.objects.values_list("ok", "fail"), strict=True)] == [5, 5]


def test_context_manager_and_decorator_and_coroutines():
    service(**COUNTING)
    known("vendor")

    @breaker("vendor")
    async def later(word: str) -> str:
        return word

    @breaker("vendor")
    def now(word: str) -> str:
        return word

    async def all_of_it() -> None:
        assert await later("a") == "a"
        assert await breaker("vendor").acall(later, "b") == "b"
        async with breaker("vendor"):
            pass
        for _ in range(5):
            with pytest.raises(Down):
                async with breaker("vendor"):
                    raise Down
        with pytest.raises(CircuitOpen):
            await later("c")

    assert now("d") == "d"
    with breaker("vendor"):
        pass
    asyncio.run(all_of_it())
    with pytest.raises(CircuitOpen), breaker("vendor"):
        pass


def test_forced_states_hold_and_expire():
    one = service(**COUNTING)
    known("vendor")
    store.force(one.id, Mode.OPEN, "ann", "moving house", 0.6)
    eventually(lambda: breaker("vendor").is_open, "everybody knows")
    with pytest.raises(CircuitOpen):
        breaker("vendor").call(works)
    eventually(lambda: not breaker("vendor").is_open, "it is over")
    eventually(lambda: state().forced == "", "the store says so too")
    assert breaker("vendor").call(works) == "yes"


def test_a_fallback_answers_instead():
    one = service(**COUNTING)
    known("vendor")
    store.force(one.id, Mode.OPEN, "ann", "moving house", None)
    eventually(lambda: breaker("vendor").is_open, "everybody knows")
    assert breaker("vendor", fallback=lambda refused: refused.name).call(works) == "vendor"


def test_a_name_that_nobody_has_is_guarded_here_alone():
    fails_ = [breaker("nobody") for _ in range(20)]
    for one in fails_:
        with pytest.raises(Down):
            one.call(fail)
    with pytest.raises(CircuitOpen):
        breaker("nobody").call(works)
