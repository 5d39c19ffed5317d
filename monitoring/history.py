"""Reading the past: percentiles, uptime, chart points and strips from rollups; logs from rows.

Times are aware UTC, response times milliseconds, shares 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, overload

from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from monitoring import rollups
from monitoring.models import Rollup, StateChange
from monitoring.periods import PERIODS, Period, Steps
from monitoring.rollups import Counts
from monitoring.summaries import notes, slots

__all__ = [
    "PERIODS",
    "Point",
    "Result",
    "ResultPage",
    "Slot",
    "Strip",
    "bars",
    "changes",
    "counts",
    "series",
]

_EPOCH = datetime.fromtimestamp(0, UTC)

WORDS = {"h": "healthy", "d": "degraded", "e": "error", "c": "critical", ".": "none"}


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
    """One of the bars of an uptime strip. ``status`` is an outcome's word, or ``none``."""

    start: datetime
    end: datetime
    status: str
    text: str = ""
    """What was wrong in it; empty for slots that were healthy or empty."""


@dataclass(frozen=True, slots=True)
class Strip(Sequence[Slot]):
    """An uptime strip: 90 slots, oldest first; empty when none was asked for.

    A page has thousands of slots and looks at few of them, so they are made when asked for. Equal strips
    are equal keys, so that what is drawn of one can be kept.
    """

    first: datetime
    """Start of the first slot."""
    seconds: int
    """Length of a slot."""
    letters: str = ""
    """One for each slot, as in :data:`WORDS`."""
    notes: tuple[tuple[int, str], ...] = ()
    """What was wrong in the slots at these places."""

    def __len__(self) -> int:
        return len(self.letters)

    @overload
    def __getitem__(self, place: int) -> Slot: ...

    @overload
    def __getitem__(self, place: slice) -> list[Slot]: ...

    def __getitem__(self, place: int | slice) -> Slot | list[Slot]:
        if isinstance(place, slice):
            return [self._slot(one) for one in range(len(self.letters))[place]]
        return self._slot(range(len(self.letters))[place])

    def _slot(self, place: int) -> Slot:
        start = self.first + timedelta(seconds=place * self.seconds)
        text = next((text for noted, text in self.notes if noted == place), "")
        return Slot(start, start + timedelta(seconds=self.seconds), WORDS[self.letters[place]], text)


class Result(NamedTuple):
    """One result of the log. Its fields are columns of the table."""

    at: datetime
    id: int
    check_id: int
    outcome: str
    category: str
    message: str
    total_ms: float | None
    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    http_status: int | None
    manual: bool


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of the result log, newest first."""

    rows: list[Result]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A page of state changes, newest first."""

    rows: list[StateChange]
    next_cursor: str | None


class BadCursor(ValueError):
    """A paging cursor that none of our pages gave out."""


def counts(check_ids: Iterable[int], period: str, *, times: bool = True) -> dict[int, Counts]:
    """What each check's probes found over a period; empty counts without data.

    ``times=False`` spares the response times, most of the work.
    """
    chosen = PERIODS[period]
    after = chosen.after(timezone.now() - chosen.length)
    return rollups.totals(_each(check_ids), chosen.level, after, times=times)


def series(check_ids: Sequence[int], period: str, steps: Steps | None = None) -> list[Point]:
    """The response times of one or more checks together, oldest first; gaps have no point.

    ``steps`` is how finely: by default that of the chart.
    """
    chosen = PERIODS[period]
    level, seconds = steps or chart_steps(check_ids, period)
    after = timezone.now() - chosen.length - timedelta(seconds=level)
    together = dict.fromkeys(check_ids, 0)
    return [_point(start, one) for start, one in rollups.slices(together, level, after, seconds).get(0, [])]


def chart_steps(check_ids: Sequence[int], period: str) -> Steps:
    """How finely a chart is drawn: as that of one check, unless there are many more rows to add up than of one."""
    chosen = PERIODS[period]
    if chosen.chart == chosen.chart_of_many:
        return chosen.chart
    after = timezone.now() - chosen.length
    rows = Rollup.objects.filter(level=chosen.chart.level, check_id__in=list(check_ids), start__gt=after)
    most = int(chosen.length.total_seconds()) // chosen.chart.level
    return chosen.chart if rows[: most + 1].count() <= most else chosen.chart_of_many


def bars(check_ids: Iterable[int], period: str) -> dict[int, Strip]:
    """The uptime strip of each check: 90 slots, oldest first."""
    chosen, now = PERIODS[period], timezone.now()
    after = chosen.after(chosen.first_start(now))
    found = rollups.slices(_each(check_ids), chosen.level, after, chosen.level, times=False)
    return {check_id: _strip(slots(rows, chosen, now), chosen, now) for check_id, rows in found.items()}


def _each(check_ids: Iterable[int]) -> dict[int, int]:
    return {check_id: check_id for check_id in check_ids}


def strip(first: datetime, period: Period, letters: str, told: Mapping[str, str]) -> Strip:
    """The strip of a summary that was made beforehand."""
    return Strip(first, period.slot_seconds, letters, tuple((int(place), text) for place, text in told.items()))


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
    wanted: list[tuple[str, dict[str, Any]]] = []
    if outcomes is not None:
        named = list(outcomes)
        wanted.append(("r.outcome = ANY(%(outcomes)s)", {"outcomes": named}))
        if "healthy" not in named:
            wanted.append(("r.outcome <> 'healthy'", {}))  # lets the partial index serve
    if categories is not None:
        wanted.append(("r.category = ANY(%(categories)s)", {"categories": list(categories)}))
    if since is not None:
        wanted.append(("r.at >= %(since)s", {"since": since}))
    if before is not None:
        at, key = parse_cursor(before)
        older = "r.at <= %(before)s AND (r.at < %(before)s OR r.id < %(key)s)"
        wanted.append((older, {"before": at, "key": key}))
    found = _newest(check_ids, limit + 1, wanted)
    more = len(found) > limit
    return ResultPage(found[:limit], cursor_of(found[limit - 1].at, found[limit - 1].id) if more else None)


# Of each check its newest by the index, merged. Asked for together, PostgreSQL would read and sort
# everything these checks ever found.
_NEWEST = """
SELECT r.* FROM unnest(%(checks)s::bigint[]) AS c(id) CROSS JOIN LATERAL (
    SELECT {columns} FROM service_health_metrics r WHERE r.check_id = c.id{also}
    ORDER BY r.at DESC, r.id DESC LIMIT %(limit)s
) r ORDER BY r.at DESC, r.id DESC LIMIT %(limit)s
"""


def _newest(check_ids: Sequence[int], limit: int, wanted: list[tuple[str, dict[str, Any]]]) -> list[Result]:
    """The newest results of some checks that meet all conditions, each given with its parameters."""
    also = "".join(f" AND {condition}" for condition, _values in wanted)
    query = _NEWEST.format(columns=", ".join(Result._fields), also=also)
    parameters: dict[str, Any] = {"checks": list(check_ids), "limit": limit}
    for _condition, values in wanted:
        parameters |= values
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [Result._make(row) for row in cursor.fetchall()]


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
        at, key = parse_cursor(before)
        rows = rows.filter(Q(at__lt=at) | Q(at=at, id__lt=key))
    found = list(rows.order_by("-at", "-id")[: limit + 1])
    more = len(found) > limit
    return ChangePage(found[:limit], cursor_of(found[limit - 1].at, found[limit - 1].id) if more else None)


def count_changes(within: timedelta) -> int:
    """How many times a service changed its status within the last ``within``."""
    recent = StateChange.objects.filter(check_ref=None, at__gte=timezone.now() - within)
    return int(recent.aggregate(number=Count("id"))["number"])


def _point(start: datetime, one: Counts) -> Point:
    p50, p95, p99 = (one.percentile(share) for share in (0.50, 0.95, 0.99))
    return Point(start, p50, p95, p99, one.total, one.critical + one.error)


def _strip(found: list[Counts], period: Period, now: datetime) -> Strip:
    letters = "".join(one.letter for one in found)
    return strip(period.first_start(now), period, letters, notes(found))


def cursor_of(at: datetime, key: int) -> str:
    """The place of a row in a list, for the page after it."""
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{key}"  # exact, which at.timestamp() is not


def parse_cursor(text: str) -> tuple[datetime, int]:
    """What :func:`cursor_of` made; raises :class:`BadCursor`."""
    moment, _, key = text.partition("-")
    try:
        return _EPOCH + timedelta(microseconds=int(moment)), int(key)
    except (ValueError, OverflowError):
        raise BadCursor("not a cursor of this list") from None
