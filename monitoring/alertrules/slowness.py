"""Rule: the 95th percentile of a check's response times above its budget, for a while and still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring import rollups
from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, page_of
from monitoring.alertrules.thresholds import Thresholds
from monitoring.models import Check, Rollup
from wsmon.durations import format_duration

KIND = "slow"
LEAST = 10
"""Results: of fewer a 95th percentile is but the slowest one."""
STILL = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Times:
    """A check's response times in ms. ``p95_now`` is that of the last minutes."""

    service_id: int
    service: str
    check: str
    budget: float
    results: int
    p95: float | None
    p95_now: float | None
    label: str = ""
    """What people call the service; empty: as ``service``."""


def find(times: Iterable[Times], within: float) -> list[Finding]:
    """Checks whose p95 is above its budget over the window, and in its last minutes too."""
    return [
        Finding(
            key=f"slow:{one.service}/{one.check}",
            kind=KIND,
            severity=Severity.WARNING.value,
            title=f"{one.label or one.service} {one.check}: p95 above its budget of {one.budget:,.0f} ms",
            detail=f"95% of its answers took up to {one.p95:,.0f} ms within {format_duration(within)}.",
            url=page_of(one.service),
            service=one.service_id,
        )
        for one in times
        if one.results >= LEAST
        and one.p95 is not None
        and one.p95_now is not None
        and min(one.p95, one.p95_now) > one.budget
    ]


def read(now: datetime, thresholds: Thresholds) -> list[Times]:
    """The checks in use that have a budget."""
    rows = Check.objects.filter(archived_at=None, paused_at=None, service__archived_at=None)
    wanted = {
        row["id"]: (row, budget)
        for row in rows.values(
            "id", "name", "degraded_over", "service_id", "service__slug", "service__name"
        ).order_by("id")
        if (budget := thresholds.p95_ms(row["service__slug"], row["degraded_over"])) is not None
    }
    if not wanted:
        return []
    level, since = Rollup.Level.MINUTE, now - timedelta(seconds=thresholds.slow.within)
    counted = rollups.totals({check_id: check_id for check_id in wanted}, level, since, times=False)
    owners = {
        check_id: check_id
        for check_id, (_row, budget) in wanted.items()
        if (counted[check_id].slowest_ms or 0.0) > budget  # otherwise adding up its times tells nothing new
    }
    if not owners:
        return []
    whole = rollups.totals(owners, level, since)
    last = rollups.totals(owners, level, now - STILL)
    return [
        Times(
            row["service_id"],
            row["service__slug"],
            row["name"],
            budget,
            sum(whole[check_id].histogram.values()),
            whole[check_id].percentile(0.95),
            last[check_id].percentile(0.95),
            row["service__name"],
        )
        for check_id, (row, budget) in wanted.items()
        if check_id in owners
    ]


def look(context: Context) -> list[Finding]:
    """Read and find."""
    return find(read(context.now, context.thresholds), context.thresholds.slow.within)


RULE = Rule(KIND, 60.0, look, echo=True)
