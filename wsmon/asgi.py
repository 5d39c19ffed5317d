"""The ASGI application: streams go to wsmon.live and wsmon.streams, everything else to Django."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wsmon.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.checks.urls import check_url_config
from django.template import engines
from django.utils.module_loading import import_string

from wsmon import logs, telemetry

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Any], Awaitable[None]]

# WhiteNoise: outside production files are served from where they are, and there is no such directory.
warnings.filterwarnings("ignore", message="No directory at")
# Its files are read synchronously, which is right for files of this size.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
logs.configure(json=settings.PRODUCTION)
telemetry.start()  # adds its middleware, so before the application is made
django_application = get_asgi_application()
# The whole site is imported here and not by the first request: two threads that import modules of one circle
# from different ends can find each other's half made. So can two that make Django's template engine.
check_url_config(None)
engines.all()

from wsmon import live, problems, streams  # noqa: E402  (needs Django to be set up)

# What is imported stays for good. The collector need not look through it, half a million objects, again and
# again: each time would hold up every request for a tenth of a second.
gc.freeze()

_ROUTES = [(prefix, import_string(path)) for prefix, path in settings.ASGI_ROUTES.items()]

LARGEST_BODY = 4 * 1_048_576
"""Bytes of a request's body that are read at all; views and Django refuse smaller ones, where fit.

Django writes a whole body to a temporary file before it asks who sends it: without a limit here any
stranger could fill the disk.
"""


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Dispatch one connection. Streams never enter Django: they stay open for hours."""
    if scope["type"] == "http" and scope["path"] == "/live/":
        await live.application(scope, receive, send)
        return
    if scope["type"] == "http" and scope["path"] in settings.PROGRAM_STREAMS:
        await streams.application(scope, receive, send)
        return
    for prefix, answer in _ROUTES:
        if scope["path"].startswith(prefix):
            await answer(scope, receive, send)
            return
    body = _Capped(receive)
    await django_application(scope, body, send)
    if body.exceeded:  # Django took it for a client that went away, and said nothing
        await _refuse(send)


class _Capped:
    """``receive``, which ends the request when its body is too large."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self.exceeded = False

    async def __call__(self) -> dict[str, Any]:
        message = {"type": "http.disconnect"} if self.exceeded else await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > LARGEST_BODY:
            self.exceeded = True
            return {"type": "http.disconnect"}
        return message


async def _refuse(send: Send) -> None:
    answer = problems.response(problems.Problem(413, "the body is too large"))
    headers = [(b"content-type", answer["Content-Type"].encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})
