"""The periods that pages and the API offer, and how each is cut into 90 slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from monitoring.models import Rollup

SLOTS = 90
"""Bars of an uptime strip."""


class Steps(NamedTuple):
    """How finely a span is told: rollups of ``level``, added up to one number each ``seconds``."""

    level: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Period:
    """A span that ends now, read from rollups of one level."""

    name: str
    label: str
    length: timedelta
    level: int
    slot_seconds: int
    chart: Steps
    """The latency chart of one check."""
    chart_of_many: Steps
    """The latency chart of several checks together: no more rows than of one."""
    table: Steps
    """The same as a table to read, in two dozen rows or so."""
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


_LEVEL = Rollup.Level
_MINUTES = Steps(_LEVEL.MINUTE, 60)
_HOURS = Steps(_LEVEL.HOUR, 3_600)
_DAYS = Steps(_LEVEL.DAY, 86_400)

PERIODS = {
    period.name: period
    for period in (
        Period(
            "1h", "1 h", timedelta(hours=1), _LEVEL.MINUTE, 40,
            _MINUTES, _MINUTES, Steps(_LEVEL.MINUTE, 300), timedelta(seconds=50),
        ),
        Period(
            "24h", "24 h", timedelta(hours=24), _LEVEL.SLOT, 960,
            Steps(_LEVEL.MINUTE, 300), Steps(_LEVEL.SLOT, 960), _HOURS, timedelta(seconds=50),
        ),
        # 90 slots of 2 hours are 7.5 days: hours fit into them evenly.
        Period(
            "7d", "7 d", timedelta(days=7), _LEVEL.HOUR, 7_200,
            _HOURS, _HOURS, Steps(_LEVEL.HOUR, 6 * 3_600), timedelta(minutes=10),
        ),
        Period(
            "90d", "90 d", timedelta(days=90), _LEVEL.DAY, 86_400,
            _DAYS, _DAYS, Steps(_LEVEL.DAY, 3 * 86_400), timedelta(hours=1),
        ),
    )
}  # fmt: skip


def period(name: str) -> Period:
    """Return a period by name; raise KeyError."""
    return PERIODS[name]
