"""The numbers that are looked at, each with its limit, and what is expected of them.

latency      95th percentile of the response time in ms, up to its budget (else the timeout)
errors       per cent of the error budget of 30 days that is used, up to 100
quota        per cent of the vendor's rate limit that is left, down to where little is left
certificate  days that a TLS certificate lasts, down to what the check asks for

Of most checks there is nothing to ask: a number that is far from its limit cannot reach it soon. So their
past is read only when their present comes near.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from django.db import connection
from django.db.models import Q

from monitoring import histogram, rollups
from monitoring.alertrules import thresholds
from monitoring.alertrules.headroom import SMALLEST, moment
from monitoring.forecasts import expecting, seasons
from monitoring.forecasts.expecting import Expectation, Points, Window
from monitoring.models import CheckState, Rollup
from monitoring.rollups import Counts
from wsmon.vocabulary import Status

LATENCY, ERRORS, QUOTA, CERTIFICATE = "latency", "errors", "quota", "certificate"

BUDGET_DAYS = 30
FAILING_HOURS = 8
"""Of the last 24, with failures: below that they are incidents, not a trend."""

QUOTA_WINDOW = timedelta(hours=3)
JUMP = 10.0
"""A rise of what is left by so many points is the vendor's reset."""

CERTIFICATE_DAYS = 14
CERTIFICATE_AHEAD = 30
"""Days ahead of its limit from which a certificate's end is foretold."""

NEAR = 0.35
"""A response time cannot double within a window that it has not risen in: below about half its limit it waits."""
MOST = 300
"""Checks whose response times are looked at in one go, the nearest to their limit first."""
SHARE = 0.95
PROBES = 12
"""In each slice on average, at least: the 95th percentile of fewer is mere chance."""
NOW_MINUTES = 15
"""Minutes that make up the number as it is now, or else the newest slice."""

_LEVEL = Rollup.Level
WINDOWS = (
    (_LEVEL.MINUTE, timedelta(hours=1)),
    (_LEVEL.MINUTE, timedelta(hours=3)),
    (_LEVEL.SLOT, timedelta(hours=8)),
    (_LEVEL.HOUR, timedelta(days=7)),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A check that is looked at."""

    check_id: int
    name: str
    kind: str
    interval: float
    limit_ms: float
    budget: float
    """Failed probes that a month may have."""
    least_quota: float
    """Per cent."""
    options: dict[str, Any]
    service_id: int
    service_slug: str
    service_label: str
    details: dict[str, Any]
    recent_ms: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """One number of a check: how it is now and what is expected of it."""

    subject: Subject
    metric: str
    limit: float
    level: float | None
    newest: Expectation | None


def read(now: datetime, promised: Iterable[tuple[int, str]]) -> list[Reading]:
    """Every number that comes near its limit, and those of ``promised`` (check, metric) whether or not."""
    subjects = list(_subjects())
    wanted: dict[str, set[int]] = {metric: set() for metric in (LATENCY, ERRORS, QUOTA, CERTIFICATE)}
    for check_id, metric in promised:
        wanted.setdefault(metric, set()).add(check_id)
    return [
        *_latencies(subjects, wanted[LATENCY], now),
        *_errors(subjects, wanted[ERRORS], now),
        *_quotas(subjects, now),
        *_certificates(subjects, now),
    ]


def _subjects() -> Iterator[Subject]:
    limits = thresholds.present()
    rows = CheckState.objects.select_related("check_ref__service").filter(
        Q(status__in=[Status.HEALTHY, Status.DEGRADED]),
        check_ref__archived_at=None,
        check_ref__paused_at=None,
        check_ref__service__archived_at=None,
    )
    for state in rows.order_by("check_ref_id"):
        check = state.check_ref
        yield Subject(
            check_id=check.id,
            name=check.name,
            kind=check.kind,
            interval=check.interval,
            limit_ms=limits.p95_ms(check.service.slug, check.degraded_over) or check.timeout * 1000,
            budget=BUDGET_DAYS * 86_400 / check.interval * (1 - limits.slo(check.service.slug)),
            least_quota=limits.rate_limit.below,
            options=check.options,
            service_id=check.service_id,
            service_slug=check.service.slug,
            service_label=check.service.label,
            details=state.details,
            recent_ms=state.recent_ms,
        )


# Response times ------------------------------------------------------------------------------------


def _latencies(subjects: Iterable[Subject], promised: set[int], now: datetime) -> list[Reading]:
    near = [(_nearness(one), one) for one in subjects]
    near = [(share, one) for share, one in near if share >= NEAR or one.check_id in promised]
    near.sort(key=lambda pair: (pair[1].check_id not in promised, -pair[0]))
    chosen = [one for _, one in near[:MOST]]
    if not chosen:
        return []
    windows = [_percentiles(chosen, level, length, now) for level, length in WINDOWS]
    return [_latency(one, [window[one.check_id] for window in windows], now) for one in chosen]


def _nearness(subject: Subject) -> float:
    """The slowest of the last responses as a share of the limit."""
    return max((ms for ms in subject.recent_ms if ms is not None), default=0.0) / subject.limit_ms


def _latency(subject: Subject, series: Sequence[Points], now: datetime) -> Reading:
    usual = seasons.usual(series[-1])
    newest = expecting.soonest(
        expecting.expect(Window(points, length), subject.limit_ms, now, season=usual)
        for points, (_, length) in zip(series, WINDOWS, strict=True)
    )
    return Reading(subject, LATENCY, subject.limit_ms, _present(subject, series, now), newest)


def _present(subject: Subject, series: Sequence[Points], now: datetime) -> float | None:
    """The number as it is now: of the finest window that has one."""
    for points, (level, _) in zip(series, WINDOWS, strict=True):
        fresh = max(timedelta(minutes=NOW_MINUTES), timedelta(seconds=2 * _slice_seconds(subject, level)))
        recent = [value for at, value in points if now - at <= fresh]
        if recent:
            return median(recent)
    return None


def _slice_seconds(subject: Subject, level: int) -> int:
    """How long a slice is, so that it holds enough probes."""
    return math.ceil(PROBES * subject.interval / level) * level


def _percentiles(subjects: Iterable[Subject], level: int, length: timedelta, now: datetime) -> dict[int, Points]:
    """The 95th percentile of each whole slice of each check, at the slice's middle."""
    by_seconds: dict[int, list[int]] = defaultdict(list)
    for one in subjects:
        by_seconds[_slice_seconds(one, level)].append(one.check_id)
    found: dict[int, Points] = {}
    for seconds, ids in by_seconds.items():
        slices = rollups.slices({check_id: check_id for check_id in ids}, level, now - length, seconds)
        found |= {check_id: _whole(rows, timedelta(seconds=seconds), now) for check_id, rows in slices.items()}
    return found


def _whole(rows: Iterable[tuple[datetime, Counts]], length: timedelta, now: datetime) -> Points:
    points = [(start, percentile(counts)) for start, counts in rows if start + length <= now]
    return [(start + length / 2, value) for start, value in points if value is not None]


def percentile(counts: Counts) -> float | None:
    """The 95th percentile in ms, within its bin by how many lie below: a rise shows before it fills a bin."""
    bins = counts.histogram
    total, seen = sum(bins.values()), 0
    for index in sorted(index for index, number in bins.items() if number):
        share = (SHARE * total - seen) / bins[index]
        seen += bins[index]
        if seen >= SHARE * total:
            value = float(histogram.FLOOR_MS * histogram.GROWTH ** (index + share))
            return value if counts.slowest_ms is None else min(value, counts.slowest_ms)
    return None


# Error budget --------------------------------------------------------------------------------------


def _errors(subjects: Iterable[Subject], promised: set[int], now: datetime) -> list[Reading]:
    known = {one.check_id: one for one in subjects}
    chosen = _failing(list(known), now) | (promised & known.keys())
    if not chosen:
        return []
    owners = {check_id: check_id for check_id in sorted(chosen)}
    month = rollups.totals(owners, _LEVEL.DAY, now - timedelta(days=BUDGET_DAYS), times=False)
    day = timedelta(hours=24)
    hours = rollups.slices(owners, _LEVEL.HOUR, now - day, _LEVEL.HOUR, times=False)
    readings = []
    for check_id in owners:
        subject = known[check_id]
        failed = [(start + timedelta(hours=1), counts.critical) for start, counts in hours[check_id]]
        points = used(failed, month[check_id].critical, subject.budget, now)
        newest = expecting.expect(Window(points, day), 100.0, now)
        readings.append(Reading(subject, ERRORS, 100.0, points[-1][1], newest))
    return readings


def used(failed: Sequence[tuple[datetime, int]], total: int, budget: float, now: datetime) -> Points:
    """How much of the budget was used at the end of each hour, in per cent; the last is now's.

    ``failed`` are the failures of the last hours by their end, ``total`` those of the whole budget's time.
    """
    points, left = [(now, 100 * total / budget)], total
    for end, number in reversed(failed):
        if end < now:
            points.append((end, 100 * left / budget))
        left = max(0, left - number)
    return points[::-1]


_FAILING = """
SELECT u.check_id FROM unnest(%(checks)s::bigint[]) AS c(id)
JOIN monitoring_rollup u ON u.level = 3600 AND u.check_id = c.id AND u.start > %(after)s
WHERE u.critical > 0 GROUP BY u.check_id HAVING count(*) >= %(hours)s
"""


def _failing(ids: Sequence[int], now: datetime) -> set[int]:
    with connection.cursor() as cursor:
        after = now - timedelta(hours=24)
        cursor.execute(_FAILING, {"checks": list(ids), "after": after, "hours": FAILING_HOURS})
        return {check_id for (check_id,) in cursor.fetchall()}


# Rate limits ---------------------------------------------------------------------------------------

_HEADROOM = """
SELECT r.check_id, date_bin('1 minute', r.at, 'epoch') AS minute,
    avg((r.details ->> 'rate_limit_remaining')::float8 / (r.details ->> 'rate_limit_limit')::float8) * 100
FROM unnest(%(checks)s::bigint[]) AS c(id)
JOIN service_health_metrics r ON r.check_id = c.id AND r.at > %(after)s AND r.at <= %(now)s
WHERE jsonb_typeof(r.details -> 'rate_limit_remaining') = 'number'
  AND CASE WHEN jsonb_typeof(r.details -> 'rate_limit_limit') = 'number'
      THEN (r.details ->> 'rate_limit_limit')::float8 >= %(smallest)s ELSE false END
GROUP BY 1, 2 ORDER BY 1, 2
"""


def _quotas(subjects: Iterable[Subject], now: datetime) -> list[Reading]:
    limited = {one.check_id: one for one in subjects if "rate_limit_remaining" in one.details}
    if not limited:
        return []
    series: dict[int, list[tuple[datetime, float]]] = {check_id: [] for check_id in limited}
    with connection.cursor() as cursor:
        cursor.execute(
            _HEADROOM, {"checks": list(limited), "after": now - QUOTA_WINDOW, "now": now, "smallest": SMALLEST}
        )
        for check_id, minute, left in cursor.fetchall():
            series[check_id].append((minute, left))
    return [_quota(subject, series[check_id], now) for check_id, subject in limited.items()]


def _quota(subject: Subject, points: Points, now: datetime) -> Reading:
    lasting = since_reset(points)
    newest = None
    if lasting:
        window = Window(lasting, now - lasting[0][0])
        newest = expecting.expect(window, subject.least_quota, now, falling=True)
    resets_at = moment(subject.details.get("rate_limit_reset"))
    if newest and resets_at and resets_at < newest.crosses_at:
        newest = None  # it is full again before
    recent = [left for at, left in lasting if now - at <= timedelta(minutes=NOW_MINUTES)]
    return Reading(subject, QUOTA, subject.least_quota, median(recent) if recent else None, newest)


def since_reset(points: Points) -> Points:
    """The points after what is left last jumped up."""
    jumps = [place for place, (before, after) in enumerate(pairwise(points), 1) if after[1] - before[1] >= JUMP]
    return points[jumps[-1] :] if jumps else points


# Certificates --------------------------------------------------------------------------------------


def _certificates(subjects: Iterable[Subject], now: datetime) -> list[Reading]:
    return [reading for one in subjects if (reading := _certificate(one, now)) is not None]


def _certificate(subject: Subject, now: datetime) -> Reading | None:
    """No trend: a certificate's end is written in it."""
    days = _number(subject.details.get("tls_days_left"))
    option = "days_left" if subject.kind == "tls" else "tls_days_left"
    limit = _number(subject.options.get(option, CERTIFICATE_DAYS))
    if days is None or not limit:
        return None
    ahead = days - limit
    newest = _running_out(days, limit, now) if 0 < ahead <= CERTIFICATE_AHEAD else None
    return Reading(subject, CERTIFICATE, limit, days, newest)


def _running_out(days: float, limit: float, now: datetime) -> Expectation:
    """Whole days are known: it may be up to a day later."""
    first, last = now + timedelta(days=days - limit), now + timedelta(days=days - limit + 1)
    middle = first + (last - first) / 2
    points = tuple((round(at.timestamp(), 1), value, value, value) for at, value in ((now, days), (middle, limit)))
    return Expectation(days, -1 / 24, middle, first, last, 1.0, points)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
