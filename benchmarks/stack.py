"""wsmon as `make run` starts it, for the benchmarks: in a process of its own, and its database at hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from benchmarks.harness import cpu_seconds
from tests.whole import Stack


@contextmanager
def stack(config: str = "", **env: str) -> Iterator[Stack]:
    """A running wsmon with a configuration."""
    with tempfile.TemporaryDirectory(prefix="wsmon-bench-") as directory:
        one = Stack(Path(directory), env)
        if config:
            one.config.write_text(config)
        try:
            one.start()
            yield one
        finally:
            one.clean_up()


def connect(one: Stack) -> psycopg.Connection[tuple[object, ...]]:
    """A connection to its database."""
    from wsmon.embedded import socket_dir  # noqa: PLC0415

    return psycopg.connect(host=str(socket_dir(one.data_dir)), dbname="wsmon", user="wsmon", autocommit=True)


def set_up_django(one: Stack) -> None:
    """Let this process use wsmon's own code on that database."""
    os.environ |= one.env | {"DJANGO_SETTINGS_MODULE": "wsmon.settings"}
    import django  # noqa: PLC0415

    django.setup()


def main_process(one: Stack) -> psutil.Process:
    """The one process of wsmon itself."""
    assert one.process is not None
    return psutil.Process(one.process.pid)


def own_cpu_seconds(process: psutil.Process) -> float:
    """CPU of a process without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


def proportional_memory(process: psutil.Process) -> tuple[float, float]:
    """Proportional set size in MB: (of the process, of its children, PostgreSQL that is)."""
    own = pss(process.pid)
    return own, sum(pss(child.pid) for child in process.children(recursive=True))


def pss(pid: int) -> float:
    """Proportional set size of one process in MB (proc_pid_smaps(5)); 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


__all__ = [
    "connect",
    "cpu_seconds",
    "main_process",
    "own_cpu_seconds",
    "proportional_memory",
    "set_up_django",
    "stack",
]
