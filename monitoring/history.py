"""Reading the past: percentiles, uptime, chart points and strips from rollups; logs from rows.

Times are aware UTC, response times milliseconds, shares 0..1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from monitoring import histogram
from monitoring.models import ProbeResult, StateChange
from monitoring.periods import PERIODS, Period
from monitoring.summaries import Counts, slots

__all__ = [
    "PERIODS",
    "Percentiles",
    "Point",
    "ResultPage",
    "Slot",
    "bars",
    "changes",
    "counts",
    "percentiles",
]

_EPOCH = datetime.fromtimestamp(0, UTC)

WORDS = {"h": "healthy", "d": "degraded", "e": "error", "c": "critical", ".": "none"}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Response times (ms) that 50, 95 and 99% of ``count`` results did not exceed."""

    p50: float | None
    p95: float | None
    p99: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the latency chart."""

    start: datetime
    p50: float | None
    p95: float | None
    p99: float | None
    count: int
    failed: int


class Slot(NamedTuple):
    """One of the 90 bars of an uptime strip. ``status`` is an outcome's word, or ``none``.

    A page has thousands of them and asks few for their times, so these are worked out when asked for.
    """

    first: datetime
    """Start of the strip."""
    seconds: int
    place: int
    status: str
    text: str = ""

    @property
    def start(self) -> datetime:
        """Start of the slot."""
        return self.first + timedelta(seconds=self.place * self.seconds)

    @property
    def end(self) -> datetime:
        """Its end, which is the next one's start."""
        return self.first + timedelta(seconds=(self.place + 1) * self.seconds)


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of the result log, newest first."""

    rows: list[ProbeResult]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A page of state changes, newest first."""

    rows: list[StateChange]
    next_cursor: str | None


class BadCursor(ValueError):
    """A paging cursor that none of our pages gave out."""


def counts(check_ids: Sequence[int], period: str) -> dict[int, Counts]:
    """What each check's probes found over a period, with response times; empty counts without data."""
    found = {check_id: Counts() for check_id in check_ids}
    chosen = PERIODS[period]
    for check_id, _, *row in _rollups(check_ids, chosen.level, timezone.now() - chosen.length):
        found[check_id].add(row)
    return found


def percentiles(check_ids: Sequence[int], period: str) -> dict[int, Percentiles]:
    """Response-time percentiles of each check over a period."""
    return {check_id: to_percentiles(one) for check_id, one in counts(check_ids, period).items()}


def uptime(check_ids: Sequence[int], period: str) -> dict[int, float | None]:
    """The share of each check's results in which the target worked; None without results."""
    return {check_id: one.uptime for check_id, one in counts(check_ids, period).items()}


def to_percentiles(one: Counts) -> Percentiles:
    """The percentiles of a histogram that was read already."""
    p50, p95, p99 = (histogram.percentile(one.histogram, share) for share in (0.50, 0.95, 0.99))
    return Percentiles(p50, p95, p99, one.total)


def series(check_ids: Sequence[int], period: str) -> list[Point]:
    """The latency chart of one or more checks together, oldest first; gaps have no point."""
    chosen = PERIODS[period]
    points: dict[int, Counts] = defaultdict(Counts)
    for _, start, *row in _rollups(check_ids, chosen.chart_level, timezone.now() - chosen.length):
        points[int(start.timestamp()) // chosen.point_seconds].add(row)
    return [_point(index * chosen.point_seconds, one) for index, one in sorted(points.items())]


def bars(check_ids: Sequence[int], period: str) -> dict[int, list[Slot]]:
    """The uptime strip of each check: 90 slots, oldest first."""
    chosen, now = PERIODS[period], timezone.now()
    rows: dict[int, list[Sequence[Any]]] = {check_id: [] for check_id in check_ids}
    for check_id, *row in _rollups(check_ids, chosen.level, chosen.first_start(now)):
        rows[check_id].append(row)
    return {check_id: _strip(slots(found, chosen, now), chosen, now) for check_id, found in rows.items()}


def strip(first: datetime, period: Period, letters: str, notes: dict[str, str]) -> list[Slot]:
    """The slots of a summary that was made beforehand."""
    seconds = period.slot_seconds
    return [
        Slot(first, seconds, index, WORDS[letter], notes.get(str(index), "") if notes else "")
        for index, letter in enumerate(letters)
    ]


def results(
    check_ids: Sequence[int],
    *,
    outcomes: Iterable[str] | None = None,
    categories: Iterable[str] | None = None,
    since: datetime | None = None,
    before: str | None = None,
    limit: int = 50,
) -> ResultPage:
    """A page of raw results of some checks, newest first. Raises :class:`BadCursor`."""
    rows = ProbeResult.objects.all()
    if outcomes is not None:
        wanted = list(outcomes)
        rows = rows.filter(outcome__in=wanted)
        if "healthy" not in wanted:
            rows = rows.exclude(outcome="healthy")  # lets the partial index serve
    if categories is not None:
        rows = rows.filter(category__in=list(categories))
    if since is not None:
        rows = rows.filter(at__gte=since)
    if before is not None:
        at, key = _parse_cursor(before)
        rows = rows.filter(Q(at__lt=at) | Q(at=at, id__lt=key), at__lte=at)
    found = _newest(rows, check_ids, limit + 1)
    more = len(found) > limit
    return ResultPage(found[:limit], _cursor(found[limit - 1].at, found[limit - 1].id) if more else None)


def _newest(rows: QuerySet[ProbeResult], check_ids: Sequence[int], limit: int) -> list[ProbeResult]:
    """The newest rows of some checks: of each its newest by the index, merged. Asked for together, PostgreSQL
    would read and sort everything these checks ever found."""
    parts = [rows.filter(check_ref_id=one).order_by("-at", "-id")[:limit] for one in check_ids]
    if len(parts) < 2:
        return list(parts[0]) if parts else []
    return list(parts[0].union(*parts[1:], all=True).order_by("-at", "-id")[:limit])


def count_results(check_ids: Sequence[int], period: str) -> dict[str, int]:
    """How many results of each outcome there were over a period, from rollups."""
    total = Counts()
    chosen = PERIODS[period]
    for _, _, *row in _rollups(check_ids, chosen.level, timezone.now() - chosen.length):
        total.add(row)
    return {word: getattr(total, word) for word in ("healthy", "degraded", "critical", "error")}


def changes(
    service_id: int | None = None,
    *,
    since: datetime | None = None,
    before: str | None = None,
    limit: int = 50,
) -> ChangePage:
    """A page of state changes of one service or of all, newest first. Raises :class:`BadCursor`."""
    rows = StateChange.objects.select_related("service", "check_ref")
    if service_id is not None:
        rows = rows.filter(service=service_id)
    if since is not None:
        rows = rows.filter(at__gte=since)
    if before is not None:
        at, key = _parse_cursor(before)
        rows = rows.filter(Q(at__lt=at) | Q(at=at, id__lt=key))
    found = list(rows.order_by("-at", "-id")[: limit + 1])
    more = len(found) > limit
    return ChangePage(found[:limit], _cursor(found[limit - 1].at, found[limit - 1].id) if more else None)


def count_changes(within: timedelta) -> int:
    """How many times a service changed its status within the last ``within``."""
    recent = StateChange.objects.filter(check_ref=None, at__gte=timezone.now() - within)
    return int(recent.aggregate(number=Count("id"))["number"])


def _rollups(check_ids: Sequence[int], level: int, since: datetime) -> Iterator[Sequence[Any]]:
    """Rows of (check, start, healthy, degraded, critical, error, slowest, lowest bin, counts).

    A bucket counts when any of it lies after ``since``.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT check_id, start, healthy, degraded, critical, error, max_ms,
                   array_lower(histogram, 1), histogram
            FROM monitoring_rollup WHERE level = %s AND check_id = ANY(%s) AND start > %s
            """,
            [level, list(check_ids), since - timedelta(seconds=level)],
        )
        yield from cursor


def _point(epoch: int, one: Counts) -> Point:
    found = to_percentiles(one)
    failed = one.critical + one.error
    return Point(datetime.fromtimestamp(epoch, UTC), found.p50, found.p95, found.p99, one.total, failed)


def _strip(found: list[Counts], period: Period, now: datetime) -> list[Slot]:
    letters = "".join(one.letter for one in found)
    notes = {str(index): one.sentence() for index, one in enumerate(found) if one.letter not in "h."}
    return strip(period.first_start(now), period, letters, notes)


def _cursor(at: datetime, key: int) -> str:
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{key}"  # exact, which at.timestamp() is not


def _parse_cursor(text: str) -> tuple[datetime, int]:
    moment, _, key = text.partition("-")
    try:
        return _EPOCH + timedelta(microseconds=int(moment)), int(key)
    except (ValueError, OverflowError):
        raise BadCursor("not a cursor of this log") from None
