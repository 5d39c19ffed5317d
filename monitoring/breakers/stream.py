"""What programs outside of wsmon are told of the breakers, over ``/api/admin/circuit-breakers/stream``."""

from __future__ import annotations

from datetime import datetime

from monitoring.breakers import machine, store
from monitoring.breakers.policy import Policy
from monitoring.breakers.store import Shared
from wsmon.vocabulary import JSON


def stream_events(service_ids: set[int]) -> list[dict[str, JSON]]:
    """The breakers of some services and circuits, or of all for an empty set, by name."""
    found = [one for one in store.read().values() if not service_ids or one.service_id in service_ids]
    return [_item(one) for one in sorted(found, key=lambda one: one.name)]


def _item(shared: Shared) -> dict[str, JSON]:
    """One breaker, with what a program needs to go on alone while wsmon is away.

    ``now`` is the clock that the other times are of: a program's own clock may be wrong.
    """
    state = machine.released(shared.state, shared.now) or shared.state  # an override may be over by now
    override = state.override
    return {
        "service": shared.name,
        "kind": shared.kind,
        "state": state.effective.value,
        "policy": shared.policy.policy,
        "forced": override.mode.value if override else None,
        "forced_until": _iso(override.until) if override else None,
        "generation": state.generation,
        "next_attempt_at": None if override else _iso(machine.due_at(state, shared.factor)),
        "cause": state.cause.value or None,
        "now": _iso(shared.now),
        "parameters": _parameters(shared.policy),
    }


def _parameters(policy: Policy) -> dict[str, JSON]:
    return {
        "error_threshold": policy.error_threshold,
        "min_volume": policy.min_volume,
        "window": policy.window,
        "failure_threshold": policy.failure_threshold,
        "success_threshold": policy.success_threshold,
        "recovery_timeout": policy.recovery_timeout,
        "recovery_max": policy.recovery_max_effective,
        "slow_over": policy.slow_over,
        "ignore_status": sorted(policy.ignore_status),
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
