"""The periods that pages and the API offer, and how each is cut into 90 slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from monitoring.models import Rollup

SLOTS = 90
"""Bars of an uptime strip."""
MOST_ROLLUPS = 6_000
"""Rows that a latency chart is added up from, so that it is drawn at once: a day's minutes of four checks."""


@dataclass(frozen=True, slots=True)
class Period:
    """A span that ends now, read from rollups of one level."""

    name: str
    label: str
    length: timedelta
    level: int
    slot_seconds: int
    chart_level: int
    """The level of rollups the latency chart is drawn from."""
    point_seconds: int
    """Distance of two points of the latency chart."""
    coarse: tuple[int, int] | None
    """The same two numbers for a chart of more than ``MOST_ROLLUPS`` rollups; None: never too many."""
    refresh: timedelta
    """How old a summary of it may get."""

    def after(self, moment: datetime) -> datetime:
        """Rollups that start later than this reach beyond ``moment``: a bucket counts when any of it does."""
        return moment - timedelta(seconds=self.level)

    def first_start(self, now: datetime) -> datetime:
        """Where the strip begins: its last slot is the one that holds ``now``."""
        end = (int(now.timestamp()) // self.slot_seconds + 1) * self.slot_seconds
        return datetime.fromtimestamp(end - SLOTS * self.slot_seconds, UTC)

    def slots_of(self, start: datetime, first: datetime) -> Iterator[int]:
        """The slots that a rollup starting at ``start`` falls into; several when slots are shorter."""
        offset = (start - first).total_seconds()
        low = int(offset // self.slot_seconds)
        high = int((offset + self.level - 1) // self.slot_seconds)
        for index in range(low, high + 1):
            if 0 <= index < SLOTS and (index == low or self.level > self.slot_seconds):
                yield index

    def drawn_from(self, checks: int) -> tuple[int, int]:
        """(level of rollups, seconds between two points) of the latency chart of so many checks together."""
        if self.coarse and checks * self.length.total_seconds() / self.chart_level > MOST_ROLLUPS:
            return self.coarse
        return self.chart_level, self.point_seconds


_LEVEL = Rollup.Level
PERIODS = {
    period.name: period
    for period in (
        Period("1h", "1 h", timedelta(hours=1), _LEVEL.MINUTE, 40, _LEVEL.MINUTE, 60, None, timedelta(seconds=50)),
        Period(
            "24h",
            "24 h",
            timedelta(hours=24),
            _LEVEL.SLOT,
            960,
            _LEVEL.MINUTE,
            300,
            (_LEVEL.SLOT, 960),
            timedelta(seconds=50),
        ),
        # 90 slots of 2 hours are 7.5 days: hours fit into them evenly.
        Period("7d", "7 d", timedelta(days=7), _LEVEL.HOUR, 7_200, _LEVEL.HOUR, 3_600, None, timedelta(minutes=10)),
        Period("90d", "90 d", timedelta(days=90), _LEVEL.DAY, 86_400, _LEVEL.DAY, 86_400, None, timedelta(hours=1)),
    )
}


def period(name: str) -> Period:
    """Return a period by name; raise KeyError."""
    return PERIODS[name]
