"""What failed, in groups: by error and answer, service, error type, destination, answer, or time.

A failure is a delivery that failed (a dead letter), or whose last try failed and that is tried again. One
that somebody sent again is told apart: it waits for nobody any more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Max, Sum
from django.utils import timezone

from monitoring.templatetags.wsmon_ui import span_words
from webhooks.filters import SENT_AGAIN, Filter
from webhooks.models import Delivery, Refusal, Replay
from webhooks.vocabulary import DeliveryStatus, Lane, ReplayStatus

SLOTS = 24
"""Parts of the period in which a group's trend is drawn."""
MOST_GROUPS = 100
COUNTED = 5_000
"""Failures that are put into groups, the newest ones: more takes longer than anybody wants to wait."""
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

# What is summed comes from one index alone, newest first, and of at most so many failures. `told` sums the
# parts of which every group consists; their slots are letters, "A" the oldest, since nothing else adds up as
# fast. Nothing is joined: how many rows there will be is past the planner.
# date_part() is float8, as width_bucket() takes it: extract() is numeric, and takes as long as all the rest.
# Whether a failure was sent again is looked up for each: not, where few were and its event is none of theirs.
_GROUPS = """
WITH again AS MATERIALIZED (
    SELECT event_id FROM webhooks_delivery WHERE lane = {replay} LIMIT {few} + 1
), told AS MATERIALIZED (
    SELECT {parts}, count(*) AS n, count(*) FILTER (WHERE status = 'retrying') AS waiting,
        count(*) FILTER (WHERE status = 'failed' AND ((SELECT count(*) FROM again) > {few}
            OR event_id IN (SELECT event_id FROM again)) AND {sent_again}) AS replayed,
        min(tried_at) AS first, max(tried_at) AS last, (array_agg(id))[1:{examples}] AS ids,
        string_agg(chr(64 + width_bucket(date_part('epoch', tried_at), %(since)s, %(now)s, %(slots)s)), '') AS slots
    FROM (
        SELECT d.id, d.status, d.event_id, d.source_id, d.destination_id, d.category, d.http_status, d.fingerprint,
            d.tried_at, {hour} AS hour
        FROM webhooks_delivery d
        WHERE d.status IN ('failed', 'retrying') AND d.tried_at >= to_timestamp(%(since)s)
        ORDER BY d.tried_at DESC LIMIT %(rows)s
    ) d GROUP BY {parts}
)
SELECT (SELECT sum(n)::int FROM told), {columns}, sum(n)::int, sum(waiting)::int, sum(replayed)::int, min(first),
    max(last), array_agg(source_id), array_agg(destination_id), string_agg(slots, ''), {ids}
FROM told GROUP BY {columns} HAVING sum(n) >= %(least)s ORDER BY {order} LIMIT %(most)s
"""
FEW_REPLAYS = 1_000
"""Up to so many deliveries that were made by replays are looked at first, all of them."""

_EXAMPLES = """
SELECT d.id, d.event_id, d.type, e.subject, d.source_id, d.destination_id, d.category, d.http_status, d.message,
    d.tried_at
FROM webhooks_delivery d JOIN webhooks_event e ON e.id = d.event_id WHERE d.id = ANY(%s)
"""
_NAMES = """
SELECT true, id, slug FROM webhooks_source UNION ALL SELECT false, id, slug FROM webhooks_destination
"""


@dataclass(frozen=True, slots=True)
class Example:
    """One delivery of a group, and what its last try found."""

    id: int
    event_id: UUID
    type: str
    subject: str
    source: str
    """Its name, as is the destination's."""
    destination: str
    destination_id: int
    category: str
    http_status: int | None
    message: str
    tried_at: datetime


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
    examples: list[Example] = field(default_factory=list)
    """The newest."""
    source_names: list[str] = field(default_factory=list)
    destination_names: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Those that wait for a person."""
        return self.count - self.waiting - self.replayed

    @property
    def sample(self) -> Example:
        """The newest of them."""
        return self.examples[0]

    def filter(self, since: datetime) -> Filter:
        """What finds the group's failed deliveries that were last tried since then."""
        common, hour = self.common, self.common.get("hour")
        return Filter(
            status=DeliveryStatus.FAILED,
            source=self.source_names[0] if "source_id" in common else "",
            destination=self.destination_names[0] if "destination_id" in common else "",
            category=common.get("category") or "",
            fingerprint=common.get("fingerprint") or "",
            tried_since=max(hour, since) if hour else since,
            tried_until=hour + timedelta(hours=1) if hour else None,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The failures of a time, in groups."""

    groups: list[Group]
    is_capped: bool = False
    """Whether there were more than ``COUNTED``: only the newest so many are in the groups, then."""


def look(by: str, length: timedelta, least: int = 1, most: int | None = None) -> Found:
    """The failures whose last try lies within ``length`` up to now, the largest group first; by time the newest.

    ``least``: failures in a group; ``most``: groups, at most ``MOST_GROUPS``.
    Raises ``KeyError`` for a ``by`` that is none of ``BY``. Three queries, whatever there is.
    """
    now = timezone.now()
    columns = BY[by]
    parameters = {
        "since": (now - length).timestamp(),
        "now": now.timestamp(),
        "slots": SLOTS,
        "least": least,
        "most": min(most or MOST_GROUPS, MOST_GROUPS),
        "rows": COUNTED + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(_sql(by, columns), parameters)
        rows = cursor.fetchall()
    found = [_group(by, columns, row[1:]) for row in rows]
    return Found(_named(found), bool(rows) and rows[0][0] > COUNTED)


def _sql(by: str, columns: Sequence[str]) -> str:
    """The query for one way of grouping; nothing of a request stands in it."""
    return _GROUPS.format(
        replay=Lane.REPLAY.value,
        few=FEW_REPLAYS,
        sent_again=SENT_AGAIN,
        columns=", ".join(columns),
        hour="date_bin('1 hour', d.tried_at, 'epoch')" if by == "time" else "NULL",
        parts=", ".join(dict.fromkeys([*columns, "source_id", "destination_id"])),
        ids=", ".join(f"array_agg(ids[{place}])" for place in range(1, EXAMPLES + 1)),
        order="hour DESC" if by == "time" else "sum(n - waiting - replayed) DESC, sum(n) DESC, max(last) DESC",
        examples=EXAMPLES,
    )


def _group(by: str, columns: Sequence[str], row: Sequence[Any]) -> Group:
    common = dict(zip(columns, row, strict=False))
    count, waiting, replayed, first, last, sources, destinations, slots, *ids = row[len(columns) :]
    group = Group(by, common, first, last, count, waiting, replayed)
    for letter, number in Counter(slots).items():
        group.trend[min(max(ord(letter) - ord("A"), 0), SLOTS - 1)] += number
    group.sources.update(sources)
    group.destinations.update(destinations)
    group.example_ids = sorted((one for some in ids for one in some if one is not None), reverse=True)[:EXAMPLES]
    return group


def _named(found: list[Group]) -> list[Group]:
    wanted = sorted({number for group in found for number in group.example_ids})
    names: dict[bool, dict[int, str]] = {True: {}, False: {}}
    with connection.cursor() as cursor:
        cursor.execute(_EXAMPLES, [wanted])
        rows = cursor.fetchall()
        cursor.execute(_NAMES)
        for is_source, number, slug in cursor.fetchall():
            names[is_source][number] = slug
    sources, destinations = names[True], names[False]
    examples = {
        id_: Example(id_, event, type_, subject, sources[source], destinations[destination], destination, *last_try)
        for id_, event, type_, subject, source, destination, *last_try in rows
    }
    for group in found:
        group.examples = [examples[number] for number in group.example_ids if number in examples]
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
