"""Writing incidents, in the transaction that sets the services' statuses. What to write is decided elsewhere.

The caller holds the services' rows (``statuses.settle_services``), so of one service nobody else opens or closes an
incident meanwhile. Locks are taken in this order: service, incident, alert. Thousands of services may fail within
a second: whatever is read or written is read or written for all of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Q

from monitoring import alerts, maintenance, storable
from monitoring.alerts import News
from monitoring.incidents import connectivity, deciding, findings, ownerrors
from monitoring.incidents.deciding import Standing, Step
from monitoring.incidents.findings import Found
from monitoring.models import Alert, CheckState, Incident, IncidentEntry, MaintenanceWindow, Posture, Service
from wsmon import live
from wsmon.vocabulary import Category, Criticality, Status

KIND = "incident"
BY_WSMON = "wsmon: "
"""Before the reason why wsmon closed an incident that nobody saw recover."""

_HEALING = (Status.HEALTHY, Status.PAUSED, Status.UNKNOWN, Status.NOT_CONFIGURED)
"""After these a failure is a new one, whatever a person said of the last."""


@dataclass(frozen=True, slots=True)
class Now:
    """What keeps people from being told of incidents that open: read once for all of them."""

    own: str = ""
    """The key of our own alert while it is us."""
    windows: tuple[MaintenanceWindow, ...] = ()
    """The maintenance windows in force."""


def _windows(at: datetime) -> tuple[MaintenanceWindow, ...]:
    return tuple(maintenance.in_force(maintenance.relevant(at), at))


def follow(services: Mapping[int, Service], states: Iterable[CheckState], changes: Mapping[int, datetime]) -> None:
    """Open, change and close the incidents of services, by id, after their status was set.

    ``states`` are those of their checks, ``changes`` the times. Inside the caller's transaction: about as many
    queries for a thousand of them as for one.
    """
    if not services:
        return
    standing = _standing(services)
    steps = {key: deciding.next_step(_of(standing.get(key)), Status(row.status)) for key, row in services.items()}
    unwell = [key for key, step in steps.items() if step not in (Step.NOTHING, Step.CLOSE, Step.ABANDON)]
    ours = {key for key, row in services.items() if row.status == Status.ERROR and key not in standing}
    found = findings.read([services[key] for key in {*unwell, *ours}], states)
    acts = _Acts()
    for key, step in steps.items():
        acts.add(step, standing.get(key), services[key], found.get(key), changes[key])
    own = connectivity.heed([found[key] for key in unwell])
    now = Now(own, _windows(max(changes.values()))) if acts.tell_anew else Now(own)
    _open(acts.opening, now)
    _change(acts.changing, now)
    close_all(acts.closing)
    ownerrors.settle(services, ours, found)


@dataclass(frozen=True, slots=True)
class Opening:
    """An incident that is to open."""

    found: Found
    at: datetime


@dataclass(frozen=True, slots=True)
class Changing:
    """An incident whose status is another one: ``CHANGE``, ``WORSE`` or ``REOPEN``."""

    step: Step
    incident: Incident
    found: Found
    at: datetime


@dataclass(frozen=True, slots=True)
class Closing:
    """An incident that is over: by a confirmed recovery, or (``by``) because a person, or wsmon, says so."""

    incident: Incident
    at: datetime
    why: str
    by: str = ""


@dataclass(slots=True)
class _Acts:
    """What is to be done, all of a kind together."""

    opening: list[Opening] = field(default_factory=list)
    changing: list[Changing] = field(default_factory=list)
    closing: list[Closing] = field(default_factory=list)

    @property
    def tell_anew(self) -> bool:
        """Whether any opens, for the first time or again: then what else is so decides whether people are told."""
        return bool(self.opening) or any(act.step is Step.REOPEN for act in self.changing)

    def add(self, step: Step, incident: Incident | None, service: Service, found: Found | None, at: datetime) -> None:
        """One service's step."""
        if step is Step.CLOSE and incident is not None:
            self.closing.append(Closing(incident, at, "The recovery is confirmed"))
        elif step is Step.ABANDON and incident is not None:
            word = Status(service.status).value.replace("_", " ")
            self.closing.append(Closing(incident, at, f"Nothing is probed any more: {word}", f"{BY_WSMON}{word}"))
        elif step is not Step.NOTHING and found is not None:
            if incident is None:
                self.opening.append(Opening(found, at))
            else:
                self.changing.append(Changing(step, incident, found, at))


def _standing(services: Mapping[int, Service]) -> dict[int, Incident]:
    """By service: its open incident, or the newest one that a person closed while it still fails."""
    open_ = Incident.objects.select_for_update(of=("self",)).filter(service__in=services, closed_at=None)
    found = {row.service_id: row for row in open_.order_by("id")}
    failing = [key for key, row in services.items() if key not in found and row.status in deciding.OPENING]
    if failing:
        found |= _dismissed(failing)
    for key, row in found.items():
        row.service = services[key]
    return found


_HEALED = """
SELECT i.service_id FROM unnest(%s::bigint[], %s::timestamptz[]) AS i(service_id, closed_at)
WHERE EXISTS (SELECT FROM monitoring_statechange s WHERE s.service_id = i.service_id AND s.check_id IS NULL
    AND s.at >= i.closed_at AND s.new = ANY(%s))
"""


def _dismissed(service_ids: list[int]) -> dict[int, Incident]:
    newest = Incident.objects.filter(service__in=service_ids).order_by("service_id", "-opened_at", "-id")
    rows = [row for row in newest.distinct("service_id") if row.closed_by and not row.closed_by.startswith(BY_WSMON)]
    if not rows:
        return {}
    with connection.cursor() as cursor:
        words = [word.value for word in _HEALING]
        cursor.execute(_HEALED, [[row.service_id for row in rows], [row.closed_at for row in rows], words])
        healed = {row[0] for row in cursor.fetchall()}
    return {row.service_id: row for row in rows if row.service_id not in healed}


def _of(incident: Incident | None) -> Standing | None:
    if incident is None:
        return None
    return Standing(Status(incident.status), Status(incident.worst), dismissed=incident.closed_at is not None)


# Acting -----------------------------------------------------------------------------------------------

# Should anybody have opened one of the same service meanwhile, it is theirs, and they tell of it.
_OPEN = """
INSERT INTO monitoring_incident (service_id, began_at, opened_at, closed_by, status, worst, category, title, reason,
    critical_day, verdict, confidence, evidence, acknowledged_by)
SELECT service_id, began_at, opened_at, '', status, status, category, title, reason,
    critical_day, 'unclear', 0, '[]', ''
FROM jsonb_to_recordset(%s::jsonb) AS r(service_id bigint, began_at timestamptz, opened_at timestamptz, status text,
    category text, title text, reason text, critical_day boolean)
ORDER BY service_id
ON CONFLICT (service_id) WHERE closed_at IS NULL DO NOTHING
RETURNING service_id, id
"""


def _open(acts: Sequence[Opening], now: Now) -> None:
    if not acts:
        return
    critical = Posture.objects.filter(service=None, critical=True).exists()
    made = [_new(act, critical_day=critical) for act in acts]
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, [json.dumps([_columns(row) for row in made])])
        ids = dict(cursor.fetchall())
    opened, entries = [], []
    for act, row in zip(acts, made, strict=True):
        if row.service_id in ids:
            row.id = ids[row.service_id]
            opened.append(row)
            names = " and ".join(act.found.checks[:3]) if act.found.checks else "its breaker"
            text = f"Incident opened: {names} {act.found.status.value}"
            entries.append(_entry(row, "opened", text, act.at, detail=row.service.reason))
    IncidentEntry.objects.bulk_create(entries)
    _tell([(row, _inhibited(row, now)) for row in opened])
    _announce(opened)


def _new(act: Opening, *, critical_day: bool) -> Incident:
    found = act.found
    return Incident(
        service=found.service,
        began_at=min(found.began_at or act.at, act.at),
        opened_at=act.at,
        status=found.status,
        worst=found.status,
        category=found.category,
        title=found.title,
        reason=found.service.reason,
        critical_day=critical_day,
    )


def _columns(row: Incident) -> dict[str, str | int | bool]:
    return {
        "service_id": row.service_id,
        "began_at": row.began_at.isoformat(),
        "opened_at": row.opened_at.isoformat(),
        "status": row.status,
        "category": row.category,
        "title": row.title,
        "reason": row.reason,
        "critical_day": row.critical_day,
    }


_CHANGED = ("id", "status", "worst", "category", "title", "reason")
_CHANGE = """
UPDATE monitoring_incident i
SET status = r.status, worst = r.worst, category = r.category, title = r.title, reason = r.reason
FROM jsonb_to_recordset(%s::jsonb)
    AS r(id bigint, status text, worst text, category text, title text, reason text) WHERE i.id = r.id
"""


def _change(acts: Sequence[Changing], now: Now) -> None:
    if not acts:
        return
    rows, entries, again = [], [], []
    for act in acts:
        incident, found = act.incident, act.found
        before, incident.status = incident.status, found.status
        if act.step is not Step.CHANGE:  # its words stay those of its worst
            incident.worst, incident.category = found.status, found.category
            incident.title, incident.reason = found.title, found.service.reason
        rows.append({name: getattr(incident, name) for name in _CHANGED})
        if act.step is Step.WORSE:
            text = f"Worse: {before} to {found.status.value}"
            entries.append(_entry(incident, "worse", text, act.at, detail=found.service.reason))
        elif act.step is Step.REOPEN:
            entries.append(_entry(incident, "reopened", "It got worse since it was resolved", act.at))
            again.append(incident)
    with connection.cursor() as cursor:
        cursor.execute(_CHANGE, [json.dumps(rows)])
    _not_over(again)
    IncidentEntry.objects.bulk_create(entries)
    _tell([(act.incident, _inhibited(act.incident, now) if act.step is Step.REOPEN else None) for act in acts])
    _announce([act.incident for act in acts])


_CLOSE = """
UPDATE monitoring_incident i SET closed_at = r.at, closed_by = r.by
FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[]) AS r(id, at, by) WHERE i.id = r.id
"""


def close(incident: Incident, at: datetime, why: str, by: str = "") -> None:
    """It is over: by a confirmed recovery, or (``by``) because a person, or wsmon, says so."""
    close_all([Closing(incident, at, why, by)])


def close_all(acts: Sequence[Closing]) -> None:
    """They are over."""
    if not acts:
        return
    entries = []
    for act in acts:
        incident = act.incident
        closed_at = max(act.at, incident.opened_at)
        incident.closed_at, incident.closed_by = closed_at, act.by[:200]
        by = "" if act.by.startswith(BY_WSMON) else act.by
        entries.append(_entry(incident, "resolved", act.why, closed_at, by=by))
    rows = [act.incident for act in acts]
    with connection.cursor() as cursor:
        columns = ([row.id for row in rows], [row.closed_at for row in rows], [row.closed_by for row in rows])
        cursor.execute(_CLOSE, columns)
    IncidentEntry.objects.bulk_create(entries)
    alerts.resolve_all([key_of(row) for row in rows])
    _announce(rows)


def let_go(service_ids: Collection[int], at: datetime) -> None:
    """Services were taken out of use: their incidents are over, and so is whatever alert is about one of them.

    Called in the transaction that archives them, and so holds their rows.
    """
    if not service_ids:
        return
    rows = Incident.objects.select_for_update(of=("self",)).select_related("service")
    standing = rows.filter(service__in=service_ids, closed_at=None).order_by("id")
    close_all([Closing(row, at, "The service was removed", f"{BY_WSMON}removed") for row in standing])
    # What leads elsewhere is about what goes on without the service: a webhook's source or destination.
    left = Alert.objects.filter(service__in=service_ids, resolved_at=None, url__startswith="/services/")
    alerts.resolve_all(list(left.values_list("key", flat=True)))


def reopen(incident: Incident, at: datetime, why: str, by: str = "") -> None:
    """It is not over after all; whoever had it has to take it again."""
    _not_over([incident])
    write(incident, "reopened", why, at, by=by)
    _tell([(incident, _inhibited(incident, Now(windows=_windows(at))))])
    announce(incident)


def _not_over(rows: Sequence[Incident]) -> None:
    for row in rows:
        row.closed_at, row.closed_by = None, ""
        row.acknowledged_at, row.acknowledged_by, row.assignee = None, "", None
    if rows:
        Incident.objects.filter(id__in=[row.id for row in rows]).update(
            closed_at=None, closed_by="", acknowledged_at=None, acknowledged_by="", assignee=None
        )


def _tell(told: Iterable[tuple[Incident, str | None]]) -> None:
    """Raise the incidents' alerts in their present words; with each why nobody is told (None: as it was)."""
    rows = list(told)
    held_back = {row.service_id for row, _why in rows if row.category == Category.BREAKER_OPEN}
    cut_off = findings.cut_off(held_back)
    alerts.raise_alerts([_news(row, why, cut_off=row.service_id in cut_off) for row, why in rows])


def _news(incident: Incident, inhibited_by: str | None, *, cut_off: bool) -> News:
    service = incident.service
    urgency = deciding.severity(Status(incident.status), Criticality(service.criticality), cut_off=cut_off)
    return News(
        key_of(incident),
        KIND,
        urgency,
        incident.title,
        service.reason or incident.reason,
        f"/incidents/{incident.id}/",
        service.id,
        incident.id,
        inhibited_by,
    )


def _inhibited(incident: Incident, now: Now) -> str:
    """Why nobody is told of it; empty when there is no such reason."""
    if now.own and connectivity.is_network(incident.category):
        return now.own
    window = next(iter(maintenance.of_service(now.windows, incident.service_id)), None)
    return f"maintenance: {window.reason}"[:200] if window else ""


_HELD = Q(inhibited_by__startswith="maintenance: ") | Q(inhibited_by__startswith=connectivity.KEY)
"""Alerts of which we held people back; others have reasons of their own (notifications.inhibition)."""


def uninhibit_all(now: datetime) -> int:
    """Tell people after all of incidents, the reason not to being over; of how many. At most 500 in one go."""
    held = Alert.objects.filter(_HELD, kind=KIND, resolved_at=None).order_by()
    reasons = set(held.values_list("inhibited_by", flat=True).distinct())
    if not reasons or not (doubtful := reasons - {connectivity.in_trouble()}):
        return 0
    ids = list(held.filter(inhibited_by__in=doubtful).values_list("incident_id", flat=True)[:500])
    with transaction.atomic():
        rows = Incident.objects.select_for_update(of=("self",), skip_locked=True).select_related("service")
        return _uninhibit(list(rows.filter(id__in=ids, closed_at=None).order_by("id")), now)


def uninhibit(incident: Incident, now: datetime) -> bool:
    """Tell people after all, once the reason not to is over; whether that is so. Its row is locked."""
    return bool(_uninhibit([incident], now))


def _uninhibit(incidents: Sequence[Incident], now: datetime) -> int:
    held = Alert.objects.filter(_HELD, key__in=[key_of(row) for row in incidents], resolved_at=None)
    why = dict(held.values_list("key", "inhibited_by"))
    if not why:
        return 0
    known = Now(connectivity.in_trouble(), _windows(now))
    reasons = ((row, _inhibited(row, known)) for row in incidents if key_of(row) in why)
    over = [(row, reason) for row, reason in reasons if reason != why[key_of(row)]]
    if over:
        _tell(over)
    return len(over)


def key_of(incident: Incident) -> str:
    """The key of the incident's alert."""
    return f"incident:{incident.id}"


def write(
    incident: Incident, kind: str, text: str, at: datetime | None = None, *, by: str = "", detail: str = ""
) -> IncidentEntry:
    """Add a line to the incident's timeline."""
    entry = _entry(incident, kind, text, at, by=by, detail=detail)
    entry.save()
    return entry


def _entry(
    incident: Incident, kind: str, text: str, at: datetime | None, *, by: str = "", detail: str = ""
) -> IncidentEntry:
    entry = IncidentEntry(
        incident=incident,
        kind=IncidentEntry.Kind(kind),
        text=storable.text(text, 500),
        detail=storable.text(detail, 4000),
        by=storable.text(by, 200),
    )
    if at is not None:
        entry.at = at
    return entry


def announce(incident: Incident, *, row: bool = False) -> None:
    """Tell every open page, when the present transaction commits; ``row``: the service's row tells it too."""
    _announce([incident])
    if row:
        live.publish("state", {"services": [incident.service_id]})


def _announce(rows: Sequence[Incident]) -> None:
    if rows:
        live.publish("incident", {"incidents": [row.id for row in rows]})
