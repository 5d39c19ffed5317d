"""A breaker in one chip, for pages about services: one query, whatever their number."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import FloatField, OuterRef, Q, Subquery, Value
from django.db.models.functions import Least
from django.utils import timezone

from monitoring.breakers import machine, store
from monitoring.breakers.machine import Cause, Mode
from monitoring.models import Breaker, Posture, RecoveryFactor


@dataclass(frozen=True, slots=True)
class Glance:
    """What a breaker that is not closed is up to."""

    mode: Mode
    """What callers meet: OPEN or HALF_OPEN."""
    forced: bool
    cause: Cause
    due_at: datetime | None
    """When the next trial may be made; None under a force."""
    trials: int
    """Trials under way."""


def of(service_ids: Collection[int]) -> dict[int, Glance]:
    """By service, those of the breakers that are not closed."""
    now = timezone.now()
    everybodys = Subquery(RecoveryFactor.objects.values("factor")[:1])
    own = Subquery(Posture.objects.filter(service=OuterRef("service")).values("recovery")[:1])
    rows = (
        Breaker.objects.filter(service__in=service_ids)
        .exclude(Q(state="CLOSED") & ~Q(forced="OPEN"))
        .annotate(factor=Least(everybodys, own, Value(1.0), output_field=FloatField()))
    )
    found = {}
    for row in rows:
        state = store.state_of(row)
        state = machine.released(state, now) or state  # a force that is over and that nobody has taken away yet
        if state.effective is not Mode.CLOSED:
            due = None if state.override else machine.due_at(state, row.factor)
            found[row.service_id] = Glance(
                state.effective, state.override is not None, state.cause, due, len(state.trials)
            )
    return found
