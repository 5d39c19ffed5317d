from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.periods import PERIODS, SLOTS, Period, period

moments = st.integers(1_577_000_000, 2_208_000_000).map(lambda epoch: datetime.fromtimestamp(epoch, UTC))
periods = st.sampled_from(list(PERIODS.values()))


def test_they_are_the_four_of_the_contract():
    assert {name: one.length for name, one in PERIODS.items()} == {
        "1h": timedelta(hours=1),
        "24h": timedelta(hours=24),
        "7d": timedelta(days=7),
        "90d": timedelta(days=90),
    }
    assert period("7d") is PERIODS["7d"]


def test_there_is_no_other():
    with pytest.raises(KeyError):
        period("2w")


@given(periods, moments)
def test_the_last_slot_holds_now(one: Period, now: datetime):
    first = one.first_start(now)
    last = first + timedelta(seconds=(SLOTS - 1) * one.slot_seconds)
    assert last <= now < last + timedelta(seconds=one.slot_seconds)
    assert first.timestamp() % one.slot_seconds == 0


@given(periods, moments)
def test_the_strip_covers_the_period_but_for_the_slot_that_has_just_begun(one: Period, now: datetime):
    assert one.first_start(now) - timedelta(seconds=one.slot_seconds) <= now - one.length


@given(periods, moments, st.integers(-3, 400))
def test_a_rollup_falls_into_the_slots_it_overlaps(one: Period, now: datetime, number: int):
    first = one.first_start(now)
    begin = first.timestamp() // one.level * one.level + number * one.level
    start = datetime.fromtimestamp(begin, UTC)
    found = list(one.slots_of(start, first))
    for index in range(SLOTS):
        slot = first.timestamp() + index * one.slot_seconds
        overlaps = begin < slot + one.slot_seconds and slot < begin + one.level
        assert (index in found) is overlaps


@given(periods.filter(lambda one: one.level <= one.slot_seconds), moments, st.integers(0, 89))
def test_a_rollup_no_longer_than_a_slot_falls_into_one(one: Period, now: datetime, number: int):
    first = one.first_start(now)
    assert list(one.slots_of(first + timedelta(seconds=number * one.slot_seconds), first)) == [number]


@pytest.mark.parametrize("one", PERIODS.values(), ids=PERIODS)
def test_its_levels_fit_its_slots_and_points(one: Period):
    for level, seconds in (one.chart, one.chart_of_many, one.table):
        assert seconds % level == 0
    assert one.level <= one.slot_seconds or one.level < 2 * one.slot_seconds
    for steps in (one.chart, one.chart_of_many):
        assert 60 <= one.length.total_seconds() / steps.seconds <= 300  # a line, and no more than a chart can show
    assert 10 <= one.length.total_seconds() / one.table.seconds <= 31  # what one reads
