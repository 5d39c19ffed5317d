"""The usual course of a day: how far a number lies above or below its day's median, hour by hour.

A morning's rise is no trend when every morning has it. Without three days of numbers there is no usual course.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

DAYS = 3
"""Of so many days an hour must be known."""
HOURS = 24
OUTSTANDING = 5.0
"""The course counts when it swings by this many times what is usually left without it; noise alone gives three."""


@dataclass(frozen=True, slots=True)
class Season:
    """What each hour of a day (UTC) usually adds, in the number's unit; linear between the middles of hours."""

    hours: tuple[float, ...] = (0.0,) * HOURS

    def at(self, moment: datetime) -> float:
        """What the time of ``moment`` adds."""
        place = (moment.timestamp() / 3600 - 0.5) % HOURS
        low = int(place) % HOURS
        share = place - math.floor(place)
        return self.hours[low] * (1 - share) + self.hours[(low + 1) % HOURS] * share


NONE = Season()


def usual(points: Sequence[tuple[datetime, float]]) -> Season:
    """The season of points an hour apart or so; :data:`NONE` when too little is known or days differ too much."""
    deviations = _deviations(points)
    if len(deviations) < HOURS or min(len(each) for each in deviations.values()) < DAYS:
        return NONE
    course = [median(deviations[hour]) for hour in range(HOURS)]
    middle = median(course)
    course = [value - middle for value in course]
    left = median(abs(value - middle - course[hour]) for hour in range(HOURS) for value in deviations[hour])
    swing = max(course) - min(course)
    return Season(tuple(course)) if swing > OUTSTANDING * left else NONE


def _deviations(points: Sequence[tuple[datetime, float]]) -> dict[int, list[float]]:
    """By hour of the day: how far values were from the median of the 24 hours around them.

    The median moves along, so that a lasting trend is not taken for a course of the day.
    """
    found: dict[int, list[float]] = defaultdict(list)
    half = timedelta(hours=HOURS / 2)
    first, after = 0, 0
    for at, value in points:
        while points[first][0] < at - half:
            first += 1
        while after < len(points) and points[after][0] <= at + half:
            after += 1
        around = [other for _, other in points[first:after]]
        if len(around) >= HOURS * 3 // 4:
            found[int(at.timestamp() // 3600) % HOURS].append(value - median(around))
    return found
