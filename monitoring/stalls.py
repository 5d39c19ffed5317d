"""Knowing when *we* stood still: a frozen process, a database away, a clock that jumped.

Nothing that happened meanwhile is held against a target.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import datetime, timedelta

BEAT_SECONDS = 0.25
STALL_SECONDS = 1.0
"""A watch thread that wakes this much late shows that the whole process stood still."""

JUMP_SECONDS = 3.0
"""A disagreement of this much between the database's and the monotonic clock is a jump."""

GAP_SECONDS = 5.0
"""Without a successful claim for so long, calls of cron jobs may have been missed."""

RESTART_SECONDS = 60.0
"""wsmon was away, and not just restarted, when nothing was probed for so long."""


class StallWatch:
    """Remembers the recent standstills of this process. Times are monotonic seconds unless aware."""

    def __init__(self) -> None:
        self._stalls: deque[float] = deque(maxlen=64)
        self._beat: float | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._database: tuple[datetime, float] | None = None
        self._failed = False
        self._resumed: datetime | None = None

    def start(self) -> None:
        """Start watching."""
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def stalled_since(self, moment: float) -> bool:
        """Whether this process stood still at some time after ``moment``."""
        beat = self._beat  # after a standstill, a probe may wake up before the watch thread does
        asleep = beat is not None and time.monotonic() - beat > BEAT_SECONDS + STALL_SECONDS
        return asleep or any(ended >= moment for ended in list(self._stalls))

    def note_stall(self, ended: float) -> None:
        """A standstill ended."""
        self._stalls.append(ended)

    def joined(self, silent: timedelta | None) -> None:
        """This process starts after wsmon probed nothing for ``silent`` (None: never probed before)."""
        if silent is not None and silent > timedelta(seconds=RESTART_SECONDS):
            self._failed = True

    def database_failed(self) -> None:
        """The database did not answer; calls of cron jobs may have been refused since."""
        self._failed = True

    def database_time(self, now: datetime, moment: float) -> None:
        """A claim succeeded when the database's clock said ``now`` and the monotonic clock ``moment``."""
        before, self._database = self._database, (now, moment)
        if before is None:
            if self._failed:
                self._resumed, self._failed = now, False
            return
        passed = moment - before[1]
        jumped = abs((now - before[0]) - timedelta(seconds=passed)) > timedelta(seconds=JUMP_SECONDS)
        if jumped or (self._failed and passed > GAP_SECONDS):
            self._resumed = now
        self._failed = False

    def watching_since(self, default: datetime) -> datetime | None:
        """When watching was last taken up after a gap or jump; None when there was none. ``default`` is
        returned while a gap lasts."""
        return default if self._failed else self._resumed

    def _watch(self) -> None:
        last = self._beat = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            now = time.monotonic()
            if now - last > BEAT_SECONDS + STALL_SECONDS:
                self.note_stall(now)
            last = self._beat = now
        self._beat = None
