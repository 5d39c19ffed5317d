"""Rule: a check whose confirmed status goes back and forth.

While this alert is open, nobody is told of the incidents that its service has meanwhile: see :func:`of_service`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, page_of
from monitoring.alertrules.thresholds import Flapping
from monitoring.models import Alert
from wsmon.durations import format_duration

KIND = "flapping"


@dataclass(frozen=True, slots=True)
class Changes:
    """How often a check changed within the window, and when last."""

    service_id: int
    service: str
    check: str
    number: int
    last_at: datetime
    label: str = ""
    """What people call the service; empty: as ``service``."""


def key(service: str, check: str) -> str:
    """The key of the alert that a check flaps."""
    return f"flapping:{service}/{check}"


def of_service(service_id: int) -> str:
    """The key of an open alert that a check of this service flaps; empty when none does."""
    rows = Alert.objects.filter(kind=KIND, service=service_id, resolved_at=None)
    return rows.order_by("id").values_list("key", flat=True).first() or ""


def find(changes: Iterable[Changes], limit: Flapping, open_keys: frozenset[str] = frozenset()) -> list[Finding]:
    """Those that changed ``limit.changes`` times; what flaps already does until it is down to half of that."""
    within = format_duration(limit.within)
    found = []
    for one in changes:
        name = key(one.service, one.check)
        enough = (limit.changes + 1) // 2 if name in open_keys else limit.changes
        if one.number < enough:
            continue
        found.append(
            Finding(
                key=name,
                kind=KIND,
                severity=Severity.WARNING.value,
                title=f"{one.label or one.service} {one.check} flaps",
                detail=f"It changed its status {one.number} times within {within}, last at {one.last_at:%H:%M} UTC."
                " Nobody is told of each of its failures until it settles; raise confirm_down or find out why.",
                url=page_of(one.service),
                service=one.service_id,
            )
        )
    return found


# Being paused, or not configured, is no flapping.
_CHANGES = """
SELECT c.service_id, v.slug, k.name, c.number, c.last_at, v.name FROM (
    SELECT service_id, check_id, count(*) AS number, max(at) AS last_at FROM monitoring_statechange
    WHERE at > %(since)s AND at <= %(now)s AND check_id IS NOT NULL
      AND old = ANY(%(judged)s) AND new = ANY(%(judged)s)
    GROUP BY 1, 2 HAVING count(*) >= %(least)s
) c
JOIN monitoring_configuration k ON k.id = c.check_id AND k.archived_at IS NULL AND k.paused_at IS NULL
JOIN monitoring_service v ON v.id = c.service_id AND v.archived_at IS NULL
ORDER BY c.number DESC, v.slug, k.name
"""
_JUDGED = ["healthy", "degraded", "critical", "error"]


def read(now: datetime, limit: Flapping) -> list[Changes]:
    """Checks that changed at least half as often as makes an alert."""
    values: dict[str, Any] = {
        "since": now - timedelta(seconds=limit.within),
        "now": now + timedelta(minutes=1),  # probes' own clocks may be a little ahead
        "least": (limit.changes + 1) // 2,
        "judged": _JUDGED,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CHANGES, values)
        return [Changes(*row) for row in cursor.fetchall()]


def look(context: Context) -> list[Finding]:
    """Read and find."""
    limit = context.thresholds.flapping
    return find(read(context.now, limit), limit, context.open_keys)


RULE = Rule(KIND, 5.0, look)
