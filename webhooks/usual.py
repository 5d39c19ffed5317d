"""What traffic is usual, and when its absence is silence: long before anybody misses it.

Of each source and each of its types the usual number of events is learned by hour of the week (UTC), as the
median of up to 8 weeks. From it follows how many events should have come since the last one: nights, weekends
and slow hours add little, so they stay quiet by themselves. When so many are missing that chance is no
explanation, an alert is raised; the next event resolves it.

Three things keep it honest. Events that come in bursts count as one (``spread``, the index of dispersion).
The busier a type, the more gaps it has, and the longer a gap must be (:func:`threshold`). And only time in
which wsmon itself was running counts: each look adds what was expected since the one before, and nothing when
that is longer ago than ``WATCH_GAP``, so that a restart of wsmon is not taken for silence of the vendor.

Everything here is pure; ``webhooks.silence`` reads the counts and raises the alerts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HOUR = timedelta(hours=1)
WEEK_HOURS = 168
WEEKS = 8
"""At most so many weeks are looked at."""
ENOUGH_WEEKS = 2
YOUNG_HOURS = 48
"""Of what is younger than ``ENOUGH_WEEKS``, so many hours are looked at, and at least half of them."""
BLOCK_HOURS = 6
CHANCE = 1e-4
"""How often per week chance alone may raise an alert, of one source and type that never changes."""
LEAST_EXPECTED = 10.0
"""Events that must be missing at least."""
YOUNG_FACTOR = 2.0
"""What is young must miss so many times as much: its weekend has not been seen yet."""
SHORTEST = timedelta(minutes=5)
"""Less is no silence, however busy it was: vendors batch, networks hiccup."""
WATCH_GAP = timedelta(minutes=3)
SPARSE = 3.0
"""Events per hour below which one hour's median says too little."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual: events per hour for each of the 168 hours of a week, Monday 00:00 UTC first."""

    rates: tuple[float, ...]
    weeks: int
    """Learned from so many; 0: from the last day or two."""
    spread: float = 1.0
    """Variance over mean: how many events come at once."""

    @property
    def weekly(self) -> float:
        """Events of a whole week."""
        return sum(self.rates)

    def between(self, start: datetime, end: datetime) -> float:
        """How many events are expected from ``start`` to ``end``."""
        if end <= start:
            return 0.0
        whole, rest = divmod(end - start, WEEK_HOURS * HOUR)
        total, at, end = whole * self.weekly, start, start + rest
        while at < end:
            following = min(at.replace(minute=0, second=0, microsecond=0) + HOUR, end)
            total += self.rates[hour_of_week(at)] * ((following - at) / HOUR)
            at = following
        return total


@dataclass(frozen=True, slots=True)
class Watched:
    """One source and type, as it was at the last look."""

    last_at: datetime | None = None
    """Its latest event."""
    watched_at: datetime | None = None
    expected: float = 0.0
    """Events that should have come since, while wsmon was running."""
    silent_since: datetime | None = None


def hour_of_week(at: datetime) -> int:
    """0 for Monday 00:00 to 01:00 UTC, 167 for the last hour of Sunday. ``at`` is in UTC."""
    return at.weekday() * 24 + at.hour


def look(state: Watched, usual: Usual | None, last_at: datetime | None, now: datetime) -> Watched:
    """The next state, when the latest event is of ``last_at``. ``silent_since`` tells whether it is silent."""
    if last_at is not None and (state.last_at is None or last_at > state.last_at):
        state = Watched(last_at, state.watched_at)
    if state.last_at is None:
        return Watched(None, now)
    begin = _counted_from(state, now)
    more = usual.between(max(begin, state.last_at), now) if usual else 0.0
    expected = state.expected + more
    silent = state.silent_since or (
        state.last_at if usual and _improbable(usual, expected) and now - state.last_at >= SHORTEST else None
    )
    if usual is None or not usual.weekly:
        silent = None  # so long silent that this is what is usual now
    return Watched(state.last_at, now, expected, silent)


def threshold(usual: Usual) -> float:
    """How many events must be missing: then chance makes such a gap less than ``CHANCE`` times a week.

    Without any dependence between events, a gap in which ``m`` are expected follows an event with the
    probability ``exp(-m)`` (Poisson). A week has ``weekly`` gaps, so ``weekly * exp(-m) < CHANCE``. Where
    ``spread`` events come at once, it is bursts that are counted.
    """
    bursts = max(1.0, usual.weekly / usual.spread)
    needed = (math.log(bursts) - math.log(CHANCE)) * usual.spread
    return max(LEAST_EXPECTED, needed) * (1.0 if usual.weeks else YOUNG_FACTOR)


def _improbable(usual: Usual, expected: float) -> bool:
    return expected >= threshold(usual)


def _counted_from(state: Watched, now: datetime) -> datetime:
    """Since when wsmon has been running without a gap, seen from its last look."""
    if state.watched_at is None or now - state.watched_at > WATCH_GAP:
        return now
    return state.watched_at


# Learning -----------------------------------------------------------------------------------------


def learn_weeks(first: datetime, end: datetime, counts: dict[datetime, int]) -> Usual | None:
    """What is usual by the hours before ``end`` (a full hour), of what was first seen at ``first``.

    ``counts`` are events by the start of the hour; absent hours had none. None when it is too young.
    """
    weeks = min(WEEKS, int((end - first) / (WEEK_HOURS * HOUR)))
    if weeks < ENOUGH_WEEKS:
        return None
    begin = end - weeks * WEEK_HOURS * HOUR
    hours = [counts.get(begin + number * HOUR, 0) for number in range(weeks * WEEK_HOURS)]
    offset = hour_of_week(begin)
    slots = [hours[(slot - offset) % WEEK_HOURS :: WEEK_HOURS] for slot in range(WEEK_HOURS)]
    return Usual(tuple(_rate(slots, slot) for slot in range(WEEK_HOURS)), weeks, _spread(slots))


def learn_young(first: datetime, end: datetime, counts: dict[datetime, int]) -> Usual | None:
    """The same of what is younger: the lowest rate of any 6 hours of the last two days, all week.

    None unless traffic has been steady for a day: with an empty block among them nothing is expected.
    """
    hours = min(YOUNG_HOURS, int((end - first) / HOUR)) // BLOCK_HOURS * BLOCK_HOURS
    if hours < YOUNG_HOURS // 2:
        return None
    values = [counts.get(end - (number + 1) * HOUR, 0) for number in range(hours)]
    blocks = [sum(values[start : start + BLOCK_HOURS]) for start in range(0, hours, BLOCK_HOURS)]
    lowest = min(blocks) / BLOCK_HOURS
    if not lowest:
        return None
    spread = max(1.0, statistics.variance(values) / statistics.fmean(values))
    return Usual((lowest,) * WEEK_HOURS, 0, spread)


def _rate(slots: Sequence[Sequence[int]], slot: int) -> float:
    """One hour's: its median; where that is small, with the hours beside it, but never more than its mean."""
    median = float(statistics.median(slots[slot]))
    if median >= SPARSE:
        return median
    beside = zip(slots[slot - 1], slots[slot], slots[(slot + 1) % WEEK_HOURS], strict=True)
    wider = statistics.median(sum(values) / 3 for values in beside)
    return max(median, min(float(wider), statistics.fmean(slots[slot])))


def _spread(slots: Sequence[Sequence[int]]) -> float:
    """The median over the hours of variance over mean; one bad day among eight weeks does not move it."""
    ratios = [statistics.variance(values) / statistics.fmean(values) for values in slots if sum(values)]
    return max(1.0, statistics.median(ratios)) if ratios else 1.0
