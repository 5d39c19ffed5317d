"""What becomes of a delivery after a try: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from webhooks.sealing import Exchanged
from webhooks.vocabulary import DeliveryStatus, Priority
from wsmon.vocabulary import Category, Timings

JITTER = 0.2
"""A wait is lengthened by up to this share, so that what failed together does not come back together."""
LONGEST_RETRY_AFTER = 86_400.0
LONGEST_HOLD = 3_600.0
"""A Retry-After holds up everything else for its destination too, but not for longer than this."""
HOLDING = (429, 503)
GONE = 410
SHORTENED_UP_TO = 600.0
"""Waits up to this are shortened on critical days. Longer ones stay, so that no delivery is given up earlier."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one try found. Without ``http_status`` there was no answer; ``retry_after`` is in seconds."""

    http_status: int | None = None
    category: Category | None = None
    message: str = ""
    fingerprint: str = ""
    retry_after: float | None = None
    final: bool = False
    """No further try can change it: the payload is gone, or is not what was received."""
    timings: Timings = field(default_factory=Timings)
    exchanged: Exchanged = field(default_factory=lambda: Exchanged(()), repr=False)

    @property
    def ok(self) -> bool:
        """Whether the receiver has it."""
        return self.http_status is not None and 200 <= self.http_status < 300


@dataclass(frozen=True, slots=True)
class Decision:
    """The delivery's next state. Seconds from now: ``due_in`` to its next try, ``hold`` for the whole destination."""

    status: DeliveryStatus
    due_in: float = 0.0
    hold: float | None = None
    disable: str = ""
    """Why the destination is not to be sent anything any more."""


def decide(answer: Answer, tries: int, max_tries: int, retry: Sequence[float], chance: float) -> Decision:
    """Decide after try number ``tries`` of ``max_tries``; ``retry`` are the waits, ``chance`` is 0..1 for the jitter.

    Any 2xx is success, anything else is tried again: the receiver may be mended. A redirect is not
    followed. 410 says that the receiver wants nothing any more (Standard Webhooks, "Status codes").
    """
    if answer.ok:
        return Decision(DeliveryStatus.DELIVERED)
    asked = min(answer.retry_after or 0.0, LONGEST_RETRY_AFTER)
    hold = min(asked, LONGEST_HOLD) if asked and answer.http_status in HOLDING else None
    if answer.http_status == GONE:
        # What waits is kept, this one too: whoever enables the destination again gets all of it.
        return Decision(DeliveryStatus.RETRYING, disable="it answered 410 Gone")
    if tries >= max_tries or answer.final:
        return Decision(DeliveryStatus.FAILED, hold=hold)
    return Decision(DeliveryStatus.RETRYING, max(wait(retry, tries, chance), asked), hold)


def wait(retry: Sequence[float], tries: int, chance: float) -> float:
    """Seconds to wait after try number ``tries``; beyond the schedule's end, its last wait again."""
    if not retry:
        return 0.0
    return retry[min(tries, len(retry)) - 1] * (1 + JITTER * chance)


def in_a_hurry(retry: Sequence[float], priority: int, factor: float) -> Sequence[float]:
    """The schedule as it holds now: of critical priority the early waits are ``factor`` (0..1) as long."""
    if factor >= 1 or priority != Priority.CRITICAL:
        return retry
    return tuple(seconds * factor if seconds <= SHORTENED_UP_TO else seconds for seconds in retry)
