"""webhooks/usual.py: what is usual, and what is silence. Pure decisions, tested by sequences and properties."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import usual
from webhooks.usual import HOUR, SHORTEST, WATCH_GAP, WEEK_HOURS, Usual, Watched, learn_weeks, learn_young, look

MONDAY = datetime(2031, 5, 5, tzinfo=UTC)
SATURDAY = MONDAY + timedelta(days=5)
MINUTE = timedelta(minutes=1)
WEEK = timedelta(weeks=1)

flat = st.builds(
    lambda rate, weeks, spread: Usual((rate,) * WEEK_HOURS, weeks, spread),
    st.floats(0, 5_000),
    st.integers(0, 8),
    st.floats(1, 20),
)
moments = st.datetimes(datetime(2030, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def weekly(rate: Callable[[int, int], float]) -> Usual:
    """Usual by (day of week, hour)."""
    return Usual(tuple(rate(slot // 24, slot % 24) for slot in range(WEEK_HOURS)), 8)


def shop(day: int, hour: int) -> float:
    """60 an hour from 8 to 20 o'clock, twice that on Saturdays, nothing at night and on Sundays."""
    return 0.0 if day == 6 or not 8 <= hour < 20 else 120.0 if day == 5 else 60.0


class Sequence:
    """Looks once a minute, feeding one event at each moment it is told to."""

    def __init__(self, known: Usual | None, now: datetime) -> None:
        self.known, self.now = known, now
        self.state = look(Watched(), known, now, now)

    def run(self, until: datetime, *, events: bool) -> Sequence:
        while self.now < until:
            self.now += MINUTE
            self.state = look(self.state, self.known, self.now if events else None, self.now)
        return self

    def silent(self) -> bool:
        return self.state.silent_since is not None


def counts(
    rate: Callable[[int, int], float], weeks: float, end: datetime = MONDAY, seed: int = 1
) -> dict[datetime, int]:
    """Poisson traffic in the hours before ``end``."""
    chance = random.Random(seed)
    found = {}
    for number in range(int(weeks * WEEK_HOURS)):
        at = end - (number + 1) * HOUR
        mean = rate(at.weekday(), at.hour)
        events = _poisson(chance, mean)
        if events:
            found[at] = events
    return found


def _poisson(chance: random.Random, mean: float) -> int:
    if mean > 200:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    total, limit = 0, math.exp(-mean)
    product = chance.random()
    while product > limit:
        total += 1
        product *= chance.random()
    return total


# Sequences ----------------------------------------------------------------------------------------


def test_a_saturday_drop_is_noticed_within_a_quarter_of_an_hour() -> None:
    sequence = Sequence(weekly(shop), SATURDAY + 7 * HOUR).run(SATURDAY + 14 * HOUR, events=True)
    assert not sequence.silent()
    sequence.run(SATURDAY + 14 * HOUR + 5 * MINUTE, events=False)
    assert not sequence.silent()
    sequence.run(SATURDAY + 14 * HOUR + 15 * MINUTE, events=False)
    assert sequence.silent()
    assert sequence.state.silent_since == SATURDAY + 14 * HOUR


def test_nights_and_sundays_are_quiet() -> None:
    known = weekly(shop)
    sequence = Sequence(known, MONDAY + 8 * HOUR)
    for day in range(14):
        morning = MONDAY + timedelta(days=day, hours=8)
        closed = day % 7 == 6
        sequence.run(morning, events=False)
        assert not sequence.silent(), day
        sequence.run(morning + 12 * HOUR, events=not closed)
        assert not sequence.silent(), day


def test_what_stopped_at_closing_time_is_noticed_soon_after_opening() -> None:
    sequence = Sequence(weekly(shop), MONDAY + 8 * HOUR).run(MONDAY + 19 * HOUR + 55 * MINUTE, events=True)
    sequence.run(MONDAY + timedelta(days=1, hours=8), events=False)
    assert not sequence.silent()
    sequence.run(MONDAY + timedelta(days=1, hours=8, minutes=20), events=False)
    assert sequence.silent()


def test_one_event_ends_it_and_it_begins_anew() -> None:
    sequence = Sequence(weekly(shop), SATURDAY + 10 * HOUR).run(SATURDAY + 11 * HOUR, events=False)
    assert sequence.silent()
    sequence.run(SATURDAY + 11 * HOUR + MINUTE, events=True)
    assert not sequence.silent()
    assert sequence.state.expected == 0
    sequence.run(SATURDAY + 12 * HOUR, events=False)
    assert sequence.silent()


def test_it_stays_silent_over_the_night() -> None:
    sequence = Sequence(weekly(shop), SATURDAY + 18 * HOUR).run(SATURDAY + 20 * HOUR, events=False)
    assert sequence.silent()
    assert sequence.run(SATURDAY + 30 * HOUR, events=False).silent()


def test_the_time_in_which_wsmon_did_not_run_does_not_count() -> None:
    sequence = Sequence(weekly(shop), SATURDAY + 9 * HOUR).run(SATURDAY + 9 * HOUR + 2 * MINUTE, events=False)
    sequence.now += 5 * HOUR
    sequence.run(sequence.now + 4 * MINUTE, events=False)
    assert not sequence.silent()
    sequence.run(sequence.now + 15 * MINUTE, events=False)
    assert sequence.silent()


def test_the_first_look_expects_nothing_of_the_time_before_it() -> None:
    state = look(Watched(), weekly(shop), SATURDAY, SATURDAY + 12 * HOUR)
    assert (state.expected, state.silent_since) == (0, None)


def test_what_nothing_is_known_of_is_never_silent() -> None:
    assert not Sequence(None, SATURDAY).run(SATURDAY + 48 * HOUR, events=False).silent()
    assert look(Watched(), weekly(shop), None, SATURDAY) == Watched(None, SATURDAY)


def test_what_has_become_usual_is_no_silence_any_more() -> None:
    sequence = Sequence(weekly(shop), SATURDAY + 9 * HOUR).run(SATURDAY + 12 * HOUR, events=False)
    assert sequence.silent()
    sequence.known = Usual((0.0,) * WEEK_HOURS, 8)
    assert not sequence.run(sequence.now + MINUTE, events=False).silent()


def test_very_busy_traffic_may_pause_for_minutes() -> None:
    known = Usual((100_000.0,) * WEEK_HOURS, 8)
    sequence = Sequence(known, MONDAY).run(MONDAY + SHORTEST - MINUTE, events=False)
    assert not sequence.silent()
    assert sequence.run(MONDAY + SHORTEST, events=False).silent()


# Properties ---------------------------------------------------------------------------------------


@given(
    flat, moments, st.timedeltas(timedelta(0), timedelta(days=30)), st.timedeltas(timedelta(0), timedelta(days=30))
)
def test_expectations_add_up(known: Usual, start: datetime, first: timedelta, second: timedelta) -> None:
    whole = known.between(start, start + first + second)
    parts = known.between(start, start + first) + known.between(start + first, start + first + second)
    assert whole == pytest.approx(parts, abs=1e-6, rel=1e-9)
    assert whole == pytest.approx(known.rates[0] * ((first + second) / HOUR), abs=1e-6, rel=1e-9)


@given(st.lists(st.floats(0, 100), min_size=WEEK_HOURS, max_size=WEEK_HOURS), moments, st.integers(0, 5))
def test_any_whole_weeks_hold_the_weekly_number(rates: list[float], start: datetime, weeks: int) -> None:
    known = Usual(tuple(rates), 8)
    assert known.between(start, start + weeks * WEEK) == pytest.approx(weeks * known.weekly)


@given(flat, moments, st.lists(st.integers(0, 200), max_size=30))
def test_nothing_is_silent_before_enough_is_missing(known: Usual, start: datetime, gaps: list[int]) -> None:
    state, now = look(Watched(), known, start, start), start
    for gap in gaps:
        now += gap * timedelta(seconds=1)
        state = look(state, known, None, now)
        if state.silent_since:
            assert state.expected >= usual.LEAST_EXPECTED
            assert now - start >= SHORTEST
            assert known.weekly / known.spread * math.exp(-state.expected / known.spread) <= usual.CHANCE * 1.0001
        assert state.expected <= known.between(start, now) + 1e-6


@given(flat, st.floats(1, 10))
def test_more_traffic_and_more_bursts_need_more_to_be_missing(known: Usual, factor: float) -> None:
    busier = replace(known, rates=tuple(rate * factor for rate in known.rates))
    assert usual.threshold(busier) >= usual.threshold(known) - 1e-9
    assert usual.threshold(replace(known, weeks=0)) >= usual.threshold(known)


@given(flat, moments, st.timedeltas(WATCH_GAP + timedelta(seconds=1), timedelta(days=9)))
def test_a_gap_of_wsmon_itself_never_raises(known: Usual, start: datetime, gap: timedelta) -> None:
    state = look(Watched(), known, start, start)
    assert look(state, known, None, start + gap).silent_since is None


# Learning -----------------------------------------------------------------------------------------


def test_the_usual_is_learned_from_weeks() -> None:
    known = learn_weeks(MONDAY - 8 * WEEK, MONDAY, counts(shop, 8))
    assert known is not None
    assert known.weeks == 8
    assert known.rates[12] == pytest.approx(60, rel=0.2)
    assert known.rates[5 * 24 + 12] == pytest.approx(120, rel=0.2)
    assert known.rates[3] == known.rates[6 * 24 + 12] == 0
    assert known.spread < 2


def test_one_week_without_traffic_and_one_burst_move_nothing() -> None:
    hours = counts(shop, 8)
    before = learn_weeks(MONDAY - 8 * WEEK, MONDAY, hours)
    for number in range(WEEK_HOURS):
        hours.pop(MONDAY - 3 * WEEK + number * HOUR, None)
    hours[MONDAY - WEEK + 12 * HOUR] = 100_000
    after = learn_weeks(MONDAY - 8 * WEEK, MONDAY, hours)
    assert before is not None
    assert after is not None
    assert after.rates[12] == pytest.approx(before.rates[12], rel=0.2)
    assert after.rates[36] == pytest.approx(before.rates[36], rel=0.2)


def test_a_burst_in_an_hour_that_is_always_empty_is_not_expected_again() -> None:
    hours = counts(shop, 8) | {MONDAY - WEEK + 3 * HOUR: 500}
    known = learn_weeks(MONDAY - 8 * WEEK, MONDAY, hours)
    assert known is not None
    assert known.rates[2] == known.rates[3] == known.rates[4] == 0


def test_sparse_but_steady_traffic_is_learned_too() -> None:
    known = learn_weeks(MONDAY - 8 * WEEK, MONDAY, counts(lambda _day, _hour: 1.0, 8))
    assert known is not None
    assert 80 < known.weekly < 200
    sequence = Sequence(known, MONDAY).run(MONDAY + 6 * HOUR, events=False)
    assert not sequence.silent()
    assert sequence.run(MONDAY + 48 * HOUR, events=False).silent()


def test_bursts_at_random_hours_raise_nothing() -> None:
    chance = random.Random(3)
    hours = {MONDAY - chance.randrange(1, 8 * WEEK_HOURS) * HOUR: 50 for _ in range(56)}
    known = learn_weeks(MONDAY - 8 * WEEK, MONDAY, hours)
    assert not Sequence(known, MONDAY).run(MONDAY + timedelta(days=4), events=False).silent()


def test_less_than_two_weeks_are_too_few() -> None:
    hours = counts(shop, 1.9)
    assert learn_weeks(min(hours), MONDAY, hours) is None
    assert learn_weeks(MONDAY - 2 * WEEK, MONDAY, counts(shop, 2)) is not None


def test_a_new_type_with_steady_traffic_is_watched_after_a_day() -> None:
    steady = counts(lambda _day, _hour: 30.0, 2 / 7)
    assert learn_young(MONDAY - 23 * HOUR, MONDAY, steady) is None
    known = learn_young(MONDAY - 26 * HOUR, MONDAY, steady)
    assert known is not None
    assert known.weeks == 0
    assert 20 < known.rates[0] <= 30
    sequence = Sequence(known, MONDAY).run(MONDAY + HOUR / 2, events=False)
    assert not sequence.silent()
    assert sequence.run(MONDAY + 4 * HOUR, events=False).silent()


def test_a_new_type_that_rests_at_night_is_not_watched_yet() -> None:
    assert learn_young(MONDAY - 48 * HOUR, MONDAY, counts(shop, 2 / 7)) is None
    assert learn_young(MONDAY - 48 * HOUR, MONDAY, {MONDAY - 40 * HOUR: 5_000}) is None
    assert learn_young(MONDAY - 48 * HOUR, MONDAY, {}) is None


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from([2.0, 20.0, 300.0]))
def test_traffic_that_goes_on_as_usual_is_never_silent(seed: int, rate: float) -> None:
    """Two more weeks of the same chance, looked at each minute, whatever the seed."""
    history = counts(lambda _day, _hour: rate, 8, seed=seed)
    known = learn_weeks(MONDAY - 8 * WEEK, MONDAY, history)
    chance = random.Random(seed + 1)
    at, state = MONDAY, look(Watched(), known, MONDAY, MONDAY)
    while at < MONDAY + WEEK:
        gap = timedelta(hours=chance.expovariate(rate))
        end = at + gap
        while at + MINUTE < end:
            at += MINUTE
            state = look(state, known, None, at)
            assert state.silent_since is None
        at = end
        state = look(state, known, at, at)


def test_summer_time_changes_nothing_as_hours_are_utc() -> None:
    assert usual.hour_of_week(datetime(2031, 3, 30, 1, 30, tzinfo=UTC)) == 6 * 24 + 1
    assert usual.hour_of_week(MONDAY) == 0
