"""wsmon watches itself: is something probing, and is it on time?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.db import Error, connection

LATE_SECONDS = 15.0
"""A due check that nobody took for so long makes the scheduler late."""

SILENT_SECONDS = 15.0
"""A worker not heard of for so long does not run."""


@dataclass(frozen=True, slots=True)
class SelfWatch:
    """How wsmon itself does. ``problem`` is a sentence for the banner, None when all is well."""

    problem: str | None
    lateness_s: float
    workers: int
    beat_age_s: float | None
    probes_per_second: float
    database_ms: float


_LOOK = """
SELECT
    coalesce((SELECT greatest(extract(epoch FROM now() - min(s.next_due_at)), 0)
        FROM monitoring_checkstate s
        JOIN monitoring_configuration c ON c.id = s.check_id
        JOIN monitoring_service v ON v.id = c.service_id
        LEFT JOIN circuit_breaker_status b ON b.service_id = v.id AND b.state <> 'CLOSED' AND b.forced = ''
        WHERE c.archived_at IS NULL AND v.archived_at IS NULL AND c.paused_at IS NULL AND b.service_id IS NULL
          AND (s.lease_until IS NULL OR s.lease_until < now()) AND s.next_due_at < now()), 0)::float8,
    (SELECT count(*) FROM monitoring_process
        WHERE role = 'worker' AND seen_at > now() - make_interval(secs => %(silent)s)),
    (SELECT extract(epoch FROM now() - max(beat_at))::float8 FROM monitoring_process WHERE role = 'worker'),
    (SELECT coalesce(sum(probes_per_second), 0)::float8 FROM monitoring_process
        WHERE role = 'worker' AND seen_at > now() - make_interval(secs => %(silent)s)),
    (SELECT coalesce(max(late_ms), 0)::float8 FROM monitoring_process
        WHERE role = 'worker' AND seen_at > now() - make_interval(secs => %(silent)s))
"""


def look() -> SelfWatch:
    """Read the state of the scheduler and its workers; one query."""
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, {"silent": SILENT_SECONDS})
        overdue, workers, beat_age, rate, late_ms = cursor.fetchone()
    took = (time.perf_counter() - started) * 1000
    lateness = max(overdue, late_ms / 1000)
    return SelfWatch(_problem(overdue, workers, beat_age), lateness, workers, beat_age, rate, took)


def readiness() -> tuple[bool, str]:
    """Whether due checks are being probed in time, and a word about it, for ``/readyz``."""
    try:
        seen = look()
    except Error:
        return False, "unknown: the database does not answer"
    return seen.problem is None, seen.problem or f"on time, {seen.workers} worker(s)"


def _problem(overdue: float, workers: int, beat_age: float | None) -> str | None:
    if not workers:
        return "No worker runs: nothing is being probed, what you see is old."
    if beat_age is None or beat_age > SILENT_SECONDS:
        return "The scheduler gives no ticks: nothing new is being probed, what you see is old."
    if overdue > LATE_SECONDS:
        return f"The scheduler is late by {overdue:,.0f} s: what you see is older than it should be."
    return None
