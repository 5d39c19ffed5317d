"""What of a replay may go, and why the rest may not. Changes nothing."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import QuerySet

from providers.hooks import Found
from webhooks import catalog, reverify, routing
from webhooks.configmodels import Destination
from webhooks.eventmodels import Delivery, Event
from webhooks.sealing import Content
from webhooks.vocabulary import UNFINISHED, DeliveryStatus, Priority

DELIVERED = "delivered"
UNDER_WAY = "under way"
ARCHIVED = "archived"
TWICE = "chosen twice"
NOWHERE = "no destination"
REASONS = {
    DELIVERED: "delivered already",
    UNDER_WAY: "still under way",
    ARCHIVED: "its destination is archived",
    TWICE: "chosen twice: one event goes to a destination once",
    NOWHERE: "delivered nowhere, and no destination named",
    reverify.ERASED: "its payload is erased, or older than payloads are kept",
    reverify.TAMPERED: "what is stored is not what was signed",
    reverify.UNREADABLE: "no encryption key opens it",
}
"""Why something is skipped, for people."""

Pair = tuple[uuid.UUID, int]


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay. ``force``: also what was delivered. ``destination``: instead of theirs.

    ``replay_id``: the job's, once there is one.
    """

    max_retries: int = 3
    force: bool = False
    destination: Destination | None = None
    replay_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One event that is to go to one destination; ``target_id`` 0: nowhere yet."""

    event_id: uuid.UUID
    delivery_id: int | None
    """The delivery that is repeated; None: the event never went anywhere."""
    target_id: int
    target_archived: datetime | None
    source_id: int
    type: str
    route_id: int | None
    priority: int
    order_key: str
    order_by: str
    """How the destination puts deliveries in order, where it is another one than before; else empty."""
    elsewhere: bool
    """Whether it is another destination than before."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A candidate that goes, or is skipped for a reason."""

    candidate: Candidate
    skip: str = ""
    order_key: str = ""


def of_events(ids: Sequence[uuid.UUID], destination: Destination | None) -> list[Candidate]:
    """Each event's last delivery at each destination; one candidate each when they shall go to ``destination``."""
    last = Delivery.objects.filter(event_id__in=ids).order_by("event_id", "destination_id", "-id")
    found = of_deliveries(last.distinct("event_id", "destination_id"), destination)
    if destination is not None:
        # One that went there before is repeated rather than one that went elsewhere; then the newest.
        best: dict[uuid.UUID, Candidate] = {}
        for one in sorted(found, key=lambda one: (one.elsewhere, -(one.delivery_id or 0))):
            best.setdefault(one.event_id, one)
        found = list(best.values())
    missing = set(ids) - {one.event_id for one in found}
    rows = Event.objects.filter(id__in=missing).order_by("id").values_list("id", "source_id", "type")
    return found + [_nowhere_yet(*row, destination) for row in rows]


def _nowhere_yet(event_id: uuid.UUID, source_id: int, type_: str, target: Destination | None) -> Candidate:
    return Candidate(
        event_id=event_id,
        delivery_id=None,
        target_id=target.id if target else 0,
        target_archived=target.archived_at if target else None,
        source_id=source_id,
        type=type_,
        route_id=None,
        priority=Priority.NORMAL,
        order_key="",
        order_by=target.order_by if target else "",
        elsewhere=True,
    )


def of_deliveries(found: QuerySet[Delivery], destination: Destination | None) -> list[Candidate]:
    """Candidates of deliveries, in their order."""
    return [_candidate(row, destination or row.destination) for row in found.select_related("destination")]


def _candidate(row: Delivery, target: Destination) -> Candidate:
    same = target.id == row.destination_id
    return Candidate(
        event_id=row.event_id,
        delivery_id=row.id,
        target_id=target.id,
        target_archived=target.archived_at,
        source_id=row.source_id,
        type=row.type,
        route_id=row.route_id if same else None,
        priority=row.priority,
        order_key=row.order_key if same else "",
        order_by="" if same else target.order_by,
        elsewhere=not same,
    )


def lock(candidates: Iterable[Candidate]) -> None:
    """Let nobody else replay, or erase, these events until the transaction ends."""
    ids = sorted({one.event_id for one in candidates})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM webhooks_event WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
            [ids],
        )


def plan(
    candidates: Sequence[Candidate],
    options: Options,
    *,
    most: int | None = None,
    chosen: set[Pair] | None = None,
    verify: bool = True,
) -> list[Planned]:
    """Judge candidates in their order, until ``most`` go.

    ``chosen``: what goes already, added to. ``verify=False`` spares opening payloads.
    """
    chosen = set() if chosen is None else chosen
    statuses = _statuses(candidates, options)
    events = _events(candidates, verify=verify)
    known = catalog.refresh() if verify else None
    planned: list[Planned] = []
    for one in candidates:
        if most is not None and len(chosen) >= most:
            break
        pair = one.event_id, one.target_id
        skip = TWICE if pair in chosen else _refusal(one, statuses[pair], options)
        event = events.get(one.event_id)
        order_key = one.order_key
        if not skip and (event is None or event.sealed is None):
            skip = reverify.ERASED
        if not skip and event is not None and known is not None:
            verdict = reverify.verdict(event, known)
            if isinstance(verdict, reverify.Skip):
                skip = verdict.reason
            elif one.order_by:
                order_key = _order_key(one.order_by, event, verdict.content)
        if not skip:
            chosen.add(pair)
        planned.append(Planned(one, skip, order_key))
    return planned


def _refusal(one: Candidate, statuses: set[str], options: Options) -> str:
    """Why not, by what is known without the payload; empty: nothing speaks against it."""
    if not one.target_id:
        return NOWHERE
    if one.target_archived is not None:
        return ARCHIVED
    if TWICE in statuses:
        return TWICE
    if DeliveryStatus.DELIVERED in statuses and not options.force:
        return DELIVERED
    # By force neither: it arrives by itself, and would arrive twice.
    return UNDER_WAY if statuses.intersection(UNFINISHED) else ""


def _statuses(candidates: Sequence[Candidate], options: Options) -> dict[Pair, set[str]]:
    """Of each event at its target: the statuses its deliveries have there, and whether this replay made one."""
    found: dict[Pair, set[str]] = defaultdict(set)
    rows = Delivery.objects.filter(
        event_id__in={one.event_id for one in candidates}, destination_id__in={one.target_id for one in candidates}
    )
    for event_id, target, status, replay_id in rows.values_list(
        "event_id", "destination_id", "status", "replay_id"
    ).order_by():
        found[event_id, target].add(status)
        if replay_id is not None and replay_id == options.replay_id:
            found[event_id, target].add(TWICE)
    return found


def _events(candidates: Sequence[Candidate], *, verify: bool) -> dict[uuid.UUID, Event]:
    found = Event.objects.filter(id__in={one.event_id for one in candidates})
    if verify:
        return found.in_bulk()
    sealed = found.filter(sealed__isnull=False).values_list("id", flat=True)
    return {event_id: Event(id=event_id, sealed=b"sealed") for event_id in sealed}


def _order_key(order_by: str, event: Event, content: Content) -> str:
    kind = next((value for name, value in content.headers if name.lower() == "content-type"), "")
    found = Found(event.key, event.type, event.occurred_at, event.subject)
    return routing.order_key(order_by, found, routing.Payload(content.body, kind))
