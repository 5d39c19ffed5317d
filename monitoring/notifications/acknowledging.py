"""Acknowledging an alert: somebody has it, so nobody else need be told. Of two at once one wins."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from monitoring.actions import Refused
from monitoring.incidents import actions as incidents
from monitoring.models import Alert
from monitoring.notifications import outbox
from wsmon import live
from wsmon.audit import Actor, record


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What came of it. ``mine``: it is theirs who asked; otherwise the alert says whose, or it is ``over``."""

    alert: Alert
    mine: bool
    over: bool = False


def acknowledge(alert_id: int, actor: Actor, reason: str = "", how: str = "") -> Acknowledged:
    """Acknowledge an open alert, and the incident that it tells of. Raises Alert.DoesNotExist.

    ``how`` is told in the incident's timeline: "by the link in the message".
    """
    with transaction.atomic():
        number = Alert.objects.only("incident_id").get(id=alert_id).incident_id
        if number is not None:
            return _by_incident(number, alert_id, actor, how or (f"({reason})" if reason else ""))
        rows = Alert.objects.select_for_update(of=("self",)).select_related("service")
        alert = rows.get(id=alert_id)
        if alert.resolved_at is not None:
            return Acknowledged(alert, mine=False, over=True)
        if alert.acknowledged_at is not None:
            return Acknowledged(alert, mine=False)
        alert.acknowledged_at, alert.acknowledged_by = timezone.now(), actor.name[:200]
        alert.next_step_at = None
        alert.save(update_fields=["acknowledged_at", "acknowledged_by", "next_step_at"])
        outbox.drop_held(alert.id, f"acknowledged by {actor.name}")
        record(actor, "alert.acknowledge", f"alert:{alert.key}", reason)
        live.publish("alert", {"alerts": [alert.id]})
    return Acknowledged(alert, mine=True)


def _by_incident(incident_id: int, alert_id: int, actor: Actor, how: str) -> Acknowledged:
    """The incident is what somebody has; its alerts follow it."""
    mine, over, taken_by = True, False, ""
    try:
        incidents.acknowledge(incident_id, actor, how)
    except incidents.Taken as taken:
        mine, taken_by = False, taken.by
    except Refused:
        mine, over = False, True
    alert = Alert.objects.select_related("service").get(id=alert_id)
    alert.acknowledged_by = alert.acknowledged_by or taken_by
    return Acknowledged(alert, mine, over)
