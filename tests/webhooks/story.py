"""A Saturday to look at: sources, destinations and deliveries in every state, written straight into the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from monitoring.breakers import circuits
from monitoring.histogram import bin_of
from monitoring.models import Breaker, Circuit
from tests.webhooks.factories import make_delivery, make_destination, make_event, make_route, make_source
from webhooks import sealing
from webhooks.models import (
    Attempt,
    Delivery,
    DeliveryCount,
    Destination,
    DestinationState,
    EventCount,
    Message,
    Refusal,
    Replay,
    Source,
    TypeRate,
)
from webhooks.sealing import Exchanged
from wsmon.ids import uuid7

POOL = b'{"error": "could not obtain connection from pool", "pool": {"size": 20}}'
SENT = [("content-type", "application/json"), ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN="),
        ("stripe-signature", "t=1792000000,v1=0123456789abcdef")]  # fmt: skip


@dataclass
class Told:
    """What the story made."""

    stripe: Source
    resend: Source
    github: Source
    app: Destination
    ledger: Destination
    mailer: Destination
    now: datetime
    failed: list[Delivery]
    """422 at ledger, newest first."""
    waiting: list[Delivery]
    """For app, whose breaker is open."""


def payload(key: str, kind: str, subject: str) -> dict[str, Any]:
    """What Stripe sends, with somebody's data in it."""
    return {"id": key, "type": kind, "data": {"object": {
        "id": subject, "amount": 184000, "currency": "eur", "customer": "cus_R4v0e1",
        "receipt_email": "jane.doe@example.com", "shipping": {"name": "Jane Doe", "phone": "+4915112345678"},
    }}}  # fmt: skip


def tell() -> Told:
    """Stripe goes to app, which fails, and to ledger, which refuses some; Resend to a paused mailer."""
    now = timezone.now()
    stripe, resend = make_source("stripe"), make_source("resend", "resend", ["env:NO_SUCH_SECRET"])
    github = make_source("github", "github", ["s3cr3t-of-github"])
    app = make_destination("app", "https://app.example.com/hooks?token=abcdefghijklmnop", max_per_second=50)
    ledger, mailer = make_destination("ledger", order_by="subject"), make_destination("mailer")
    for one in (app, ledger, mailer):
        circuits.ensure(f"destination:{one.slug}", label=one.slug, policy={"policy": "counting"})
    make_route(stripe, app, ["payment_intent.*", "invoice.*"], priority=0)
    make_route(stripe, ledger, ["invoice.*"], priority=1)
    make_route(resend, mailer)
    hold(app, now)
    DestinationState.objects.filter(destination=mailer).update(
        paused_at=now - timedelta(hours=2), paused_by="grace", paused_reason="moving"
    )
    told = Told(stripe, resend, github, app, ledger, mailer, now, [], [])
    _deliver(told)
    _count(told)
    _more(told)
    return told


def hold(destination: Destination, now: datetime) -> None:
    """Open its breaker."""
    Breaker.objects.create(
        service_id=Circuit.objects.get(name=f"destination:{destination.slug}").id, state="OPEN", generation=1,
        since=now - timedelta(minutes=14), opened_at=now, open_for=300.0, openings=1, cause="outage",
        reason="5 failures counted",
    )  # fmt: skip


def event(told: Told, kind: str, subject: str, at: datetime, source: Source | None = None, **fields: Any) -> Any:
    """One event, verified on arrival."""
    key = f"evt_{subject}"
    proof = {"scheme": "Stripe-Signature v1, HMAC-SHA256", "secret": 0, "secrets": 1, "age": 0.4}
    return make_event(
        source or told.stripe, payload(key, kind, subject), key=key, type=kind, subject=subject, received_at=at,
        verification=proof, address="54.187.174.169", **fields,
    )  # fmt: skip


def attempt(
    delivery: Delivery, number: int, at: datetime, status: int | None, body: bytes = b"", **fields: Any
) -> None:
    """One try, with what was sent and answered."""
    ok = status is not None and status < 400
    answered = [("content-type", "application/json"), ("x-request-id", "01JAD7R9M2")] if status else []
    Attempt.objects.create(
        delivery=delivery, number=number, at=at, ok=ok, http_status=status, total_ms=2003.0, dns_ms=2.0,
        connect_ms=9.0, tls_ms=31.0, first_byte_ms=1950.0, category="" if ok else delivery.category,
        message="" if ok else delivery.message, fingerprint="" if ok else delivery.fingerprint,
        **({"sealed": sealing.seal_exchange(Exchanged(SENT, answered, body))} | fields),
    )  # fmt: skip


def _deliver(told: Told) -> None:
    now = told.now
    for number in range(3):
        at = now - timedelta(hours=1 + number)
        one = event(told, "invoice.finalized", f"in_{number}", at)
        failed = make_delivery(
            one, told.ledger, "failed", http_status=422, category="CLIENT_ERROR", fingerprint="b" * 16,
            message="unknown tax_rate, asked by jane.doe@example.com", tried_at=at, finished_at=at,
        )  # fmt: skip
        for tried in (1, 2):
            attempt(failed, tried, at + timedelta(minutes=tried), 422, b'{"error": "unknown tax_rate"}')
        told.failed.append(failed)
        make_delivery(one, told.app, "delivered", tried_at=at)
    for number in range(4):
        at = now - timedelta(minutes=14 - number)
        one = event(told, "payment_intent.succeeded", f"pi_{number}", at)
        tries = {"tries": 2, "tried_at": at, "http_status": 500, "category": "SERVER_ERROR", "total_ms": 2003.0,
                 "message": "could not obtain connection", "fingerprint": "a" * 16}  # fmt: skip
        waiting = make_delivery(one, told.app, "retrying" if number else "pending", **(tries if number else {}))
        if number:
            attempt(waiting, 1, at, 500, POOL, trial=number == 3)
        told.waiting.append(waiting)


def _count(told: Told) -> None:
    start = told.now.replace(second=0, microsecond=0)
    bins = [0] * (bin_of(100.0) + 1)
    bins[bin_of(100.0)] = 8
    for counted in EventCount.Level:
        EventCount.objects.create(
            level=counted, source_id=told.stripe.id, type="x", start=start, events=12, duplicates=2
        )
    for level in DeliveryCount.Level:
        for source, to, bad in ((told.stripe, told.app, 2), (told.stripe, told.ledger, 0)):
            DeliveryCount.objects.create(
                level=level, source_id=source.id, destination_id=to.id, start=start, tries=8, tries_failed=bad,
                delivered=8 - bad, failed=bad, histogram=bins,
            )  # fmt: skip


def _more(told: Told) -> None:
    now = told.now
    batch = uuid7(now.timestamp())
    first = event(told, "email.bounced", "re_1", now, told.resend, id=batch, batch=batch, message_status="bounced")
    event(told, "email.opened", "re_2", now, told.resend, batch=batch)
    make_delivery(first, told.mailer, "pending")
    Message.objects.create(
        source=told.resend, subject="re_1", status="complained", rank=6, changed_at=now, event_id=first.id
    )
    Refusal.objects.create(
        at=now, source="stripe", code="signature_mismatch", address="203.0.113.41", size=12, count=18, last_at=now
    )
    Refusal.objects.create(at=now, source="?", code="unknown_source", size=12, count=2, last_at=now)
    TypeRate.objects.create(source=told.github, type="push", silent_since=now - timedelta(hours=3))
    Replay.objects.create(
        created_by="operator", reason="rates fixed", selection={"status": "failed"}, total=200, made=120, skipped=8,
        due_at=now + timedelta(days=300), last=1,
    )  # fmt: skip
