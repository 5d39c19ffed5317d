"""The status of a service, kept in step with its checks'."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from monitoring import checkstates
from monitoring.incidents import store as incidents
from monitoring.models import Breaker, CheckState, Service, StateChange
from monitoring.verdict import CheckVerdict, ServiceVerdict, service_status
from wsmon.vocabulary import Status


def settle_services(changed: Mapping[int, datetime]) -> list[StateChange]:
    """Recompute the status of services (id -> time of the change) inside the caller's transaction.

    Their incidents open, change and close along with it.

    The service's row is locked first, so of two workers that change two of its checks the second sees
    the first one's change.
    """
    if not changed:
        return []
    # No key lock: rows that refer to the service may be written meanwhile.
    services = Service.objects.select_for_update(no_key=True).filter(id__in=changed).order_by("id")
    known = {service.id: service for service in services}
    verdicts: dict[int, list[CheckVerdict]] = {service_id: [] for service_id in known}
    states = checkstates.of_services(known)
    for state in states:
        verdicts[state.check_ref.service_id].append(_verdict(state))
    open_ = _open_breakers(list(known))
    found = []
    for service_id, service in known.items():
        verdict = service_status(verdicts[service_id], open_.get(service_id, ""))
        if verdict.status != service.status:
            found.append(_changed(service, verdict, changed[service_id]))
    _write(found)
    incidents.follow(known, states, changed)
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


def _open_breakers(service_ids: list[int]) -> dict[int, str]:
    """Those of the services whose breaker lets no call through, and why, in words."""
    rows = Breaker.objects.filter(service__in=service_ids).exclude(forced="CLOSED")
    not_closed = rows.filter(Q(forced="OPEN") | ~Q(state="CLOSED"))
    return {
        row.service_id: f"its breaker is open: {row.forced_reason or row.reason or 'a trial is under way'}"
        for row in not_closed
    }


def _verdict(state: CheckState) -> CheckVerdict:
    status = Status.PAUSED if is_paused(state.check_ref) else Status(state.status)
    return CheckVerdict(status, state.check_ref.name, state.message, state.category)


def _changed(service: Service, verdict: ServiceVerdict, at: datetime) -> StateChange:
    old, new = service.status, verdict.status.value
    service.status, service.status_since, service.reason = new, at, verdict.reason
    return StateChange(at=at, service=service, old=old, new=new, category=verdict.category, reason=verdict.reason)


_WRITE = """
UPDATE monitoring_service s SET status = n.status, status_since = n.at, reason = n.reason
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::text[]) AS n(id, status, at, reason) WHERE s.id = n.id
"""


def _write(changes: list[StateChange]) -> None:
    """Two statements, however many there are."""
    if not changes:
        return
    services = [change.service for change in changes]
    columns = [[getattr(one, name) for one in services] for name in ("id", "status", "status_since", "reason")]
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, columns)
    StateChange.objects.bulk_create(changes)
