"""A load generator for webhooks: signed requests, made beforehand, over kept connections; latencies of each.

``python -m benchmarks.load`` runs it in a process of its own, so that it shares no interpreter with anybody.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What one run found; latencies in ms, sorted."""

    seconds: float
    answered: int
    refused: int
    latencies: list[float]

    @property
    def per_second(self) -> float:
        """Requests acknowledged per second."""
        return self.answered / self.seconds if self.seconds else 0.0


def requests(url: str, secret: str, number: int, first: int, size: int = 1500) -> list[bytes]:
    """Requests as Stripe sends them, each another event, of ``size`` bytes about."""
    parts = urlsplit(url)
    seconds = int(time.time())
    padding = "x" * max(size - 330, 0)
    made = []
    for count in range(first, first + number):
        event = {
            "id": f"evt_bench{count:012d}",
            "object": "event",
            "api_version": "2024-06-20",
            "type": "payment_intent.succeeded",
            "created": seconds,
            "livemode": True,
            "data": {"object": {"id": f"pi_{count}", "object": "payment_intent", "amount": 4200, "note": padding}},
        }
        body = json.dumps(event).encode()
        digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Stripe-Signature: t={seconds},v1={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class _Connection(asyncio.Protocol):
    """Sends one request after the other; a request is answered when its response's body is whole."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.buffer = b""
        self.sent = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.next()

    def next(self) -> None:
        taken = self.run.take()
        if taken is None:
            self.run.done(self)
        elif taken[1] > 0:
            asyncio.get_running_loop().call_later(taken[1], self.send, taken[0])
        else:
            self.send(taken[0])

    def send(self, request: bytes) -> None:
        if self.transport is None:
            self.run.done(self)
            return
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 : at + 30].split(b"\r\n")[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        self.run.answered(head[9:12] == b"200", (time.perf_counter() - self.sent) * 1000)
        self.next()

    def connection_lost(self, _problem: Exception | None) -> None:
        self.transport = None
        self.run.done(self)


class _Run:
    def __init__(self, made: list[bytes], rate: float, seconds: float) -> None:
        self.made = made
        self.place = 0
        self.rate = rate
        self.began = time.perf_counter()
        self.ends = self.began + seconds
        self.good = self.bad = 0
        self.latencies: list[float] = []
        self.open: set[_Connection] = set()
        self.finished = asyncio.get_running_loop().create_future()

    def take(self) -> tuple[bytes, float] | None:
        """The next request and seconds until it is to be sent, evenly spread over all connections; None: no more."""
        now = time.perf_counter()
        if self.place >= len(self.made) or now >= self.ends:
            return None
        due = self.began + self.place / self.rate if self.rate else now
        self.place += 1
        return self.made[self.place - 1], due - now

    def answered(self, good: bool, milliseconds: float) -> None:
        self.good += good
        self.bad += not good
        self.latencies.append(milliseconds)

    def done(self, connection: _Connection) -> None:
        self.open.discard(connection)
        if not self.open and not self.finished.done():
            self.finished.set_result(None)


async def run(url: str, made: list[bytes], connections: int, seconds: float, rate: float = 0.0) -> Load:
    """Send until the requests or the ``seconds`` are over; ``rate`` per second, 0: as fast as they are answered."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    one = _Run(made, rate, seconds)
    loop = asyncio.get_running_loop()
    made_connections = []
    for _ in range(connections):
        connection = _Connection(one)
        one.open.add(connection)
        made_connections.append(loop.create_connection(lambda c=connection: c, host, port))  # type: ignore[misc]
    await asyncio.gather(*made_connections)
    await one.finished
    return Load(time.perf_counter() - one.began, one.good, one.bad, sorted(one.latencies))


def main() -> int:
    """Run as told and print what was found as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--secret", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=0)
    asked = parser.parse_args()
    made = requests(asked.url, asked.secret, asked.requests, asked.first)
    found = uvloop.run(run(asked.url, made, asked.connections, asked.seconds, asked.rate))
    answer = {name: getattr(found, name) for name in ("seconds", "answered", "refused", "latencies")}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
