"""Words and numbers that the whole room uses."""

from __future__ import annotations

from enum import IntEnum, StrEnum

DEFAULT_RETRY = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""Seconds between tries: about 20 hours in all, the schedule of Svix with two more early tries."""
PUBLISHED = "published"
"""The source of the team's own events."""


class Priority(IntEnum):
    """Which deliveries go first, to one destination and over all of them."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class Lane(IntEnum):
    """Budgets of their own, so that none of them delays live traffic."""

    LIVE = 0
    """First tries of what came just now."""
    RETRY = 1
    REPLAY = 2


class DeliveryStatus(StrEnum):
    """What became of one event at one destination."""

    PENDING = "pending"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Its tries are used up, or the answer was final: a dead letter that waits for a person."""
    CANCELLED = "cancelled"


WAITING = (DeliveryStatus.PENDING, DeliveryStatus.RETRYING)
UNFINISHED = (DeliveryStatus.PENDING, DeliveryStatus.RETRYING, DeliveryStatus.DELIVERING)
FAILING = (DeliveryStatus.FAILED, DeliveryStatus.RETRYING)
"""Their last try failed."""


class ReplayStatus(StrEnum):
    """What a replay job is up to."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
