"""Sources, destinations, routes, events, deliveries and attempts for tests."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from webhooks import catalog, sealing
from webhooks.models import (
    Attempt,
    Delivery,
    DeliveryCount,
    Destination,
    DestinationState,
    Event,
    Route,
    Secret,
    Source,
)
from webhooks.sealing import Content, Exchanged
from webhooks.vocabulary import DeliveryStatus
from wsmon import secrets as store_of_secrets
from wsmon.ids import uuid7

JSON_TYPE = [("content-type", "application/json")]

_numbers = itertools.count(1)


def make_source(
    slug: str | None = None, provider: str = "stripe", secrets: Sequence[str] = ("whsec_test",), **fields: Any
) -> Source:
    """A source whose secrets are stored encrypted."""
    source = Source.objects.create(slug=slug or f"source-{next(_numbers)}", provider=provider, **fields)
    set_secrets(source, secrets)
    return source


def set_secrets(source: Source, secrets: Sequence[str]) -> None:
    """Give a source other secrets: ``env:NAME`` is kept as a reference, the rest encrypted."""
    source.secrets.all().delete()
    for position, value in enumerate(secrets):
        Secret.objects.create(source=source, position=position, **_kept(value))
    catalog.changed()
    catalog.forget()


def make_destination(
    slug: str | None = None, url: str = "http://127.0.0.1:9/hooks", secrets: Sequence[str] = (), **fields: Any
) -> Destination:
    """A destination with its state; unsigned unless ``secrets`` are given."""
    destination = Destination.objects.create(slug=slug or f"destination-{next(_numbers)}", url=url, **fields)
    DestinationState.objects.create(destination=destination)
    for position, value in enumerate(secrets):
        Secret.objects.create(destination=destination, position=position, **_kept(value))
    catalog.changed()
    catalog.forget()
    return destination


def make_route(source: Source, destination: Destination, events: Sequence[str] = (), **fields: Any) -> Route:
    """A route of all events, or of some."""
    route = Route.objects.create(source=source, destination=destination, events=list(events), **fields)
    catalog.changed()
    catalog.forget()
    return route


def make_event(
    source: Source | None = None,
    data: Any = None,
    *,
    body: bytes | None = None,
    headers: Sequence[tuple[str, str]] = JSON_TYPE,
    url: str = "",
    received_at: datetime | None = None,
    **fields: Any,
) -> Event:
    """A stored event, sealed: ``data`` as JSON or ``body`` as it is. Its id is of the time it was received."""
    number = next(_numbers)
    at = received_at or timezone.now()
    if body is None:
        body = json.dumps({"id": f"evt_{number}", "number": number} if data is None else data).encode()
    defaults: dict[str, Any] = {
        "id": uuid7(at.timestamp()),
        "source": source or make_source(),
        "key": f"evt_{number}",
        "type": "payment_intent.succeeded",
        "received_at": at,
        "size": len(body),
        "sha256": hashlib.sha256(body).digest(),
        "sealed": sealing.seal(Content(list(headers), url, body)),
    }
    return Event.objects.create(**defaults | fields)


def make_delivery(
    event: Event | None = None,
    destination: Destination | None = None,
    status: DeliveryStatus | str = DeliveryStatus.PENDING,
    **fields: Any,
) -> Delivery:
    """A delivery of an event; finished now when its status says so. The event counts it as routed."""
    event = event or make_event()
    defaults: dict[str, Any] = {
        "event": event,
        "destination": destination or make_destination(),
        "source_id": event.source_id,
        "type": event.type,
        "status": DeliveryStatus(status),
        "max_tries": 9,
        "created_at": event.received_at,
    }
    if status in (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.CANCELLED):
        defaults["finished_at"] = timezone.now()
    if status == DeliveryStatus.DELIVERED:
        defaults |= {"tries": 1, "http_status": 200, "total_ms": 12.0, "tried_at": timezone.now()}
    if status == DeliveryStatus.FAILED:
        defaults |= {
            "tries": 9,
            "http_status": 500,
            "category": "SERVER_ERROR",
            "message": "answered 500",
            "fingerprint": "f" * 16,
            "total_ms": 30.0,
            "tried_at": timezone.now(),
        }
    delivery = Delivery.objects.create(**defaults | fields)
    event.routed += 1
    event.save(update_fields=["routed"])
    return delivery


def make_attempt(delivery: Delivery | None = None, *, ok: bool = False, **fields: Any) -> Attempt:
    """One try of a delivery, with what was sent and answered."""
    delivery = delivery or make_delivery()
    exchanged = fields.pop("exchanged", None) or Exchanged(
        [("content-type", "application/json"), ("webhook-id", str(delivery.event_id))],
        [("content-type", "text/plain")],
        b"fine" if ok else b"no such thing",
    )
    defaults: dict[str, Any] = {
        "delivery": delivery,
        "number": delivery.attempts.count() + 1,
        "at": timezone.now(),
        "ok": ok,
        "http_status": 200 if ok else 500,
        "category": "" if ok else "SERVER_ERROR",
        "message": "answered 200" if ok else "answered 500",
        "fingerprint": "" if ok else "f" * 16,
        "total_ms": 12.5,
        "sealed": sealing.seal_exchange(exchanged),
    }
    return Attempt.objects.create(**defaults | fields)


def count_deliveries(source: Source, destination: Destination, at: datetime | None = None, **fields: Any) -> None:
    """Count deliveries at a moment, at every level: ``delivered=3, failed=1, tries=5, ...``.

    Of one hour only once; those of one day add up.
    """
    seconds = (at or timezone.now()).timestamp()
    for level in DeliveryCount.Level:
        start = datetime.fromtimestamp(seconds // level * level, UTC)
        row, is_new = DeliveryCount.objects.get_or_create(
            level=level, source_id=source.id, destination_id=destination.id, start=start, defaults=fields
        )
        if not is_new:
            assert level == DeliveryCount.Level.DAY
            assert "histogram" not in fields
            rows = DeliveryCount.objects.filter(pk=row.pk)
            rows.update(**{name: getattr(row, name) + number for name, number in fields.items()})


def _kept(value: str) -> Mapping[str, Any]:
    if store_of_secrets.is_reference(value):
        return {"reference": value}
    return {"encrypted": store_of_secrets.encrypt(value)}
