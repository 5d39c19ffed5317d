"""Sources and destinations: what vendors are given, what comes from them, where it goes, and how that goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

import providers
from webhooks import catalog, reads
from webhooks.models import Event, Source, TypeRate
from webhooks.reads import Rate, Standing
from webhooks.views.common import inbound_url, may_read
from webhooks.views.eventpage import plain_url
from webhooks.vocabulary import PUBLISHED
from wsmon.asks import is_live


@dataclass(frozen=True, slots=True)
class SourceView:
    """A source as the page shows it."""

    source: Source
    label: str
    url: str
    hint: str
    problem: str
    """Why it can verify nothing, naming the variable to set; empty: it can."""
    secrets: list[str]
    """The names of its secrets' variables, or "stored in wsmon"."""
    received: Mapping[str, tuple[int, int]]
    """By period: events, and repeats of them."""
    last_at: datetime | None
    quiet: TypeRate | None
    """What has gone silent."""

    @property
    def is_ours(self) -> bool:
        """Whether the team's own events come by it."""
        return self.source.slug == PUBLISHED


@dataclass(frozen=True, slots=True)
class DestinationView:
    """A destination as the page shows it."""

    standing: Standing
    url: str
    rates: Mapping[str, Rate]
    sources: list[str]

    @property
    def slug(self) -> str:
        """Its name."""
        return self.standing.destination.slug


@require_safe
@may_read
def sources(request: HttpRequest) -> HttpResponse:
    """The page; for the live script what changes."""
    rates = reads.rates_of_destinations()
    waits = reads.waiting()
    standing = reads.standings(reads.destinations(), waits)
    names: dict[int, list[str]] = defaultdict(list)
    for route in reads.routed():
        names[route.destination_id].append(route.source.slug)
    context = {
        "sources": source_views(request),
        "capped": reads.WAITING_COUNTED,
        "destinations": [
            DestinationView(
                one,
                plain_url(one.destination.url),
                {period: found.get(number, Rate()) for period, found in rates.items()},
                sorted(set(names[number])),
            )
            for number, one in standing.items()
        ],
    }
    template = "webhooks/sources/_live.html" if is_live(request) else "webhooks/sources.html"
    return render(request, template, context)


def source_views(request: HttpRequest) -> list[SourceView]:
    """Every source, the team's own last."""
    known = catalog.refresh()
    counts = reads.received()
    last = _last_at()
    quiet = _quiet()
    rows = Source.objects.filter(archived_at=None).prefetch_related("secrets").order_by("slug")
    found = []
    for row in sorted(rows, key=lambda source: source.slug == PUBLISHED):
        configured = known.source(row.slug)
        label, hint = _told_by(row.provider)
        found.append(
            SourceView(
                source=row,
                label=label,
                url=inbound_url(request, row),
                hint=hint,
                problem=configured.problem if configured and row.slug != PUBLISHED else "",
                secrets=[key.reference or "stored in wsmon" for key in row.secrets.all()],
                received={period: numbers.get(row.id, (0, 0)) for period, numbers in counts.items()},
                last_at=last.get(row.id),
                quiet=quiet.get(row.id),
            )
        )
    return found


def _told_by(provider: str) -> tuple[str, str]:
    try:
        found = providers.get(provider)
    except providers.UnknownProvider:
        return provider, ""
    return found.label, found.hooks.hint if found.hooks else ""


def _last_at() -> dict[int, datetime]:
    """By source: when the last event came."""
    newest = Event.objects.filter(source_id=OuterRef("id")).order_by("-id").values("received_at")[:1]
    rows = Source.objects.filter(archived_at=None).annotate(at=Subquery(newest)).values_list("id", "at")
    return {number: at for number, at in rows if at is not None}


def _quiet() -> dict[int, TypeRate]:
    """By source: what has gone silent first; all of it together goes before a single type."""
    rows = TypeRate.objects.filter(silent_since__isnull=False).order_by("-type", "-silent_since")
    return {row.source_id: row for row in rows}
