"""What Prometheus is shown of messages. Labels are channels and words of ours: bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from django.db import connection
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from monitoring.models import Channel, Notification

# One look at the messages of today, by an index of each channel, and one at what waits.
_TODAY = """
SELECT c.slug, n.state, count(*) FROM monitoring_channel c
JOIN monitoring_notification n ON n.channel_id = c.id AND n.created_at >= %s
WHERE c.archived_at IS NULL AND n.kind <> 'test' GROUP BY 1, 2 ORDER BY 1, 2
"""
_WAITING = """
SELECT c.slug, count(n.id), coalesce(max(extract(epoch FROM now() - n.due_at)), 0)::float8
FROM monitoring_channel c
LEFT JOIN monitoring_notification n ON n.channel_id = c.id AND n.state IN ('pending', 'sending')
WHERE c.archived_at IS NULL GROUP BY 1 ORDER BY 1
"""
ENDED = (Notification.State.SENT, Notification.State.GATHERED, Notification.State.DROPPED, Notification.State.FAILED)


def collect() -> Iterator[Metric]:
    """Yield every metric of messages."""
    channels = Channel.objects.filter(archived_at=None).order_by("slug").values_list("slug", "failing_since")
    failing_since = dict(channels)
    yield _written(failing_since)
    yield from _waiting()
    failing = GaugeMetricFamily("wsmon_channel_failing", "1 while a channel takes no messages.", labels=["channel"])
    for slug, since in failing_since.items():
        failing.add_metric([slug], float(since is not None))
    yield failing


def _written(slugs: Iterable[str]) -> Metric:
    """A counter that starts again at midnight UTC, which ``rate()`` and ``increase()`` know."""
    text = "Messages written since midnight UTC that ended, by what became of them; failed: could not be delivered."
    family = CounterMetricFamily("wsmon_notifications", text, labels=["channel", "state"])
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(_TODAY, [midnight])
        rows = cursor.fetchall()
    found = {(slug, state): number for slug, state, number in rows}
    for slug in slugs:
        for state in ENDED:
            family.add_metric([slug, state.value], found.get((slug, state.value), 0))
    return family


def _waiting() -> Iterator[Metric]:
    waiting = GaugeMetricFamily("wsmon_notifications_waiting", "Messages that wait or are sent.", labels=["channel"])
    late = GaugeMetricFamily(
        "wsmon_notifications_late_seconds", "For how long the most overdue message waits.", labels=["channel"]
    )
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        for slug, number, seconds in cursor.fetchall():
            waiting.add_metric([slug], number)
            late.add_metric([slug], max(0.0, seconds))
    yield waiting
    yield late
