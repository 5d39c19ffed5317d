"""The ASGI application: live streams go to wsmon.live, everything else to Django."""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wsmon.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

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

from wsmon import live  # noqa: E402  (needs Django to be set up)


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Dispatch one connection. ``/live/`` never enters Django: it stays open for hours."""
    if scope["type"] == "http" and scope["path"] == "/live/":
        await live.application(scope, receive, send)
    else:
        await django_application(scope, receive, send)
