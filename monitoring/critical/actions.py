"""What people do about critical days: override the calendar, emergencies, let a deploy through.

Each leaves an audit row in the transaction of the change and takes effect at once. Of two people at the same time
the second acts on what the first has made of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from monitoring import alerts
from monitoring.actions import Refused, cleaned, required, target_of
from monitoring.alertmodels import Severity
from monitoring.critical import inforce
from monitoring.models import CriticalOverride, DeployPass, Emergency, Service
from wsmon.audit import Actor, record

TARGET = "critical-days"
PAGE = "/critical-days/"
LONGEST_OVERRIDE = timedelta(days=31)
EMERGENCY_LASTS = timedelta(hours=2)
PASS_LASTS = timedelta(hours=1)


@transaction.atomic
def override(on: bool, until: datetime, reason: str, actor: Actor, now: datetime | None = None) -> CriticalOverride:
    """Put a person's word above the calendar until a time; an earlier one ends. Raises :class:`Refused`."""
    now = now or timezone.now()
    reason = required(reason)
    if until <= now:
        raise Refused("the end must be in the future")
    if until > now + LONGEST_OVERRIDE:
        raise Refused(f"an override may last {LONGEST_OVERRIDE.days} days at most")
    inforce.locked()
    _end_overrides(now)
    made = CriticalOverride.objects.create(on=on, starts_at=now, ends_at=until, reason=reason, by=actor.name[:200])
    record(actor, "critical_day.override", TARGET, reason, on=on, until=until.isoformat())
    inforce.refresh(now, force=True)
    return made


@transaction.atomic
def end_override(actor: Actor, reason: str = "", now: datetime | None = None) -> bool:
    """Let the calendar decide again; False when it does so already. The reason may be empty."""
    now = now or timezone.now()
    inforce.locked()
    if not _end_overrides(now):
        return False
    record(actor, "critical_day.override_end", TARGET, cleaned(reason))
    inforce.refresh(now, force=True)
    return True


@transaction.atomic
def start_emergency(
    service: Service | None,
    reason: str,
    actor: Actor,
    now: datetime | None = None,
    lasts: timedelta = EMERGENCY_LASTS,
) -> Emergency:
    """Everything at its strictest, for one service or (None) all, until it ends by itself.

    Started again while it is on, it lasts from now. Raises :class:`Refused`.
    """
    now = now or timezone.now()
    reason = required(reason)
    if not timedelta(0) < lasts <= EMERGENCY_LASTS:
        raise Refused("an emergency lasts 2 h at most; it can be started again")
    inforce.locked()
    Emergency.objects.filter(service=service, ended_at=None).update(ended_at=now)
    made = Emergency.objects.create(
        service=service, starts_at=now, ends_at=now + lasts, reason=reason, by=actor.name[:200]
    )
    record(actor, "emergency.start", target_of(service), reason, until=made.ends_at.isoformat())
    inforce.refresh(now, force=True)
    named = service.label if service else "everything"
    alerts.raise_alert(
        inforce.emergency_key(service.slug if service else ""),
        inforce.EMERGENCY_KIND,
        Severity.CRITICAL,
        f"Emergency mode for {named}",
        f"{reason}. Started by {actor.name}; it ends by itself at {made.ends_at:%H:%M} UTC.",
        PAGE,
        service,
    )
    return made


@transaction.atomic
def end_emergency(emergency: Emergency, actor: Actor, reason: str = "", now: datetime | None = None) -> bool:
    """End an emergency; False when it was over already. The reason may be empty."""
    now = now or timezone.now()
    inforce.locked()
    if not Emergency.objects.filter(id=emergency.id, ended_at=None).update(ended_at=now):
        return False
    record(actor, "emergency.end", target_of(emergency.service), cleaned(reason))
    inforce.refresh(now, force=True)
    return True


@transaction.atomic
def allow_deploy(reason: str, actor: Actor, now: datetime | None = None) -> DeployPass:
    """Let the next pipeline that asks through the freeze, within the hour. Raises :class:`Refused`."""
    now = now or timezone.now()
    reason = required(reason)
    inforce.locked()
    if not inforce.now_in_force(now).frozen:  # what was last written may be older than a boundary or a change
        raise Refused("deployments are not frozen")
    made = DeployPass.objects.create(reason=reason, by=actor.name[:200], created_at=now, expires_at=now + PASS_LASTS)
    record(actor, "deploy.allow", TARGET, reason, until=made.expires_at.isoformat())
    return made


def _end_overrides(now: datetime) -> int:
    return CriticalOverride.objects.filter(ended_at=None).update(ended_at=now)
