"""Rule: our own errors among a service's probes that no confirmation catches, since other probes lie between.

A service whose checks are confirmed to be in error has an alert of its own already (``own_error``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, page_of, rate_words
from monitoring.alertrules.thresholds import ProbeErrors
from wsmon.durations import format_duration

KIND = "probe_errors"
LEAST_PROBES = 10
LEAST_ERRORS = 3


@dataclass(frozen=True, slots=True)
class Probes:
    """A service's probes of the window. ``message`` is the newest error's."""

    service_id: int
    service: str
    total: int
    errors: int
    message: str = ""
    label: str = ""
    """What people call the service; empty: as ``service``."""


def find(probes: Iterable[Probes], limit: ProbeErrors) -> list[Finding]:
    """Services of which more than ``limit.above`` percent of the probes ended in an error of ours."""
    return [
        Finding(
            key=f"probe-errors:{one.service}",
            kind=KIND,
            severity=Severity.WARNING.value,
            title=f"{one.label or one.service}: our own probes fail again and again",
            detail=f"{one.errors:,} of {one.total:,} probes ({rate_words(one.errors / one.total)}) within"
            f" {format_duration(limit.within)} failed by our own fault."
            + (f" Last: {one.message}" if one.message else ""),
            url=page_of(one.service),
            service=one.service_id,
        )
        for one in probes
        if one.total >= LEAST_PROBES and one.errors >= LEAST_ERRORS and one.errors * 100 > limit.above * one.total
    ]


_PROBES = """
SELECT v.id, v.slug, sum(u.healthy + u.degraded + u.critical + u.error)::int, sum(u.error)::int,
    coalesce((SELECT s.message FROM monitoring_checkstate s JOIN monitoring_configuration k ON k.id = s.check_id
        WHERE k.service_id = v.id AND s.outcome = 'error' ORDER BY s.checked_at DESC LIMIT 1), ''),
    v.name
FROM monitoring_service v
JOIN monitoring_configuration c ON c.service_id = v.id AND c.archived_at IS NULL AND c.paused_at IS NULL
JOIN monitoring_rollup u ON u.check_id = c.id AND u.level = 60 AND u.start > %(since)s
WHERE v.archived_at IS NULL AND v.status <> 'error'
GROUP BY v.id, v.slug HAVING sum(u.error) >= %(least)s ORDER BY v.slug
"""


def read(now: datetime, limit: ProbeErrors) -> list[Probes]:
    """The services that had a few errors of ours."""
    with connection.cursor() as cursor:
        cursor.execute(_PROBES, {"since": now - timedelta(seconds=limit.within), "least": LEAST_ERRORS})
        return [Probes(*row) for row in cursor.fetchall()]


def look(context: Context) -> list[Finding]:
    """Read and find."""
    limit = context.thresholds.probe_errors
    return find(read(context.now, limit), limit)


RULE = Rule(KIND, 60.0, look, echo=True)
