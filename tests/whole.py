"""The whole program as a user runs it: `manage.py run` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "a-password-for-tests"
START_WITHIN = 60.0
STOP_WITHIN = 10.0

T = TypeVar("T")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on just now.

    Below those that the system gives to connections (ip_local_port_range(7), from 32768 on): whoever stops there
    and starts again must find it free.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(look: Callable[[], T], what: str, within: float = 20.0) -> T:
    """Wait for `look` to return something true, and return it; fail saying `what` did not happen."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within:g} s: {what}")


def clean_environment(**more: str) -> dict[str, str]:
    """What a fresh shell has, plus `more`; coverage's own variable passes through."""
    keep = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
    return {name: os.environ[name] for name in keep if name in os.environ} | more


class Stack:
    """One wsmon: its directory, its environment, and its process while it runs."""

    def __init__(self, directory: Path, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.config = directory / "wsmon.yaml"
        self.log = directory / "output.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = clean_environment(
            WSMON_DATA_DIR=str(self.data_dir),
            WSMON_CONFIG=str(self.config),
            WSMON_BIND=f"127.0.0.1:{self.port}",
            WSMON_ADMIN_PASSWORD=PASSWORD,
            WSMON_ALLOW_PRIVATE_TARGETS="127.0.0.0/8",
            **(env or {}),
        )
        self.command = [sys.executable, str(ROOT / "manage.py")]
        self.cwd = ROOT
        self.process: subprocess.Popen[bytes] | None = None
        self.popen_options: dict[str, Any] = {}

    # The process

    def launch(self, *options: str) -> subprocess.Popen[bytes]:
        """Start it and return at once."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.command, "run", *options],
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self.popen_options,
            )
        return self.process

    def start(self, *options: str) -> Stack:
        """Start it and return when it answers."""
        process = self.launch(*options)

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"wsmon ended with {process.returncode}:\n{self.output()}")
            return self.is_up()

        eventually(answers, f"wsmon answers\n{self.output()}", START_WITHIN)
        return self

    def is_up(self) -> bool:
        """Whether /healthz answers 200."""
        try:
            return requests.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; the exit code. Fails when it takes longer than wsmon promises."""
        assert self.process is not None
        self.process.send_signal(how)
        try:
            return self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there {STOP_WITHIN:g} s after {how.name}:\n{self.output()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def manage(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Another management command on the same installation."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.cwd,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **self.popen_options,
        )

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # What it left in the machine

    def postgres(self) -> list[psutil.Process]:
        """The processes of its embedded PostgreSQL, the postmaster first."""
        cluster = str(self.data_dir.resolve() / "postgres")
        found = []
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and process.cwd() == cluster:
                    found.append(process)
            except psutil.Error:
                continue
        return sorted(found, key=lambda process: process.pid)

    def clean_up(self) -> None:
        """Leave no process behind, whatever the test did."""
        self.kill()
        for process in self.postgres():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may be on its way out already
                process.kill()

    # As a person or a program

    def login(self) -> requests.Session:
        """A browser's session, signed in as the first admin."""
        session = requests.Session()
        before = 'name="csrfmiddlewaretoken" value="'

        def page_of_login() -> requests.Response:
            return session.get(f"{self.url}/login/", timeout=10)

        eventually(lambda: before in page_of_login().text, f"the login page has its form\n{self.output()}")
        page = page_of_login()
        token = page.text.split(before)[1].split('"')[0]
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token}
        answer = session.post(f"{self.url}/login/", data=form, headers={"Referer": page.url}, timeout=10)
        assert answer.status_code == 200, answer.status_code
        return session

    def health(self) -> dict[str, Any]:
        """The API's word on every service."""
        return dict(self.login().get(f"{self.url}/api/admin/integrations/health", timeout=10).json())
