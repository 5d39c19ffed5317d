"""Alerts: from the first failing probe to the message received; 10,000 through the outbox; the cost per outcome."""

from __future__ import annotations

import argparse
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import requests

from benchmarks import sinks
from benchmarks.harness import database, percentile, table, verdict
from benchmarks.sinks import Arrivals, Faults
from benchmarks.stack import stack
from tests.whole import Stack

TOKEN = "benchmark-bootstrap-token-0001"
INTERVAL = 30.0
BATCH = 50
CHANNELS = 100
"""Among which messages are spread when each goes out by itself: a channel takes a few at once."""


def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    latencies(8 if arguments.quick else 20)
    with database(), sinks.hook() as (port, arrived):
        outbox(2_000 if arguments.quick else 10_000, port, arrived)
        costs(2_000 if arguments.quick else 10_000)


# How long until somebody is told ---------------------------------------------------------------------


def latencies(number: int) -> None:
    """Services fail one after the other; each has a channel of its own, so that none waits for the others'."""
    rows: list[list[Any]] = []
    with sinks.mail() as (smtp, mails), sinks.hook() as (web, hooks), sinks.faults() as services:
        config = configuration(number, services.port)
        env = {
            "WSMON_BOOTSTRAP_TOKEN": TOKEN,
            "WSMON_CONTROL_TARGETS": f"127.0.0.1:{services.port}",
            "BENCH_MAIL": f"smtp://127.0.0.1:{smtp}/?from=wsmon@example.com&to=ops@example.com",
            "BENCH_HOOK": f"json://127.0.0.1:{web}/",
        }
        with stack(config, **env) as one:
            time.sleep(INTERVAL + 5)  # every check was probed once: none is new any more
            for day, on in (("usual", False), ("critical day", True)):
                switch(one, on)
                time.sleep(INTERVAL / 2 if on else 2)
                rows += run(day, number, services, mails, hooks)
                recover(one, services)
    table(
        f"From failure to message, {number} services one after the other, interval {INTERVAL:g} s, confirm_down 2",
        ["day", "to", "begin of failure", "first failing probe", "confirmation p50", "confirmation p95", "verdict"],
        rows,
    )


def configuration(number: int, port: int) -> str:
    """A service and two channels each."""
    lines = ["services:"]
    for service in range(number):
        lines += [f"  s{service}:", "    provider: http", "    criticality: critical", "    checks:"]
        lines += [f"      - {{kind: http, url: 'http://127.0.0.1:{port}/s{service}', interval: {INTERVAL:g}s}}"]
    lines += ["channels:"]
    for service in range(number):
        for name in ("mail", "hook"):
            url = f"env:BENCH_{name.upper()}"
            lines += [f"  {name}{service}: {{url: '{url}', services: [s{service}], max_per_hour: 1000}}"]
    return "\n".join(lines) + "\n"


def switch(one: Stack, on: bool) -> None:
    """A critical day, or none, whatever the calendar says."""
    wish = {"on": on, "minutes": 60, "reason": "benchmark"}
    url, headers = f"{one.url}/api/admin/critical-days/override", {"Authorization": f"Bearer {TOKEN}"}
    requests.post(url, json=wish, headers=headers, timeout=10).raise_for_status()


def run(day: str, number: int, services: Faults, mails: Arrivals, hooks: Arrivals) -> Iterator[list[Any]]:
    """Let them fail a second apart, and wait for the messages."""
    mails.forget()
    hooks.forget()
    began = {}
    for service in range(number):
        began[service] = services.fail(service)
        time.sleep(1.0)
    deadline = time.monotonic() + 3 * INTERVAL
    while time.monotonic() < deadline and min(len(mails.first), len(hooks.first)) < number:
        time.sleep(0.05)
    for name, arrived in (("SMTP", mails), ("web hook", hooks)):
        yield row(day, name, number, arrived, began, services)


def row(day: str, name: str, number: int, arrived: Arrivals, began: dict[int, float], services: Faults) -> list[Any]:
    """The figures of one kind of channel. What did not arrive spoils them."""
    got = dict(arrived.first)
    needed = 1 if day == "critical day" else 2
    lost = float("inf")
    whole = [got.get(one, lost) - began[one] for one in range(number)]
    probe = [got.get(one, lost) - services.failures[one][0] for one in range(number)]
    confirmed = [got.get(one, lost) - services.failures[one][needed - 1] for one in range(number)]
    judged = verdict(percentile(probe, 0.95), 15, 5) if needed == 1 else verdict(percentile(confirmed, 0.95), 1, 0.5)
    figures = [
        percentile(whole, 0.95),
        percentile(probe, 0.95),
        percentile(confirmed, 0.5),
        percentile(confirmed, 0.95),
    ]
    return [day, f"{name}, {len(got)} of {number}", *(f"{value:.2f} s" for value in figures), judged]


def recover(one: Stack, services: Faults) -> None:
    """Until everybody is well again."""
    services.well()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    deadline = time.monotonic() + 4 * INTERVAL
    while time.monotonic() < deadline:
        answer = requests.get(f"{one.url}/api/admin/incidents?state=open", headers=headers, timeout=10).json()
        if not answer["open"]:
            return
        time.sleep(0.5)


# The outbox -------------------------------------------------------------------------------------------


def outbox(number: int, port: int, arrived: Arrivals) -> None:
    """Alerts raised as fast as they can be; a fifth of them told to a hundred channels one by one, all as a storm."""
    from monitoring.models import Service  # noqa: PLC0415

    os.environ["BENCH_HOOK"] = f"json://127.0.0.1:{port}/"
    services = [Service.objects.create(slug=f"s{one}", provider="http") for one in range(CHANNELS)]
    rows = []
    for name, channels, alerts in (
        (f"each a message of its own, {CHANNELS} channels", CHANNELS, number // 5),
        ("as it is: a storm, one channel", 1, number),
    ):
        arrived.forget()
        raised = fill(alerts, channels, services)
        took, told = drain(singly=channels > 1)
        rows.append(
            [name, f"{alerts:,}", f"{alerts / raised:,.0f}", f"{told:,}", f"{arrived.count:,}", f"{took:.1f} s",
             f"{told / took:,.0f}"]
        )  # fmt: skip
    table(
        f"Alerts through the outbox, one process, raised {BATCH} in a transaction, a web hook on loopback",
        ["how", "alerts", "raised/s", "told", "messages received", "took", "told/s"],
        rows,
    )


def fill(number: int, channels: int, services: Sequence[Any]) -> float:
    """Raise so many alerts; seconds."""
    from django.db import transaction  # noqa: PLC0415

    from monitoring import alerts  # noqa: PLC0415
    from monitoring.models import Alert, Channel, Notification  # noqa: PLC0415

    for model in (Notification, Alert, Channel):
        model.objects.all().delete()
    for one in range(channels):
        mine = [f"s{one}"] if channels > 1 else []
        Channel.objects.create(slug=f"hook{one}", reference="env:BENCH_HOOK", max_per_hour=1000, services=mine)
    began = time.perf_counter()
    for first in range(0, number, BATCH):
        with transaction.atomic():
            for one in range(first, min(first + BATCH, number)):
                service = services[one % len(services)]
                alerts.raise_alert(f"bench:{one}", "bench", "warning", f"{service.slug} fails", "503", "", service)
    return time.perf_counter() - began


def drain(*, singly: bool) -> tuple[float, int]:
    """Send all that waits: seconds, and how many messages were told. ``singly`` lifts what makes a storm one."""
    from monitoring.models import Notification  # noqa: PLC0415
    from monitoring.notifications import pacing, sender  # noqa: PLC0415

    limits: dict[str, Any] = {"SINGLY": 10**6, "BURST": 10**6, "AT_ONCE": sender.THREADS}
    with mock.patch.multiple(pacing, **limits) if singly else nullcontext():
        began = time.perf_counter()
        running = sender.Sender()
        running.start()
        waiting = Notification.objects.filter(state__in=("pending", "sending"))
        while waiting.exists() and time.perf_counter() < began + 600:
            time.sleep(0.05)
        took = time.perf_counter() - began
        running.stop()
    return took, Notification.objects.filter(state__in=("sent", "gathered")).exclude(kind="storm").count()


# What it costs ----------------------------------------------------------------------------------------


def costs(number: int) -> None:
    """Of one outcome that changes nothing, of one that opens or closes an incident, and of a look at everything."""
    from monitoring.models import Channel, Check, CheckState, Service  # noqa: PLC0415

    Service.objects.all().delete()
    Channel.objects.all().delete()
    Channel.objects.create(slug="hook", reference="env:BENCH_HOOK")
    services = [Service.objects.create(slug=f"s{one}", provider="http", status="healthy") for one in range(1000)]
    checks = [Check.objects.create(service=each, name="http", kind="http", interval=30) for each in services]
    for check in checks:
        CheckState.objects.create(check_ref=check, status="healthy", recent=["healthy"])
    rows = [
        settled("changes nothing", checks, number, lambda _: "healthy"),
        settled(
            "opens or closes an incident", checks, number // 5, lambda turn: "critical" if turn % 2 else "healthy"
        ),
        *looks(),
    ]
    table("Cost", ["what", "how often", "each"], rows)


def settled(name: str, checks: Sequence[Any], number: int, word: Callable[[int], str]) -> list[Any]:
    """Outcomes in batches of 50; each round of all checks has the next word."""
    from django.utils import timezone  # noqa: PLC0415

    from monitoring import store  # noqa: PLC0415
    from monitoring.models import CheckState  # noqa: PLC0415
    from monitoring.store import Finished  # noqa: PLC0415
    from monitoring.verdict import Policy  # noqa: PLC0415
    from providers.base import ProbeOutcome  # noqa: PLC0415
    from wsmon.vocabulary import Category, Outcome, Timings  # noqa: PLC0415

    good = ProbeOutcome(Outcome.HEALTHY, None, "200", Timings(total_ms=80.0))
    bad = replace(good, outcome=Outcome.CRITICAL, category=Category.SERVER_ERROR, message="503")
    spent, done = 0.0, 0
    for turn in range(1, 10**6):
        if done >= number:
            break
        outcome = bad if word(turn) == "critical" else good
        for first in range(0, len(checks), 50):
            batch = checks[first : first + 50]
            tokens = {check.id: uuid.uuid4() for check in batch}
            now = timezone.now()
            for check_id, token in tokens.items():
                CheckState.objects.filter(check_ref=check_id).update(lease_token=token)
            found = [
                Finished(check.id, check.service_id, tokens[check.id], Policy(1, 1), 30, now, now, outcome)
                for check in batch
            ]
            began = time.perf_counter()
            store.settle(found)
            spent += time.perf_counter() - began
            done += len(batch)
    return [f"an outcome that {name}", f"{done:,}", f"{spent / done * 1e6:,.0f} us"]


def looks() -> Iterator[list[Any]]:
    """What runs each second, each few seconds, and each five minutes, with 1,000 services."""
    from monitoring import alerting  # noqa: PLC0415
    from monitoring.forecasts import running  # noqa: PLC0415
    from monitoring.notifications import sender  # noqa: PLC0415

    parts: list[tuple[str, Callable[[], object]]] = [
        ("a tick (each second): in force, verdicts, escalations", alerting.tick),
        ("a look (each 5 s) by every rule", alerting.look),
        ("a look for trends (each 5 min)", running.run),
    ]
    for name, part in parts:
        began = time.perf_counter()
        part()
        yield [f"{name}, 1,000 services", "1", f"{(time.perf_counter() - began) * 1000:,.0f} ms"]
    sender.stop()
