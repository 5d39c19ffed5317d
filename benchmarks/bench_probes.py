"""Probes per second of one worker process, judged and stored, beside blackbox_exporter on the same target."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import requests

from benchmarks.harness import blackbox, cpu_seconds, database, table, target, verdict

SERVICES, CHECKS = 40, 100
"""4,000 checks, each due every second: more than a worker gets done, so that it is never idle."""


def main(arguments: argparse.Namespace) -> None:
    """Run both, print a table."""
    seconds = 10 if arguments.quick else 30
    with target() as url:
        with blackbox() as peer:
            theirs = measure_blackbox(peer, url, seconds) if peer else None
        with database():
            ours = measure_wsmon(url, seconds)
    rows = []
    if theirs:
        rows.append(["blackbox_exporter", f"{theirs[0]:,.0f}", f"{theirs[1] * 1000:.2f}", "-", "1.0", ""])
    ratio = ours[1] / theirs[1] if theirs else float("nan")
    marks = f"{verdict(ours[0], 300, 1000, lower_is_better=False)} / {verdict(ratio, 4, 2)}"
    rows.append(
        ["wsmon worker", f"{ours[0]:,.0f}", f"{ours[1] * 1000:.2f}", f"{ours[2] * 1000:.2f}", f"{ratio:.1f}", marks]
    )
    header = ["prober", "probes/s", "CPU ms/probe", "database CPU ms/probe", "CPU ratio", "rate / CPU"]
    table("Probing a loopback HTTP target (wsmon's are judged and stored)", header, rows)


def measure_blackbox(peer: tuple[str, psutil.Process], url: str, seconds: float) -> tuple[float, float]:
    """(probes per second, CPU seconds per probe) with 32 probes at once."""
    base, process = peer
    done = 0
    lock = threading.Lock()
    stop = time.monotonic() + seconds

    def loop() -> None:
        nonlocal done
        with requests.Session() as session:
            session.trust_env = False
            count = 0
            while time.monotonic() < stop:
                answer = session.get(f"{base}/probe", params={"target": url, "module": "http"}, timeout=10)
                assert "probe_success 1" in answer.text
                count += 1
        with lock:
            done += count

    before, started = cpu_seconds([process]), time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        for future in [pool.submit(loop) for _ in range(32)]:
            future.result()
    return done / (time.monotonic() - started), (cpu_seconds([process]) - before) / max(done, 1)


def measure_wsmon(url: str, seconds: float) -> tuple[float, float, float]:
    """(probes per second, worker CPU seconds per probe, database CPU seconds per probe)."""
    from monitoring import housekeeping, prober  # noqa: PLC0415
    from monitoring.models import ProbeResult  # noqa: PLC0415

    make_checks(url, SERVICES, CHECKS, interval=1)
    housekeeping.make_partitions()
    postgres = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "postgres" and ours(p)]
    me = psutil.Process()
    running = prober.prober()
    with ticking(running):
        time.sleep(3)
        count, cpu, db = ProbeResult.objects.count(), own_cpu(me), cpu_seconds(postgres)
        started = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - started
        done = ProbeResult.objects.count() - count
        used, db_used = own_cpu(me) - cpu, cpu_seconds(postgres) - db
    prober.stop()
    bad = ProbeResult.objects.exclude(outcome="healthy").count()
    assert not bad, f"{bad} probes were not healthy"
    return done / took, used / done, db_used / done


def make_checks(url: str, services: int, checks: int, interval: float) -> None:
    """Services of the http provider with checks of one target, due now."""
    from monitoring.models import Check, CheckState, Service  # noqa: PLC0415

    made = Service.objects.bulk_create(Service(slug=f"s{n}", provider="http") for n in range(services))
    rows = Check.objects.bulk_create(
        Check(service=service, name=f"c{n}", kind="http", interval=interval, timeout=5, options={"url": url})
        for service in made
        for n in range(checks)
    )
    CheckState.objects.bulk_create(CheckState(check_ref=row) for row in rows)


@contextmanager
def ticking(running: object) -> Iterator[None]:
    """Tick each second, as the scheduler does."""
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.wait(1):
            running.tick()  # type: ignore[attr-defined]

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    yield
    stopped.set()
    thread.join()


def own_cpu(me: psutil.Process) -> float:
    """CPU of this process alone."""
    times = me.cpu_times()
    return float(times.user + times.system)


def ours(process: psutil.Process) -> bool:
    """Whether a PostgreSQL process (the postmaster or a child) belongs to this benchmark's database."""
    try:
        return any(os.environ["WSMON_DATA_DIR"] in part for part in process.cmdline())
    except psutil.Error:
        return False
