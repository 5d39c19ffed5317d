"""NOTIFY -> browser: what changed, on every open page, within a fraction of a second.

Writers call :func:`publish` inside the transaction that changes something. One connection per web
process LISTENs (``wsmon.hub``); each change is rendered once and its bytes go to every open
``/live/`` stream. The stream is a plain ASGI endpoint: it stays open for hours and costs one task.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpResponse
from django.http.cookie import parse_cookie
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from wsmon.hub import CHANNEL, Hub, Viewer, current_hub
from wsmon.vocabulary import JSON

NOTIFY_LIMIT = 7_900
"""PostgreSQL refuses payloads of 8,000 bytes and more (NOTIFY's documentation)."""
MAX_VIEWERS = 5_000
MAX_PER_SESSION, MAX_PER_USER = 20, 100
"""Open streams of one browser and of one account in one web process; the next has to wait."""
TOO_MANY_WAIT = 10.0
"""Seconds after which a refused page may ask again."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


# Writing side ------------------------------------------------------------------------------------


def publish(kind: str, payload: dict[str, JSON]) -> None:
    """Tell every open page about a change, when (and only if) the present transaction commits.

    Kinds: ``state`` ``{"services": [id, ...]}``, ``tick`` ``{"checks": {"<id>": [service id,
    response_ms, checked_at_epoch, status]}}``, ``self`` ``{"problem": str | None}``, and those of
    ``settings.PROGRAM_STREAMS``. A long list is cut into several notifications; raises ``ValueError`` for
    anything else that is too long.
    """
    pieces = list(_pieces(kind, payload))
    calls = ", ".join(["pg_notify(%s, %s)"] * len(pieces))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", [text for piece in pieces for text in (CHANNEL, piece)])


def _pieces(kind: str, payload: dict[str, JSON]) -> Iterator[str]:
    text = json.dumps([kind, payload], separators=(",", ":"))  # ASCII, so characters are bytes
    if len(text) <= NOTIFY_LIMIT:
        yield text
        return
    name, content = next(iter(payload.items()))
    if len(payload) != 1 or not isinstance(content, list | dict) or len(content) < 2:
        raise ValueError(f"a live {kind!r} of {len(text)} bytes cannot be cut into pieces")
    items = list(content.items()) if isinstance(content, dict) else content
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        yield from _pieces(kind, {name: dict(half) if isinstance(content, dict) else half})


# Who may watch -----------------------------------------------------------------------------------


def entitled(session_keys: set[str]) -> set[str]:
    """The sessions among ``session_keys`` that belong to active staff who may read. Read in one batch."""
    return set(_accounts(session_keys))


def _accounts(session_keys: set[str]) -> dict[str, str]:
    """Those sessions, each with its account's id."""
    rows = Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    sessions = {row.session_key: row.get_decoded() for row in rows}
    ids = {data[SESSION_KEY] for data in sessions.values() if SESSION_KEY in data}
    users = {str(user.pk): user for user in get_user_model()._default_manager.filter(pk__in=ids)}
    owners = {key: str(data.get(SESSION_KEY)) for key, data in sessions.items()}
    return {key: owner for key, owner in owners.items() if _may_watch(sessions[key], users.get(owner))}


def _may_watch(session: dict[str, Any], user: AbstractBaseUser | None) -> bool:
    if user is None or not user.is_active or not getattr(user, "is_staff", False):
        return False
    if not cast(PermissionsMixin, user).has_perm(settings.LIVE_PERMISSION):
        return False
    if session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        return False
    # A changed password ends the account's other sessions, as in django.contrib.auth.get_user.
    known = session.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(known, value) for value in hashes)


def session_key(headers: dict[bytes, bytes]) -> str | None:
    """The key in the session cookie, if it can be one."""
    cookies = parse_cookie(headers.get(b"cookie", b"").decode("latin-1"))
    key = cookies.get(settings.SESSION_COOKIE_NAME, "")
    return key if key.isalnum() and key.isascii() and len(key) <= 64 else None


# The endpoint ------------------------------------------------------------------------------------

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes each event on at once
    (b"x-content-type-options", b"nosniff"),
]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request to ``/live/``: a stream for staff, 403 for everybody else.

    HEAD answers the same status without a stream, so that a page can ask why its stream ended: 403 is for
    good, 429 (too many open pages, see ``MAX_PER_SESSION``) and 503 are for now.
    """
    hub = current_hub(entitled)
    headers = dict(scope["headers"])
    if scope["method"] not in ("GET", "HEAD"):
        await _refuse(send, 405)
        return
    if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        await _refuse(send, 403)
        return
    key = session_key(headers)
    try:
        user = (await hub.in_thread(_accounts, {key})).get(key) if key else None
    except Exception:
        await _refuse(send, 503)  # the database does not answer: the browser tries again
        raise
    if user is None or key is None:
        await _refuse(send, 403)
    elif hub.closing or len(hub.viewers) >= MAX_VIEWERS:
        await _refuse(send, 503)
    elif _has_too_many(hub, key, user):
        await _refuse_for_now(send)
    elif scope["method"] == "HEAD":
        await _refuse(send, 200)
    else:
        await stream(hub.join(key, user, _rendered_at(scope)), hub.leave, receive, send)


def _has_too_many(hub: Hub, key: str, user: str) -> bool:
    of_session, of_user = hub.open_streams(key, user)
    return of_session >= MAX_PER_SESSION or of_user >= MAX_PER_USER


def _rendered_at(scope: dict[str, Any]) -> float:
    """When the page was rendered (``?since=``, epoch seconds); now, when it does not say."""
    values = parse_qs(scope["query_string"].decode("latin-1")).get("since", [])
    try:
        return float(values[0])
    except (IndexError, ValueError):
        return time.time()


async def _refuse(send: Send, status: int, body: bytes = b"", *more: tuple[bytes, bytes]) -> None:
    headers = [(b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse_for_now(send: Send) -> None:
    from wsmon import problems  # noqa: PLC0415  (workers publish too, and need not load the API)

    await refuse_with(send, problems.response(problems.Problem.too_many(TOO_MANY_WAIT)))


async def refuse_with(send: Send, answer: HttpResponse) -> None:
    """Answer with what Django would have sent."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.items()]
    await _refuse(send, answer.status_code, answer.content, *headers)


async def stream(viewer: Viewer, leave: Callable[[Viewer], None], receive: Receive, send: Send) -> None:
    """Write to one stream what its viewer is offered, until either side ends it."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        writing = asyncio.ensure_future(_write(viewer, send))
        leaving = asyncio.ensure_future(_until_gone(receive))
        viewer.task = writing
        done, waiting = await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*done, *waiting, return_exceptions=True)
    finally:
        leave(viewer)


async def _write(viewer: Viewer, send: Send) -> None:
    while (chunk := await viewer.next()) is not None:
        viewer.writing_since = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        viewer.writing_since = None
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def shut_down() -> None:
    """End every stream of this process, from any thread, so that the server can stop at once."""
    Hub.close_all()
