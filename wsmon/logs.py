"""Logging: JSON lines in production, readable ones at a terminal; secrets masked in both.

Whoever starts a process calls ``configure()`` once: manage.py, asgi.py, celery.py. A request's id is on
each of its lines (wsmon.middleware binds it to structlog's context).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

QUIET = {
    "celery": logging.WARNING,
    "kombu": logging.ERROR,  # warns that memory:// has no host name
    "amqp": logging.WARNING,
    "urllib3": logging.ERROR,
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
    "psycopg.pool": logging.WARNING,
    "asyncio": logging.WARNING,
    "axes": logging.WARNING,
    "django.server": logging.WARNING,
    "django.security.DisallowedHost": logging.CRITICAL,
}
"""Libraries that would say more than a person wants to read."""


def mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no secret leaves in any value of a log line, tracebacks included."""
    from wsmon.redact import redact, redact_json  # noqa: PLC0415

    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
        elif isinstance(value, dict | list | tuple):
            event[key] = redact_json(value)
    return event


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at the moment: it may be replaced after this was made."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def configure(*, json: bool, level: int = logging.INFO) -> None:
    """Send every logger of this process to standard error, in one format."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            mask,
            renderer,
        ],
    )
    handler = _StandardError()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, _StandardError)] + [handler]
    root.setLevel(level)
    for name, quieter in QUIET.items():
        logging.getLogger(name).setLevel(quieter)
    structlog.configure(
        processors=[*_shared_for_structlog(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _shared_for_structlog() -> list[Any]:
    return [structlog.stdlib.filter_by_level, structlog.stdlib.PositionalArgumentsFormatter(), *_shared()]


def _plain(stream: Any, exc_info: Any) -> None:
    """Tracebacks are already text when the renderer sees them."""
    del stream, exc_info
