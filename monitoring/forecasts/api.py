"""The API of forecasts, at ``/api/admin/forecasts``. Its shapes are in ``forecasts.api_schemas``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router
from ninja.params.functions import Query

from monitoring.forecasts import listing, reads, wording
from monitoring.forecasts.api_schemas import ListAnswer, Metric
from monitoring.forecasts.listing import Filter, State
from monitoring.forecasts.reads import Record
from monitoring.history import BadCursor
from monitoring.models import Forecast
from wsmon.callers import access
from wsmon.problems import Problem

router = Router(tags=["forecasts"])

READ = access("monitoring:read", "monitoring.view_service")


@router.get("", response=ListAnswer, auth=READ, summary="Forecasts, newest first")
def forecasts(
    request: HttpRequest,  # noqa: ARG001 - every operation takes it
    service: Annotated[str, Query(description="of this service only", max_length=60, examples=["stripe"])] = "",
    metric: Annotated[Metric | None, Query(description="of this number only")] = None,
    state: Annotated[State | None, Query(description="in this state only; without it, in any")] = None,
    cursor: Annotated[str | None, Query(description="the `next_cursor` of the page before", max_length=30)] = None,
    limit: Annotated[int, Query(description="so many at most", ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Numbers that are expected to cross their limits, and what became of earlier forecasts.

    `accuracy` counts those of the same service and metric that ended within 90 days, whatever `state` is asked for.
    """
    wanted = Filter(service.replace("\x00", ""), metric.value if metric else "", state)
    now = timezone.now()
    try:
        found = listing.page(wanted, cursor, limit, now)
    except BadCursor as problem:
        raise Problem.invalid(("cursor", str(problem))) from None
    return {
        "forecasts": [_item(row, now) for row in found.rows],
        "accuracy": _accuracy(listing.record(wanted, now)),
        "next_cursor": found.next_cursor,
    }


def _item(row: Forecast, now: datetime) -> dict[str, Any]:
    state = listing.state_of(row, now)
    value, slope = reads.present(row) if state is State.OPEN else (row.value, row.slope)
    return {
        "id": row.id,
        "service": row.check_ref.service.slug,
        "check": row.check_ref.name,
        "metric": row.metric,
        "state": state,
        "text": wording.crossing(row.metric, row.limit),
        "value": value,
        "slope": slope,
        "limit": row.limit,
        "unit": listing.UNITS[row.metric],
        "crosses_at": row.expected_at if state is State.OPEN else row.crosses_at,
        "earliest": row.earliest,
        "latest": row.latest,
        "confidence": row.signal,
        "made_at": row.made_at,
        "renewed_at": row.renewed_at,
        "settled_at": row.settled_at,
    }


def _accuracy(past: Record) -> dict[str, Any]:
    return {
        "total": past.total,
        "came": past.came,
        "averted": past.averted,
        "wrong": past.wrong,
        "half_within": past.off.total_seconds() if past.off is not None else None,
        "text": wording.record(past) or None,
    }
