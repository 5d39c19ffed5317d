"""What the overview shows of a service's past, made beforehand from rollups.

A page then reads one row per service, whatever the number of results, checks or days.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Max
from django.utils import timezone

from monitoring import histogram
from monitoring.models import Service, ServiceSummary
from monitoring.periods import PERIODS, SLOTS, Period

LETTERS = {"healthy": "h", "degraded": "d", "error": "e", "critical": "c"}
NO_DATA = "."
CHUNK = 100
"""Services summarised at a time, so that memory stays small."""


@dataclass(slots=True)
class Counts:
    """Results of one slot or span, by outcome, with their response times."""

    healthy: int = 0
    degraded: int = 0
    critical: int = 0
    error: int = 0
    slowest_ms: float | None = None
    histogram: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All results."""
        return self.healthy + self.degraded + self.critical + self.error

    @property
    def uptime(self) -> float | None:
        """The share of results, among those not our own fault, in which the target worked (0..1)."""
        judged = self.healthy + self.degraded + self.critical
        return (self.healthy + self.degraded) / judged if judged else None

    @property
    def letter(self) -> str:
        """The worst outcome: c, e, d, h, or a dot for no data."""
        for word in ("critical", "error", "degraded", "healthy"):
            if getattr(self, word):
                return LETTERS[word]
        return NO_DATA

    def add(self, row: Sequence[Any]) -> None:
        """Add a row of (healthy, degraded, critical, error, slowest) and perhaps (lowest bin, counts)."""
        self.healthy += row[0]
        self.degraded += row[1]
        self.critical += row[2]
        self.error += row[3]
        if row[4] is not None:
            self.slowest_ms = max(self.slowest_ms or 0.0, row[4])
        if len(row) > 5:
            histogram.add(self.histogram, row[5], row[6])

    def sentence(self) -> str:
        """What a tooltip says of a slot that was not all healthy."""
        if self.critical:
            return f"critical, {self.critical:,} of {self.total:,} probes failed"
        if self.error:
            return f"error (ours), {self.error:,} of {self.total:,} probes"
        slowest = f", slowest {self.slowest_ms:,.0f} ms" if self.slowest_ms else ""
        return f"degraded, {self.degraded:,} of {self.total:,} probes{slowest}"


def refresh_due() -> int:
    """Refresh each period whose summaries are older than the period allows; return how many were made."""
    made = dict(ServiceSummary.objects.values_list("period").annotate(Max("made_at")))
    now = timezone.now()
    return sum(
        refresh(period)
        for period in PERIODS.values()
        if period.name not in made or now - made[period.name] >= period.refresh or made[period.name] > now
    )


def refresh(period: Period, service_ids: Iterable[int] | None = None) -> int:
    """Make the summaries of one period anew, for some services or for all; return how many."""
    now = timezone.now()
    services = Service.objects.filter(archived_at=None)
    if service_ids is not None:
        services = services.filter(id__in=list(service_ids))
    ids = list(services.order_by("id").values_list("id", flat=True))
    chunks = (ids[first : first + CHUNK] for first in range(0, len(ids), CHUNK))
    return sum(_refresh(period, chunk, now) for chunk in chunks)


def _refresh(period: Period, ids: list[int], now: datetime) -> int:
    rows, histograms = _rows(ids, period, now), _histograms(ids, period, now)
    summaries = [_summary(key, period, rows[key], histograms[key], now) for key in ids]
    ServiceSummary.objects.bulk_create(
        summaries,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["service_id", "period"],
        update_fields=[
            "first_start",
            "bar",
            "notes",
            "uptime",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "count",
            "made_at",
        ],
    )
    return len(summaries)


_ROLLUPS = """
    FROM monitoring_configuration c
    JOIN monitoring_rollup u ON u.check_id = c.id AND u.level = %(level)s AND u.start >= %(first)s
"""
_WHERE = "WHERE c.service_id = ANY(%(ids)s) AND c.archived_at IS NULL"


def _rows(ids: list[int], period: Period, now: datetime) -> dict[int, list[tuple[Any, ...]]]:
    """By service: (start, healthy, degraded, critical, error, slowest) over its checks."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    counted = "sum(u.healthy), sum(u.degraded), sum(u.critical), sum(u.error), max(u.max_ms)"
    query = f"SELECT c.service_id, u.start, {counted} {_ROLLUPS} {_WHERE} GROUP BY 1, 2"
    for row in _select(query, ids, period, now):
        found[row[0]].append(row[1:])
    return found


def _histograms(ids: list[int], period: Period, now: datetime) -> dict[int, dict[int, int]]:
    """By service: its histogram over the whole period, added up by the database."""
    found: dict[int, dict[int, int]] = defaultdict(dict)
    query = (
        f"SELECT c.service_id, array_lower(u.histogram, 1) + bin.place::int - 1, sum(bin.number) {_ROLLUPS}"
        f" CROSS JOIN unnest(u.histogram) WITH ORDINALITY AS bin(number, place) {_WHERE} AND bin.number > 0"
        " GROUP BY 1, 2"
    )
    for service_id, index, number in _select(query, ids, period, now):
        found[service_id][index] = number
    return found


def _select(query: str, ids: list[int], period: Period, now: datetime) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, {"level": period.level, "first": period.first_start(now), "ids": ids})
        return list(cursor.fetchall())


def slots(rows: Iterable[Sequence[Any]], period: Period, now: datetime) -> list[Counts]:
    """Sort rollup rows (start first) into the period's 90 slots, oldest first."""
    first = period.first_start(now)
    found = [Counts() for _ in range(SLOTS)]
    for start, *counts in rows:
        for index in period.slots_of(start, first):
            found[index].add(counts)
    return found


def _summary(
    service_id: int,
    period: Period,
    rows: list[tuple[Any, ...]],
    bins: dict[int, int],
    now: datetime,
) -> ServiceSummary:
    total = Counts(histogram=bins)
    for row in rows:
        total.add(row[1:])
    bar = slots(rows, period, now)
    return ServiceSummary(
        service_id=service_id,
        period=period.name,
        first_start=period.first_start(now),
        bar="".join(slot.letter for slot in bar),
        notes={str(index): slot.sentence() for index, slot in enumerate(bar) if slot.letter not in "h."},
        uptime=total.uptime,
        p50_ms=histogram.percentile(bins, 0.50),
        p95_ms=histogram.percentile(bins, 0.95),
        p99_ms=histogram.percentile(bins, 0.99),
        count=total.total,
        made_at=now,
    )
