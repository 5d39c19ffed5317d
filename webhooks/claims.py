"""Claiming due deliveries: two SQL statements for a lane, and a lease that runs out.

Whoever claims first takes the state rows of the destinations, and then looks what may be sent there: so
their concurrency, their rate and their order hold over every process. A worker that dies loses its leases by
time: its deliveries are sent again, at least once and never zero times.

However much waits, a claim looks at so many rows and no more. Where one delivery at a time is sent per key, most
of what is due may have to wait for another: then a third statement goes from key to key instead.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from django.db import connection, transaction

from webhooks.vocabulary import Lane, Priority

LEASE_MARGIN = 15.0
"""Seconds that a lease lasts beyond the destination's timeout: the storing has to fit in."""
WINDOW = 100
"""Of what is sent one at a time per key, a claim looks at so many that are due, in each priority..."""
KEYS = 250
"""...and, where more are due, at so many keys; at the next ones the next time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery to be tried now, with all that is needed to send it."""

    id: int
    token: uuid.UUID
    event_id: uuid.UUID
    destination_id: int
    source_id: int
    lane: Lane
    number: int
    """Of the try, from 1."""
    max_tries: int
    replay_id: uuid.UUID | None
    sealed: bytes | None = field(repr=False)
    received_at: datetime
    partial: bool
    """The event is a part of what was signed, so that the vendor's signature does not fit it."""
    trial: bool = False
    priority: int = Priority.NORMAL


# The first of one key that is not finished: nothing else of that key may go. By itself, so that it is one look
# into the index each time, whatever PostgreSQL thinks of how many there are.
_HEAD = """(
    SELECT e.id FROM webhooks_delivery e
    WHERE e.destination_id = {destination} AND e.order_key = {key} AND e.order_key <> ''
      AND e.status IN ('pending', 'retrying', 'delivering')
    ORDER BY e.order_key, e.id LIMIT 1
)"""

# For each priority its own look into the index: one look for all of them would have to sort everything that is due.
_PRIORITIES = "(VALUES (0::smallint), (1::smallint), (2::smallint), (3::smallint)) AS p(priority)"

# Waiting deliveries of one destination and lane that are due, of one priority: `keyed` 0 without an order, 1 with.
_WAITING = """
    FROM webhooks_delivery v
    WHERE v.destination_id = s.destination_id AND v.lane = {lane}
      AND CASE WHEN v.order_key = '' THEN 0 ELSE 1 END = {keyed}
      AND v.priority = p.priority AND v.status IN ('pending', 'retrying') AND v.due_at <= now()
"""

# Those of them that may go. Of what is put in order, those that are the first of their key: among the first `WINDOW`
# that are due, and among the `heads` that `_WALK` has found.
_DUE = f"""
    SELECT v.id, p.priority, v.due_at FROM {_PRIORITIES} CROSS JOIN LATERAL (
        SELECT v.id, v.due_at {_WAITING.format(lane="{lane}", keyed=0)} ORDER BY v.due_at LIMIT {{limit}}
    ) v
    UNION ALL
    SELECT v.id, p.priority, v.due_at FROM {_PRIORITIES} CROSS JOIN LATERAL (
        SELECT v.id, v.due_at, v.order_key {_WAITING.format(lane="{lane}", keyed=1)} ORDER BY v.due_at LIMIT {WINDOW}
    ) v WHERE v.id = {_HEAD.format(destination="s.destination_id", key="v.order_key")}
    UNION
    SELECT v.id, v.priority, v.due_at FROM webhooks_delivery v
    WHERE v.id = ANY(%(heads)s) AND v.destination_id = s.destination_id AND v.lane = {{lane}}
      AND v.status IN ('pending', 'retrying') AND v.due_at <= now()
      AND v.id = {_HEAD.format(destination="v.destination_id", key="v.order_key")}
"""  # noqa: S608  of constants only

# Whether more is due there than `_DUE` looks at, so that the first of some key may lie behind what waits for another.
_CROWDED = f"""EXISTS (SELECT FROM {_PRIORITIES} CROSS JOIN LATERAL (
    SELECT {_WAITING.format(lane="{lane}", keyed=1)} OFFSET {WINDOW} LIMIT 1
) v)"""

# From one key to the next in the index, however many deliveries each has.
_NEXT_KEY = """(
    SELECT e.destination_id, e.order_key, e.id FROM webhooks_delivery e
    WHERE e.destination_id = w.destination_id AND e.order_key > w.order_key AND e.order_key <> ''
      AND e.status IN ('pending', 'retrying', 'delivering')
    ORDER BY e.order_key, e.id LIMIT 1
) e"""
_WALK = f"""
WITH RECURSIVE walk AS (
    SELECT e.*, 1 AS number FROM unnest(%(ids)s::bigint[], %(after)s::text[]) AS w(destination_id, order_key)
    CROSS JOIN LATERAL {_NEXT_KEY}
    UNION ALL
    SELECT e.*, w.number + 1 FROM walk w CROSS JOIN LATERAL {_NEXT_KEY} WHERE w.number < {KEYS}
)
SELECT destination_id, order_key, id, number FROM walk ORDER BY destination_id, number
"""  # noqa: S608  of constants only

_FREE = """d.archived_at IS NULL AND s.paused_at IS NULL AND s.disabled_at IS NULL
      AND (s.held_until IS NULL OR s.held_until <= now())"""

# Where something waits. What is under way there is counted by a later statement, which sees what others
# claimed before they let go of the row: in one statement both would be of the time before.
_TAKE = f"""
SELECT s.destination_id, {_CROWDED.format(lane="%(lane)s")}
FROM webhooks_destinationstate s JOIN webhooks_destination d ON d.id = s.destination_id
WHERE {_FREE} AND {{which}} AND EXISTS (
    SELECT FROM {_PRIORITIES} CROSS JOIN (VALUES (0), (1)) AS k(keyed) CROSS JOIN LATERAL (
        SELECT {_WAITING.format(lane="%(lane)s", keyed="k.keyed")} LIMIT 1
    ) v
)
FOR UPDATE OF s SKIP LOCKED
"""  # noqa: S608  of constants only
_TAKE_OTHERS = _TAKE.format(which="NOT d.id = ANY(%(ids)s)")
_TAKE_THESE = _TAKE.format(which="d.id = ANY(%(ids)s)")

# Retries and replays together leave half of a destination's concurrency to live traffic. And a destination gets no
# more of the caller's threads than it leaves free: `level` is how many it would then have (a critical one counts
# for a fourth, a high one for half), and the lowest go first.
_CLAIM = f"""
WITH waiting AS MATERIALIZED (
    SELECT s.destination_id, d.timeout, d.max_per_second, s.tokens, s.filled_at, d.concurrency,
        coalesce(h.held, 0) AS held
    FROM webhooks_destinationstate s JOIN webhooks_destination d ON d.id = s.destination_id
    LEFT JOIN unnest(%(busy)s::bigint[], %(held)s::int[]) AS h(destination_id, held) USING (destination_id)
    WHERE {_FREE} AND s.destination_id = ANY(%(taken)s)
), ready AS MATERIALIZED (
    SELECT w.*, t.tokens AS have, least(
        w.concurrency - b.all_lanes,
        CASE WHEN %(lane)s > 0 THEN greatest(w.concurrency / 2, 1) - b.not_live ELSE w.concurrency END,
        floor(t.tokens), %(limit)s
    )::int AS room
    FROM waiting w
    CROSS JOIN LATERAL (
        SELECT count(*) AS all_lanes, count(*) FILTER (WHERE v.lane > 0) AS not_live FROM webhooks_delivery v
        WHERE v.destination_id = w.destination_id AND v.status = 'delivering' AND v.lease_until > now()
    ) b
    CROSS JOIN LATERAL (
        SELECT CASE WHEN w.max_per_second IS NULL THEN 1e6 ELSE least(greatest(w.max_per_second, 1), w.tokens
            + greatest(extract(epoch FROM now() - w.filled_at), 0) * w.max_per_second) END AS tokens
    ) t
), due AS (
    SELECT v.*, s.destination_id, s.timeout, s.held
        + row_number() OVER (PARTITION BY s.destination_id ORDER BY v.priority, v.due_at, v.id) AS number
    FROM ready s CROSS JOIN LATERAL (
        SELECT v.id, v.priority, v.due_at FROM ({_DUE.format(lane="%(lane)s", limit="greatest(s.room, 0)")}) v
        ORDER BY v.priority, v.due_at, v.id LIMIT greatest(s.room, 0)
    ) v
), levelled AS (
    SELECT d.*, ceil(d.number / CASE d.priority WHEN 0 THEN 4.0 WHEN 1 THEN 2.0 ELSE 1.0 END) AS level FROM due d
), placed AS (
    SELECT l.*, row_number() OVER (ORDER BY l.level, l.priority, l.due_at, l.id) AS place FROM levelled l
), picked AS MATERIALIZED (
    SELECT id, destination_id, timeout FROM placed
    WHERE place <= %(limit)s AND (number = 1 OR level <= %(limit)s - place)
), paid AS (
    UPDATE webhooks_destinationstate s SET tokens = r.have - n.number, filled_at = now()
    FROM ready r JOIN (SELECT destination_id, count(*) AS number FROM picked GROUP BY 1) n USING (destination_id)
    WHERE s.destination_id = r.destination_id AND r.max_per_second IS NOT NULL
), claimed AS (
    UPDATE webhooks_delivery v SET status = 'delivering', tries = v.tries + 1, lease_token = %(token)s,
        lease_until = now() + make_interval(secs => p.timeout + %(margin)s)
    FROM picked p WHERE v.id = p.id AND v.status IN ('pending', 'retrying')
    RETURNING v.id, v.event_id, v.destination_id, v.source_id, v.lane, v.tries, v.max_tries, v.replay_id, v.priority,
        v.due_at
)
SELECT c.id, c.event_id, c.destination_id, c.source_id, c.lane, c.tries, c.max_tries, c.replay_id, e.sealed,
    e.received_at, e.batch IS NOT NULL OR e.request IS NOT NULL, c.priority
FROM claimed c JOIN webhooks_event e ON e.id = c.event_id ORDER BY c.priority, c.due_at, c.id
"""  # noqa: S608  of constants only

_after: dict[int, str] = {}
"""At destinations with very many keys: up to which one they have been looked at."""


def claim(
    lane: Lane, free: int, leave_out: Collection[int] = (), held: Mapping[int, int] | None = None
) -> list[Claim]:
    """Claim due deliveries of a lane for ``free`` threads.

    ``leave_out`` are destinations whose breaker is not closed. ``held``: how many threads of the lane each
    destination has already. None gets more than it leaves free, so that however many of them hang there are
    threads for the next one; but each may have one.
    """
    return _claim(_TAKE_OTHERS, lane, free, leave_out, held or {}, trial=False)


def claim_trial(destination_id: int) -> Claim | None:
    """Claim one due delivery of a destination whose breaker lets a trial through, live ones first."""
    for lane in Lane:
        found = _claim(_TAKE_THESE, lane, 1, [destination_id], {}, trial=True)
        if found:
            return found[0]
    return None


def _claim(
    take: str, lane: Lane, free: int, ids: Collection[int], held: Mapping[int, int], *, trial: bool
) -> list[Claim]:
    token = uuid.uuid4()
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection) as cursor,
    ):
        cursor.execute(take, {"lane": int(lane), "ids": list(ids)})
        taken = cursor.fetchall()
        if not taken:
            return []
        parameters = {
            "lane": int(lane),
            "limit": free,
            "taken": [row[0] for row in taken],
            "heads": _heads(cursor, [row[0] for row in taken if row[1]]),
            "busy": list(held),
            "held": list(held.values()),
            "token": token,
            "margin": LEASE_MARGIN,
        }
        cursor.execute(_CLAIM, parameters)
        return [_claim_of(row, token, trial=trial) for row in cursor.fetchall()]


def _heads(cursor: psycopg.Cursor[Any], crowded: Collection[int]) -> list[int]:
    """The first deliveries of the next ``KEYS`` keys at destinations where more is due than is looked at."""
    if not crowded:
        return []
    cursor.execute(_WALK, {"ids": list(crowded), "after": [_after.get(number, "") for number in crowded]})
    rows = cursor.fetchall()
    for number in crowded:
        _after.pop(number, None)  # it has come to the last key
    _after.update({destination_id: key for destination_id, key, _, number in rows if number == KEYS})
    return [row[2] for row in rows]


def _claim_of(row: Sequence[Any], token: uuid.UUID, *, trial: bool) -> Claim:
    number, event_id, destination_id, source_id, lane, tries, max_tries, replay_id, sealed, received = row[:10]
    partial, priority = row[10:]
    return Claim(
        number,
        token,
        event_id,
        destination_id,
        source_id,
        Lane(lane),
        tries,
        max_tries,
        replay_id,
        None if sealed is None else bytes(sealed),
        received,
        partial,
        trial,
        priority,
    )


_LANES = "(VALUES (0), (1), (2)) AS l(lane)"
_DUE_AT = f"""
SELECT s.destination_id, EXISTS (SELECT FROM {_LANES} WHERE {_CROWDED.format(lane="l.lane")})
FROM webhooks_destinationstate s JOIN webhooks_destination d ON d.id = s.destination_id
WHERE {_FREE} AND s.destination_id = ANY(%(ids)s)
"""  # noqa: S608  of constants only
_DUE_SOMEWHERE = f"""
SELECT s.destination_id FROM webhooks_destinationstate s WHERE s.destination_id = ANY(%(ids)s)
  AND EXISTS (SELECT FROM {_LANES} CROSS JOIN LATERAL ({_DUE.format(lane="l.lane", limit="1")}) v)
"""  # noqa: S608  of constants only


def due_destinations(ids: Collection[int]) -> set[int]:
    """Which of some destinations have something due, in any lane: whether a trial is worth asking for."""
    if not ids:
        return set()
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(_DUE_AT, {"ids": list(ids)})
        free = cursor.fetchall()
        heads = _heads(cursor, [row[0] for row in free if row[1]])
        cursor.execute(_DUE_SOMEWHERE, {"ids": [row[0] for row in free], "heads": heads})
        return {row[0] for row in cursor.fetchall()}


def give_back(claims: Sequence[Claim]) -> None:
    """Give up claims that were not tried: as if nobody had claimed them."""
    if not claims:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE webhooks_delivery v SET tries = v.tries - 1, lease_token = NULL, lease_until = NULL,
                status = CASE WHEN v.tries > 1 THEN 'retrying' ELSE 'pending' END
            FROM unnest(%s::bigint[], %s::uuid[]) AS g(id, token)
            WHERE v.id = g.id AND v.lease_token = g.token AND v.status = 'delivering'
            """,
            [[one.id for one in claims], [one.token for one in claims]],
        )


def release_expired() -> int:
    """Free the deliveries of processes that died; return how many.

    Nobody knows whether the receiver has them: they get a further try, even when it was their last.
    """
    message = "the process that sent it ended before it knew the answer"
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE webhooks_delivery SET lease_token = NULL, lease_until = NULL, due_at = now(),
                message = %(message)s, lane = CASE WHEN lane = 0 THEN 1 ELSE lane END, status = 'retrying',
                max_tries = greatest(max_tries, tries + 1)
            WHERE id IN (SELECT id FROM webhooks_delivery WHERE status = 'delivering' AND lease_until <= now()
                LIMIT 1000 FOR UPDATE SKIP LOCKED)
            """,
            {"message": message},
        )
        return int(cursor.rowcount)
