"""Whether a stored event may be sent again: its bytes are those that came, and were signed when they came.

The vendor's signature is checked once more, over the raw bytes and at the time of arrival. Where it no longer
can be (the secret was rotated away, the vendor only compares a token, we fetched or published the event
ourselves), wsmon's own authenticated encryption and the stored SHA-256 prove that nothing was changed.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from providers.hooks import Inbound, Refused, Scheme, signed_headers
from webhooks import catalog, sealing
from webhooks.eventmodels import Event
from webhooks.sealing import Content
from wsmon.http import Headers
from wsmon.secrets import Unresolvable

ERASED = "erased"
TAMPERED = "tampered"
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Ok:
    """It may be sent. ``proof`` says what was checked: ``signature``, or ``seal`` alone."""

    content: Content = field(repr=False)
    proof: str


@dataclass(frozen=True, slots=True)
class Skip:
    """It may not: ``erased``, ``tampered`` or ``unreadable`` (no key opens it)."""

    reason: str


def verdict(event: Event, known: catalog.Catalog | None = None) -> Ok | Skip:
    """Check a stored event. ``known`` spares the look whether sources have changed.

    Reads the event that keeps the request, for a part of a batch. Raises ``django.db.Error``.
    """
    if event.sealed is None:
        return Skip(ERASED)
    try:
        content = sealing.unseal(bytes(event.sealed))
        request = _request(event, content)
    except Unresolvable:
        return Skip(UNREADABLE)
    if not hmac.compare_digest(hashlib.sha256(content.body).digest(), bytes(event.sha256)):
        return Skip(TAMPERED)
    source = _source(event, known or catalog.refresh())
    secret = str(event.verification.get("secret_id") or "")
    if request is None or source is None or source.scheme is None or not _present(source, secret):
        return Ok(content, "seal")
    if not signed_headers(source.scheme, source.options):
        return Ok(content, "seal")
    fits = _signed(request, event.received_at.timestamp(), source, source.scheme)
    return Ok(content, "signature") if fits else Skip(TAMPERED)


def _request(event: Event, content: Content) -> Content | None:
    """What was signed: of a batch, the whole request, which its first event keeps; None when that is gone."""
    kept = event.request
    if kept is None and event.batch is None:
        return content
    if kept is None and event.batch is not None:
        kept = Event.objects.filter(id=event.batch).values_list("request", flat=True).first()
    return sealing.unseal(bytes(kept)) if kept is not None else None


def _source(event: Event, known: catalog.Catalog) -> catalog.Source | None:
    return next((source for source in known.sources.values() if source.id == event.source_id), None)


def _present(source: catalog.Source, secret: str) -> bool:
    """Whether the secret that fitted at arrival is still configured; false for what came unsigned."""
    return bool(secret) and any(catalog.secret_id(value) == secret for value in source.secrets)


def _signed(request: Content, received_at: float, source: catalog.Source, scheme: Scheme) -> bool:
    inbound = Inbound(scheme.methods[0], request.url, Headers(request.headers), request.body, received_at)
    try:
        scheme.verify(inbound, source.secrets, source.options)
    except Refused:
        return False
    return True
