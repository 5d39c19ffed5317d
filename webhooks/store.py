"""Events and their deliveries, written in one statement, which is one transaction.

A request is acknowledged when this has returned. The same event from many senders at once is stored once:
the unique key of (source, key) decides, and whoever comes second only counts.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.db import connection

from providers.hooks import Found, MessageStatus, rank
from webhooks import catalog, routing, sealing
from webhooks.sealing import Content
from webhooks.vocabulary import Priority
from wsmon import live
from wsmon.ids import uuid7
from wsmon.vocabulary import JSON

CHANNEL = "wsmon_deliveries"
"""Notified when there is something to deliver."""
LIVE_SECONDS = 0.3
"""Open pages are told that there is news at most so often by one process."""


Place = tuple[int, str]
"""A source's id and the vendor's event id: what is unique."""
Known = dict[Place, tuple[uuid.UUID, bool, int]]
"""By place: the event's id, whether it is new, and to how many destinations it goes."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One event as it is to be stored. ``request``: the whole request of a batch, in its first event only."""

    source: catalog.Source
    key: str
    type: str
    received_at: datetime
    content: Content = field(repr=False)
    subject: str = ""
    status: MessageStatus | None = None
    occurred_at: datetime | None = None
    request: Content | None = field(default=None, repr=False)
    batch: uuid.UUID | None = None
    address: str | None = None
    verification: dict[str, JSON] = field(default_factory=dict)
    content_type: str = ""
    priority: Priority | None = None
    """Instead of the routes'."""
    id: uuid.UUID = field(default_factory=uuid7)

    @property
    def found(self) -> Found:
        """The event as its provider read it."""
        return Found(self.key, self.type, self.occurred_at, self.subject, self.status)


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one: its id (that of the first, when it is a duplicate), and where it goes."""

    event_id: uuid.UUID
    new: bool
    routed: int


def save(events: Sequence[NewEvent]) -> list[Saved]:
    """Store events with their deliveries; return what became of each, in their order.

    Committed when it returns, unless the caller is in a transaction. Raises ``psycopg.Error`` or
    ``django.db.Error`` when the database does not answer: then nothing is stored.
    """
    firsts: dict[Place, NewEvent] = {}
    again: dict[Place, int] = {}
    for event in events:
        place = (event.source.id, event.key)
        if place in firsts:
            again[place] += 1
        else:
            firsts[place], again[place] = event, 0
    # In one order, so that two processes that store the same events never wait for each other in a circle.
    unique = [firsts[place] for place in sorted(firsts)]
    # In the order of arrival, which is that of their ids and so of what is sent one at a time.
    deliveries = {event.id: list(_deliveries(event)) for event in firsts.values()}
    known = _insert(unique, again, deliveries)
    return [_saved(event, firsts, known) for event in events]


def _saved(
    event: NewEvent,
    firsts: dict[Place, NewEvent],
    known: dict[Place, tuple[uuid.UUID, bool, int]],
) -> Saved:
    place = (event.source.id, event.key)
    event_id, new, routed = known[place]
    return Saved(event_id, new and firsts[place] is event, routed)


def _deliveries(event: NewEvent) -> Iterable[tuple[Any, ...]]:
    """One for each destination: where several routes lead to the same one, the most urgent."""
    payload = routing.Payload(event.content.body, event.content_type)
    chosen: dict[int, catalog.Way] = {}
    for way in event.source.ways:
        other = chosen.get(way.destination_id)
        if (other is None or way.priority < other.priority) and (
            routing.type_matches(way.events, event.type) and routing.payload_matches(way.filters, payload)
        ):
            chosen[way.destination_id] = way
    for way in chosen.values():
        priority = way.priority if event.priority is None else event.priority
        key = routing.order_key(way.order_by, event.found, payload)
        yield event.id, way.destination_id, way.id, priority, key, way.max_tries


_SAVE = """
WITH given AS (
    SELECT * FROM unnest(%(id)b::uuid[], %(source)b::bigint[], %(key)b::text[], %(type)b::text[], %(subject)b::text[],
        %(status)b::text[], %(occurred)b::timestamptz[], %(received)b::timestamptz[], %(size)b::int[],
        %(sha256)b::bytea[], %(address)s::text[], %(verification)b::text[], %(routed)b::smallint[],
        %(again)b::int[], %(sealed)b::bytea[], %(request)b::bytea[], %(batch)b::uuid[], %(rank)b::smallint[])
    AS g(id, source_id, key, type, subject, status, occurred_at, received_at, size, sha256, address, verification,
        routed, again, sealed, request, batch, rank)
), new AS (
    INSERT INTO webhooks_event (id, source_id, key, type, subject, message_status, occurred_at, received_at, size,
        sha256, address, verification, routed, duplicates, sealed, request, batch, indexed)
    SELECT id, source_id, key, type, subject, status, occurred_at, received_at, size, sha256, address::inet,
        verification::jsonb, routed, again, sealed, request, batch, false FROM given
    ON CONFLICT (source_id, key) DO NOTHING RETURNING id, source_id, key, routed
), sent AS (
    INSERT INTO webhooks_delivery (event_id, destination_id, source_id, type, route_id, status, lane, priority,
        order_key, tries, max_tries, category, message, fingerprint)
    SELECT d.event_id, d.destination_id, g.source_id, g.type, d.route_id, 'pending', 0, d.priority, d.order_key, 0,
        d.max_tries, '', '', ''
    FROM unnest(%(d_event)b::uuid[], %(d_destination)b::bigint[], %(d_route)b::bigint[], %(d_priority)b::smallint[],
        %(d_order)b::text[], %(d_tries)b::smallint[])
        WITH ORDINALITY AS d(event_id, destination_id, route_id, priority, order_key, max_tries, number)
    JOIN new ON new.id = d.event_id JOIN given g ON g.id = d.event_id ORDER BY d.number
), again AS (
    UPDATE webhooks_event e SET duplicates = e.duplicates + known.again + 1
    FROM (
        SELECT k.id, g.again FROM given g JOIN webhooks_event k ON k.source_id = g.source_id AND k.key = g.key
        WHERE NOT EXISTS (SELECT FROM new WHERE new.source_id = g.source_id AND new.key = g.key)
        ORDER BY k.source_id, k.key FOR UPDATE OF k  -- in one order, as all who store
    ) known
    WHERE e.id = known.id RETURNING e.id, e.source_id, e.key, e.routed
), counted AS (
    INSERT INTO webhooks_eventcount (level, source_id, type, start, events, duplicates)
    SELECT l.level, g.source_id, g.type, date_bin(make_interval(secs => l.level), g.received_at, 'epoch'),
        count(new.id), sum(g.again + CASE WHEN new.id IS NULL THEN 1 ELSE 0 END)
    FROM given g LEFT JOIN new ON new.id = g.id CROSS JOIN (VALUES (60), (3600)) AS l(level)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (level, source_id, type, start) DO UPDATE SET
        events = webhooks_eventcount.events + excluded.events,
        duplicates = webhooks_eventcount.duplicates + excluded.duplicates
), told AS (
    INSERT INTO webhooks_message (source_id, subject, status, rank, changed_at, event_id)
    SELECT DISTINCT ON (g.source_id, g.subject) g.source_id, g.subject, g.status, g.rank,
        coalesce(g.occurred_at, g.received_at), g.id
    FROM given g JOIN new ON new.id = g.id WHERE g.status <> '' AND g.subject <> ''
    ORDER BY g.source_id, g.subject, g.rank DESC
    ON CONFLICT (source_id, subject) DO UPDATE SET
        status = excluded.status, rank = excluded.rank, changed_at = excluded.changed_at, event_id = excluded.event_id
    WHERE excluded.rank > webhooks_message.rank
)
SELECT source_id, key, id, true, routed FROM new UNION ALL SELECT source_id, key, id, false, routed FROM again
"""

# What somebody else stored while the statement above ran: it met the row, and does not see it.
_LATE = """
UPDATE webhooks_event e SET duplicates = e.duplicates + known.n
FROM (
    SELECT k.id, g.n FROM unnest(%(source)s::bigint[], %(key)s::text[], %(n)s::int[]) AS g(source_id, key, n)
    JOIN webhooks_event k ON k.source_id = g.source_id AND k.key = g.key
    ORDER BY k.source_id, k.key FOR UPDATE OF k
) known
WHERE e.id = known.id RETURNING e.source_id, e.key, e.id, false, e.routed
"""


def _insert(
    events: Sequence[NewEvent], again: dict[Place, int], deliveries: dict[uuid.UUID, list[tuple[Any, ...]]]
) -> Known:
    if not events:
        return {}
    parameters = _columns(events, again, deliveries) | _delivery_columns(deliveries)
    connection.ensure_connection()
    # Not Django's cursor, which writes every value into the text of the statement.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(_SAVE, parameters)
        known: Known = {(row[0], row[1]): (row[2], row[3], row[4]) for row in cursor.fetchall()}
        late = [event for event in events if (event.source.id, event.key) not in known]
        if late:
            places = [(event.source.id, event.key) for event in late]
            counts = [again[place] + 1 for place in places]
            sources, keys = [place[0] for place in places], [place[1] for place in places]
            cursor.execute(_LATE, {"source": sources, "key": keys, "n": counts})
            known |= {(row[0], row[1]): (row[2], row[3], row[4]) for row in cursor.fetchall()}
        _tell(cursor, deliveries, known)
    return known


def _columns(
    events: Sequence[NewEvent], again: dict[Place, int], deliveries: dict[uuid.UUID, list[tuple[Any, ...]]]
) -> dict[str, list[Any]]:
    return {
        "id": [event.id for event in events],
        "source": [event.source.id for event in events],
        "key": [event.key for event in events],
        "type": [event.type for event in events],
        "subject": [event.subject for event in events],
        "status": [event.status.value if event.status else "" for event in events],
        "rank": [rank(event.status) if event.status else 0 for event in events],
        "occurred": [event.occurred_at for event in events],
        "received": [event.received_at for event in events],
        "size": [len(event.content.body) for event in events],
        "sha256": [hashlib.sha256(event.content.body).digest() for event in events],
        "address": [event.address for event in events],
        "verification": [json.dumps(event.verification) for event in events],
        "routed": [len(deliveries[event.id]) for event in events],
        "again": [again[event.source.id, event.key] for event in events],
        "sealed": [sealing.seal(event.content) for event in events],
        "request": [event.request and sealing.seal(event.request) for event in events],
        "batch": [event.batch for event in events],
    }


def _delivery_columns(deliveries: dict[uuid.UUID, list[tuple[Any, ...]]]) -> dict[str, list[Any]]:
    rows = [row for found in deliveries.values() for row in found]
    names = ("d_event", "d_destination", "d_route", "d_priority", "d_order", "d_tries")
    return {name: [row[number] for row in rows] for number, name in enumerate(names)}


_told_at = 0.0


def _tell(cursor: psycopg.Cursor[Any], deliveries: dict[uuid.UUID, list[tuple[Any, ...]]], known: Known) -> None:
    """Wake whoever delivers, and now and then tell open pages. After the commit: both are only nudges."""
    global _told_at  # noqa: PLW0603  one per process by design
    new = {event_id for event_id, is_new, _routed in known.values() if is_new}
    if any(deliveries.get(event_id) for event_id in new):
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    if new and time.monotonic() > _told_at + LIVE_SECONDS:
        _told_at = time.monotonic()
        live.publish("deliveries", {"destinations": []})


def announce(destinations: Sequence[int]) -> None:
    """Wake whoever delivers and tell open pages, when the present transaction commits: something was changed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    live.publish("deliveries", {"destinations": list(destinations)})


def now() -> datetime:
    """The time of receipt, by this process's clock."""
    return datetime.now(UTC)
