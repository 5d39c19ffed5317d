"""uvicorn, inside `manage.py run`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
import uvloop

from wsmon import live
from wsmon.asgi import application

GRACE = 3
"""Seconds that requests in progress have to finish when wsmon stops."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: the launcher has its own."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started
        self._on_stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stopping()
        live.shut_down()
        await super().shutdown(sockets)


class WebServer:
    """The web server of this process; made early (it imports the application), run later."""

    def __init__(self) -> None:
        self._config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # settings.TRUSTED_PROXIES decides whom to believe
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE,
        )
        self._server: _Server | None = None

    def serve_until_stopped(
        self, listener: socket.socket, started: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        """Serve on `listener`, in this thread, until ask_to_stop()."""
        self._server = _Server(self._config, started, stopping)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve([listener]))

    def ask_to_stop(self) -> None:
        """Stop accepting, finish what is in progress. From a signal handler."""
        if self._server:
            self._server.should_exit = True
