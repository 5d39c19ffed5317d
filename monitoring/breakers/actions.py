"""What people do to breakers: force one open or closed, end that, reset. Each leaves an audit row."""

from __future__ import annotations

import math
from typing import Protocol

from django.db import transaction

from monitoring.actions import Refused, cleaned, required
from monitoring.breakers import store
from monitoring.breakers.machine import Mode
from wsmon.audit import Actor, record

GONE = "this breaker does not exist any more"
LONGEST_FORCE = 366 * 86_400.0
"""Seconds. Whoever wants it longer means for good."""


class Named(Protocol):
    """A service or a circuit, as its model or a view of its breaker knows it."""

    @property
    def id(self) -> int: ...

    @property
    def slug(self) -> str: ...


@transaction.atomic
def force(service: Named, mode: Mode, actor: Actor, reason: str, seconds: float | None) -> None:
    """Put a person's word above a breaker's state, for a time or (None) until somebody ends it.

    Raises :class:`monitoring.actions.Refused` without a reason, for HALF_OPEN and for a time that is none.
    """
    reason = required(reason)
    if mode not in (Mode.OPEN, Mode.CLOSED):
        raise Refused("a breaker can be forced OPEN or CLOSED only")
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= LONGEST_FORCE):
        raise Refused(f"the time must be more than 0 and at most {LONGEST_FORCE / 86_400:g} days")
    forced = store.force(service.id, mode, actor.name, reason, seconds)
    if forced is None:
        raise Refused(GONE)
    until = forced.state.override.until if forced.state.override else None
    _audit(actor, "breaker.force", service, reason, state=mode.value, until=until.isoformat() if until else None)


@transaction.atomic
def release(service: Named, actor: Actor, reason: str) -> bool:
    """End a force, so that the state underneath counts again; False when none holds. The reason may be empty."""
    reason = cleaned(reason)
    released = store.force(service.id, None, actor.name, reason, None)
    if released is None:
        return False
    _audit(actor, "breaker.release", service, reason, state=released.state.mode.value, until=None)
    return True


@transaction.atomic
def reset(service: Named, actor: Actor, reason: str = "") -> None:
    """Close a breaker, end a force, and forget how often it opened. The reason may be empty."""
    reason = cleaned(reason)
    if store.reset(service.id, actor.name, reason) is None:
        raise Refused(GONE)
    _audit(actor, "breaker.reset", service, reason, state=Mode.CLOSED.value, until=None)


def _audit(actor: Actor, action: str, service: Named, reason: str, **details: str | None) -> None:
    record(actor, action, f"breaker:{service.slug}", reason, **details)
