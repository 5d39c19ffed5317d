"""Which deliveries, or which events: the one filter of lists, of the API and of replays.

Everything it finds is ordered by id at a million events without a sort: sources and destinations become
numbers, patterns of types the list of those that there are, times the ids of their moment, so that the
planner knows how rare each is.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from monitoring import storable
from webhooks import search
from webhooks.configmodels import Destination, Source
from webhooks.eventmodels import Delivery, Event
from webhooks.vocabulary import DeliveryStatus, Lane
from wsmon.durations import parse_duration
from wsmon.ids import earliest
from wsmon.vocabulary import JSON

Rows = TypeVar("Rows", Delivery, Event)

UNROUTED = "unrouted"
"""The status of an event that no delivery was made of."""
WORST_FIRST = (
    DeliveryStatus.FAILED,
    DeliveryStatus.RETRYING,
    DeliveryStatus.DELIVERING,
    DeliveryStatus.PENDING,
    DeliveryStatus.CANCELLED,
    DeliveryStatus.DELIVERED,
)
"""Of an event's deliveries, the first of these that one has is the status of the event."""
MOST_TYPES = 500
"""A pattern that more types match is asked of each row instead."""
SLACK = timedelta(hours=1)
"""How far an event's id may lie from the moment it was received: clocks, and waiting for the database."""
_LATE = timedelta(minutes=10)
"""How long a transaction that makes deliveries may take at the very most."""
_FEW = 10_000
_LIMITS = {"source": 60, "type": 200, "status": 20, "destination": 60, "since": 40, "until": 40, "q": 300}
_LIMITS |= {"category": 30, "fingerprint": 16, "tried_since": 40, "tried_until": 40}

_TYPES = """
WITH RECURSIVE known AS (
    (SELECT type FROM webhooks_event ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT e.type FROM webhooks_event e WHERE e.type > known.type ORDER BY e.type LIMIT 1)
    FROM known WHERE known.type IS NOT NULL
)
SELECT type FROM known WHERE type LIKE %s LIMIT %s
"""

_HALVING = """
WITH RECURSIVE span(low, high) AS (
    SELECT %(low)s::bigint, %(high)s::bigint
    UNION ALL
    SELECT CASE WHEN d.created_at < %(moment)s THEN d.id + 1 ELSE low END,
        CASE WHEN d.created_at < %(moment)s THEN high ELSE (low + high) / 2 END
    FROM span LEFT JOIN LATERAL (
        SELECT id, created_at FROM webhooks_delivery WHERE id >= (low + high) / 2 ORDER BY id LIMIT 1) d ON true
    WHERE low < high
)
SELECT low FROM span WHERE low >= high
"""


class BadFilter(ValueError):
    """A filter cannot be read. ``field`` is the parameter at fault; ``message`` is for people."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True)
class Filter:
    """What is looked for; everything empty: all of it. Build it by :meth:`read` from a URL."""

    source: str = ""
    type: str = ""
    """A pattern in which ``*`` stands for anything."""
    status: str = ""
    """A DeliveryStatus, or ``unrouted``."""
    destination: str = ""
    since: datetime | None = None
    """When the event came, or the delivery was made, at the earliest."""
    until: datetime | None = None
    """Before this."""
    q: str = ""
    """What ``webhooks.search`` takes: an id, words, ``path=value``."""
    category: str = ""
    """Why the last try failed, an error category."""
    fingerprint: str = ""
    """Of the answer to the last try: equal answers have equal ones."""
    tried_since: datetime | None = None
    """When the last try was made, at the earliest."""
    tried_until: datetime | None = None
    """And before this."""
    spans: tuple[str, str] = ("", "")
    """``since`` and ``until`` as durations ("24h"), where they were told so: a URL keeps them relative."""

    @classmethod
    def read(cls, params: Mapping[str, str]) -> Filter:
        """Read a query; raises :class:`BadFilter`. Times are ISO 8601 (UTC by default) or a duration ago."""
        texts = {name: _text(name, params.get(name, "")) for name in _LIMITS}
        if texts["status"] and texts["status"] not in (*DeliveryStatus, UNROUTED):
            known = ", ".join([*DeliveryStatus, UNROUTED])
            raise BadFilter("status", f"there are {known}")
        now = timezone.now()
        since, since_span = _moment("since", texts.pop("since"), now)
        until, until_span = _moment("until", texts.pop("until"), now)
        if since and until and since >= until:
            raise BadFilter("until", "must be later than since")
        tried_since, tried_until = (_moment(name, texts.pop(name), now)[0] for name in ("tried_since", "tried_until"))
        moments = {"since": since, "until": until, "tried_since": tried_since, "tried_until": tried_until}
        return cls(**texts, **moments, spans=(since_span, until_span))  # type: ignore[arg-type]

    def params(self) -> dict[str, str]:
        """The query that reads as this filter; defaults are left out."""
        names = ("source", "type", "status", "destination", "q", "category", "fingerprint")
        found = {name: getattr(self, name) for name in names}
        for name in ("tried_since", "tried_until"):
            found[name] = _iso(moment) if (moment := getattr(self, name)) else ""
        for name, span in zip(("since", "until"), self.spans, strict=True):
            moment = getattr(self, name)
            found[name] = span or (_iso(moment) if moment else "")
        return {name: value for name, value in found.items() if value}

    def stored(self) -> dict[str, JSON]:
        """The filter as JSON for ``Replay.selection``; durations have become moments."""
        found: dict[str, JSON] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "spans" and value:
                found[field.name] = _iso(value) if isinstance(value, datetime) else value
        return found

    @classmethod
    def of_stored(cls, stored: Mapping[str, JSON]) -> Filter:
        """The reverse; raises :class:`BadFilter` for what :meth:`stored` never made."""
        return cls.read({name: str(value) for name, value in stored.items()})

    def deliveries(self) -> QuerySet[Delivery]:
        """The deliveries that match, in no order."""
        if self.status == UNROUTED:
            return Delivery.objects.none()
        found = _by_type(_by_source(Delivery.objects.all(), self.source), self.type)
        if self.destination:
            found = found.filter(destination_id=_id_of(Destination, self.destination))
        if self.status:
            found = found.filter(status=self.status)
        found = _by_last_try(found, self)
        if self.since:
            found = found.filter(created_at__gte=self.since)
        if self.until:
            found = found.filter(created_at__lt=self.until)
            bound = _first_delivery(self.until + _LATE)
            found = found.filter(id__lt=bound) if bound else found
        return self._searched_deliveries(found)

    def events(self) -> QuerySet[Event]:
        """The events that match, in no order."""
        found = _by_type(_by_source(Event.objects.all(), self.source), self.type)
        if self.destination:
            to = Delivery.objects.filter(event=OuterRef("pk"), destination_id=_id_of(Destination, self.destination))
            found = found.filter(Exists(to))
        if self.since:
            found = found.filter(received_at__gte=self.since, id__gte=_earliest(self.since - SLACK))
        if self.until:
            found = found.filter(received_at__lt=self.until, id__lt=_earliest(self.until + SLACK))
        return self._searched_events(_by_status(found, self.status))

    def _searched_deliveries(self, found: QuerySet[Delivery]) -> QuerySet[Delivery]:
        query = search.understand(self.q)
        if query is None:
            return found
        if query.number is not None:
            return found.filter(id=query.number)
        if query.events:
            return found.filter(event_id__in=query.events)
        for pattern in query.types:
            found = _by_type(found, pattern)
        return found.filter(event_id__in=search.holding(query.tokens)) if query.tokens else found

    def _searched_events(self, found: QuerySet[Event]) -> QuerySet[Event]:
        query = search.understand(self.q)
        if query is None:
            return found
        if query.number is not None:
            return found.filter(id__in=Delivery.objects.filter(id=query.number).values("event_id"))
        if query.events:
            return found.filter(id__in=query.events)
        for pattern in query.types:
            found = _by_type(found, pattern)
        return found.filter(id__in=search.holding(query.tokens)) if query.tokens else found


# The same in SQL, for a delivery `d`. Only replays make a delivery where there is one already, and those have an
# index of their own, small as they are few.
SENT_AGAIN = f"""EXISTS (
    SELECT FROM webhooks_delivery l
    WHERE l.event_id = d.event_id AND l.destination_id = d.destination_id AND l.id > d.id AND l.lane = {Lane.REPLAY:d}
)"""


def current() -> Q:
    """Deliveries that count for their event's status: not ``SENT_AGAIN``."""
    later = Delivery.objects.filter(
        event=OuterRef("event"), destination=OuterRef("destination"), id__gt=OuterRef("id"), lane=Lane.REPLAY
    )
    return ~Q(Exists(later))


def worst(statuses: Mapping[str, int] | set[str]) -> str:
    """The status of an event whose deliveries have these: the worst of them, ``unrouted`` without any."""
    return next((word.value for word in WORST_FIRST if word in statuses), UNROUTED)


def _by_status(found: QuerySet[Event], status: str) -> QuerySet[Event]:
    """Events of that status: a delivery has it, and none that counts has a worse one."""
    mine = Delivery.objects.filter(event=OuterRef("pk"))
    if not status:
        return found
    if status == UNROUTED:
        return found.filter(~Exists(mine), routed=0)  # the latter has an index of its own
    counted = mine.filter(current())
    worse = [word.value for word in WORST_FIRST[: WORST_FIRST.index(DeliveryStatus(status))]]
    found = found.filter(Exists(counted.filter(status=status)))
    return found.filter(~Exists(counted.filter(status__in=worse))) if worse else found


def _by_last_try(found: QuerySet[Delivery], wanted: Filter) -> QuerySet[Delivery]:
    if wanted.category:
        found = found.filter(category=wanted.category)
    if wanted.fingerprint:
        found = found.filter(fingerprint=wanted.fingerprint)
    if wanted.tried_since:
        found = found.filter(tried_at__gte=wanted.tried_since)
    return found.filter(tried_at__lt=wanted.tried_until) if wanted.tried_until else found


def _by_source(found: QuerySet[Rows], slug: str) -> QuerySet[Rows]:
    return found.filter(source_id=_id_of(Source, slug)) if slug else found


def _by_type(found: QuerySet[Rows], pattern: str) -> QuerySet[Rows]:
    if not pattern or not pattern.strip("*"):
        return found
    if "*" not in pattern:
        return found.filter(type=pattern)
    like = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    with connection.cursor() as cursor:
        cursor.execute(_TYPES, [like, MOST_TYPES + 1])
        types = [name for (name,) in cursor.fetchall()]
    if len(types) > MOST_TYPES:
        return found.filter(type__regex="^" + ".*".join(re.escape(part) for part in pattern.split("*")) + "$")
    return found.filter(type__in=types)


def _id_of(model: type[Source] | type[Destination], slug: str) -> int:
    """Its id; -1, which nothing has, where there is none."""
    return model._default_manager.filter(slug=slug).values_list("id", flat=True).first() or -1


def _first_delivery(moment: datetime) -> int | None:
    """An id that no delivery made before ``moment`` reaches; None where that would save nothing.

    Ids grow with time but for transactions that ran side by side, so the moment is looked for by halving.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(id), max(id) + 1 FROM webhooks_delivery")
        low, high = cursor.fetchone()
        if low is None or high - low < _FEW:
            return None
        cursor.execute(_HALVING, {"low": low, "high": high, "moment": moment})
        return int(cursor.fetchone()[0])


def _earliest(moment: datetime) -> uuid.UUID:
    return earliest(max(moment.timestamp(), 0.0))


def _text(name: str, value: object) -> str:
    text = str(value).strip()
    if len(text) > _LIMITS[name]:
        raise BadFilter(name, f"may have {_LIMITS[name]} characters")
    if storable.text(text, _LIMITS[name]) != text:
        raise BadFilter(name, "holds a character that cannot be looked for")
    return text


def _moment(name: str, text: str, now: datetime) -> tuple[datetime | None, str]:
    """A moment, and the duration that was told instead of it."""
    if not text:
        return None, ""
    try:
        return now - timedelta(seconds=parse_duration(text)), text
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadFilter(name, "is neither a time such as 2026-11-21T09:30:00Z nor a duration such as 24h") from None
    return moment, ""


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
