"""Lanes: at most so many probes at once towards one vendor, so that a slow one starves nobody else."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

LOOK_AHEAD = 2.0
"""Seconds of work a lane may have waiting, by its recent speed."""


@dataclass(slots=True)
class Lane(Generic[T]):
    """One vendor's (or one generic service's) probes of this process: running and waiting."""

    width: int
    running: int = 0
    waiting: deque[T] = field(default_factory=deque)
    expected: int = 0
    """Claimed and not yet due."""
    seconds: float = 0.1
    """How long a probe takes, as a moving average."""

    @property
    def load(self) -> int:
        """Claimed and not finished."""
        return self.running + len(self.waiting) + self.expected

    @property
    def room(self) -> int:
        """How many more may be claimed: what the lane gets done within ``LOOK_AHEAD``."""
        capacity = self.width * min(max(LOOK_AHEAD / max(self.seconds, 0.001), 2.0), 100.0)
        return max(int(capacity) - self.load, 0)

    def admit(self, item: T) -> bool:
        """Start ``item`` if the lane is not full; otherwise it waits its turn."""
        if self.running < self.width:
            self.running += 1
            return True
        self.waiting.append(item)
        return False

    def finish(self, seconds: float) -> T | None:
        """Note that one ended after ``seconds``; return the next one, which takes its place."""
        self.seconds += (seconds - self.seconds) * 0.2
        if self.waiting:
            return self.waiting.popleft()
        self.running -= 1
        return None
