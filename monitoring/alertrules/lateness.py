"""Rule: wsmon itself is late, or nothing of it probes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from monitoring import selfwatch
from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule
from monitoring.selfwatch import SelfWatch

KIND = "scheduler"
KEY = "scheduler"
LASTING = timedelta(seconds=10)
"""So long it must have lasted: after a start everything is overdue for a moment."""
_STALE = timedelta(seconds=60)
"""Looks further apart than this say nothing about what lay between."""


def find(looks: Sequence[tuple[datetime, SelfWatch]], late: float) -> list[Finding]:
    """``looks``: the last ones, oldest first. Late when each one within ``LASTING`` up to the newest was."""
    if not looks:
        return []
    newest_at, newest = looks[-1]
    bad = []
    for at, seen in reversed(looks):
        if not _is_late(seen, late) or newest_at - at > _STALE:
            break
        bad.append(at)
    if not bad or newest_at - bad[-1] < LASTING:
        return []
    detail = newest.problem or "Due checks wait: what you see is older than it should be."
    return [
        Finding(
            KEY,
            KIND,
            Severity.CRITICAL.value,
            "wsmon's own scheduler is late",
            f"{detail} Now {newest.lateness_s:,.0f} s late, with {newest.workers} worker(s).",
            "/",
        )
    ]


def _is_late(seen: SelfWatch, late: float) -> bool:
    return seen.lateness_s > late or seen.workers == 0 or seen.beat_age_s is None or seen.beat_age_s > late


_looks: list[tuple[datetime, SelfWatch]] = []


def look(context: Context) -> list[Finding]:
    """Read and find; remembers the last looks of this process."""
    _looks.append((context.now, selfwatch.look()))
    del _looks[:-20]
    return find(_looks, context.thresholds.scheduler_late)


def forget() -> None:
    """As after a start: for tests."""
    _looks.clear()


RULE = Rule(KIND, 5.0, look)
