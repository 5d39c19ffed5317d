"""manage.py's way in: gives each command the ground it needs, before Django is loaded."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsmon.embedded import EmbeddedError, Server, binaries, socket_dir
from wsmon.launcher.ground import LaunchError, Lock, LockTaken, make_data_dir

WITHOUT_DATABASE = {
    "check", "collectstatic", "compilemessages", "diffsettings", "findstatic", "help", "makemessages",
    "run", "sqlmigrate", "startapp", "startproject", "test", "version",
}  # fmt: skip
"""Commands that start no embedded PostgreSQL here: `run` starts its own, the others need none."""
PATIENCE = 60.0
"""Seconds to wait for another short command on the same data directory."""


def main(argv: list[str]) -> int:
    """Run one management command; the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wsmon.settings")
    command = argv[1] if len(argv) > 1 else "help"
    asks_for_help = command.startswith("-") or not {"-h", "--help"}.isdisjoint(argv)
    try:
        if command == "run" and not asks_for_help:
            from wsmon.launcher import stack  # noqa: PLC0415

            return stack.main(argv)
        if command in WITHOUT_DATABASE or asks_for_help or not embedded():
            return _execute(argv)
        with embedded_database(command):
            return _execute(argv)
    except (LaunchError, EmbeddedError) as error:
        print(f"wsmon: {error}", file=sys.stderr)  # noqa: T201
        return 1


def embedded() -> bool:
    """Whether this installation uses the embedded PostgreSQL (settings.py decides alike)."""
    return not (os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"))


def data_dir() -> Path:
    """WSMON_DATA_DIR, made if it is missing. Raises LaunchError."""
    return make_data_dir(Path(os.environ.get("WSMON_DATA_DIR") or "var"))


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(f"wsmon: {text}", flush=True)  # noqa: T201


def whisper(text: str) -> None:
    """The same on standard error, for commands whose output is data."""
    print(f"wsmon: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _execute(argv: list[str]) -> int:
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    execute_from_command_line(argv)
    return 0


@contextmanager
def embedded_database(command: str) -> Iterator[None]:
    """The embedded PostgreSQL for the duration of one command; `manage.py run`'s, when that runs."""
    directory = data_dir()
    lock = _lock_or_none(directory, command)
    if lock is None:
        _wait_for_socket(directory)
        yield
        return
    server = Server(directory, say=whisper)
    try:
        server.start()
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{binaries()}"  # dbshell: psql
        yield
    finally:
        server.stop()
        lock.release()


def _lock_or_none(directory: Path, command: str) -> Lock | None:
    """The lock; ``None`` when `manage.py run` holds it. Waits for other commands, for a while."""
    deadline = time.monotonic() + PATIENCE
    told = False
    while True:
        try:
            return Lock(directory, command)
        except LockTaken as taken:
            if taken.purpose == "run":
                return None
            if time.monotonic() > deadline:
                raise
            if not told:
                whisper(f"waiting for `manage.py {taken.purpose}` (process {taken.pid}) to finish")
            told = True
        time.sleep(0.1)


def _wait_for_socket(directory: Path) -> None:
    """`manage.py run` may have begun only just now."""
    path = socket_dir(directory) / ".s.PGSQL.5432"
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
