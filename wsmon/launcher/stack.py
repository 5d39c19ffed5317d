"""`manage.py run`: everything in order, and the same backwards.

PostgreSQL starts in its thread while this one imports Django; the port is ours from the beginning, so a
browser that comes early waits instead of being refused.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from wsmon.embedded import Server
from wsmon.launcher import entry
from wsmon.launcher.database import Database
from wsmon.launcher.ground import Address, Lock, listen

if TYPE_CHECKING:
    from pathlib import Path


STOP_WITHIN = 9.5
"""Seconds after which a stop that hangs is cut short. Nothing committed is lost by it."""


def _give_up() -> None:
    entry.whisper("something did not stop in time; stopped without it")
    os._exit(1)  # PostgreSQL sees its parent go and shuts down by itself


class Signals:
    """SIGTERM and Ctrl-C: the first asks, a second Ctrl-C forces."""

    def __init__(self) -> None:
        self.stop_serving: Callable[[], None] | None = None
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._asked:
            if number == signal.SIGINT:
                entry.whisper("forced to stop")
                os._exit(130)  # PostgreSQL sees its parent go and shuts down by itself
            return
        self._asked = True
        watchdog = threading.Timer(STOP_WITHIN, _give_up)
        watchdog.daemon = True
        watchdog.start()
        entry.say("stopping (Ctrl-C again to force)")
        if self.stop_serving is None:
            sys.exit(0)
        self.stop_serving()


@dataclass
class Ground:
    """What a run holds from its first moment to its last."""

    address: Address
    signals: Signals
    data_dir: Path
    lock: Lock
    socket: socket.socket
    database: Database | None = field(default=None)

    def give_back(self) -> None:
        """Close everything, PostgreSQL last but the lock."""
        self.socket.close()
        if self.database:
            self.database.stop()
        self.lock.release()


_ground: Ground | None = None


def take_ground() -> Ground:
    """Take what must be ours and begin starting PostgreSQL. Raises LaunchError."""
    address = Address.parse(os.environ.get("WSMON_BIND") or "127.0.0.1:8000")
    directory = entry.data_dir()
    lock = Lock(directory, "run")
    try:
        listener = listen(address)
    except BaseException:
        lock.release()
        raise
    ground = Ground(address, Signals(), directory, lock, listener)
    if entry.embedded():
        ground.database = Database(Server(directory, say=entry.say), entry.say)
        ground.database.start()
    return ground


def main(argv: list[str]) -> int:
    """manage.py's `run`: the ground first, then Django's command, which calls serve()."""
    global _ground  # noqa: PLW0603  (handed to the command, which Django makes)
    # The schedule's tasks are ours; Celery would run every Django check again when its worker starts.
    os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
    _ground = take_ground()
    try:
        from django.core.management import execute_from_command_line  # noqa: PLC0415

        execute_from_command_line(argv)
    finally:
        _ground.give_back()
    return 0


def serve(*, worker: bool, beat: bool) -> None:
    """Prepare the database, then serve, probe and tick until a signal comes."""
    from wsmon.launcher import first_start  # noqa: PLC0415
    from wsmon.launcher.background import Background  # noqa: PLC0415
    from wsmon.launcher.web import WebServer  # noqa: PLC0415

    if _ground is None:
        raise RuntimeError("`run` is started by manage.py")
    ground = _ground
    server = WebServer()
    if ground.database:
        ground.database.wait()
    greeting = first_start.prepare()
    background = Background(worker=worker, beat=beat)

    def started() -> None:
        background.start()
        entry.say(f"ready at {ground.address.url}")
        for line in greeting:
            entry.say(line)
        if not ground.address.is_loopback and not os.environ.get("WSMON_ALLOWED_HOSTS"):
            entry.say("browsers on other machines need WSMON_ALLOWED_HOSTS, the name or address they open")

    ground.signals.stop_serving = server.ask_to_stop
    try:
        server.serve_until_stopped(ground.socket, started, background.ask_to_stop)
    finally:
        first_start.finish_serving()
        background.stop()
        first_start.close_connections()
