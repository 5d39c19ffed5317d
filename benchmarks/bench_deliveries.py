"""Deliveries per second of one worker process: to one destination, and to a hundred of which one hangs."""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psutil

from benchmarks.harness import cpu_seconds, database, table, target, verdict

THREADS = 32
BODY = json.dumps({"type": "payment_intent.succeeded", "data": {"object": {"note": "x" * 1400}}}).encode()


def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    number = 2_000 if arguments.quick else 8_000
    rows = []
    with database(), target() as receiver, hanging() as dead:
        rows.append(measure("1 destination", number, [receiver], None))
        rows.append(measure("100 destinations, one of them hanging", number, [receiver] * 99, dead))
        rows.append(measure("the same, 5,000 replays waiting", number, [receiver] * 99, dead, replays=5_000))
    table(
        f"Deliveries, one worker process, {THREADS} at once, 1.5 kB, fast receiver, each stored with its attempt",
        ["to", "live deliveries", "per second", "CPU per delivery", "verdict"],
        rows,
    )


@contextmanager
def hanging() -> Iterator[str]:
    """The URL of a receiver that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def measure(name: str, number: int, urls: list[str], dead: str | None, replays: int = 0) -> list[Any]:
    """Time from the start of the worker until every delivery to a receiver that works is done."""
    from django.db import connection  # noqa: PLC0415

    from webhooks import catalog, store  # noqa: PLC0415
    from webhooks.dispatcher import Dispatcher  # noqa: PLC0415
    from webhooks.models import Delivery  # noqa: PLC0415
    from webhooks.sealing import Content  # noqa: PLC0415
    from webhooks.vocabulary import Lane  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE webhooks_event, webhooks_source, webhooks_destination CASCADE")
    sources = prepare([*urls, *([dead] if dead else [])])
    known = catalog.refresh(force=True)
    headers = [("content-type", "application/json")]
    events = [
        store.NewEvent(known.sources[sources[n % len(sources)]], f"e{n}", "payment_intent.succeeded",
                       datetime.now(UTC), Content(headers, "", BODY))
        for n in range(number + replays)
    ]  # fmt: skip
    for first in range(0, len(events), 200):
        store.save(events[first : first + 200])
    if replays:
        ids = Delivery.objects.order_by("-id").values("id")[:replays]
        Delivery.objects.filter(id__in=ids).update(lane=Lane.REPLAY)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    live = Delivery.objects.filter(lane__lt=Lane.REPLAY).exclude(destination__url=dead or "")
    total = live.count()
    me = psutil.Process()
    worker = Dispatcher(THREADS)
    spent, began = cpu_seconds([me]), time.perf_counter()
    worker.start()
    while live.exclude(status="delivered").exists():
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    spent = cpu_seconds([me]) - spent
    worker.stop()
    rate = total / seconds
    return [
        name, f"{total:,}", f"{rate:,.0f}", f"{spent / total * 1000:.2f} ms",
        verdict(rate, 150, 500, lower_is_better=False),
    ]  # fmt: skip


def prepare(urls: list[str]) -> list[str]:
    """A source and a route for each destination."""
    from webhooks import catalog  # noqa: PLC0415
    from webhooks.models import Destination, DestinationState, Route, Source  # noqa: PLC0415

    slugs = []
    for number, url in enumerate(urls):
        source = Source.objects.create(slug=f"s{number}", provider="stripe")
        concurrency = THREADS if len(urls) == 1 else 8
        one = Destination.objects.create(slug=f"d{number}", url=url, concurrency=concurrency, timeout=5)
        DestinationState.objects.create(destination=one)
        Route.objects.create(source=source, destination=one)
        slugs.append(source.slug)
    catalog.changed()
    return slugs
