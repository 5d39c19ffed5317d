"""What the pages show of routes, deliveries, sources and destinations: few queries, whatever their number."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from monitoring.breakers import reads as breakers
from monitoring.breakers.machine import Mode
from monitoring.breakers.reads import BreakerView
from monitoring.histogram import percentile
from webhooks import circuits
from webhooks.counts import BUCKETS, LEVELS, buckets_after
from webhooks.filters import SENT_AGAIN, Filter
from webhooks.models import Delivery, Destination, DestinationState, Event, EventCount, Route
from webhooks.vocabulary import Priority

PERIODS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
COUNTED = 1_000
"""Lists are counted up to this many: nobody reads further, and a larger number costs more than the page itself."""
WAITING_COUNTED = 5_000
"""The same for what waits for one destination."""
FAILED_COUNTED = 1_000
LISTED = (
    *("type", "status", "replay_id", "tries", "max_tries", "due_at", "http_status", "category", "total_ms"),
    *("event__subject", "event__received_at", "destination__slug", "source__slug"),
)
"""What a list of deliveries shows of each."""
HEAVY = ("event__sealed", "event__request", "event__verification")


# From two small indexes: every page shows the number.
_FAILED = f"""
SELECT count(*) FROM (
    SELECT FROM webhooks_delivery d WHERE status = 'failed' AND NOT {SENT_AGAIN} LIMIT %s
) AS counted
"""  # noqa: S608  of constants only


def failed() -> int:
    """How many deliveries failed and wait for a person: nobody sent the event there again. At most 1,000."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, [FAILED_COUNTED])
        return int(cursor.fetchone()[0])


# Rates --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Rate:
    """How deliveries went in a period, by their tries."""

    tries: int = 0
    tries_failed: int = 0
    delivered: int = 0
    failed: int = 0
    histogram: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def success(self) -> float | None:
        """The share of tries that succeeded, 0..1; None without tries."""
        return (self.tries - self.tries_failed) / self.tries if self.tries else None

    @property
    def finished(self) -> int:
        """Deliveries that ended, well or badly."""
        return self.delivered + self.failed

    @property
    def p95_ms(self) -> float | None:
        """The response time in ms that 95% of the tries did not exceed."""
        return percentile(self.histogram, 0.95)

    @property
    def mark(self) -> str:
        """The status that stands for the share: all but 1% is healthy, all but 10% degraded."""
        share = self.success
        if share is None:
            return "none"
        return "healthy" if share >= 0.99 else "degraded" if share >= 0.9 else "critical"


def _rate(sums: Sequence[Any]) -> Rate:
    tries, tries_failed, delivered, failed = (int(number or 0) for number in sums)
    return Rate(tries, tries_failed, delivered, failed)


Pair = tuple[int, int]
"""The ids of a source and a destination."""

_SUMS = f"""
SELECT source_id, destination_id, sum(tries), sum(tries_failed), sum(delivered), sum(failed)
FROM webhooks_deliverycount WHERE {BUCKETS} GROUP BY 1, 2
"""  # noqa: S608  of constants only
_BINS = f"""
SELECT source_id, destination_id, place - 1, sum(number)
FROM webhooks_deliverycount CROSS JOIN unnest(histogram) WITH ORDINALITY AS h(number, place)
WHERE {BUCKETS} AND number > 0 GROUP BY 1, 2, 3
"""  # noqa: S608  of constants only


def rates(period: str) -> dict[Pair, Rate]:
    """By source and destination, over one of ``PERIODS``. Two queries on the counts, none on deliveries."""
    parameters = buckets_after(timezone.now() - PERIODS[period], LEVELS[period])
    found: dict[Pair, Rate] = {}
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, parameters)
        for source, destination, *numbers in cursor.fetchall():
            found[source, destination] = _rate(numbers)
        cursor.execute(_BINS, parameters)
        for source, destination, place, number in cursor.fetchall():
            found[source, destination].histogram[place] = int(number)
    return found


_ENDED = """
SELECT destination_id, sum(tries), sum(tries_failed), sum(delivered), sum(failed),
    sum(tries) FILTER (WHERE start > %(day)s), sum(tries_failed) FILTER (WHERE start > %(day)s),
    sum(delivered) FILTER (WHERE start > %(day)s), sum(failed) FILTER (WHERE start > %(day)s)
FROM webhooks_deliverycount WHERE level = %(level)s AND start > %(since)s GROUP BY 1
"""


def rates_of_destinations() -> dict[str, dict[int, Rate]]:
    """By period and destination, without response times. Two queries on the counts, none on deliveries."""
    now = timezone.now()
    hour, day, week = (now - PERIODS[name] for name in ("1h", "24h", "7d"))
    found: dict[str, dict[int, Rate]] = {period: {} for period in PERIODS}
    with connection.cursor() as cursor:
        cursor.execute(_ENDED, {"level": EventCount.Level.MINUTE.value, "since": hour, "day": hour})
        for destination, *numbers in cursor.fetchall():
            found["1h"][destination] = _rate(numbers[:4])
        cursor.execute(_ENDED, {"level": EventCount.Level.HOUR.value, "since": week, "day": day})
        for destination, *numbers in cursor.fetchall():
            found["7d"][destination] = _rate(numbers[:4])
            found["24h"][destination] = _rate(numbers[4:])
    return found


def received() -> dict[str, dict[int, tuple[int, int]]]:
    """By period and source: how many events came, and how many repeats of known ones. Two queries."""
    now = timezone.now()
    hour, day, week = (now - PERIODS[name] for name in ("1h", "24h", "7d"))
    rows = EventCount.objects.order_by().values_list("source_id")
    minutes = rows.filter(level=EventCount.Level.MINUTE, start__gt=hour)
    hours = rows.filter(level=EventCount.Level.HOUR, start__gt=week)
    lately = Q(start__gt=day)
    found: dict[str, dict[int, tuple[int, int]]] = {period: {} for period in PERIODS}
    for source, events, repeats in minutes.annotate(Sum("events"), Sum("duplicates")):
        found["1h"][source] = events, repeats
    sums = (Sum("events"), Sum("duplicates"))
    recent = {"events_lately": Sum("events", filter=lately), "repeats_lately": Sum("duplicates", filter=lately)}
    for source, events, repeats, events_lately, repeats_lately in hours.annotate(*sums, **recent):
        found["7d"][source] = events, repeats
        if events_lately is not None:
            found["24h"][source] = events_lately, repeats_lately
    return found


# Destinations and what waits for them ---------------------------------------------------------------


_WAITING = """
SELECT w.source_id, d.id, count(*)
FROM webhooks_destination d CROSS JOIN LATERAL (
    SELECT source_id FROM webhooks_delivery
    WHERE destination_id = d.id AND status IN ('pending', 'retrying') LIMIT %s) w
GROUP BY 1, 2
"""


def waiting() -> dict[Pair, int]:
    """By source and destination: deliveries that wait, at most ``WAITING_COUNTED`` for one destination."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [WAITING_COUNTED])
        return {(source, destination): int(number) for source, destination, number in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Standing:
    """A destination, whether anything goes out to it, and how much waits."""

    destination: Destination
    state: DestinationState
    breaker: BreakerView | None
    waiting: int

    @property
    def hold(self) -> str:
        """Why deliveries to it are held: "disabled", "paused", "breaker"; empty when they are not."""
        if self.state.disabled_at:
            return "disabled"
        if self.state.paused_at:
            return "paused"
        return "breaker" if self.breaker and self.breaker.effective is not Mode.CLOSED else ""

    @property
    def mode(self) -> str:
        """How its breaker stands: "CLOSED" without one."""
        return self.breaker.effective if self.breaker else Mode.CLOSED

    @property
    def since(self) -> datetime | None:
        """Since when."""
        if self.hold == "breaker" and self.breaker:
            override = self.breaker.state.override
            return override.at if override else self.breaker.state.since
        return {"disabled": self.state.disabled_at, "paused": self.state.paused_at}.get(self.hold)

    @property
    def by_itself(self) -> bool:
        """Whether what is held goes out without a person."""
        if self.hold == "breaker" and self.breaker:
            override = self.breaker.state.override
            return override is None or override.until is not None
        return self.hold == "disabled" and not self.state.disabled_by and bool(self.destination.health_url)


def standings(destinations: Iterable[Destination], waits: Mapping[Pair, int]) -> dict[int, Standing]:
    """By id; ``destinations`` come with their state and service selected."""
    rows = list(destinations)
    views = {view.slug: view for view in breakers.views({circuits.name_of(row) for row in rows})} if rows else {}
    numbers: dict[int, int] = defaultdict(int)
    for (_source, destination), number in waits.items():
        numbers[destination] += number
    return {row.id: Standing(row, state_of(row), views.get(circuits.name_of(row)), numbers[row.id]) for row in rows}


def state_of(destination: Destination) -> DestinationState:
    """Its state; an empty one, not saved, where none was made yet."""
    try:
        return destination.state
    except DestinationState.DoesNotExist:
        return DestinationState(destination=destination)


def destinations(slugs: Collection[str] | None = None) -> list[Destination]:
    """Those in use, by name, with their state and service."""
    rows = Destination.objects.filter(archived_at=None).select_related("state", "service").order_by("slug")
    return list(rows if slugs is None else rows.filter(slug__in=slugs))


@dataclass(frozen=True, slots=True)
class RouteView:
    """The routes from a source to a destination in one line."""

    source: str
    standing: Standing
    priorities: list[str]
    rate: Rate
    waiting: int
    events: list[str]
    """The patterns of all its routes; empty: everything."""

    @property
    def is_capped(self) -> bool:
        """Whether more may wait than was counted."""
        return self.standing.waiting >= WAITING_COUNTED


def routes(period: str, standing: Mapping[int, Standing], waits: Mapping[Pair, int]) -> list[RouteView]:
    """Every pair of source and destination that has a route: what is held first, then by name."""
    rows = Route.objects.filter(archived_at=None, source__archived_at=None, destination__in=list(standing))
    by_pair: dict[Pair, list[Route]] = defaultdict(list)
    for row in rows.select_related("source").order_by("source__slug", "priority", "id"):
        by_pair[row.source_id, row.destination_id].append(row)
    found = rates(period)
    views = [
        RouteView(
            source=group[0].source.slug,
            standing=standing[pair[1]],
            priorities=[Priority(number).name.lower() for number in sorted({row.priority for row in group})],
            rate=found.get(pair, Rate()),
            waiting=waits.get(pair, 0),
            events=[] if any(not row.events for row in group) else [text for row in group for text in row.events],
        )
        for pair, group in by_pair.items()
    ]
    return sorted(views, key=lambda view: (not view.standing.hold, view.source, view.standing.destination.slug))


def routed() -> list[Route]:
    """The routes in use, with their source."""
    return list(Route.objects.filter(archived_at=None, source__archived_at=None).select_related("source"))


# Lists --------------------------------------------------------------------------------------------


def page_of_deliveries(wanted: Filter, before: int | None, limit: int) -> list[Delivery]:
    """The newest deliveries that match, older than the one with the id ``before``; one more than ``limit``."""
    rows = wanted.deliveries()
    if before is not None:
        rows = rows.filter(id__lt=before)
    return list(_with_names(rows).order_by("-id")[: limit + 1])


def deliveries_by_id(ids: Collection[int]) -> list[Delivery]:
    """Some deliveries, newest first."""
    return list(_with_names(Delivery.objects.filter(id__in=ids)).order_by("-id"))


def _with_names(rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
    return rows.select_related("event", "destination", "source").only(*LISTED)


def page_of_events(wanted: Filter, before: uuid.UUID | None, limit: int) -> list[Event]:
    """The same of events."""
    rows = wanted.events()
    if before is not None:
        rows = rows.filter(id__lt=before)
    rows = rows.select_related("source").defer("sealed", "request", "verification")
    return list(rows.order_by("-id")[: limit + 1])


def counted(wanted: Filter) -> int:
    """How many match, at most ``COUNTED``."""
    rows: QuerySet[Delivery] | QuerySet[Event]
    rows = wanted.events() if wanted.status == "unrouted" else wanted.deliveries()
    return rows.order_by().values("pk")[:COUNTED].count()


def newer(wanted: Filter, than: int, limit: int = 100) -> int:
    """How many match that are newer than the delivery with this id, at most ``limit``."""
    return wanted.deliveries().filter(id__gt=than).order_by().values("pk")[:limit].count()
