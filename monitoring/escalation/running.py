"""Climbing: alerts that nobody acknowledges are taken to their next step when it is due, each second.

The step, its messages and when the next one is due are one transaction, with the alert's row locked: of several
workers one takes a step, and one that is killed has taken it or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from monitoring.alertmodels import RANKS
from monitoring.critical import inforce
from monitoring.escalation import ladder, oncall
from monitoring.escalation.ladder import Place, Policy, Step
from monitoring.escalation.oncall import PREFIX
from monitoring.models import Alert, Escalation, Incident, IncidentEntry, Notification
from monitoring.notifications import outbox
from monitoring.notifications.outbox import Target
from monitoring.notifications.routing import What
from wsmon import live

logger = structlog.get_logger(__name__)

MOST = 200
"""Alerts of one look; the next comes within a second."""


def run_due(now: datetime | None = None) -> int:
    """Each second: let new alerts follow their policy, take the steps that are due; how many were taken.

    One cheap query while there is nothing to do.
    """
    moment = now or timezone.now()
    policies = {policy.slug: policy for policy in map(policy_of, rows())}
    stop()
    if not policies:
        return 0
    enrol(policies.values(), moment)
    return sum(_step(alert_id, policies, moment) for alert_id in _due(policies.values(), moment))


def rows() -> QuerySet[Escalation]:
    """The policies in use."""
    return Escalation.objects.filter(archived_at=None).order_by("slug")


def policy_of(row: Escalation) -> Policy:
    """A policy's row as ``ladder`` wants it."""
    return Policy(row.slug, ladder.rungs_of(row.steps), row.remind_every, frozenset(row.services), row.min_severity)


# Who climbs ---------------------------------------------------------------------------------------


def waiting() -> QuerySet[Alert]:
    """Alerts that wait for somebody: open, told, and acknowledged by nobody, nor their incident."""
    return Alert.objects.filter(resolved_at=None, acknowledged_at=None, inhibited_by="").exclude(
        incident__acknowledged_at__isnull=False
    )


def stop() -> int:
    """Alerts that somebody has climb no further; one that is given back begins anew."""
    taken = Q(acknowledged_at__isnull=False) | Q(incident__acknowledged_at__isnull=False)
    ids = list(Alert.objects.filter(taken, next_step_at__isnull=False).values_list("id", flat=True)[:MOST])
    return Alert.objects.filter(id__in=ids).update(next_step_at=None, escalation="") if ids else 0


def enrol(policies: Iterable[Policy], now: datetime) -> int:
    """Let alerts that follow no policy yet follow the one that fits."""
    known = list(policies)
    least = min((RANKS[policy.min_severity] for policy in known), default=len(RANKS))
    grave = [severity for severity, rank in RANKS.items() if rank >= least]
    rows = waiting().filter(escalation="", severity__in=grave).select_related("service")
    begun = 0
    for alert in rows.order_by("id")[: MOST * 5]:
        policy = ladder.choose(known, alert.severity, alert.service.slug if alert.service else None)
        if policy is not None:
            place = ladder.begin(policy, now, everybody=alert.kind == inforce.EMERGENCY_KIND)
            free = Alert.objects.filter(id=alert.id, escalation="", resolved_at=None, acknowledged_at=None)
            begun += free.update(escalation=policy.slug, step=0, next_step_at=place.due_at)
    return begun


def _due(policies: Iterable[Policy], now: datetime) -> list[int]:
    """Alerts whose next step is due, and those whose step is due later than any can be."""
    longest = max((policy.longest_wait for policy in policies), default=timedelta(0))
    due = Q(next_step_at__lte=now) | Q(next_step_at__gt=now + longest + ladder.JUMP)
    rows = waiting().filter(due, next_step_at__isnull=False)
    return list(rows.order_by("next_step_at", "id").values_list("id", flat=True)[:MOST])


# One step -----------------------------------------------------------------------------------------


def _step(alert_id: int, policies: dict[str, Policy], now: datetime) -> bool:
    """Take one alert's step, in one transaction; False when another worker is at it, or there is none."""
    try:
        with transaction.atomic():
            if not _lock_incident(alert_id):
                return False
            locked = waiting().select_for_update(of=("self",), skip_locked=True).filter(id=alert_id)
            alert = locked.select_related("service").first()
            return alert is not None and take(alert, policies.get(alert.escalation), now)
    except Exception:
        logger.exception("an escalation step failed", alert=alert_id)
        Alert.objects.filter(id=alert_id, resolved_at=None).update(next_step_at=now + timedelta(minutes=1))
        return False


def _lock_incident(alert_id: int) -> bool:
    """Locks are taken in this order everywhere: service, incident, alert. False while somebody else has it."""
    number = Alert.objects.filter(id=alert_id).values_list("incident_id", flat=True).first()
    if number is None:
        return True
    rows = Incident.objects.select_for_update(of=("self",), no_key=True, skip_locked=True).filter(id=number)
    return rows.first() is not None


def take(alert: Alert, policy: Policy | None, now: datetime) -> bool:
    """Take the step that is due of a locked alert. A policy that is gone is left: another may fit."""
    if policy is None:
        Alert.objects.filter(id=alert.id).update(escalation="", step=0, next_step_at=None)
        return False
    place = ladder.put_right(policy, Place(alert.step, alert.next_step_at), now)
    everybody = alert.kind == inforce.EMERGENCY_KIND
    critical_day = inforce.is_critical(now, alert.service_id)
    step = ladder.next_step(policy, place, now, critical_day, everybody=everybody)
    if step is None:
        Alert.objects.filter(id=alert.id).update(next_step_at=place.due_at)
        return False
    reached = _tell(alert, policy, step, now)
    if not reached:  # there is an alert about that, see ``gaps``; whoever comes next is not kept waiting
        logger.warning("an escalation reached nobody", policy=policy.slug, step=step.taken, alert=alert.id)
    next_at = step.next_at if reached or step.reminder or step.taken >= len(policy.rungs) else now
    Alert.objects.filter(id=alert.id).update(step=step.taken, next_step_at=next_at)
    live.publish("alert", {"alerts": [alert.id]})
    return True


def _tell(alert: Alert, policy: Policy, step: Step, now: datetime) -> list[str]:
    """Write the messages; whom they reach, in words."""
    wanted = targets(step.notify, now)
    knowing = _knowing(alert) if step.opening else set()
    fresh = [one for one in wanted if one.channel not in knowing]
    what = What.REMINDER if step.reminder else What.ESCALATED
    turn = f"{policy.slug}:{step.taken}:{now:%Y%m%dT%H%M%S}"
    written = set(outbox.tell_named(alert, what, fresh, turn, now))
    reached = [one for one in fresh if one.channel in written]
    words = [f"{one.recipient} by {one.channel}" if one.recipient else one.channel for one in reached]
    if alert.incident_id and words and not step.opening:
        verb = "Reminded" if step.reminder else "Escalated"
        IncidentEntry.objects.create(
            incident_id=alert.incident_id,
            at=now,
            kind=IncidentEntry.Kind.ESCALATED,
            text=f"{verb} ({ladder.words(policy, step.taken)} of {policy.slug}): {', '.join(words)}"[:500],
        )
    return words + [channel for channel in knowing if channel in {one.channel for one in wanted}]


def targets(names: Sequence[str], now: datetime) -> list[Target]:
    """Channels and rotations as channels, each once: whoever is on call by theirs, named."""
    rotations = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    duty = oncall.now_on_call(now, rotations) if rotations else {}
    found: dict[str, Target] = {}
    for name in names:
        if not name.startswith(PREFIX):
            found.setdefault(name, Target(name))
            continue
        of = duty.get(name.removeprefix(PREFIX))
        for one in of.duties if of else ():
            for channel in one.person.channels:
                found[channel] = Target(channel, one.person.name)
    return list(found.values())


def _knowing(alert: Alert) -> set[str]:
    """Channels that have been told of the alert's opening."""
    rows: Any = Notification.objects.filter(alert=alert, kind=What.OPENED.value).exclude(state="dropped")
    return set(rows.values_list("channel__slug", flat=True))
