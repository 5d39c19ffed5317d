"""Start time and memory of the whole embedded stack, everything installed."""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from pathlib import Path

import requests

from benchmarks.harness import table, verdict
from benchmarks.stack import main_process, proportional_memory
from tests.whole import Stack


def main(arguments: argparse.Namespace) -> None:
    """Start three times from an empty directory and three times again; then look at the memory, idle."""
    rounds = 1 if arguments.quick else 3
    first, again = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="wsmon-bench-") as directory:
            one = Stack(Path(directory))
            try:
                first.append(seconds_to_page(one))
                one.stop(signal.SIGTERM)
                again.append(seconds_to_page(one))
                time.sleep(20)
                own, postgres = proportional_memory(main_process(one))
            finally:
                one.clean_up()
    table(
        "Start of `make run`, to the first page",
        ["start", "best", "worst", "mark"],
        [
            ["in an empty directory", f"{min(first):.1f} s", f"{max(first):.1f} s", verdict(max(first), 10, 4)],
            ["again", f"{min(again):.1f} s", f"{max(again):.1f} s", verdict(max(again), 10, 4)],
        ],
    )
    total = own + postgres
    table(
        "Memory of the embedded stack, idle (proportional set size)",
        ["part", "MB", "mark"],
        [
            ["wsmon: web, worker, beat", f"{own:.0f}", ""],
            ["PostgreSQL", f"{postgres:.0f}", ""],
            ["all", f"{total:.0f}", verdict(total, 400, 200)],
        ],
    )


def seconds_to_page(one: Stack) -> float:
    """Seconds from the start of the process to the login page."""
    started = time.monotonic()
    process = one.launch()
    while True:
        assert process.poll() is None, one.output()
        try:
            if requests.get(f"{one.url}/login/", timeout=5).status_code == 200:
                return time.monotonic() - started
        except requests.RequestException:
            time.sleep(0.02)
