"""Adding up rollups: counts and response times of some checks over a span, summed by the database.

What a page shows of a week of results is a few hundred rows of sums, whatever the number of results;
Python never sees a histogram that still has to be added to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from monitoring import histogram

LETTERS = {"critical": "c", "error": "e", "degraded": "d", "healthy": "h"}
"""An outcome's letter in an uptime strip, worst first."""
NO_DATA = "."

Owners = Mapping[int, int]
"""By check: the key under which its numbers are added up; its own id, its service's, or one for all."""


@dataclass(slots=True)
class Counts:
    """Results of one slice or span, by outcome, with their response times."""

    healthy: int = 0
    degraded: int = 0
    critical: int = 0
    error: int = 0
    slowest_ms: float | None = None
    histogram: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All results."""
        return self.healthy + self.degraded + self.critical + self.error

    @property
    def uptime(self) -> float | None:
        """The share of results, among those not our own fault, in which the target worked (0..1)."""
        judged = self.healthy + self.degraded + self.critical
        return (self.healthy + self.degraded) / judged if judged else None

    @property
    def letter(self) -> str:
        """The worst outcome: c, e, d, h, or a dot for no data."""
        return next((letter for word, letter in LETTERS.items() if getattr(self, word)), NO_DATA)

    def percentile(self, share: float) -> float | None:
        """The response time in ms that ``share`` (0..1) of the results did not exceed; None without any."""
        return histogram.percentile(self.histogram, share)

    def add(self, other: Counts) -> None:
        """Add the results of another slice."""
        self.healthy += other.healthy
        self.degraded += other.degraded
        self.critical += other.critical
        self.error += other.error
        if other.slowest_ms is not None:
            self.slowest_ms = max(self.slowest_ms or 0.0, other.slowest_ms)
        for index, number in other.histogram.items():
            self.histogram[index] = self.histogram.get(index, 0) + number

    def sentence(self) -> str:
        """What a tooltip says of a slot that was not all healthy."""
        if self.critical:
            return f"critical, {self.critical:,} of {self.total:,} probes failed"
        if self.error:
            return f"error (ours), {self.error:,} of {self.total:,} probes"
        slowest = f", slowest {self.slowest_ms:,.0f} ms" if self.slowest_ms else ""
        return f"degraded, {self.degraded:,} of {self.total:,} probes{slowest}"


_PICKED = """
WITH picked AS (
    SELECT o.owner, {slice} AS slice, u.healthy, u.degraded, u.critical, u.error, u.max_ms, u.histogram
    FROM unnest(%(checks)s::bigint[], %(owners)s::bigint[]) AS o(check_id, owner)
    JOIN monitoring_rollup u ON u.check_id = o.check_id AND u.level = %(level)s AND u.start > %(after)s
), counted AS (
    SELECT owner, slice, sum(healthy) AS healthy, sum(degraded) AS degraded, sum(critical) AS critical,
        sum(error) AS error, max(max_ms) AS slowest
    FROM picked GROUP BY owner, slice
)"""
_WHOLE = "timestamptz 'epoch'"  # one slice; NULL would not join
_SLICED = "date_bin(make_interval(secs => %(seconds)s), u.start, 'epoch')"

_WITH_TIMES = """, bins AS (
    SELECT owner, slice, bin, sum(number) AS number
    FROM (
        -- Not a join with unnest(): a row has a dozen bins, and starting a function for each row is dear.
        SELECT owner, slice, unnest(histogram) AS number, generate_subscripts(histogram, 1) AS bin FROM picked
    ) AS each WHERE number > 0 GROUP BY owner, slice, bin
), times AS (
    SELECT owner, slice, array_agg(bin) AS bins, array_agg(number::bigint) AS numbers FROM bins GROUP BY owner, slice
)
SELECT c.owner, c.slice, c.healthy, c.degraded, c.critical, c.error, c.slowest, t.bins, t.numbers
FROM counted c LEFT JOIN times t ON t.owner = c.owner AND t.slice = c.slice
ORDER BY c.slice"""
_WITHOUT_TIMES = """
SELECT owner, slice, healthy, degraded, critical, error, slowest, NULL, NULL FROM counted ORDER BY slice"""


def totals(owners: Owners, level: int, after: datetime, *, times: bool = True) -> dict[int, Counts]:
    """All results in rollups of ``level`` that start later than ``after``, by owner; empty counts without any.

    ``times=False`` spares the histograms, most of the work.
    """
    found = {owner: Counts() for owner in owners.values()}
    for owner, _start, counts in _sums(_WHOLE, owners, level, after, times=times):
        found[owner] = counts
    return found


def slices(
    owners: Owners, level: int, after: datetime, seconds: int, *, times: bool = True
) -> dict[int, list[tuple[datetime, Counts]]]:
    """The same cut into slices of ``seconds``, by owner: (start, counts), oldest first, empty ones left out."""
    found: dict[int, list[tuple[datetime, Counts]]] = {owner: [] for owner in owners.values()}
    for owner, start, counts in _sums(_SLICED, owners, level, after, seconds, times=times):
        found[owner].append((start, counts))
    return found


def _sums(
    cut: str, owners: Owners, level: int, after: datetime, seconds: int = 0, *, times: bool
) -> Iterator[tuple[int, Any, Counts]]:
    query = _PICKED.format(slice=cut) + (_WITH_TIMES if times else _WITHOUT_TIMES)
    parameters: dict[str, Any] = {"checks": list(owners), "owners": list(owners.values())}
    parameters |= {"level": level, "after": after, "seconds": seconds}
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    for owner, start, healthy, degraded, critical, error, slowest, bins, numbers in rows:
        found = dict(zip(bins, numbers, strict=True)) if bins else {}
        yield owner, start, Counts(int(healthy), int(degraded), int(critical), int(error), slowest, found)
