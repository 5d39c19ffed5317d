"""Rate limits kept in memory, per process: plain arithmetic, no store to fail or to wait for."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

_MOST_KEYS = 10_000


class Rate:
    """At most ``count`` calls per ``seconds`` and key, refilled evenly (GCRA, ITU-T I.371).

    Thread-safe. When more than 10,000 keys are in use the one unused for longest is forgotten, so that
    callers with invented keys cannot fill the memory.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self.step = seconds / count
        self.burst = seconds
        self._empty_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, now: float | None = None) -> float:
        """Count one call; return 0.0 when it is allowed, else the seconds to wait (and count nothing)."""
        now = time.monotonic() if now is None else now
        with self._lock:
            filled = max(self._empty_at.get(key, now), now) + self.step
            wait = filled - now - self.burst
            if wait > 1e-9:
                return wait
            self._empty_at[key] = filled
            self._empty_at.move_to_end(key)
            if len(self._empty_at) > _MOST_KEYS:
                self._empty_at.popitem(last=False)
            return 0.0

    def peek(self, key: str, now: float | None = None) -> float:
        """Return what :meth:`take` would, counting nothing."""
        now = time.monotonic() if now is None else now
        with self._lock:
            filled = max(self._empty_at.get(key, now), now) + self.step
        return max(filled - now - self.burst, 0.0)

    def reset(self) -> None:
        """Forget every call."""
        with self._lock:
            self._empty_at.clear()
