"""Claiming due deliveries: two SQL statements for a lane, and a lease that runs out.

Whoever claims first takes the state rows of the destinations, and then looks what may be sent there: so
their concurrency, their rate and their order hold over every process. A worker that dies loses its leases by
time: its deliveries are sent again, at least once and never zero times.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from django.db import connection, transaction

from webhooks.vocabulary import Lane

LEASE_MARGIN = 15.0
"""Seconds that a lease lasts beyond the destination's timeout: the storing has to fit in."""


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


# The first of each key at destinations that put theirs in order. All of them at once: to ask for each delivery
# whether there is an earlier one can take as many looks as the square of what waits.
_HEADS = """
heads AS MATERIALIZED (
    SELECT DISTINCT ON (e.destination_id, e.order_key) e.id FROM webhooks_delivery e
    WHERE {which} AND e.order_key <> '' AND e.status IN ('pending', 'retrying', 'delivering')
    ORDER BY e.destination_id, e.order_key, e.id
)
"""

# Waiting deliveries of one destination and lane that are due, most urgent first: for each priority its own
# look into the index, since one look for all of them would have to sort everything that is due.
_DUE = """
    FROM (VALUES (0::smallint), (1::smallint), (2::smallint), (3::smallint)) AS p(priority) CROSS JOIN LATERAL (
        SELECT v.id, v.due_at FROM webhooks_delivery v
        WHERE v.destination_id = s.destination_id AND v.lane = {lane} AND v.status IN ('pending', 'retrying')
          AND v.priority = p.priority AND v.due_at <= now()
          AND (v.order_key = '' OR v.id IN (SELECT id FROM heads))
        ORDER BY v.due_at LIMIT {limit}
    ) v
"""

_FREE = """d.archived_at IS NULL AND s.paused_at IS NULL AND s.disabled_at IS NULL
      AND (s.held_until IS NULL OR s.held_until <= now())"""

# Where something waits. What is under way there is counted by the next statement, which sees what others
# claimed before they let go of the row: in one statement both would be of the time before.
_TAKE = """
WITH {heads}
SELECT s.destination_id FROM webhooks_destinationstate s JOIN webhooks_destination d ON d.id = s.destination_id
WHERE {free} AND {which} AND EXISTS (SELECT {due_one})
FOR UPDATE OF s SKIP LOCKED
"""

# Retries and replays together leave half of a destination's concurrency to live traffic.
_CLAIM = """
WITH {heads}, waiting AS MATERIALIZED (
    SELECT s.destination_id, d.timeout, d.max_per_second, s.tokens, s.filled_at, d.concurrency
    FROM webhooks_destinationstate s JOIN webhooks_destination d ON d.id = s.destination_id
    WHERE {free} AND s.destination_id = ANY(%(taken)s)
), ready AS MATERIALIZED (
    SELECT w.*, t.tokens AS have, least(
        w.concurrency - b.all_lanes,
        CASE WHEN %(lane)s > 0 THEN greatest(w.concurrency / 2, 1) - b.not_live ELSE w.concurrency END,
        floor(t.tokens)
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
), picked AS MATERIALIZED (
    SELECT v.id, s.destination_id, s.timeout FROM ready s CROSS JOIN LATERAL (
        SELECT v.id, p.priority, v.due_at {due_many} ORDER BY p.priority, v.due_at LIMIT greatest(s.room, 0)
    ) v ORDER BY v.priority, v.due_at LIMIT %(limit)s
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
    e.received_at, e.batch IS NOT NULL OR e.request IS NOT NULL
FROM claimed c JOIN webhooks_event e ON e.id = c.event_id ORDER BY c.priority, c.due_at, c.id
"""


def _take(which: str) -> str:
    one = _DUE.format(lane="%(lane)s", limit="1")
    heads = _HEADS.format(which=which.format("e.destination_id"))
    return _TAKE.format(heads=heads, free=_FREE, which=which.format("d.id"), due_one=one)


_TAKE_OTHERS = _take("NOT {} = ANY(%(ids)s)")
_TAKE_THESE = _take("{} = ANY(%(ids)s)")
_CLAIM_TAKEN = _CLAIM.format(
    heads=_HEADS.format(which="e.destination_id = ANY(%(taken)s)"),
    free=_FREE,
    due_many=_DUE.format(lane="%(lane)s", limit="greatest(s.room, 0)"),
)


def claim(lane: Lane, limit: int, leave_out: Collection[int] = ()) -> list[Claim]:
    """Claim up to ``limit`` due deliveries of a lane; ``leave_out`` are destinations whose breaker is not closed."""
    return _claim(_TAKE_OTHERS, lane, limit, leave_out, trial=False)


def claim_trial(destination_id: int) -> Claim | None:
    """Claim one due delivery of a destination whose breaker lets a trial through, live ones first."""
    for lane in Lane:
        found = _claim(_TAKE_THESE, lane, 1, [destination_id], trial=True)
        if found:
            return found[0]
    return None


def _claim(take: str, lane: Lane, limit: int, ids: Collection[int], *, trial: bool) -> list[Claim]:
    token = uuid.uuid4()
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection) as cursor,
    ):
        cursor.execute(take, {"lane": int(lane), "ids": list(ids)})
        taken = [row[0] for row in cursor.fetchall()]
        if not taken:
            return []
        cursor.execute(
            _CLAIM_TAKEN,
            {"lane": int(lane), "limit": limit, "taken": taken, "token": token, "margin": LEASE_MARGIN},
        )
        return [_claim_of(row, token, trial=trial) for row in cursor.fetchall()]


def _claim_of(row: Sequence[Any], token: uuid.UUID, *, trial: bool) -> Claim:
    (number, event_id, destination_id, source_id, lane, tries, max_tries, replay_id, sealed, received, partial) = row
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
    )


def due_destinations(ids: Collection[int]) -> set[int]:
    """Which of some destinations have something due, in any lane: whether a trial is worth asking for."""
    if not ids:
        return set()
    due = _DUE.format(lane="l.lane", limit="1")
    heads = _HEADS.format(which="e.destination_id = ANY(%(ids)s)")
    query = f"""
        WITH {heads} SELECT s.destination_id
        FROM webhooks_destinationstate s CROSS JOIN (VALUES (0), (1), (2)) AS l(lane)
        WHERE s.destination_id = ANY(%(ids)s) AND s.paused_at IS NULL AND s.disabled_at IS NULL
          AND (s.held_until IS NULL OR s.held_until <= now()) AND EXISTS (SELECT {due})
    """  # noqa: S608  of constants only
    with connection.cursor() as cursor:
        cursor.execute(query, {"ids": list(ids)})
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
