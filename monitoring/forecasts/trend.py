"""A robust straight line through noisy numbers, or none where no trend stands out of the noise.

The slope is the median of the slopes of all pairs of points, which a quarter of outliers does not move
(Theil 1950; Sen 1968, https://doi.org/10.1080/01621459.1968.10480934); its bounds are Sen's, by Kendall's
statistic. Four gates, all of which have to be passed, keep it quiet otherwise: enough points; a rank
correlation that chance hardly gives (Mann 1945); a rise of several times the noise; and a rise all the way,
so that a single step, which a line fits well, foretells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

FEWEST = 12
"""Points below which nothing is said."""
MOST = 200
"""Points that are looked at, the newest: the work grows with their square."""

UNLIKELY = 3.3
"""Standard deviations of Kendall's S: chance alone gives as much once in a thousand times."""

STANDING_OUT = 0.75
"""The least signal: a rise of four times the noise."""

BLOCKS = 5
STEADY = 0.1
"""From block to block the median must move by this share of the whole rise at least, but for one step."""
BACK = -0.2
"""No step may go back by more than this share of it."""

CONFIDENCE = 1.96
"""Standard deviations for the bounds of the slope, 95 %."""
MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution, times this, is its standard deviation."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A line. Times are hours, values any unit."""

    level: float
    """The line's value at the last point."""
    slope: float
    """Units per hour."""
    slope_low: float
    slope_high: float
    noise: float
    """How far values usually lie from the line, as a standard deviation; outliers do not count."""
    signal: float
    """0..1: one less the noise's share of the whole rise."""


def fit(hours: Sequence[float], values: Sequence[float]) -> Trend | None:
    """The line through points in the order of time; None when they have no trend, up or down, worth telling.

    ``hours`` rise strictly.
    """
    hours, values = hours[-MOST:], values[-MOST:]
    count = len(values)
    if count < FEWEST:
        return None
    slopes, score = _pairs(hours, values)
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    slope = median(slopes)
    rise = slope * (hours[-1] - hours[0])
    if abs(score) < UNLIKELY * spread or not rise:
        return None
    start = median(value - slope * hour for hour, value in zip(hours, values, strict=True))
    noise = MAD_TO_SIGMA * median(
        abs(value - start - slope * hour) for hour, value in zip(hours, values, strict=True)
    )
    signal = max(0.0, 1 - noise / abs(rise))
    if signal < STANDING_OUT or not is_steady(values, rise):
        return None
    low, high = _bounds(slopes, CONFIDENCE * spread)
    return Trend(start + slope * hours[-1], slope, low, high, noise, signal)


def is_steady(values: Sequence[float], rise: float) -> bool:
    """Whether the values go the way of ``rise`` from block to block up to the last, with one rest at most."""
    size = len(values) / BLOCKS
    blocks = [median(values[round(place * size) : round((place + 1) * size)]) for place in range(BLOCKS)]
    shares = [(after - before) / rise for before, after in pairwise(blocks)]
    resting = sum(share < STEADY for share in shares)
    return resting <= 1 and shares[-1] >= STEADY and min(shares) >= BACK


def _pairs(hours: Sequence[float], values: Sequence[float]) -> tuple[list[float], int]:
    """The slopes of all pairs, sorted, and Kendall's S: how many more of them rise than fall."""
    slopes = []
    for later, (hour, value) in enumerate(zip(hours, values, strict=True)):
        slopes += [(value - before) / (hour - at) for at, before in zip(hours[:later], values[:later], strict=True)]
    slopes.sort()
    score = sum(slope > 0 for slope in slopes) - sum(slope < 0 for slope in slopes)
    return slopes, score


def _bounds(slopes: Sequence[float], width: float) -> tuple[float, float]:
    """Sen's confidence bounds: so many slopes around the median."""
    count = len(slopes)
    low = max(0, math.floor((count - width) / 2))
    high = min(count - 1, math.ceil((count + width) / 2))
    return slopes[low], slopes[high]
