"""Erasing a person's data: every payload, header, answer and message that mentions them, with a receipt.

An erasure is a row that any process can take a step of: it goes through all events by their ids, opens what
is encrypted and looks (webhooks/mentions.py), so that what stands in the middle of a longer text is found
too. Killed at any moment, it goes on after the last chunk that was committed. The blind index comes first: most
of what there is goes within the first second.

What mentions the person loses its payload, and is delivered no more. That there was an event, when, of which
type, and what became of its deliveries, stays.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from webhooks import sealing, search, traces
from webhooks.eventmodels import Attempt, Delivery, Event, EventTokens, Message
from webhooks.mentions import BadSubject, Subject, keyed_hash
from webhooks.replaymodels import Erasure
from webhooks.vocabulary import UNFINISHED, DeliveryStatus
from wsmon import secrets
from wsmon.audit import Actor, record
from wsmon.ids import earliest

__all__ = ["BadSubject", "Subject"]

logger = structlog.get_logger(__name__)

CHUNK = 200
INDEXED_AT_MOST = 2_000
COLUMNS = ("key", "subject", "verification", "sealed", "request", "address", "erased_at", "indexed")
MESSAGE = "erased on request"
SWEPT = timedelta(hours=2)
"""How long after an erasure a try that was under way may still write what it got."""


@dataclass(slots=True)
class Found:
    """What of one chunk mentions the subject: ids."""

    events: list[uuid.UUID] = field(default_factory=list)
    requests: list[uuid.UUID] = field(default_factory=list)
    """Events that only keep the request of a batch in which it stands."""
    attempts: list[int] = field(default_factory=list)
    unreadable: int = 0


# What people call ---------------------------------------------------------------------------------


def start(subject: Subject, actor: Actor, reason: str) -> Erasure:
    """Begin an erasure, or return the one of this subject that runs; :func:`step` does the work.

    Events that come in later are not touched. The audit row and the receipt hold a keyed hash only.
    """
    why = "" if subject.in_text(reason) else reason
    with transaction.atomic():
        connection.cursor().execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [subject.digest])
        running = Erasure.objects.filter(digest=subject.digest, status="running").first()
        if running is not None:
            return running
        found = Erasure.objects.create(
            by=actor.name[:200],
            reason=why.replace("\x00", "")[:500],
            digest=subject.digest,
            sealed=secrets.seal(subject.text.encode()),
            last=earliest(time.time() + 1),
        )
        record(actor, "webhooks.erase", f"erasure:{found.id}", why, subject=subject.digest)
    return found


def dry_run(subject: Subject) -> Erasure:
    """Count what an erasure would take, changing nothing; the receipt is not stored."""
    counted = Erasure(digest=subject.digest, status="done")
    after: uuid.UUID | None = None
    while rows := _chunk(after, earliest(time.time() + 1)):
        found = look(subject, rows)
        counted.scanned += len(rows)
        counted.events += len(found.events)
        counted.attempts += len(found.attempts)
        counted.unreadable += found.unreadable
        after = rows[-1].id
    counted.messages = len(_messages(subject))
    counted.mentions = traces.count(subject)
    return counted


def run_due(seconds: float = 8.0) -> int:
    """Go on with what runs, for about so long; how many steps were made. Called by a task."""
    end, steps = time.monotonic() + seconds, 0
    for erasure_id in Erasure.objects.filter(status="running").order_by("at").values_list("id", flat=True):
        try:
            while time.monotonic() < end and step(erasure_id):
                steps += 1
        except secrets.Unresolvable:
            logger.error("erasure_stands_still", erasure=str(erasure_id), why="no present key opens its subject")
    return steps


def step(erasure_id: uuid.UUID) -> bool:
    """One chunk of an erasure, in one transaction; False when it is done, or another process is at it."""
    with transaction.atomic():
        rows = Erasure.objects.select_for_update(skip_locked=True).filter(id=erasure_id, status="running")
        erasure = rows.first()
        if erasure is None:
            return False
        subject = Subject(secrets.unseal(bytes(erasure.sealed or b"")).decode())
        if erasure.cursor is None:
            events = _indexed(subject, erasure)
            erasure.cursor = uuid.UUID(int=0)
        else:
            events = _chunk(erasure.cursor, erasure.last)
            erasure.scanned += len(events)
            erasure.cursor = events[-1].id if events else erasure.cursor
            if not events:
                _finish(erasure, subject)
        _act(erasure, subject, look(subject, events))
        erasure.save()
    return erasure.status == "running"


def sweep() -> int:
    """Forget what tries that were under way during an erasure wrote afterwards; how many."""
    late = Attempt.objects.filter(
        delivery__event__erased_at__gt=timezone.now() - SWEPT, sealed__isnull=False
    ).values_list("id", flat=True)
    return _empty_attempts(list(late[:10_000]))


# Looking ------------------------------------------------------------------------------------------


def look(subject: Subject, events: Sequence[Event]) -> Found:
    """Which of these events, and of their attempts, mention the subject."""
    found = Found()
    for event in events:
        mentioned = _names(subject, event) or _opened(found, subject, event.sealed)
        if mentioned:
            found.events.append(event.id)
        elif _opened(found, subject, event.request):
            found.requests.append(event.id)
    deliveries = Delivery.objects.filter(event__in=[event.id for event in events])
    for delivery in deliveries.only("event_id", "order_key", "message"):
        if subject.in_text(delivery.order_key) or subject.in_text(delivery.message):
            _once(found.events, delivery.event_id)
    for attempt in Attempt.objects.filter(delivery__event__in=[event.id for event in events]).iterator(CHUNK):
        if subject.in_text(attempt.message) or _exchanged(found, subject, attempt.sealed):
            found.attempts.append(attempt.id)
    return found


def _once(ids: list[uuid.UUID], one: uuid.UUID) -> None:
    if one not in ids:
        ids.append(one)


def _names(subject: Subject, event: Event) -> bool:
    texts = (event.key, event.subject, event.address or "", str(event.verification))
    return any(subject.in_text(text) for text in texts)


def _opened(found: Found, subject: Subject, sealed: bytes | memoryview | None) -> bool:
    if sealed is None:
        return False
    try:
        return subject.in_content(sealing.unseal(bytes(sealed)))
    except secrets.Unresolvable:
        found.unreadable += 1
        return False


def _exchanged(found: Found, subject: Subject, sealed: bytes | memoryview | None) -> bool:
    if sealed is None:
        return False
    try:
        return subject.in_exchange(sealing.unseal_exchange(bytes(sealed)))
    except secrets.Unresolvable:
        found.unreadable += 1
        return False


def _chunk(after: uuid.UUID | None, last: uuid.UUID | None) -> list[Event]:
    rows = Event.objects.order_by("id")
    rows = rows.filter(id__gt=after) if after else rows
    return list((rows.filter(id__lt=last) if last else rows)[:CHUNK])


def _indexed(subject: Subject, erasure: Erasure) -> list[Event]:
    """What the blind index knows, of the subject as a whole value or a word."""
    tokens = search.tokens_of('"' + subject.text.replace('"', "") + '"')
    ids = EventTokens.objects.filter(tokens__contains=tokens).values_list("event_id", flat=True)[:INDEXED_AT_MOST]
    return list(Event.objects.filter(id__in=list(ids), id__lt=erasure.last)) if tokens else []


# Acting -------------------------------------------------------------------------------------------


def _act(erasure: Erasure, subject: Subject, found: Found) -> None:
    erasure.unreadable += found.unreadable
    erasure.messages += _drop_messages(found.events)
    erasure.events += _empty_events(subject, found.events)
    Event.objects.filter(id__in=found.requests).update(request=None)
    of_events = Attempt.objects.filter(delivery__event__in=found.events, sealed__isnull=False)
    erasure.attempts += _empty_attempts({*found.attempts, *of_events.values_list("id", flat=True)})


def _empty_events(subject: Subject, ids: Sequence[uuid.UUID]) -> int:
    if not ids:
        return 0
    events = list(Event.objects.select_for_update(no_key=True).filter(id__in=ids).order_by("id"))
    first = [event for event in events if event.erased_at is None]
    for event in events:
        for name, value in _renamed(subject, event).items():
            setattr(event, name, value)
        event.sealed = event.request = None
        event.erased_at, event.indexed = timezone.now(), True
        event.save(update_fields=COLUMNS)
    EventTokens.objects.filter(event__in=ids).delete()
    Delivery.objects.filter(event__in=ids, status__in=UNFINISHED).update(
        status=DeliveryStatus.CANCELLED, finished_at=Now(), lease_token=None, lease_until=None, message=MESSAGE
    )
    _empty_deliveries(subject, ids)
    return len(first)


def _drop_messages(ids: Sequence[uuid.UUID]) -> int:
    """Forget what became of the messages that these events are about."""
    if not ids:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM webhooks_message m USING webhooks_event e"
            " WHERE e.id = ANY(%s) AND m.source_id = e.source_id AND m.subject = e.subject",
            [list(ids)],
        )
        return int(cursor.rowcount)


def _renamed(subject: Subject, event: Event) -> dict[str, Any]:
    """What of an event's own columns names the subject, as it may stay: a key remains one of its own."""
    changed: dict[str, Any] = {}
    if subject.in_text(event.key):
        changed["key"] = replacement(event.key)
    if subject.in_text(event.subject):
        changed["subject"] = f"erased:{subject.digest}"
    if subject.in_text(event.address or ""):
        changed["address"] = None
    if subject.in_text(str(event.verification)):
        changed["verification"] = {}
    return changed


def replacement(key: str) -> str:
    """What a vendor's event id became if it named somebody; the same for the same id."""
    return f"erased:{keyed_hash(key)}"


def _empty_deliveries(subject: Subject, ids: Sequence[uuid.UUID]) -> None:
    for delivery in Delivery.objects.filter(event__in=ids).only("id", "order_key", "message"):
        if subject.in_text(delivery.order_key):
            delivery.order_key = f"erased:{subject.digest}"
        if subject.in_text(delivery.message):
            delivery.message = ""
        delivery.save(update_fields=["order_key", "message"])


def _empty_attempts(ids: Iterable[int]) -> int:
    return Attempt.objects.filter(id__in=list(ids)).update(sealed=None, message="")


def _messages(subject: Subject) -> list[int]:
    """The messages whose id names the subject (the others go with their events)."""
    rows = Message.objects.values_list("id", "subject").iterator(1_000)
    return [number for number, text in rows if subject.in_text(text)]


def _finish(erasure: Erasure, subject: Subject) -> None:
    """After the last chunk: what names the subject outside events, then the subject itself."""
    erasure.messages += Message.objects.filter(id__in=_messages(subject)).delete()[0]
    erasure.mentions = traces.erase(subject)
    erasure.status, erasure.sealed, erasure.finished_at = "done", None, timezone.now()
    logger.info("erasure_done", erasure=str(erasure.id), events=erasure.events, attempts=erasure.attempts)


def receipt(erasure: Erasure) -> dict[str, Any]:
    """What may be shown of an erasure."""
    return {
        "id": erasure.id if erasure.last else None,
        "status": erasure.status,
        "subject": erasure.digest,
        "by": erasure.by,
        "reason": erasure.reason,
        "at": erasure.at if erasure.last else None,
        "finished_at": erasure.finished_at,
        "scanned": erasure.scanned,
        "events": erasure.events,
        "attempts": erasure.attempts,
        "messages": erasure.messages,
        "mentions": erasure.mentions,
        "unreadable": erasure.unreadable,
    }
