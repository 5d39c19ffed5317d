"""Doing what was asked for once, however often it is asked: the ``Idempotency-Key`` of a request.

The unique key of (scope, key) decides. A second request that comes while the first is at work waits for it
in the database, and gets its answer; when the first one fails, nothing is kept and the second one does it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from wsmon.vocabulary import JSON

KEPT = timedelta(hours=24)
LONGEST = 255
_KEY = re.compile(rf"[\x21-\x7e]{{1,{LONGEST}}}")

_DROP_OLD = """
DELETE FROM webhooks_idempotencykey WHERE scope = %s AND key = %s AND created_at < now() - make_interval(secs => %s)
"""
_TAKE = """
INSERT INTO webhooks_idempotencykey (scope, key, digest, answer) VALUES (%s, %s, %s, '{}')
ON CONFLICT (scope, key) DO NOTHING
"""


class Conflict(Exception):
    """The key was used for something else."""


class BadKey(ValueError):
    """The text cannot be a key; the message is for people."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``first`` is False for whoever asks again."""

    value: dict[str, Any]
    first: bool


def read(text: str | None) -> str:
    """A key as it was sent, "" for none; raises :class:`BadKey`."""
    if not text:
        return ""
    if not _KEY.fullmatch(text):
        raise BadKey(f"a key has 1 to {LONGEST} printable ASCII characters without spaces")
    return text


def once(scope: str, key: str, asked: JSON, act: Callable[[], dict[str, Any]]) -> Answer:
    """Call ``act`` in a transaction and keep its answer (plain JSON), or return the answer kept of before.

    Without a ``key`` it is always called. Raises :class:`Conflict` when ``asked`` is not what it was, and
    whatever ``act`` raises: then nothing is kept.
    """
    with transaction.atomic():
        if not key:
            return Answer(act(), first=True)
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        if not _taken(scope[:60], key, digest):
            return Answer(_kept(scope[:60], key, digest), first=False)
        answer = act()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE webhooks_idempotencykey SET answer = %s::jsonb WHERE scope = %s AND key = %s",
                [json.dumps(answer), scope[:60], key],
            )
    return Answer(answer, first=True)


def _taken(scope: str, key: str, digest: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_DROP_OLD, [scope, key, KEPT.total_seconds()])
        cursor.execute(_TAKE, [scope, key, digest])
        return bool(cursor.rowcount == 1)


def _kept(scope: str, key: str, digest: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT digest, answer::text FROM webhooks_idempotencykey WHERE scope = %s AND key = %s", [scope, key]
        )
        was, answer = cursor.fetchone()
    if was != digest:
        raise Conflict(key)
    return dict(json.loads(answer))
