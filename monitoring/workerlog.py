"""A worker's own row: that it lives, how much it probes and how late. The base of "wsmon itself"."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from datetime import timedelta

from django.db import Error, connection
from django.db.models import F, Max
from django.db.models.functions import Now

from monitoring import claims
from monitoring.models import CheckState, Process

WINDOW_SECONDS = 60.0
REPORT_SECONDS = 2.0


class WorkerLog:
    """Counts this process's probes and writes them to its :class:`Process` row now and then."""

    def __init__(self, process_id: uuid.UUID) -> None:
        self.process_id = process_id
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, float]] = deque(maxlen=50_000)
        self._total = 0
        self._reported = 0.0
        self._ticked = True  # a worker joins at its first tick
        self._since = time.monotonic()

    @classmethod
    def join(cls) -> tuple[WorkerLog, timedelta | None]:
        """Register this process as a worker; also return for how long nothing has been probed."""
        process = claims.register()
        silent = CheckState.objects.aggregate(silent=Now() - Max("checked_at"))["silent"]
        return cls(process.id), silent

    def leave(self) -> None:
        """Release what is still leased and remove the row: the process ends in good order."""
        try:
            claims.release([self.process_id])
            Process.objects.filter(id=self.process_id).delete()
        except Error:
            pass
        finally:
            connection.close()

    def probed(self, late_seconds: float) -> None:
        """One probe was made, so much after its due time."""
        with self._lock:
            self._total += 1
            self._recent.append((time.monotonic(), late_seconds))

    def ticked(self) -> None:
        """A tick of the scheduler came."""
        self._ticked = True

    def report(self) -> None:
        """Write the row, at most every ``REPORT_SECONDS``."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        with self._lock:
            while self._recent and self._recent[0][0] < now - WINDOW_SECONDS:
                self._recent.popleft()
            late = sorted(seconds for _, seconds in self._recent)
            total = self._total
        ticked, self._ticked = self._ticked, False
        span = min(WINDOW_SECONDS, max(now - self._since, 1.0))
        written = Process.objects.filter(id=self.process_id).update(
            seen_at=Now(),
            beat_at=Now() if ticked else F("beat_at"),
            probes=total,
            probes_per_second=len(late) / span,
            late_ms=late[int(len(late) * 0.99)] * 1000 if late else 0.0,
        )
        if not written:  # the row was tidied away while this process was cut off
            Process.objects.create(id=self.process_id, role="worker", host=claims.here(), pid=os.getpid())
