"""What pages and the API show of incidents: a fixed number of queries, whatever their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from monitoring import history
from monitoring.history import BadCursor
from monitoring.incidentmodels import Verdict
from monitoring.incidents import verdict
from monitoring.incidents.verdict import Judged
from monitoring.models import Incident

_STATES = {
    "all": Q(),
    "open": Q(closed_at=None),
    "unacknowledged": Q(closed_at=None, acknowledged_at=None),
    "closed": Q(closed_at__isnull=False),
}
BEFORE = timedelta(days=90)
"""How far back the page of one incident looks at the service's earlier ones."""
BEFORE_SHOWN = 10
_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Glance:
    """A service's open incident, for its row and page."""

    id: int
    acknowledged_by: str


def glance(service_ids: Iterable[int]) -> dict[int, Glance]:
    """The open incident of each of some services that has one; one query."""
    rows = Incident.objects.filter(service__in=list(service_ids), closed_at=None)
    return {row.service_id: Glance(row.id, row.acknowledged_by) for row in rows.only("service_id", "acknowledged_by")}


def open_count() -> int:
    """How many are open."""
    return Incident.objects.filter(closed_at=None, service__archived_at=None).count()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which incidents to show. Raises ``ValueError`` for unknown states and verdicts."""

    state: str = "all"
    service: str = ""
    verdict: str = ""
    since: datetime | None = None

    def __post_init__(self) -> None:
        if self.state not in _STATES:
            raise ValueError(f"no state {self.state}")
        if self.verdict:
            Verdict(self.verdict)

    def rows(self) -> QuerySet[Incident]:
        """Those that match, in no order."""
        rows = Incident.objects.select_related("service", "assignee").filter(_STATES[self.state])
        if self.service:
            rows = rows.filter(service__slug=self.service)
        if self.verdict:
            rows = rows.filter(verdict=self.verdict)
        if self.since is not None:
            rows = rows.filter(opened_at__gte=self.since)
        return rows


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """A page of incidents, newest first."""

    rows: list[Incident]
    next_cursor: str | None


def page(wanted: Filter, before: str | None = None, limit: int = 50) -> IncidentPage:
    """The newest that match, older than ``before``. Raises :class:`~monitoring.history.BadCursor`."""
    rows = wanted.rows().defer("evidence")
    if before:
        at, key = _parse(before)
        rows = rows.filter(Q(opened_at__lt=at) | Q(opened_at=at, id__lt=key))
    found = list(rows.order_by("-opened_at", "-id")[: limit + 1])
    shown = found[:limit]
    return IncidentPage(shown, history.cursor_of(shown[-1].opened_at, shown[-1].id) if len(found) > limit else None)


def counts() -> dict[str, int]:
    """How many there are in each state; one query."""
    return Incident.objects.aggregate(**{state: Count("id", filter=wanted) for state, wanted in _STATES.items()})


def _parse(text: str) -> tuple[datetime, int]:
    at, key = history.parse_cursor(text)
    if not 0 <= key < _MOST:
        raise BadCursor("not a cursor of this list")
    return at, key


# One incident ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """How long things took, in seconds; None: not yet, or never."""

    lasts: float
    """From the first failing probe to the recovery, or until now."""
    to_detect: float
    """From the first failing probe to the confirmation."""
    to_acknowledge: float | None
    """From the confirmation to whoever took it."""
    to_recover: float | None
    """From the confirmation to the confirmed recovery."""
    to_admit: float | None
    """From the first failing probe to the vendor's own word."""


def figures(incident: Incident, now: datetime | None = None) -> Figures:
    """The times of an incident."""
    end = incident.closed_at or now or timezone.now()
    return Figures(
        lasts=_between(incident.began_at, end) or 0.0,
        to_detect=_between(incident.began_at, incident.opened_at) or 0.0,
        to_acknowledge=_between(incident.opened_at, incident.acknowledged_at),
        to_recover=_between(incident.opened_at, incident.closed_at),
        to_admit=_between(incident.began_at, incident.admitted_at),
    )


def _between(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else max((end - start).total_seconds(), 0.0)


def judged(incident: Incident) -> Judged:
    """Its verdict with the evidence, as it was last written."""
    return verdict.judge(verdict.load(incident.evidence))


@dataclass(frozen=True, slots=True)
class Before:
    """The earlier incidents of the same service."""

    rows: list[Incident] = field(default_factory=list)
    number: int = 0
    seconds: float = 0.0
    """How long they lasted together."""


def before(incident: Incident) -> Before:
    """Those of the 90 days before it."""
    rows = Incident.objects.filter(
        service=incident.service_id, opened_at__gte=incident.opened_at - BEFORE, opened_at__lt=incident.opened_at
    )
    found = list(rows.exclude(id=incident.id).defer("evidence").order_by("-opened_at", "-id")[:500])
    return Before(found[:BEFORE_SHOWN], len(found), sum(figures(row).lasts for row in found))
