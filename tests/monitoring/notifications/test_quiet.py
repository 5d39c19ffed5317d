"""Quiet hours: local times, over midnight, over both changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.notifications.quiet import Quiet, quiet_until, read

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Quiet(time(22), time(7), BERLIN)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-06-10 21:59", None),
        ("2026-06-10 22:00", "2026-06-11 07:00"),
        ("2026-06-11 00:00", "2026-06-11 07:00"),
        ("2026-06-11 06:59", "2026-06-11 07:00"),
        ("2026-06-11 07:00", None),
    ],
)
def test_a_night_lasts_until_the_morning(now: str, until: str | None) -> None:
    assert quiet_until(NIGHT, berlin(now)) == (berlin(until) if until else None)


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-28 22:00", 8), ("2026-03-29 22:00", 9), ("2026-10-24 22:00", 10), ("2026-10-25 22:00", 9)],
)
def test_the_night_of_a_change_of_the_clock_is_as_long_as_it_is(now: str, hours: int) -> None:
    began = berlin(now)
    assert quiet_until(NIGHT, began) == began + timedelta(hours=hours)
    assert quiet_until(NIGHT, began + timedelta(hours=hours)) is None


def test_an_end_that_the_clock_leaves_out_comes_an_hour_later() -> None:
    quiet = Quiet(time(1), time(2, 30), BERLIN)
    assert quiet_until(quiet, berlin("2026-03-29 01:30")) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_an_end_that_comes_twice_is_its_first() -> None:
    quiet = Quiet(time(1), time(2, 30), BERLIN)
    assert quiet_until(quiet, berlin("2026-10-25 01:30")) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert quiet_until(quiet, datetime(2026, 10, 25, 1, 0, tzinfo=UTC)) is None


def test_days_name_when_a_period_begins() -> None:
    friday = Quiet(time(22), time(7), BERLIN, frozenset([4]))
    assert quiet_until(friday, berlin("2026-06-13 03:00")) == berlin("2026-06-13 07:00")  # a Saturday
    assert quiet_until(friday, berlin("2026-06-13 23:00")) is None


def test_periods_without_a_gap_are_one() -> None:
    weekend = Quiet(time(0), time(0), BERLIN, frozenset([5, 6]))
    assert quiet_until(weekend, berlin("2026-06-13 10:00")) == berlin("2026-06-15 00:00")


def test_a_channel_without_quiet_hours_is_never_quiet() -> None:
    assert quiet_until(read({}), berlin("2026-06-13 03:00")) is None
    kept = {"from": "22:00", "to": "07:00", "days": ["friday"], "time_zone": "Europe/Berlin"}
    assert read(kept) == Quiet(time(22), time(7), BERLIN, frozenset([4]))


@given(
    st.times().map(lambda one: one.replace(second=0, microsecond=0, tzinfo=None)),
    st.times().map(lambda one: one.replace(second=0, microsecond=0, tzinfo=None)),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    st.integers(0, 3 * 365 * 1440).map(lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)),
)
def test_it_always_ends_and_is_over_then(
    begins: time, ends: time, days: frozenset[int], zone: str, now: datetime
) -> None:
    quiet = Quiet(begins, ends, ZoneInfo(zone), days)
    until = quiet_until(quiet, now)
    if until is None:
        return
    assert now < until <= now + timedelta(days=10)
    always = begins == ends and len(days) == 7
    assert always or quiet_until(quiet, until) is None
