"""1,000 open dashboards on one web process: how fast a change of state reaches them, and what it costs."""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from dataclasses import dataclass, field

from benchmarks.harness import percentile, table, target, verdict
from benchmarks.stack import main_process, own_cpu_seconds, set_up_django, stack

VIEWERS, SERVICES = 1_000, 20


@dataclass
class Watchers:
    """Open event streams and when each last got an event about a service."""

    host: str
    port: int
    cookies: list[str]
    arrivals: list[float] = field(default_factory=list)
    ticks: int = 0
    connected: int = 0

    async def watch(self, cookie: str) -> None:
        """Read one stream for ever, noting when `svc-` events come."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"GET /live/ HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nCookie: {cookie}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        assert b" 200 " in status, status
        self.connected += 1
        while data := await reader.read(65_536):
            if b"event: svc-" in data:
                self.arrivals.append(time.monotonic())
            self.ticks += data.count(b"event: tick")

    async def run(self) -> None:
        """Open all streams, not all at the same instant."""
        tasks = []
        for number in range(VIEWERS):
            cookie = self.cookies[number % len(self.cookies)]
            tasks.append(asyncio.create_task(self.watch(cookie)))
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)


def main(arguments: argparse.Namespace) -> None:
    """Run, print a table."""
    seconds, rounds = (10, 5) if arguments.quick else (30, 20)
    with target() as url, stack(configuration(url)) as one:
        process = main_process(one)
        set_up_django(one)
        watchers = Watchers("127.0.0.1", one.port, cookies())
        threading.Thread(target=lambda: asyncio.run(watchers.run()), daemon=True).start()
        alone = usage(process, seconds)
        while watchers.connected < VIEWERS:
            time.sleep(0.1)
        time.sleep(3)
        watched, ticks = usage(process, seconds), watchers.ticks
        delays = [delay for _ in range(rounds) for delay in change(watchers)]
    cost = watched
    rows = [
        ["open dashboards", f"{watchers.connected:,}", ""],
        ["events received while measuring", f"{ticks:,}", ""],
        ["CPU cores of the process while they watch", f"{cost:.2f}", verdict(cost, 1.0, 0.2)],
        ["CPU cores while they connect", f"{alone:.2f}", ""],
        ["change committed to event, p50", f"{percentile(delays, 0.5) * 1000:.0f} ms", ""],
        [
            "change committed to event, p99",
            f"{percentile(delays, 0.99) * 1000:.0f} ms",
            verdict(percentile(delays, 0.99), 1.0, 0.25),
        ],
        ["changes that reached everybody", f"{len(delays) / (VIEWERS * rounds):.1%}", ""],
    ]
    table(f"{VIEWERS:,} dashboards, {SERVICES} services probed every 2 s", ["what", "value", "mark"], rows)


def configuration(url: str) -> str:
    """A wsmon.yaml whose services are probed every 2 s."""
    lines = ["services:"]
    for service in range(SERVICES):
        lines += [f"  s{service}:", "    provider: http", "    checks:"]
        lines += [f"      - {{kind: http, url: '{url}', interval: 2s, timeout: 1s}}"]
    return "\n".join(lines) + "\n"


def cookies() -> list[str]:
    """Cookie headers of as many accounts and browsers as so many streams take."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    from wsmon.live import MAX_PER_SESSION, MAX_PER_USER  # noqa: PLC0415

    found = []
    for number in range(-(-VIEWERS // MAX_PER_USER)):
        viewer = User.objects.create_superuser(f"viewer{number}")
        for _ in range(MAX_PER_USER // MAX_PER_SESSION):
            client = Client()
            client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
            found.append(f"sessionid={client.cookies['sessionid'].value}")
    return found


def usage(process: object, seconds: float) -> float:
    """CPU cores that a process uses over a time."""
    before, started = own_cpu_seconds(process), time.monotonic()
    time.sleep(seconds)
    return (own_cpu_seconds(process) - before) / (time.monotonic() - started)


def change(watchers: Watchers) -> list[float]:
    """Pause a service and resume it; the delays in seconds from the commit of the pause to each viewer."""
    from monitoring import actions  # noqa: PLC0415
    from monitoring.models import Check  # noqa: PLC0415
    from wsmon.audit import Actor  # noqa: PLC0415

    checks = list(Check.objects.filter(service__slug="s0"))
    actor = Actor.system("benchmark")
    watchers.arrivals.clear()
    actions.pause(checks, actor, "benchmark")
    committed = time.monotonic()
    time.sleep(1.5)
    delays = [max(arrival - committed, 0.0) for arrival in watchers.arrivals]
    actions.resume(checks, actor)
    time.sleep(2.5)
    return delays
