"""Pages and API of webhooks over HTTP, signed in: with a page full of events, and with a million."""

from __future__ import annotations

import argparse
import time
from typing import Any

import psycopg
import requests

from benchmarks.harness import percentile, table, verdict
from benchmarks.stack import connect, set_up_django, stack
from tests.whole import Stack

SOURCES, DESTINATIONS = 6, 8
DAYS = 20
TYPES = ("payment_intent.succeeded", "invoice.paid", "email.delivered", "email.opened", "message.sent", "push")

# Events of the last days, evenly spread; their ids are of their times. 1% of the deliveries are dead letters,
# 0.05% wait for a retry.
EVENTS = """
INSERT INTO webhooks_event (id, source_id, key, type, subject, message_status, received_at, size, sha256,
    verification, routed, duplicates, sealed, indexed)
SELECT (lpad(to_hex((extract(epoch FROM g.at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    (SELECT min(id) FROM webhooks_source WHERE slug LIKE 's_') + n %% %(sources)s::int, 'evt_' || n,
    (%(types)s::text[])[1 + n %% 6], 'sub_' || n %% 50000, '', g.at, 900, '\\x00', '{}', 1, 0, %(sealed)s, true
FROM generate_series(%(first)s::int, %(last)s::int) AS n
CROSS JOIN LATERAL (SELECT now() - (%(total)s::int - n) * %(step)s::float8 * interval '1 second' AS at) g
"""
DELIVERIES = """
INSERT INTO webhooks_delivery (event_id, destination_id, source_id, type, status, lane, priority, order_key,
    created_at, due_at, tries, max_tries, tried_at, finished_at, http_status, category, message, fingerprint,
    total_ms)
SELECT e.id, (SELECT min(id) FROM webhooks_destination) + (k.n %% %(destinations)s::int), e.source_id, e.type,
    CASE WHEN k.n %% 100 = 7 THEN 'failed' WHEN k.n %% 2000 = 3 THEN 'retrying' ELSE 'delivered' END,
    CASE WHEN k.n %% 2000 = 3 THEN 1 ELSE 0 END, 2, '', e.received_at, e.received_at + interval '1 day',
    CASE WHEN k.n %% 100 = 7 THEN 9 ELSE 1 END, 9, e.received_at, e.received_at,
    CASE WHEN k.n %% 100 = 7 THEN 422 WHEN k.n %% 2000 = 3 THEN 503 ELSE 200 END,
    CASE WHEN k.n %% 100 = 7 THEN 'CLIENT_ERROR' WHEN k.n %% 2000 = 3 THEN 'SERVER_ERROR' ELSE '' END,
    CASE WHEN k.n %% 100 = 7 THEN 'unknown tax_rate' ELSE '' END,
    CASE WHEN k.n %% 100 = 7 THEN 'f' || k.n %% 13 ELSE '' END, 20 + 60 * random()
FROM webhooks_event e CROSS JOIN LATERAL (SELECT substr(e.key, 5)::int AS n) k
WHERE k.n BETWEEN %(first)s::int AND %(last)s::int ORDER BY k.n
"""
TOKENS = """
INSERT INTO webhooks_eventtokens (event_id, tokens)
SELECT e.id, ARRAY[k.n, -k.n, 10000000000 + k.n %% 50000, 20000000000 + k.n %% 7, 30000000000 + k.n %% 300]
    || ARRAY(SELECT (random() * 1e15)::bigint FROM generate_series(1, 12))
FROM webhooks_event e CROSS JOIN LATERAL (SELECT substr(e.key, 5)::bigint AS n) k
WHERE k.n BETWEEN %(first)s::int AND %(last)s::int
"""
COUNTS = """
INSERT INTO webhooks_deliverycount (level, source_id, destination_id, start, tries, tries_failed, delivered, failed,
    sum_ms, histogram)
SELECT l.level, source_id, destination_id, date_bin(make_interval(secs => l.level), created_at, 'epoch'), sum(tries),
    count(*) FILTER (WHERE status <> 'delivered'), count(*) FILTER (WHERE status = 'delivered'),
    count(*) FILTER (WHERE status = 'failed'), sum(total_ms),
    array_fill(0, ARRAY[40]) || ARRAY[count(*)::int, count(*)::int]
FROM webhooks_delivery CROSS JOIN (VALUES (60), (3600), (86400)) AS l(level)
WHERE l.level >= 3600 OR created_at > now() - interval '8 days' GROUP BY 1, 2, 3, 4 ORDER BY 4
"""
EVENT_COUNTS = """
INSERT INTO webhooks_eventcount (level, source_id, type, start, events, duplicates)
SELECT l.level, source_id, type, date_bin(make_interval(secs => l.level), received_at, 'epoch'), count(*), 0
FROM webhooks_event CROSS JOIN (VALUES (60), (3600)) AS l(level)
WHERE l.level = 3600 OR received_at > now() - interval '8 days' GROUP BY 1, 2, 3, 4 ORDER BY 4
"""


def pages(last: int, event_id: str) -> dict[str, str]:
    """What is measured: a name -> its address."""
    return {
        "deliveries": "/webhooks/",
        "deliveries, one source": "/webhooks/?source=s3",
        "deliveries, failed": "/webhooks/?status=failed",
        "deliveries, one destination, 7 d": "/webhooks/?destination=d5&since=7d",
        "deliveries, by type": "/webhooks/?type=email.*",
        "deliveries, by event id": f"/webhooks/?q=evt_{last - 77}",
        "deliveries, a text nobody has": "/webhooks/?q=nowhere",
        "an event": f"/webhooks/events/{event_id}/",
        "failures": "/webhooks/failures/",
        "failures, 7 d": "/webhooks/failures/?period=7d",
        "failures, 7 d, by destination": "/webhooks/failures/?period=7d&by=destination",
        "sources and destinations": "/webhooks/sources/",
        "API events": "/api/admin/webhooks/events",
        "API events, failed": "/api/admin/webhooks/events?status=failed",
        "API failures": "/api/admin/webhooks/failures?timeframe=7d",
        "API health": "/api/admin/webhooks/health?timeframe=7d",
    }


def main(arguments: argparse.Namespace) -> None:
    """Measure with few events, make many, measure again."""
    few, many = 300, 100_000 if arguments.quick else 1_000_000
    with stack(configuration(), BENCH_SECRET="whsec_benchmark_events") as one, connect(one) as database:
        session = one.login()
        sealed = sealed_body(one)
        fill(database, sealed, 1, few, few)
        small = measure(session, one.url, pages(few, newest(database)))
        database.execute("TRUNCATE webhooks_event, webhooks_deliverycount, webhooks_eventcount CASCADE")
        fill(database, sealed, 1, many, many)
        full = measure(session, one.url, pages(many, newest(database)))
    rows = [
        [
            name,
            f"{small[name]:.1f} ms",
            f"{full[name]:.1f} ms",
            f"{full[name] / small[name]:.2f}",
            f"{verdict(full[name], 200, 50)} / {verdict(full[name] / small[name], 1.5, 1.5)}",
        ]
        for name in small
    ]
    title = f"Webhooks' pages, p95 of 100 requests (better of two rounds), with {few:,} and {many:,} events"
    table(title, ["page", "few", "many", "ratio", "time / ratio"], rows)


def configuration() -> str:
    """Sources, destinations and routes; nothing comes and nothing is sent meanwhile."""
    lines = ["sources:"]
    lines += [f"  s{n}: {{provider: stripe, secrets: ['env:BENCH_SECRET']}}" for n in range(SOURCES)]
    lines += ["destinations:"]
    lines += [f"  d{n}: {{url: 'http://127.0.0.1:9/', paused: true}}" for n in range(DESTINATIONS)]
    lines += ["routes:"]
    lines += [f"  - {{source: s{n}, destination: d{m}}}" for n in range(SOURCES) for m in range(n, n + 2)]
    return "\n".join(lines) + "\n"


def sealed_body(one: Stack) -> bytes:
    """A payload as it is stored."""
    set_up_django(one)
    from webhooks.sealing import Content, seal  # noqa: PLC0415

    body = b'{"id": "evt_1", "data": {"object": {"id": "pi_1", "email": "ada@example.com", "amount": 4200}}}'
    return seal(Content([("content-type", "application/json")], "", body))


def fill(database: psycopg.Connection[Any], sealed: bytes, first: int, last: int, total: int) -> None:
    """Make events with their deliveries, tokens and counts."""
    values = {
        "sources": SOURCES, "destinations": DESTINATIONS, "types": list(TYPES), "sealed": sealed, "total": total,
        "step": DAYS * 86_400 / total,
    }  # fmt: skip
    chunk = 100_000
    for begin in range(first, last + 1, chunk):
        span = {"first": begin, "last": min(begin + chunk - 1, last)}
        database.execute(EVENTS, values | span)
        database.execute(DELIVERIES, values | span)
        database.execute(TOKENS, values | span)
    database.execute(COUNTS)
    database.execute(EVENT_COUNTS)
    database.execute("VACUUM ANALYZE")
    # Or it would write gigabytes while the pages are measured. Only its own account may ask for that.
    with psycopg.connect(host=database.info.host, dbname="wsmon", user="postgres", autocommit=True) as superuser:
        superuser.execute("CHECKPOINT")


def newest(database: psycopg.Connection[Any]) -> str:
    """An event's id."""
    row = database.execute("SELECT id FROM webhooks_event ORDER BY id DESC LIMIT 1").fetchone()
    assert row
    return str(row[0])


def measure(session: requests.Session, base: str, found: dict[str, str]) -> dict[str, float]:
    """p95 in ms of each page: the better of two rounds, since the load generator shares the machine."""
    first, second = _round(session, base, found), _round(session, base, found)
    return {name: min(first[name], second[name]) for name in found}


def _round(session: requests.Session, base: str, found: dict[str, str]) -> dict[str, float]:
    """Each page in turn, so that a moment in which the machine does something else is not one page's alone."""
    took: dict[str, list[float]] = {name: [] for name in found}
    for number in range(104):
        for name, address in found.items():
            started = time.perf_counter()
            answer = session.get(base + address, timeout=60)
            if number >= 4:
                took[name].append((time.perf_counter() - started) * 1000)
            assert answer.status_code == 200, f"{address}: {answer.status_code}"
    return {name: percentile(times, 0.95) for name, times in took.items()}
