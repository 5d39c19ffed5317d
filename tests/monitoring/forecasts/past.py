"""A past of a check in the database: response times, failures, rate limits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from monitoring.models import Check, CheckState, ProbeResult
from tests.browser.past import remember
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.forecasts.synthetic import NOW, Course, series


def make_slow_check(
    course: Course, noise: float = 5.0, *, length: timedelta = timedelta(hours=8), every: float = 60, **fields: Any
) -> Check:
    """A healthy check of ``stripe`` whose response times took a course, limit 800 ms."""
    service = fields.pop("service", None) or make_service("stripe", "stripe", name="Stripe")
    check = make_check(service, "connectivity", **{"name": "connectivity", "degraded_over": 0.8} | fields)
    respond(check, course, noise, length=length, every=every)
    return check


def respond(
    check: Check, course: Course, noise: float = 5.0, *, length: timedelta = timedelta(hours=8), every: float = 60
) -> None:
    """Let a check have found response times up to NOW."""
    count = int(length.total_seconds() / every)
    points = series(course, noise, length=length, points=count)
    remember(check, [(at, "healthy", ms, "200") for at, ms in points])
    recent = [ms for _, ms in points[-30:]]
    state(check, status="healthy", recent_ms=recent, checked_at=points[-1][0])


def state(check: Check, **fields: Any) -> None:
    """Change a check's state."""
    CheckState.objects.filter(check_ref=check).update(**fields)


def limited(check: Check, left: list[tuple[datetime, float]], limit: float = 100, **details: Any) -> None:
    """Let a check have been told how much of its rate limit is left."""
    ProbeResult.objects.bulk_create(
        ProbeResult(
            id=number, at=at, check_ref=check, outcome="healthy",
            details={"rate_limit_limit": limit, "rate_limit_remaining": round(value, 3)},
        )
        for number, (at, value) in enumerate(left, 1)
    )  # fmt: skip
    last = {"rate_limit_limit": limit, "rate_limit_remaining": left[-1][1]}
    state(check, status="healthy", details=last | details, checked_at=NOW)
