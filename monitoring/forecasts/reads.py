"""What pages show of forecasts: the line, the sentence, how often past ones were right."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from django.db.models import Q, QuerySet
from django.utils import timezone

from monitoring.forecasts import wording
from monitoring.forecasts.promises import LAPSES, Outcome
from monitoring.forecasts.sources import LATENCY
from monitoring.models import Forecast

LOOK_BACK = timedelta(days=90)
"""Of so many days the record is told."""
MOST_RECORDED = 500


@dataclass(frozen=True, slots=True)
class Outlook:
    """One number that is expected to cross its limit."""

    check_id: int
    check_name: str
    metric: str
    crossing: str
    standing: str
    expected_at: datetime
    earliest: datetime | None
    """None, as ``latest``, when the moment has moved out of what was said first."""
    latest: datetime | None


@dataclass(frozen=True, slots=True)
class Record:
    """How past forecasts of some checks ended."""

    came: int = 0
    averted: int = 0
    wrong: int = 0
    off: timedelta | None = None
    """Half of those that came were at most so far from the moment said."""

    @property
    def total(self) -> int:
        """All that ended."""
        return self.came + self.averted + self.wrong


def outlooks(check_ids: Collection[int], now: datetime | None = None) -> list[Outlook]:
    """What is expected of some checks, the nearest first."""
    return [_outlook(row) for row in _current(check_ids, now)]


def _outlook(row: Forecast) -> Outlook:
    assert row.expected_at is not None  # noqa: S101  narrows the type
    value, slope = present(row)
    still = row.earliest and row.latest and row.earliest <= row.expected_at <= row.latest
    return Outlook(
        check_id=row.check_ref_id,
        check_name=row.check_ref.name,
        metric=row.metric,
        crossing=wording.crossing(row.metric, row.limit),
        standing=wording.standing(row.metric, value, slope),
        expected_at=row.expected_at,
        earliest=row.earliest if still else None,
        latest=row.latest if still else None,
    )


def present(row: Forecast) -> tuple[float, float]:
    """Value and slope by the newest numbers: those of the line that is drawn."""
    if len(row.points) < 2 or row.points[-1][0] <= row.points[0][0]:
        return row.value, row.slope
    (begins, value, *_), (ends, last, *_) = row.points[0], row.points[-1]
    return value, (last - value) / (ends - begins) * 3600


def line(check_id: int, now: datetime | None = None) -> list[list[float]]:
    """The expected response time of a check for the chart: [epoch seconds, ms, least, most]; empty without one."""
    rows = _current([check_id], now)
    found: list[list[float]] = next((row.points for row in rows if row.metric == LATENCY), [])
    return [[float(value) for value in point] for point in found]


def record(check_ids: Collection[int], now: datetime | None = None) -> Record:
    """How the forecasts of some checks ended that were settled within :data:`LOOK_BACK`."""
    return record_of(Forecast.objects.filter(check_ref__in=check_ids), now)


def record_of(rows: QuerySet[Forecast], now: datetime | None = None) -> Record:
    """The same of any forecasts."""
    since = (now or timezone.now()) - LOOK_BACK
    ended = rows.filter(settled_at__gte=since, outcome__in=list(Outcome)).order_by("-settled_at")
    return of(ended.values_list("outcome", "crosses_at", "settled_at")[:MOST_RECORDED])


def of(ended: Iterable[tuple[str, datetime | None, datetime | None]]) -> Record:
    """Add up (outcome, when it was to come, when it ended)."""
    rows = list(ended)
    count = {word: sum(outcome == word for outcome, _, _ in rows) for word in Outcome}
    off = [abs(at - said).total_seconds() for word, said, at in rows if word == Outcome.CAME and said and at]
    half = timedelta(seconds=median(off)) if off else None
    return Record(count[Outcome.CAME], count[Outcome.AVERTED], count[Outcome.WRONG], half)


def current(now: datetime) -> Q:
    """Those that are expected now."""
    return Q(outcome="", expected_at__isnull=False, renewed_at__gt=now - LAPSES)


def _current(check_ids: Collection[int], now: datetime | None) -> list[Forecast]:
    rows = Forecast.objects.filter(current(now or timezone.now()), check_ref__in=check_ids)
    return list(rows.select_related("check_ref").order_by("expected_at", "id"))
