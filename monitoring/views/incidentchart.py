"""The small chart of an incident: response times of the last hour, with the time since it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from monitoring import history
from monitoring.history import Point
from monitoring.templatetags.wsmon_ui import clock_text, ms_number

WIDTH, HEIGHT = 272, 170
LEFT, RIGHT, TOP, BOTTOM = 52.0, 258.0, 16.0, 144.0
SPAN = timedelta(hours=1)
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid, or a time below it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws."""

    p50: str
    p95: str
    y: list[Tick]
    x: list[Tick]
    began_x: float | None
    """Where it began; None before the hour."""
    since: str
    shade_from: float
    shade_to: float
    limit_y: float | None
    limit: str
    label: str

    @property
    def shade(self) -> float:
        """How wide the time of the incident is."""
        return round(max(self.shade_to - self.shade_from, 0.0), 1)


def draw(
    check_ids: Sequence[int], began_at: datetime, closed_at: datetime | None, limit_ms: float | None
) -> Chart | None:
    """The last hour of some checks; None without results in it."""
    now = timezone.now()
    start = now - SPAN
    points = [point for point in history.series(check_ids, "1h") if point.p95 is not None and point.start >= start]
    if len(points) < 2 or (closed_at is not None and closed_at < start):
        return None

    def x(at: datetime) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(max((at - start) / SPAN, 0.0), 1.0), 1)

    highest = max(point.p95 or 0.0 for point in points)
    near = limit_ms is not None and highest > limit_ms / 4
    step = _step(max(highest, limit_ms if near and limit_ms else 0.0, 1.0))
    top = step * 3

    def y(value: float | None) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * min((value or 0.0) / top, 1.0), 1)

    first = began_at if began_at > start else start
    return Chart(
        p50=_line([(x(point.start), y(point.p50)) for point in points]),
        p95=_line([(x(point.start), y(point.p95)) for point in points]),
        y=[Tick(y(step * number), _ms(step * number) if number else "0") for number in range(4)],
        x=[Tick(x(at), clock_text(at)) for at in _times(start, now)],
        began_x=x(began_at) if began_at > start else None,
        since=f"since {clock_text(began_at)}",
        shade_from=x(first),
        shade_to=x(closed_at or now),
        limit_y=y(limit_ms) if near else None,
        limit=_ms(limit_ms) if near and limit_ms else "",
        label=_label(points, began_at),
    )


def _line(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _step(highest: float) -> float:
    """A round third of the axis."""
    size = 1.0
    while True:
        for number in _STEPS:
            if number * size * 3 >= highest:
                return number * size
        size *= 10


def _times(start: datetime, end: datetime) -> list[datetime]:
    """Each third of the hour, on the full ten minutes."""
    first = start.replace(minute=start.minute // 10 * 10, second=0, microsecond=0) + timedelta(minutes=10)
    found = [first + timedelta(minutes=20 * number) for number in range(3)]
    return [at for at in found if at < end - timedelta(minutes=3)]


def _ms(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{ms_number(value)} ms"


def _label(points: Sequence[Point], began_at: datetime) -> str:
    last = points[-1].p95 or 0.0
    return f"Response time of the last hour, trouble since {clock_text(began_at)}. p95 now {_ms(last)}."
