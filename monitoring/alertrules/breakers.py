"""Rule: a breaker does not let calls through. It lasts from the opening to the closing, trials included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, page_of

KIND = "breaker"


@dataclass(frozen=True, slots=True)
class NotClosed:
    """A breaker that is not CLOSED, or that a person holds open. ``id`` is a service's or a circuit's."""

    id: int
    name: str
    label: str
    url: str
    is_service: bool
    forced: bool
    opened_at: datetime | None
    reason: str
    by: str = ""


def find(breakers: Iterable[NotClosed]) -> list[Finding]:
    """One finding for each; what a person holds open is worth knowing, no more."""
    return [_finding(one) for one in breakers]


def _finding(one: NotClosed) -> Finding:
    since = f" since {one.opened_at:%H:%M} UTC" if one.opened_at else ""
    if one.forced:
        title, severity = f"{one.label}: its breaker is held open by {one.by or 'somebody'}", Severity.INFO
    else:
        title, severity = f"{one.label}: its breaker is open", Severity.WARNING
    reason = one.reason.rstrip(".")
    detail = f"No call goes out{since}" + (f": {reason}." if reason else ".")
    return Finding(
        key=f"breaker:{one.name}",
        kind=KIND,
        severity=severity.value,
        title=title,
        detail=detail,
        url=one.url or (page_of(one.name) if one.is_service else "/breakers/"),
        service=one.id if one.is_service else None,
    )


# An override that is over counts as none, whether somebody has taken it away yet or not.
_NOT_CLOSED = """
SELECT id, name, label, url, is_service, held, since, reason, by FROM (
    SELECT v.id, v.name, coalesce(nullif(v.label, ''), v.name) AS label, v.url, v.is_service, f.word = 'OPEN' AS held,
        CASE WHEN f.word = 'OPEN' THEN b.forced_at ELSE coalesce(b.opened_at, b.since) END AS since,
        CASE WHEN f.word = 'OPEN' THEN b.forced_reason ELSE b.reason END AS reason,
        CASE WHEN f.word = 'OPEN' THEN b.forced_by ELSE '' END AS by,
        coalesce(nullif(f.word, ''), b.state) AS effective
    FROM circuit_breaker_status b JOIN monitoring_guarded v ON v.id = b.service_id
    CROSS JOIN LATERAL (SELECT CASE WHEN b.forced_until IS NULL OR b.forced_until > %(now)s
        THEN b.forced ELSE '' END AS word) f
    WHERE v.archived_at IS NULL
) AS present WHERE effective <> 'CLOSED' ORDER BY name
"""


def read(now: datetime) -> list[NotClosed]:
    """The breakers that are not CLOSED."""
    with connection.cursor() as cursor:
        cursor.execute(_NOT_CLOSED, {"now": now})
        return [NotClosed(*row) for row in cursor.fetchall()]


def look(context: Context) -> list[Finding]:
    """Read and find."""
    return find(read(context.now))


RULE = Rule(KIND, 5.0, look)
