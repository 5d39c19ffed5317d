"""Other programs' calls: their outcomes are counted as if they were made here, their trials granted by the store.

A program that asks over HTTP has no sync thread of ours, so each request does its own work in the database.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring.breakers import store
from monitoring.breakers.machine import Fold, Mode
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind, Policy
from monitoring.breakers.store import Counted, Counts, Shared


@dataclass(frozen=True, slots=True)
class Reported:
    """``number`` calls of a program that ended alike. ``at``: when; None means now."""

    ok: bool
    seconds: float | None = None
    status: int | None = None
    retry_after: float | None = None
    at: datetime | None = None
    number: int = 1

    def ending(self, policy: Policy) -> Ending:
        """What they count as."""
        if self.status is not None and not self.ok:
            found = policy.of_status(self.status, self.retry_after)
            return FAIL if found.kind is Kind.OK else found
        if not self.ok:
            return Ending(Kind.FAIL, self.retry_after)
        return OK if self.seconds is None else policy.timed(OK, self.seconds)


@dataclass(frozen=True, slots=True)
class Receipt:
    """How many calls were counted, and how many were too late or neutral."""

    accepted: int
    ignored: int


def report(
    shared: Shared, outcomes: Sequence[Reported], *, rejected: int = 0, trial: str = "", by: str = ""
) -> Receipt:
    """Count a program's calls. With ``trial`` the first one is that trial's end; without any it was not made.

    Calls of before the present generation, or older than the window, say nothing any more and are left out.
    """
    rest = list(outcomes)
    accepted = 0
    if trial:
        ending = rest.pop(0).ending(shared.policy) if rest else NEUTRAL
        ended = store.end_trial(shared.service_id, trial, ending, by)
        accepted += bool(outcomes) and ended is not None
        shared = ended or shared
    telling = [one for one in rest if _tells(one, shared)]
    judged = [(one, one.ending(shared.policy)) for one in telling]
    counted = [(one, ending) for one, ending in judged if ending.kind is not Kind.NEUTRAL]
    store.count([*_counted(shared, counted), *_refused(shared, rejected)])
    accepted += sum(one.number for one, _ending in counted)
    total = sum(one.number for one in outcomes)
    _open_if_crossed(shared, counted)
    return Receipt(accepted, total - accepted)


def ask_trial(shared: Shared, by: str) -> str | None:
    """A trial's token; None when there is none to be had."""
    token = str(uuid.uuid4())
    return token if store.admit(shared.service_id, token, by) else None


def _tells(one: Reported, shared: Shared) -> bool:
    if shared.state.effective is not Mode.CLOSED:
        return False
    if one.at is None:
        return True
    first = shared.now - timedelta(seconds=shared.policy.window)
    return one.at >= max(first, shared.state.since or first)


def _counted(shared: Shared, counted: Iterable[tuple[Reported, Ending]]) -> Iterable[Counted]:
    for one, ending in counted:
        number = one.number
        yield Counted(
            shared.service_id,
            shared.state.generation,
            shared.policy.slot_seconds,
            Counts(
                ok=0 if ending.failed else number,
                fail=number if ending.failed else 0,
                credential=number if ending.kind is Kind.CREDENTIAL else 0,
                limited=number if ending.kind is Kind.LIMITED else 0,
                retry_after=ending.retry_after,
            ),
            min(one.at, shared.now) if one.at else None,
        )


def _refused(shared: Shared, rejected: int) -> list[Counted]:
    state, slot = shared.state, shared.policy.slot_seconds
    return [Counted(shared.service_id, state.generation, slot, Counts(rejected=rejected))] if rejected else []


def _open_if_crossed(shared: Shared, counted: Iterable[tuple[Reported, Ending]]) -> None:
    """Open the breaker if these calls, with everybody else's, cross its threshold."""
    generation = shared.state.generation
    if shared.policy.policy == "counting":
        fold = Fold()
        for one, ending in counted:
            # More than the threshold at a time are all alike.
            for _ in range(min(one.number, shared.policy.failure_threshold + fold.peak)):
                fold = fold.then(not ending.failed)
        if fold != Fold():
            store.add_to_score(shared.service_id, generation, fold)
    elif any(ending.failed for _one, ending in counted):
        store.open_if_crossed(shared.service_id, generation)
