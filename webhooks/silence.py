"""Traffic that stops when it should not: learns what is usual, watches, raises alerts and resolves them.

What is usual and what is silence is decided in webhooks/usual.py. Each function is a few bounded queries in one
transaction, made by one process at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db import connection, transaction
from django.utils import timezone

from monitoring import alerts
from webhooks import usual
from webhooks.configmodels import Source
from webhooks.eventmodels import EventCount
from webhooks.replaymodels import TypeRate
from webhooks.usual import Usual, Watched
from wsmon.locks import alone

KIND = "webhook_silence"
MOST_TYPES = 300
"""So many types are learned and watched, the busiest ones of all sources; besides each source as a whole."""
LEARN_EVERY = timedelta(hours=1)


def run(now: datetime | None = None) -> None:
    """Once a minute: learn if an hour has passed, and watch."""
    moment = now or timezone.now()
    newest = TypeRate.objects.order_by("-learned_at").exclude(learned_at=None).values_list("learned_at", flat=True)
    learned_at = newest.first()
    if learned_at is None or moment - learned_at >= LEARN_EVERY:
        learn(moment)
    watch(moment)


# Learning -----------------------------------------------------------------------------------------

_COUNTS = """
WITH busiest AS (
    SELECT c.source_id, c.type FROM webhooks_eventcount c
    JOIN webhooks_source s ON s.id = c.source_id AND s.archived_at IS NULL AND s.watch_silence
    WHERE c.level = %(hour)s AND c.start >= %(since)s AND c.start < %(end)s
    GROUP BY 1, 2 ORDER BY sum(c.events) DESC, 1, 2 LIMIT %(most)s
)
SELECT b.source_id, b.type, f.first, c.hours, c.events FROM busiest b
CROSS JOIN LATERAL (SELECT min(start) AS first FROM webhooks_eventcount
    WHERE level = %(hour)s AND source_id = b.source_id AND type = b.type) f
CROSS JOIN LATERAL (SELECT array_agg(extract(epoch FROM start)::int / 3600) AS hours, array_agg(events) AS events
    FROM webhooks_eventcount WHERE level = %(hour)s AND source_id = b.source_id AND type = b.type
      AND start >= %(since)s AND start < %(end)s) c
"""
_KEEP = """
INSERT INTO webhooks_typerate (source_id, type, usual, weeks, spread, learned_at, expected)
SELECT r.source_id, r.type, r.usual::jsonb, r.weeks, r.spread, %(now)s, 0
FROM unnest(%(sources)s::bigint[], %(types)s::text[], %(usual)s::text[], %(weeks)s::int[], %(spread)s::float8[])
    AS r(source_id, type, usual, weeks, spread)
ON CONFLICT (source_id, type) DO UPDATE SET usual = excluded.usual, weeks = excluded.weeks,
    spread = excluded.spread, learned_at = excluded.learned_at
"""


@dataclass(slots=True)
class _History:
    first: datetime
    counts: dict[datetime, int]

    def add(self, other: _History) -> None:
        self.first = min(self.first, other.first)
        for hour, events in other.counts.items():
            self.counts[hour] = self.counts.get(hour, 0) + events


def learn(now: datetime | None = None) -> int:
    """Learn what is usual of every source and its types from the hours that are over; how many."""
    moment = now or timezone.now()
    end = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    with transaction.atomic():
        if not alone("wsmon silence learn"):
            return 0
        histories = dict(_histories(end))
        found = {
            place: usual.learn_weeks(one.first, end, one.counts) or usual.learn_young(one.first, end, one.counts)
            for place, one in histories.items()
        }
        _keep(found, moment)
        for row in TypeRate.objects.exclude(learned_at=moment).select_related("source"):
            alerts.resolve(alert_key(row.source.slug, row.type))  # nothing has come for so long that none is expected
            row.delete()
    return len(found)


def _histories(end: datetime) -> Iterator[tuple[tuple[int, str], _History]]:
    """(source, type) -> its hours; the type "" is all of the source together."""
    whole: dict[int, _History] = {}
    since = end - usual.WEEKS * usual.WEEK_HOURS * usual.HOUR
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"hour": EventCount.Level.HOUR, "since": since, "end": end, "most": MOST_TYPES}
        cursor.execute(_COUNTS, values)
        for source_id, type_, first, hours, events in cursor:
            starts = (datetime.fromtimestamp(hour * 3600, UTC) for hour in hours)
            one = _History(first, dict(zip(starts, events, strict=True)))
            whole.setdefault(source_id, _History(first, {})).add(one)
            yield (source_id, type_), one
    yield from (((source_id, ""), one) for source_id, one in whole.items())


def _keep(found: dict[tuple[int, str], Usual | None], now: datetime) -> None:
    values: dict[str, Any] = {
        "now": now,
        "sources": [source_id for source_id, _type in found],
        "types": [type_ for _source, type_ in found],
        "usual": [json.dumps([round(rate, 3) for rate in one.rates] if one else []) for one in found.values()],
        "weeks": [one.weeks if one else 0 for one in found.values()],
        "spread": [one.spread if one else 1.0 for one in found.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, values)


# Watching -----------------------------------------------------------------------------------------

_LATEST = """
SELECT r.id, CASE WHEN r.type = '' THEN
    (SELECT e.received_at FROM webhooks_event e WHERE e.source_id = r.source_id ORDER BY e.id DESC LIMIT 1)
ELSE
    (SELECT c.start + interval '1 minute' FROM webhooks_eventcount c
     WHERE c.level = %s AND c.source_id = r.source_id AND c.type = r.type ORDER BY c.start DESC LIMIT 1)
END FROM webhooks_typerate r
"""
_WATCHED = """
UPDATE webhooks_typerate r SET last_at = g.last_at, watched_at = %(now)s, expected = g.expected,
    silent_since = g.silent_since
FROM unnest(%(ids)s::bigint[], %(last)s::timestamptz[], %(expected)s::float8[], %(silent)s::timestamptz[])
    AS g(id, last_at, expected, silent_since)
WHERE r.id = g.id
"""


def watch(now: datetime | None = None) -> int:
    """Look at every source and type; raise and resolve alerts. Returns how many are silent."""
    moment = now or timezone.now()
    with transaction.atomic():
        if not alone("wsmon silence watch"):
            return 0
        rates = list(TypeRate.objects.select_related("source__service"))
        after = _looked(rates, moment)
        _store(after, moment)
        quiet = {rate.source_id for rate in rates if rate.type == "" and after[rate.id].silent_since}
        for rate in rates:
            _alert(rate, after[rate.id], moment, covered=rate.type != "" and rate.source_id in quiet)
    return sum(one.silent_since is not None for one in after.values())


def _looked(rates: list[TypeRate], now: datetime) -> dict[int, Watched]:
    with connection.cursor() as cursor:
        cursor.execute(_LATEST, [EventCount.Level.MINUTE])
        latest: dict[int, datetime | None] = dict(cursor.fetchall())
    whole: dict[int, list[datetime]] = defaultdict(list)
    for rate in rates:
        at = latest.get(rate.id)
        latest[rate.id] = at = min(at, now) if at else None
        if at:
            whole[rate.source_id].append(at)
    after = {}
    for rate in rates:
        at = latest[rate.id] if rate.type else max(whole[rate.source_id], default=None)
        before = Watched(rate.last_at, rate.watched_at, rate.expected, rate.silent_since)
        after[rate.id] = usual.look(before, usual_of(rate), at, now)
    return after


def usual_of(rate: TypeRate) -> Usual | None:
    """What was learned; None while that is nothing, or when nobody wants to know."""
    if len(rate.usual) != usual.WEEK_HOURS or not rate.source.watch_silence or rate.source.archived_at:
        return None
    return Usual(tuple(rate.usual), rate.weeks, rate.spread)


def _store(after: dict[int, Watched], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            _WATCHED,
            {
                "now": now,
                "ids": list(after),
                "last": [one.last_at for one in after.values()],
                "expected": [one.expected for one in after.values()],
                "silent": [one.silent_since for one in after.values()],
            },
        )


def _alert(rate: TypeRate, after: Watched, now: datetime, *, covered: bool) -> None:
    """Raise, or resolve. A type whose source is silent as a whole is ``covered`` by the source's alert."""
    key = alert_key(rate.source.slug, rate.type)
    if after.silent_since is None or covered:
        if rate.silent_since is not None:
            alerts.resolve(key)
        return
    query = {"source": rate.source.slug} | ({"type": rate.type} if rate.type else {})
    title, detail = words(rate, after, now)
    severity = "warning" if rate.type else "critical"
    alerts.raise_alert(key, KIND, severity, title, detail, f"/webhooks/?{urlencode(query)}", rate.source.service)


def words(rate: TypeRate, after: Watched, now: datetime) -> tuple[str, str]:
    """An alert's title and detail."""
    since = after.silent_since or now
    per_hour = rate.usual[usual.hour_of_week(now.astimezone(UTC))]
    title = f"{rate.source.slug}: no {rate.type or 'event'} for {_duration(now - since)}"
    learned = f"learned from {rate.weeks} weeks" if rate.weeks else "by the last two days"
    detail = (
        f"The last one came at {since:%Y-%m-%d %H:%M} UTC. About {after.expected:,.0f} should have come since;"
        f" {per_hour:,.1f} an hour are usual now ({learned})."
    )
    return title, detail


def alert_key(source: Source | str, type_: str) -> str:
    """The key of the alert that a source, or one of its types, is silent."""
    return f"webhook-silence:{source}:{type_}"


def _duration(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
