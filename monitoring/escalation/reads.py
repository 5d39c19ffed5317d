"""What the alerts' page shows of rotations and escalations: who is on call, who is next, and who is told when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count

from monitoring.critical import inforce
from monitoring.escalation import oncall, running, turns
from monitoring.escalation.ladder import Policy
from monitoring.escalation.oncall import PREFIX, OnCall
from monitoring.escalation.turns import Duty
from monitoring.models import CalendarFeed, Rotation
from monitoring.notifications.messages import duration


@dataclass(frozen=True, slots=True)
class RotationView:
    """A rotation, who is on call by it and who is next."""

    slug: str
    duties: tuple[Duty, ...]
    then: Duty | None
    """The next by the week; None where a calendar decides."""
    calendar: bool
    problem: str = ""
    """What is wrong with its calendar."""

    @property
    def mark(self) -> str:
        """The shape and colour that stand for it."""
        return "healthy" if self.duties else "degraded"


@dataclass(frozen=True, slots=True)
class StepView:
    """One step: when, and whom it tells."""

    when: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyView:
    """An escalation in words."""

    slug: str
    what: str
    steps: tuple[StepView, ...]
    climbing: int
    """Open alerts that follow it and wait for somebody."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything of that part of the page."""

    rotations: list[RotationView]
    policies: list[PolicyView]
    critical: bool
    """A critical day is in force: alerts open one step higher."""


def shown(now: datetime) -> Shown:
    """A few queries, whatever their number."""
    rows = oncall.rotations()
    duty = {row.slug: oncall.of(row, now) for row in rows}
    feeds = dict(CalendarFeed.objects.filter(owner__startswith=PREFIX).values_list("owner", "problem"))
    rotations = [_rotation(row, duty[row.slug], feeds.get(oncall.owner_of(row))) for row in rows]
    policies = [running.policy_of(row) for row in running.rows()]
    waiting = running.waiting().filter(escalation__in=[policy.slug for policy in policies])
    climbing = dict(waiting.order_by().values_list("escalation").annotate(Count("id")))
    critical = bool(policies) and inforce.is_critical(now)
    return Shown(rotations, [_policy(one, duty, climbing.get(one.slug, 0), critical) for one in policies], critical)


def _rotation(row: Rotation, of: OnCall, problem: str | None) -> RotationView:
    then = None
    if not row.ical:
        plan = oncall.turns_of(row)
        if of.duties:
            then = turns.by_week(plan, of.duties[0].until) if len(plan.people) > 1 else None
        elif plan.people and plan.starts_on:
            then = turns.by_week(plan, turns.first_moment(plan))
    return RotationView(row.slug, of.duties, then, bool(row.ical), problem or "")


def _policy(policy: Policy, duty: dict[str, OnCall], climbing: int, critical: bool) -> PolicyView:
    shift = policy.rungs[1].after - policy.rungs[0].after if critical and len(policy.rungs) > 1 else 0.0
    steps = []
    for number, rung in enumerate(policy.rungs):
        after = rung.after if number == 0 else rung.after - shift
        steps.append(StepView(_when(after), tuple(_name(name, duty) for name in rung.notify)))
    if policy.remind_every is not None:
        steps.append(StepView(f"then every {duration(policy.remind_every)}", ("the last step again",)))
    of = f"{policy.min_severity} alerts" if policy.min_severity == "critical" else f"{policy.min_severity} and worse"
    services = f" of {', '.join(sorted(policy.services))}" if policy.services else ""
    return PolicyView(policy.slug, of + services, tuple(steps), climbing)


def _when(after: float) -> str:
    return f"after {duration(after)}" if after > 0 else "at once"


def _name(name: str, duty: dict[str, OnCall]) -> str:
    if not name.startswith(PREFIX):
        return name
    slug = name.removeprefix(PREFIX)
    found = duty.get(slug)
    return f"{found.names if found and found.names else 'nobody'} (on call, {slug})"
