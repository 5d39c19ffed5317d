"""Rule: a service burns its error budget too fast: multiwindow, multi-burn-rate alerts.

https://sre.google/workbook/alerting-on-slos/ (table 5-8): a burn rate of 14.4 over an hour uses 2% of a month's
budget, one of 6 over six hours 5%. The short window, a twelfth of the long one, ends the alert soon after the
failures end. Probes are few where the workbook has requests by the thousand, so a few failures are asked for too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, page_of, rate_words
from monitoring.alertrules.thresholds import Thresholds

KIND = "error_budget"
LEAST_IN_LONG = 5
LEAST_IN_SHORT = 2
"""Failed probes."""
MONTH = timedelta(days=30)

FAST = ("1h", "5m")
SLOW = ("6h", "30m")
"""The long window and the short one."""


@dataclass(frozen=True, slots=True)
class Share:
    """Probes of one window that count: those that were our own fault do not."""

    total: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """The share that failed, 0..1."""
        return self.failed / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Burning:
    """A service's probes by window: "5m", "30m", "1h", "6h"."""

    service_id: int
    service: str
    windows: Mapping[str, Share]
    label: str = ""
    """What people call it; empty: as ``service``."""


def burns(burning: Burning, windows: tuple[str, str], slo: float, times: float) -> bool:
    """Whether both windows burn the budget that many times faster than ``slo`` (0..1) allows."""
    long, short = (burning.windows.get(name, Share()) for name in windows)
    allowed = times * (1 - slo)
    if long.failed < LEAST_IN_LONG or short.failed < LEAST_IN_SHORT:
        return False
    return long.rate >= allowed and short.rate >= allowed


def find(services: Iterable[Burning], thresholds: Thresholds) -> list[Finding]:
    """One finding for each service: the fast burn is critical, the slow one a warning."""
    found = []
    for one in services:
        slo, limits = thresholds.slo(one.service), thresholds.error_budget
        for windows, times, severity in (
            (FAST, limits.fast, Severity.CRITICAL),
            (SLOW, limits.slow, Severity.WARNING),
        ):
            if burns(one, windows, slo, times):
                found.append(_finding(one, windows, slo, severity))
                break
    return found


def _finding(one: Burning, windows: tuple[str, str], slo: float, severity: Severity) -> Finding:
    long, short = (one.windows[name] for name in windows)
    rate = long.rate / (1 - slo)
    days = MONTH.days / rate
    lasts = f"{days:.0f} days" if days >= 2 else f"{days * 24:.3g} h"
    pace = "fast" if severity == Severity.CRITICAL else "slowly"
    return Finding(
        key=f"error-budget:{one.service}",
        kind=KIND,
        severity=severity.value,
        title=f"{one.label or one.service} burns its error budget {pace}",
        detail=f"{rate_words(long.rate)} of its probes failed within {windows[0]} and {rate_words(short.rate)} within"
        f" {windows[1]}: {rate:,.0f} times what {slo * 100:g}% allows. At this pace a month's budget lasts {lasts}.",
        url=page_of(one.service),
        service=one.service_id,
    )


# Of services without a failure nothing has to be added up; the long window is made of larger buckets.
_WINDOWS = """
WITH failing AS (
    SELECT c.service_id FROM monitoring_configuration c
    JOIN monitoring_rollup u ON u.check_id = c.id AND u.level = 60 AND u.start > %(now)s - interval '30 minutes'
    WHERE c.archived_at IS NULL AND c.paused_at IS NULL GROUP BY 1 HAVING sum(u.critical) >= %(least)s
), mine AS (
    SELECT c.id, c.service_id FROM monitoring_configuration c JOIN failing f ON f.service_id = c.service_id
    WHERE c.archived_at IS NULL AND c.paused_at IS NULL
), counted AS (
    SELECT c.service_id, w.name, sum(u.healthy + u.degraded + u.critical)::int AS total,
        sum(u.critical)::int AS failed
    FROM mine c
    CROSS JOIN (VALUES ('5m', 60, interval '5 minutes'), ('30m', 60, interval '30 minutes'),
        ('1h', 60, interval '1 hour'), ('6h', 960, interval '6 hours')) AS w(name, level, length)
    JOIN monitoring_rollup u ON u.check_id = c.id AND u.level = w.level AND u.start > %(now)s - w.length
    GROUP BY 1, 2
)
SELECT v.id, v.slug, v.name, c.name, c.total, c.failed FROM counted c
JOIN monitoring_service v ON v.id = c.service_id AND v.archived_at IS NULL ORDER BY v.slug
"""


def read(now: datetime) -> list[Burning]:
    """The services whose probes failed lately."""
    found: dict[tuple[int, str, str], dict[str, Share]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_WINDOWS, {"now": now, "least": LEAST_IN_SHORT})
        for service_id, slug, label, name, total, failed in cursor.fetchall():
            found.setdefault((service_id, slug, label), {})[name] = Share(total, failed)
    return [Burning(service_id, slug, windows, label) for (service_id, slug, label), windows in found.items()]


def look(context: Context) -> list[Finding]:
    """Read and find."""
    return find(read(context.now), context.thresholds)


RULE = Rule(KIND, 60.0, look, echo=True)
