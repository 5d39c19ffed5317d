"""What the page of critical days and the banner show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import yaml
from django.utils import timezone

from monitoring.breakers.policy import Policy as BreakerPolicy
from monitoring.critical import comparing, effects, expanding, freeze, inforce
from monitoring.critical.comparing import Facts, Posed
from monitoring.critical.config import export_rule
from monitoring.critical.effects import Factors, Strictness, Values
from monitoring.critical.inforce import InForce
from monitoring.critical.rules import Period, Reason
from monitoring.critical.wording import listed, rule_words
from monitoring.models import CalendarFeed, Check, CriticalRule, DeployPass, Posture

AHEAD = 90
"""Days that the calendar shows."""
WEEKS = 14


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule as the page tells it."""

    slug: str
    label: str
    words: str
    next: datetime | None = None
    feed: CalendarFeed | None = None
    is_feed: bool = False
    number: int = 0
    """Of its days within what the calendar shows."""
    holds: bool = False
    """Whether it holds now."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the calendar."""

    day: date
    reasons: tuple[Reason, ...] = ()
    today: bool = False
    over: bool = False

    @property
    def css(self) -> str:
        """Its class: usual, critical by the calendar's own days, or by a holiday or an event."""
        if not self.reasons:
            return "d"
        return "hol" if any(one.kind in ("holidays", "ical") for one in self.reasons) else "x"


@dataclass(frozen=True, slots=True)
class Page:
    """Everything of the page."""

    found: InForce
    lines: list[comparing.Line]
    rules: list[RuleView]
    days: list[Day]
    summary: str
    clocks: str
    asked: dict[str, int]
    waiting: DeployPass | None
    yaml: str
    rehearsal: Rehearsal | None = None

    @property
    def differing(self) -> int:
        """How many policies are not the usual ones."""
        return sum(line.differs for line in self.lines)

    @property
    def because(self) -> list[tuple[Reason, str]]:
        """The calendar's reasons, each with its rule in words."""
        words = {view.slug: view.words for view in self.rules}
        return [(reason, words.get(reason.rule, "")) for reason in self.found.reasons]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would differ on a critical day, without doing it."""

    kind: str
    at: datetime | None
    reasons: tuple[Reason, ...]
    critical: bool
    lines: list[comparing.Line]
    changed: list[comparing.Compared]
    total: int
    """Of all checks that would differ; the list may be cut."""
    loads: list[comparing.Load] = field(default_factory=list)


def page(now: datetime | None = None, rehearse: str = "", at: datetime | None = None) -> Page:
    """What is in force and what comes; ``rehearse``: "critical", "emergency", or "at" a moment."""
    now = now or timezone.now()
    found = inforce.now_in_force(now)
    checks = list(facts())
    rows = list(CriticalRule.objects.filter(archived_at=None).order_by("id"))
    views = list(_rules(found, rows))
    days = _days(found)
    return Page(
        found=found,
        lines=comparing.lines(checks, _posed(found)),
        rules=views,
        days=days,
        summary=_summary(views),
        clocks=_clock_changes(found.calendar, now),
        asked=freeze.asked_since(_midnight(now)),
        waiting=freeze.waiting_pass(now),
        yaml=as_yaml(rows),
        rehearsal=_rehearse(checks, rehearse, at) if rehearse else None,
    )


def facts() -> Iterator[Facts]:
    """Every check in use, with what is in force for its service alone."""
    own = {row.service_id: row for row in Posture.objects.filter(service__isnull=False)}
    rows = Check.objects.filter(archived_at=None, service__archived_at=None)
    for check in rows.select_related("service", "state").order_by("service__slug", "name"):
        row = own.get(check.service_id)
        yield Facts(
            check.service.slug,
            check.service.label,
            check.name,
            check.kind,
            check.service.provider,
            check.service.criticality,
            Values(check.interval, check.timeout, check.confirm_down, check.degraded_over),
            BreakerPolicy.of(check.service.breaker).recovery_timeout,
            check.state.status in ("healthy", "unknown"),
            Strictness(_factors(row), row.critical, row.emergency) if row else None,
        )


def _factors(row: Posture) -> Factors:
    return Factors(row.interval, row.spare, row.timeout, row.confirm, row.recovery)


def _posed(found: InForce) -> Posed:
    return Posed(inforce.strictness_of(found), found.frozen, found.read_only)


def _rehearse(checks: Sequence[Facts], kind: str, at: datetime | None) -> Rehearsal:
    supposed = [Facts(**_without_own(one)) for one in checks]
    reasons: tuple[Reason, ...] = ()
    if kind == "at" and at is not None:
        then = inforce.decide(inforce.calendar_around(at), None, [], at)
        posed, reasons = _posed(then), then.reasons
    elif kind == "emergency":
        posed = Posed(effects.IN_AN_EMERGENCY, frozen=True, read_only=True)
    else:
        posed = Posed(effects.ON_A_CRITICAL_DAY, frozen=True)
    changed = comparing.changed(supposed, posed)
    return Rehearsal(
        kind,
        at,
        reasons,
        posed.strict.critical,
        comparing.lines(supposed, posed),
        changed[: comparing.MOST_ROWS],
        len(changed),
        comparing.loads(supposed, posed),
    )


def _without_own(one: Facts) -> dict[str, Any]:
    """A check as if no emergency were on, and all were healthy."""
    names = ("service", "service_label", "name", "kind", "provider", "criticality", "usual", "recovery")
    return {name: getattr(one, name) for name in names}


def as_yaml(rows: Sequence[CriticalRule]) -> str:
    """The rules as they stand in wsmon.yaml."""
    data = {row.slug: export_rule(row) for row in rows}
    return yaml.safe_dump({"critical_days": data}, sort_keys=False, allow_unicode=True, width=80) if data else ""


# Rules ---------------------------------------------------------------------------------------------


def _rules(found: InForce, rows: Sequence[CriticalRule]) -> Iterator[RuleView]:
    feeds = {row.owner: row for row in CalendarFeed.objects.defer("text")}
    end = found.at + timedelta(days=AHEAD)
    for row in rows:
        coming = [
            reason.in_force_from
            for period in found.calendar
            for reason in period.reasons
            if reason.rule == row.slug and found.at < reason.in_force_until and reason.in_force_from < end
        ]
        later = [moment for moment in coming if moment > found.at]
        yield RuleView(
            row.slug,
            row.name or row.slug,
            rule_words(row.spec, row.lead, row.trail),
            min(later, default=None),
            feeds.get(inforce.owner_of(row.slug)),
            expanding.kind_of(row.spec) == "ical",
            len(coming),
            any(reason.rule == row.slug for reason in found.reasons),
        )


def _summary(views: Sequence[RuleView]) -> str:
    """ "14 of saturdays, 3 of holidays"."""
    return listed([f"{view.number} of {view.label}" for view in views if view.number])


# The calendar --------------------------------------------------------------------------------------


def _midnight(now: datetime) -> datetime:
    return timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)


def _days(found: InForce) -> list[Day]:
    """From this week's Monday on, whole weeks: each with the reasons whose own time touches it."""
    zone = timezone.get_current_timezone()
    today = found.at.astimezone(zone).date()
    first = today - timedelta(days=today.weekday())
    touching: dict[date, list[Reason]] = {}
    for period in found.calendar:
        for reason in period.reasons:
            day = max(reason.starts_at.astimezone(zone).date(), first)
            last = (reason.ends_at - timedelta(microseconds=1)).astimezone(zone).date()
            while day <= min(last, first + timedelta(days=7 * WEEKS)):
                touching.setdefault(day, []).append(reason)
                day += timedelta(days=1)
    days = [first + timedelta(days=number) for number in range(7 * WEEKS)]
    return [Day(day, tuple(touching.get(day, ())), day == today, day < today) for day in days]


def _clock_changes(calendar: Sequence[Period], now: datetime) -> str:
    """A sentence about the first period in which clocks change."""
    zone = timezone.get_current_timezone()
    for period in calendar:
        if period.ends_at <= now or period.starts_at > now + timedelta(days=AHEAD):
            continue
        before, after = period.starts_at.astimezone(zone), period.ends_at.astimezone(zone)
        change = (after.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        if change:
            way = "forward" if change > timedelta() else "back"
            moment = _change_between(period)
            said = f"{expanding.day_name(moment)}: clocks go {way}"
            hours = (period.ends_at - period.starts_at).total_seconds() / 3600
            return f"{said} during {_reasons_words(period)}, which lasts {hours:g} h and ends at {after:%H:%M %Z}."
    return ""


def _change_between(period: Period) -> datetime:
    zone = timezone.get_current_timezone()
    low, high = period.starts_at, period.ends_at
    offset = low.astimezone(zone).utcoffset()
    while high - low > timedelta(minutes=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
    return high.astimezone(zone)


def _reasons_words(period: Period) -> str:
    return listed(sorted({one.name for one in period.reasons}))


# The banner ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Banner:
    """What every page says while a critical day or an emergency is in force."""

    critical: bool
    emergency: bool
    names: str
    until: datetime | None
    frozen: bool
    read_only: bool
    services: str = ""
    """Of emergencies of single services."""


def banner(now: datetime | None = None) -> Banner | None:
    """From what was last worked out: one small query; None on a usual day."""
    now = now or timezone.now()
    rows = list(Posture.objects.filter(critical=True).select_related("service"))
    whole = next((row for row in rows if row.service_id is None and _is_fresh(row, now)), None)
    single = [row for row in rows if row.service is not None and row.until is not None and row.until > now]
    if whole is None and not single:
        return None
    # While a critical day is in force for all, it is of that one that the words end with "until".
    telling = single if whole is None else [whole, *single] if whole.emergency else [whole]
    return Banner(
        critical=whole is not None,
        emergency=bool(single) or (whole is not None and whole.emergency),
        names=listed(list(dict.fromkeys(str(one["name"]) for one in whole.reasons))) if whole else "",
        until=max((end for row in telling if (end := _end_of(row))), default=None),
        frozen=whole is not None and whole.frozen,
        read_only=whole is not None and whole.read_only,
        services=listed([row.service.label for row in single if row.service]),
    )


def _end_of(row: Posture) -> datetime | None:
    told = row.reasons[0]["ends_at"] if row.reasons else None
    return datetime.fromisoformat(told) if told else None


def _is_fresh(row: Posture, now: datetime) -> bool:
    return row.until is None or row.until > now - inforce.STALE
