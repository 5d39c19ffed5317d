"""What is to be done each minute: read the feeds of rules, and forget what nobody looks at any more."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from monitoring.critical import feeds, freeze, inforce
from monitoring.models import CriticalRule

KIND = "critical"


def run(now: datetime | None = None) -> int:
    """Read the feeds that are due, outside any transaction; return how many were."""
    now = now or timezone.now()
    rules = CriticalRule.objects.filter(archived_at=None)
    wanted = {inforce.owner_of(rule.slug): str(rule.spec["ical"]) for rule in rules if "ical" in rule.spec}
    read = feeds.read_due(wanted, KIND, now)
    if read:
        inforce.look_again()
    freeze.forget_old(now)
    return read
