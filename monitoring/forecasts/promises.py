"""What becomes of a forecast once more is known: pure.

How far the number has come since is measured from where it stood when the forecast was made (0) to the limit
(1). It came when the number got there, sooner or later. It was averted when the number went back well below
where it stood, as after somebody did something about it. Past its latest moment, and neither: it was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitoring.forecasts.expecting import Expectation

WARN_WITHIN = timedelta(hours=24)
UNWARN_BEYOND = timedelta(hours=36)
"""An alert ends when the moment has moved so far away."""
LAPSES = timedelta(minutes=30)
"""An alert ends when for so long no trend was found any more; one look without says little."""
GRACE = 0.1
"""Of its whole time, that a forecast may be late beyond its latest moment."""
BACK = -0.25
"""A quarter of the way to the limit, backwards, is a turn for the better and no noise."""


class Outcome(StrEnum):
    """How a forecast ended."""

    CAME = "came"
    AVERTED = "averted"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Promise:
    """What was said."""

    made_at: datetime
    value: float
    limit: float
    latest: datetime
    renewed_at: datetime

    def progress(self, level: float) -> float:
        """How far on the way to the limit ``level`` is, as a share."""
        way = self.limit - self.value
        return (level - self.value) / way if way else 1.0

    def is_over(self, now: datetime) -> bool:
        """Whether it should have come by now."""
        return now > self.latest + GRACE * (self.latest - self.made_at)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with a metric's forecast: one of make, renew, settle, forget, or nothing."""

    make: bool = False
    renew: bool = False
    settle: Outcome | None = None
    forget: bool = False
    alert: bool | None = None
    """True: raise, False: resolve, None: leave as it is."""


def step(promise: Promise | None, level: float | None, newest: Expectation | None, now: datetime) -> Step:
    """What follows from the number as it is (None: unknown) and from what is expected of it now."""
    warned = _warned(newest, now)
    if promise is None:
        return Step(make=True, alert=warned or None) if newest else Step()
    if level is None:
        return _unseen(promise, now)
    progress = promise.progress(level)
    if progress >= 1:
        return Step(settle=Outcome.CAME, alert=False)
    if progress <= BACK and newest is None:
        return Step(settle=Outcome.AVERTED, alert=False)
    if promise.is_over(now):
        # What is expected by now, if anything, is a new forecast, to be made at the next look.
        return Step(settle=Outcome.WRONG, alert=None if warned else False)
    if newest is None:
        return Step(alert=False if now - promise.renewed_at >= LAPSES else None)
    return Step(renew=True, alert=warned)


def _warned(newest: Expectation | None, now: datetime) -> bool | None:
    ahead = newest.crosses_at - now if newest else None
    if ahead is None or WARN_WITHIN < ahead <= UNWARN_BEYOND:
        return None
    return ahead <= WARN_WITHIN


def _unseen(promise: Promise, now: datetime) -> Step:
    """Nobody looks any more: nobody can say whether it came."""
    if promise.is_over(now):
        return Step(forget=True, alert=False)
    return Step(alert=False if now - promise.renewed_at >= LAPSES else None)
