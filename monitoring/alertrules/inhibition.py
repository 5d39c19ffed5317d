"""Why nobody is told of a rule's echo: the incident of its service, while it is open and for a while afterwards.

What else keeps an alert from being told (maintenance, other parents) is for ``monitoring.notifications`` to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from monitoring.models import Incident

AFTER = timedelta(minutes=30)
"""How long an incident is still seen by the rules that look back: the longest of their short windows."""
PREFIX = "echo of "


@dataclass(frozen=True, slots=True)
class Parent:
    """An incident of a service."""

    service_id: int
    incident_id: int
    closed_at: datetime | None = None


def by_incident(incidents: Iterable[Parent], now: datetime) -> dict[int, str]:
    """By service: the newest incident that can still be seen in what a rule looks at. Pure."""
    seen = [one for one in incidents if one.closed_at is None or now < one.closed_at + AFTER]
    return {one.service_id: f"incident:{one.incident_id}" for one in sorted(seen, key=lambda one: one.incident_id)}


def reason(incident: str | None, before: str) -> str | None:
    """What an alert's reason must become, None when it is to stay as it is: "" once our own is over."""
    if incident is not None:
        wanted = f"{PREFIX}{incident}"
        return None if before == wanted else wanted
    return "" if before.startswith(PREFIX) else None


def echoes(service_ids: Collection[int], now: datetime) -> dict[int, str]:
    """By service: the incident that says it already; services without one are left out. One query, or none."""
    if not service_ids:
        return {}
    rows = Incident.objects.filter(Q(closed_at=None) | Q(closed_at__gt=now - AFTER), service__in=service_ids)
    return by_incident((Parent(*row) for row in rows.values_list("service_id", "id", "closed_at")), now)
