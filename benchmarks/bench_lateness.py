"""How late due checks are: 1,000 checks every 10 s for two minutes in the whole embedded stack."""

from __future__ import annotations

import argparse
import time

from benchmarks.harness import cpu_seconds, table, target, verdict
from benchmarks.stack import connect, main_process, own_cpu_seconds, stack

SERVICES, CHECKS = 100, 10


def main(arguments: argparse.Namespace) -> None:
    """Run, print a table. The lateness is what the worker measures: start of a probe after its due time."""
    minutes = 1 if arguments.quick else 2
    with target() as url, stack(configuration(url)) as one, connect(one) as database:
        process = main_process(one)
        time.sleep(25)  # the first round spreads the checks over their interval
        before = count(database)
        cpu, own, started = cpu_seconds([process]), own_cpu_seconds(process), time.monotonic()
        late = []
        for _ in range(minutes):
            time.sleep(60)
            late.append(float(str(scalar(database, "SELECT max(late_ms) FROM monitoring_process"))))
        took = time.monotonic() - started
        rate = (count(database) - before) / took
        share, own_share = (cpu_seconds([process]) - cpu) / took, (own_cpu_seconds(process) - own) / took
        bad = scalar(database, "SELECT count(*) FROM service_health_metrics WHERE outcome <> 'healthy'")
    worst = max(late)
    table(
        f"Lateness of {SERVICES * CHECKS:,} checks every 10 s over {minutes} min",
        ["stack", "probes/s", "late p99 (worst minute)", "mark", "CPU cores, all", "CPU cores, wsmon", "not healthy"],
        [
            [
                "make run",
                f"{rate:.1f}",
                f"{worst:.1f} ms",
                verdict(worst, 1000, 200),
                f"{share:.2f}",
                f"{own_share:.2f}",
                bad,
            ]
        ],
    )


def configuration(url: str) -> str:
    """A wsmon.yaml with all checks on one target."""
    lines = ["services:"]
    for service in range(SERVICES):
        lines += [f"  s{service}:", "    provider: http", "    checks:"]
        lines += [
            f"      - {{kind: http, name: c{n}, url: '{url}', interval: 10s, timeout: 5s}}" for n in range(CHECKS)
        ]
    return "\n".join(lines) + "\n"


def count(database: object) -> int:
    """Results so far."""
    return int(str(scalar(database, "SELECT count(*) FROM service_health_metrics")))


def scalar(database: object, query: str) -> object:
    """The one value of a query."""
    return database.execute(query).fetchone()[0]  # type: ignore[attr-defined]
