"""Links in messages by which whoever got one acknowledges, once, without signing in.

The token names its message and is signed with the secret key; only its digest is kept. Following the link (as
mail scanners do) only asks; acknowledging is a POST.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from monitoring.models import AckLink, Alert, Notification
from monitoring.notifications import acknowledging
from monitoring.notifications.routing import What
from wsmon.audit import Actor

LIFETIME = timedelta(hours=48)
_SALT = "monitoring.notifications.links"
_SIGNED = 16
_KINDS = (What.OPENED, What.WORSE, What.REMINDER, What.ESCALATED)


class Standing(StrEnum):
    """What a link is good for."""

    FORGED = "forged"
    EXPIRED = "expired"
    USED = "used"
    OVER = "over"
    """What it is about is over."""
    TAKEN = "taken"
    """Somebody acknowledged it otherwise."""
    READY = "ready"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Found:
    """A link and what can be done with it."""

    standing: Standing
    alert: Alert | None = None
    link: AckLink | None = None


def ack_url(notification: Notification) -> str:
    """The absolute link of a message; "" when there is nothing to acknowledge. Makes its row at the first call."""
    alert = notification.alert
    if alert is None or notification.kind not in _KINDS or alert.resolved_at or alert.acknowledged_at:
        return ""
    token = token_of(notification.id)
    values = {"alert": alert, "digest": _digest(token), "expires_at": timezone.now() + LIFETIME}
    AckLink.objects.get_or_create(notification=notification, defaults=values)
    return absolute(reverse("ack", args=[token]))


def absolute(path: str) -> str:
    """A page of this site as others reach it."""
    return f"{settings.PUBLIC_URL or f'http://{settings.BIND}'}{path}" if path else ""


def token_of(notification_id: uuid.UUID) -> str:
    """The token of a message: its number and a signature, in base64url."""
    return base64.urlsafe_b64encode(notification_id.bytes + _sign(notification_id)).decode().rstrip("=")


def look(token: str, now: datetime | None = None) -> Found:
    """What a token is good for; changes nothing."""
    number = _read(token)
    if number is None:
        return Found(Standing.FORGED)
    rows = AckLink.objects.select_related("alert__service", "notification__channel")
    link = rows.filter(notification=number, digest=_digest(token)).first()
    if link is None:  # it was genuine once: the message is no longer kept
        return Found(Standing.EXPIRED)
    return Found(_standing(link, now or timezone.now()), link.alert, link)


def use(token: str, address: str | None, now: datetime | None = None) -> Found:
    """Acknowledge by a link; whoever comes second finds out who was first."""
    moment = now or timezone.now()
    with transaction.atomic():
        found = look(token, moment)
        if found.standing is not Standing.READY or found.link is None or found.alert is None:
            return found
        rows = AckLink.objects.filter(id=found.link.id, used_at=None)
        if not rows.update(used_at=moment, used_from=address):
            return look(token, moment)
        told = found.link.notification
        by = f"{told.recipient or told.channel.slug} (by link)"
        done = acknowledging.acknowledge(found.alert.id, Actor(None, by, address), how="by the link in the message")
    standing = Standing.DONE if done.mine else Standing.OVER if done.over else Standing.TAKEN
    return Found(standing, done.alert, found.link)


def _standing(link: AckLink, now: datetime) -> Standing:
    if link.used_at is not None:
        return Standing.USED
    if link.alert.resolved_at is not None:
        return Standing.OVER
    if link.expires_at <= now:
        return Standing.EXPIRED
    return Standing.TAKEN if link.alert.acknowledged_at is not None else Standing.READY


def _read(token: str) -> uuid.UUID | None:
    if not token.isascii() or len(token) != 43:
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=")
    except ValueError:
        return None
    if len(raw) != 16 + _SIGNED:  # what is no base64 is left out of it
        return None
    number = uuid.UUID(bytes=raw[:16])
    return number if constant_time_compare(token, token_of(number)) else None


def _sign(number: uuid.UUID) -> bytes:
    return salted_hmac(_SALT, number.bytes, algorithm="sha256").digest()[:_SIGNED]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
