"""When a message that could not be sent is tried again, and when another channel is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

WAITS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
"""Seconds between tries: a blip is over in seconds, a vendor's outage in hours. Then nobody got it."""
FALLBACK_AFTER = 3
"""Tries after which the fallback channel is told too (35 s), while the others go on."""
LONGEST_WAIT = 3600.0
"""However long a channel asks to be left alone (Retry-After)."""


@dataclass(frozen=True, slots=True)
class Next:
    """What follows a failed try. ``wait`` is None when it was the last one."""

    wait: float | None
    fall_back: bool
    """The fallback channel is told now."""


def after(tries: int, *, retry: bool, retry_after: float | None = None) -> Next:
    """After ``tries`` failed ones. ``retry``: whether another try can help; ``retry_after`` is in seconds."""
    if not retry or tries > len(WAITS):
        return Next(None, fall_back=True)  # once: the row of the other channel is written once
    wait = WAITS[tries - 1]
    if retry_after is not None:
        wait = min(max(wait, retry_after), LONGEST_WAIT)
    return Next(wait, fall_back=tries == FALLBACK_AFTER)
