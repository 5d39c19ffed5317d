"""What an incident costs of its service's error budget: the part of 30 days in which probes may fail.

The budget is that of the rules (``monitoring.alertrules.thresholds``): at an SLO of 99.9% of the probes 43 min of
30 days. Failed probes become time by their share of all probes within the time that was watched. Slow answers count
as good ones, our own errors not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from monitoring.alertrules import thresholds
from monitoring.alertrules.budget import MONTH
from monitoring.models import Incident, Rollup
from monitoring.templatetags.wsmon_ui import span_words

_LEVEL = Rollup.Level
_FINEST = ((timedelta(days=2), _LEVEL.MINUTE), (timedelta(days=9), _LEVEL.SLOT))
"""How long ago it may have begun for its probes to be counted by the minute, or by the sixteen minutes; a margin less
than these rollups are kept (``monitoring.housekeeping``)."""
_MARGIN = timedelta(hours=2)
BAR = 100
"""Width of the picture."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Probes of a service within the budget's time, and its failed ones of one incident."""

    total: int
    failed: int
    of_incident: int
    watched: float
    """Seconds for which there are probes."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of 30 days in which probes may fail, and in which they did."""

    slo: float
    """Share of the probes that must succeed, 0..1."""
    allowed: float
    used: float
    """In all, up to the end of the incident, or now."""
    cost: float
    """By the incident alone."""
    is_open: bool = True

    @property
    def percent(self) -> int:
        """How much of it is used, in per cent: 100 and more, it is used up."""
        return int(self.used / self.allowed * 100)

    @property
    def _share(self) -> str:
        return f"{self.percent:,}%" if self.percent else "under 1%"

    @property
    def words(self) -> str:
        """ "this outage has used 12 min of the 43 min that 99.9% allows in 30 days; 20 min (46%) in all"."""
        has = "has used" if self.is_open else "used"
        cost = span_words(self.cost) if self.cost else "none"
        allowed = f"the {span_words(self.allowed)} that {self.slo * 100:g}% allows in 30 days"
        words = f"this outage {has} {cost} of {allowed}"
        if self.percent >= 100:
            return f"{words}; it is used up: {span_words(self.used)} ({self._share}) in all"
        if self.used - self.cost >= 1:
            return f"{words}; {span_words(self.used)} ({self._share}) in all"
        return f"{words} ({self._share})" if self.cost else words

    @property
    def before_width(self) -> int:
        """The picture: how wide the part is that was used by others."""
        return min(round(BAR * (self.used - self.cost) / self.allowed), BAR)

    @property
    def cost_width(self) -> int:
        """The picture: how wide its own part is; never nothing when there is something."""
        width = round(BAR * self.cost / self.allowed)
        return min(max(width, 1 if self.cost else 0), BAR - self.before_width)


def spent(counted: Counted, slo: float, *, is_open: bool = True) -> Budget | None:
    """Probes as time. None: there are none yet."""
    if not counted.total or counted.watched <= 0:
        return None
    second = counted.watched / counted.total
    cost = min(counted.of_incident, counted.failed) * second
    return Budget(slo, MONTH.total_seconds() * (1 - slo), counted.failed * second, cost, is_open)


def of(incident: Incident, now: datetime | None = None) -> Budget | None:
    """What it has cost, and what is used in the 30 days up to its end; None without probes. Two queries."""
    moment = now or timezone.now()
    slo = thresholds.present().slo(incident.service.slug)
    return spent(count(incident, moment), slo, is_open=incident.closed_at is None)


def _level(age: timedelta) -> Rollup.Level:
    """The finest rollups that are still kept of so long ago."""
    return next((level for kept, level in _FINEST if age + _MARGIN < kept), _LEVEL.HOUR)


# What lies where the minutes begin within the first hour is the service's own beginning, not that of what is kept.
_COUNTED = """
WITH mine AS (
    SELECT id FROM monitoring_configuration WHERE service_id = %(service)s AND archived_at IS NULL
), whole AS (
    SELECT sum(u.healthy + u.degraded + u.critical) AS total, sum(u.critical) AS failed
    FROM mine CROSS JOIN LATERAL (
        SELECT healthy, degraded, critical FROM monitoring_rollup
        WHERE level = 3600 AND check_id = mine.id AND start > %(since)s AND start < %(whole_hours)s
        UNION ALL SELECT healthy, degraded, critical FROM monitoring_rollup
        WHERE level = 60 AND check_id = mine.id AND start >= %(whole_hours)s AND start <= %(until)s
    ) u
), own AS (
    SELECT sum(u.critical) AS failed
    FROM mine JOIN monitoring_rollup u ON u.check_id = mine.id AND u.level = %(fine)s
        AND u.start > %(began)s - make_interval(secs => %(fine)s) AND u.start < %(until)s
), first AS (
    SELECT min(h.start) AS hour, min(m.start) AS minute FROM mine
    LEFT JOIN LATERAL (
        SELECT u.start FROM monitoring_rollup u WHERE u.level = 3600 AND u.check_id = mine.id AND u.start > %(since)s
        ORDER BY u.start LIMIT 1
    ) h ON true
    LEFT JOIN LATERAL (
        SELECT u.start FROM monitoring_rollup u WHERE u.level = 60 AND u.check_id = mine.id ORDER BY u.start LIMIT 1
    ) m ON true
)
SELECT coalesce(whole.total, 0)::bigint, coalesce(whole.failed, 0)::bigint, coalesce(own.failed, 0)::bigint,
    CASE WHEN first.minute >= first.hour AND first.minute < first.hour + interval '1 hour'
        THEN first.minute ELSE first.hour END
FROM whole, own, first
"""


def count(incident: Incident, now: datetime) -> Counted:
    """The service's probes: by the hour, in the last one by the minute. What is over long ago ends with its hour."""
    until = incident.closed_at or now
    whole_hours = until.replace(minute=0, second=0, microsecond=0)
    if _level(now - until) != _LEVEL.MINUTE:
        until = whole_hours = whole_hours + timedelta(hours=1)
    since = until - MONTH
    values: dict[str, Any] = {
        "service": incident.service_id,
        "fine": _level(now - incident.began_at).value,
        "since": since,
        "whole_hours": whole_hours,
        "until": until,
        "began": max(incident.began_at, since),
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, values)
        total, failed, of_incident, first = cursor.fetchone()
    watched = (until - max(first, since)).total_seconds() if first else 0.0
    return Counted(total, failed, of_incident, max(watched, 0.0))
