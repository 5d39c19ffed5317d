"""Destinations that wsmon disabled, and that say by their health URL that they are back.

Once a minute each is asked by one process; a 2xx enables it, its backlog intact. What a person disabled stays
disabled.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.utils import timezone

from monitoring import alerts
from webhooks import actions, settling
from webhooks.configmodels import Destination, DestinationState
from wsmon import secrets
from wsmon.audit import Actor
from wsmon.http import HttpError, http_client

logger = structlog.get_logger(__name__)

EVERY = timedelta(seconds=55)
"""A little less than the task's minute, or every second call would come too early."""
TIMEOUT = 10.0
AT_ONCE = 8
MOST = 100
SYSTEM = Actor.system("recovery")


def run_due(now: datetime | None = None) -> int:
    """Ask whoever is due, outside any transaction; how many were enabled."""
    moment = now or timezone.now()
    claimed = _claim(moment)
    if not claimed:
        return 0
    with ThreadPoolExecutor(AT_ONCE, "wsmon-recovery") as pool:
        healthy = list(pool.map(is_healthy, claimed))
    return sum(enable(destination) for destination, fine in zip(claimed, healthy, strict=True) if fine)


def is_healthy(destination: Destination) -> bool:
    """Whether its health URL answers with a 2xx; redirects are not followed."""
    try:
        url = destination.health_url
        url = secrets.resolve(url) if secrets.is_reference(url) else url
        return http_client().get(url, timeout=min(destination.timeout, TIMEOUT), max_bytes=65_536).ok
    except (HttpError, secrets.Unresolvable) as error:
        logger.info("recovery_not_yet", destination=destination.slug, why=str(error))
        return False


def enable(destination: Destination) -> bool:
    """Enable what wsmon itself disabled; False when a person was quicker, in either direction."""
    with transaction.atomic():
        rows = DestinationState.objects.select_for_update().filter(destination=destination)
        if not rows.filter(disabled_at__isnull=False, disabled_by="").exists():
            return False
        done = actions.enable_destination(destination, SYSTEM, "its health URL answers again")
        alerts.resolve(settling.alert_key(destination.slug))
    return done


_CLAIM = """
UPDATE webhooks_destinationstate SET probed_at = %(now)s WHERE destination_id IN (
    SELECT s.destination_id FROM webhooks_destinationstate s JOIN webhooks_destination d ON d.id = s.destination_id
    WHERE s.disabled_at IS NOT NULL AND s.disabled_by = '' AND d.health_url <> '' AND d.archived_at IS NULL
      AND (s.probed_at IS NULL OR s.probed_at <= %(before)s OR s.probed_at > %(now)s)
    ORDER BY s.probed_at NULLS FIRST LIMIT %(most)s FOR UPDATE OF s SKIP LOCKED
) RETURNING destination_id
"""


def _claim(now: datetime) -> Sequence[Destination]:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": now, "before": now - EVERY, "most": MOST})
        ids = [row[0] for row in cursor.fetchall()]
    return list(Destination.objects.filter(id__in=ids).order_by("id"))
