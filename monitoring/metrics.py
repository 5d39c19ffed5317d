"""What this room shows Prometheus. Labels are names from the configuration: bounded, and none of a result's.

One query for services and checks, one for today's probes, and the overview's and self-watch's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from django.db import connection
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from monitoring import alerts, overview, selfwatch
from monitoring.breakers import reads
from monitoring.breakers.machine import Mode
from monitoring.models import Rollup, Service
from wsmon.vocabulary import Outcome, Status

CHECK = ["service", "check", "kind"]
UP = (Status.HEALTHY, Status.DEGRADED)
DOWN = (Status.CRITICAL, Status.ERROR)

_CHECKS = """
SELECT v.slug, c.name, c.kind, c.paused_at IS NOT NULL AND coalesce(c.paused_until > now(), true),
       s.status, s.total_ms, s.checked_at, u.healthy, u.degraded, u.critical, u.error
FROM monitoring_configuration c
JOIN monitoring_service v ON v.id = c.service_id
JOIN monitoring_checkstate s ON s.check_id = c.id
LEFT JOIN monitoring_rollup u ON u.check_id = c.id AND u.level = %s AND u.start = %s
WHERE c.archived_at IS NULL AND v.archived_at IS NULL
ORDER BY v.slug, c.id
"""


class Row(NamedTuple):
    """One check, its state, and today's probes by outcome."""

    service: str
    check: str
    kind: str
    paused: bool
    status: str
    total_ms: float | None
    checked_at: datetime | None
    healthy: int | None
    degraded: int | None
    critical: int | None
    error: int | None

    @property
    def labels(self) -> list[str]:
        """The values of ``CHECK``."""
        return [self.service, self.check, self.kind]


def collect() -> Iterator[Metric]:
    """Yield every metric of this room."""
    yield from _overall()
    yield _services()
    yield from _checks()
    yield from _breakers()
    yield _alerts()
    yield from _self()


def _overall() -> Iterator[Metric]:
    found = overview.overall()
    status = GaugeMetricFamily("wsmon_overall_status", "1 for the overall status, 0 for others.", labels=["status"])
    for word in (Status.HEALTHY, Status.DEGRADED, Status.CRITICAL, Status.UNKNOWN):
        status.add_metric([word.value], float(found.status == word))
    yield status
    yield _gauge("wsmon_services_healthy", "Services that are healthy.", found.healthy)
    yield _gauge("wsmon_services_counted", "Services in the overall status.", found.counted)
    services = GaugeMetricFamily("wsmon_services", "Services by status.", labels=["status"])
    for word in Status:
        services.add_metric([word.value], found.by_status.get(word.value, 0))
    yield services


def _services() -> Metric:
    family = GaugeMetricFamily(
        "wsmon_service_status", "1 for the status a service has, 0 for others.", labels=["service", "status"]
    )
    for slug, status in Service.objects.filter(archived_at=None).values_list("slug", "status"):
        for word in Status:
            family.add_metric([slug, word.value], float(status == word))
    return family


def _checks() -> Iterator[Metric]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(_CHECKS, [Rollup.Level.DAY, midnight])
        rows = [Row(*row) for row in cursor]
    yield _up(rows)
    seconds = GaugeMetricFamily(
        "wsmon_check_response_seconds", "Response time of a check's last probe.", labels=CHECK
    )
    probed = GaugeMetricFamily("wsmon_check_probed_timestamp_seconds", "When a check was last probed.", labels=CHECK)
    for row in rows:
        if row.total_ms is not None:
            seconds.add_metric(row.labels, row.total_ms / 1000)
        if row.checked_at is not None:
            probed.add_metric(row.labels, row.checked_at.timestamp())
    yield seconds
    yield probed
    yield _probes(rows)


def _up(rows: list[Row]) -> Metric:
    text = "1 when a check is healthy or degraded, 0 when critical or error; absent when nothing is known."
    family = GaugeMetricFamily("wsmon_check_up", text, labels=CHECK)
    for row in rows:
        if not row.paused and row.status in (*UP, *DOWN):
            family.add_metric(row.labels, float(row.status in UP))
    return family


def _probes(rows: list[Row]) -> Metric:
    """Today's probes: a counter that starts again at midnight UTC, which ``rate()`` and ``increase()`` know."""
    text = "Scheduled probes since midnight UTC, by outcome."
    family = CounterMetricFamily("wsmon_probes", text, labels=[*CHECK, "outcome"])
    for row in rows:
        for word in Outcome:
            family.add_metric([*row.labels, word.value], getattr(row, word.value) or 0)
    return family


def _breakers() -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "wsmon_breaker_state",
        "1 for what callers of a service or destination meet, 0 for others.",
        labels=["service", "state"],
    )
    forced = GaugeMetricFamily("wsmon_breaker_forced", "1 while a person forces it.", labels=["service"])
    calls = GaugeMetricFamily(
        "wsmon_breaker_window_calls", "Calls in the breaker's window, by result.", labels=["service", "result"]
    )
    rejected = GaugeMetricFamily("wsmon_breaker_rejected", "Calls refused in the last 24 hours.", labels=["service"])
    for view in reads.views():
        for mode in Mode:
            state.add_metric([view.slug, mode.value], float(view.effective is mode))
        forced.add_metric([view.slug], float(view.state.override is not None))
        calls.add_metric([view.slug, "ok"], view.ok)
        calls.add_metric([view.slug, "failed"], view.fail)
        rejected.add_metric([view.slug], view.rejected)
    yield from (state, forced, calls, rejected)


def _alerts() -> Metric:
    family = GaugeMetricFamily("wsmon_alerts_open", "Alerts that are open.", labels=["kind", "severity"])
    for (kind, severity), number in alerts.open_counts().items():
        family.add_metric([kind, severity], number)
    return family


def _self() -> Iterator[Metric]:
    found = selfwatch.look()
    yield _gauge("wsmon_scheduler_lateness_seconds", "How late the most overdue check is.", found.lateness_s)
    yield _gauge("wsmon_workers", "Workers that run.", found.workers)
    yield _gauge("wsmon_probes_per_second", "Probes made, by all workers.", found.probes_per_second)
    yield _gauge(
        "wsmon_database_seconds", "How long the database took for one small query.", found.database_ms / 1000
    )
    yield _gauge("wsmon_ok", "1 when wsmon itself has no problem.", float(found.problem is None))
    if found.beat_age_s is not None:
        yield _gauge("wsmon_scheduler_tick_age_seconds", "Time since the last tick.", found.beat_age_s)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
