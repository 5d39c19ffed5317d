"""What the scheduler (beat) calls. Each task only wakes the code that knows."""

from __future__ import annotations

from celery import shared_task

from monitoring import alerting, housekeeping, prober


@shared_task(ignore_result=True)
def tick() -> None:
    """Each second: probe what is due."""
    prober.prober().tick()


@shared_task(ignore_result=True)
def alert() -> None:
    """Each second: what is in force, incidents, escalations, messages."""
    alerting.tick()


@shared_task(ignore_result=True)
def look() -> None:
    """Every few seconds: what should alert somebody."""
    alerting.look()


@shared_task(ignore_result=True)
def ask() -> None:
    """Each minute, over the network: vendors' pages, calendars, the dead man's switch."""
    alerting.ask()


@shared_task(ignore_result=True)
def housekeep() -> None:
    """Each minute: end pauses, make partitions, drop what is old, refresh the summaries."""
    housekeeping.run()
