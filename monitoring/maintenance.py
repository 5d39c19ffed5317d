"""Maintenance windows: which are in force, and when the next ones come. Pure date arithmetic on rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr
from django.db.models import Q

from monitoring.models import MaintenanceWindow

LONGEST = timedelta(days=31)
"""No occurrence may last longer."""

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
"""What RFC 5545 FREQ values a window may have; shorter ones would never end."""

LONGEST_RULE = 300

_RULE = re.compile(r"[A-Za-z0-9=;,+-]+")
_PARTS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", "BYMONTHDAY", "BYMONTH", "BYSETPOS"}
_LAST_YEARS = datetime(9990, 1, 1)  # noqa: DTZ001  rules are evaluated in local time
"""dateutil looks for a rule's next day up to the year 9999: from here a search that finds nothing is short."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time a window is in force."""

    window: MaintenanceWindow
    starts_at: datetime
    ends_at: datetime


def check_recurrence(text: str) -> None:
    """Raise ``ValueError`` in plain words when ``text`` is no usable RFC 5545 recurrence rule."""
    if len(text) > LONGEST_RULE or not _RULE.fullmatch(text):
        raise ValueError(f"not a recurrence rule of {LONGEST_RULE} characters at most, e.g. FREQ=WEEKLY;BYDAY=SU")
    parts = dict(part.partition("=")[::2] for part in text.upper().split(";"))
    if parts.get("FREQ") not in FREQUENCIES:
        raise ValueError("FREQ must be one of " + ", ".join(FREQUENCIES))
    unwelcome = sorted(set(parts) - _PARTS)
    if unwelcome:
        raise ValueError(
            f"{unwelcome[0] or 'an empty part'} is not allowed: the first occurrence gives the time of day"
        )
    if parts.get("UNTIL", "").endswith("Z"):
        raise ValueError("UNTIL is in the window's time zone: leave out the Z")
    interval = parts.get("INTERVAL", "1")
    if not interval.isdecimal() or not 1 <= int(interval) <= 1000:
        raise ValueError("INTERVAL must be 1 to 1000")
    if int(interval) > 1 and ("BYMONTH" in parts or (parts["FREQ"] == "DAILY" and any(p[:2] == "BY" for p in parts))):
        raise ValueError("such an INTERVAL may never meet the days asked for: leave one of them out")
    try:
        rule = rrulestr(text, dtstart=_LAST_YEARS)
    except Exception as problem:  # dateutil documents no limit to what it raises
        raise ValueError(f"not a recurrence rule: {problem}") from None
    if not isinstance(rule, rrule) or next(iter(rule.replace(count=None, until=None)), None) is None:
        raise ValueError("the rule never comes true")


def in_force(windows: Iterable[MaintenanceWindow], now: datetime) -> list[MaintenanceWindow]:
    """Those of ``windows`` that are in force at ``now``."""
    return [window for window in windows if occurrence_at(window, now)]


def occurrence_at(window: MaintenanceWindow, now: datetime) -> Occurrence | None:
    """The window's occurrence that holds ``now``, if any."""
    if window.cancelled_at is not None and window.cancelled_at <= now:
        return None
    length = _length(window)
    for start in _starts(window, now - length, now):
        if start <= now < start + length:
            return Occurrence(window, start, start + length)
    return None


def upcoming(windows: Iterable[MaintenanceWindow], now: datetime, within: timedelta) -> list[Occurrence]:
    """The next occurrence of each window that starts within a time from ``now``, soonest first."""
    found = []
    for window in windows:
        if window.cancelled_at is None:
            length = _length(window)
            start = next((moment for moment in _starts(window, now, now + within) if moment > now), None)
            if start is not None:
                found.append(Occurrence(window, start, start + length))
    return sorted(found, key=lambda occurrence: occurrence.starts_at)


def relevant(now: datetime) -> list[MaintenanceWindow]:
    """Windows that are in force or may come into force: not cancelled, not over for good."""
    return list(
        MaintenanceWindow.objects.select_related("service")
        .filter(cancelled_at=None)
        .filter(Q(ends_at__gt=now) | ~Q(recurrence=""))
    )


def of_service(windows: Iterable[MaintenanceWindow], service_id: int) -> list[MaintenanceWindow]:
    """Those of ``windows`` that hold for a service."""
    return [window for window in windows if window.service_id in (None, service_id)]


def _length(window: MaintenanceWindow) -> timedelta:
    return window.ends_at.astimezone(UTC) - window.starts_at.astimezone(UTC)


def _starts(window: MaintenanceWindow, after: datetime, before: datetime) -> Iterator[datetime]:
    """Starts of occurrences between two moments, in order. Recurrences keep their local hour over DST."""
    if not window.recurrence:
        if after <= window.starts_at <= before:
            yield window.starts_at
        return
    zone = ZoneInfo(window.time_zone)
    first = window.starts_at.astimezone(zone).replace(tzinfo=None)
    rule = rrulestr(window.recurrence, dtstart=first)
    low = after.astimezone(zone).replace(tzinfo=None) - timedelta(hours=3)
    high = before.astimezone(zone).replace(tzinfo=None) + timedelta(hours=3)
    for local in rule.xafter(low, inc=True):
        if local > high:
            return
        moment = local.replace(tzinfo=zone).astimezone(UTC)  # sums of local times would ignore the change
        if after <= moment <= before:
            yield moment
