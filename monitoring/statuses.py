"""The status of a service, kept in step with its checks'."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from django.db.models import Q
from django.utils import timezone

from monitoring.models import CheckState, Service, StateChange
from monitoring.verdict import CheckVerdict, ServiceVerdict, service_status
from wsmon.vocabulary import Status


def settle_services(changed: Mapping[int, datetime]) -> list[StateChange]:
    """Recompute the status of services (id -> time of the change) inside the caller's transaction.

    The service's row is locked first, so of two workers that change two of its checks the second sees
    the first one's change.
    """
    if not changed:
        return []
    # No key lock: rows that refer to the service may be written meanwhile.
    services = Service.objects.select_for_update(no_key=True).filter(id__in=changed).order_by("id")
    known = {service.id: service for service in services}
    verdicts: dict[int, list[CheckVerdict]] = {service_id: [] for service_id in known}
    for state in _states(list(known)):
        verdicts[state.check_ref.service_id].append(_verdict(state))
    found = []
    for service_id, service in known.items():
        change = _settle(service, service_status(verdicts[service_id]), changed[service_id])
        found += [change] if change else []
    return found


class Pausable(Protocol):
    """A check, or what a page knows of one."""

    @property
    def paused_at(self) -> datetime | None: ...

    @property
    def paused_until(self) -> datetime | None: ...


def is_paused(check: Pausable, now: datetime | None = None) -> bool:
    """Whether a check is paused at ``now``; a pause may end by itself."""
    if check.paused_at is None:
        return False
    return check.paused_until is None or check.paused_until > (now or timezone.now())


def _states(service_ids: list[int]) -> list[CheckState]:
    return list(
        CheckState.objects.select_related("check_ref")
        .filter(check_ref__service__in=service_ids)
        .filter(Q(check_ref__archived_at=None))
        .order_by("check_ref_id")
    )


def _verdict(state: CheckState) -> CheckVerdict:
    status = Status.PAUSED if is_paused(state.check_ref) else Status(state.status)
    return CheckVerdict(status, state.check_ref.name, state.message, state.category)


def _settle(service: Service, verdict: ServiceVerdict, at: datetime) -> StateChange | None:
    if verdict.status == service.status:
        return None
    old = service.status
    service.status, service.status_since, service.reason = verdict.status, at, verdict.reason
    service.save(update_fields=["status", "status_since", "reason"])
    return StateChange.objects.create(
        at=at, service=service, old=old, new=verdict.status, category=verdict.category, reason=verdict.reason
    )
