"""Reading what is wrong with services that fail: which checks, why, and since which probe. A few queries for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from monitoring.incidents import deciding
from monitoring.models import Breaker, CheckState, Service
from wsmon.vocabulary import Category, Status

_LONGEST_LOOK = timedelta(days=1)
"""So far back the first failing probe is looked for: a confirmation takes 20 results at most."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong with a service."""

    service: Service
    category: str = ""
    began_at: datetime | None = None
    checks: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    """Of those checks."""

    @property
    def status(self) -> Status:
        """The service's."""
        return Status(self.service.status)

    @property
    def title(self) -> str:
        """In one sentence."""
        return deciding.title(self.service.label, self.status, self.category, self.kinds)


def read(services: Iterable[Service], states: Iterable[CheckState]) -> dict[int, Found]:
    """By service: what is wrong with it. ``states`` are those of its checks, in their order, among others."""
    known = {service.id: service for service in services}
    if not known:
        return {}
    failing: dict[int, list[CheckState]] = {key: [] for key in known}
    for row in states:
        service_id = row.check_ref.service_id
        if service_id in known and row.status != Status.HEALTHY and row.status in deciding.BADNESS:
            failing[service_id].append(row)
    began = _began([state for rows in failing.values() for state in rows])
    return {key: _found(service, failing[key], began.get(key)) for key, service in known.items()}


def cut_off(service_ids: Iterable[int]) -> set[int]:
    """Those of the services whose breaker opened because calls to them failed, and that nobody holds open."""
    ids = list(service_ids)
    if not ids:
        return set()
    rows = Breaker.objects.filter(service__in=ids).exclude(state="CLOSED")
    return {row.service_id for row in rows if deciding.cuts_off(row.cause, row.forced)}


def _found(service: Service, states: list[CheckState], began_at: datetime | None) -> Found:
    same = [state for state in states if state.status == service.status]
    names = tuple(state.check_ref.name for state in states)
    kinds = frozenset(state.check_ref.kind for state in states)
    # Without one its checks are better than it: the breaker's word.
    category = same[0].category if same else Category.BREAKER_OPEN.value
    return Found(service, category, began_at, names, kinds)


# Of each failing check, the first of its latest results that were not healthy.
_BEGAN = """
SELECT c.service_id, min(r.at) FROM unnest(%s::bigint[], %s::bigint[], %s::int[]) AS c(service_id, id, number)
CROSS JOIN LATERAL (
    SELECT at FROM service_health_metrics r WHERE r.check_id = c.id AND NOT r.manual AND r.at > %s
    ORDER BY r.at DESC, r.id DESC LIMIT c.number
) r GROUP BY 1
"""


def _began(states: list[CheckState]) -> dict[int, datetime]:
    if not states:
        return {}
    runs = [max(1, _run(state.recent)) for state in states]
    oldest = min(state.checked_at or state.status_since for state in states) - _LONGEST_LOOK
    services, checks = [state.check_ref.service_id for state in states], [state.check_ref_id for state in states]
    with connection.cursor() as cursor:
        cursor.execute(_BEGAN, [services, checks, runs, oldest])
        return dict(cursor.fetchall())


def _run(recent: list[str]) -> int:
    """How many outcomes at the end of ``recent`` are not healthy."""
    healthy = [place for place, word in enumerate(recent) if word == Status.HEALTHY]
    return len(recent) - (healthy[-1] + 1 if healthy else 0)
