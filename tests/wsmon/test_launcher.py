"""What `manage.py run` checks before it starts anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from wsmon.embedded import EmbeddedError
from wsmon.launcher import database as database_module
from wsmon.launcher import entry
from wsmon.launcher.database import Database
from wsmon.launcher.ground import Address, LaunchError, Lock, LockTaken, listen, make_data_dir


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000, "http://127.0.0.1:8000/"),
        ("0.0.0.0:80", "0.0.0.0", 80, "http://127.0.0.1:80/"),
        ("[::1]:9000", "::1", 9000, "http://[::1]:9000/"),
        ("[::]:9000", "::", 9000, "http://[::1]:9000/"),
        (":8000", "127.0.0.1", 8000, "http://127.0.0.1:8000/"),
        ("8000", "127.0.0.1", 8000, "http://127.0.0.1:8000/"),
        ("localhost:8000", "localhost", 8000, "http://localhost:8000/"),
    ],
)
def test_it_reads_an_address(text: str, host: str, port: int, url: str) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.url) == (host, port, url)


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:", "host:port", "127.0.0.1:70000", "", "1:²"])
def test_it_refuses_what_is_no_address_and_shows_one(text: str) -> None:
    with pytest.raises(LaunchError, match=r"WSMON_BIND=.*127.0.0.1:8000"):
        Address.parse(text)


def test_only_loopback_counts_as_loopback() -> None:
    assert Address("127.0.0.1", 1).is_loopback
    assert Address("::1", 1).is_loopback
    assert not Address("0.0.0.0", 1).is_loopback


def test_a_taken_port_is_named_with_the_program_that_has_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"port {port} is taken by .*process {os.getpid()}.*WSMON_BIND"):
            listen(Address("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused_with_its_name() -> None:
    with pytest.raises(LaunchError, match=r"WSMON_BIND=192.0.2.1:8000"):
        listen(Address("192.0.2.1", 8000))


def test_a_name_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"WSMON_BIND=no-such-host.invalid:8000"):
        listen(Address("no-such-host.invalid", 8000))


def test_it_listens_at_once_so_that_early_browsers_wait() -> None:
    with listen(Address("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 2) as early:
        assert early.getpeername() == server.getsockname()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    lock = Lock(tmp_path, "run")
    with pytest.raises(LockTaken, match=rf"{tmp_path} is in use by `manage.py run` \(process {os.getpid()}\)"):
        Lock(tmp_path, "run")
    lock.release()
    Lock(tmp_path, "migrate").release()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from wsmon.launcher.ground import Lock;"
        "lock = Lock(Path(sys.argv[1]), 'run'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    Lock(tmp_path, "run").release()


def test_a_file_in_the_place_of_the_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(LaunchError, match=rf"cannot write to {tmp_path}/var.*WSMON_DATA_DIR"):
        make_data_dir(tmp_path / "var")


def test_a_directory_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(LaunchError, match=r"Permission denied.*WSMON_DATA_DIR"):
        make_data_dir(tmp_path)


def test_a_lock_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "wsmon.lock").mkdir()
    with pytest.raises(LaunchError, match=r"cannot write to .*/wsmon\.lock"):
        Lock(tmp_path, "run")


class FakeServer:
    """Stands in for PostgreSQL: lives until told to die."""

    def __init__(self, *, broken: bool = False) -> None:
        self.running = False
        self.broken = broken
        self.starts = 0
        self.back = threading.Event()

    def start(self) -> None:
        self.starts += 1
        if self.broken:
            raise EmbeddedError("no space left")
        self.running = True
        if self.starts > 1:
            self.back.set()

    def stop(self) -> None:
        self.running = False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(database_module, "WAITS", (0.01,))


def _database(server: Any, said: list[str]) -> Database:
    database = Database(server, said.append)
    database.start()
    return database


@pytest.mark.usefixtures("impatient")
def test_a_dead_postgresql_is_started_again_and_it_says_so() -> None:
    server = FakeServer()
    said: list[str] = []
    database = _database(server, said)
    database.wait()
    server.running = False
    assert server.back.wait(5)
    database.stop()
    assert said == ["PostgreSQL has stopped unexpectedly; starting it again in 0.01 s", "PostgreSQL is back"]
    assert not server.running


@pytest.mark.usefixtures("impatient")
def test_a_postgresql_that_does_not_come_back_is_tried_again() -> None:
    server = FakeServer()
    said: list[str] = []
    database = _database(server, said)
    database.wait()
    server.broken, server.running = True, False
    while server.starts < 3:
        pass
    server.broken = False
    assert server.back.wait(5)
    database.stop()
    assert "PostgreSQL does not come back: no space left" in said


def test_a_postgresql_that_cannot_start_is_an_error_of_the_start() -> None:
    database = _database(FakeServer(broken=True), [])
    with pytest.raises(EmbeddedError, match="no space left"):
        database.wait()
    database.stop()


def test_a_command_waits_for_another_one_on_the_same_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Lock(tmp_path, "migrate")
    threading.Timer(0.3, first.release).start()
    second = entry._lock_or_none(tmp_path, "apply")
    assert second is not None
    second.release()
    assert "waiting for `manage.py migrate`" in capsys.readouterr().err


def test_a_command_gives_up_on_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "PATIENCE", 0.0)
    lock = Lock(tmp_path, "shell")
    with pytest.raises(LockTaken, match=r"manage.py shell"):
        entry._lock_or_none(tmp_path, "apply")
    lock.release()


def test_a_command_uses_the_database_of_a_running_wsmon(tmp_path: Path) -> None:
    lock = Lock(tmp_path, "run")
    assert entry._lock_or_none(tmp_path, "apply") is None
    lock.release()


def test_database_url_turns_the_embedded_database_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entry.embedded()
    monkeypatch.setenv("DATABASE_URL_FILE", "/run/secrets/database")
    assert not entry.embedded()
