from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from monitoring.lanes import LOOK_AHEAD, Lane


def test_it_starts_no_more_than_its_width_at_once():
    lane: Lane[str] = Lane(2)
    assert [lane.admit(name) for name in "abc"] == [True, True, False]
    assert (lane.running, list(lane.waiting), lane.load) == (2, ["c"], 3)


def test_who_waits_longest_comes_next():
    lane: Lane[str] = Lane(1)
    for name in "abc":
        lane.admit(name)
    assert [lane.finish(0.1), lane.finish(0.1), lane.finish(0.1)] == ["b", "c", None]
    assert lane.load == 0


def test_what_is_claimed_and_not_yet_due_takes_up_room():
    lane: Lane[str] = Lane(2)
    before = lane.room
    lane.expected += 3
    assert lane.room == before - 3


def test_a_slow_lane_claims_no_more_than_twice_its_width():
    lane: Lane[str] = Lane(4, seconds=30)
    assert lane.room == 8
    lane.expected = 20
    assert lane.room == 0


def test_a_quick_lane_claims_what_it_gets_done_soon():
    assert Lane(4, seconds=LOOK_AHEAD / 10).room == 40
    assert Lane(4, seconds=0.0).room == 400  # and never without bounds


def test_it_learns_how_long_a_probe_takes():
    lane: Lane[str] = Lane(1)
    for _ in range(50):
        lane.admit("x")
        lane.finish(5.0)
    assert 4.9 < lane.seconds < 5.0


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_none_is_lost_and_none_runs_twice(width: int, arrivals: list[bool]):
    lane: Lane[int] = Lane(width)
    started: list[int] = []
    order: deque[int] = deque()
    for number, arrives in enumerate(arrivals):
        if arrives:
            order.append(number)
            if lane.admit(number):
                started.append(number)
        elif lane.running:
            follower = lane.finish(0.1)
            if follower is not None:
                started.append(follower)
        assert lane.running <= width
    assert started + list(lane.waiting) == list(order)
