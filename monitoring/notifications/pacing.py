"""How many of a channel's waiting messages go out singly, and when they are gathered into one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SINGLY = 3
"""More than so many that wait at once go out as one message."""
BURST, BURST_SECONDS = 5, 60.0
"""So many in so many seconds; what comes on top waits and goes out as one."""
STORM_SECONDS = 60.0
"""After such a message what comes is gathered for so long: the next one counts it."""
AT_ONCE = 3
"""Messages on their way by one channel: one that hangs must not use up all threads."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Lately:
    """What a channel has sent. ``sent``: when, newest first, of the last hour; ``under_way``: not known yet."""

    sent: Sequence[datetime] = ()
    under_way: int = 0
    storm_at: datetime | None = None
    """When messages were last gathered because they were too many."""


@dataclass(frozen=True, slots=True)
class Pace:
    """So many go ``singly``, or all as one (``gather``), or nothing does for now."""

    singly: int = 0
    gather: bool = False


def pace(waiting: int, lately: Lately, max_per_hour: int, now: datetime, *, digest: bool = False) -> Pace:
    """What to do with the messages that wait and are due."""
    if not waiting or lately.under_way >= AT_ONCE or full_until(lately, max_per_hour, now) is not None:
        return Pace()
    if waiting > (1 if digest else SINGLY):
        return Pace(gather=True)
    room = min(max_per_hour - len(lately.sent) - lately.under_way, AT_ONCE - lately.under_way)
    return Pace(singly=max(0, min(waiting, room)))


def full_until(lately: Lately, max_per_hour: int, now: datetime) -> datetime | None:
    """Until when nothing more may go, if anything stands against it."""
    against: list[datetime] = []
    if lately.storm_at is not None:
        against.append(min(lately.storm_at, now) + timedelta(seconds=STORM_SECONDS))
    if len(lately.sent) >= BURST:
        against.append(min(lately.sent[BURST - 1], now) + timedelta(seconds=BURST_SECONDS))
    if len(lately.sent) >= max_per_hour:
        against.append(min(lately.sent[max_per_hour - 1], now) + _HOUR)
    latest = max(against, default=now)
    return latest if latest > now else None
