"""When a limit is crossed, told from numbers whose course is known."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.forecasts import seasons
from monitoring.forecasts.expecting import LATEST, Expectation, Window, expect, soonest
from tests.monitoring.forecasts.synthetic import (
    NOW,
    Course,
    daily,
    flat,
    rising,
    series,
    step,
    with_outliers,
)

HOUR = timedelta(hours=1)
EIGHT = 8 * HOUR


def expected(course: Course, limit: float, noise: float = 0.0, **how: object) -> Expectation | None:
    return expect(Window(series(course, noise, length=EIGHT), EIGHT), limit, NOW, **how)  # type: ignore[arg-type]


def hours(found: Expectation | None) -> float:
    assert found is not None
    return (found.crosses_at - NOW) / HOUR


@pytest.mark.parametrize(("per_hour", "limit", "after"), [(50, 800, 6.0), (100, 800, 3.0), (40, 520, 0.5)])
def test_a_straight_rise_crosses_where_the_line_does(per_hour: float, limit: float, after: float) -> None:
    assert hours(expected(rising(per_hour), limit)) == pytest.approx(after, abs=0.01)


def test_a_fall_to_a_limit_is_told_too() -> None:
    found = expected(rising(-10, 60), 10, falling=True)
    assert hours(found) == pytest.approx(5, abs=0.01)
    assert found is not None
    assert found.value == pytest.approx(60, abs=0.1)
    assert found.slope == pytest.approx(-10)
    values = [value for _, value, _, _ in found.points]
    assert values == sorted(values, reverse=True)


def test_noise_blurs_the_moment_and_the_bounds_hold_it() -> None:
    held, off = 0, []
    for seed in range(40):
        window = Window(series(rising(50), 40, length=EIGHT, seed=seed), EIGHT)
        found = expect(window, 800, NOW)
        if found is None:
            continue
        assert NOW <= found.earliest <= found.crosses_at <= found.latest
        held += found.earliest <= NOW + 6 * HOUR <= found.latest
        off.append(abs(hours(found) - 6))
    assert len(off) >= 36
    assert held >= 0.9 * len(off)
    assert sorted(off)[len(off) // 2] < 1


def test_outliers_do_not_move_it() -> None:
    window = Window(with_outliers(series(rising(50), 10, length=EIGHT), 0.15, 4900), EIGHT)
    assert hours(expect(window, 800, NOW)) == pytest.approx(6, rel=0.3)


@pytest.mark.parametrize(
    ("course", "limit"),
    [
        (flat, 800),
        (rising(-50), 800),
        (rising(50, 900), 800),
        (rising(50, 800), 800),
        (rising(10), 800),
        (step(4), 800),
        (step(1), 600),
        (step(0.5), 600),
    ],
    ids=["flat", "falling", "over-it", "at-it", "too-slowly", "step", "late-step", "very-late-step"],
)
def test_nothing_is_said_of(course: Course, limit: float) -> None:
    assert expected(course, limit) is None
    assert expected(course, limit, 15) is None


def test_nothing_is_foretold_further_ahead_than_was_looked_back() -> None:
    assert hours(expected(rising(39), 800)) == pytest.approx(7.7, abs=0.05)
    assert expected(rising(35), 800) is None


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (slice(None), True),
        (slice(10, None), True),
        (slice(20, None), False),
        (slice(0, 26), True),
        (slice(0, 20), False),
    ],
)
def test_numbers_must_reach_over_their_window_and_up_to_now(kept: slice, says: bool) -> None:
    points = series(rising(50), length=EIGHT)[kept]
    assert (expect(Window(points, EIGHT), 700, NOW) is not None) is says
    assert expect(Window([], EIGHT), 700, NOW) is None


def test_what_stands_after_now_is_not_looked_at() -> None:
    """After this host's clock was set back the newest numbers are of later."""
    points = [*series(rising(50), length=EIGHT), (NOW + 5 * HOUR, 9e9)]
    assert hours(expect(Window(points, EIGHT), 800, NOW)) == pytest.approx(6, abs=0.01)


def test_a_morning_s_usual_rise_is_no_trend() -> None:
    """The same numbers without the knowledge of other mornings are taken for one."""
    wave = daily(600, 400)
    past = series(wave, 8, length=timedelta(days=7), points=168)
    morning = Window(series(wave, 8, length=3 * HOUR, points=20), 3 * HOUR)
    assert expect(morning, 600, NOW) is not None
    assert expect(morning, 800, NOW, season=seasons.usual(past)) is None


def test_a_rise_on_top_of_the_day_s_course_crosses_at_its_height() -> None:
    wave = daily(200, 400)
    course = lambda at: wave(at) + 1.5 * at  # noqa: E731
    week = timedelta(days=7)
    past = series(course, 8, length=week, points=168)
    found = expect(Window(past, week), 530, NOW, season=seasons.usual(past))
    assert found is not None
    assert 20 < hours(found) < 32, "tomorrow's height, at six o'clock: the line alone needs 87 hours"


def test_the_nearest_of_several_counts() -> None:
    near, far = expected(rising(100), 800), expected(rising(50), 800)
    assert soonest([None, far, near]) is near
    assert soonest([None]) is None
    assert soonest([]) is None


@given(
    per_hour=st.floats(-500, 500), now=st.floats(-1000, 1000), limit=st.floats(-1000, 1000),
    noise=st.floats(0, 200), seed=st.integers(0, 99), falling=st.booleans(),
)  # fmt: skip
def test_what_is_told_is_in_order_whatever_the_numbers(
    per_hour: float, now: float, limit: float, noise: float, seed: int, falling: bool
) -> None:
    points = series(rising(per_hour, now), noise, length=EIGHT, seed=seed)
    found = expect(Window(points, EIGHT), limit, NOW, falling=falling)
    if found is None:
        return
    ahead = found.crosses_at - NOW
    assert timedelta(0) <= found.earliest - NOW <= ahead <= found.latest - NOW
    assert ahead <= EIGHT
    assert found.latest - NOW <= LATEST * ahead + timedelta(milliseconds=1)
    assert (found.slope < 0) is falling
    assert found.points[0][0] == pytest.approx(NOW.timestamp(), abs=0.1)
    assert found.points[-1][0] == pytest.approx(found.crosses_at.timestamp(), abs=0.1)
    assert found.points[-1][1] == pytest.approx(limit, abs=1e-3 * max(1, abs(limit)))
    for _, value, least, most in found.points:
        assert least <= value <= most


def test_a_hundred_quiet_checks_stay_quiet_for_a_day() -> None:
    """Noise with a memory, as response times have: each number keeps half of what the one before was off."""
    chance = random.Random(5)
    said = 0
    for _ in range(100):
        off, points = 0.0, []
        for place in range(12 * 24):
            off = 0.5 * off + chance.gauss(0, 30)
            points.append((NOW - timedelta(minutes=5 * (12 * 24 - place)), 300 + off))
        for end in range(60, len(points), 12):
            window = points[end - 60 : end]
            said += expect(Window(window, 5 * HOUR), 400, window[-1][0]) is not None
    assert said == 0
