"""The URL that a cron job calls: ``/api/heartbeat/<token>``, ``.../start`` and ``.../fail``.

The token is the secret, so there is no login. A call is one row update; judging it is the work of the
``heartbeat`` check, which a call makes due at once.
"""

from __future__ import annotations

import structlog
from django.contrib.auth.decorators import login_not_required
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from wsmon.audit import address_of
from wsmon.throttle import Rate

COLUMNS = {"success": "last_success_at", "start": "last_start_at", "fail": "last_fail_at"}
LONGEST_BODY = 1_048_576
"""Bodies (a job's output) are ignored; one longer than this is refused."""

calls = Rate(60, 60.0)
"""Of one token: a job that calls more than once a second is mistaken."""
unknown = Rate(30, 60.0)
"""Wrong tokens from one address."""

log = structlog.get_logger(__name__)


@csrf_exempt
@login_not_required
def heartbeat(request: HttpRequest, token: str, signal: str = "success") -> HttpResponse:
    """Note one call. GET, HEAD and POST do the same: cron jobs have curl, wget or less."""
    response = _answer(request, token, signal)
    response.headers["Cache-Control"] = "no-store"
    return response


def _answer(request: HttpRequest, token: str, signal: str) -> HttpResponse:
    if request.method not in ("GET", "HEAD", "POST"):
        return _text(405, "method not allowed", Allow="GET, HEAD, POST")
    if _length(request) > LONGEST_BODY:
        return _text(413, "body too large")
    wait = calls.peek(token)
    if wait:
        return _too_many(wait)
    try:
        known = signal in COLUMNS and note(token, signal)
    except OperationalError:
        log.exception("heartbeat_lost")
        return _text(503, "try again", **{"Retry-After": "5"})
    if not known:
        # Only now: whoever sends wrong tokens must not silence the jobs behind the same address.
        wait = unknown.take(str(address_of(request)))
        return _too_many(wait) if wait else _text(404, "not found")
    calls.take(token)
    return _text(200, "ok")


def note(token: str, signal: str) -> bool:
    """Store a call in one statement and make its check due; return whether the token is known.

    By the database's clock, as calls are judged: that of a web host may be wrong.
    """
    column = COLUMNS[signal]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH called AS (
                UPDATE monitoring_heartbeat beat SET {column} = clock_timestamp()
                FROM monitoring_configuration checked
                WHERE beat.token = %(token)s AND checked.id = beat.check_id AND checked.archived_at IS NULL
                RETURNING beat.check_id
            ), due AS (
                UPDATE monitoring_checkstate state SET next_due_at = clock_timestamp()
                FROM called WHERE state.check_id = called.check_id
                  -- A probe under way saw nothing of this call: moved, the check is probed again after it.
                  AND (state.next_due_at > clock_timestamp() OR state.lease_token IS NOT NULL)
            )
            SELECT count(*) FROM called
            """,  # noqa: S608 - the column is one of ours
            {"token": token.replace("\x00", "")},
        )
        return bool(cursor.fetchone()[0])


def _length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdecimal() and len(text) < 20 else LONGEST_BODY + 1


def _too_many(wait: float) -> HttpResponse:
    return _text(429, "too many calls", **{"Retry-After": str(int(wait) + 1)})


def _text(status: int, words: str, **headers: str) -> HttpResponse:
    return HttpResponse(words + "\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)


urlpatterns = [
    path("<str:token>", heartbeat, name="heartbeat"),
    path("<str:token>/start", heartbeat, {"signal": "start"}, name="heartbeat_start"),
    path("<str:token>/fail", heartbeat, {"signal": "fail"}, name="heartbeat_fail"),
]
