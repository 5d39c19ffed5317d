"""Pacing and retries, as tables: what waits and what was sent in, what goes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.notifications import retries
from monitoring.notifications.pacing import AT_ONCE, BURST, SINGLY, Lately, Pace, full_until, pace

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)


def ago(*seconds: float) -> list[datetime]:
    return [NOW - timedelta(seconds=one) for one in seconds]


@pytest.mark.parametrize(
    ("waiting", "lately", "expected", "until"),
    [
        (0, Lately(), Pace(), None),
        (1, Lately(), Pace(singly=1), None),
        (3, Lately(), Pace(singly=3), None),
        (4, Lately(), Pace(gather=True), None),
        (2_000, Lately(), Pace(gather=True), None),
        (1, Lately(under_way=3), Pace(), None),
        (3, Lately(under_way=2), Pace(singly=1), None),
        # A storm went out a moment ago: what comes waits for the next count.
        (1, Lately(storm_at=NOW - timedelta(seconds=10)), Pace(), NOW + timedelta(seconds=50)),
        (1, Lately(storm_at=NOW - timedelta(seconds=60)), Pace(singly=1), None),
        # Five in a minute: the sixth waits until the first of them is a minute old.
        (1, Lately(sent=ago(1, 2, 3, 4, 50)), Pace(), NOW + timedelta(seconds=10)),
        (1, Lately(sent=ago(1, 2, 3, 4, 61)), Pace(singly=1), None),
        # The clock went back: nothing is held longer than it can be.
        (1, Lately(storm_at=NOW + timedelta(hours=3)), Pace(), NOW + timedelta(seconds=60)),
    ],
)
def test_pace(waiting: int, lately: Lately, expected: Pace, until: datetime | None) -> None:
    assert (pace(waiting, lately, 60, NOW), full_until(lately, 60, NOW)) == (expected, until)


def test_above_the_cap_they_wait_until_the_hour_has_room() -> None:
    full = Lately(sent=ago(100, 200, 3000))
    assert (pace(1, full, 3, NOW), full_until(full, 3, NOW)) == (Pace(), NOW + timedelta(seconds=600))
    assert pace(5, full, 4, NOW) == Pace(gather=True)
    assert pace(2, full, 4, NOW) == Pace(singly=1)


def test_a_digest_is_one_message_from_two_on() -> None:
    assert pace(1, Lately(), 60, NOW, digest=True) == Pace(singly=1)
    assert pace(2, Lately(), 60, NOW, digest=True) == Pace(gather=True)


@given(
    st.integers(0, 5_000),
    st.lists(st.floats(0, 3600), max_size=80),
    st.integers(0, 5),
    st.none() | st.floats(0, 3600),
    st.integers(1, 100),
)
def test_it_never_sends_more_than_it_may(
    waiting: int, sent: list[float], under_way: int, storm: float | None, cap: int
) -> None:
    storm_at = None if storm is None else NOW - timedelta(seconds=storm)
    lately = Lately(sorted(ago(*sent), reverse=True), under_way, storm_at)
    found = pace(waiting, lately, cap, NOW)
    assert found.singly <= min(waiting, SINGLY, AT_ONCE - min(under_way, AT_ONCE))
    if found.singly or found.gather:
        assert len(sent) < cap
        assert sum(one <= 59.9 for one in sent) < BURST
    until = full_until(lately, cap, NOW)
    if until is not None:
        assert found == Pace()
        assert NOW < until <= NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("tries", "retry", "asked", "wait", "fall_back"),
    [
        (1, True, None, 5, False),
        (2, True, None, 30, False),
        (3, True, None, 120, True),
        (4, True, None, 600, False),
        (6, True, None, 3600, False),
        (7, True, None, None, True),
        (1, False, None, None, True),
        (1, True, 90, 90, False),
        (3, True, 1, 120, True),
        (1, True, 1e9, 3600, False),
    ],
)
def test_retries(tries: int, retry: bool, asked: float | None, wait: float | None, fall_back: bool) -> None:
    assert retries.after(tries, retry=retry, retry_after=asked) == retries.Next(wait, fall_back)
