"""What is in force now. To read first: :func:`refresh`.

1. ``decide`` (pure): the calendar, a person's override and emergencies -> what is in force, why and until when.
2. ``refresh`` (each second, cheap): when that may have changed, writes it into Posture, which claims, breakers,
   webhooks and pages read, and makes what changed take effect at once.

A person's word is above the calendar, an emergency above both. The clock may jump: whatever was worked out holds
for a minute at most, and not at all when it lies in the future.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from monitoring import alerts
from monitoring.breakers import store
from monitoring.critical import effects, rules
from monitoring.critical.rules import Period, Reason, Rule
from monitoring.models import CalendarFeed, CriticalOverride, CriticalRule, Emergency, Posture, RecoveryFactor
from wsmon import live
from wsmon.audit import Actor, record

logger = structlog.get_logger(__name__)

AGAIN = timedelta(seconds=60)
"""What was worked out holds no longer than this."""
APART = timedelta(seconds=10)
"""So much may the clocks of two hosts differ."""
STALE = timedelta(minutes=3)
"""A posture that should have been worked out again so long ago tells nothing: no worker runs."""
BEHIND, AHEAD = timedelta(days=40), timedelta(days=110)
"""How far around now the calendar is known."""
SYSTEM = Actor.system("critical days")
LIVE = "critical"
"""The kind of live notification; pages that show critical days then ask."""


@dataclass(frozen=True, slots=True)
class Override:
    """A person's word against the calendar."""

    id: int
    on: bool
    starts_at: datetime
    ends_at: datetime
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Urgency:
    """An emergency that is on: of one service, or of all (None)."""

    id: int
    service_id: int | None
    slug: str
    """The service's name in the API; empty for all."""
    service: str
    """What people call it."""
    starts_at: datetime
    ends_at: datetime
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force at a moment. ``since`` and ``until`` are None unless a critical day is."""

    at: datetime
    critical: bool = False
    since: datetime | None = None
    until: datetime | None = None
    reasons: tuple[Reason, ...] = ()
    """The calendar's, as far as it decides."""
    override: Override | None = None
    emergencies: tuple[Urgency, ...] = ()
    frozen: bool = False
    frozen_until: datetime | None = None
    read_only: bool = False
    held_off: Period | None = None
    """The calendar's period that an override keeps from being in force."""
    calendar: tuple[Period, ...] = field(default=(), repr=False)

    @property
    def everywhere(self) -> Urgency | None:
        """The emergency of all services, if one is on."""
        return next((one for one in self.emergencies if one.service_id is None), None)

    @property
    def next(self) -> Period | None:
        """The next period of the calendar; what an override holds off now counts from when that expires."""
        coming = rules.next_after(self.calendar, self.at)
        if self.held_off and self.override and self.override.ends_at < self.held_off.ends_at:
            return Period(self.override.ends_at, self.held_off.ends_at, self.held_off.reasons)
        return coming


# Deciding ------------------------------------------------------------------------------------------

Extent = tuple[datetime, datetime]


def decide(
    calendar: Sequence[Period], override: Override | None, emergencies: Sequence[Urgency], now: datetime
) -> InForce:
    """What is in force at ``now``; ``override`` and ``emergencies`` are those that are on."""
    period = rules.period_at(calendar, now)
    off = override is not None and not override.on
    counted = () if off else tuple(calendar)
    # What a person said counts although the clock may have gone back behind it since.
    ours: list[Extent] = [(min(one.starts_at, now), one.ends_at) for one in emergencies if one.service_id is None]
    ours += [(min(override.starts_at, now), override.ends_at)] if override is not None and override.on else []
    extent = extent_at([(one.starts_at, one.ends_at) for one in counted] + ours, now)
    freezing = [
        (one.in_force_from, one.in_force_until) for period in counted for one in period.reasons if one.freezes
    ]
    frozen = extent_at(freezing + ours, now)
    reasons = period.reasons_at(now) if period and not off else ()
    return InForce(
        at=now,
        critical=extent is not None,
        since=extent[0] if extent else None,
        until=extent[1] if extent else None,
        reasons=reasons,
        override=override,
        emergencies=tuple(emergencies),
        frozen=frozen is not None,
        frozen_until=frozen[1] if frozen else None,
        read_only=any(one.service_id is None for one in emergencies) or any(one.read_only for one in reasons),
        held_off=period if off else None,
        calendar=tuple(calendar),
    )


def extent_at(extents: Sequence[Extent], now: datetime) -> Extent | None:
    """From when to when ``now`` is covered without a gap; None when it is not."""
    starts_at = ends_at = None
    for low, high in sorted(extents):
        if ends_at is not None and low <= ends_at:
            ends_at = max(ends_at, high)
        elif ends_at is not None and ends_at > now:
            break
        elif low < high:
            starts_at, ends_at = low, high
    if starts_at is None or ends_at is None or not starts_at <= now < ends_at:
        return None
    return starts_at, ends_at


def again_at(found: InForce) -> datetime:
    """When it must be worked out again at the latest."""
    moments = [found.at + AGAIN, *(one.ends_at for one in found.emergencies)]
    moments += [found.override.ends_at] if found.override else []
    boundary = rules.boundaries(found.calendar, found.at)
    return min([*moments, *([boundary] if boundary else [])])


def told(found: InForce) -> list[dict[str, Any]]:
    """Why, as Posture keeps it: the gravest reason first; ``ends_at`` is the end of the whole."""
    whole = found.until.isoformat() if found.until else None
    rows = [
        _row("", "Emergency mode", one.reason, one.ends_at) for one in found.emergencies if one.service_id is None
    ]
    if found.override is not None and found.override.on:
        rows.append(_row("", f"Switched on by {found.override.by}", found.override.reason, found.override.ends_at))
    rows += [_row(one.rule, one.name, one.why, one.in_force_until) for one in found.reasons]
    return [row | {"ends_at": whole} for row in rows]


def why(found: InForce) -> str:
    """The reasons of what is in force, in one line."""
    return "; ".join(f"{one['name']}: {one['why']}" for one in told(found))


def _row(rule: str, name: str, why: str, until: datetime) -> dict[str, Any]:
    return {"rule": rule, "name": name, "why": why, "until": until.isoformat()}


# Reading -------------------------------------------------------------------------------------------


def now_in_force(now: datetime | None = None) -> InForce:
    """What is in force, worked out from rules, feeds, override and emergencies: four small queries."""
    now = now or timezone.now()
    return decide(calendar_around(now), _override(now), _emergencies(now), now)


def posture(now: datetime | None = None) -> Posture | None:
    """What is in force for everything, as last written; None when that is too old to be true."""
    now = now or timezone.now()
    row = Posture.objects.filter(service=None).first()
    if row is None or row.until is None or not now - STALE < row.until <= now + AGAIN + STALE:
        return None
    return row


def is_critical(now: datetime | None = None, service_id: int | None = None) -> bool:
    """Whether a critical day is in force, or an emergency, for everything or for that service. Cheap."""
    now = now or timezone.now()
    if service_id is not None and Posture.objects.filter(service_id=service_id, critical=True).exists():
        return True
    row = posture(now)
    return row.critical if row is not None else now_in_force(now).critical


def rule_of(row: CriticalRule) -> Rule:
    """A row as a rule; one without a zone, or with one that is unknown here, is in the site's."""
    try:
        zone = ZoneInfo(row.time_zone or settings.TIME_ZONE)
    except (ValueError, KeyError, OSError):
        logger.warning("a rule's time zone is not known", rule=row.slug, time_zone=row.time_zone)
        zone = ZoneInfo(settings.TIME_ZONE)
    return Rule(row.slug, row.spec, zone, row.name, row.lead, row.trail)


def owner_of(slug: str) -> str:
    """Whose feed it is, of a rule's."""
    return f"critical:{slug}"


_lock = threading.Lock()
_known: dict[str, tuple[Period, ...]] = {}


def forget() -> None:
    """Know no calendar (for tests)."""
    with _lock:
        _known.clear()


def calendar_around(now: datetime) -> tuple[Period, ...]:
    """Every period of the calendar from some weeks ago to some months ahead; kept until rules or feeds change."""
    rows = list(CriticalRule.objects.filter(archived_at=None))
    read = dict(CalendarFeed.objects.filter(owner__startswith="critical:").values_list("owner", "read_at"))
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    told = [[row.slug, row.spec, row.time_zone, row.name, row.lead, row.trail] for row in rows]
    key = json.dumps([told, sorted((owner, str(at)) for owner, at in read.items()), str(day), settings.TIME_ZONE])
    with _lock:
        if key not in _known:
            if len(_known) > 8:
                _known.clear()
            _known[key] = tuple(_expand([rule_of(row) for row in rows], day))
        return _known[key]


def _expand(found: Sequence[Rule], day: datetime) -> list[Period]:
    texts: Mapping[str, str] = {}
    if any("ical" in rule.spec for rule in found):
        owners = [owner_of(rule.slug) for rule in found if "ical" in rule.spec]
        texts = dict(CalendarFeed.objects.filter(owner__in=owners).values_list("owner", "text"))
    reasons: list[Reason] = []
    for rule in found:
        try:
            reasons += rules.reasons(rule, day - BEHIND, day + AHEAD, texts.get(owner_of(rule.slug), ""))
        except Exception:  # one rule that an older or newer version wrote must not cost the others
            logger.exception("a rule of critical days cannot be worked out", rule=rule.slug)
    return rules.merged(reasons)


def _override(now: datetime) -> Override | None:
    rows = CriticalOverride.objects.filter(ended_at=None, ends_at__gt=now)
    row = rows.order_by("-starts_at", "-id").first()
    return Override(row.id, row.on, row.starts_at, row.ends_at, row.reason, row.by) if row else None


def _emergencies(now: datetime) -> list[Urgency]:
    rows = Emergency.objects.filter(ended_at=None, ends_at__gt=now).select_related("service")
    return [
        Urgency(
            row.id,
            row.service_id,
            row.service.slug if row.service else "",
            row.service.label if row.service else "",
            row.starts_at,
            row.ends_at,
            row.reason,
            row.by,
        )
        for row in rows.order_by("starts_at", "id")
    ]


# Taking effect -------------------------------------------------------------------------------------


def refresh(now: datetime | None = None, *, force: bool = False) -> bool:
    """Work out what is in force, if it is time, and let it take effect; True when something changed.

    Called each second: most of the time it is one small query.
    """
    now = now or timezone.now()
    until = Posture.objects.filter(service=None).values_list("until", flat=True).first()
    if not force and until is not None and now < until <= now + AGAIN + APART:
        return False
    with transaction.atomic():
        row = locked()
        _end_what_is_over(now)
        found = now_in_force(now)
        before = _facts(row)
        _write(row, found)
        changed = [_facts(row) != before, _write_emergencies(found)]
        if any(changed):
            _take_effect(row, found, was_critical=before["critical"])
    return any(changed)


def look_again() -> None:
    """Something of it was changed: work it out anew within a second, in the caller's transaction."""
    Posture.objects.filter(service=None).update(until=None)


def locked() -> Posture:
    """The row for everything, locked: of two who change what is in force the second waits for the first."""
    Posture.objects.bulk_create([Posture(service=None)], ignore_conflicts=True)
    return Posture.objects.select_for_update().get(service=None)


_FACTS = ("critical", "emergency", "interval", "spare", "timeout", "confirm", "recovery", "frozen", "read_only",
          "since", "reasons")  # fmt: skip


def _facts(row: Posture) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FACTS}


def strictness_of(found: InForce) -> effects.Strictness:
    """How strict it is for every service that has no emergency of its own."""
    if found.everywhere:
        return effects.IN_AN_EMERGENCY
    return effects.ON_A_CRITICAL_DAY if found.critical else effects.AS_USUAL


def _write(row: Posture, found: InForce) -> None:
    strict = strictness_of(found)
    _set_factors(row, strict.factors)
    row.critical, row.emergency = strict.critical, strict.emergency
    row.frozen, row.read_only = found.frozen, found.read_only
    row.since, row.until, row.reasons = found.since, again_at(found), told(found)
    row.save()


def _set_factors(row: Posture, factors: effects.Factors) -> None:
    row.interval, row.spare, row.timeout = factors.interval, factors.spare, factors.timeout
    row.confirm, row.recovery = factors.confirm, factors.recovery


def _write_emergencies(found: InForce) -> bool:
    """One row for each service of an emergency; True when that changed anything."""
    wanted = {one.service_id: one for one in found.emergencies if one.service_id is not None}
    rows = Posture.objects.filter(service__isnull=False)
    present = {row.service_id: row for row in rows if row.service_id is not None}
    changed = set(present) - set(wanted)
    Posture.objects.filter(service_id__in=changed).delete()
    for service_id, one in wanted.items():
        row = present.get(service_id) or Posture(service_id=service_id)
        reasons = [_row("", "Emergency mode", one.reason, one.ends_at) | {"ends_at": one.ends_at.isoformat()}]
        if row.pk and row.reasons == reasons:
            continue
        _set_factors(row, effects.EMERGENCY)
        row.critical = row.emergency = row.read_only = True
        row.since, row.until, row.reasons = one.starts_at, one.ends_at, reasons
        row.save()
        changed.add(service_id)
    for service_id in sorted(changed):
        store.announce(service_id)  # its breaker tries again sooner, or as usual
    return bool(changed)


def _end_what_is_over(now: datetime) -> None:
    """Note the end of what ended by itself, with an audit row."""
    for model, action in ((CriticalOverride, "critical_day.override_over"), (Emergency, "emergency.over")):
        for row in model.objects.select_for_update().filter(ended_at=None, ends_at__lte=now):
            model.objects.filter(id=row.id).update(ended_at=row.ends_at)
            record(SYSTEM, action, "critical-days", row.reason, began=row.starts_at.isoformat(), by=row.by)


# Checks whose next probe is further off than their interval now allows; spread, so that they do not all come at once.
_PULL = """
UPDATE monitoring_checkstate s SET next_due_at = now() + make_interval(secs => t.every * random())
FROM (
    SELECT c.id, CASE
        WHEN coalesce(p.emergency, g.emergency)
            THEN least(c.interval * coalesce(p.interval, g.interval), %(emergency)s)
        WHEN g.critical AND v.criticality = ANY(%(mattering)s) THEN c.interval * g.interval
        WHEN g.critical THEN greatest(c.interval, least(c.interval * g.spare, %(spared)s))
        ELSE c.interval END AS every
    FROM monitoring_configuration c JOIN monitoring_service v ON v.id = c.service_id
    JOIN monitoring_posture g ON g.service_id IS NULL
    LEFT JOIN monitoring_posture p ON p.service_id = v.id
    WHERE c.archived_at IS NULL AND v.archived_at IS NULL
) t
WHERE t.id = s.check_id AND s.next_due_at > now() + make_interval(secs => t.every)
  AND (s.lease_until IS NULL OR s.lease_until < now())
"""


EMERGENCY_KIND = "emergency"
"""The kind of the alert that an emergency raises; an escalation tells everybody on it at once."""


def emergency_key(slug: str) -> str:
    """The key of an emergency's alert; ``slug`` is empty for that of all services."""
    return f"emergency:{slug or '*'}"


def _resolve_emergencies(found: InForce) -> None:
    wanted = {emergency_key(one.slug) for one in found.emergencies}
    open_ = {alert.key for alert in alerts.open_alerts([EMERGENCY_KIND])}
    alerts.resolve_all(open_ - wanted)


def _take_effect(row: Posture, found: InForce, *, was_critical: bool) -> None:
    factor = RecoveryFactor.objects.filter(id=1).values_list("factor", flat=True).first() or 1.0
    if factor != row.recovery:
        store.set_recovery_factor(row.recovery)
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {
            "emergency": effects.EMERGENCY_INTERVAL,
            "mattering": [word.value for word in effects.MATTERING],
            "spared": effects.LONGEST_SPARED,
        }
        cursor.execute(_PULL, parameters)
    if row.critical != was_critical:
        action = "critical_day.begin" if row.critical else "critical_day.end"
        record(SYSTEM, action, "critical-days", why(found), until=found.until and found.until.isoformat())
    _resolve_emergencies(found)
    live.publish(LIVE, {"critical": row.critical})
    live.publish("self", {"problem": None})  # banners are rendered along with wsmon's own state
