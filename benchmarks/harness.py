"""What the benchmarks share: a database of their own, a target, the peer, tables."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def database() -> Iterator[Path]:
    """An empty, migrated, durable (fsync on) PostgreSQL in a data directory of its own; Django set up."""
    with tempfile.TemporaryDirectory(prefix="wsmon-bench-") as directory:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "wsmon.settings",
            "WSMON_DATA_DIR": directory,
            "WSMON_CONFIG": f"{directory}/wsmon.yaml",
            "WSMON_ALLOW_PRIVATE_TARGETS": "127.0.0.0/8",
        }
        for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
            os.environ.pop(name, None)
        from wsmon.embedded import Server  # noqa: PLC0415

        server = Server(Path(directory))
        server.start()
        try:
            import django  # noqa: PLC0415
            from django.core.management import call_command  # noqa: PLC0415

            django.setup()
            call_command("migrate", verbosity=0)
            yield Path(directory)
        finally:
            from django.db import connections  # noqa: PLC0415

            for connection in connections.all():
                connection.close()
                connection.close_pool()  # type: ignore[attr-defined]
            server.stop()


@contextmanager
def target() -> Iterator[str]:
    """The URL of a fast HTTP server on loopback: nginx when installed, else a small uvicorn application."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="wsmon-target-") as directory:
        process = subprocess.Popen(_nginx(directory, port) if shutil.which("nginx") else _uvicorn(port), cwd=ROOT)
        try:
            wait_for_port(port)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(5)


def _nginx(directory: str, port: int) -> list[str]:
    config = Path(directory) / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;\n"
        "events { worker_connections 2048; }\n"
        f"http {{ access_log off; keepalive_requests 1000000; server {{ listen 127.0.0.1:{port} backlog=2048;"
        ' location / { default_type text/plain; return 200 "ok"; } } }\n'
    )
    return ["nginx", "-c", str(config), "-e", f"{directory}/error.log"]


def _uvicorn(port: int) -> list[str]:
    options = ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "benchmarks.target:app", *options]


@contextmanager
def blackbox() -> Iterator[tuple[str, psutil.Process] | None]:
    """Debian's blackbox_exporter on loopback as (base URL, process); None when it is not installed."""
    program = shutil.which("prometheus-blackbox-exporter")
    if program is None:
        print("prometheus-blackbox-exporter is not installed (Debian has it): no peer in this run")
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="wsmon-blackbox-") as directory, ExitStack() as stack:
        config = Path(directory) / "blackbox.yml"
        config.write_text(json.dumps({"modules": {"http": {"prober": "http", "timeout": "5s"}}}))
        log = stack.enter_context(open(os.devnull, "wb"))
        arguments = [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        try:
            wait_for_port(port)
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(5)


def free_port() -> int:
    """A TCP port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 15.0) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU used so far by processes and their children, user and system."""
    total = 0.0
    for process in processes:
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed; NaN without values."""
    if not values:
        return float("nan")
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, numbers to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *texts]) for column in range(len(header))]
    print(f"\n## {title}\n")
    print("| " + " | ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)) + " |")
    print("| " + " | ".join("-" * width for width in widths) + " |")
    for row in texts:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("| " + " | ".join(cells) + " |")
    sys.stdout.flush()


def verdict(value: float, must: float, aim: float, *, lower_is_better: bool = True) -> str:
    """``aim``, ``must`` or ``MISSED``: which of a number's two marks was reached."""
    if lower_is_better:
        return "aim" if value <= aim else "must" if value <= must else "MISSED"
    return "aim" if value >= aim else "must" if value >= must else "MISSED"
