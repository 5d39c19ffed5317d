"""The rules of webhooks: failed deliveries over a threshold, and refused signatures that surge.

Silence and disabled destinations raise their alerts where they are noticed (``webhooks.silence``, ``settling``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule
from monitoring.alertrules.thresholds import FailedDeliveries, RefusedSignatures
from wsmon.durations import format_duration

DELIVERIES = "failed_deliveries"
SIGNATURES = "refused_signatures"
MUCH = 10
"""So many times the threshold is critical."""
FEW = 5
"""So many refused requests, and not one accepted where some usually are: our secret is wrong."""
USUAL = timedelta(hours=24)
SIGNATURE_CODES = ("signature_missing", "signature_malformed", "signature_mismatch", "too_old", "from_the_future")
"""Of providers.hooks.CODES: what somebody who does not have the secret gets."""


# Failed deliveries --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failed:
    """Dead letters of one destination within the window. ``service_id``: whose breaker it shares."""

    destination: str
    service_id: int | None
    number: int


def find_failed(failed: Iterable[Failed], limit: FailedDeliveries) -> list[Finding]:
    """Destinations with more dead letters than ``limit.over``."""
    within = format_duration(limit.within)
    return [
        Finding(
            key=f"failed-deliveries:{one.destination}",
            kind=DELIVERIES,
            severity=(Severity.CRITICAL if one.number > MUCH * limit.over else Severity.WARNING).value,
            title=f"{one.destination}: more than {limit.over:,} deliveries failed within {within}",
            detail=f"{one.number:,} deliveries used up their tries. Fix {one.destination}, then replay them.",
            url="/webhooks/failures/?by=destination",
            service=one.service_id,
        )
        for one in failed
        if one.number > limit.over
    ]


_FAILED = """
SELECT d.slug, d.service_id, sum(c.failed)::int FROM webhooks_deliverycount c
JOIN webhooks_destination d ON d.id = c.destination_id AND d.archived_at IS NULL
WHERE c.level = 60 AND c.start > %(since)s
GROUP BY 1, 2 HAVING sum(c.failed) > %(over)s ORDER BY 1
"""


def read_failed(now: datetime, limit: FailedDeliveries) -> list[Failed]:
    """The destinations with too many."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, {"since": now - timedelta(seconds=limit.within), "over": limit.over})
        return [Failed(*row) for row in cursor.fetchall()]


def look_at_deliveries(context: Context) -> list[Finding]:
    """Read and find."""
    limit = context.thresholds.failed_deliveries
    return find_failed(read_failed(context.now, limit), limit)


# Refused signatures -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusing:
    """Requests to one source within the window, and what was usual in the day before it."""

    source: str
    service_id: int | None
    refused: int
    accepted: int
    usual_refused: float
    """Refused in a window of that length, on the day's average."""
    usual_accepted: float
    message: str = ""


def find_refused(sources: Iterable[Refusing], limit: RefusedSignatures) -> list[Finding]:
    """Sources that refuse everything where they usually accept, or far more than they usually do."""
    found = []
    for one in sources:
        locked_out = one.refused >= FEW and not one.accepted and one.usual_accepted > 0
        surging = one.refused > limit.over and one.refused >= limit.times * one.usual_refused
        if locked_out or surging:
            found.append(_refused(one, limit, locked_out=locked_out))
    return found


def _refused(one: Refusing, limit: RefusedSignatures, *, locked_out: bool) -> Finding:
    within = format_duration(limit.within)
    if locked_out:
        title = f"{one.source}: every signature is refused"
        detail = f"{one.refused:,} requests within {within}, none accepted: was its signing secret changed?"
    else:
        title = f"{one.source}: far more refused signatures than usual"
        detail = f"{one.refused:,} within {within}, where {one.usual_refused:,.1f} are usual;"
        detail += f" {one.accepted:,} were accepted meanwhile."
    return Finding(
        key=f"refused-signatures:{one.source}",
        kind=SIGNATURES,
        severity=(Severity.CRITICAL if locked_out else Severity.WARNING).value,
        title=title,
        detail=f"{detail} Last: {one.message}." if one.message else detail,
        url="/webhooks/sources/",
        service=one.service_id,
    )


# Only names that a source has; what is sent to others is a scanner's.
_REFUSED = """
SELECT s.slug, s.service_id,
    sum(r.count) FILTER (WHERE r.at > %(since)s)::int,
    (SELECT coalesce(sum(c.events), 0) FROM webhooks_eventcount c
        WHERE c.level = 60 AND c.source_id = s.id AND c.start > %(since)s)::int,
    (coalesce(sum(r.count) FILTER (WHERE r.at <= %(since)s), 0) * %(part)s)::float8,
    ((SELECT coalesce(sum(c.events), 0) FROM webhooks_eventcount c
        WHERE c.level = 3600 AND c.source_id = s.id AND c.start > %(before)s) * %(part)s)::float8,
    (array_agg(r.message ORDER BY r.last_at DESC))[1]
FROM webhooks_refusal r JOIN webhooks_source s ON s.slug = r.source AND s.archived_at IS NULL
WHERE r.at > %(before)s AND r.code = ANY(%(codes)s)
GROUP BY s.id, s.slug, s.service_id HAVING sum(r.count) FILTER (WHERE r.at > %(since)s) >= %(few)s ORDER BY 1
"""


def read_refused(now: datetime, limit: RefusedSignatures) -> list[Refusing]:
    """The sources that refused a few lately."""
    since = now - timedelta(seconds=limit.within)
    values: dict[str, Any] = {
        "since": since,
        "before": since - USUAL,
        "part": limit.within / USUAL.total_seconds(),
        "codes": list(SIGNATURE_CODES),
        "few": min(FEW, limit.over),
    }
    with connection.cursor() as cursor:
        cursor.execute(_REFUSED, values)
        return [Refusing(*row) for row in cursor.fetchall()]


def look_at_signatures(context: Context) -> list[Finding]:
    """Read and find."""
    limit = context.thresholds.refused_signatures
    return find_refused(read_refused(context.now, limit), limit)


RULES = (Rule(DELIVERIES, 5.0, look_at_deliveries), Rule(SIGNATURES, 5.0, look_at_signatures))
"""For ``settings.ALERT_RULES``."""
