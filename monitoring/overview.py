"""What the overview shows, as plain data: overall state, services with their checks, paged.

Reads a fixed number of rows per service shown, whatever the number of results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

import providers
from monitoring import history, maintenance
from monitoring.advice import HELD, advice
from monitoring.breakers import glance
from monitoring.breakers.glance import Glance
from monitoring.history import Strip
from monitoring.incidents import reads as incidents
from monitoring.models import CheckState, MaintenanceWindow, Service, ServiceSummary
from monitoring.periods import PERIODS, SLOTS, Period
from monitoring.statuses import is_paused
from monitoring.verdict import overall_status
from wsmon.vocabulary import Category, Criticality, Status

URGENCY = (
    Status.CRITICAL,
    Status.ERROR,
    Status.DEGRADED,
    Status.NOT_CONFIGURED,
    Status.UNKNOWN,
    Status.HEALTHY,
    Status.PAUSED,
)
"""The order of the overview; within it criticality, then name."""

COUNTED = (Status.HEALTHY, Status.DEGRADED, Status.CRITICAL, Status.ERROR)
UNHEALTHY = (Status.CRITICAL, Status.ERROR, Status.DEGRADED)

STATES: dict[str, tuple[Status, ...]] = {
    "all": tuple(Status),
    "unhealthy": UNHEALTHY,
    **{status.value: (status,) for status in Status},
}


@dataclass(frozen=True, slots=True)
class Overall:
    """The state of everything, by the contract's formula over the services that count."""

    status: Status
    healthy: int
    counted: int
    total: int
    by_status: dict[str, int]
    last_updated: datetime


class _Past(NamedTuple):
    """Of a summary, what a page shows. Its fields are the model's."""

    first_start: datetime
    bar: str
    notes: dict[str, str]
    uptime: float | None
    p50_ms: float | None
    p95_ms: float | None


class CheckView(NamedTuple):
    """A check as a page shows it. Its fields stand in the order of :data:`_CHECK_COLUMNS`."""

    id: int
    name: str
    kind: str
    status: Status
    since: datetime
    outcome: str
    category: str
    message: str
    checked_at: datetime | None
    total_ms: float | None
    http_status: int | None
    details: dict[str, object]
    recent_ms: list[float | None]
    interval: float
    timeout: float
    degraded_over: float | None
    missing: list[str]
    paused_at: datetime | None
    paused_until: datetime | None
    paused_by: str
    paused_reason: str
    next_due_at: datetime
    heartbeat_token: str | None


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service as a page shows it. ``main`` is the check whose numbers stand for it."""

    id: int
    slug: str
    label: str
    provider: str
    provider_label: str
    criticality: Criticality
    status: Status
    since: datetime
    reason: str
    category: str
    checks: list[CheckView]
    main: CheckView | None
    bar: Strip
    uptime: float | None
    p50_ms: float | None
    p95_ms: float | None
    maintenance: MaintenanceWindow | None
    advice: str
    breaker: Glance | None = None
    """Its breaker, while that is not closed."""
    incident: incidents.Glance | None = None
    """Its incident, while one is open."""

    @property
    def response_ms(self) -> float | None:
        """The last response time of the main check."""
        return self.main.total_ms if self.main else None

    @property
    def recent_ms(self) -> list[float | None]:
        """The last response times of the main check, oldest first."""
        return self.main.recent_ms if self.main else []

    @property
    def recent_limit_ms(self) -> float | None:
        """From where on the main check counts as slow."""
        return self.main.degraded_over * 1000 if self.main and self.main.degraded_over else None

    @property
    def checked_at(self) -> datetime | None:
        """When any of its checks was probed last."""
        return max((check.checked_at for check in self.checks if check.checked_at), default=None)

    @property
    def missing(self) -> list[str]:
        """Variables to set."""
        return sorted({name for check in self.checks for name in check.missing})


@dataclass(frozen=True, slots=True)
class Filter:
    """Which services to show. Raises ``KeyError`` for unknown states and periods."""

    query: str = ""
    state: str = "all"
    period: str = "24h"
    page: int = 1
    per_page: int = 50

    def __post_init__(self) -> None:
        STATES[self.state]
        PERIODS[self.period]


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One page of the list. ``total`` counts the services that match, ``checks`` all their checks."""

    services: list[ServiceView]
    number: int
    pages: int
    total: int
    checks: int


def overall() -> Overall:
    """Count the services by status and judge the whole; one query."""
    rows = Service.objects.filter(archived_at=None).values_list("status").annotate(Count("id")).order_by()
    by_status = dict(rows)
    healthy = by_status.get(Status.HEALTHY, 0)
    counted = sum(by_status.get(status, 0) for status in COUNTED)
    total = sum(by_status.values())
    return Overall(overall_status(healthy, counted), healthy, counted, total, by_status, timezone.now())


def page(wanted: Filter) -> ServicePage:
    """The services that match a filter, most urgent first."""
    matching = _matching(wanted)
    total = matching.count()
    checks = CheckState.objects.filter(check_ref__service__in=matching, check_ref__archived_at=None).count()
    pages = max(1, -(-total // wanted.per_page))
    number = min(max(wanted.page, 1), pages)
    first = (number - 1) * wanted.per_page
    ids = list(ordered(matching).values_list("id", flat=True)[first : first + wanted.per_page])
    return ServicePage(views(ids, wanted.period), number, pages, total, checks)


def view(slug: str, period: str = "24h") -> ServiceView | None:
    """One service, or None."""
    ids = Service.objects.filter(slug=slug, archived_at=None).values_list("id", flat=True)
    return next(iter(views(list(ids), period)), None)


def views(service_ids: Sequence[int], period: str = "24h", *, past: bool = True) -> list[ServiceView]:
    """Some services, in the order of their ids given; archived ones are left out.

    ``past=False`` spares what is told of the period: the strip is empty, uptime and percentiles unknown.
    """
    now = timezone.now()
    services = {row.id: row for row in Service.objects.filter(id__in=service_ids, archived_at=None)}
    checks = _checks(services, now)
    summaries = _pasts(services, period) if past else {}
    # Judged once, not once per service: following a recurrence is dear.
    windows = maintenance.in_force(maintenance.relevant(now), now)
    breakers, open_ = glance.of(services), incidents.glance(services)
    found = [
        _view(services[key], checks[key], summaries.get(key), PERIODS[period], windows, now)
        for key in service_ids
        if key in services
    ]
    return [
        replace(one, breaker=breakers.get(one.id), incident=open_.get(one.id))
        if one.id in breakers or one.id in open_
        else one
        for one in found
    ]


def _pasts(service_ids: Iterable[int], period: str) -> dict[int, _Past]:
    rows = ServiceSummary.objects.filter(service__in=list(service_ids), period=period)
    return {service_id: _Past(*told) for service_id, *told in rows.values_list("service_id", *_Past._fields)}


def ordered(services: QuerySet[Service]) -> QuerySet[Service]:
    """By urgency, then criticality, then name."""
    urgency = [When(status=status, then=Value(place)) for place, status in enumerate(URGENCY)]
    weight = [When(criticality=word, then=Value(place)) for place, word in enumerate(Criticality)]
    return services.alias(
        urgency=Case(*urgency, default=Value(9), output_field=IntegerField()),
        weight=Case(*weight, default=Value(9), output_field=IntegerField()),
    ).order_by("urgency", "weight", "slug")


def _matching(wanted: Filter) -> QuerySet[Service]:
    services = Service.objects.filter(archived_at=None, status__in=STATES[wanted.state])
    for word in wanted.query.replace("\x00", "").split()[:8]:
        named = Q(slug__icontains=word) | Q(name__icontains=word) | Q(provider__icontains=word)
        has_check = Q(checks__name__icontains=word, checks__archived_at=None)
        services = services.filter(Q(id__in=Service.objects.filter(named | has_check).values("id")))
    return services


def _checks(service_ids: Iterable[int], now: datetime) -> dict[int, list[CheckView]]:
    """By service. Read as plain values: a page has hundreds of checks, and a model for each is half its time."""
    rows = (
        CheckState.objects.filter(check_ref__service__in=list(service_ids), check_ref__archived_at=None)
        .order_by("check_ref_id")
        .values_list("check_ref__service_id", *_CHECK_COLUMNS)
    )
    found: dict[int, list[CheckView]] = defaultdict(list)
    for service_id, *values in rows:
        check = CheckView._make(values)
        status = Status.PAUSED if is_paused(check, now) else Status(check.status)
        found[service_id].append(check._replace(status=status))
    return found


_OF_CHECK = {"name", "kind", "interval", "timeout", "degraded_over"}
_OF_CHECK |= {"paused_at", "paused_until", "paused_by", "paused_reason"}
_ELSEWHERE = {"id": "check_ref_id", "since": "status_since", "heartbeat_token": "check_ref__heartbeat__token"}
_CHECK_COLUMNS = [
    f"check_ref__{name}" if name in _OF_CHECK else _ELSEWHERE.get(name, name) for name in CheckView._fields
]
"""Where each field of a :class:`CheckView` comes from, seen from its ``CheckState``."""


def _view(
    service: Service,
    checks: list[CheckView],
    summary: _Past | None,
    period: Period,
    windows: list[MaintenanceWindow],
    now: datetime,
) -> ServiceView:
    status = Status(service.status)
    main = main_check(checks)
    # The last outcome explains the status only while it agrees with it: a check that recovers says so
    # before its recovery is confirmed.
    explained = main is not None and status in UNHEALTHY and main.status == status == main.outcome
    missing = sorted({name for check in checks for name in check.missing})
    held = status is Status.DEGRADED and all(check.status not in UNHEALTHY for check in checks)  # by its breaker
    return ServiceView(
        id=service.id,
        slug=service.slug,
        label=service.label,
        provider=service.provider,
        provider_label=_provider_label(service.provider),
        criticality=Criticality(service.criticality),
        status=status,
        since=service.status_since,
        reason=f"{main.name}: {main.message}" if explained and main and main.message else service.reason,
        category=Category.BREAKER_OPEN.value if held else main.category if explained and main else "",
        checks=checks,
        main=main,
        bar=_bar(summary, period, now),
        uptime=summary.uptime if summary else None,
        p50_ms=summary.p50_ms if summary else None,
        p95_ms=summary.p95_ms if summary else None,
        maintenance=next(iter(maintenance.of_service(windows, service.id)), None),
        advice=HELD if held else advice(status, main if explained else None, missing),
    )


def main_check(checks: Sequence[CheckView]) -> CheckView | None:
    """The check whose numbers stand for its service: the worst, and of those the one that tells most."""
    depth = {"functionality": 0, "authentication": 2, "connectivity": 3, "status_page": 4}

    def rank(check: CheckView) -> tuple[int, bool, int, int]:
        recovering = check.status in UNHEALTHY and check.outcome != check.status
        return URGENCY.index(check.status), recovering, depth.get(check.kind, 1), check.id

    probed = [check for check in checks if check.checked_at and check.status is not Status.NOT_CONFIGURED]
    return min(probed or checks, key=rank, default=None)


def _bar(summary: _Past | None, period: Period, now: datetime) -> Strip:
    if summary is None:
        return history.strip(period.first_start(now), period, "." * SLOTS, {})
    return history.strip(summary.first_start, period, summary.bar, summary.notes)


def _provider_label(slug: str) -> str:
    try:
        return providers.get(slug).label
    except LookupError:
        return slug
