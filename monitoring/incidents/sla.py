"""What each vendor delivered in a month of UTC: uptime by our probes, incidents by whose fault they were."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import Q
from django.utils import timezone

import providers
from monitoring.incidents.facts import is_vendor
from monitoring.models import Incident, Rollup, Service

_MONTH = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])")
KEPT = 36
"""Months that one may ask for: as long as daily counts are kept, about."""


@dataclass(frozen=True, slots=True)
class Month:
    """One month, in UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read "2026-10"; raise ``ValueError``."""
        found = _MONTH.fullmatch(text)
        if found is None:
            raise ValueError("a month is written 2026-10")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, at: datetime) -> Month:
        """The month that holds a moment."""
        moment = at.astimezone(UTC)
        return cls(moment.year, moment.month)

    @property
    def start(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return self.later(1).start

    def later(self, months: int) -> Month:
        """The month so many later; earlier, when negative."""
        index = self.year * 12 + self.number - 1 + months
        return Month(index // 12, index % 12 + 1)

    def __str__(self) -> str:
        return f"{self.year}-{self.number:02d}"

    @property
    def words(self) -> str:
        """ "October 2026"."""
        return f"{self.start:%B %Y}"


@dataclass(slots=True)
class Statement:
    """One vendor's month. Durations are seconds; an incident counts with the part of it that lies in the month."""

    label: str
    services: list[str] = field(default_factory=list)
    healthy: int = 0
    degraded: int = 0
    failed: int = 0
    incidents: int = 0
    down: float = 0.0
    """Of incidents that were critical."""
    slow: float = 0.0
    """Of those that were degraded at worst."""
    by_verdict: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    longest: float = 0.0
    admitted: list[float] = field(default_factory=list)

    @property
    def uptime(self) -> float | None:
        """The share of probes in which it worked, 0..1; our own errors are left out. None without probes."""
        judged = self.healthy + self.degraded + self.failed
        return (self.healthy + self.degraded) / judged if judged else None

    @property
    def theirs(self) -> float:
        """Time of incidents that were their fault."""
        return self.by_verdict.get("theirs", 0.0)

    @property
    def ours(self) -> float:
        """The same of ours."""
        return self.by_verdict.get("ours", 0.0)

    @property
    def unclear(self) -> float:
        """The same of those where it stayed unclear."""
        return self.by_verdict.get("unclear", 0.0)

    @property
    def admits_after(self) -> float | None:
        """Seconds until it admitted an incident, on average; None when it admitted none."""
        return sum(self.admitted) / len(self.admitted) if self.admitted else None


_COUNTS = """
SELECT c.service_id, sum(u.healthy), sum(u.degraded), sum(u.critical)
FROM monitoring_rollup u JOIN monitoring_configuration c ON c.id = u.check_id
WHERE u.level = %(level)s AND u.start >= %(start)s AND u.start < %(end)s AND c.service_id = ANY(%(services)s)
GROUP BY 1
"""


def statements(month: Month, now: datetime | None = None) -> list[Statement]:
    """Every vendor's month, by name; three queries."""
    moment = now or timezone.now()
    services = list(Service.objects.filter(archived_at=None).order_by("slug"))
    found: dict[str, Statement] = {}
    of: dict[int, Statement] = {}
    for service in services:
        key, label = _vendor(service)
        one = found.setdefault(key, Statement(label))
        one.services.append(service.slug)
        of[service.id] = one
    _add_counts(of, month)
    _add_incidents(of, month, moment)
    return sorted(found.values(), key=lambda one: one.label.lower())


def _vendor(service: Service) -> tuple[str, str]:
    """What it is counted under, and its name: its vendor, or (what is of no vendor) itself."""
    if not is_vendor(service):
        return f"service:{service.slug}", service.label
    provider = providers.find(service.provider)
    return service.provider, provider.label if provider else service.provider


def _add_counts(of: dict[int, Statement], month: Month) -> None:
    values: dict[str, Any] = {
        "level": Rollup.Level.DAY.value,
        "start": month.start,
        "end": month.end,
        "services": list(of),
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, values)
        for service_id, healthy, degraded, failed in cursor.fetchall():
            of[service_id].healthy += int(healthy)
            of[service_id].degraded += int(degraded)
            of[service_id].failed += int(failed)


def _add_incidents(of: dict[int, Statement], month: Month, now: datetime) -> None:
    inside = Q(began_at__lt=month.end) & (Q(closed_at=None) | Q(closed_at__gt=month.start))
    for row in Incident.objects.filter(inside, service__in=of).defer("evidence").order_by("id"):
        one = of[row.service_id]
        start, end = max(row.began_at, month.start), min(row.closed_at or now, month.end)
        lasted = max((end - start).total_seconds(), 0.0)
        one.incidents += 1
        one.longest = max(one.longest, lasted)
        one.by_verdict[row.verdict] += lasted
        if row.worst == "critical":
            one.down += lasted
        else:
            one.slow += lasted
        if row.admitted_at is not None:
            one.admitted.append(max((row.admitted_at - row.began_at).total_seconds(), 0.0))


def months(now: datetime | None = None) -> list[Month]:
    """The months that one may choose, newest first: since the first incident or count there is."""
    this = Month.of(now or timezone.now())
    first = Incident.objects.order_by("began_at").values_list("began_at", flat=True).first()
    oldest = Month.of(first) if first else this
    back = (this.year - oldest.year) * 12 + this.number - oldest.number
    return [this.later(-number) for number in range(min(max(back, 2), KEPT) + 1)]


COLUMNS = (
    "month", "vendor", "services", "uptime_percent", "probes", "incidents", "down_minutes", "degraded_minutes",
    "theirs_minutes", "ours_minutes", "unclear_minutes", "longest_minutes", "admits_after_minutes",
)  # fmt: skip


def as_csv(month: Month, found: Iterable[Statement]) -> str:
    """One line for each vendor (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for one in found:
        uptime = "" if one.uptime is None else f"{one.uptime * 100:.4f}"
        admits = "" if one.admits_after is None else _minutes(one.admits_after)
        spans = (one.down, one.slow, one.theirs, one.ours, one.unclear, one.longest)
        names = (str(month), _cell(one.label), _cell(" ".join(one.services)))
        probes = one.healthy + one.degraded + one.failed
        writer.writerow([*names, uptime, probes, one.incidents, *map(_minutes, spans), admits])
    return out.getvalue()


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def _cell(text: str) -> str:
    """A spreadsheet would take what begins so for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
