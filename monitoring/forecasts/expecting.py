"""From numbers and a limit to the moment it is crossed: pure.

Nothing is foretold further ahead than numbers reach back. What had no trend has no forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring.forecasts import seasons, trend
from monitoring.forecasts.seasons import Season

Points = Sequence[tuple[datetime, float]]

STEPS = 48
"""Into which the time ahead is cut to find the crossing; a straight line needs none, a day's course does."""
DRAWN = 24
"""Points of the drawing."""
LATEST = 3.0
"""At the latest it comes in this many times the expected time; a flat lower bound would never cross."""
FULL = 0.6
"""The share of its window that numbers must reach over."""
STALE = 0.15
"""And up to this share of it before now."""

Line = tuple[float, float, float, float]
"""Epoch seconds, value, the least, the most."""


@dataclass(frozen=True, slots=True)
class Window:
    """Numbers of the last ``length``, oldest first."""

    points: Points
    length: timedelta


@dataclass(frozen=True, slots=True)
class Expectation:
    """When a limit is crossed, by the newest numbers."""

    value: float
    """Where the number stands now, without its noise."""
    slope: float
    """Units per hour, without the day's usual course."""
    crosses_at: datetime
    earliest: datetime
    latest: datetime
    signal: float
    points: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Ahead:
    """The line and its bounds, in hours from now, upwards to the limit."""

    now: datetime
    found: trend.Trend
    gap: float
    """Hours since the last point."""
    season: Season

    def value(self, hours: float) -> float:
        return self._at(hours, self.found.slope, 0.0)

    def least(self, hours: float) -> float:
        return self._at(hours, self.found.slope_low, -self.found.noise)

    def most(self, hours: float) -> float:
        return self._at(hours, self.found.slope_high, self.found.noise)

    def _at(self, hours: float, slope: float, more: float) -> float:
        base = self.found.level + self.found.slope * self.gap + more
        return base + slope * hours + self.season.at(self.now + timedelta(hours=hours))


def expect(
    window: Window, limit: float, now: datetime, *, season: Season = seasons.NONE, falling: bool = False
) -> Expectation | None:
    """When numbers that rise to ``limit`` (``falling``: sink to it) cross it; None when they do not, as far as seen.

    ``season`` is of the numbers as they are, also of falling ones.
    """
    sign = -1.0 if falling else 1.0
    points = [(at, sign * (value - season.at(at))) for at, value in window.points if at <= now]
    if not _reaches(points, window.length, now):
        return None
    found = trend.fit(
        [(at - now).total_seconds() / 3600 for at, _ in points],
        [value for _, value in points],
    )
    if found is None or found.slope <= 0:
        return None
    turned = Season(tuple(sign * value for value in season.hours))
    ahead = _Ahead(now, found, (now - points[-1][0]).total_seconds() / 3600, turned)
    if ahead.value(0) >= sign * limit:
        return None
    span = (now - points[0][0]).total_seconds() / 3600
    crossing = _crossing(ahead.value, sign * limit, span)
    return None if crossing is None else _told(ahead, sign, sign * limit, crossing)


def soonest(expectations: Iterable[Expectation | None]) -> Expectation | None:
    """Of what several windows foretell the nearest."""
    return min((one for one in expectations if one is not None), key=lambda one: one.crosses_at, default=None)


def _reaches(points: Points, length: timedelta, now: datetime) -> bool:
    """Whether the points tell of the window as a whole, up to now."""
    if not points:
        return False
    return points[-1][0] - points[0][0] >= FULL * length and now - points[-1][0] <= STALE * length


def _crossing(curve: Callable[[float], float], limit: float, span: float) -> float | None:
    """Hours until the curve first reaches the limit, within ``span``."""
    before, last = 0.0, curve(0)
    if last >= limit:
        return 0.0
    for step in range(1, STEPS + 1):
        hours = span * step / STEPS
        value = curve(hours)
        if value >= limit:
            return before + (hours - before) * (limit - last) / (value - last)
        before, last = hours, value
    return None


def _told(ahead: _Ahead, sign: float, limit: float, crossing: float) -> Expectation:
    earliest = _crossing(ahead.most, limit, crossing)
    latest = _crossing(ahead.least, limit, LATEST * crossing)

    def moment(hours: float) -> datetime:
        return ahead.now + timedelta(hours=hours)

    return Expectation(
        value=sign * ahead.value(0),
        slope=sign * ahead.found.slope,
        crosses_at=moment(crossing),
        earliest=moment(crossing if earliest is None else earliest),
        latest=moment(LATEST * crossing if latest is None else max(latest, crossing)),
        signal=ahead.found.signal,
        points=tuple(_line(ahead, sign, crossing * step / DRAWN) for step in range(DRAWN + 1)),
    )


def _line(ahead: _Ahead, sign: float, hours: float) -> Line:
    bounds = sorted((sign * ahead.least(hours), sign * ahead.most(hours)))
    at = (ahead.now + timedelta(hours=hours)).timestamp()
    return round(at, 1), sign * ahead.value(hours), *bounds  # type: ignore[return-value]
