"""The usual course of a day."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring.forecasts import seasons
from tests.monitoring.forecasts.synthetic import NOW, daily, flat, rising, series

WEEK = timedelta(days=7)


def week(course, noise: float = 0.0, days: int = 7):  # type: ignore[no-untyped-def]
    return series(course, noise, length=timedelta(days=days), points=24 * days)


def test_a_daily_wave_is_learnt() -> None:
    found = seasons.usual(week(daily(200), 10))
    for hours in (0, 3, 6, 12, 18):
        at = NOW + timedelta(hours=hours)
        assert found.at(at) == pytest.approx(daily(200, 0)(hours), abs=25)


def test_tomorrow_is_as_today() -> None:
    found = seasons.usual(week(daily(200), 10))
    assert found.at(NOW) == found.at(NOW + timedelta(days=1)) == found.at(NOW - timedelta(days=3))


@pytest.mark.parametrize("course", [flat, rising(1.0)], ids=["flat", "rising"])
def test_without_a_course_of_the_day_there_is_none(course) -> None:  # type: ignore[no-untyped-def]
    assert seasons.usual(week(course, 20)) == seasons.NONE


def test_a_lasting_rise_is_not_taken_for_the_day_s_course() -> None:
    wave = daily(200)
    found = seasons.usual(week(lambda hours: wave(hours) + 2 * hours, 10))
    assert found.at(NOW + timedelta(hours=6)) == pytest.approx(100, abs=25)
    assert found.at(NOW - timedelta(hours=6)) == pytest.approx(-100, abs=25)


@pytest.mark.parametrize("days", [0, 1, 2, 3])
def test_few_days_teach_nothing(days: int) -> None:
    assert seasons.usual(week(daily(), days=days) if days else []) == seasons.NONE


def test_one_bad_day_of_seven_is_not_usual() -> None:
    spoilt = [(at, value + 5000 if at.day == 14 and at.hour == 9 else value) for at, value in week(daily(200), 5)]
    found = seasons.usual(spoilt)
    assert found.at(NOW.replace(hour=9, minute=30)) == pytest.approx(daily(200, 0)(-2.5), abs=25)


def test_hours_pass_into_each_other() -> None:
    season = seasons.Season(tuple(float(hour) for hour in range(24)))
    assert season.at(NOW.replace(hour=7, minute=30)) == pytest.approx(7)
    assert season.at(NOW.replace(hour=8, minute=0)) == pytest.approx(7.5)
    assert season.at(NOW.replace(hour=0, minute=0)) == pytest.approx(11.5), "between the last hour and the first"
