"""Whose turn it is to be on call: pure, by the calendar week or by the events of a calendar.

A week of duty is a week of the local calendar: it begins at the same hour by the clock on the wall whether the
clocks were changed meanwhile or not, and so may be an hour longer or shorter than 7 days.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

UTC_ZONE = ZoneInfo("UTC")
WEEK = timedelta(weeks=1)
MONDAY = date(1970, 1, 5)
"""Where turns begin when the rotation does not say: weeks then change on Mondays."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who takes turns, and the channels by which they are told."""

    name: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turns:
    """A rotation: people in their order, from ``starts_on`` on, changing at ``handover`` in ``zone``."""

    people: tuple[Person, ...]
    starts_on: date | None = None
    handover: time = time(9)
    zone: ZoneInfo = UTC_ZONE


@dataclass(frozen=True, slots=True)
class Duty:
    """Somebody's time on call; ``until`` is when it ends."""

    person: Person
    since: datetime
    until: datetime


class Occurrence(Protocol):
    """An event of a calendar, as ``monitoring.critical.feeds`` gives it."""

    @property
    def starts_at(self) -> datetime: ...

    @property
    def ends_at(self) -> datetime: ...

    @property
    def summary(self) -> str: ...


def by_week(turns: Turns, now: datetime) -> Duty | None:
    """Whose week it is; None without people, and before the first one's first day."""
    if not turns.people:
        return None
    first = turns.starts_on or MONDAY
    day = now.astimezone(turns.zone).date()
    number = (day - first) // WEEK
    if _begins(turns, first, number) > now:  # the day of the change, before its hour
        number -= 1
    if number < 0:
        return None
    person = turns.people[number % len(turns.people)]
    return Duty(person, _begins(turns, first, number), _begins(turns, first, number + 1))


def by_events(people: Sequence[Person], events: Iterable[Occurrence], now: datetime) -> list[Duty]:
    """Who is named by an event that is on: everybody who is, in the order of the events' beginning."""
    found: dict[str, Duty] = {}
    for event in sorted(events, key=lambda one: (one.starts_at, one.summary)):
        if event.starts_at <= now < event.ends_at:
            for person in named_in(event.summary, people):
                known = found.get(person.name)
                until = max(known.until, event.ends_at) if known else event.ends_at
                found[person.name] = Duty(person, known.since if known else event.starts_at, until)
    return list(found.values())


def named_in(summary: str, people: Sequence[Person]) -> list[Person]:
    """The people whose whole name stands in a text, whatever its case; of "Ann" and "Ann Lee" the longer one."""
    text = summary
    found = []
    for person in sorted(people, key=lambda one: -len(one.name)):
        pattern = re.compile(rf"(?<!\w){re.escape(person.name)}(?!\w)", re.IGNORECASE)
        if pattern.search(text):
            found.append(person)
            text = pattern.sub("\0", text)
    return sorted(found, key=people.index)


def on_call(turns: Turns, events: Iterable[Occurrence] | None, now: datetime) -> list[Duty]:
    """Who is on call. ``events`` of the rotation's calendar, None when it has none.

    When the calendar names nobody just now, and the rotation says when its weeks start, these decide: better
    somebody than nobody.
    """
    if events is not None:
        named = by_events(turns.people, events, now)
        if named or turns.starts_on is None:
            return named
    duty = by_week(turns, now)
    return [duty] if duty else []


def first_moment(turns: Turns) -> datetime:
    """When the first week begins."""
    return _begins(turns, turns.starts_on or MONDAY, 0)


def _begins(turns: Turns, first: date, number: int) -> datetime:
    """When a week begins: of an hour that comes twice the first, of one that is left out when it would be."""
    try:
        day = first + number * WEEK
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if number > 0 else datetime.min.replace(tzinfo=UTC)
    return datetime.combine(day, turns.handover, tzinfo=turns.zone).astimezone(UTC)
