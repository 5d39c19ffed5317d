"""Writing what probes found: results, rollups, states and changes of a batch in one transaction.

A result counts only while its claim's token is still on the check, so a probe that was given up and
made again by another worker is stored once. Results travel to PostgreSQL as one JSON document, which
costs the worker least; the SQL below takes it apart.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from monitoring import storable
from monitoring.histogram import bin_of
from monitoring.models import Rollup
from monitoring.statuses import settle_services
from monitoring.verdict import Policy, judge, remember, unconfirmed
from providers.base import ProbeOutcome
from wsmon import live
from wsmon.vocabulary import Status

SPARKLINE = 30
"""How many response times a check keeps for its sparkline."""

CONFIRM_SOON = 1.0
"""Seconds until a check is probed again that failed and has no status yet, or is to be confirmed in a hurry."""

LARGEST_HTTP_STATUS = 999
"""RFC 9110, section 15: three digits. What a target sends beyond is not kept."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One probe that was made under a lease. ``outcome`` is None when it lacked ``missing`` variables."""

    check_id: int
    service_id: int
    token: uuid.UUID
    policy: Policy
    interval: float
    due_at: datetime
    at: datetime
    outcome: ProbeOutcome | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """A finished probe and what follows from it."""

    finished: Finished
    old: Status
    new: Status
    soon: bool


def settle(batch: Sequence[Finished]) -> int:
    """Store a batch and act on its verdicts; return how many results counted."""
    with transaction.atomic():
        leased = {one.token: one for one in batch}  # a check may stand in a batch twice, under two leases
        decided = [_decide(leased[token], status, recent) for token, status, recent in _lock(leased.values())]
        probed = [one for one in decided if one.finished.outcome is not None]
        if probed:
            _write_results(probed)
        _write_not_configured([one for one in decided if one.finished.outcome is None])
        changed = [one for one in decided if one.new is not one.old]
        _write_changes(changed)
        settle_services({one.finished.service_id: one.finished.at for one in changed})
        _announce(decided, changed)
    return len(decided)


def record_manual(check_id: int, at: datetime, outcome: ProbeOutcome) -> None:
    """Keep the result of a probe somebody asked for; it enters the log, not the statistics."""
    document = json.dumps([_record(check_id, at, outcome) | {"manual": True}])
    with connection.cursor() as cursor:
        cursor.execute(f"{_PARSE} {_INSERT_RESULTS} SELECT 1", {"results": document})


def _lock(batch: Collection[Finished]) -> list[tuple[uuid.UUID, Status, list[str]]]:
    """The leases that are still the batch's, with the states of their checks, locked in a fixed order."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT s.lease_token, s.status, s.recent FROM monitoring_checkstate s
            JOIN unnest(%s::bigint[], %s::uuid[]) AS mine(check_id, token)
              ON mine.check_id = s.check_id AND mine.token = s.lease_token
            ORDER BY s.check_id FOR UPDATE OF s
            """,
            [[one.check_id for one in batch], [one.token for one in batch]],
        )
        return [(token, Status(status), recent) for token, status, recent in cursor.fetchall()]


def _decide(one: Finished, status: Status, recent: list[str]) -> Decided:
    if one.outcome is None:
        return Decided(one, status, Status.NOT_CONFIGURED, soon=False)
    new = judge(status, remember(recent, one.outcome.outcome), one.policy)
    return Decided(one, status, new, soon=unconfirmed(new, one.outcome.outcome, one.policy))


_PARSE = """
WITH r AS (
    SELECT * FROM jsonb_to_recordset(%(results)s::jsonb) AS x(
        check_id bigint, token uuid, at timestamptz, outcome text, category text, message text,
        total_ms float8, dns_ms float8, connect_ms float8, tls_ms float8, first_byte_ms float8,
        http_status smallint, manual boolean, details jsonb, bin integer,
        status text, soon float8, every float8, due_at timestamptz)
)"""

_INSERT_RESULTS = """, kept AS (
    INSERT INTO service_health_metrics (at, check_id, outcome, category, message, total_ms, dns_ms,
        connect_ms, tls_ms, first_byte_ms, http_status, manual, details)
    SELECT at, check_id, outcome, category, message, total_ms, dns_ms,
        connect_ms, tls_ms, first_byte_ms, http_status, coalesce(manual, false), details FROM r
)"""

_BUCKETS = ", ".join(f"({level.value})" for level in Rollup.Level)

# A bucket's row is made first and counted up afterwards, in a second statement: one statement could not
# do both to one row.
_STORE = f"""
{_PARSE}{_INSERT_RESULTS}, buckets AS (
    INSERT INTO monitoring_rollup
        (level, check_id, start, healthy, degraded, critical, error, sum_ms, histogram)
    SELECT DISTINCT level, check_id, to_timestamp(floor(extract(epoch FROM at) / level) * level),
        0, 0, 0, 0, 0, '{{}}'::int[]
    FROM r CROSS JOIN (VALUES {_BUCKETS}) AS l(level)
    ON CONFLICT DO NOTHING
)
UPDATE monitoring_checkstate s SET
    lease_token = NULL, lease_until = NULL, lease_owner = NULL,
    -- Whoever moved the due time meanwhile (a change, a heartbeat's call) meant it.
    next_due_at = CASE
        WHEN s.next_due_at <> r.due_at THEN s.next_due_at
        WHEN r.soon IS NOT NULL THEN now() + make_interval(secs => r.soon)
        WHEN s.checked_at IS NOT NULL AND r.due_at + make_interval(secs => r.every) > now()
             AND r.due_at <= now() + interval '5 seconds'
            THEN r.due_at + make_interval(secs => r.every)
        -- New or overdue: a random phase, so that what fell due together spreads.
        ELSE now() + make_interval(secs => r.every * (0.1 + 0.9 * random())) END,
    status = r.status,
    status_since = CASE WHEN s.status = r.status THEN s.status_since ELSE r.at END,
    recent = (s.recent || r.outcome::varchar)[greatest(cardinality(s.recent) - 18, 1):],
    recent_ms = (s.recent_ms || r.total_ms)[greatest(cardinality(s.recent_ms) - {SPARKLINE - 2}, 1):],
    checked_at = r.at, outcome = r.outcome, category = r.category, message = r.message,
    total_ms = r.total_ms, http_status = r.http_status, details = r.details, missing = '{{}}'
FROM r WHERE s.check_id = r.check_id
"""  # noqa: S608  made of constants; values are parameters

_COUNT = f"""
{_PARSE}, counted AS (
    SELECT level, check_id, to_timestamp(floor(extract(epoch FROM at) / level) * level) AS start,
        count(*) FILTER (WHERE outcome = 'healthy') AS healthy,
        count(*) FILTER (WHERE outcome = 'degraded') AS degraded,
        count(*) FILTER (WHERE outcome = 'critical') AS critical,
        count(*) FILTER (WHERE outcome = 'error') AS error,
        coalesce(sum(total_ms), 0) AS sum_ms, max(total_ms) AS max_ms,
        array_agg(bin) FILTER (WHERE bin IS NOT NULL) AS bins
    FROM r CROSS JOIN (VALUES {_BUCKETS}) AS l(level)
    GROUP BY 1, 2, 3
)
UPDATE monitoring_rollup u SET
    healthy = u.healthy + c.healthy, degraded = u.degraded + c.degraded,
    critical = u.critical + c.critical, error = u.error + c.error,
    sum_ms = u.sum_ms + c.sum_ms, max_ms = greatest(u.max_ms, c.max_ms),
    histogram = CASE WHEN c.bins IS NULL THEN u.histogram ELSE wsmon_add_bins(u.histogram, c.bins) END
FROM counted c
WHERE u.level = c.level AND u.check_id = c.check_id AND u.start = c.start
"""  # noqa: S608  made of constants; values are parameters


def _write_results(decided: Sequence[Decided]) -> None:
    records = []
    for one in decided:
        finished = one.finished
        assert finished.outcome is not None  # noqa: S101  narrows the type
        records.append(
            _record(finished.check_id, finished.at, finished.outcome)
            | {
                "status": one.new.value,
                "soon": CONFIRM_SOON if one.soon else None,
                "every": finished.interval,
                "due_at": finished.due_at.isoformat(),
            }
        )
    document = json.dumps(records)
    with connection.cursor() as cursor:
        cursor.execute(_STORE, {"results": document})
        cursor.execute(_COUNT, {"results": document})


def _record(check_id: int, at: datetime, outcome: ProbeOutcome) -> dict[str, Any]:
    timings = outcome.timings
    total_ms = _number(timings.total_ms)
    status = outcome.http_status
    return {
        "check_id": check_id,
        "at": at.isoformat(),
        "outcome": outcome.outcome.value,
        "category": outcome.category.value if outcome.category else "",
        "message": storable.text(outcome.message, 500),
        "total_ms": total_ms,
        "dns_ms": _number(timings.dns_ms),
        "connect_ms": _number(timings.connect_ms),
        "tls_ms": _number(timings.tls_ms),
        "first_byte_ms": _number(timings.first_byte_ms),
        "http_status": status if status is not None and 0 <= status <= LARGEST_HTTP_STATUS else None,
        "details": outcome.details,
        "bin": None if total_ms is None else bin_of(total_ms),
    }


def _number(milliseconds: float | None) -> float | None:
    return milliseconds if milliseconds is not None and math.isfinite(milliseconds) else None


def _write_not_configured(decided: Iterable[Decided]) -> None:
    with connection.cursor() as cursor:
        for one in decided:
            cursor.execute(
                """
                UPDATE monitoring_checkstate SET
                    lease_token = NULL, lease_until = NULL, lease_owner = NULL,
                    next_due_at = CASE WHEN next_due_at <> %s THEN next_due_at
                        ELSE now() + make_interval(secs => %s) END,
                    status_since = CASE WHEN status = %s THEN status_since ELSE %s END,
                    status = %s, recent = '{}', missing = %s, outcome = '', category = '', message = '',
                    total_ms = NULL, http_status = NULL, details = '{}'
                WHERE check_id = %s
                """,
                [
                    one.finished.due_at,
                    one.finished.interval,
                    one.new.value,
                    one.finished.at,
                    one.new.value,
                    list(one.finished.missing),
                    one.finished.check_id,
                ],
            )


def _write_changes(changed: Sequence[Decided]) -> None:
    if not changed:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO monitoring_statechange (at, service_id, check_id, old, new, category, reason)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            """,
            [_change(one) for one in changed],
        )


def _change(one: Decided) -> tuple[Any, ...]:
    finished, outcome = one.finished, one.finished.outcome
    category = outcome.category.value if outcome and outcome.category else ""
    reason = outcome.message if outcome else "set " + ", ".join(finished.missing)
    keys = (finished.at, finished.service_id, finished.check_id)
    return (*keys, one.old.value, one.new.value, category, storable.text(reason, 500))


def _announce(decided: Sequence[Decided], changed: Sequence[Decided]) -> None:
    """Tell every open browser, by NOTIFY in this transaction."""
    if changed:
        live.publish("state", {"services": sorted({one.finished.service_id for one in changed})})
    ticks = {
        str(one.finished.check_id): [
            one.finished.service_id,
            one.finished.outcome.timings.total_ms,
            round(one.finished.at.timestamp(), 1),
            one.new.value,
        ]
        for one in decided
        if one.finished.outcome is not None
    }
    if ticks:
        live.publish("tick", {"checks": ticks})
