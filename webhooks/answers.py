"""What the overview answers of webhooks: what did we lose, and how do we get it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from webhooks import reads
from webhooks.configmodels import Destination, Source
from webhooks.eventmodels import DeliveryCount, EventCount
from webhooks.vocabulary import UNFINISHED

COUNTED = 10_000
"""Of more than these the number is shown as "10,000+"."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Dead letters that wait for a person, deliveries that go out by themselves, and the last hour's rate."""

    lost: int
    """Failed, and not sent again since."""
    held: int
    """They wait for a destination that fails or is stopped; they go out when it works again."""
    stopped: int
    """Of these, for destinations that a person must resume or enable."""
    delivered: int
    tries_failed: int
    """Of the last hour: deliveries that arrived, and tries that did not."""

    @property
    def ended(self) -> int:
        """Tries of the last hour."""
        return self.delivered + self.tries_failed

    @property
    def rate(self) -> float | None:
        """Of the last hour's tries, the share that arrived, 0..1; None when there were none."""
        return self.delivered / self.ended if self.ended else None

    @property
    def automatic(self) -> int:
        """What goes out without anybody."""
        return self.held - self.stopped

    @property
    def by_you(self) -> int:
        """What waits for a person: dead letters to replay, and what stopped destinations hold."""
        return self.lost + self.stopped

    @property
    def lost_capped(self) -> bool:
        """Whether more are lost than were counted."""
        return self.lost >= reads.FAILED_COUNTED

    @property
    def more(self) -> bool:
        """Whether more are held than were counted."""
        return self.held >= COUNTED


def losses() -> dict[str, Any] | None:
    """The template's context; None where no webhook is configured: then there is nothing to lose."""
    if (
        not Source.objects.filter(archived_at=None).exists()
        and not Destination.objects.filter(archived_at=None).exists()
    ):
        return None
    held, stopped = _held()
    delivered, failed = _last_hour()
    return {"losses": Losses(reads.failed(), held, stopped, delivered, failed)}


# What has just come is under way, not held: it counts when it has been tried, or after some seconds.
_HELD = """
SELECT count(*), count(*) FILTER (WHERE s.paused_at IS NOT NULL OR s.disabled_at IS NOT NULL) FROM (
    SELECT destination_id FROM webhooks_delivery
    WHERE status = ANY(%(unfinished)s) AND (tries > 0 OR created_at < %(before)s)
    LIMIT %(counted)s
) w JOIN webhooks_destinationstate s USING (destination_id)
"""
UNDER_WAY = timedelta(seconds=10)


def _held() -> tuple[int, int]:
    values: dict[str, Any] = {
        "unfinished": list(UNFINISHED),
        "before": timezone.now() - UNDER_WAY,
        "counted": COUNTED,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HELD, values)
        row = cursor.fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _last_hour() -> tuple[int, int]:
    since = timezone.now() - timedelta(hours=1)
    rows = DeliveryCount.objects.filter(level=EventCount.Level.MINUTE, start__gte=since)
    found = rows.aggregate(delivered=Sum("delivered"), failed=Sum("tries_failed"))
    return found["delivered"] or 0, found["failed"] or 0
