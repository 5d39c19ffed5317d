"""The dead man's switch: somebody outside is told each minute that wsmon is alive, and raises the alarm otherwise.

``WSMON_DEADMAN_URL`` is a URL of a service for cron jobs, such as https://hc-ping.com/<uuid>. It is asked only
while wsmon probes in time and its messages go out: silence means trouble, whatever the trouble is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from django.db import Error
from django.utils import timezone

from monitoring import alerts, selfwatch
from monitoring.models import Channel, Notification
from monitoring.notifications import claims
from wsmon.http import HttpError, http_client
from wsmon.secrets import lookup

log = structlog.get_logger(__name__)

TIMEOUT = 10.0
STUCK = timedelta(minutes=5)
"""Messages that are due for so long without a single try: nothing is sent."""
KEY = KIND = "deadman"
PATIENCE = 3
"""Minutes in a row without reaching the switch after which that is itself an alert."""


class Pinged(StrEnum):
    """What came of one look."""

    NONE = "none"
    """No switch is configured."""
    HELD = "held"
    """wsmon is not well, so the switch is not told that it is."""
    SENT = "sent"
    FAILED = "failed"


@dataclass(slots=True)
class _Run:
    failures: int = 0


_run = _Run()


def ping(now: datetime | None = None) -> Pinged:
    """Each minute, by a worker: tell the switch that wsmon is alive, if it is. Never inside a transaction."""
    url = lookup("WSMON_DEADMAN_URL")
    if url is None:
        return Pinged.NONE
    trouble = unwell(now or timezone.now())
    if trouble:
        log.warning("the dead man's switch is not told", why=trouble)
        return Pinged.HELD
    try:
        response = http_client().request("GET", url, timeout=TIMEOUT, max_bytes=10_000, secrets=[url])
        problem = "" if response.ok else f"it answered {response.status}"
    except HttpError as error:
        problem = error.message
    return _note(problem)


def unwell(now: datetime) -> str:
    """Why wsmon does not do its work, "" when it does."""
    try:
        problem = selfwatch.look().problem
        if not problem and _is_stuck(now):
            problem = "Messages wait and none is sent."
    except Error:
        return "The database does not answer."
    return problem or ""


def _is_stuck(now: datetime) -> bool:
    """Whether something is due for long by a channel that takes messages and is not too full for it."""
    due = Notification.objects.filter(state="pending", tries=0, due_at__lt=now - STUCK)
    rows = Channel.objects.filter(id__in=due.values("channel"), archived_at=None, failing_since=None)
    return any(claims.full_until(channel, now) is None for channel in rows)


def _note(problem: str) -> Pinged:
    if not problem:
        _run.failures = 0
        alerts.resolve(KEY)
        return Pinged.SENT
    _run.failures += 1
    log.warning("the dead man's switch cannot be reached", error=problem)
    if _run.failures >= PATIENCE:
        alerts.raise_alert(
            KEY,
            KIND,
            "warning",
            "The dead man's switch cannot be reached",
            f"{problem}. If wsmon died now, the switch would say so although nothing else is wrong.",
        )
    return Pinged.FAILED
