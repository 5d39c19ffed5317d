"""Keeping what webhooks leave behind: indexing for search, and how long what is kept.

Everything goes in small transactions that pass over rows somebody else holds, so that neither ingest nor
delivery ever waits. Each step is idempotent, may run in two processes at once, and goes on next minute
where it stopped.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import Error, connection, transaction
from django.utils import timezone

from webhooks import erasing, search
from webhooks.eventmodels import DeliveryCount, EventCount
from webhooks.vocabulary import UNFINISHED
from wsmon.ids import earliest

logger = structlog.get_logger(__name__)

MINUTES_KEPT = timedelta(days=8)
"""Charts of 7 days are made of minutes."""
HOURS_KEPT = timedelta(days=400)
"""Days, too."""
REFUSALS_KEPT = timedelta(days=14)
MOST_REFUSALS = 20_000
KEYS_KEPT = timedelta(hours=24)
"""How long a request with an idempotency key may be repeated."""
EVENTS_AT_ONCE = 500
ROWS_AT_ONCE = 5_000
STEP_SECONDS = 20.0
"""A step begins nothing new after so long; the next minute goes on."""


def housekeep() -> None:
    """Every step, in this order; one that fails does not stop the others."""
    steps: list[Callable[[], object]] = [
        index_events,
        erasing.sweep,
        drop_payloads,
        drop_events,
        drop_counts,
        drop_refusals,
        drop_idempotency_keys,
    ]
    for step in steps:
        try:
            step()
        except Error:
            logger.exception("housekeeping step failed", step=step.__name__)


def index_events(seconds: float = STEP_SECONDS) -> int:
    """Make events findable until none is left; how many."""
    return _until_none_is_left(lambda: search.index_some(EVENTS_AT_ONCE), EVENTS_AT_ONCE, seconds)


def drop_payloads(now: datetime | None = None) -> int:
    """Forget the payloads of events older than ``WSMON_PAYLOAD_DAYS``, with what was found in them and answered.

    What is still to be delivered keeps its payload. Returns how many events lost theirs.
    """
    oldest = _days_ago(settings.PAYLOAD_DAYS, now)
    return _until_none_is_left(lambda: _drop_payloads(oldest), EVENTS_AT_ONCE)


def drop_events(now: datetime | None = None) -> int:
    """Delete events older than ``WSMON_EVENT_DAYS`` with all that belongs to them; how many.

    What is still to be delivered stays, and so does what became of a message that was heard of since.
    """
    moment = now or timezone.now()
    oldest = _days_ago(settings.EVENT_DAYS, moment)
    before = moment - timedelta(days=settings.EVENT_DAYS)
    return _until_none_is_left(lambda: _drop_events(oldest, before), EVENTS_AT_ONCE)


def drop_counts(now: datetime | None = None) -> int:
    """Delete counts older than their level is kept; how many."""
    moment = now or timezone.now()
    kept = {"MINUTE": MINUTES_KEPT, "HOUR": HOURS_KEPT, "DAY": HOURS_KEPT}
    tables = [("webhooks_eventcount", name) for name in EventCount.Level.names]
    tables += [("webhooks_deliverycount", name) for name in DeliveryCount.Level.names]
    return sum(_drop_rows(f"{table}_{name.lower()}", "start < %s", [moment - kept[name]]) for table, name in tables)


def drop_refusals(now: datetime | None = None) -> int:
    """Delete refusals that are old, and the oldest of too many; how many."""
    moment = now or timezone.now()
    old = _drop_rows("webhooks_refusal", "at < %s", [moment - REFUSALS_KEPT])
    too_many = "id IN (SELECT id FROM webhooks_refusal ORDER BY at DESC, id DESC OFFSET %s)"
    return old + _drop_rows("webhooks_refusal", too_many, [MOST_REFUSALS])


def drop_idempotency_keys(now: datetime | None = None) -> int:
    """Delete the answers that nobody may ask for again; how many."""
    moment = now or timezone.now()
    return _drop_rows("webhooks_idempotencykey", "created_at < %s", [moment - KEYS_KEPT])


def _days_ago(days: float, now: datetime | None) -> uuid.UUID:
    """The first id that an event so many days old could have: ids begin with the time."""
    return earliest(((now or timezone.now()) - timedelta(days=days)).timestamp())


def _until_none_is_left(step: Callable[[], int], full: int, seconds: float = STEP_SECONDS) -> int:
    """Repeat a step while it had ``full`` rows to do; how many it did in all."""
    total, end = 0, time.monotonic() + seconds
    while True:
        done = step()
        total += done
        if done < full or time.monotonic() > end:
            return total


_OLD = """
SELECT e.id FROM webhooks_event e
WHERE e.id < %s {more} AND NOT EXISTS (
    SELECT FROM webhooks_delivery d WHERE d.event_id = e.id AND d.status = ANY(%s))
ORDER BY e.id LIMIT %s FOR {lock} SKIP LOCKED
"""
_FORGET = """
UPDATE webhooks_event SET sealed = NULL, request = NULL, indexed = true WHERE id = ANY(%(ids)s);
DELETE FROM webhooks_eventtokens WHERE event_id = ANY(%(ids)s);
UPDATE webhook_delivery_log a SET sealed = NULL FROM webhooks_delivery d
    WHERE d.id = a.delivery_id AND d.event_id = ANY(%(ids)s) AND a.sealed IS NOT NULL
"""
_DELETE = """
DELETE FROM webhook_delivery_log a USING webhooks_delivery d
    WHERE d.id = a.delivery_id AND d.event_id = ANY(%(ids)s);
DELETE FROM webhooks_delivery WHERE event_id = ANY(%(ids)s);
DELETE FROM webhooks_eventtokens WHERE event_id = ANY(%(ids)s);
DELETE FROM webhooks_message m USING webhooks_event e
    WHERE e.id = ANY(%(ids)s) AND m.source_id = e.source_id AND m.subject = e.subject AND m.changed_at < %(before)s;
DELETE FROM webhooks_event WHERE id = ANY(%(ids)s)
"""


def _drop_payloads(oldest: uuid.UUID) -> int:
    with transaction.atomic():
        ids = _old_events(_OLD.format(more="AND e.sealed IS NOT NULL", lock="NO KEY UPDATE"), oldest)
        _run(_FORGET, {"ids": ids})
    return len(ids)


def _drop_events(oldest: uuid.UUID, before: datetime) -> int:
    with transaction.atomic():
        # The strongest lock: a replay that begins just now waits, and then finds no event.
        ids = _old_events(_OLD.format(more="", lock="UPDATE"), oldest)
        _run(_DELETE, {"ids": ids, "before": before})
    return len(ids)


def _old_events(query: str, oldest: uuid.UUID) -> list[uuid.UUID]:
    with connection.cursor() as cursor:
        cursor.execute(query, [oldest, [status.value for status in UNFINISHED], EVENTS_AT_ONCE])
        return [row[0] for row in cursor.fetchall()]


def _run(statements: str, values: dict[str, Any]) -> None:
    if not values["ids"]:
        return
    with connection.cursor() as cursor:
        for statement in statements.split(";"):
            cursor.execute(statement, values)


def _drop_rows(table: str, condition: str, values: Sequence[Any]) -> int:
    """Delete the rows of a condition, some at a time."""
    query = (
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608  constants
        f"SELECT ctid FROM {table} WHERE {condition} LIMIT %s FOR UPDATE SKIP LOCKED))"
    )

    def step() -> int:
        with connection.cursor() as cursor:
            cursor.execute(query, [*values, ROWS_AT_ONCE])
            return int(cursor.rowcount)

    return _until_none_is_left(step, ROWS_AT_ONCE)
