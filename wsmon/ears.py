"""What a thread sleeps on: a bell that others ring, and what PostgreSQL notifies on the thread's own connection."""

from __future__ import annotations

import contextlib
import select
import socket

from django.db import connection


class Ears:
    """Of one thread, which alone waits, listens and hears; anybody may ring.

    Until ``listen`` has succeeded, and again after ``deaf``, only the bell is heard: a connection that was lost is
    listened to anew.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.listening = False
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)

    def ring(self) -> None:
        """Wake whoever waits, or is about to."""
        with contextlib.suppress(OSError):  # it is ringing already, or is closed
            self._bell.send(b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep until something rings or PostgreSQL notifies; False when the time is over first."""
        ears = select.poll()  # unlike select(), whatever the number of open files
        ears.register(self._ear, select.POLLIN)
        if self.listening:
            ears.register(connection.connection.fileno(), select.POLLIN)
        return bool(ears.poll(max(0.0, seconds) * 1000))

    def hear(self) -> bool:
        """Take what has come, so that the next wait sleeps again; whether PostgreSQL notified. May raise ``AWAY``."""
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass
        notified = False
        if self.listening:
            wire = connection.connection.pgconn
            wire.consume_input()
            while wire.notifies():
                notified = True
        return notified

    def listen(self) -> bool:
        """Listen on the thread's connection, unless it does already; whether it has only now begun to."""
        if self.listening:
            return False
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {self.channel}")
        self.listening = True
        return True

    def deaf(self) -> None:
        """The connection is lost, or may be."""
        self.listening = False

    def close(self) -> None:
        """Nobody waits any more."""
        self._bell.close()
        self._ear.close()
