"""The web server in a thread of the test, on a port that can be closed and opened again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from tests.whole import eventually, free_port
from wsmon import live
from wsmon.asgi import application


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        live.shut_down()
        await super().shutdown(sockets)


class Site:
    """wsmon's web process. ``stop`` and ``start`` may be called in turn."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Site:
        """Serve; returns when connections are accepted."""
        config = uvicorn.Config(
            application, port=self.port, log_config=None, lifespan="off", timeout_graceful_shutdown=3
        )
        server = self._server = _Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
        self._thread.start()
        eventually(lambda: server.started, "the web server accepts connections")
        return self

    def stop(self) -> None:
        """Stop serving; open streams end."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(10)
            assert not self._thread.is_alive(), "the web server does not stop"
        self._server = None
