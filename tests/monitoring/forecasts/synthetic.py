"""Series with a known course, a known noise, and the same at every run."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 10, 17, 12, tzinfo=UTC)
Course = Callable[[float], float]
"""Hours from now (negative: ago) -> value."""


def flat(hours: float) -> float:
    """200, always."""
    del hours
    return 200.0


def rising(per_hour: float, now: float = 500.0) -> Course:
    """A straight line through ``now``."""
    return lambda hours: now + per_hour * hours


def step(ago: float, low: float = 200.0, high: float = 500.0) -> Course:
    """``low`` until so many hours ago, ``high`` since."""
    return lambda hours: low if hours < -ago else high


def daily(swing: float = 200.0, base: float = 400.0) -> Course:
    """A day's ups and downs; the rise is steepest at NOW."""
    return lambda hours: base + swing / 2 * math.sin(2 * math.pi * hours / 24)


def series(
    course: Course, noise: float = 0.0, *, length: timedelta = timedelta(hours=8), points: int = 30, seed: int = 1
) -> list[tuple[datetime, float]]:
    """Points of a course, evenly over ``length`` up to NOW."""
    chance = random.Random(seed)
    every = length / points
    moments = [NOW - every * (points - place - 0.5) for place in range(points)]
    return [
        (at, course((at - NOW).total_seconds() / 3600) + chance.gauss(0, noise) if noise else course(_hours(at)))
        for at in moments
    ]


def _hours(at: datetime) -> float:
    return (at - NOW).total_seconds() / 3600


def with_outliers(
    points: list[tuple[datetime, float]], share: float, value: float, seed: int = 2
) -> list[tuple[datetime, float]]:
    """The same with some points far off."""
    chance = random.Random(seed)
    return [(at, value if chance.random() < share else one) for at, one in points]
