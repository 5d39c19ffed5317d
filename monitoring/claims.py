"""Claiming due checks: one SQL statement, SKIP LOCKED, and a lease that runs out.

Whoever holds a check's lease probes it. Two workers never get the same check; a worker that dies loses
its leases by time, and a new worker on the same host takes back those of its dead neighbours at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from django.db import connection, transaction

import providers
from monitoring.critical import effects
from monitoring.models import CheckState, Process
from monitoring.variables import CREDENTIALS
from monitoring.verdict import Policy
from providers.base import NOT_A_CALL, HeartbeatFacts
from wsmon.vocabulary import Status

LEASE_MARGIN = 10.0
"""Seconds a lease lasts beyond the check's due time and its timeout."""

HORIZON = 1.0
"""Seconds ahead that a claim looks, so that a probe starts at its due time and not at the next tick."""

# `next_due_at` far in the future means that the clock went back: the check is due. The same goes for
# a lease longer than any lease can be.
_FREE = "(s.lease_until IS NULL OR s.lease_until < now() OR s.lease_until > now() + interval '10 minutes')"
# On a critical day checks of services that matter less come later than their interval (critical/effects.py).
_LATEST = """now() + make_interval(secs => 60 + c.interval * 2
    * greatest((SELECT spare FROM monitoring_posture WHERE service_id IS NULL), 1))"""

_LANE = "CASE WHEN v.provider = ANY(%(generic)s) THEN 'service:' || v.id ELSE v.provider END"

# While a service's breaker is not closed its checks wait, but for one at a time once a trial is due: the
# one that failed last, so that a check that works cannot close a breaker that another one opened, and that what
# failed is confirmed by the next trial. A person's word (forced) holds no probe back, nor does a breaker hold what
# is no call to the service.
_HELD = "b.state <> 'CLOSED' AND b.forced = '' AND NOT c.kind = ANY(%(no_calls)s)"
_TRIAL_DUE = """
    jsonb_array_length(b.trials) = 0 AND coalesce(b.not_before, '-infinity') <= now()
    AND b.opened_at + make_interval(secs => b.open_for * coalesce((SELECT factor FROM monitoring_recoveryfactor), 1))
        <= now()
"""
_WORST_FIRST = """CASE coalesce(nullif(s.outcome, ''), s.status)
    WHEN 'critical' THEN 0 WHEN 'error' THEN 1 WHEN 'degraded' THEN 2 ELSE 3 END"""

# Between the first look and the lock somebody else may have claimed a row: then PostgreSQL asks the
# conditions of `locked` again of the row as it is now. They are about the row itself and nothing else, and what
# else is read of a check is read of those that are `claimed`, so that what a wrong guess of the planner costs (a
# table that was empty when it last looked) stays small.
_CLAIM = f"""
WITH due AS (
    SELECT s.check_id, s.next_due_at, c.timeout, {_LATEST} AS latest, {_LANE} AS lane,
           row_number() OVER (PARTITION BY {_LANE} ORDER BY s.next_due_at) AS place,
           coalesce({_HELD}, false) AS held,
           row_number() OVER (PARTITION BY c.service_id ORDER BY coalesce({_HELD}, false) DESC, {_WORST_FIRST},
                              s.next_due_at) AS turn
    FROM monitoring_checkstate s
    JOIN monitoring_configuration c ON c.id = s.check_id
    JOIN monitoring_service v ON v.id = c.service_id
    LEFT JOIN circuit_breaker_status b ON b.service_id = v.id
    WHERE (s.next_due_at <= now() + make_interval(secs => %(horizon)s) OR s.next_due_at > {_LATEST})
      AND (b.service_id IS NULL OR NOT ({_HELD}) OR ({_TRIAL_DUE}))
      AND {_FREE}
      AND c.archived_at IS NULL AND v.archived_at IS NULL
      AND (c.paused_at IS NULL OR c.paused_until <= now())
), room AS (
    SELECT key AS lane, value::int AS free FROM jsonb_each_text(%(room)s::jsonb)
), wanted AS MATERIALIZED (
    SELECT due.check_id, due.timeout, due.lane, due.latest FROM due LEFT JOIN room USING (lane)
    WHERE due.place <= coalesce(room.free, %(lane_room)s) AND (NOT due.held OR due.turn = 1)
    ORDER BY due.next_due_at LIMIT %(limit)s
), locked AS (
    SELECT s.check_id, wanted.timeout, wanted.lane
    FROM wanted JOIN monitoring_checkstate s ON s.check_id = wanted.check_id
    WHERE (s.next_due_at <= now() + make_interval(secs => %(horizon)s) OR s.next_due_at > wanted.latest)
      AND {_FREE}
    FOR UPDATE OF s SKIP LOCKED
), claimed AS (
    UPDATE monitoring_checkstate s
    SET lease_token = gen_random_uuid(),
        lease_owner = %(owner)s,
        lease_until = now() + make_interval(secs => %(horizon)s) + make_interval(secs => locked.timeout + %(margin)s)
    FROM locked
    WHERE s.check_id = locked.check_id
    RETURNING s.check_id, s.lease_token, locked.lane, s.next_due_at, s.status
)
SELECT s.check_id, s.lease_token, s.lane, c.service_id, v.slug, v.provider, c.kind, c.name,
    c.interval, c.timeout, c.degraded_over, c.confirm_down, c.confirm_up, c.options::text,
    {CREDENTIALS}, now(), s.next_due_at,
    h.created_at, h.last_success_at, h.last_start_at, h.last_fail_at,
    v.criticality, s.status, coalesce(p.critical, g.critical, false), coalesce(p.emergency, g.emergency),
    coalesce(p.interval, g.interval), coalesce(p.spare, g.spare), coalesce(p.timeout, g.timeout),
    coalesce(p.confirm, g.confirm)
FROM claimed s
JOIN monitoring_configuration c ON c.id = s.check_id
JOIN monitoring_service v ON v.id = c.service_id
LEFT JOIN monitoring_heartbeat h ON h.check_id = c.id
LEFT JOIN monitoring_posture g ON g.service_id IS NULL
LEFT JOIN monitoring_posture p ON p.service_id = v.id
"""  # noqa: S608  made of constants; values are parameters


@dataclass(frozen=True, slots=True)
class Claim:
    """A check that is ours to probe until its lease runs out."""

    check_id: int
    token: uuid.UUID
    lane: str
    service_id: int
    service: str
    provider: str
    kind: str
    name: str
    interval: float
    timeout: float
    """Both as they are in force now, as is the policy: on critical days they are stricter."""
    policy: Policy
    options: str
    """The kind's options as JSON text, references unresolved."""
    credentials: str
    """The service's own credentials, as ``variables.resolve`` takes them."""
    claimed_at: datetime
    """The database's time of the claim."""
    due_at: datetime
    heartbeat: HeartbeatFacts | None = None

    @property
    def due_in(self) -> float:
        """Seconds from the claim to the due time; negative when overdue.

        A due time beyond the horizon means that the clock went back: then the check is due now.
        """
        seconds = (self.due_at - self.claimed_at).total_seconds()
        return seconds if seconds <= HORIZON else 0.0


def claim(owner: uuid.UUID, limit: int, room: Mapping[str, int], lane_room: int) -> list[Claim]:
    """Lease up to ``limit`` due checks to ``owner``, the longest overdue first.

    ``room`` says how many more each busy lane may take; every other lane may take ``lane_room``. A lane
    is a vendor, or one service of a generic provider.
    """
    parameters: dict[str, Any] = {
        "owner": owner,
        "limit": limit,
        "room": json.dumps(dict(room)),
        "lane_room": lane_room,
        "horizon": HORIZON,
        "margin": LEASE_MARGIN,
        "no_calls": list(NOT_A_CALL),
        "generic": [slug for slug in providers.names() if providers.get(slug).generic],
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, parameters)
        return [_claim(row) for row in cursor.fetchall()]


def give_back(claim_: Claim) -> None:
    """Return a lease unused; the check stays due."""
    CheckState.objects.filter(check_ref_id=claim_.check_id, lease_token=claim_.token).update(
        lease_token=None, lease_until=None, lease_owner=None
    )


def register() -> Process:
    """Record this process as a worker, and take back the leases of dead ones on this host."""
    with transaction.atomic():
        process = Process.objects.create(role="worker", host=here(), pid=os.getpid())
        dead = [
            other.id
            for other in Process.objects.filter(host=process.host, role="worker").exclude(id=process.id)
            if not _alive(other)
        ]
        release(dead)
        Process.objects.filter(id__in=dead).delete()
    return process


def here() -> str:
    """This host's name and, in short, the boot and the namespace in which its process ids mean something.

    Containers may share a host name, and each has a process 1.
    """
    try:
        scope = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return socket.gethostname()
    return f"{socket.gethostname()} {hashlib.sha256(scope.encode()).hexdigest()[:8]}"


def release(owners: list[uuid.UUID]) -> None:
    """Take back every lease of ``owners``, who must be dead or done."""
    CheckState.objects.filter(lease_owner__in=owners).update(lease_token=None, lease_until=None, lease_owner=None)


def _alive(process: Process) -> bool:
    """Whether that process still runs. A pid may have been given to another program since."""
    if process.pid == os.getpid():
        return False
    try:
        return bool(psutil.Process(process.pid).create_time() <= process.started_at.timestamp() + 60)
    except psutil.Error:
        return False


def _claim(row: tuple[Any, ...]) -> Claim:
    check_id, token, lane, service_id, service, provider, kind, name, interval, timeout = row[:10]
    degraded_over, confirm_down, confirm_up, options, credentials, claimed_at, due_at = row[10:17]
    values = effects.Values(interval, timeout, confirm_down, degraded_over)
    if row[23]:
        values = _strict(values, kind, row[21:])
    return Claim(
        check_id=check_id,
        token=token,
        lane=lane,
        service_id=service_id,
        service=service,
        provider=provider,
        kind=kind,
        name=name,
        interval=values.interval,
        timeout=values.timeout,
        policy=Policy.of(values.confirm_down, confirm_up, degraded_over, hurried=values.hurried),
        options=options,
        credentials=credentials,
        claimed_at=claimed_at,
        due_at=due_at,
        heartbeat=HeartbeatFacts(*row[17:21]) if row[17] else None,
    )


def _strict(usual: effects.Values, kind: str, row: tuple[Any, ...]) -> effects.Values:
    """The values on a critical day or in an emergency."""
    criticality, status, critical, emergency, interval, spare, timeout, confirm = row
    strict = effects.Strictness(effects.Factors(interval, spare, timeout, confirm), critical, emergency)
    return effects.effective(usual, strict, criticality, kind, status == Status.HEALTHY)
