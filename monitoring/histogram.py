"""A latency histogram that adds up: fixed bins on a logarithmic scale, six to an octave.

Bin ``i`` counts results of ``FLOOR_MS * GROWTH**i`` up to the next bin's start. A bin is 12% wide and
its middle stands for it, so a percentile is off by at most 6%. Adding two histograms bin by bin gives
the histogram of both sets of results, which no stored percentile could.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

FLOOR_MS = 0.25
GROWTH = 2 ** (1 / 6)
BINS = 120
"""The last bin starts at ``FLOOR_MS * GROWTH**119``, about 233 s: above any timeout."""

_LOG_GROWTH = math.log(GROWTH)


def bin_of(milliseconds: float) -> int:
    """The bin, 0 to ``BINS - 1``, that counts a response time."""
    if milliseconds <= FLOOR_MS:
        return 0
    return min(int(math.log(milliseconds / FLOOR_MS) / _LOG_GROWTH), BINS - 1)


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The response time in ms that ``share`` (0..1) of the results did not exceed; None when empty."""
    total = sum(histogram.values())
    if not total:
        return None
    seen = 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= share * total:
            break
    return float(FLOOR_MS * GROWTH ** (index + 0.5))
