"""What the scheduler (beat) calls. Each task only wakes the code that knows."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

import structlog
from celery import shared_task

from webhooks import dispatcher, erasing, housekeeping, reconciling, recovery, replaying, silence

logger = structlog.get_logger(__name__)

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@shared_task(ignore_result=True)
def tick() -> None:
    """Each second: deliver what is due, and go on with replays."""
    dispatcher.tick()
    _unless_running("replays", replaying.run_due)


@shared_task(ignore_result=True)
def catch_up() -> None:
    """Every few seconds: make new events findable (housekeeping does what is too much), and go on with erasures."""
    _unless_running("catch up", lambda: housekeeping.index_events(seconds=1.0), erasing.run_due)


@shared_task(ignore_result=True)
def housekeep() -> None:
    """Each minute: notice silence, drop what is old."""
    _unless_running("housekeep", silence.run, housekeeping.housekeep)


@shared_task(ignore_result=True)
def ask() -> None:
    """Each minute, over the network: destinations whether they are back, vendors what never came."""
    _unless_running("ask", recovery.run_due, reconciling.run_due)


def _unless_running(name: str, *works: Callable[[], object]) -> None:
    """Do the works in turn, unless this process is still at them: then the next call will do.

    One that fails does not keep the others from their turn.
    """
    lock = _locks[name]
    if not lock.acquire(blocking=False):
        return
    try:
        for work in works:
            try:
                work()
            except Exception:
                logger.exception("a webhook task failed", task=name)
    finally:
        lock.release()
