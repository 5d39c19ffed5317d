"""Rules, calendars and a server of feeds for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from monitoring.critical import rules
from monitoring.critical.rules import Period, Rule

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 10, 17, 12, 12, tzinfo=UTC)
"""A Saturday, 14:12 in Berlin."""
SATURDAYS: dict[str, Any] = {"every": ["saturday"]}


def rule(spec: dict[str, Any] | None = None, slug: str = "days", zone: ZoneInfo = BERLIN, **fields: Any) -> Rule:
    """A rule, without lead and trail unless it says so."""
    return Rule(slug, spec or SATURDAYS, zone, **{"lead": 0.0, "trail": 0.0} | fields)


def periods(
    found: Iterable[Rule], since: datetime, until: datetime, feeds: Mapping[str, str] | None = None
) -> list[Period]:
    """Every period that touches the time from ``since`` to ``until``; ``feeds``: calendars by the rule's slug."""
    feeds = feeds or {}
    return rules.merged(
        reason for one in found for reason in rules.reasons(one, since, until, feeds.get(one.slug, ""))
    )


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    """A local time, ``2026-10-17 14:12``, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def event(start: str = "20261017", summary: str = "Fair", **more: str) -> str:
    """One VEVENT; keyword arguments are further lines, with ``_`` for ``-``."""
    kind = "DTSTART" if "T" in start else "DTSTART;VALUE=DATE"
    lines = ["BEGIN:VEVENT", f"UID:{summary}-{start}", f"{kind}:{start}", f"SUMMARY:{summary}"]
    lines += [f"{name.replace('_', '-')}:{value}" for name, value in more.items()]
    return "\r\n".join([*lines, "END:VEVENT"])


def calendar(*events: str) -> str:
    """A calendar of such events."""
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN", *events, "END:VCALENDAR", ""])


def spans(found: Iterable[Any], zone: ZoneInfo = BERLIN) -> list[tuple[str, str]]:
    """Periods as local times."""
    return [(local(one.starts_at, zone), local(one.ends_at, zone)) for one in found]


def local(moment: datetime, zone: ZoneInfo = BERLIN) -> str:
    """A moment as local time, with its offset."""
    return f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M%z}"
