"""Replays as the API tells them: one with what became of its deliveries, or a page of them.

A fixed number of queries each. The list counts no deliveries: a page of it may have made millions.
"""

from __future__ import annotations

import uuid
from typing import Any

from webhooks import replaying
from webhooks.apireads import BadCursor
from webhooks.replaying import Progress
from webhooks.replaymodels import Replay
from webhooks.vocabulary import DeliveryStatus, ReplayStatus

LISTED = 100
"""Ids of new deliveries that the answer to a replay names."""


def replay(row: Replay) -> dict[str, Any]:
    """A replay and how far it is."""
    statuses = replaying.progress(row).statuses
    return _item(row) | {
        "deliveries": {status: number for status, number in statuses.items() if status in [*DeliveryStatus]},
        "delivery_ids": list(row.deliveries.order_by("id").values_list("id", flat=True)[:LISTED]),
    }


def replays(status: ReplayStatus | None, cursor: str, limit: int) -> dict[str, Any]:
    """A page of replays, newest first; raises ``apireads.BadCursor``."""
    rows = Replay.objects.select_related("destination").order_by("-id")
    if status is not None:
        rows = rows.filter(status=status)
    if cursor:
        rows = rows.filter(id__lt=_opened(cursor))
    found = list(rows[: limit + 1])
    return {
        "replays": [_item(row) for row in found[:limit]],
        "next_cursor": found[limit - 1].id.hex if len(found) > limit else None,
    }


def _opened(cursor: str) -> uuid.UUID:
    try:
        return uuid.UUID(cursor)
    except ValueError:
        raise BadCursor from None


def _item(row: Replay) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "job": str(row.id),
        "status": row.status,
        "total": row.total,
        "made": row.made,
        "skipped": row.skipped,
        "skips": row.skips,
        "progress": round(Progress(row, {}).share, 4),
        "destination": row.destination.slug if row.destination else None,
        "max_retries": row.max_retries,
        "force_retry": row.force,
        "per_second": row.per_second,
        "reason": row.reason,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }
