"""The team's own events: stored like any that came, sent by the same engine.

The body is that of Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, "payload
structure"): ``{"type", "timestamp", "data"}``. Whoever sends the same idempotency key again within 24 hours
gets the first event.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction

from webhooks import catalog, idempotency, store
from webhooks.configmodels import Source
from webhooks.sealing import Content
from webhooks.vocabulary import PUBLISHED, Priority
from wsmon.audit import Actor
from wsmon.ids import uuid7
from wsmon.vocabulary import JSON

LARGEST = 1_048_576
"""Bytes of a body."""
_TYPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}")
_JSON = "application/json"


class Unpublishable(ValueError):
    """What was given is no event; ``field`` is at fault, ``message`` is for people."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Published:
    """An event of ours. ``created`` is False when the key was known: then it is the first one again."""

    event_id: uuid.UUID
    created: bool
    deliveries: int
    """To so many destinations; 0: no route takes it."""


def publish(
    type: str,
    data: JSON,
    idempotency_key: str = "",
    *,
    actor: Actor,
    priority: Priority | None = None,
) -> Published:
    """Store an event of ours with its deliveries; ``priority`` goes before the routes'.

    Raises :class:`Unpublishable`, ``idempotency.BadKey``, and ``idempotency.Conflict`` when the key was used
    for another event by the same actor.
    """
    if not _TYPE.fullmatch(type):
        raise Unpublishable("type", "has 1 to 200 letters, digits, dots, dashes and the like, e.g. order.paid")
    now = store.now()
    body = _body(type, data, now)
    key = idempotency.read(idempotency_key)
    source = _source()

    def act() -> dict[str, JSON]:
        return _save(source, type, data, body, now, actor, priority)

    asked: JSON = {"type": type, "data": data, "priority": priority}
    answer = idempotency.once(f"publish {actor.name}", key, asked, act)
    found = answer.value
    return Published(uuid.UUID(str(found["event_id"])), answer.first, int(found["deliveries"]))


def _save(
    source: catalog.Source,
    type_: str,
    data: JSON,
    body: bytes,
    now: datetime,
    actor: Actor,
    priority: Priority | None,
) -> dict[str, JSON]:
    event_id = uuid7(now.timestamp())
    subject = data.get("id") if isinstance(data, dict) else None
    event = store.NewEvent(
        source=source,
        key=str(event_id),
        type=type_,
        received_at=now,
        content=Content([("content-type", _JSON)], "", body),
        subject=_plain(subject)[:255] if isinstance(subject, str) else "",
        occurred_at=now,
        address=actor.address,
        verification={"scheme": "published", "by": actor.name[:200]},
        content_type=_JSON,
        priority=priority,
        id=event_id,
    )
    (saved,) = store.save([event])
    return {"event_id": str(saved.event_id), "deliveries": saved.routed}


def _body(type_: str, data: JSON, now: datetime) -> bytes:
    timestamp = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    try:
        text = json.dumps(
            {"type": type_, "timestamp": timestamp, "data": data}, separators=(",", ":"), allow_nan=False
        )
    except (ValueError, RecursionError):
        raise Unpublishable("data", "is not JSON") from None
    if len(text) > LARGEST:
        raise Unpublishable("data", f"may have {LARGEST} bytes")
    return text.encode()


def _source() -> catalog.Source:
    """wsmon's own source; made when it is asked for first."""
    found = catalog.refresh().source(PUBLISHED)
    if found is None:
        with transaction.atomic():
            row, _made = Source.objects.get_or_create(
                slug=PUBLISHED, defaults={"provider": PUBLISHED, "watch_silence": False}
            )
            if row.archived_at is not None:
                Source.objects.filter(id=row.id).update(archived_at=None)
            catalog.changed()
        found = catalog.refresh(force=True).sources[PUBLISHED]
    return found


def _plain(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
