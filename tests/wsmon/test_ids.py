"""wsmon/ids.py: identifiers that sort by time."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from wsmon.ids import earliest, uuid7

moments = st.floats(min_value=0, max_value=4_000_000_000, allow_nan=False)


@given(moments)
def test_it_is_a_uuid_of_version_7_that_tells_its_millisecond(seconds: float):
    one = uuid7(seconds)
    assert (one.version, one.variant) == (7, uuid.RFC_4122)
    assert one.int >> 80 == int(seconds * 1000)


@given(moments, st.floats(min_value=0.002, max_value=1e6))
def test_later_ones_are_greater_whatever_their_random_part(seconds: float, later: float):
    assert uuid7(seconds) < uuid7(seconds + later)
    assert str(uuid7(seconds)) < str(uuid7(seconds + later))  # as PostgreSQL and people sort them


@given(moments)
def test_the_earliest_of_a_moment_is_before_all_that_are_made_then_and_after_all_before(seconds: float):
    first = earliest(seconds)
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert uuid7(max(0.0, seconds - 0.002)) < first or seconds < 0.002
    assert first <= uuid7(seconds)


def test_without_a_moment_it_is_of_now_and_no_two_are_the_same():
    made = [uuid7() for _ in range(2_000)]
    assert len(set(made)) == 2_000
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)
