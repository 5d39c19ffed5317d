"""How deliveries went over a period, from as few rows of the counts as there can be.

Of a week there are 168 hours, and of each pair of source and destination as many rows: too many to sum for every
page. So hours are read up to the first midnight (UTC), and days from there on, today's too. All are written
together (``webhooks.settling``), so they never tell different numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.eventmodels import DeliveryCount

Level = DeliveryCount.Level

LEVELS = {"1h": Level.MINUTE, "24h": Level.HOUR, "7d": Level.HOUR}
"""The finest buckets of which a period is made."""

BUCKETS = f"""
((level = %(level)s AND start > %(after)s AND start < %(midnight)s)
    OR (level = {Level.DAY:d} AND start >= %(midnight)s))
"""
"""Which rows of ``webhooks_deliverycount``, as a condition with the parameters that ``buckets_after`` makes."""


def buckets_after(moment: datetime, level: DeliveryCount.Level) -> dict[str, Any]:
    """The parameters of ``BUCKETS``: every bucket of ``level`` that begins after ``moment``, up to now."""
    return {"level": level.value, "after": moment, "midnight": midnight_after(moment)}


def midnight_after(moment: datetime) -> datetime:
    """The first midnight (UTC) later than a moment."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
