"""Web, worker and beat as processes of their own, on a PostgreSQL and a Redis that listen on TCP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from tests.whole import PASSWORD, ROOT, clean_environment, eventually, free_port
from wsmon.embedded import Server

pytestmark = [pytest.mark.stack, pytest.mark.redis]

SCRIPTS = Path(sys.executable).parent
COMMANDS = {
    "web": ["uvicorn", "wsmon.asgi:application", "--lifespan", "off", "--timeout-graceful-shutdown", "5", "--port"],
    "worker": ["celery", "-A", "wsmon", "worker", "-P", "threads", "--without-gossip", "--without-mingle"],
    "beat": ["celery", "-A", "wsmon", "beat"],
}
"""As the README and deploy/systemd have them."""


class Target(BaseHTTPRequestHandler):
    """A healthy web site that counts its visitors."""

    visits: list[str]

    def do_GET(self) -> None:
        type(self).visits.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def target() -> Iterator[tuple[str, list[str]]]:
    visits: list[str] = []
    handler = type("CountingTarget", (Target,), {"visits": visits})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", visits
        server.shutdown()


@dataclass
class Fleet:
    """The processes of a production set-up on this machine."""

    directory: Path
    env: dict[str, str]
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, name: str) -> subprocess.Popen[bytes]:
        """Start one process; `name` is its kind, with a number after it for a second one."""
        kind = name.rstrip("0123456789")
        program, *arguments = COMMANDS[kind]
        command = [str(SCRIPTS / program), *arguments, *([str(self.port)] if kind == "web" else [])]
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        return self.processes[name]

    def stop(self, name: str) -> int:
        """SIGTERM; the exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(60)  # that it ends, not how fast: the machine may be busy

    def log(self, name: str) -> str:
        """What a process has printed."""
        return (self.directory / f"{name}.log").read_text(errors="replace")


@pytest.fixture
def fleet(make_directory: Callable[[], Path], redis_url: str, target: tuple[str, list[str]]) -> Iterator[Fleet]:
    directory, database_port = make_directory(), free_port()
    server = Server(directory, durable=False, options={"listen_addresses": "127.0.0.1", "port": str(database_port)})
    server.start()
    redis.Redis.from_url(redis_url).flushall()
    config = directory / "wsmon.yaml"
    config.write_text(
        "services:\n  site:\n    provider: http\n    checks:\n"
        f"      - {{kind: http, url: '{target[0]}', interval: 2s, timeout: 1s}}\n"
    )
    port = free_port()
    env = clean_environment(
        DATABASE_URL=f"postgres://wsmon@127.0.0.1:{database_port}/wsmon",
        CELERY_BROKER_URL=redis_url,
        WSMON_PRODUCTION="0",  # no TLS proxy here
        WSMON_SECRET_KEY="k" * 60,
        WSMON_ENCRYPTION_KEYS="e" * 40,
        WSMON_ADMIN_PASSWORD=PASSWORD,
        WSMON_CONFIG=str(config),
        WSMON_ALLOW_PRIVATE_TARGETS="127.0.0.0/8",
    )
    fleet = Fleet(directory, env, port)
    prepared = subprocess.run(
        [sys.executable, "manage.py", "prepare"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert prepared.returncode == 0, prepared.stderr
    yield fleet
    for process in fleet.processes.values():
        process.kill()
        process.wait()
    server.stop()


def _ready(fleet: Fleet) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{fleet.port}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def _more(visits: list[str]) -> bool:
    """Whether the target has been visited since the list was last emptied."""
    return bool(visits)


def test_separate_processes_probe_and_an_emptied_broker_loses_nothing(
    fleet: Fleet, redis_url: str, target: tuple[str, list[str]]
) -> None:
    visits = target[1]
    for name in ("web", "worker", "worker2", "beat"):
        fleet.run(name)
    eventually(lambda: _more(visits), "the target is probed", 40)
    eventually(lambda: _ready(fleet), "/readyz answers 200", 40)

    redis.Redis.from_url(redis_url).flushall()
    visits.clear()
    eventually(lambda: _more(visits), "it is probed again after the broker was emptied")

    fleet.processes.pop("worker").send_signal(signal.SIGKILL)
    visits.clear()
    eventually(lambda: _more(visits), "the other worker goes on", 40)

    assert fleet.stop("beat") == 0, fleet.log("beat")
    assert fleet.stop("worker2") == 0, fleet.log("worker2")
    assert fleet.stop("web") in {0, -signal.SIGTERM}  # uvicorn ends by the signal, after it has cleaned up
    for name in ("web", "worker2", "beat"):
        assert "Traceback" not in fleet.log(name), fleet.log(name)
    assert not os.path.exists(ROOT / "celerybeat-schedule")
