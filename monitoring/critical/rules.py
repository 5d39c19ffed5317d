"""From rules to the periods in which they hold: pure calendar arithmetic, no database, no clock.

A rule's days begin at local midnight in its time zone; ``lead`` and ``trail`` are lengths of time, so a trail of 2 h
after a Saturday ends at the first 02:00 when clocks go back. Periods that overlap or touch are one, with every
reason for it: where rules contradict each other, the stricter one wins. Only a person's override is above them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from monitoring.critical import expanding
from wsmon.vocabulary import JSON

LEAD = 7200.0
TRAIL = 0.0
"""Seconds; of a rule that says nothing."""
LONGEST_AROUND = 7 * 86_400.0
"""Neither lead nor trail may be longer."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a critical day is. ``spec`` as ``monitoring.critical.schema`` reads it; durations in seconds."""

    slug: str
    spec: Mapping[str, JSON]
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    name: str = ""
    lead: float = LEAD
    trail: float = TRAIL

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or self.slug

    @property
    def freezes(self) -> bool:
        """Whether deployments are frozen while it holds."""
        return self.spec.get("freeze") is not False

    @property
    def read_only(self) -> bool:
        """Whether applications are told to switch to read-only while it holds."""
        return self.spec.get("read_only") is True


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a period is one: a rule, and what of it. ``starts_at`` to ``ends_at`` is without lead and trail."""

    rule: str
    name: str
    why: str
    starts_at: datetime
    ends_at: datetime
    in_force_from: datetime
    in_force_until: datetime
    kind: str = ""
    freezes: bool = True
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which stricter policies hold, lead and trail included; its end is not part of it."""

    starts_at: datetime
    ends_at: datetime
    reasons: tuple[Reason, ...] = ()

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` lies in it."""
        return self.starts_at <= at < self.ends_at

    def reasons_at(self, at: datetime) -> tuple[Reason, ...]:
        """Those of its reasons that hold at a moment."""
        return tuple(one for one in self.reasons if one.in_force_from <= at < one.in_force_until)


def reasons(rule: Rule, since: datetime, until: datetime, calendar: str = "") -> list[Reason]:
    """Each time that one rule holds between two moments, in order; whole, even where it reaches beyond.

    ``calendar`` is the rule's kept feed, if it has one.
    """
    lead, trail = timedelta(seconds=rule.lead), timedelta(seconds=rule.trail)
    spans = expanding.spans(rule.spec, rule.zone, since - trail, until + lead, calendar)
    return [
        Reason(
            rule.slug,
            rule.label,
            span.why,
            span.starts_at,
            span.ends_at,
            span.starts_at - lead,
            span.ends_at + trail,
            expanding.kind_of(rule.spec),
            rule.freezes,
            rule.read_only,
        )
        for span in spans
        if span.starts_at - lead < until and span.ends_at + trail > since
    ]


def merged(found: Iterable[Reason]) -> list[Period]:
    """Reasons as periods, in order, none touching another: what overlaps or touches is one."""
    together: list[Period] = []
    for reason in sorted(found, key=lambda one: (one.in_force_from, one.in_force_until, one.rule)):
        last = together[-1] if together else None
        if last is not None and reason.in_force_from <= last.ends_at:
            ends_at = max(last.ends_at, reason.in_force_until)
            together[-1] = Period(last.starts_at, ends_at, (*last.reasons, reason))
        else:
            together.append(Period(reason.in_force_from, reason.in_force_until, (reason,)))
    return together


def period_at(calendar: Sequence[Period], at: datetime) -> Period | None:
    """The period that holds at a moment."""
    return next((period for period in calendar if period.holds(at)), None)


def next_after(calendar: Sequence[Period], at: datetime) -> Period | None:
    """The first period that begins after a moment."""
    return next((period for period in calendar if period.starts_at > at), None)


def boundaries(calendar: Sequence[Period], at: datetime) -> datetime | None:
    """When something of it changes next after a moment: a period or one of its reasons begins or ends."""
    moments = {
        moment
        for period in calendar
        for reason in period.reasons
        for moment in (reason.in_force_from, reason.in_force_until)
    }
    return min((moment for moment in moments if moment > at), default=None)
