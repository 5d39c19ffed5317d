"""A past for checks: raw results and their rollups, written straight into the tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Model
from django.utils import timezone

from monitoring.histogram import bin_of
from monitoring.models import Check, ProbeResult, Rollup


def remember(check: Check, rows: Iterable[tuple[datetime, str, float, str]]) -> None:
    """Write results (at, outcome, total ms, message) and the rollups they add up to."""
    found = list(rows)
    _copy(ProbeResult, [
        {
            "id": number + check.id * 1_000_000, "at": at, "check_id": check.id, "outcome": outcome,
            "message": message, "total_ms": ms, "category": "TIMEOUT_ERROR" if outcome == "critical" else "",
            "http_status": None if outcome == "critical" else 200, "dns_ms": 12 if number % 4 == 0 else None,
            "connect_ms": 31 if number % 4 == 0 else None, "tls_ms": 44 if number % 4 == 0 else None,
            "first_byte_ms": None if outcome == "critical" else ms - 4, "manual": False, "details": "{}",
        }
        for number, (at, outcome, ms, message) in enumerate(found)
    ])  # fmt: skip
    _copy(Rollup, [row for level in Rollup.Level for row in _rollups(check, level.value, found)])


def _copy(model: type[Model], rows: list[dict[str, Any]]) -> None:
    """A quarter of the time that Django's own way takes, which would be most of many tests' beginning."""
    columns = ", ".join(rows[0])
    with connection.cursor() as cursor, cursor.copy(f"COPY {model._meta.db_table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(list(row.values()))


def _rollups(check: Check, level: int, rows: list[tuple[datetime, str, float, str]]) -> list[dict[str, Any]]:
    buckets: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for at, outcome, ms, _message in rows:
        buckets[int(at.timestamp()) // level * level].append((outcome, ms))
    return [_rollup(check, level, start, bucket) for start, bucket in buckets.items()]


def _rollup(check: Check, level: int, start: int, bucket: list[tuple[str, float]]) -> dict[str, Any]:
    words = [outcome for outcome, _ms in bucket]
    bins = [0] * max(bin_of(ms) for _outcome, ms in bucket)
    for _outcome, ms in bucket:
        bins[bin_of(ms) - 1] += 1  # PostgreSQL's arrays begin at 1, bins at 0
    return {
        "level": level, "check_id": check.id, "start": datetime.fromtimestamp(start, UTC),
        **{word: words.count(word) for word in ("healthy", "degraded", "critical", "error")},
        "sum_ms": sum(ms for _outcome, ms in bucket), "max_ms": max(ms for _outcome, ms in bucket), "histogram": bins,
    }  # fmt: skip


def slow_since(check: Check, minutes: int = 41, hours: float = 6, usual: float = 300, slow: float = 2400) -> None:
    """Results every 30 s for ``hours``: as usual, slow for the last ``minutes``, one timeout in between."""
    now = timezone.now()
    rows = []
    for step in range(int(hours * 120)):
        at = now - timedelta(seconds=30 * step)
        wave = 1 + 0.15 * math.sin(step * 1.7) + 0.08 * math.sin(step * 0.31)
        if step == 7:
            rows.append((at, "critical", 5000.0, "timed out after 5 s waiting for the first byte"))
        elif step < minutes * 2:
            rows.append((at, "degraded", slow * wave, "200; slow: over 1,500 ms"))
        else:
            rows.append((at, "healthy", usual * wave, "200, 1 message listed"))
    remember(check, rows)
