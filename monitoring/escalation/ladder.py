"""Which step of an escalation is next: pure decisions, no database, no clock.

A policy is a ladder of rungs. The first is taken ``after`` so long an alert began to follow the policy; each
further one when the time between the two has passed since the one before was *taken*, so that a worker that was
away, or a clock that was put forward, climbs rung by rung and not all at once. After the last one it is repeated
as a reminder, until somebody acknowledges or it is over.

On a critical day an alert opens one step higher: the first two rungs are taken together. Of an emergency everybody
is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from monitoring.alertmodels import RANKS, Severity

MOST_STEPS_COUNTED = 32_000
"""The column that counts steps and reminders is a small integer."""
JUMP = timedelta(minutes=1)
"""What is due later than the longest wait and this was written before the clock was put back."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a policy: ``after`` seconds from its beginning, tell ``notify`` (channels, ``rotation:NAME``)."""

    after: float
    notify: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """An escalation. No ``services``: it is for all; ``remind_every`` is in seconds."""

    slug: str
    rungs: tuple[Rung, ...]
    remind_every: float | None = None
    services: frozenset[str] = frozenset()
    min_severity: str = Severity.CRITICAL.value

    def wait(self, taken: int) -> timedelta | None:
        """From rung ``taken`` (1: the first) to the next step or reminder; None when nothing follows."""
        if taken < len(self.rungs):
            before = self.rungs[taken - 1].after if taken else 0.0
            return timedelta(seconds=max(self.rungs[taken].after - before, 0.0))
        return None if self.remind_every is None else timedelta(seconds=self.remind_every)

    @property
    def longest_wait(self) -> timedelta:
        """The longest that it ever waits for anything."""
        afters = [0.0, *(rung.after for rung in self.rungs)]
        gaps = [later - earlier for earlier, later in pairwise(afters)]
        return timedelta(seconds=max([*gaps, self.remind_every or 0.0]))


@dataclass(frozen=True, slots=True)
class Place:
    """How far an alert is: ``taken`` steps and reminders, and when the next is due (None: never again)."""

    taken: int
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: tell ``notify``; afterwards ``taken`` are done and the next is due ``next_at``."""

    taken: int
    notify: tuple[str, ...]
    reminder: bool
    next_at: datetime | None
    opening: bool = False
    """It belongs to the alert's opening: who was told of that already need not be told twice."""


def choose(policies: Iterable[Policy], severity: str, service: str | None) -> Policy | None:
    """The policy that an alert follows: one that names its service before one for all, then the strictest.

    The strictest is the one for the highest severity; among equals the first by name.
    """
    fitting = [one for one in policies if RANKS[severity] >= RANKS[one.min_severity] and one.rungs]
    fitting = [one for one in fitting if not one.services or service in one.services]
    return min(fitting, key=lambda one: (not one.services, -RANKS[one.min_severity], one.slug), default=None)


def begin(policy: Policy, now: datetime, *, everybody: bool = False) -> Place:
    """An alert begins to follow a policy; of which everybody is told, at once."""
    return Place(0, now if everybody else now + (policy.wait(0) or timedelta(0)))


def next_step(
    policy: Policy, place: Place, now: datetime, critical_day: bool = False, *, everybody: bool = False
) -> Step | None:
    """What is to be done at ``now``, if anything; ``everybody``: all rungs are taken together."""
    if place.due_at is None or place.due_at > now or not policy.rungs:
        return None
    first = place.taken == 0
    reminder = place.taken >= len(policy.rungs)
    rungs = policy.rungs[-1:] if reminder else policy.rungs[place.taken : place.taken + 1]
    taken = min(place.taken + 1, MOST_STEPS_COUNTED)
    if first and (everybody or critical_day):
        rungs = policy.rungs if everybody else policy.rungs[:2]
        taken = len(rungs)
    wait = policy.wait(taken)
    return Step(
        taken=taken,
        notify=_once(name for rung in rungs for name in rung.notify),
        reminder=reminder,
        next_at=None if wait is None else now + wait,
        opening=first and policy.rungs[0].after == 0,
    )


def put_right(policy: Policy, place: Place, now: datetime) -> Place:
    """The same place, due no later than it can be: the clock may have been put back since it was written."""
    wait = policy.wait(place.taken)
    if place.due_at is None or wait is None or place.due_at <= now + wait + JUMP:
        return place
    return Place(place.taken, now + wait)


def words(policy: Policy, taken: int) -> str:
    """Which step was taken, for people: "step 2 of 3", "reminder 4"."""
    steps = len(policy.rungs)
    return f"step {taken} of {steps}" if taken <= steps else f"reminder {taken - steps}"


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def rungs_of(steps: Sequence[dict[str, object]]) -> tuple[Rung, ...]:
    """Rungs as the database keeps them; what makes no sense there is left out."""
    found = []
    for step in steps:
        after, notify = step.get("after", 0), step.get("notify", [])
        if isinstance(after, int | float) and isinstance(notify, list):
            found.append(Rung(float(after), tuple(str(name) for name in notify)))
    return tuple(sorted(found, key=lambda rung: rung.after))
