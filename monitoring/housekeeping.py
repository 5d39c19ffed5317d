"""Keeping the house: partitions, retention, expired pauses, summaries, rows of dead processes.

Each step is idempotent and safe to run by two workers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import Q
from django.utils import timezone

from monitoring import actions, summaries
from monitoring.breakers import store
from monitoring.models import (
    Alert,
    Breaker,
    BreakerMinute,
    BreakerTransition,
    Check,
    Guarded,
    Process,
    Rollup,
    StateChange,
)
from monitoring.notifications import settling

logger = structlog.get_logger(__name__)

DAYS_AHEAD = 2
LEVEL_DAYS = {
    Rollup.Level.MINUTE: 2,
    Rollup.Level.SLOT: 9,
    Rollup.Level.HOUR: 100,
    Rollup.Level.DAY: 1_100,
}
"""How many days each level of rollups is kept; every period of the pages fits in its level."""

CHANGE_DAYS = 400
"""How many days state changes and resolved alerts are kept: a year, and time to look back on it."""

BREAKER_MINUTES_KEPT = timedelta(days=8)
"""A breaker's metrics cover a week."""

FORGET_PROCESS = timedelta(minutes=10)

_PARTITION = re.compile(r"^service_health_metrics_p(\d{8})$")


def run() -> None:
    """Every step; one that fails does not stop the others."""
    steps: list[Callable[[], object]] = [
        actions.resume_expired,
        sweep_breakers,
        make_partitions,
        drop_old_results,
        drop_old_rollups,
        drop_old_changes,
        drop_old_alerts,
        drop_old_messages,
        drop_old_breaker_counts,
        forget_processes,
        summaries.refresh_due,
    ]
    for step in steps:
        try:
            step()
        except Error:
            logger.exception("housekeeping step failed", step=step.__name__)


def make_partitions(today: date | None = None) -> list[str]:
    """Make the partitions of yesterday to the day after tomorrow; return the names of new ones."""
    first = (today or _today()) - timedelta(days=1)
    days = [first + timedelta(days=offset) for offset in range(DAYS_AHEAD + 2)]
    present = set(_partitions())
    return [_make_partition(day) for day in days if day not in present]


def drop_old_results(today: date | None = None) -> list[str]:
    """Drop the partitions of days older than ``WSMON_RESULT_DAYS``; return their names."""
    oldest = (today or _today()) - timedelta(days=settings.RESULT_DAYS)
    dropped = []
    for day, name in _partitions().items():
        if day < oldest:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {name}")
            dropped.append(name)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM service_health_metrics_other WHERE at < %s", [oldest])
    return dropped


def drop_old_rollups(now: datetime | None = None) -> int:
    """Delete rollups older than their level is kept; return how many.

    Check by check, so that the primary key finds them: an index by age alone would mislead the planner
    where every result is counted (monitoring/store.py).
    """
    moment = now or timezone.now()
    checks = list(Check.objects.values_list("id", flat=True))
    return sum(
        Rollup.objects.filter(level=level, check_id__in=checks, start__lt=moment - timedelta(days=days))._raw_delete(
            "default"
        )
        or 0  # None when there is no check at all
        for level, days in LEVEL_DAYS.items()
    )


def drop_old_changes(now: datetime | None = None) -> int:
    """Delete state changes older than ``CHANGE_DAYS``; return how many."""
    oldest = (now or timezone.now()) - timedelta(days=CHANGE_DAYS)
    return StateChange.objects.filter(at__lt=oldest).delete()[0]


def drop_old_alerts(now: datetime | None = None) -> int:
    """Delete alerts that were resolved ``CHANGE_DAYS`` ago; return how many."""
    oldest = (now or timezone.now()) - timedelta(days=CHANGE_DAYS)
    return Alert.objects.filter(resolved_at__lt=oldest).delete()[0]


def sweep_breakers() -> int:
    """End forces that are over and trials that were lost, of breakers that no process uses just now; how many."""
    over = Q(forced_until__lte=timezone.now()) | ~Q(trials=[])
    present = Guarded.objects.filter(archived_at=None).order_by().values("id")
    ids = Breaker.objects.filter(over, service__in=present).values_list("service_id", flat=True)
    return sum(store.sweep(service_id) is not None for service_id in ids)


def drop_old_messages() -> int:
    """Messages go when the alerts do that they told of."""
    return settling.forget(CHANGE_DAYS)


def drop_old_breaker_counts() -> int:
    """Delete the breakers' calls and transitions that nothing looks at any more; return how many rows."""
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_DROP_SLOTS)
        slots = int(cursor.rowcount)
    minutes, _ = BreakerMinute.objects.filter(start__lt=now - BREAKER_MINUTES_KEPT).delete()
    log, _ = BreakerTransition.objects.filter(at__lt=now - timedelta(days=CHANGE_DAYS)).delete()
    return slots + minutes + log


# Two windows back nothing is looked at any more: of busy breakers there is a row for each tenth of one.
_DROP_SLOTS = """
DELETE FROM monitoring_breakerslot t USING monitoring_guarded v
WHERE v.id = t.service_id
  AND t.start < now() - 2 * make_interval(secs => greatest(coalesce((v.policy ->> 'window')::float8, 10), 60))
"""


def forget_processes() -> int:
    """Remove the rows of processes not seen for a while."""
    return Process.objects.filter(seen_at__lt=timezone.now() - FORGET_PROCESS).delete()[0]


def _today() -> date:
    return datetime.now(UTC).date()


def _partitions() -> dict[date, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'service_health_metrics'::regclass"
        )
        names = [row[0] for row in cursor.fetchall()]
    matches = [_PARTITION.match(name) for name in names]
    return {datetime.strptime(m[1], "%Y%m%d").date(): m[0] for m in matches if m}  # noqa: DTZ007  a day in UTC


def _make_partition(day: date) -> str:
    """Make one day's partition. Rows of that day in the catch-all partition are moved into it."""
    name = f"service_health_metrics_p{day:%Y%m%d}"
    start, end = f"{day} 00:00+00", f"{day + timedelta(days=1)} 00:00+00"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('wsmon partitions'))")
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0]:
            return name
        # Writers wait here, before they choose a partition: none may be on its way to the catch-all.
        cursor.execute("LOCK TABLE service_health_metrics IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(f"CREATE TABLE {name} (LIKE service_health_metrics INCLUDING DEFAULTS)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM service_health_metrics_other"  # noqa: S608  the name is made of a date
            f" WHERE at >= %s AND at < %s RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved",
            [start, end],
        )
        cursor.execute(
            f"ALTER TABLE service_health_metrics ATTACH PARTITION {name} FOR VALUES FROM (%s) TO (%s)",
            [start, end],
        )
    return name
