"""Starting wsmon: from nothing, twice, and where it cannot."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.whole import PASSWORD, Stack, eventually

pytestmark = pytest.mark.stack
Make = Callable[..., Stack]

BAD_CONFIGURATION = "services:\n  site:\n    provider: http\n    checks:\n      - {kind: http, intervall: 5s}\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """One wsmon that runs, for the tests that leave it as it was."""
    directory = Path(tempfile.mkdtemp(prefix="wsmon-test-"))
    stack = Stack(directory)
    try:
        yield stack.start()
    finally:
        stack.clean_up()
        shutil.rmtree(directory, ignore_errors=True)


def test_it_starts_from_an_empty_directory_and_lets_its_first_admin_in(running: Stack) -> None:
    session = running.login()
    assert session.get(running.url, timeout=10).status_code == 200
    output = running.output()
    assert f"ready at {running.url}/" in output
    assert "first account: admin, with WSMON_ADMIN_PASSWORD" in output
    assert PASSWORD not in output
    assert "Traceback" not in output


def test_it_is_ready_when_worker_and_beat_run(running: Stack) -> None:
    def ready() -> bool:
        return requests.get(f"{running.url}/readyz", timeout=5).status_code == 200

    eventually(ready, "/readyz answers 200")


def test_a_generated_password_is_shown_once(make_stack: Make) -> None:
    stack = make_stack()
    del stack.env["WSMON_ADMIN_PASSWORD"]
    stack.start().stop()
    assert re.search(r"first account: admin, password \S{20} ", stack.output())
    first = len(stack.output())
    stack.start().stop()
    assert "password" not in stack.output()[first:]


def test_a_second_start_on_the_same_directory_is_refused_with_the_first_ones_pid(running: Stack) -> None:
    assert running.process is not None
    second = running.manage("run")
    assert second.returncode == 1
    message = second.stderr.strip()
    assert message.count("\n") == 0
    assert f"process {running.process.pid}" in message
    assert str(running.data_dir) in message
    assert running.is_up()


def test_a_taken_port_is_named_and_nothing_stays_behind(make_stack: Make) -> None:
    stack = make_stack()
    with socket.create_server(("127.0.0.1", stack.port)):
        refused = stack.manage("run")
    assert refused.returncode == 1
    assert f"port {stack.port} is taken by" in refused.stderr
    assert f"process {os.getpid()}" in refused.stderr
    assert "WSMON_BIND" in refused.stderr
    assert stack.postgres() == []


def test_a_directory_that_cannot_be_made_is_named(make_stack: Make) -> None:
    stack = make_stack()
    stack.data_dir.write_text("a file in the way")
    for command in ("run", "migrate"):
        refused = stack.manage(command)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"wsmon: cannot write to {stack.data_dir}")
        assert "WSMON_DATA_DIR" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_bad_configuration_is_shown_and_the_previous_one_stays_in_force(make_stack: Make) -> None:
    stack = make_stack()
    stack.config.write_text("services:\n  site:\n    provider: http\n    checks: []\n")
    stack.start().stop()
    stack.config.write_text(BAD_CONFIGURATION)
    stack.start()
    output = stack.output()
    assert "IS REFUSED" in output
    assert "intervall" in output
    assert [service["service"] for service in stack.health()["services"]] == ["site"]


def test_other_commands_bring_their_own_postgresql_and_take_it_away(make_stack: Make) -> None:
    stack = make_stack()
    assert stack.manage("migrate", "--verbosity=0").returncode == 0
    made = stack.manage("createtoken", "ci", "--scope", "monitoring:read")
    assert made.returncode == 0, made.stderr
    assert stack.postgres() == []


def test_other_commands_use_the_postgresql_of_a_running_wsmon(running: Stack) -> None:
    before = [process.pid for process in running.postgres()][:1]
    made = running.manage("createtoken", "ci", "--scope", "monitoring:read")
    assert made.returncode == 0, made.stderr
    token = made.stdout.split()[-1]
    answer = requests.get(
        f"{running.url}/api/admin/integrations/health",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert answer.status_code == 200
    assert [process.pid for process in running.postgres()][:1] == before


def _unprivileged_python() -> str | None:
    """A Python of this version that the account `nobody` may run, if there is one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            done = subprocess.run([python, "-c", ""], user="nobody", group="nogroup", extra_groups=[], check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="every other test here runs as an ordinary user already")
def test_an_ordinary_user_can_run_it_and_hears_what_it_may_not_write(make_stack: Make, tmp_path: Path) -> None:
    python = _unprivileged_python()
    if python is None:
        pytest.skip("no Python here that an unprivileged account may run")
    stack = make_stack()
    _make_passable(stack.directory)
    packages = Path(pytest.__file__).parent.parent
    stack.env |= {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(stack.directory)}
    stack.env.pop("COVERAGE_PROCESS_CONFIG", None)  # its files are root's
    stack.command[0] = python
    stack.popen_options = {"user": "nobody", "group": "nogroup", "extra_groups": []}

    refused = stack.manage("run")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"wsmon: cannot write to {stack.data_dir}: Permission denied")

    stack.data_dir.mkdir()
    shutil.chown(stack.data_dir, "nobody", "nogroup")
    stack.start()
    assert {process.username() for process in stack.postgres()} == {"nobody"}
    assert stack.stop() == 0
    assert stack.postgres() == []


def _make_passable(directory: Path) -> None:
    for parent in (directory, *directory.parents):
        parent.chmod(parent.stat().st_mode | 0o011)


def test_it_serves_its_first_page_while_the_clock_of_the_reader_still_waits(make_stack: Make) -> None:
    """A browser that comes before wsmon is ready is answered by the same connection, not refused."""
    stack = make_stack()
    process = stack.launch()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", stack.port), 30) as early:
                early.settimeout(60)
                early.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                assert early.recv(12) == b"HTTP/1.1 200"
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    pytest.fail(stack.output())
