"""Reading an iCalendar (RFC 5545): what is kept of it, and when its events are.

A calendar comes from outside: it may be broken, huge, or ask for an event each second. :func:`clean` keeps the
events that a calendar of days can have; :func:`between` then costs little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import recurring_ical_events  # type: ignore[import-untyped]
import structlog
from dateutil.rrule import rrule, rrulestr
from icalendar import Calendar, Component, Event

logger = structlog.get_logger(__name__)

MOST_EVENTS = 5_000
MOST_OCCURRENCES = 2_000
"""Of one calendar in one look."""
LONGEST_EVENT = timedelta(days=370)
EARLIEST = 1990
"""The first year in which something may begin that repeats daily or weekly: all its days since are counted."""
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_TOO_FINE = frozenset({"BYHOUR", "BYMINUTE", "BYSECOND", "BYEASTER"})
_KEPT = (
    "UID", "RECURRENCE-ID", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "SUMMARY", "STATUS",
    "SEQUENCE", "CATEGORIES", "LOCATION",
)  # fmt: skip
"""Properties that are kept: when and what. Who attends is nobody's business here."""
_LAST_YEARS = datetime(9990, 1, 1)  # noqa: DTZ001  rules are evaluated in local time
"""From here a rule that never comes true ends its search soon (dateutil looks up to the year 9999)."""
_OVER = timedelta(days=40)
"""Single events that ended so long ago are left out."""


class BadCalendar(ValueError):
    """This is no calendar that can be used; the message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """One occurrence of an event."""

    starts_at: datetime
    ends_at: datetime
    summary: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A calendar as it is kept."""

    text: str
    left_out: int
    """Events that were left out: they repeat more often than daily, never, or have no start."""


def clean(text: str, now: datetime) -> Cleaned:
    """What is kept of a calendar. Raises :class:`BadCalendar` when it is none, or too large."""
    source = _parse(text)
    kept = Calendar()
    kept.add("VERSION", "2.0")
    kept.add("PRODID", "-//wsmon//EN")
    events = [one for one in source.walk("VEVENT") if isinstance(one, Event)]
    if len(events) > MOST_EVENTS:
        raise BadCalendar(f"it has {len(events):,} events, more than {MOST_EVENTS:,}")
    for zone in source.walk("VTIMEZONE"):
        kept.add_component(zone)
    usable = [event for event in events if _usable(event)]
    for event in usable:
        if _may_come(event, now):
            kept.add_component(_slim(event))
    cleaned = kept.to_ical().decode("utf-8", "replace").replace("\x00", "")
    return Cleaned(cleaned, len(events) - len(usable))


def between(
    text: str, since: datetime, until: datetime, zone: ZoneInfo, wanted: Callable[[str], bool] | None = None
) -> list[CalendarEvent]:
    """The occurrences that touch the time from ``since`` to ``until``, in order; cancelled ones are left out.

    ``text`` is a cleaned calendar. Whole days and times without a zone are in ``zone``. ``wanted`` is asked with
    an event's summary, place and categories.
    """
    if not text:
        return []
    calendar = _parse(text)
    if wanted is not None:
        for event in list(calendar.walk("VEVENT")):
            if not wanted(_words(event)):
                calendar.subcomponents.remove(event)
    low, high = since.astimezone(zone) - timedelta(days=1), until.astimezone(zone) + timedelta(days=1)
    found = [one for event in _occurrences(calendar, low, high) for one in _told(event, zone)]
    touching = [one for one in found if one.starts_at < until and one.ends_at > since]
    return sorted(touching, key=lambda one: (one.starts_at, one.ends_at, one.summary))


def events_of(
    text: str, since: datetime, until: datetime, zone: ZoneInfo, wanted: Callable[[str], bool] | None = None
) -> list[CalendarEvent]:
    """As :func:`between`; nothing when a kept calendar cannot be worked out after all."""
    try:
        return between(text, since, until, zone, wanted)
    except BadCalendar:
        logger.warning("a kept calendar cannot be worked out", exc_info=True)
        return []


def _parse(text: str) -> Calendar:
    if "BEGIN:VCALENDAR" not in text[:2000].upper():
        raise BadCalendar("it does not begin with BEGIN:VCALENDAR, so it is no iCalendar")
    try:
        found = Calendar.from_ical(text.lstrip("\ufeff"))
    except Exception as problem:  # icalendar documents no limit to what it raises
        raise BadCalendar(f"it cannot be read as an iCalendar ({type(problem).__name__})") from None
    if not isinstance(found, Calendar):
        raise BadCalendar("it is no iCalendar")
    return found


def _usable(event: Event) -> bool:
    try:
        start = event.get("DTSTART")
        if start is None or not isinstance(start.dt, date) or isinstance(event.get("RRULE"), list):
            return False
        end = event.get("DTEND")
        if end is not None and not isinstance(end.dt, date):
            return False
        if "RRULE" not in event:
            return True
        told = event["RRULE"].to_ical()
        rule = (told.decode() if isinstance(told, bytes) else str(told)).upper()
        often = "FREQ=DAILY" in rule or "FREQ=WEEKLY" in rule
        return sane_rule(rule) and not (often and start.dt.year < EARLIEST)
    except Exception:  # whatever is wrong with one event must not cost the others
        return False


@lru_cache(maxsize=1024)
def sane_rule(text: str) -> bool:
    """Whether a recurrence rule is one that a calendar of days can have, and comes true some time."""
    parts = dict(part.partition("=")[::2] for part in text.upper().split(";"))
    if parts.get("FREQ") not in _FREQUENCIES or _TOO_FINE & set(parts):
        return False
    interval = parts.get("INTERVAL", "1")
    if not interval.isdecimal() or not 1 <= int(interval) <= 1000:
        return False
    often = parts["FREQ"] in ("DAILY", "WEEKLY")
    daily_of_some = parts["FREQ"] == "DAILY" and any(name.startswith("BY") for name in parts)
    if int(interval) > 1 and (daily_of_some or (often and "BYMONTH" in parts)):
        return False  # it may never meet the days asked for, and would be searched for thousands of years
    endless = ";".join(part for part in text.split(";") if part.upper().partition("=")[0] not in ("UNTIL", "COUNT"))
    try:
        rule = rrulestr(re.sub(r"INTERVAL=\d+;?", "", endless, flags=re.IGNORECASE).strip(";"), dtstart=_LAST_YEARS)
    except Exception:  # dateutil documents no limit to what it raises
        return False
    return isinstance(rule, rrule) and next(iter(rule), None) is not None


def _may_come(event: Event, now: datetime) -> bool:
    """Whether an event can still matter: it repeats, changes one that does, or is not long over."""
    if any(name in event for name in ("RRULE", "RDATE", "RECURRENCE-ID")):
        return True
    end = event.get("DTEND", event["DTSTART"]).dt
    day = end.date() if isinstance(end, datetime) else end
    return bool(day >= (now - _OVER).date() or "DURATION" in event)


def _slim(event: Event) -> Event:
    slim = Event()
    for name in _KEPT:
        if name in event:
            slim[name] = event[name]
    return slim


def _words(event: Component) -> str:
    categories = event.get("CATEGORIES", [])
    lists = categories if isinstance(categories, list) else [categories]
    return " ".join(
        [
            str(event.get("SUMMARY", "")),
            str(event.get("LOCATION", "")),
            *(str(word) for one in lists for word in getattr(one, "cats", [])),
        ]
    )


def _occurrences(calendar: Calendar, low: datetime, high: datetime) -> Iterator[Any]:
    query = recurring_ical_events.of(calendar, components=["VEVENT"], skip_bad_series=True)
    try:
        yield from islice(query.between(low, high), MOST_OCCURRENCES)
    except Exception as problem:  # the library's own, of events that contradict themselves
        raise BadCalendar(f"its events cannot be worked out ({type(problem).__name__})") from None


def _told(event: Any, zone: ZoneInfo) -> Iterator[CalendarEvent]:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return
    start, end = event["DTSTART"].dt, event["DTEND"].dt if "DTEND" in event else event["DTSTART"].dt
    if not isinstance(start, datetime) and end == start:
        end = start + timedelta(days=1)
    starts_at, ends_at = moment(start, zone), moment(end, zone)
    if starts_at <= ends_at <= starts_at + LONGEST_EVENT:
        yield CalendarEvent(starts_at, ends_at, str(event.get("SUMMARY", ""))[:200])


def moment(at: date | datetime, zone: ZoneInfo) -> datetime:
    """When a day begins, or a local time is, in UTC.

    A local time that comes twice is its first; one that is left out counts with the offset before the gap
    (RFC 5545, 3.3.5), so that midnight, where it is left out, is the moment of the change.
    """
    if not isinstance(at, datetime):
        at = datetime.combine(at, time(0))
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    return at.replace(tzinfo=zone, fold=0).astimezone(UTC)
