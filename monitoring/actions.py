"""What people do to services and checks: pause, resume, plan maintenance. Each leaves an audit row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from monitoring import maintenance, storable
from monitoring.models import Check, CheckState, MaintenanceWindow, Service, StateChange
from monitoring.statuses import settle_services
from wsmon import live
from wsmon.audit import Actor, record
from wsmon.vocabulary import Status


class Refused(ValueError):
    """An action cannot be done; the message says why and may be shown."""


@transaction.atomic
def pause(checks: Iterable[Check], actor: Actor, reason: str, until: datetime | None = None) -> int:
    """Stop probing ``checks``, for good or until a time; return how many were not paused before."""
    now = timezone.now()
    reason = required(reason)
    if until is not None and until <= now:
        raise Refused("the end of the pause must be in the future")
    rows = _locked(checks, paused=False)
    for check in rows:
        check.paused_at, check.paused_until = now, until
        check.paused_by, check.paused_reason = actor.name[:200], reason[:500]
        check.save(update_fields=["paused_at", "paused_until", "paused_by", "paused_reason"])
        _audit(actor, "check.pause", check, reason, until=until and until.isoformat())
    _changed(rows, Status.PAUSED, f"paused by {actor.name}: {reason}", now)
    return len(rows)


@transaction.atomic
def resume(checks: Iterable[Check], actor: Actor, reason: str = "") -> int:
    """Probe ``checks`` again, at once; return how many were paused."""
    now = timezone.now()
    reason = cleaned(reason)
    rows = _locked(checks, paused=True)
    for check in rows:
        check.paused_at = check.paused_until = None
        check.paused_by = check.paused_reason = ""
        check.save(update_fields=["paused_at", "paused_until", "paused_by", "paused_reason"])
        _audit(actor, "check.resume", check, reason)
    _changed(rows, Status.UNKNOWN, f"resumed by {actor.name}", now)
    return len(rows)


def resume_expired() -> int:
    """Resume the checks whose pause has come to its end."""
    expired = list(Check.objects.filter(paused_until__lte=timezone.now(), archived_at=None))
    return resume(expired, Actor.system("wsmon"), "the pause has ended") if expired else 0


@transaction.atomic
def start_maintenance(
    service: Service | None,
    starts_at: datetime,
    ends_at: datetime,
    reason: str,
    actor: Actor,
    recurrence: str = "",
    time_zone: str = "UTC",
) -> MaintenanceWindow:
    """Plan a maintenance window of one service, or (None) of all. Raises :class:`Refused`."""
    reason = required(reason)
    _check_window(starts_at, ends_at, recurrence, time_zone)
    window = MaintenanceWindow.objects.create(
        service=service,
        starts_at=starts_at,
        ends_at=ends_at,
        reason=reason[:500],
        created_by=actor.name[:200],
        recurrence=recurrence,
        time_zone=time_zone,
    )
    times = {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat(), "recurrence": recurrence}
    record(actor, "maintenance.start", target_of(service), reason, **times)
    _announce(service)
    return window


@transaction.atomic
def cancel_maintenance(window: MaintenanceWindow, actor: Actor) -> bool:
    """End a window and all its further occurrences; False when somebody did so before."""
    cancelled = MaintenanceWindow.objects.filter(id=window.id, cancelled_at=None).update(cancelled_at=Now())
    if cancelled:
        record(actor, "maintenance.cancel", target_of(window.service), window.reason)
        _announce(window.service)
    return bool(cancelled)


def due_now(check_ids: Sequence[int]) -> None:
    """Make checks due at once: their configuration changed, or a cron job called."""
    CheckState.objects.filter(check_ref_id__in=check_ids).update(next_due_at=Now())


def required(reason: str) -> str:
    """A reason as it is kept; raises :class:`Refused` without one."""
    found = cleaned(reason)
    if not found:
        raise Refused("a reason is required")
    return found


def cleaned(reason: str) -> str:
    """A reason as it is kept; it may be empty."""
    return storable.text(reason.strip(), 500)


def target_of(service: Service | None) -> str:
    """What the audit calls a service, or (None) all of them."""
    return f"service:{service.slug}" if service else "service:*"


def _check_window(starts_at: datetime, ends_at: datetime, recurrence: str, time_zone: str) -> None:
    if ends_at <= starts_at:
        raise Refused("the end must be after the start")
    if ends_at - starts_at > maintenance.LONGEST:
        raise Refused(f"a window may last {maintenance.LONGEST.days} days at most")
    if not recurrence and ends_at <= timezone.now():
        raise Refused("the end must be in the future")
    try:
        ZoneInfo(time_zone)
    except (ValueError, KeyError, OSError):
        raise Refused("no time zone of that name is known") from None
    try:
        if recurrence:
            maintenance.check_recurrence(recurrence)
    except ValueError as problem:
        raise Refused(str(problem)) from None


def _locked(checks: Iterable[Check], *, paused: bool) -> list[Check]:
    ids = [check.id for check in checks]
    # No key lock: a result of the check may be stored meanwhile, and its state change refers to the check.
    rows = Check.objects.select_for_update(of=("self",), no_key=True).select_related("service").order_by("id")
    active = Q(paused_at=None)
    if not paused:
        active |= Q(paused_until__lte=timezone.now())  # a pause that has ended may be followed by another
    return list(rows.filter(~active if paused else active, id__in=ids, archived_at=None))


def _changed(checks: Sequence[Check], status: Status, reason: str, now: datetime) -> None:
    """Give ``checks`` a status by hand, with its history, and settle their services."""
    if not checks:
        return
    states = {
        state.check_ref_id: state
        for state in CheckState.objects.select_for_update().filter(check_ref__in=checks).order_by("check_ref_id")
    }
    for check in checks:
        state = states[check.id]
        if status is not Status.PAUSED and state.status != Status.PAUSED:
            continue  # probed since its pause ended by itself: its status is a true one
        StateChange.objects.create(
            at=now,
            service_id=check.service_id,
            check_ref=check,
            old=state.status,
            new=status,
            reason=reason[:500],
        )
        state.status, state.status_since, state.recent = status, now, []
        state.lease_token = state.lease_until = state.lease_owner = None  # a probe under way no longer counts
        fields = ["status", "status_since", "recent", "lease_token", "lease_until", "lease_owner"]
        if status is not Status.PAUSED:
            state.next_due_at = now
            fields.append("next_due_at")
        state.save(update_fields=fields)
    services = {check.service_id: now for check in checks}
    settle_services(services)
    live.publish("state", {"services": sorted(services)})


def _audit(actor: Actor, action: str, check: Check, reason: str, **details: object) -> None:
    record(actor, action, f"check:{check.service.slug}/{check.name}", reason, **details)


def _announce(service: Service | None) -> None:
    ids = [service.id] if service else list(Service.objects.filter(archived_at=None).values_list("id", flat=True))
    if ids:
        live.publish("state", {"services": ids})
