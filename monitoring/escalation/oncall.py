"""Who is on call now, by the rotations as they are configured and the calendars as they were last read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitoring.critical import feeds
from monitoring.escalation.turns import Duty, Person, Turns, on_call
from monitoring.models import Rotation

PREFIX = "rotation:"
"""In an escalation's step: whoever is on call by the rotation of the name that follows. Feeds' owners too."""
_AROUND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class OnCall:
    """A rotation, and who is on call by it: usually one, with a calendar perhaps several; or nobody."""

    slug: str
    duties: tuple[Duty, ...]

    @property
    def names(self) -> str:
        """The people in a row."""
        return ", ".join(duty.person.name for duty in self.duties)


def rotations(slugs: Iterable[str] | None = None) -> list[Rotation]:
    """The rotations in use, by name."""
    rows = Rotation.objects.filter(archived_at=None).order_by("slug")
    return list(rows if slugs is None else rows.filter(slug__in=list(slugs)))


def now_on_call(now: datetime, slugs: Iterable[str] | None = None) -> dict[str, OnCall]:
    """Who is on call by each rotation, or by some. No HTTP: calendars are read by :func:`read_feeds`."""
    return {row.slug: of(row, now) for row in rotations(slugs)}


def of(rotation: Rotation, now: datetime) -> OnCall:
    """Who is on call by one rotation."""
    turns = turns_of(rotation)
    events = None
    if rotation.ical:
        events = feeds.events(owner_of(rotation), now - _AROUND, now + _AROUND, turns.zone)
    return OnCall(rotation.slug, tuple(on_call(turns, events, now)))


def turns_of(rotation: Rotation) -> Turns:
    """A rotation's row as ``turns`` wants it."""
    people = [one for one in rotation.people if isinstance(one, Mapping) and one.get("name")]
    return Turns(
        tuple(Person(str(one["name"]), tuple(map(str, one.get("channels", ())))) for one in people),
        rotation.starts_on,
        rotation.handover,
        _zone(rotation.time_zone),
    )


def read_feeds(now: datetime) -> int:
    """Read the rotations' calendars that are due, over the network, outside any transaction; how many were."""
    wanted = {owner_of(row): row.ical for row in rotations() if row.ical}
    return feeds.read_due(wanted, PREFIX.rstrip(":"), now)


def owner_of(rotation: Rotation) -> str:
    """Under which name its calendar is kept."""
    return f"{PREFIX}{rotation.slug}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):  # of an older system's list
        return ZoneInfo("UTC")
