"""The overview's small panels: the four answers, the last hour, what comes up. A few queries each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Aggregate, Exists, FloatField, OuterRef, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from monitoring import maintenance
from monitoring.incidentmodels import Verdict
from monitoring.models import CheckState, Incident, Service, StateChange
from monitoring.overview import UNHEALTHY, Overall
from wsmon.vocabulary import Status

NAMES_SHOWN = 3
CHANGES_SHOWN = 8
AHEAD = timedelta(days=30)
DAYS_LEFT = ("tls_days_left", "credential_days_left", "days_left")
"""Details in which probes report that something ends."""


class Median(Aggregate):
    """PostgreSQL's continuous median."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


@dataclass(frozen=True, slots=True)
class Named:
    """The services of one side, by name; ``more`` says how many names were left out."""

    count: int
    names: list[str]

    @property
    def more(self) -> int:
        """How many are not named."""
        return self.count - len(self.names)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the overview's first strip answers."""

    overall: Overall
    ours: Named
    theirs: Named
    median_ms: float | None
    slowest_ms: float | None
    slowest: Service | None
    last_change: StateChange | None
    changes_24h: int
    elsewhere: list[SafeString]
    """What other rooms answer, rendered; empty: they have nothing to say yet."""

    @property
    def troubles(self) -> list[tuple[str, int]]:
        """Counts of the states that are not healthy, worst first."""
        words = (Status.CRITICAL, Status.DEGRADED, Status.ERROR)
        return [(word.value, self.overall.by_status[word]) for word in words if self.overall.by_status.get(word)]

    @property
    def uncounted(self) -> int:
        """Services that the overall state leaves out."""
        return self.overall.total - self.overall.counted


@dataclass(frozen=True, slots=True)
class Ahead:
    """Something that will happen: a maintenance window, a certificate or credential that ends."""

    at: datetime
    title: str
    text: str
    icon: str
    slug: str = ""
    urgent: bool = field(default=False)


def answers(overall: Overall) -> Answers:
    """The four answers; five small queries."""
    changes = StateChange.objects.filter(check_ref=None).select_related("service")
    day = timezone.now() - timedelta(days=1)
    ours, theirs = _sides()
    speed = _measured().aggregate(median=Median("total_ms"))
    slow = _slowest()
    return Answers(
        overall=overall,
        ours=ours,
        theirs=theirs,
        median_ms=speed["median"],
        slowest_ms=slow.total_ms if slow else None,
        slowest=slow.check_ref.service if slow else None,
        last_change=changes.exclude(old=Status.UNKNOWN).first(),
        changes_24h=changes.filter(at__gte=day).exclude(old=Status.UNKNOWN).count(),
        elsewhere=_elsewhere(),
    )


def _elsewhere() -> list[SafeString]:
    contexts = ((import_string(path)(), template) for path, template in settings.ANSWERS)
    return [render_to_string(template, context) for context, template in contexts if context is not None]


def last_hour() -> list[StateChange]:
    """The services' state changes of the last hour, newest first."""
    since = timezone.now() - timedelta(hours=1)
    changes = StateChange.objects.filter(check_ref=None, at__gte=since, service__archived_at=None)
    return list(changes.select_related("service")[:CHANGES_SHOWN])


def coming_up() -> list[Ahead]:
    """Maintenance windows and ends of certificates and credentials within 30 days, soonest first."""
    now = timezone.now()
    found = [_planned(one) for one in maintenance.upcoming(maintenance.relevant(now), now, AHEAD)]
    found += _ending(now)
    return sorted(found, key=lambda ahead: ahead.at)[:6]


def _slowest() -> CheckState | None:
    rows = _measured().order_by("-total_ms").select_related("check_ref__service")
    return rows.only("total_ms", "check_ref__service__slug", "check_ref__service__name").first()


def _measured() -> QuerySet[CheckState]:
    """Checks with a response time that counts: probed, not paused, not archived."""
    return CheckState.objects.filter(
        total_ms__isnull=False,
        check_ref__archived_at=None,
        check_ref__paused_at=None,
        check_ref__service__archived_at=None,
    )


def _sides() -> tuple[Named, Named]:
    """Services whose trouble is ours, by their incident's verdict too, and those whose is theirs; longest first."""
    judged = Incident.objects.filter(service=OuterRef("pk"), closed_at=None, verdict=Verdict.OURS)
    rows = Service.objects.filter(archived_at=None, status__in=UNHEALTHY).annotate(is_ours=Exists(judged))
    ours: list[str] = []
    theirs: list[str] = []
    for service in rows.order_by("status_since").only("slug", "name", "status"):
        (ours if service.status == Status.ERROR or service.is_ours else theirs).append(service.label)
    return Named(len(ours), ours[:NAMES_SHOWN]), Named(len(theirs), theirs[:NAMES_SHOWN])


def _planned(occurrence: maintenance.Occurrence) -> Ahead:
    window = occurrence.window
    name = window.service.label if window.service else "All services"
    minutes = round((occurrence.ends_at - occurrence.starts_at).total_seconds() / 60)
    length = f"{minutes} min" if minutes < 120 else f"{minutes / 60:g} h"
    slug = window.service.slug if window.service else ""
    return Ahead(occurrence.starts_at, f"{name}: maintenance, {length}", window.reason, "tool", slug)


def _ending(now: datetime) -> list[Ahead]:
    states = CheckState.objects.filter(
        details__has_any_keys=DAYS_LEFT, check_ref__archived_at=None, check_ref__service__archived_at=None
    ).select_related("check_ref__service")
    found: dict[int, Ahead] = {}
    for state in states.only("details", "checked_at", "check_ref__service__slug", "check_ref__service__name"):
        key = next(name for name in DAYS_LEFT if name in state.details)
        days, service = state.details[key], state.check_ref.service
        if not isinstance(days, int | float) or not -AHEAD.days <= days <= AHEAD.days or not state.checked_at:
            continue
        at = state.checked_at + timedelta(days=float(days))
        what = "TLS certificate" if key.startswith("tls") else "credential"
        title = f"{service.label}: {what} {'ends' if at > now else 'has ended'}"
        if service.id not in found or at < found[service.id].at:
            found[service.id] = Ahead(at, title, "", "key", service.slug, urgent=days < 14)
    return list(found.values())
