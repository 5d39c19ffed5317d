"""What tries found, stored: attempts, deliveries, counts and the state of destinations, many in one transaction."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.db import connection, transaction

from monitoring import alerts, histogram
from webhooks import sealing
from webhooks.catalog import Destination
from webhooks.claims import Claim
from webhooks.schedule import Answer, Decision, decide, in_a_hurry
from webhooks.vocabulary import DeliveryStatus
from wsmon import live
from wsmon.audit import Actor, record

log = structlog.get_logger(__name__)

SYSTEM = Actor.system("webhooks")
LIVE_SECONDS = 0.3
FAILED_ALERT = "webhook_destination_disabled"


@dataclass(frozen=True, slots=True)
class Tried:
    """One try that was made."""

    claim: Claim
    destination: Destination
    answer: Answer
    at: datetime
    """When it began, by this process's clock."""
    decision: Decision = field(init=False)

    def __post_init__(self) -> None:
        chance = random.random()  # noqa: S311  jitter
        retry = in_a_hurry(self.destination.retry, self.claim.priority, self.destination.retry_factor)
        decision = decide(self.answer, self.claim.number, self.claim.max_tries, retry, chance)
        object.__setattr__(self, "decision", decision)


def settle(tried: Sequence[Tried]) -> None:
    """Store what tries found, in one transaction. Raises ``django.db.Error``; then nothing is stored."""
    if not tried:
        return
    with transaction.atomic():
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(_ATTEMPTS, _attempts(tried))
            cursor.execute(_DELIVERIES, _deliveries(tried))
            settled = {(row[0], row[1]) for row in cursor.fetchall()}
            cursor.execute(_COUNTS, _counts(tried, settled))
            cursor.execute(_STATES, _states(tried))
        _disable_the_gone(tried)
        _disable_the_failing({one.destination.id for one in tried if not one.answer.ok})
        _tell()


_ATTEMPTS = """
INSERT INTO webhook_delivery_log (delivery_id, number, at, ok, trial, http_status, category, message, fingerprint,
    dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, sealed)
SELECT a.* FROM unnest(%(delivery)b::bigint[], %(number)b::smallint[], %(at)b::timestamptz[], %(ok)b::bool[],
    %(trial)b::bool[], %(http)b::smallint[], %(category)b::text[], %(message)b::text[], %(fingerprint)b::text[],
    %(dns)b::float8[], %(connect)b::float8[], %(tls)b::float8[], %(first)b::float8[], %(total)b::float8[],
    %(sealed)b::bytea[])
AS a(delivery_id, number, at, ok, trial, http_status, category, message, fingerprint, dns_ms, connect_ms, tls_ms,
    first_byte_ms, total_ms, sealed)
WHERE EXISTS (SELECT FROM webhooks_delivery v WHERE v.id = a.delivery_id)
"""


def _attempts(tried: Sequence[Tried]) -> dict[str, list[Any]]:
    return {
        "delivery": [one.claim.id for one in tried],
        "number": [one.claim.number for one in tried],
        "at": [one.at for one in tried],
        "ok": [one.answer.ok for one in tried],
        "trial": [one.claim.trial for one in tried],
        "http": [one.answer.http_status for one in tried],
        "category": [one.answer.category or "" for one in tried],
        "message": [_plain(one.answer.message) for one in tried],
        "fingerprint": [one.answer.fingerprint for one in tried],
        "dns": [one.answer.timings.dns_ms for one in tried],
        "connect": [one.answer.timings.connect_ms for one in tried],
        "tls": [one.answer.timings.tls_ms for one in tried],
        "first": [one.answer.timings.first_byte_ms for one in tried],
        "total": [one.answer.timings.total_ms for one in tried],
        "sealed": [sealing.seal_exchange(one.answer.exchanged) for one in tried],
    }


def _plain(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:300]


# A lease that has run out meanwhile: somebody else sends it again, unless it is known now that it arrived.
_DELIVERIES = """
UPDATE webhooks_delivery v SET status = t.status, lease_token = NULL, lease_until = NULL, tried_at = t.at,
    due_at = now() + make_interval(secs => t.due_in),
    lane = CASE WHEN v.lane = 0 AND t.status = 'retrying' THEN 1 ELSE v.lane END,
    finished_at = CASE WHEN t.status IN ('delivered', 'failed') THEN now() END,
    http_status = t.http_status, category = t.category, message = t.message, fingerprint = t.fingerprint,
    total_ms = t.total_ms
FROM unnest(%(id)b::bigint[], %(token)b::uuid[], %(status)b::text[], %(due_in)b::float8[], %(at)b::timestamptz[],
    %(http)b::smallint[], %(category)b::text[], %(message)b::text[], %(fingerprint)b::text[], %(total)b::float8[])
AS t(id, token, status, due_in, at, http_status, category, message, fingerprint, total_ms)
WHERE v.id = t.id AND (v.lease_token = t.token
    OR (t.status = 'delivered' AND v.status IN ('pending', 'retrying', 'delivering', 'failed')))
RETURNING v.id, t.token
"""


def _deliveries(tried: Sequence[Tried]) -> dict[str, list[Any]]:
    return {
        "id": [one.claim.id for one in tried],
        "token": [one.claim.token for one in tried],
        "status": [one.decision.status.value for one in tried],
        "due_in": [one.decision.due_in for one in tried],
        "at": [one.at for one in tried],
        "http": [one.answer.http_status for one in tried],
        "category": [one.answer.category or "" for one in tried],
        "message": [_plain(one.answer.message) for one in tried],
        "fingerprint": [one.answer.fingerprint for one in tried],
        "total": [one.answer.timings.total_ms for one in tried],
    }


_COUNTS = """
INSERT INTO webhooks_deliverycount (level, source_id, destination_id, start, tries, tries_failed, delivered, failed,
    sum_ms, histogram)
SELECT l.level, c.source_id, c.destination_id, date_bin(make_interval(secs => l.level), now(), 'epoch'), c.tries,
    c.tries_failed, c.delivered, c.failed, c.sum_ms, c.histogram::int[]
FROM unnest(%(source)s::bigint[], %(destination)s::bigint[], %(tries)s::int[], %(tries_failed)s::int[],
    %(delivered)s::int[], %(failed)s::int[], %(sum_ms)s::float8[], %(histogram)s::text[])
AS c(source_id, destination_id, tries, tries_failed, delivered, failed, sum_ms, histogram)
CROSS JOIN (VALUES (60), (3600), (86400)) AS l(level) ORDER BY 1, 2, 3
ON CONFLICT (level, source_id, destination_id, start) DO UPDATE SET
    tries = webhooks_deliverycount.tries + excluded.tries,
    tries_failed = webhooks_deliverycount.tries_failed + excluded.tries_failed,
    delivered = webhooks_deliverycount.delivered + excluded.delivered,
    failed = webhooks_deliverycount.failed + excluded.failed,
    sum_ms = webhooks_deliverycount.sum_ms + excluded.sum_ms,
    histogram = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(webhooks_deliverycount.histogram, excluded.histogram) AS h(a, b))
"""


def _counts(tried: Sequence[Tried], settled: Collection[tuple[int, UUID]]) -> dict[str, list[Any]]:
    """Every try counts; a delivery, which two processes may have tried, as delivered or failed once."""
    groups: dict[tuple[int, int], list[Tried]] = defaultdict(list)
    for one in tried:
        groups[one.claim.source_id, one.claim.destination_id].append(one)
    places = sorted(groups)
    statuses = {
        place: [one.decision.status for one in groups[place] if (one.claim.id, one.claim.token) in settled]
        for place in places
    }
    times = {place: [one.answer.timings.total_ms or 0.0 for one in groups[place]] for place in places}
    return {
        "source": [place[0] for place in places],
        "destination": [place[1] for place in places],
        "tries": [len(groups[place]) for place in places],
        "tries_failed": [sum(not one.answer.ok for one in groups[place]) for place in places],
        "delivered": [statuses[place].count(DeliveryStatus.DELIVERED) for place in places],
        "failed": [statuses[place].count(DeliveryStatus.FAILED) for place in places],
        "sum_ms": [sum(times[place]) for place in places],
        "histogram": [_bins(times[place]) for place in places],
    }


def _bins(times: Sequence[float]) -> str:
    """A histogram as the text of a PostgreSQL array: columns of arrays of different lengths are not possible."""
    bins = [histogram.bin_of(ms) for ms in times]
    counted = [0] * (max(bins) + 1)
    for number in bins:
        counted[number] += 1
    return "{" + ",".join(map(str, counted)) + "}"


# Written only where something changes, so that a busy destination's row is left alone.
_STATES = """
UPDATE webhooks_destinationstate s SET
    failing_since = CASE WHEN t.ok THEN NULL ELSE coalesce(s.failing_since, now()) END,
    succeeded_at = CASE WHEN t.ok THEN now() ELSE s.succeeded_at END,
    held_until = greatest(s.held_until, now() + make_interval(secs => t.hold))
FROM unnest(%(destination)s::bigint[], %(ok)s::bool[], %(hold)s::float8[]) AS t(id, ok, hold)
WHERE s.destination_id = t.id AND (t.hold > 0 OR (t.ok AND (s.failing_since IS NOT NULL OR s.succeeded_at IS NULL
        OR s.succeeded_at < now() - interval '1 minute'))
    OR (NOT t.ok AND s.failing_since IS NULL))
"""


def _states(tried: Sequence[Tried]) -> dict[str, list[Any]]:
    ids = sorted({one.destination.id for one in tried})
    by_id = {number: [one for one in tried if one.destination.id == number] for number in ids}
    return {
        "destination": ids,
        "ok": [any(one.answer.ok for one in by_id[number]) for number in ids],
        "hold": [max((one.decision.hold or 0.0) for one in by_id[number]) for number in ids],
    }


_told_at = 0.0


def _tell() -> None:
    global _told_at  # noqa: PLW0603  one per process by design
    if time.monotonic() > _told_at + LIVE_SECONDS:
        _told_at = time.monotonic()
        live.publish("deliveries", {"destinations": []})


# Disabling ----------------------------------------------------------------------------------------


def _disable_the_gone(tried: Sequence[Tried]) -> None:
    for destination, reason in {(one.destination.id, one.decision.disable) for one in tried if one.decision.disable}:
        disable(destination, reason)


def _disable_the_failing(ids: set[int]) -> None:
    """Disable the destinations at which nothing has succeeded for longer than they allow."""
    if not ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT d.id, s.failing_since FROM webhooks_destination d
            JOIN webhooks_destinationstate s ON s.destination_id = d.id
            WHERE d.id = ANY(%s) AND s.disabled_at IS NULL
              AND s.failing_since < now() - make_interval(secs => d.disable_after)
            """,
            [sorted(ids)],
        )
        for destination_id, since in cursor.fetchall():
            with transaction.atomic():
                disable(destination_id, f"every try has failed since {since:%Y-%m-%d %H:%M} UTC")


def disable(destination_id: int, reason: str) -> bool:
    """Send this destination nothing more, and say so once. In the caller's transaction; what waits is kept."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE webhooks_destinationstate s SET disabled_at = now(), disabled_by = '', disabled_reason = %s
            FROM webhooks_destination d WHERE d.id = s.destination_id AND d.id = %s AND s.disabled_at IS NULL
            RETURNING d.slug
            """,
            [reason[:500], destination_id],
        )
        row = cursor.fetchone()
    if row is None:
        return False
    slug = row[0]
    record(SYSTEM, "destination.disable", f"destination:{slug}", reason)
    alerts.raise_alert(
        alert_key(slug),
        FAILED_ALERT,
        "critical",
        f"{slug} is disabled: {reason}",
        "Nothing is sent to it any more. What waits is kept, and goes out when somebody enables it.",
        "/webhooks/sources/",
    )
    log.warning("destination disabled", destination=slug, reason=reason)
    return True


def alert_key(slug: str) -> str:
    """The key of the alert that a destination is disabled; whoever enables it resolves it."""
    return f"webhook-destination:{slug}"
