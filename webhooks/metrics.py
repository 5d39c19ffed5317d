"""What this room shows Prometheus. Labels are names from the configuration: bounded, and none of an event's.

Totals are sums of the hours of today, so that a scrape costs the same at a thousand events and at a billion:
counters that start again at midnight UTC, which ``rate()`` and ``increase()`` know. What waits is counted up to
``COUNTED`` of each destination, along the index that claims it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from webhooks.eventmodels import EventCount
from webhooks.vocabulary import UNFINISHED, Lane, Priority

COUNTED = 10_000
"""Of more deliveries than these the number is not known exactly: it is shown as this."""


def collect() -> Iterator[Metric]:
    """Yield every metric of this room; five queries."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    yield from _events(midnight)
    yield from _deliveries(midnight)
    yield _refused(midnight)
    yield from _destinations()
    yield _silent()


_EVENTS = """
SELECT s.slug, coalesce(sum(c.events), 0), coalesce(sum(c.duplicates), 0) FROM webhooks_source s
LEFT JOIN webhooks_eventcount c ON c.source_id = s.id AND c.level = %s AND c.start >= %s
WHERE s.archived_at IS NULL GROUP BY 1 ORDER BY 1
"""


def _events(midnight: datetime) -> Iterator[Metric]:
    events = CounterMetricFamily("wsmon_webhook_events", "Events since midnight UTC.", labels=["source"])
    again = CounterMetricFamily("wsmon_webhook_duplicates", "Events that came again.", labels=["source"])
    for slug, first, repeated in _rows(_EVENTS, [EventCount.Level.HOUR, midnight]):
        events.add_metric([slug], first)
        again.add_metric([slug], repeated)
    yield from (events, again)


_DELIVERIES = """
SELECT d.slug, coalesce(sum(c.delivered), 0), coalesce(sum(c.failed), 0), coalesce(sum(c.tries), 0),
    coalesce(sum(c.tries_failed), 0), coalesce(sum(c.sum_ms), 0)
FROM webhooks_destination d
LEFT JOIN webhooks_deliverycount c ON c.destination_id = d.id AND c.level = %s AND c.start >= %s
WHERE d.archived_at IS NULL GROUP BY 1 ORDER BY 1
"""


def _deliveries(midnight: datetime) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "wsmon_webhook_deliveries", "Deliveries that ended since midnight UTC.", labels=["destination", "status"]
    )
    tries = CounterMetricFamily("wsmon_webhook_tries", "Tries since midnight UTC.", labels=["destination", "result"])
    seconds = CounterMetricFamily("wsmon_webhook_tries_seconds", "How long they took.", labels=["destination"])
    for slug, delivered, failed, made, wrong, ms in _rows(_DELIVERIES, [EventCount.Level.HOUR, midnight]):
        ended.add_metric([slug, "delivered"], delivered)
        ended.add_metric([slug, "failed"], failed)
        tries.add_metric([slug, "ok"], made - wrong)
        tries.add_metric([slug, "failed"], wrong)
        seconds.add_metric([slug], ms / 1000)
    yield from (ended, tries, seconds)


_REFUSED = """
SELECT source, code, sum(count) FROM webhooks_refusal WHERE at >= %s GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 500
"""


def _refused(midnight: datetime) -> Metric:
    text = "Requests that were refused since midnight UTC."
    family = CounterMetricFamily("wsmon_webhook_refused", text, labels=["source", "code"])
    for source, code, number in _rows(_REFUSED, [midnight]):
        family.add_metric([source, code], number)
    return family


# A lateral of each number along its own index; the oldest by lane, key or none, and priority: the order of the index.
_NOW = """
SELECT d.slug, s.paused_at IS NOT NULL, s.disabled_at IS NOT NULL, w.n, f.n,
    coalesce(extract(epoch FROM now() - o.due_at), 0)::float8
FROM webhooks_destination d JOIN webhooks_destinationstate s ON s.destination_id = d.id
CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM webhooks_delivery v
    WHERE v.destination_id = d.id AND v.status = ANY(%(unfinished)s) LIMIT %(most)s) x) w
CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM webhooks_delivery v
    WHERE v.destination_id = d.id AND v.status = 'failed' LIMIT %(most)s) x) f
CROSS JOIN LATERAL (SELECT min(y.due_at) AS due_at
    FROM unnest(%(lanes)s::int[]) AS l(lane) CROSS JOIN unnest(%(priorities)s::int[]) AS p(priority)
    CROSS JOIN (VALUES (0), (1)) AS k(keyed)
    CROSS JOIN LATERAL (SELECT v.due_at FROM webhooks_delivery v
        WHERE v.destination_id = d.id AND v.lane = l.lane AND v.priority = p.priority
          AND CASE WHEN v.order_key = '' THEN 0 ELSE 1 END = k.keyed
          AND v.status IN ('pending', 'retrying') AND v.due_at <= now()
        ORDER BY v.due_at LIMIT 1) y) o
WHERE d.archived_at IS NULL ORDER BY 1
"""


def _destinations() -> Iterator[Metric]:
    label = ["destination"]
    waiting = GaugeMetricFamily(
        "wsmon_webhook_waiting", f"Deliveries that are not finished, up to {COUNTED:,}.", labels=label
    )
    oldest = GaugeMetricFamily(
        "wsmon_webhook_oldest_due_seconds", "How long the one that is due longest has waited.", labels=label
    )
    failed = GaugeMetricFamily(
        "wsmon_webhook_failed", f"Dead letters that wait for a person, up to {COUNTED:,}.", labels=label
    )
    held = GaugeMetricFamily("wsmon_webhook_held", "1 when nothing is sent.", labels=["destination", "why"])
    for slug, paused, disabled, unfinished, dead, seconds in _rows(_NOW, _values()):
        waiting.add_metric([slug], unfinished)
        oldest.add_metric([slug], seconds)
        failed.add_metric([slug], dead)
        held.add_metric([slug, "paused"], float(paused))
        held.add_metric([slug, "disabled"], float(disabled))
    yield from (waiting, oldest, failed, held)


def _values() -> dict[str, Any]:
    return {
        "unfinished": [status.value for status in UNFINISHED],
        "most": COUNTED,
        "lanes": [lane.value for lane in Lane],
        "priorities": [priority.value for priority in Priority],
    }


def _silent() -> Metric:
    query = """
    SELECT s.slug, count(r.silent_since) FROM webhooks_source s LEFT JOIN webhooks_typerate r ON r.source_id = s.id
    WHERE s.archived_at IS NULL GROUP BY 1 ORDER BY 1
    """
    family = GaugeMetricFamily("wsmon_webhook_silent_types", "Types whose traffic has stopped.", labels=["source"])
    for slug, number in _rows(query, []):
        family.add_metric([slug], number)
    return family


def _rows(query: str, values: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
