"""Rule: little is left of a vendor's rate limit, or it will be used up before it is filled again.

A limit of a second or a minute is always nearly used up, and soon full again: only longer ones count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, number, page_of, rate_words
from monitoring.alertrules.thresholds import RateLimit
from monitoring.models import CheckState
from wsmon.durations import format_duration

KIND = "rate_limit"
SMALLEST = 30
"""Requests: smaller limits are of a second."""
SHORTEST = timedelta(seconds=60)
HISTORY = timedelta(hours=1)
MOST = 60
"""Readings of one check that are looked at."""
SOON = timedelta(minutes=10)
ENOUGH = timedelta(minutes=2)
"""A pace measured over less says nothing."""

Readings = Sequence[tuple[datetime, float]]
"""(when, how many requests were left), oldest first."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """What a vendor told one check of its limit."""

    service_id: int
    service: str
    check: str
    limit: float
    remaining: float
    at: datetime
    reset_at: datetime | None = None
    per_second: float = 0.0
    """So many requests come back each second, of a bucket that leaks."""
    history: Readings = ()
    label: str = ""
    """What people call the service; empty: as ``service``."""


def pace(history: Readings) -> float | None:
    """Requests used per second since the limit was last filled; None when that cannot be told yet."""
    since = 0
    for index, (earlier, later) in enumerate(pairwise(history), 1):
        if later[1] > earlier[1]:
            since = index
    part = history[since:]
    if len(part) < 3 or part[-1][0] - part[0][0] < ENOUGH:
        return None
    used = part[0][1] - part[-1][1]
    return used / (part[-1][0] - part[0][0]).total_seconds() if used > 0 else None


def find(readings: Iterable[Headroom], limit: RateLimit, now: datetime) -> list[Finding]:
    """At most one finding for each service: the check with the least left."""
    found: dict[str, Finding] = {}
    for one in sorted(readings, key=lambda each: (each.remaining / max(each.limit, 1.0), each.check)):
        finding = _judge(one, limit, now)
        if finding:
            found.setdefault(one.service, finding)
    return list(found.values())


def _judge(one: Headroom, limit: RateLimit, now: datetime) -> Finding | None:
    if one.limit < SMALLEST or one.remaining > one.limit or _refills_soon(one, now):
        return None
    speed = pace(one.history)
    lasts = timedelta(seconds=min(one.remaining / speed, 1e8)) if speed else None
    until_reset = one.reset_at - now if one.reset_at else None
    runs_out = lasts is not None and lasts.total_seconds() <= limit.ahead and (not until_reset or lasts < until_reset)
    low = one.remaining * 100 < limit.below * one.limit
    if not (low or runs_out):
        return None
    critical = one.remaining <= 0 or (runs_out and lasts is not None and lasts <= SOON)
    share = rate_words(max(one.remaining, 0) / one.limit)
    return Finding(
        key=f"rate-limit:{one.service}",
        kind=KIND,
        severity=(Severity.CRITICAL if critical else Severity.WARNING).value,
        title=f"{one.label or one.service}: its rate limit is {'' if one.remaining <= 0 else 'nearly '}used up",
        detail=f"{max(one.remaining, 0):,.0f} of {one.limit:,.0f} requests ({share}) are left"
        + (f" until {one.reset_at.astimezone(UTC):%H:%M} UTC" if one.reset_at else "")
        + (f"; at the present pace they last {_words(lasts)}" if lasts is not None and one.remaining > 0 else "")
        + ".",
        url=page_of(one.service),
        service=one.service_id,
    )


def _refills_soon(one: Headroom, now: datetime) -> bool:
    if one.reset_at is not None and one.reset_at - now <= SHORTEST:
        return True  # also when that is past, and the reading old
    return one.per_second > 0 and (one.limit - one.remaining) / one.per_second <= SHORTEST.total_seconds()


def _words(span: timedelta) -> str:
    seconds = span.total_seconds()
    return format_duration(max(round(seconds / 60), 1) * 60) if seconds < 7200 else f"{seconds / 3600:.0f}h"


def reading(row: Mapping[str, Any]) -> Headroom | None:
    """What a check's last result says of a limit; None when it is nothing that can be used."""
    details = row["details"] if isinstance(row["details"], Mapping) else {}
    limit, left = number(details.get("rate_limit_limit")), number(details.get("rate_limit_remaining"))
    if limit is None or left is None or limit <= 0 or row["checked_at"] is None:
        return None
    return Headroom(
        row["check_ref__service_id"],
        row["check_ref__service__slug"],
        row["check_ref__name"],
        limit,
        left,
        row["checked_at"],
        moment(details.get("rate_limit_reset")),
        max(number(details.get("rate_limit_restored_per_second")) or 0.0, 0.0),
        label=row["check_ref__service__name"],
    )


def moment(value: object) -> datetime | None:
    """A moment out of a vendor's details, which may hold anything."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found and found.tzinfo else None


_HISTORY = """
SELECT c.id, r.at, r.details ->> 'rate_limit_remaining' FROM unnest(%(checks)s::bigint[]) AS c(id)
CROSS JOIN LATERAL (
    SELECT at, details FROM service_health_metrics
    WHERE check_id = c.id AND at > %(since)s AND details ? 'rate_limit_remaining'
    ORDER BY at DESC LIMIT %(most)s
) r ORDER BY r.at
"""


def read(now: datetime) -> list[Headroom]:
    """The limits that checks in use have last been told of, with their course over the last hour."""
    rows = CheckState.objects.filter(
        details__has_keys=["rate_limit_limit", "rate_limit_remaining"],
        check_ref__archived_at=None,
        check_ref__paused_at=None,
        check_ref__service__archived_at=None,
    ).values("check_ref_id", "check_ref__service_id", "check_ref__service__slug", "check_ref__service__name",
             "check_ref__name", "checked_at", "details")  # fmt: skip
    found = {row["check_ref_id"]: one for row in rows if (one := reading(row))}
    courses: dict[int, list[tuple[datetime, float]]] = {check_id: [] for check_id in found}
    with connection.cursor() as cursor:
        cursor.execute(_HISTORY, {"checks": list(found), "since": now - HISTORY, "most": MOST})
        for check_id, at, left in cursor.fetchall():
            value = number(left)
            if value is not None:
                courses[check_id].append((at, value))
    return [_with(one, courses[check_id]) for check_id, one in found.items()]


def _with(one: Headroom, course: Readings) -> Headroom:
    return replace(one, history=tuple(course))


def look(context: Context) -> list[Finding]:
    """Read and find."""
    return find(read(context.now), context.thresholds.rate_limit, context.now)


RULE = Rule(KIND, 60.0, look)
