"""What the page of one event shows, read with a fixed number of queries."""

from __future__ import annotations

import json
import shlex
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.http import Http404
from django.urls import reverse

import providers
from providers.base import Provider
from providers.hooks import TOLERANCE
from webhooks import catalog, masking, reads, reverify, sealing
from webhooks.filters import UNROUTED, worst
from webhooks.masking import Masked
from webhooks.models import Attempt, Delivery, Event, Message, Secret
from webhooks.reads import Standing
from webhooks.sealing import Content, Exchanged
from webhooks.views.lists import Row
from webhooks.vocabulary import PUBLISHED, UNFINISHED, DeliveryStatus
from wsmon.ids import earliest
from wsmon.models import AuditEntry
from wsmon.redact import redact
from wsmon.secrets import Unresolvable, is_reference
from wsmon.vocabulary import JSON

PARTS = {"response": "Response", "request": "Request", "curl": "curl"}
MOST_ATTEMPTS = 300
MOST_SIBLINGS = 20
MOST_AUDIT = 50
SAME_COUNTED = 1_000
_APART = timedelta(minutes=1)
"""How far the ids of one batch's events may lie from each other."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One try with what was sent and answered, masked."""

    attempt: Attempt
    part: str
    links: list[tuple[str, str, str]]
    """(part, label, address)."""
    status_line: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    value: JSON = None
    truncated: bool = False
    curl: str = ""
    kept: bool = True
    """Whether what was exchanged is still there."""


@dataclass(slots=True)
class View:
    """A delivery with its tries, the newest first."""

    row: Row
    attempts: list[Attempt]
    shown: Shown | None = None

    @property
    def delivery(self) -> Delivery:
        """The delivery."""
        return self.row.delivery

    @property
    def longest(self) -> float:
        """The longest try's time in ms."""
        return max((attempt.total_ms or 0.0 for attempt in self.attempts), default=0.0)


@dataclass(slots=True)
class Card:
    """A destination: the delivery that counts, and those before it."""

    standing: Standing
    now: View
    earlier: list[View] = field(default_factory=list)
    same: int = 0
    """Other deliveries that fail there with the same answer."""

    @property
    def slug(self) -> str:
        """The destination's name."""
        return self.standing.destination.slug

    @property
    def can_be_replayed(self) -> bool:
        """Whether nothing is under way there."""
        return self.now.delivery.status not in UNFINISHED


@dataclass(frozen=True, slots=True)
class Step:
    """One line of what happened."""

    at: datetime
    icon: str
    what: str
    sub: str = ""


@dataclass(slots=True)
class EventPage:
    """Everything on the page."""

    event: Event
    status: str
    cards: list[Card]
    masked: Masked | None
    proof: str
    """What was checked just now: "signature", "seal", or why it may not be sent again."""
    secret_name: str
    message: Message | None
    siblings: list[Event]
    vendor: str
    """The vendor's name."""
    vendor_url: str
    """Where it shows this event; empty: nowhere."""
    steps: list[Step]
    tolerance: float = TOLERANCE

    @property
    def is_ours(self) -> bool:
        """Whether the team published it."""
        return self.event.source.slug == PUBLISHED

    @property
    def sha256(self) -> str:
        """Of the body, hexadecimal."""
        return bytes(self.event.sha256).hex()

    @property
    def tally(self) -> str:
        """How its deliveries stand: "1 delivered, 1 still failing"."""
        words = {
            "delivered": "delivered", "failed": "failed", "retrying": "still failing", "pending": "waiting",
            "delivering": "under way", "cancelled": "cancelled",
        }  # fmt: skip
        found = [card.now.delivery.status for card in self.cards]
        return ", ".join(f"{found.count(word)} {told}" for word, told in words.items() if word in found)


def read(event_id: uuid.UUID, attempt: int | None = None, part: str = "") -> EventPage:
    """The page; ``attempt`` is the try that is shown, ``part`` what of it. Raises :class:`Http404`."""
    event = Event.objects.select_related("source__service").filter(id=event_id).first()
    if event is None:
        raise Http404("no such event")
    verdict = reverify.verdict(event)
    content = verdict.content if isinstance(verdict, reverify.Ok) else None
    cards = _cards(event, attempt, part if part in PARTS else "response")
    return EventPage(
        event=event,
        status=worst({card.now.delivery.status for card in cards}) if cards else UNROUTED,
        cards=cards,
        masked=masked(content) if content else None,
        proof=verdict.proof if isinstance(verdict, reverify.Ok) else verdict.reason,
        secret_name=_secret_name(event),
        message=_message(event),
        siblings=_siblings(event),
        vendor=provider.label if (provider := _provider(event)) else event.source.provider,
        vendor_url=_vendor_url(event),
        steps=_steps(event, cards),
    )


def masked(content: Content) -> Masked:
    """The payload as everybody may see it."""
    return masking.mask_payload(content.body, content_type_of(content))


def content_type_of(content: Content) -> str:
    """What the sender said that the body is."""
    return next((value for name, value in content.headers if name.lower() == "content-type"), "")


# Deliveries and tries -----------------------------------------------------------------------------


def _cards(event: Event, attempt: int | None, part: str) -> list[Card]:
    rows = list(
        Delivery.objects.filter(event=event)
        .select_related("destination__service", "destination__state", "source", "replay")
        .order_by("-id")
    )
    tries: dict[int, list[Attempt]] = defaultdict(list)
    found = Attempt.objects.filter(delivery__in=[row.id for row in rows]).order_by("-id")[:MOST_ATTEMPTS]
    for one in found:
        tries[one.delivery_id].append(one)
    standing = reads.standings({row.destination_id: row.destination for row in rows}.values(), {})
    cards: dict[int, Card] = {}
    for row in rows:
        row.event = event
        view = View(Row(row, standing[row.destination_id]), tries[row.id])
        view.shown = _shown(view, attempt, part, first=row.destination_id not in cards)
        card = cards.get(row.destination_id)
        if card is None:
            cards[row.destination_id] = Card(standing[row.destination_id], view)
        else:
            card.earlier.append(view)
    order = {status: place for place, status in enumerate(("failed", "retrying", "pending", "delivering"))}
    ordered = sorted(cards.values(), key=lambda card: (order.get(card.now.delivery.status, 9), card.slug))
    for card in ordered[:1]:
        card.same = _same(card.now.delivery)
    return ordered


def _same(delivery: Delivery) -> int:
    if not delivery.fingerprint or delivery.status not in (DeliveryStatus.FAILED, DeliveryStatus.RETRYING):
        return 0
    others = Delivery.objects.filter(
        status__in=(DeliveryStatus.FAILED, DeliveryStatus.RETRYING), destination_id=delivery.destination_id,
        fingerprint=delivery.fingerprint,
    )  # fmt: skip
    return others.exclude(id=delivery.id).order_by().values("id")[:SAME_COUNTED].count()


def _shown(view: View, wanted: int | None, part: str, *, first: bool) -> Shown | None:
    """The try that the URL names; without one, the last of a delivery that did not arrive."""
    chosen = next((one for one in view.attempts if one.id == wanted), None)
    if chosen is None and first and view.attempts and view.delivery.status != DeliveryStatus.DELIVERED:
        chosen, part = view.attempts[0], part if wanted is None else "response"
    return _with_content(chosen, view.delivery, part) if chosen else None


def _with_content(attempt: Attempt, delivery: Delivery, part: str) -> Shown:
    links = [(key, label, attempt_url(delivery, attempt, key)) for key, label in PARTS.items()]
    exchanged = _exchanged(attempt)
    if exchanged is None:
        return Shown(attempt, part, links, text=masking.mask_text(attempt.message), kept=False)
    curl = _curl(delivery, exchanged)
    if part == "request":
        line = f"POST {plain_url(delivery.destination.url)}"
        return Shown(attempt, part, links, line, masking.mask_headers(exchanged.sent), curl=curl)
    if part == "curl":
        return Shown(attempt, part, links, text=curl, curl=curl)
    status = f"HTTP {attempt.http_status}" if attempt.http_status else ""
    text = exchanged.body.decode("utf-8", "replace")
    headers = masking.mask_headers(exchanged.answered)
    message = "" if attempt.http_status else masking.mask_text(attempt.message)
    return Shown(
        attempt, part, links, status, headers, text or message, _parsed(text), exchanged.truncated, curl=curl
    )


def attempt_url(delivery: Delivery, attempt: Attempt, part: str = "response") -> str:
    """The page with this try shown."""
    query = f"?attempt={attempt.id}" + ("" if part == "response" else f"&part={part}")
    return reverse("webhook-event", args=[delivery.event_id]) + query


def _exchanged(attempt: Attempt) -> Exchanged | None:
    try:
        return sealing.unseal_exchange(bytes(attempt.sealed)) if attempt.sealed is not None else None
    except (Unresolvable, ValueError, KeyError):
        return None


def _parsed(text: str) -> JSON:
    """The answer's JSON, None when it is none. It was masked before it was kept."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def plain_url(url: str) -> str:
    """A destination's URL without what is secret in it; a reference as it is."""
    return url if is_reference(url) else redact(url)


def _curl(delivery: Delivery, exchanged: Exchanged) -> str:
    """The request as a command; the body is read from a file, for it may hold personal data."""
    lines = [f"curl -i -X POST {shlex.quote(plain_url(delivery.destination.url))}"]
    for name, value in masking.mask_headers(exchanged.sent):
        if name.lower() not in ("host", "content-length", "connection", "accept-encoding"):
            lines.append(f"  -H {shlex.quote(f'{name}: {value}')}")
    lines.append("  --data-binary @payload.json")
    return " \\\n".join(lines)


# The event ----------------------------------------------------------------------------------------


def _secret_name(event: Event) -> str:
    """Which configured secret it was signed with; empty when that one is gone."""
    wanted = event.verification.get("secret_id")
    if not wanted:
        return ""
    for key in Secret.objects.filter(source_id=event.source_id).order_by("position", "id"):
        values, _problems = catalog.values_of([key])
        if values and catalog.secret_id(values[0]) == wanted:
            return key.reference.partition(":")[2] or "stored in wsmon"
    return ""


def _message(event: Event) -> Message | None:
    if not event.message_status or not event.subject:
        return None
    return Message.objects.filter(source_id=event.source_id, subject=event.subject).first()


def _siblings(event: Event) -> list[Event]:
    """The other events of the request that it came in."""
    if event.batch is None:
        return []
    at = event.received_at
    near = Event.objects.filter(
        source_id=event.source_id, id__gte=earliest((at - _APART).timestamp()),
        id__lt=earliest((at + _APART).timestamp()), batch=event.batch,
    )  # fmt: skip
    return list(near.exclude(id=event.id).defer("sealed", "request").order_by("id")[:MOST_SIBLINGS])


def _provider(event: Event) -> Provider | None:
    try:
        return providers.get(event.source.provider)
    except providers.UnknownProvider:
        return None


def _vendor_url(event: Event) -> str:
    provider = _provider(event)
    scheme = provider.hooks if provider else None
    if scheme is None or not scheme.event_url:
        return ""
    return scheme.event_url.replace("{key}", event.key).replace("{subject}", event.subject)


ENDED: Mapping[str, tuple[str, str]] = {
    "delivered": ("check", "{at} took it"),
    "failed": ("alert-octagon", "failed at {at}"),
    "cancelled": ("x", "cancelled for {at}"),
}
AUDITED: Mapping[str, tuple[str, str]] = {
    "event.reveal": ("eye", "{who} revealed the payload"),
    "replay.start": ("arrow-back-up", "{who} replayed it"),
}


def _steps(event: Event, cards: Sequence[Card]) -> list[Step]:
    """What happened to it, newest first."""
    steps: list[Step] = []
    views = [view for card in cards for view in (card.now, *card.earlier)]
    for view in views:
        row = view.delivery
        if row.finished_at and row.status in ENDED:
            icon, words = ENDED[row.status]
            tries = f"after {row.tries} tries" if row.tries > 1 else ""
            answer = " ".join(str(part) for part in (row.http_status, row.category) if part)
            sub = ", ".join(part for part in (tries, answer if row.status == "failed" else "") if part)
            steps.append(Step(row.finished_at, icon, words.format(at=row.destination.slug), sub))
    targets = [
        f"event:{event.id}",
        *{f"replay:{view.delivery.replay_id}" for view in views if view.delivery.replay_id},
    ]
    rows = AuditEntry.objects.filter(at__gte=event.received_at - _APART, target__in=targets).order_by("-at")
    for entry in rows[:MOST_AUDIT]:
        icon, words = AUDITED.get(entry.action, ("note", f"{{who}}: {entry.action}"))
        steps.append(Step(entry.at, icon, words.format(who=entry.actor_name), entry.reason))
    steps.append(Step(event.received_at, "shield-check", _arrival(event)))
    return sorted(steps, key=lambda step: step.at, reverse=True)


def _arrival(event: Event) -> str:
    if event.source.slug == PUBLISHED:
        return f"published by {event.verification.get('by') or 'a program'}, stored"
    if event.verification.get("scheme") == "fetched":
        return "fetched from the vendor’s own list, stored"
    return "received, verified, stored"


def as_context(page: EventPage) -> dict[str, Any]:
    """For the templates."""
    return {"p": page, "event": page.event}
