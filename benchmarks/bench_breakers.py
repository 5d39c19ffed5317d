"""Circuit breakers: a guarded call's cost beside other libraries, how fast all processes follow, what is written."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.harness import ROOT, database, free_port, percentile, table, verdict, wait_for_port

PROCESSES = 8
NEVER = 3_600
"""Seconds until a trial: none is made while rejections are measured."""
PACE, BATCH = 50_000, 500


class Peer(NamedTuple):
    """A library's breaker: ``call`` makes a guarded call of a function, ``refused`` is what it raises when open."""

    name: str
    call: Callable[[Callable[[], object]], object]
    refused: type[Exception]
    spare: Callable[[Callable[[], object]], object] | None = None
    """Another one to open, where the many successes of the first keep it closed for seconds."""
    share: float = 1.0
    """Of the usual number of calls, for one that is a hundred times slower."""


def main(arguments: argparse.Namespace) -> None:
    """Run, print three tables."""
    calls, rounds, seconds = (20_000, 5, 3) if arguments.quick else (100_000, 20, 10)
    with database(), contextlib.ExitStack() as stack:
        from monitoring.breakers import sync  # noqa: PLC0415

        stack.callback(sync.stop)
        writes(seconds)  # first: one that is open makes every process write four times a second
        costs(list(peers(stack)), calls)
        spread(rounds)


# What a call costs ---------------------------------------------------------------------------------


def costs(all_: list[Peer], calls: int) -> None:
    """A guarded call that does nothing, closed and open, from 1 and from 8 threads."""
    best: dict[tuple[str, int, str], float] = {}
    for word in ("closed", "open"):
        for peer in all_:
            if word == "open":
                trip(peer.spare or peer.call, peer.refused)
        for _ in range(3):  # in turns, so that a busy moment of the machine hits all alike
            for peer in all_:
                for threads in (1, 8):
                    key = peer.name, threads, word
                    best[key] = min(best.get(key, 1e9), cost(peer, threads, int(calls * peer.share), word))
    columns = [(word, threads) for word in ("closed", "open") for threads in (1, 8)]
    rows = []
    for peer in all_:
        cells: list[object] = [peer.name]
        for word, threads in columns:
            own, pybreaker = best[peer.name, threads, word], best["pybreaker", threads, word]
            mark = f" {verdict(own, pybreaker, 1e-6)}" if peer is all_[0] else ""
            cells.append(f"{own * 1e6:.2f} ({own / pybreaker:.2f}){mark}")
        rows.append(cells)
    header = ["us a call (of pybreaker's)", *(f"{word}, {threads} threads" for word, threads in columns)]
    table("A guarded call that does nothing", header, rows)


def cost(peer: Peer, threads: int, calls: int, word: str) -> float:
    """Seconds a call, over all threads: one interpreter runs them in turns."""
    share = max(1, calls // threads)
    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        call, refused = peer.spare if word == "open" and peer.spare else peer.call, peer.refused
        barrier.wait()
        for _ in range(share):
            try:
                call(nothing)
            except refused:
                continue

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - started) / (share * threads)


def nothing() -> None:
    """What is guarded."""


def called(fn: Callable[[], object]) -> object:
    """For a library that guards functions only when it is their decorator."""
    return fn()


def fails() -> None:
    """What opens one."""
    raise ConnectionRefusedError


def trip(call: Callable[[Callable[[], object]], object], refused: type[Exception]) -> None:
    """Open it by failures."""
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError, refused):
            call(fails)
    try:
        call(nothing)
    except refused:
        return
    raise AssertionError(f"{call} did not open")


def peers(stack: contextlib.ExitStack) -> Iterator[Peer]:
    """Ours, its client for other programs, and the libraries; each opens after 5 failures."""
    import circuitbreaker  # noqa: PLC0415
    import purgatory  # noqa: PLC0415
    import pybreaker  # noqa: PLC0415
    from purgatory.domain.model import OpenedState  # noqa: PLC0415

    from monitoring.breakers import CircuitOpen  # noqa: PLC0415

    yield Peer("wsmon, shared in PostgreSQL", known("cost", recovery_timeout=NEVER).call, CircuitOpen)
    yield client(stack)
    memory = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=NEVER)
    yield Peer("pybreaker", memory.call, pybreaker.CircuitBreakerError)
    storage = redis_storage(stack)
    if storage is not None:
        shared = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=NEVER, state_storage=storage)
        yield Peer("pybreaker, shared in Redis", shared.call, pybreaker.CircuitBreakerError, share=0.02)
    other = circuitbreaker.CircuitBreaker(failure_threshold=5, recovery_timeout=NEVER)
    yield Peer("circuitbreaker", other.decorate(called), circuitbreaker.CircuitBreakerError)
    factory = purgatory.SyncCircuitBreakerFactory(default_threshold=5, default_ttl=NEVER)
    block = factory.get_breaker("cost")

    def call(fn: Callable[[], object]) -> object:
        with block:
            return fn()

    yield Peer("purgatory", call, OpenedState)


def known(name: str, **policy: Any) -> Any:
    """The guard of a new service, once the store was read."""
    from monitoring.breakers import breaker  # noqa: PLC0415
    from monitoring.models import Service  # noqa: PLC0415

    Service.objects.create(slug=name, provider="http", breaker={"policy": "counting"} | policy)
    guard = breaker(name)
    wait_until(lambda: guard._local.shared is not None)
    return guard


def client(stack: contextlib.ExitStack) -> Peer:
    """The client for other programs, with no wsmon to talk to."""
    sys.path.insert(0, str(ROOT / "clients" / "python"))
    import wsmon_breaker  # noqa: PLC0415

    breakers = wsmon_breaker.Breakers(f"http://127.0.0.1:{free_port()}", "token")
    stack.callback(breakers.close)
    return Peer(
        "wsmon's client for other programs", breakers("cost").call, wsmon_breaker.CircuitOpen, breakers("open").call
    )


def redis_storage(stack: contextlib.ExitStack) -> Any:
    """pybreaker's storage in a Redis of this run; None when redis-server is not installed."""
    if shutil.which("redis-server") is None:
        print("redis-server is not installed (Debian has it): no peer with shared state in this run")
        return None
    import pybreaker  # noqa: PLC0415
    import redis  # noqa: PLC0415

    port, directory = free_port(), stack.enter_context(tempfile.TemporaryDirectory())
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    stack.callback(process.wait, 5)
    stack.callback(process.terminate)
    wait_for_port(port)
    return pybreaker.CircuitRedisStorage("closed", redis.StrictRedis(port=port))


def wait_until(look: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)


# How fast the others follow ------------------------------------------------------------------------


def spread(rounds: int) -> None:
    """From the end of the call that opens it here to the first rejection in each of the others."""
    from monitoring.breakers import CircuitOpen, store  # noqa: PLC0415

    guard = known("spread", recovery_timeout=NEVER)
    service_id = guard._local.shared.service_id
    command = [sys.executable, "-m", "benchmarks.bench_breakers"]
    watchers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    delays: list[float] = []
    try:
        for _ in range(rounds):
            wait_until(lambda: not guard.is_open)
            for watcher in watchers:
                assert heard(watcher) == "closed"
            time.sleep(0.3)
            for _ in range(5):
                with contextlib.suppress(ConnectionRefusedError, CircuitOpen):
                    guard.call(fails)
            opened = time.monotonic()
            delays += [max(0.0, float(heard(watcher)) - opened) for watcher in watchers]
            wait_until(lambda: not guard._local._opened)
            store.reset(service_id, "benchmark", "")
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    median, worst = percentile(delays, 0.5), max(delays)
    rows = [
        ["opened in one process to rejected in another, p50", f"{median * 1000:.1f} ms", verdict(median, 1.0, 0.1)],
        ["the same, slowest", f"{worst * 1000:.1f} ms", verdict(worst, 1.0, 0.1)],
    ]
    table(f"{PROCESSES} other processes, {rounds} openings", ["what", "value", "mark"], rows)


def heard(watcher: subprocess.Popen[str]) -> str:
    """The next line that a process says."""
    assert watcher.stdout is not None
    return watcher.stdout.readline().strip()


def watch() -> None:
    """Another process: say when its calls pass, and the time at which one is first refused, again and again."""
    import django  # noqa: PLC0415

    django.setup()
    from monitoring.breakers import CircuitOpen, breaker  # noqa: PLC0415

    guard = breaker("spread")
    wait_until(lambda: guard._local.shared is not None)
    while True:
        wait_until(lambda: not guard.is_open)
        print("closed", flush=True)
        with contextlib.suppress(CircuitOpen):
            while True:
                guard.call(nothing)
                time.sleep(0.002)
        print(time.monotonic(), flush=True)


# What is written -----------------------------------------------------------------------------------


def writes(seconds: int) -> None:
    """Transactions that write, a second, of one process that makes many calls."""
    guard = known("writes", policy="rolling")
    rows = []
    for what, share in (("all of which succeed", 0), ("of which 1% fail", 100)):
        before, calls, started = transactions(), 0, time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for number in range(BATCH):
                with contextlib.suppress(ConnectionRefusedError):
                    guard.call(fails if share and number % share == 0 else nothing)
            calls += BATCH
            time.sleep(max(0.0, calls / PACE - elapsed))
        rate = (transactions() - before) / elapsed
        rows.append([f"{calls / elapsed:,.0f} calls a second, {what}", f"{rate:.1f}"])
    table("Transactions that write, a second", ["what", "value"], rows)


def transactions() -> int:
    """How many transactions have written so far: only those are given a number."""
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        return int(cursor.fetchone()[0])


if __name__ == "__main__":
    watch()
