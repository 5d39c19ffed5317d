"""What the scheduler (beat) calls. Each task only wakes the code that knows."""

from __future__ import annotations

from celery import shared_task

from monitoring import housekeeping, prober


@shared_task(ignore_result=True)
def tick() -> None:
    """Each second: probe what is due."""
    prober.prober().tick()


@shared_task(ignore_result=True)
def housekeep() -> None:
    """Each minute: end pauses, make partitions, drop what is old, refresh the summaries."""
    housekeeping.run()
