"""What the overview shows of a service's past, made beforehand from rollups.

A page then reads one row per service, whatever the number of results, checks or days.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import Max
from django.utils import timezone

from monitoring import rollups
from monitoring.models import Check, Service, ServiceSummary
from monitoring.periods import PERIODS, SLOTS, Period
from monitoring.rollups import Counts

CHUNK = 100
"""Services summarised at a time, so that memory stays small."""

MOST_NOTES = 30
"""Of one strip. With more bad slots than that none is told in words: a page of services that fail now and
then all day would be megabytes of tooltips, and reading them most of its time."""


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
    checks = Check.objects.filter(service__in=ids, archived_at=None)
    owners = dict(checks.values_list("id", "service_id"))
    after = period.after(period.first_start(now))
    totals = rollups.totals(owners, period.level, after)
    bars = rollups.slices(owners, period.level, after, period.level, times=False)
    summaries = [_summary(key, period, totals.get(key, Counts()), bars.get(key, []), now) for key in ids]
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
            "healthy",
            "degraded",
            "critical",
            "error",
            "made_at",
        ],
    )
    return len(summaries)


def slots(found: Iterable[tuple[datetime, Counts]], period: Period, now: datetime) -> list[Counts]:
    """Sort slices of the period's level into its 90 slots, oldest first."""
    first = period.first_start(now)
    sorted_ = [Counts() for _ in range(SLOTS)]
    for start, counts in found:
        for index in period.slots_of(start, first):
            sorted_[index].add(counts)
    return sorted_


def notes(bar: Sequence[Counts]) -> dict[str, str]:
    """What the tooltips of a strip's bad slots say, by place; none where very many are bad."""
    bad = [place for place, slot in enumerate(bar) if slot.letter not in "h."]
    return {str(place): bar[place].sentence() for place in bad} if len(bad) <= MOST_NOTES else {}


def _summary(
    service_id: int, period: Period, total: Counts, found: Iterable[tuple[datetime, Counts]], now: datetime
) -> ServiceSummary:
    bar = slots(found, period, now)
    return ServiceSummary(
        service_id=service_id,
        period=period.name,
        first_start=period.first_start(now),
        bar="".join(slot.letter for slot in bar),
        notes=notes(bar),
        uptime=total.uptime,
        p50_ms=total.percentile(0.50),
        p95_ms=total.percentile(0.95),
        p99_ms=total.percentile(0.99),
        healthy=total.healthy,
        degraded=total.degraded,
        critical=total.critical,
        error=total.error,
        made_at=now,
    )
