"""Page times with an empty history and with ten million results, over HTTP, signed in."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import requests

from benchmarks.harness import percentile, table, verdict
from benchmarks.stack import connect, stack

SERVICES, CHECKS, DAYS = 100, 4, 7
PAGES = (
    "/",
    "/?state=unhealthy&period=7d",
    "/wall/",
    "/changes/",
    "/breakers/",
    "/services/s1/",
    "/services/s1/series.json?period=24h",
    "/services/s1/results/",
    "/api/admin/integrations/health?detailed=true",
    "/api/admin/integrations/status?timeframe=24h&include_metrics=true",
    "/api/admin/circuit-breakers/status",
)

# Results of the last days, evenly spread over the checks, 1% of them critical and 2% degraded.
RESULTS = """
INSERT INTO service_health_metrics (at, check_id, outcome, category, message, total_ms, first_byte_ms, http_status)
SELECT now() - (n * %(step)s::float8) * interval '1 second', c.id,
    CASE WHEN n %% 100 = 7 THEN 'critical' WHEN n %% 50 = 3 THEN 'degraded' ELSE 'healthy' END,
    CASE WHEN n %% 100 = 7 THEN 'SERVER_ERROR' ELSE '' END, '', 80 + 60 * random(), 70 + 60 * random(), 200
FROM monitoring_configuration c CROSS JOIN generate_series(%(first)s::int, %(last)s::int) AS n
"""

ROLLUPS = """
INSERT INTO monitoring_rollup
    (level, check_id, start, healthy, degraded, critical, error, sum_ms, max_ms, histogram)
SELECT %(level)s::int, check_id, to_timestamp(floor(extract(epoch FROM at) / %(level)s::int) * %(level)s::int),
    count(*) FILTER (WHERE outcome = 'healthy'), count(*) FILTER (WHERE outcome = 'degraded'),
    count(*) FILTER (WHERE outcome = 'critical'), 0, sum(total_ms), max(total_ms),
    wsmon_add_bins('{}', array_agg(least(floor(ln(total_ms / 0.25) / ln(2) * 6), 119)::int))
FROM service_health_metrics WHERE at > now() - make_interval(days => %(days)s::int)
GROUP BY 2, 3
"""


def main(arguments: argparse.Namespace) -> None:
    """Measure every page empty, fill the history, measure again."""
    wanted = 1_000_000 if arguments.quick else 10_000_000
    with stack(configuration()) as one, connect(one) as database:
        session = one.login()
        quiet(database)
        empty = measure(session, one.url)
        filled = fill(database, wanted)
        full = measure(session, one.url)
    rows = [
        [
            page,
            f"{empty[page]:.1f} ms",
            f"{full[page]:.1f} ms",
            f"{full[page] / empty[page]:.2f}",
            f"{verdict(full[page], 200, 50)} / {verdict(full[page] / empty[page], 1.5, 1.5)}",
        ]
        for page in PAGES
    ]
    title = (
        f"Pages, p95 of 60 requests (better of two rounds), with {SERVICES * CHECKS} checks: 0 and {filled:,} results"
    )
    table(title, ["page", "empty", "full", "ratio", "time / ratio"], rows)


def configuration() -> str:
    """A wsmon.yaml whose checks are probed once a day, so that nothing else happens meanwhile."""
    lines = ["services:"]
    for service in range(SERVICES):
        lines += [f"  s{service}:", "    provider: http", "    checks:"]
        lines += [
            f"      - {{kind: http, name: c{n}, url: 'http://127.0.0.1:9/', interval: 1d, timeout: 5s}}"
            for n in range(CHECKS)
        ]
    return "\n".join(lines) + "\n"


def quiet(database: psycopg.Connection[Any]) -> None:
    """Let the first round of probes pass."""
    time.sleep(5)
    database.execute("UPDATE monitoring_checkstate SET next_due_at = now() + interval '1 day'")


def fill(database: psycopg.Connection[Any], wanted: int) -> int:
    """Make the history of a week; return how many results there are."""
    rounds = wanted // (SERVICES * CHECKS)
    step = DAYS * 86_400 / rounds
    make_partitions(database)
    chunk = max(rounds // 10, 1)
    for first in range(0, rounds, chunk):
        last = min(first + chunk, rounds) - 1
        database.execute(RESULTS, {"step": step, "first": first, "last": last})
    database.execute("DELETE FROM monitoring_rollup")
    for level, days in ((60, 2), (960, 7), (3600, 7), (86_400, 7)):
        database.execute(ROLLUPS, {"level": level, "days": days})
    database.execute("VACUUM ANALYZE")
    # Or it would write gigabytes while the pages are measured. Only its own account may ask for that.
    with psycopg.connect(host=database.info.host, dbname="wsmon", user="postgres", autocommit=True) as superuser:
        superuser.execute("CHECKPOINT")
    time.sleep(75)  # the summaries are made each minute
    return int(database.execute("SELECT count(*) FROM service_health_metrics").fetchone()[0])  # type: ignore[index]


def make_partitions(database: psycopg.Connection[Any]) -> None:
    """One partition for each of the last days that has none."""
    today = datetime.now(UTC).date()
    for day in (today - timedelta(days=back) for back in range(2, DAYS + 2)):
        database.execute(
            f"CREATE TABLE IF NOT EXISTS service_health_metrics_p{day:%Y%m%d} PARTITION OF service_health_metrics"
            f" FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
        )


def measure(session: requests.Session, base: str) -> dict[str, float]:
    """p95 in ms of each page: the better of two rounds, since the load generator shares the machine."""
    first, second = _round(session, base), _round(session, base)
    return {page: min(first[page], second[page]) for page in PAGES}


def _round(session: requests.Session, base: str) -> dict[str, float]:
    """Each page in turn, so that a moment in which the machine does something else is not one page's alone."""
    found: dict[str, list[float]] = {page: [] for page in PAGES}
    for number in range(65):
        for page in PAGES:
            started = time.perf_counter()
            answer = session.get(base + page, timeout=30)
            took = (time.perf_counter() - started) * 1000
            assert answer.status_code == 200, f"{page}: {answer.status_code}"
            if number >= 5:
                found[page].append(took)
    return {page: percentile(times, 0.95) for page, times in found.items()}
