"""The thread that owns the embedded PostgreSQL: starts it, brings it back when it dies, stops it.

One thread for all of it, because PostgreSQL is asked to shut down when the thread that started it ends.
No Django.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from wsmon.embedded import EmbeddedError, Server

LOOK_EVERY = 0.2
"""Seconds between two looks at the server's process."""
WAITS = (0.2, 1.0, 2.0, 5.0, 15.0)
"""Seconds before each restart in a row; the last one repeats."""
STEADY_AFTER = 60.0
"""Seconds of life after which a death counts as the first again."""


class Database:
    """The embedded server while `manage.py run` runs. `say` gets what a person should know."""

    def __init__(self, server: Server, say: Callable[[str], None]) -> None:
        self._server = server
        self._say = say
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: EmbeddedError | None = None
        self._thread = threading.Thread(target=self._live, name="postgres", daemon=True)

    def start(self) -> None:
        """Begin starting; returns at once."""
        self._thread.start()

    def wait(self) -> None:
        """Return when the server accepts connections. Raises EmbeddedError when it does not."""
        self._started.wait()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Fast shutdown; returns when the server is gone (8 s at most before it gets harsher)."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _live(self) -> None:
        try:
            self._server.start()
        except EmbeddedError as error:
            self._failure = error
            return
        except OSError as error:
            self._failure = EmbeddedError(f"PostgreSQL cannot be started: {error}")
            return
        finally:
            self._started.set()
        try:
            self._watch()
        finally:
            self._server.stop()

    def _watch(self) -> None:
        deaths, since = 0, time.monotonic()
        while not self._stopping.wait(LOOK_EVERY):
            if self._server.running:
                continue
            deaths = 0 if time.monotonic() - since > STEADY_AFTER else deaths
            wait = WAITS[min(deaths, len(WAITS) - 1)]
            self._say(f"PostgreSQL has stopped unexpectedly; starting it again in {wait:g} s")
            if self._stopping.wait(wait):
                return
            deaths, since = deaths + 1, time.monotonic()
            self._restart()

    def _restart(self) -> None:
        try:
            self._server.start()
        except (EmbeddedError, OSError) as error:
            self._say(f"PostgreSQL does not come back: {error}")
        else:
            self._say("PostgreSQL is back")
