"""Rate limits in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from wsmon import throttle
from wsmon.throttle import Rate


def test_it_lets_a_burst_through_and_then_makes_wait() -> None:
    rate = Rate(3, 60.0)
    assert [rate.take("a", now=100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert rate.take("a", now=100.0) == 20.0
    assert rate.take("a", now=119.0) == 1.0
    assert rate.take("a", now=120.0) == 0.0


def test_it_counts_each_key_by_itself() -> None:
    rate = Rate(1, 60.0)
    assert rate.take("a", now=0.0) == 0.0
    assert rate.take("b", now=0.0) == 0.0
    assert rate.take("a", now=0.0) > 0


def test_it_does_not_count_what_it_refused() -> None:
    rate = Rate(1, 60.0)
    rate.take("a", now=0.0)
    for _ in range(100):
        rate.take("a", now=1.0)
    assert rate.take("a", now=60.0) == 0.0


def test_it_looks_without_counting() -> None:
    rate = Rate(1, 60.0)
    assert [rate.peek("a", now=0.0), rate.peek("a", now=0.0), rate.take("a", now=0.0)] == [0.0, 0.0, 0.0]
    assert rate.peek("a", now=30.0) == 30.0


def test_it_forgets_the_key_unused_for_longest_when_it_has_too_many() -> None:
    rate = Rate(1, 60.0)
    for number in range(throttle._MOST_KEYS + 1):
        assert rate.take(str(number), now=0.0) == 0.0
    assert len(rate._empty_at) == throttle._MOST_KEYS
    assert rate.take("0", now=0.0) == 0.0
    assert rate.take(str(throttle._MOST_KEYS), now=0.0) > 0


def test_it_counts_right_from_many_threads() -> None:
    rate = Rate(50, 3600.0)
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: rate.take("a", now=0.0), range(400)))
    assert waits.count(0.0) == 50


@given(st.lists(st.floats(0, 30), max_size=200), st.integers(1, 20))
def test_it_never_lets_more_through_than_a_burst_and_the_refill(pauses: list[float], count: int) -> None:
    rate, now, allowed = Rate(count, 60.0), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += rate.take("a", now=now) == 0.0
    assert allowed <= count + now * count / 60.0 + 1e-6
