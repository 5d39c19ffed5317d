"""Sending events again on purpose: one, many, or all that a filter finds.

A replay makes new deliveries, in a lane of its own; those of before stay what they were. What is chosen
goes through :func:`plan`, which says of each why it may not go. Many at once are a job: a row that
:func:`run_due` goes through in small steps, each one transaction, so that it can be paused, killed and
taken up again anywhere. It makes no more deliveries than it may by the second, and waits while those it
made before are under way.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Count, Max, QuerySet
from django.utils import timezone

from monitoring import storable
from webhooks import replayplan, store
from webhooks.configmodels import Destination
from webhooks.eventmodels import Delivery
from webhooks.filters import UNROUTED, BadFilter, Filter
from webhooks.replaymodels import Replay
from webhooks.replayplan import NOWHERE, Candidate, Options, Planned
from webhooks.vocabulary import UNFINISHED, WAITING, DeliveryStatus, Lane, ReplayStatus
from wsmon.audit import Actor, record

log = structlog.get_logger(__name__)

MAX_RETRIES = 5
PER_SECOND = 5.0
FASTEST = 100.0
"""Deliveries a second of one job, at most."""
AT_ONCE = 500
"""More ids than these are not taken by :func:`replay_deliveries`."""
LOOK = 200
"""Deliveries that one step of a job looks at, at most."""
BACKLOG_SECONDS = 2.0
"""A job waits while more of its deliveries are under way than it makes in this time."""
STEPS = 20
"""Of one job in a row, before the next has its turn."""
PREVIEWED, VERIFIED = 5_000, 500
"""A preview looks at so many deliveries, and checks the signatures of so many of them."""
EXAMPLES = 10
LATE = timedelta(seconds=0.5)
AFTER_FAULT = timedelta(minutes=1)
_VANISHED = "no longer matches"


class Refused(ValueError):
    """A replay cannot be done; the message says why and may be shown. ``skipped``: reasons with counts."""

    def __init__(self, message: str, skipped: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.skipped = skipped or {}


class Unknown(LookupError):
    """There is no event or delivery of that id."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a replay would do. ``looked_at`` may be less than ``total``: then the rest is not judged."""

    total: int
    would_go: int
    skipped: dict[str, int]
    examples: list[dict[str, str]] = field(default_factory=list)
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is: its row's counts, and what became of the deliveries it made, by status."""

    replay: Replay
    statuses: dict[str, int]

    @property
    def share(self) -> float:
        """0..1 of what was chosen has been gone through."""
        done = self.replay.made + self.replay.skipped
        return min(done / self.replay.total, 1.0) if self.replay.total else 1.0


# What is replayed at once --------------------------------------------------------------------------


def replay_event(
    event_id: uuid.UUID,
    *,
    actor: Actor,
    reason: str = "",
    max_retries: int = 3,
    force: bool = False,
    destination: Destination | None = None,
) -> Replay:
    """Send one event again, to each destination it went to or to another one.

    Raises :class:`Unknown`, and :class:`Refused` when nothing of it may go (delivered already, under way,
    erased, ...).
    """
    options = Options(max_retries, force, destination)
    with transaction.atomic():
        return _now({"event": str(event_id)}, replayplan.of_events([event_id], destination), options, actor, reason)


def replay_deliveries(
    ids: Sequence[int],
    *,
    actor: Actor,
    events: Sequence[uuid.UUID] = (),
    reason: str = "",
    max_retries: int = 3,
    force: bool = False,
    destination: Destination | None = None,
) -> Replay:
    """Send the events of these deliveries, and these events, again; at most ``AT_ONCE`` in all.

    Raises like :func:`replay_event`.
    """
    options = Options(max_retries, force, destination)
    selection: dict[str, object] = {"deliveries": sorted(set(ids))}
    if events:
        selection["events"] = sorted({str(one) for one in events})
    with transaction.atomic():
        return _now(selection, _chosen(ids, events, destination), options, actor, reason)


def preview_event(event_id: uuid.UUID, *, force: bool = False, destination: Destination | None = None) -> Preview:
    """What :func:`replay_event` would do."""
    return _previewed(replayplan.of_events([event_id], destination), Options(3, force, destination))


def preview_deliveries(
    ids: Sequence[int],
    *,
    events: Sequence[uuid.UUID] = (),
    force: bool = False,
    destination: Destination | None = None,
) -> Preview:
    """What :func:`replay_deliveries` would do."""
    return _previewed(_chosen(ids, events, destination), Options(3, force, destination))


def _chosen(ids: Sequence[int], events: Sequence[uuid.UUID], destination: Destination | None) -> list[Candidate]:
    if len(ids) + len(events) > AT_ONCE:
        raise Refused(f"at most {AT_ONCE} at once: replay by a filter instead")
    found = replayplan.of_deliveries(Delivery.objects.filter(id__in=list(ids)).order_by("id"), destination)
    return found + (replayplan.of_events(events, destination) if events else [])


def _previewed(candidates: Sequence[Candidate], options: Options) -> Preview:
    if not candidates:
        raise Unknown
    planned = replayplan.plan(candidates, options)
    return Preview(len(planned), _going(planned), _skips(planned), _examples(planned), len(planned))


def _now(
    selection: dict[str, object], candidates: Sequence[Candidate], options: Options, actor: Actor, reason: str
) -> Replay:
    if not candidates:
        raise Unknown
    replayplan.lock(candidates)
    planned = replayplan.plan(candidates, options)
    skipped = _skips(planned)
    if not _going(planned):
        raise Refused(_why(skipped), skipped)
    replay = Replay.objects.create(
        **_common(options, actor, reason),
        selection=selection,
        total=len(planned),
        made=_going(planned),
        skipped=len(planned) - _going(planned),
        skips=skipped,
        status=ReplayStatus.DONE,
        finished_at=timezone.now(),
    )
    _make(replay, planned)
    record(actor, "replay.start", f"replay:{replay.id}", reason, **_told(replay))
    return replay


# Jobs ----------------------------------------------------------------------------------------------


def start(
    selection: Filter,
    *,
    actor: Actor,
    reason: str = "",
    max_retries: int = 3,
    force: bool = False,
    destination: Destination | None = None,
    per_second: float = PER_SECOND,
) -> Replay:
    """Begin a job over the deliveries that a filter finds now; later ones do not enter it.

    Raises ``filters.BadFilter`` for what only events can be (unrouted), :class:`Refused` when there is none.
    """
    if not 0 < per_second <= FASTEST:
        raise Refused(f"per_second is above 0 and at most {FASTEST:g}")
    options = Options(max_retries, force, destination)
    found = _selected(selection)
    bounds = found.aggregate(total=Count("id"), last=Max("id"))
    if not bounds["total"]:
        raise Refused("no delivery matches")
    with transaction.atomic():
        replay = Replay.objects.create(
            **_common(options, actor, reason),
            selection=selection.stored(),
            per_second=per_second,
            total=bounds["total"],
            last=bounds["last"],
        )
        record(actor, "replay.start", f"replay:{replay.id}", reason, **_told(replay))
        store.announce([])
    return replay


def preview(selection: Filter, *, force: bool = False, destination: Destination | None = None) -> Preview:
    """What :func:`start` would do; changes nothing."""
    found = _selected(selection)
    total = found.count()
    options, after = Options(3, force, destination), 0
    planned: list[Planned] = []
    twice: set[tuple[uuid.UUID, int]] = set()
    while len(planned) < PREVIEWED:
        batch = replayplan.of_deliveries(found.filter(id__gt=after).order_by("id")[:VERIFIED], destination)
        if not batch:
            break
        planned += replayplan.plan(batch, options, chosen=twice, verify=not planned)
        after = batch[-1].delivery_id or after
    return Preview(total, _going(planned), _skips(planned), _examples(planned), len(planned))


def run_due(now: datetime | None = None) -> int:
    """Step each job that is due; returns how many steps were made. Called each second, by any number at once."""
    steps = 0
    for replay_id in _due(now or timezone.now()):
        try:
            for _ in range(STEPS):
                if not step(replay_id, now or timezone.now()):
                    break
                steps += 1
        except Exception:
            # It must not keep the others from going on.
            log.exception("a replay could not go on", replay=str(replay_id))
            Replay.objects.filter(id=replay_id).update(due_at=timezone.now() + AFTER_FAULT)
    return steps


def step(replay_id: uuid.UUID, now: datetime) -> bool:
    """Do the next part of a job in one transaction; False when it is not due, or somebody else is at it."""
    with transaction.atomic():
        free = Replay.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
        replay = free.filter(id=replay_id, status=ReplayStatus.RUNNING, due_at__lte=now).first()
        if replay is None:
            return False
        most = _room(replay)
        if most:
            _advance(replay, most, now)
        else:
            replay.due_at = now + timedelta(seconds=1)
        replay.save(update_fields=["cursor", "made", "skipped", "skips", "status", "due_at", "finished_at", "total"])
    return True


def pause(replay: Replay, actor: Actor, reason: str = "") -> None:
    """Let a job rest; what it made goes on. Raises :class:`Refused` when it does not run."""
    _change(replay, ReplayStatus.RUNNING, ReplayStatus.PAUSED, actor, reason)


def resume(replay: Replay, actor: Actor, reason: str = "") -> None:
    """Let a paused job go on. Raises :class:`Refused` when it is not paused."""
    _change(replay, ReplayStatus.PAUSED, ReplayStatus.RUNNING, actor, reason)


def cancel(replay: Replay, actor: Actor, reason: str = "") -> int:
    """End a job, and cancel what it made that still waits; returns how many.

    What is just being sent is not held back. Raises :class:`Refused` when the job has ended.
    """
    with transaction.atomic():
        _change(replay, None, ReplayStatus.CANCELLED, actor, reason)
        waiting = Delivery.objects.filter(replay_id=replay.id, status__in=WAITING)
        return waiting.update(status=DeliveryStatus.CANCELLED, finished_at=timezone.now())


def progress(replay: Replay) -> Progress:
    """How far it is; one query."""
    counts = Delivery.objects.filter(replay_id=replay.id).order_by().values_list("status").annotate(n=Count("id"))
    return Progress(replay, dict(counts))


# Inside --------------------------------------------------------------------------------------------


def _selected(selection: Filter) -> QuerySet[Delivery]:
    if selection.status == UNROUTED:
        raise BadFilter("status", "events without a delivery are replayed one by one, to a destination")
    return selection.deliveries()


def _due(now: datetime) -> list[uuid.UUID]:
    due = Replay.objects.filter(status=ReplayStatus.RUNNING, due_at__lte=now)
    return list(due.order_by("due_at").values_list("id", flat=True)[:100])


def _room(replay: Replay) -> int:
    """How many deliveries the job may make now."""
    backlog = max(math.ceil(BACKLOG_SECONDS * replay.per_second), 1)
    mine = Delivery.objects.filter(replay_id=replay.id, status__in=UNFINISHED)[: backlog + 1].count()
    return max(min(backlog - mine, math.ceil(replay.per_second)), 0)


def _advance(replay: Replay, most: int, now: datetime) -> None:
    """Make up to ``most`` deliveries and move the cursor past what was looked at."""
    found = Filter.of_stored(replay.selection).deliveries().filter(id__gt=replay.cursor, id__lte=replay.last)
    candidates = replayplan.of_deliveries(found.order_by("id")[:LOOK], replay.destination)
    replayplan.lock(candidates)
    options = Options(replay.max_retries, replay.force, replay.destination, replay.id)
    planned = replayplan.plan(candidates, options, most=most)
    made = _make(replay, planned)
    replay.made += made
    replay.skipped += len(planned) - made
    replay.skips = dict(Counter(replay.skips) + Counter(_skips(planned)))
    replay.cursor = planned[-1].candidate.delivery_id or replay.cursor if planned else replay.last
    # From when it was due, so that a late look costs no pace; more than `LATE` is not caught up.
    replay.due_at = max(replay.due_at, now - LATE) + timedelta(seconds=made / replay.per_second)
    if len(planned) == len(candidates) < LOOK:
        _finish(replay, now)


def _finish(replay: Replay, now: datetime) -> None:
    """All is gone through. What was counted at the start and has changed since is accounted for too."""
    vanished = replay.total - replay.made - replay.skipped
    if vanished > 0:
        replay.skipped += vanished
        replay.skips = replay.skips | {_VANISHED: vanished}
    replay.total = replay.made + replay.skipped
    replay.status, replay.finished_at, replay.cursor = ReplayStatus.DONE, now, replay.last


def _make(replay: Replay, planned: Iterable[Planned]) -> int:
    """The new deliveries; wakes whoever sends them."""
    rows = [
        Delivery(
            event_id=one.candidate.event_id,
            destination_id=one.candidate.target_id,
            source_id=one.candidate.source_id,
            type=one.candidate.type,
            route_id=one.candidate.route_id,
            replay=replay,
            replay_of=one.candidate.delivery_id,
            lane=Lane.REPLAY,
            priority=one.candidate.priority,
            order_key=one.order_key,
            max_tries=replay.max_retries,
        )
        for one in planned
        if not one.skip
    ]
    Delivery.objects.bulk_create(rows)
    if rows:
        store.announce(sorted({row.destination_id for row in rows}))
    return len(rows)


def _change(replay: Replay, old: ReplayStatus | None, new: ReplayStatus, actor: Actor, reason: str) -> None:
    """From ``old`` (None: from whatever has not ended) to ``new``, with its audit row."""
    with transaction.atomic():
        row = Replay.objects.select_for_update(no_key=True, of=("self",)).get(id=replay.id)
        fitting = (old,) if old else (ReplayStatus.RUNNING, ReplayStatus.PAUSED)
        if row.status not in fitting:
            raise Refused(f"the replay is {row.status}")
        row.status = new
        row.due_at = timezone.now()
        row.finished_at = timezone.now() if new is ReplayStatus.CANCELLED else None
        row.save(update_fields=["status", "due_at", "finished_at"])
        verb = {"running": "resume", "paused": "pause", "cancelled": "cancel"}[new.value]
        record(actor, f"replay.{verb}", f"replay:{row.id}", reason, made=row.made, total=row.total)
        store.announce([])
    replay.status, replay.due_at, replay.finished_at = row.status, row.due_at, row.finished_at


def _common(options: Options, actor: Actor, reason: str) -> dict[str, object]:
    if not 1 <= options.max_retries <= MAX_RETRIES:
        raise Refused(f"max_retries is 1 to {MAX_RETRIES}")
    if options.destination is not None and options.destination.archived_at is not None:
        raise Refused("the destination is archived")
    return {
        "created_by": storable.text(actor.name, 200),
        "reason": storable.text(reason.strip(), 500),
        "destination": options.destination,
        "max_retries": options.max_retries,
        "force": options.force,
    }


def _told(replay: Replay) -> dict[str, object]:
    """What the audit row says of it."""
    return {
        "selection": replay.selection,
        "destination": replay.destination.slug if replay.destination else None,
        "total": replay.total,
        "force": replay.force,
        "max_retries": replay.max_retries,
        "per_second": replay.per_second,
    }


def _going(planned: Iterable[Planned]) -> int:
    return sum(not one.skip for one in planned)


def _skips(planned: Iterable[Planned]) -> dict[str, int]:
    return dict(Counter(one.skip for one in planned if one.skip))


def _why(skipped: dict[str, int]) -> str:
    if set(skipped) == {replayplan.DELIVERED}:
        return "already delivered: force_retry sends it again"
    if set(skipped) == {NOWHERE}:
        return "it was delivered nowhere: name a destination"
    return "nothing to send: " + ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))


def _examples(planned: Iterable[Planned]) -> list[dict[str, str]]:
    going = [one.candidate for one in planned if not one.skip][:EXAMPLES]
    slugs = dict(Destination.objects.filter(id__in={one.target_id for one in going}).values_list("id", "slug"))
    return [
        {
            "event": str(one.event_id),
            "delivery": str(one.delivery_id or ""),
            "type": one.type,
            "destination": slugs.get(one.target_id, ""),
        }
        for one in going
    ]
