"""The latency chart of the service page: its points, its limit and the stretches that were not healthy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils import timezone

from monitoring import history
from monitoring.forecasts import reads, wording
from monitoring.forecasts.reads import Outlook
from monitoring.models import StateChange
from monitoring.overview import CheckView, ServiceView
from monitoring.views.params import Params

UNHEALTHY = ("degraded", "critical", "error")
MOST_CHANGES = 500

AHEAD = 3
"""The forecast takes up to one part in so many of what has been."""
Line = Sequence[Sequence[float]]
"""Points (epoch seconds, ms, least, most)."""


class Chart:
    """The response times of one check, or of all checks of a service together."""

    def __init__(self, service: ServiceView, params: Params) -> None:
        self._service = service
        self._params = params
        chosen = [check for check in service.checks if check.name == params.chart]
        self.checks: list[CheckView] = chosen or service.checks
        self.chosen = chosen[0] if chosen else None
        self.url = params.url("service-series", before="")

    @property
    def _ids(self) -> list[int]:
        return [check.id for check in self.checks]

    @cached_property
    def table(self) -> list[history.Point]:
        """The numbers to read, newest first; stretches without probes have none."""
        steps = history.PERIODS[self._params.period].table
        return history.series(self._ids, self._params.period, steps)[::-1]

    @property
    def limit_ms(self) -> float | None:
        """The strictest limit of the checks, in ms."""
        limits = [check.degraded_over for check in self.checks if check.degraded_over]
        return min(limits) * 1000 if limits else None

    def data(self) -> dict[str, Any]:
        """For the browser, column by column; times are epoch seconds, values ms, gaps null."""
        period = history.PERIODS[self._params.period]
        end = timezone.now()
        start = end - period.length
        steps = history.chart_steps(self._ids, period.name)
        rows = with_gaps(history.series(self._ids, period.name, steps), steps.seconds)
        columns = zip(*rows, strict=True) if rows else [[]] * 6
        names = ("t", "p50", "p95", "p99", "count", "failed")
        return dict(zip(names, (list(column) for column in columns), strict=True)) | {
            "limit": self.limit_ms,
            "forecast": self._forecast(end, period.length / AHEAD),
            "bands": self._bands(start, end),
            "from": start.timestamp(),
            "to": end.timestamp(),
        }

    @cached_property
    def outlooks(self) -> list[Outlook]:
        """What is expected to cross its limit, the nearest first."""
        return reads.outlooks(self._ids)

    @cached_property
    def record(self) -> str:
        """How often past forecasts were right, in words; empty without any."""
        return wording.record(reads.record(self._ids))

    @property
    def is_of_one(self) -> bool:
        """Whether one check is drawn: only its own line goes on into its forecast."""
        return len(self.checks) == 1

    def _forecast(self, now: datetime, ahead: timedelta) -> dict[str, list[float]]:
        """Column by column, as the rest; empty when nothing is foretold."""
        line = reads.line(self.checks[0].id) if self.is_of_one else []
        columns = zip(*clipped(line, now.timestamp(), (now + ahead).timestamp()), strict=True)
        return dict(zip(("t", "p95", "least", "most"), (list(column) for column in columns), strict=False))

    def _bands(self, start: datetime, end: datetime) -> list[dict[str, Any]]:
        changes = StateChange.objects.filter(service=self._service.id, at__gte=start)
        changes = changes.filter(check_ref=self.chosen.id if self.chosen else None)
        rows = list(changes.order_by("-at", "-id").values_list("at", "old", "new")[:MOST_CHANGES])
        status = (self.chosen or self._service).status
        return bands(rows[::-1], start, end, status)


def with_gaps(points: Sequence[history.Point], step: int) -> list[tuple[float | None, ...]]:
    """(t, p50, p95, p99, count, failed) per point, and an empty one wherever points are missing."""
    rows: list[tuple[float | None, ...]] = []
    for point in points:
        at = round(point.start.timestamp())
        last = rows[-1][0] if rows else None
        if last is not None and at - last > step:
            rows.append((last + step, None, None, None, 0, 0))
        rows.append((at, _ms(point.p50), _ms(point.p95), _ms(point.p99), point.count, point.failed))
    return rows


def bands(
    changes: Sequence[tuple[datetime, str, str]], start: datetime, end: datetime, status_now: str
) -> list[dict[str, Any]]:
    """The stretches between ``start`` and ``end`` that were not healthy, oldest first.

    ``changes`` are (at, old, new), oldest first. Unknown, paused and not configured are no trouble.
    """
    edges = [(start, changes[0][1] if changes else status_now), *((at, new) for at, _old, new in changes)]
    found: list[dict[str, Any]] = []
    for (begins, status), (ends, _next) in zip(edges, [*edges[1:], (end, "")], strict=True):
        if status in UNHEALTHY and ends > begins:
            found.append({"from": begins.timestamp(), "to": ends.timestamp(), "status": str(status)})
    return found


def clipped(line: Line, start: float, stop: float) -> list[list[float]]:
    """The part of a line between two moments, in ms to a tenth and nowhere below 0; its ends lie on the line."""
    if len(line) < 2:
        return []
    begins, ends = max(start, line[0][0]), min(stop, line[-1][0])
    if begins >= ends:
        return []
    inside = [point for point in line if begins < point[0] < ends]
    rows = [_on(line, begins), *inside, _on(line, ends)]
    return [[at, *(round(max(0.0, value), 1) for value in values)] for at, *values in rows]


def _on(line: Line, at: float) -> list[float]:
    """The point of a line at a moment between two of its points."""
    place = next(place for place in range(1, len(line)) if line[place][0] >= at)
    before, after = line[place - 1], line[place]
    share = (at - before[0]) / (after[0] - before[0])
    return [at, *(one + (other - one) * share for one, other in zip(before[1:], after[1:], strict=True))]


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
