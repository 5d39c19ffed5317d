"""Quiet hours: pure date arithmetic in the time zone of whoever sleeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LONGEST = 8
"""Periods in a row that are joined: beyond a week there is no end to be found."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """From one local time to another, into the next day unless the end is later than the start.

    ``days`` are the weekdays (0: Monday) on which a period begins. Equal times mean a whole day.
    """

    begins: time
    ends: time
    zone: ZoneInfo
    days: frozenset[int] = frozenset(range(7))


def read(spec: Mapping[str, Any]) -> Quiet | None:
    """A channel's ``quiet_hours`` as kept; None when it has none."""
    if not spec:
        return None
    days = tuple(spec.get("days") or WEEKDAYS)
    return _read(spec["from"], spec["to"], spec["time_zone"], days)


@lru_cache(maxsize=256)
def _read(begins: str, ends: str, zone: str, days: tuple[str, ...]) -> Quiet:
    numbers = frozenset(WEEKDAYS.index(day) for day in days)
    return Quiet(time.fromisoformat(begins), time.fromisoformat(ends), ZoneInfo(zone), numbers)


def quiet_until(quiet: Quiet | None, now: datetime) -> datetime | None:
    """When the quiet period in force at ``now`` ends (UTC); None: it is not quiet.

    Periods that follow one another without a gap are one.
    """
    if quiet is None:
        return None
    end = _end_of_one(quiet, now)
    for _ in range(LONGEST):
        following = _end_of_one(quiet, end) if end is not None else None
        if following is None:
            return end
        end = following
    return end


def _end_of_one(quiet: Quiet, now: datetime) -> datetime | None:
    today = now.astimezone(quiet.zone).date()
    for day in (today - timedelta(days=1), today):
        if day.weekday() not in quiet.days:
            continue
        last = day if quiet.ends > quiet.begins else day + timedelta(days=1)
        if _moment(day, quiet.begins, quiet.zone) <= now < (end := _moment(last, quiet.ends, quiet.zone)):
            return end
    return None


def _moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """A local time in UTC. One that comes twice is its first; one that is left out is as much later."""
    return datetime.combine(day, clock, zone).astimezone(UTC)
