"""``/healthz``: is this process alive? ``/readyz``: can it do its work?

Each look of ``/readyz`` runs in a thread of its own with a time budget, so that a database that hangs
gives a 503 in time instead of a probe that hangs too. Both are open to everybody: no internals.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.connection import Connection

BUDGET_S = 1.8
"""For all looks together: they run side by side."""
FRESH_S = 0.5
"""An answer younger than this is given again: strangers cannot make wsmon work by asking often."""

Look = Callable[[], tuple[bool, str]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one look found: fine or not, why not, and how long it took."""

    ok: bool
    why: str
    ms: float


class Looker:
    """Runs one look at a time. While one hangs nobody starts another, so threads cannot pile up."""

    def __init__(self, name: str, look: Look) -> None:
        self.name = name
        self._look = look
        self._lock = threading.Lock()
        self._current: Future[Answer] | None = None
        self._started = 0.0

    def start(self) -> Future[Answer]:
        """Return the look that is under way or fresh, or start one."""
        with self._lock:
            if self._current is None or (self._current.done() and time.monotonic() - self._started >= FRESH_S):
                self._current, self._started = Future(), time.monotonic()
                thread = threading.Thread(
                    target=self._run, args=(self._current,), name=f"ready-{self.name}", daemon=True
                )
                thread.start()
            return self._current

    def _run(self, future: Future[Answer]) -> None:
        start = time.monotonic()
        try:
            ok, why = self._look()
        except Exception as error:
            log.warning("not_ready", look=self.name, error=type(error).__name__)
            ok, why = False, "fails"
        finally:
            connection.close()
        future.set_result(Answer(ok, why, round((time.monotonic() - start) * 1000, 1)))


@login_not_required
@require_safe
@never_cache
def healthz(_request: HttpRequest) -> JsonResponse:
    """Answer 200 as long as the process can answer at all."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
@never_cache
def readyz(_request: HttpRequest) -> JsonResponse:
    """Answer 200 when database, broker and scheduler are fine, else 503 and which of them is not."""
    answers = look()
    ready = all(answer.ok for answer in answers.values())
    checks = {
        name: {"ok": answer.ok, "why": answer.why, "response_time": answer.ms} for name, answer in answers.items()
    }
    status = "ready" if ready else "not_ready"
    return JsonResponse({"status": status, "checks": checks}, status=200 if ready else 503)


def look(budget: float = BUDGET_S) -> dict[str, Answer]:
    """Take every look at once, for at most ``budget`` seconds; a late one counts as not ready."""
    until = time.monotonic() + budget
    started = {looker.name: looker.start() for looker in _lookers()}
    return {name: _wait(future, until, budget) for name, future in started.items()}


def _wait(future: Future[Answer], until: float, budget: float) -> Answer:
    try:
        return future.result(timeout=max(until - time.monotonic(), 0))
    except FutureTimeout:
        return Answer(False, f"no answer within {budget:g} s", round(budget * 1000, 1))


def database() -> tuple[bool, str]:
    """Ask the database something."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except Exception as error:
        log.warning("database_not_ready", error=type(error).__name__)
        return False, "does not answer"
    return True, ""


def broker() -> tuple[bool, str]:
    """Connect to the broker, unless it is the one inside this process."""
    url = settings.CELERY_BROKER_URL
    if url.startswith("memory:"):
        return True, "in process"
    options = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}
    try:
        opened = Connection(url, connect_timeout=1, transport_options=options)  # type: ignore[no-untyped-call]
        with opened as broker_connection:
            broker_connection.connect()
    except Exception as error:
        log.warning("broker_not_ready", error=type(error).__name__)
        return False, "does not answer"
    return True, ""


_made: dict[str, Looker] = {}
_making = threading.Lock()


def _lookers() -> list[Looker]:
    looks: dict[str, Look | str] = {"database": database, "broker": broker} | settings.READINESS_CHECKS
    with _making:
        for name, one in looks.items():
            if name not in _made:
                _made[name] = Looker(name, import_string(one) if isinstance(one, str) else one)
        return [_made[name] for name in looks]
