"""What people do to incidents. Each leaves an audit row and a line in the timeline, in one transaction."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from monitoring import storable
from monitoring.actions import Refused
from monitoring.incidents import store
from monitoring.models import Alert, Incident, Service
from monitoring.notifications import outbox
from wsmon import live
from wsmon.audit import Actor, record
from wsmon.redact import redact
from wsmon.vocabulary import Status


class Taken(Refused):
    """Somebody else was first. ``by`` and ``at`` say who and when."""

    def __init__(self, by: str, at: datetime) -> None:
        super().__init__(f"{by or 'somebody'} has acknowledged it already")
        self.by = by
        self.at = at


@transaction.atomic
def acknowledge(incident_id: int, actor: Actor, how: str = "") -> Incident:
    """Say that one has it: escalation stops. Raises :class:`Taken`, or :class:`Refused` when it is over.

    ``how`` is told in the timeline: "by the link in the message".
    """
    incident = _locked(incident_id)
    if incident.closed_at is not None:
        raise Refused("it is over already")
    if incident.acknowledged_at is not None:
        raise Taken(incident.acknowledged_by, incident.acknowledged_at)
    now = timezone.now()
    incident.acknowledged_at, incident.acknowledged_by = now, actor.name[:200]
    if incident.assignee_id is None and actor.user is not None:
        incident.assignee = actor.user
    incident.save(update_fields=["acknowledged_at", "acknowledged_by", "assignee"])
    alerts = Alert.objects.filter(incident=incident, resolved_at=None, acknowledged_at=None)
    ids = list(alerts.values_list("id", flat=True))
    Alert.objects.filter(id__in=ids).update(acknowledged_at=now, acknowledged_by=actor.name[:200], next_step_at=None)
    for alert_id in ids:
        outbox.drop_held(alert_id, f"acknowledged by {actor.name}")
    if ids:
        live.publish("alert", {"alerts": ids})
    store.write(incident, "acknowledged", f"acknowledged{f' {how}' if how else ''}", now, by=actor.name)
    _done(incident, actor, "acknowledge")
    return incident


@transaction.atomic
def assign(incident_id: int, to: User | None, actor: Actor) -> Incident:
    """Give an incident to somebody, or (None) to nobody."""
    incident = _locked(incident_id)
    incident.assignee = to
    incident.save(update_fields=["assignee"])
    whom = to.get_username() if to else "nobody"
    store.write(incident, "assigned", f"assigned it to {whom}", by=actor.name)
    _done(incident, actor, "assign", to=whom)
    return incident


@transaction.atomic
def note(incident_id: int, text: str, actor: Actor) -> Incident:
    """Write down what was seen or done. Secrets in it are masked."""
    incident = _locked(incident_id)
    words = redact(_words(text, 4000, "a note needs words"))
    store.write(incident, "note", "wrote a note", by=actor.name, detail=words)
    _done(incident, actor, "note", words)
    return incident


@transaction.atomic
def resolve(incident_id: int, reason: str, actor: Actor) -> Incident:
    """Say that it is over. While the service still fails it stays so, unless it gets worse.

    Raises :class:`Refused` when it is over already.
    """
    incident = _locked(incident_id)
    words = redact(_words(reason, 500))
    if incident.closed_at is not None:
        raise Refused("it is over already")
    store.close(incident, timezone.now(), f"resolved it: {words}", actor.name)
    failing = incident.service.status if incident.service.status != Status.HEALTHY else ""
    _done(incident, actor, "resolve", words, service_is=failing)
    return incident


@transaction.atomic
def reopen(incident_id: int, reason: str, actor: Actor) -> Incident:
    """Say that it is not over. Raises :class:`Refused` when it is open, or another one of its service is."""
    incident = _locked(incident_id)
    words = redact(_words(reason, 500))
    if incident.closed_at is None:
        raise Refused("it is open already")
    if incident.service.archived_at is not None:
        raise Refused("its service was removed")
    other = Incident.objects.filter(service=incident.service_id, closed_at=None).first()
    if other is not None:
        raise Refused(f"incident #{other.id} of the same service is open")
    store.reopen(incident, timezone.now(), f"reopened it: {words}", actor.name)
    _done(incident, actor, "reopen", words)
    return incident


def _locked(incident_id: int) -> Incident:
    """The incident, after its service: in this order settling locks them too."""
    service_id = Incident.objects.values_list("service_id", flat=True).get(id=incident_id)
    locked = Incident.objects.select_for_update(of=("self",)).select_related("service", "assignee")
    list(Service.objects.select_for_update(no_key=True).filter(id=service_id).values_list("id"))
    return locked.get(id=incident_id)


def _words(text: str, most: int, missing: str = "a reason is required") -> str:
    words = storable.text(text.strip(), most)
    if not words:
        raise Refused(missing)
    return words


def _done(incident: Incident, actor: Actor, verb: str, reason: str = "", **details: object) -> None:
    record(actor, f"incident.{verb}", f"incident:{incident.id}", reason, service=incident.service.slug, **details)
    store.announce(incident, row=True)
