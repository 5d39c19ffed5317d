"""The story that the stand-in vendors play, over and over. Change the table to tell another one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Behaviour(StrEnum):
    """How a stand-in vendor behaves."""

    WELL = "well"
    SLOW = "slow"
    """Good answers after more than a second."""
    FAIL = "fail"
    """503 to everything."""
    HANG = "hang"
    """No answer at all."""
    LIMIT = "limit"
    """429 with Retry-After."""
    REFUSE = "refuse"
    """Our credential is no longer taken."""
    GARBAGE = "garbage"
    """A proxy's HTML page instead of the API."""


Scene = tuple[str, float, float, Behaviour]

PERIOD = 240.0
"""Seconds after which the story begins again."""

# vendor, from second, to second, behaviour; in between all is well.
SCRIPT: Sequence[Scene] = (
    ("stripe", 10, 70, Behaviour.SLOW),
    ("resend", 14, 110, Behaviour.FAIL),
    ("twilio", 18, 95, Behaviour.REFUSE),
    ("google", 35, 80, Behaviour.LIMIT),
    ("status", 12, 75, Behaviour.FAIL),
    ("supabase", 90, 130, Behaviour.HANG),
    ("site", 110, 125, Behaviour.SLOW),
    ("site", 125, 155, Behaviour.FAIL),
    ("stripe", 150, 175, Behaviour.HANG),
    ("resend", 165, 190, Behaviour.LIMIT),
    ("google", 180, 205, Behaviour.GARBAGE),
    ("twilio", 195, 220, Behaviour.SLOW),
    ("app", 20, 60, Behaviour.FAIL),
    ("mailer", 140, 165, Behaviour.HANG),
)


NOBODY: Sequence[Scene] = ()
"""Everybody behaves well until told otherwise."""


def scene(script: Sequence[Scene], vendor: str, seconds: float) -> tuple[Behaviour, float]:
    """How ``vendor`` behaves ``seconds`` after the start, and for how long it has; 0 s when it behaves well."""
    at = seconds % PERIOD
    for name, begins, ends, how in script:
        if name == vendor and begins <= at < ends:
            return how, at - begins
    return Behaviour.WELL, 0.0
