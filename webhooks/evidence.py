"""What webhooks know of whose fault an incident is (``settings.EVIDENCE``): the vendor's flow, and our deliveries."""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta

from django.db.models import Q, Sum
from django.urls import reverse
from django.utils import timezone

from monitoring.incidents.verdict import Evidence, Side
from monitoring.models import Service
from monitoring.templatetags.wsmon_ui import clock_text, span_words
from webhooks import silence
from webhooks.models import Delivery, DeliveryCount, Destination, Event, EventCount, Source, TypeRate
from webhooks.vocabulary import WAITING
from wsmon.ids import earliest

TITLE = "Webhook flow"
FEW = 5.0
"""Events that should have come before their number says anything."""
AS_USUAL, MISSING = 0.5, 0.2
"""The share of what is usual from which on it flows, and up to which it does not."""
LATE, LATER = timedelta(seconds=30), 3.0
"""Events are late from so long on, when that is so many times what is usual."""
BEFORE = timedelta(hours=24)
SAMPLE = 200
WAITING_COUNTED = 5_000


def of_service(service_id: int, since: datetime) -> list[Evidence]:
    """What the service's sources and destinations say since an incident of it began."""
    service = Service.objects.filter(id=service_id).first()
    if service is None:
        return []
    sources = _sources(service)
    flow = _late(sources, since) or _flow(sources, since, timezone.now()) if sources else None
    return [piece for piece in (flow, _deliveries(service_id, since)) if piece is not None]


def _sources(service: Service) -> list[Source]:
    """Those that name it; without any, those of its vendor that name no service."""
    whole = Q(service=service) | Q(service=None, provider=service.provider)
    rows = list(Source.objects.filter(whole, archived_at=None).order_by("slug"))
    return [row for row in rows if row.service_id == service.id] or rows


def _late(sources: list[Source], since: datetime) -> Evidence | None:
    """Whether what comes is older than it used to be: then the vendor has it, and sends it late."""
    ids = [source.id for source in sources]
    now, count = _age(ids, since, None)
    before, _count = _age(ids, since - BEFORE, since)
    if now is None or now < LATE.total_seconds() or now < LATER * (before or 0.0):
        return None
    usually = f", usually {span_words(before)}" if before is not None else ""
    text = f"what happens there arrives {span_words(now)} late{usually}"
    return Evidence("webhooks", Side.THEM, 1.1, TITLE, text, _events(count), _url(sources))


def _age(source_ids: list[int], since: datetime, until: datetime | None) -> tuple[float | None, int]:
    """The median seconds from an event to its arrival, and of how many of the newest."""
    rows = Event.objects.filter(
        source__in=source_ids, id__gte=earliest(since.timestamp()), occurred_at__isnull=False
    ).order_by("-id")
    if until is not None:
        rows = rows.filter(id__lt=earliest(until.timestamp()))
    times = rows.values_list("received_at", "occurred_at")[:SAMPLE]
    ages = [max((received - occurred).total_seconds(), 0.0) for received, occurred in times if occurred]
    return (statistics.median(ages) if ages else None), len(ages)


def _flow(sources: list[Source], since: datetime, now: datetime) -> Evidence | None:
    """Whether as many come as usual: a vendor that sends is not down."""
    whole = TypeRate.objects.filter(source__in=sources, type="").select_related("source")
    known = [(rate, usual) for rate in whole if (usual := silence.usual_of(rate))]
    expected = sum(usual.between(since, now) for _rate, usual in known)
    silent = [rate.silent_since for rate, _usual in known if rate.silent_since]
    if silent and len(silent) == len(known):
        text = f"nothing has come since {clock_text(min(silent))}"
        return Evidence("webhooks", Side.THEM, 0.7, TITLE, text, "though it usually would", _url(sources))
    if expected < FEW:
        return None
    counts = EventCount.objects.filter(
        level=EventCount.Level.MINUTE, source_id__in=[rate.source_id for rate, _usual in known],
        start__gte=since.replace(second=0, microsecond=0),
    )  # fmt: skip
    came = counts.order_by().aggregate(number=Sum("events"))["number"] or 0
    sub = f"{_events(came)} since {clock_text(since)}, about {expected:,.0f} are usual"
    if came >= AS_USUAL * expected:
        return Evidence("webhooks", Side.US, 0.5, TITLE, "their events arrive as usual", sub, _url(sources))
    if came <= MISSING * expected:
        return Evidence("webhooks", Side.THEM, 0.7, TITLE, "hardly any of their events arrive", sub, _url(sources))
    return Evidence(
        "webhooks", Side.UNCLEAR, 0.0, TITLE, "fewer of their events arrive than usual", sub, _url(sources)
    )


def _deliveries(service_id: int, since: datetime) -> Evidence | None:
    """What does not get through to it meanwhile: no word on whose fault it is, but on what it costs."""
    destinations = list(Destination.objects.filter(service=service_id).values_list("id", flat=True))
    if not destinations:
        return None
    rows = DeliveryCount.objects.filter(
        level=EventCount.Level.MINUTE, start__gte=since.replace(second=0, microsecond=0),
        destination_id__in=destinations,
    )  # fmt: skip
    failed = rows.order_by().aggregate(number=Sum("failed"))["number"] or 0
    waiting = Delivery.objects.filter(status__in=WAITING, destination__in=destinations).order_by()
    held = waiting.values("id")[:WAITING_COUNTED].count()
    words = [f"{held:,} wait"] * bool(held) + [f"{failed:,} failed"] * bool(failed)
    if not words:
        return None
    url = reverse("failures" if failed else "webhooks")
    return Evidence("deliveries", Side.UNCLEAR, 0.0, "Our deliveries to it", ", ".join(words), "", url)


def _events(number: int) -> str:
    return f"{number:,} event{'' if number == 1 else 's'}"


def _url(sources: list[Source]) -> str:
    return reverse("webhooks") + (f"?source={sources[0].slug}" if len(sources) == 1 else "")
