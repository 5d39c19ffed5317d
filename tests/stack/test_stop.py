"""Stopping wsmon: asked, forced, killed, and PostgreSQL taken away from under it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.whole import Stack, eventually
from wsmon.embedded import Server

pytestmark = pytest.mark.stack
Make = Callable[..., Stack]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """The port of a server that accepts and never says a word; counts whoever came."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def _watch(stack: Stack, port: int) -> None:
    stack.config.write_text(
        "services:\n  silent:\n    provider: http\n    checks:\n"
        f"      - {{kind: http, url: 'http://127.0.0.1:{port}/', interval: 5s, timeout: 4s}}\n"
    )


def _children(stack: Stack) -> list[psutil.Process]:
    assert stack.process is not None
    return list(psutil.Process(stack.process.pid).children(recursive=True))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_with_an_open_stream_and_a_probe_in_progress(
    make_stack: Make, black_hole: int, how: signal.Signals
) -> None:
    stack = make_stack()
    _watch(stack, black_hole)
    stack.start()
    session = stack.login()
    stream = session.get(f"{stack.url}/live/", stream=True, timeout=30)
    assert stream.status_code == 200
    ended = threading.Event()
    threading.Thread(target=_read_to_the_end, args=(stream, ended), daemon=True).start()
    children = _children(stack)
    assert children
    assert stack.stop(how) == 0
    assert ended.wait(5)
    # PostgreSQL's log writer outlives its postmaster by the moment it takes to see that.
    eventually(lambda: not any(process.is_running() for process in children), "no process is left", 3)
    assert "Traceback" not in stack.output()


def _read_to_the_end(stream: requests.Response, ended: threading.Event) -> None:
    with contextlib.suppress(requests.RequestException):
        for _ in stream.iter_content(1024):
            pass
    ended.set()


def test_it_can_be_stopped_while_it_starts(make_stack: Make) -> None:
    stack = make_stack()
    process = stack.launch()
    eventually(stack.postgres, "PostgreSQL is being made")
    process.terminate()
    assert process.wait(10) == 0
    eventually(lambda: not stack.postgres(), "PostgreSQL is gone", 5)
    assert "Traceback" not in stack.output()
    stack.start()


def test_a_second_ctrl_c_does_not_wait(make_stack: Make, black_hole: int) -> None:
    stack = make_stack()
    _watch(stack, black_hole)
    process = stack.start().process
    assert process is not None
    process.send_signal(signal.SIGINT)
    eventually(lambda: "Ctrl-C again to force" in stack.output(), "it says that it stops")
    process.send_signal(signal.SIGINT)
    assert process.wait(5) in {0, 130}  # 0 when it was done before the second one came
    eventually(lambda: not stack.postgres(), "PostgreSQL sees its parent go", 5)


def test_it_stops_in_time_even_when_postgresql_is_frozen(make_stack: Make) -> None:
    stack = make_stack().start()
    for process in stack.postgres():
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker of autovacuum comes and goes
            process.suspend()
    stack.stop()  # fails when it takes longer than promised
    eventually(lambda: not stack.postgres(), "PostgreSQL is gone", 5)
    stack.start()


def test_after_kill_9_it_starts_again_at_once_and_keeps_what_was_there(make_stack: Make) -> None:
    stack = make_stack()
    stack.start()
    made = stack.manage("createtoken", "kept", "--scope", "monitoring:read")
    stack.kill()
    stack.start()
    answer = requests.get(
        f"{stack.url}/api/admin/integrations/health",
        headers={"Authorization": f"Bearer {made.stdout.split()[-1]}"},
        timeout=10,
    )
    assert answer.status_code == 200


def test_after_kill_9_of_everything_a_stale_pid_file_is_no_obstacle(make_stack: Make) -> None:
    stack = make_stack()
    stack.start()
    processes = stack.postgres()
    for process in processes:
        process.suspend()  # so that nothing can tidy up
    stack.kill()
    for process in processes:
        process.kill()
    pid_file = stack.data_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    lines[0] = "1"  # the pid now belongs to a stranger
    pid_file.write_text("\n".join(lines))
    stack.start()
    assert stack.stop() == 0


def test_an_orphaned_postgresql_is_replaced(make_stack: Make) -> None:
    stack = make_stack()
    stack.start().stop()
    orphan = Server(Path(stack.data_dir), durable=False)
    orphan.start()
    stack.start()
    assert not orphan.running
    assert stack.stop() == 0


def test_postgresql_killed_under_it_comes_back_and_so_does_wsmon(live_stack: Stack) -> None:
    def ready() -> bool:
        return requests.get(f"{live_stack.url}/readyz", timeout=5).status_code == 200

    eventually(ready, "ready before")
    live_stack.postgres()[0].kill()
    eventually(lambda: "PostgreSQL is back" in live_stack.output(), "the launcher starts it again")
    eventually(ready, "ready after", 40)
    assert live_stack.login().get(live_stack.url, timeout=10).status_code == 200
