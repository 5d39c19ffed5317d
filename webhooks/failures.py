"""What failed, in groups: by error and answer, service, error type, destination, answer, or time.

A failure is a delivery that failed (a dead letter), or whose last try failed and that is tried again. One
that somebody sent again is told apart: it waits for nobody any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Sum
from django.utils import timezone

from monitoring.templatetags.wsmon_ui import span_words
from webhooks.filters import Filter
from webhooks.models import Delivery, Destination, Refusal, Replay, Source
from webhooks.reads import HEAVY
from webhooks.vocabulary import DeliveryStatus, ReplayStatus

SLOTS = 24
"""Parts of the period in which a group's trend is drawn."""
MOST_GROUPS = 100
EXAMPLES = 3
REFUSALS_SHOWN = 50
JOBS_SHOWN = 5
JOBS_FOR = timedelta(hours=24)

BY: Mapping[str, tuple[str, ...]] = {
    "error": ("source_id", "destination_id", "category", "http_status", "fingerprint"),
    "service": ("source_id",),
    "error_type": ("category",),
    "destination": ("destination_id",),
    "response": ("destination_id", "fingerprint"),
    "time": ("hour",),
}
"""Group by -> what the deliveries of a group have in common."""

_GROUPS = """
WITH bad AS MATERIALIZED (
    SELECT d.id, d.source_id, d.destination_id, d.category, d.http_status, d.fingerprint, d.tried_at,
        d.status = 'retrying' AS waits, date_bin('1 hour', d.tried_at, 'epoch') AS hour,
        width_bucket(extract(epoch FROM d.tried_at)::float8, %(since)s, %(now)s, %(slots)s) - 1 AS slot,
        d.status = 'failed' AND EXISTS (
            SELECT FROM webhooks_delivery l
            WHERE l.event_id = d.event_id AND l.destination_id = d.destination_id AND l.id > d.id) AS replayed
    FROM webhooks_delivery d
    WHERE d.status IN ('failed', 'retrying') AND d.tried_at >= to_timestamp(%(since)s)
), told AS (
    SELECT {columns}, slot, count(*) AS n, count(*) FILTER (WHERE waits) AS waiting,
        count(*) FILTER (WHERE replayed) AS replayed, min(tried_at) AS first, max(tried_at) AS last,
        (array_agg(id ORDER BY id DESC))[1:{examples}] AS ids,
        array_agg(DISTINCT source_id) AS sources, array_agg(DISTINCT destination_id) AS destinations
    FROM bad GROUP BY {columns}, slot
), biggest AS (
    SELECT {columns}, row_number() OVER (ORDER BY {order}) AS place
    FROM told GROUP BY {columns} HAVING sum(n) >= %(least)s ORDER BY place LIMIT %(most)s
)
SELECT b.place, t.slot, t.n, t.waiting, t.replayed, t.first, t.last, t.ids, t.sources, t.destinations, {told}
FROM told t JOIN biggest b ON {same} ORDER BY b.place, t.slot
"""


@dataclass(slots=True)
class Group:
    """Failures that have something in common. Times are those of last tries."""

    by: str
    common: dict[str, Any]
    """What they have in common, by column."""
    first_at: datetime
    last_at: datetime
    count: int = 0
    waiting: int = 0
    """Of them, those that are tried again."""
    replayed: int = 0
    """Of them, those that failed and were sent again."""
    trend: list[int] = field(default_factory=lambda: [0] * SLOTS)
    sources: set[int] = field(default_factory=set)
    destinations: set[int] = field(default_factory=set)
    example_ids: list[int] = field(default_factory=list)
    examples: list[Delivery] = field(default_factory=list)
    """The newest, with their event, source and destination."""
    source_names: list[str] = field(default_factory=list)
    destination_names: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Those that wait for a person."""
        return self.count - self.waiting - self.replayed

    @property
    def sample(self) -> Delivery:
        """The newest of them."""
        return self.examples[0]

    def filter(self, since: datetime) -> Filter:
        """What finds the group's failed deliveries that were last tried since then."""
        wanted = Filter(status=DeliveryStatus.FAILED, tried_since=since)
        if "source_id" in self.common:
            wanted = replace(wanted, source=self.source_names[0])
        if "destination_id" in self.common:
            wanted = replace(wanted, destination=self.destination_names[0])
        wanted = replace(
            wanted, category=self.common.get("category") or "", fingerprint=self.common.get("fingerprint") or ""
        )
        if hour := self.common.get("hour"):
            wanted = replace(wanted, tried_since=max(hour, since), tried_until=hour + timedelta(hours=1))
        return wanted


def groups(by: str, length: timedelta, least: int = 1, most: int | None = None) -> list[Group]:
    """The failures whose last try lies within ``length`` up to now, the largest group first; by time the newest.

    ``least``: failures in a group; ``most``: groups, at most ``MOST_GROUPS``.
    Raises ``KeyError`` for a ``by`` that is none of ``BY``. Four queries, whatever there is.
    """
    now = timezone.now()
    columns = BY[by]
    order = "max(hour) DESC" if by == "time" else "sum(n - waiting - replayed) DESC, sum(n) DESC, max(last) DESC"
    sql = _GROUPS.format(
        columns=", ".join(columns),
        told=", ".join(f"t.{name}" for name in columns),
        same=" AND ".join(f"t.{name} IS NOT DISTINCT FROM b.{name}" for name in columns),
        order=order,
        examples=EXAMPLES,
    )
    parameters = {
        "since": (now - length).timestamp(),
        "now": now.timestamp(),
        "slots": SLOTS,
        "least": least,
        "most": min(most or MOST_GROUPS, MOST_GROUPS),
    }
    found: dict[int, Group] = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        for place, *row in cursor.fetchall():
            _add(found, place, by, columns, row)
    return _named(list(found.values()))


def _add(found: dict[int, Group], place: int, by: str, columns: Sequence[str], row: Sequence[Any]) -> None:
    slot, number, waiting, replayed, first, last, ids, sources, destinations, *common = row
    group = found.get(place)
    if group is None:
        group = found[place] = Group(by, dict(zip(columns, common, strict=True)), first, last)
    group.count += number
    group.waiting += waiting
    group.replayed += replayed
    group.first_at, group.last_at = min(group.first_at, first), max(group.last_at, last)
    group.trend[min(max(slot, 0), SLOTS - 1)] += number
    group.sources.update(sources)
    group.destinations.update(destinations)
    group.example_ids = sorted({*group.example_ids, *ids}, reverse=True)[:EXAMPLES]


def _named(found: list[Group]) -> list[Group]:
    wanted = {number for group in found for number in group.example_ids}
    rows = Delivery.objects.select_related("event", "source", "destination").defer(*HEAVY).in_bulk(wanted)
    sources = dict(Source.objects.values_list("id", "slug"))
    destinations = dict(Destination.objects.values_list("id", "slug"))
    for group in found:
        group.examples = [rows[number] for number in group.example_ids if number in rows]
        group.source_names = sorted(sources[n] for n in group.sources if n in sources)
        group.destination_names = sorted(destinations[n] for n in group.destinations if n in destinations)
    return [group for group in found if group.examples]


# Replays under way ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """A replay of many, and how far it is."""

    replay: Replay
    by_status: Mapping[str, int]
    """How many of its deliveries have which status."""

    @property
    def done(self) -> int:
        """How many of the selected ones it has gone through."""
        return min(self.replay.made + self.replay.skipped, self.replay.total)

    @property
    def left(self) -> int:
        """How many it has not."""
        return self.replay.total - self.done

    @property
    def seconds_left(self) -> float | None:
        """At its pace; None when it does not run."""
        if self.replay.status != ReplayStatus.RUNNING or not self.replay.per_second:
            return None
        return self.left / self.replay.per_second

    @property
    def words_left(self) -> str:
        """The same for people: "15 s", "1 h 10 min"."""
        return "" if self.seconds_left is None else span_words(self.seconds_left)


def jobs() -> list[Job]:
    """Replays of many that run or are paused, and the newest that ended within a day."""
    many = Replay.objects.filter(total__gt=1).select_related("destination")
    open_ = list(many.filter(status__in=(ReplayStatus.RUNNING, ReplayStatus.PAUSED)).order_by("-created_at")[:20])
    since = timezone.now() - JOBS_FOR
    ended = many.filter(finished_at__gte=since).order_by("-finished_at")[:JOBS_SHOWN]
    found = [*open_, *ended]
    counts: dict[object, dict[str, int]] = defaultdict(dict)
    rows = Delivery.objects.filter(replay__in=[replay.id for replay in found]).order_by()
    for replay_id, status, number in rows.values_list("replay_id", "status").annotate(Count("id")):
        counts[replay_id][status] = number
    return [Job(replay, counts[replay.id]) for replay in found]


# Refused requests -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """Requests to one source from one address that were refused for one reason."""

    source: str
    code: str
    address: str | None
    count: int
    last_at: datetime


def refused(length: timedelta = timedelta(hours=24)) -> list[Refused]:
    """The requests that were refused lately, most often first."""
    since = timezone.now() - length
    rows = Refusal.objects.filter(at__gte=since.astimezone(UTC)).order_by().values("source", "code", "address")
    summed = rows.annotate(total=Sum("count"), last=Max("last_at")).order_by("-total", "-last")[:REFUSALS_SHOWN]
    return [Refused(row["source"], row["code"], row["address"], row["total"], row["last"]) for row in summed]
