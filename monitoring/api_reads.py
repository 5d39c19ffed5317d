"""What the API answers, read from the database: a fixed number of queries, whatever is asked for.

The answers go out as they are read, so they must have every field that ``monitoring.api_schemas`` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.db import connection
from django.utils import timezone

from monitoring import overview, rollups
from monitoring.models import Service, ServiceSummary
from monitoring.overview import CheckView, ServiceView
from monitoring.periods import PERIODS, SLOTS
from monitoring.rollups import NO_DATA, Counts
from wsmon.vocabulary import Outcome, Status, Timings

HISTORY = 20
"""Results and changes of one service in its history."""

FULL = 0.5
"""A service with results in so much of a period is answered from the summary made a moment ago."""

_PHASES = ("dns", "connect", "tls", "first_byte", "total")
_NO_TIMINGS = dict.fromkeys(_PHASES)

_LAST_TIMINGS = """
SELECT c.id, r.dns_ms, r.connect_ms, r.tls_ms, r.first_byte_ms, r.total_ms
FROM unnest(%s::bigint[], %s::timestamptz[]) AS c(id, at)
JOIN service_health_metrics r ON r.check_id = c.id AND r.at = c.at
"""

_LAST_RESULTS = """
SELECT s.id, r.name, r.at, r.outcome, r.total_ms, r.http_status, r.message, r.category, r.manual
FROM unnest(%s::bigint[]) AS s(id)
CROSS JOIN LATERAL (
    SELECT c.name, latest.*
    FROM monitoring_configuration c
    CROSS JOIN LATERAL (
        SELECT * FROM service_health_metrics m
        WHERE m.check_id = c.id ORDER BY m.at DESC, m.id DESC LIMIT %s
    ) latest
    WHERE c.service_id = s.id AND c.archived_at IS NULL
    ORDER BY latest.at DESC, latest.id DESC LIMIT %s
) r
ORDER BY r.at DESC, r.id DESC
"""

_LAST_CHANGES = """
SELECT x.service_id, c.name, x.at, x.old, x.new, x.reason, x.category
FROM unnest(%s::bigint[]) AS s(id)
CROSS JOIN LATERAL (
    SELECT * FROM monitoring_statechange x
    WHERE x.service_id = s.id ORDER BY x.at DESC, x.id DESC LIMIT %s
) x
LEFT JOIN monitoring_configuration c ON c.id = x.check_id
ORDER BY x.at DESC, x.id DESC
"""


def totals() -> dict[str, Any]:
    """The overall state, by the contract's formula."""
    found = overview.overall()
    return {
        "overall_status": found.status,
        "healthy_services": found.healthy,
        "total_services": found.counted,
        "last_updated": found.last_updated,
    }


def services(only: Iterable[int] | None) -> list[ServiceView]:
    """Every service, or only some by id, most urgent first."""
    wanted = Service.objects.filter(archived_at=None)
    if only is not None:
        wanted = wanted.filter(id__in=list(only))
    return overview.views(list(overview.ordered(wanted).values_list("id", flat=True)), past=False)


def service(view: ServiceView) -> dict[str, Any]:
    """One service in short."""
    unwell = view.status in overview.UNHEALTHY
    return {
        "service": view.slug,
        "label": view.label,
        "provider": view.provider,
        "criticality": view.criticality,
        "status": view.status,
        "since": view.since,
        "response_time": view.response_ms,
        "error": _error(view),
        "error_category": (view.category or None) if unwell else None,
        "checked_at": view.checked_at,
        "maintenance": view.maintenance is not None,
        "missing_variables": view.missing,
        "details": {},
    }


def _error(view: ServiceView) -> str | None:
    if view.status is Status.NOT_CONFIGURED:
        return f"not configured: set {', '.join(view.missing)}"
    return (view.reason or None) if view.status in overview.UNHEALTHY else None


def detailed(views: Sequence[ServiceView], *, checks: bool, past: bool) -> list[dict[str, Any]]:
    """Services with their checks and details, their history, or both."""
    timings = _last_timings([check for view in views for check in view.checks]) if checks else {}
    histories = _histories([view.id for view in views]) if past else {}
    found = []
    for view in views:
        one = service(view) | {"checks": None, "history": histories.get(view.id)}
        if checks:
            one["checks"] = [_check(check, timings.get(check.id, _NO_TIMINGS)) for check in view.checks]
            one["details"] = {check.name: check.details for check in view.checks if check.details}
        found.append(one)
    return found


def metrics(views: Sequence[ServiceView], timeframe: str) -> dict[int, dict[str, Any]]:
    """Uptime, percentiles and counts of each service (by id) over a timeframe."""
    period, now = PERIODS[timeframe], timezone.now()
    summaries = ServiceSummary.objects.filter(service__in=[view.id for view in views], period=timeframe)
    by_service = {
        row.service_id: _summarised(row)
        for row in summaries.defer("notes")
        if row.bar.count(NO_DATA) < FULL * SLOTS and now - row.made_at < 2 * period.refresh
    }
    # Too young for the summary made beforehand: few rows, so they are added up here.
    young = {check.id: view.id for view in views for check in view.checks if view.id not in by_service}
    if young:
        found = rollups.totals(young, period.level, period.after(now - period.length))
        by_service |= {service_id: _added_up(counts) for service_id, counts in found.items()}
    return {view.id: by_service.get(view.id) or _added_up(Counts()) for view in views}


def _summarised(row: ServiceSummary) -> dict[str, Any]:
    counts = Counts(row.healthy, row.degraded, row.critical, row.error)
    return _added_up(counts) | {"p50": row.p50_ms, "p95": row.p95_ms, "p99": row.p99_ms}


def _added_up(counts: Counts) -> dict[str, Any]:
    return {
        "uptime": counts.uptime,
        "p50": counts.percentile(0.50),
        "p95": counts.percentile(0.95),
        "p99": counts.percentile(0.99),
        "total": counts.total,
        "counts": {outcome: getattr(counts, outcome.value) for outcome in Outcome},
    }


def phases(timings: Timings) -> dict[str, float | None]:
    """Timings under their names in the API."""
    return {name.removesuffix("_ms"): value for name, value in asdict(timings).items()}


def _check(check: CheckView, timings: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "name": check.name,
        "kind": check.kind,
        "status": check.status,
        "since": check.since,
        "outcome": check.outcome or None,
        "response_time": check.total_ms,
        "timings": timings,
        "http_status": check.http_status,
        "message": check.message,
        "error_category": check.category or None,
        "checked_at": check.checked_at,
        "interval": check.interval,
        "missing_variables": check.missing,
        "details": check.details,
    }


def _last_timings(checks: Sequence[CheckView]) -> dict[int, dict[str, float | None]]:
    probed = [check for check in checks if check.checked_at]
    with connection.cursor() as cursor:
        cursor.execute(_LAST_TIMINGS, [[check.id for check in probed], [check.checked_at for check in probed]])
        return {check_id: dict(zip(_PHASES, times, strict=True)) for check_id, *times in cursor}


def _histories(service_ids: list[int]) -> dict[int, dict[str, list[Any]]]:
    found: dict[int, dict[str, list[Any]]] = {key: {"results": [], "changes": []} for key in service_ids}
    with connection.cursor() as cursor:
        cursor.execute(_LAST_RESULTS, [service_ids, HISTORY, HISTORY])
        for service_id, *row in cursor:
            found[service_id]["results"].append(_result(*row))
        cursor.execute(_LAST_CHANGES, [service_ids, HISTORY])
        for service_id, *row in cursor:
            found[service_id]["changes"].append(_change(*row))
    return found


def _result(*row: Any) -> dict[str, Any]:
    names = ("check", "at", "outcome", "response_time", "http_status", "message", "error_category", "manual")
    found = dict(zip(names, row, strict=True))
    return found | {"error_category": found["error_category"] or None}


def _change(*row: Any) -> dict[str, Any]:
    found = dict(zip(("check", "at", "old", "new", "reason", "error_category"), row, strict=True))
    return found | {"error_category": found["error_category"] or None}
