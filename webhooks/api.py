"""The API of this room, at ``/api/admin/webhooks``. Its shapes: ``webhooks.api_schemas``, ``.replay_schemas``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Status
from ninja.params.functions import Body, Header, Path, Query

from monitoring.api_schemas import Timeframe
from webhooks import apireads, idempotency, publishing, replaying, replayreads
from webhooks.api_schemas import (
    EventDetail,
    EventsAnswer,
    EventsQuery,
    FailuresAnswer,
    GroupBy,
    HealthAnswer,
    PublishAnswer,
    PublishRequest,
    RefusalsAnswer,
)
from webhooks.configmodels import Destination
from webhooks.filters import BadFilter, Filter
from webhooks.replay_schemas import (
    BulkReplayRequest,
    ChangeRequest,
    PreviewAnswer,
    ReplayAnswer,
    ReplayRequest,
    ReplaysAnswer,
    Verb,
)
from webhooks.replaying import Preview
from webhooks.replaymodels import Replay
from webhooks.vocabulary import DeliveryStatus, Priority, ReplayStatus
from wsmon.audit import Actor
from wsmon.callers import access, limit
from wsmon.problems import Problem, ProblemDocument

router = Router(tags=["webhooks"])

READ = access("webhooks:read", "webhooks.view_event")
REPLAY = access("webhooks:replay", "webhooks.replay")
PUBLISH = access("events:publish", "webhooks.replay", counted_as="reports")
"""Programs publish all the time: that has the limit of reports."""

NOTHING = "there is no event or delivery of that id"
KEY = "Idempotency-Key"
IdempotencyHeader = Annotated[
    str | None,
    Header(alias=KEY, description="the same key gets the same answer, and does nothing again, for 24 hours"),
]
Cursor = Annotated[str, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200, description="entries of a page")]
Which = Annotated[str, Path(description="an event's id, or a delivery's", examples=["4711"])]
Answered = Callable[..., Any]


def _told(operation: Answered) -> Answered:
    """Turn what the room refuses into problems."""

    @wraps(operation)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return operation(*args, **kwargs)
        except (BadFilter, publishing.Unpublishable) as wrong:
            raise Problem.invalid((wrong.field, wrong.message)) from None
        except apireads.BadCursor:
            raise Problem.invalid(("cursor", "is none that was given out")) from None
        except idempotency.BadKey as wrong:
            raise Problem.invalid((KEY, str(wrong))) from None
        except idempotency.Conflict:
            raise Problem(409, f"this {KEY} was used for another request") from None
        except replaying.Unknown:
            raise Problem(404, NOTHING) from None
        except replaying.Refused as refused:
            raise Problem(409, str(refused), skipped=refused.skipped) from None

    return told


# Reading -------------------------------------------------------------------------------------------


@router.get("/health", response=HealthAnswer, auth=READ, summary="How deliveries went over a timeframe")
def health(
    request: HttpRequest,  # noqa: ARG001 - every operation takes it
    webhook_type: Annotated[
        str, Query(max_length=60, description="a source or a provider", examples=["stripe"])
    ] = "",
    status: Annotated[
        DeliveryStatus | None, Query(description="only sources that have deliveries of this status")
    ] = None,
    timeframe: Annotated[Timeframe, Query(description="the span that ends now")] = Timeframe.DAY,
) -> dict[str, Any]:
    """Success rates and response times by source.

    A delivery that fails and is tried again counts as not successful until it succeeds, so that an outage
    shows while it lasts. Rates are shares, 0..1.
    """
    return apireads.health(timeframe.value, webhook_type, status.value if status else "")


@router.get("/failures", response=FailuresAnswer, auth=READ, summary="What failed, in groups")
def failures(
    request: HttpRequest,  # noqa: ARG001
    group_by: Annotated[GroupBy, Query(description="what the failures of a group have in common")] = GroupBy.SERVICE,
    min_failure_count: Annotated[int, Query(ge=1, le=1_000_000, description="leave smaller groups out")] = 1,
    timeframe: Annotated[Timeframe, Query(description="the span that ends now")] = Timeframe.DAY,
) -> dict[str, Any]:
    """Deliveries whose last try, within the timeframe, failed."""
    return apireads.failure_groups(group_by.value, timeframe.value, min_failure_count)


@router.get("/refusals", response=RefusalsAnswer, auth=READ, summary="Requests that were refused")
@_told
def refusals(
    request: HttpRequest,  # noqa: ARG001
    cursor: Cursor = "",
    limit: Limit = 50,
) -> dict[str, Any]:
    """What came in and was not believed, newest first."""
    return apireads.refusals(cursor, limit)


@router.get("/events", response=EventsAnswer, auth=READ, summary="Events")
@_told
def events(
    request: HttpRequest,  # noqa: ARG001
    wanted: Annotated[EventsQuery, Query()],
) -> dict[str, Any]:
    """A page of events, newest first. All conditions must hold."""
    given = wanted.model_dump(exclude={"cursor", "limit"})
    return apireads.events(Filter.read(given), wanted.cursor, wanted.limit)


@router.get("/events/{event_id}", response={200: EventDetail, 404: ProblemDocument}, auth=READ, summary="One event")
def event(
    request: HttpRequest,  # noqa: ARG001
    event_id: Annotated[str, Path(description="its id")],
) -> dict[str, Any]:
    """Its payload and headers, masked; why it was believed; its deliveries and their attempts."""
    number = _uuid(event_id)
    found = apireads.event(number) if number else None
    if found is None:
        raise Problem(404, "there is no event of that id")
    return found


# Replaying -----------------------------------------------------------------------------------------

REPLAYED = {
    200: PreviewAnswer,
    202: ReplayAnswer,
    404: ProblemDocument,
    409: ProblemDocument,
}


@router.post("/replay", response=REPLAYED, auth=REPLAY, summary="Send many again")
@_told
def replay_many(request: HttpRequest, body: BulkReplayRequest, key: IdempotencyHeader = None) -> Any:
    """Send the deliveries of ``ids``, or all that a filter finds, again.

    A filter makes a job: it makes ``per_second`` deliveries a second at most, waits while they are under way,
    and can be paused, resumed and cancelled. ``dry_run`` answers 200 with what would go.
    """
    limit(request, "replays", settings.API_REPLAYS_PER_MINUTE)
    selection = _selection(body)
    options = _options(body)
    if body.dry_run:
        if selection is not None:
            return Status(200, _preview(replaying.preview(selection, **options)))
        ids, events_ = _ids(body)
        return Status(200, _preview(replaying.preview_deliveries(ids, events=events_, **options)))
    actor = Actor.of(request)
    more: dict[str, Any] = {"max_retries": body.max_retries, "reason": body.reason}

    def act() -> dict[str, Any]:
        if selection is not None:
            made = replaying.start(selection, actor=actor, per_second=body.per_second, **more, **options)
        else:
            chosen, chosen_events = _ids(body)
            made = replaying.replay_deliveries(chosen, events=chosen_events, actor=actor, **more, **options)
        return {"replay": str(made.id)}

    return _once(actor, key, body.model_dump(mode="json"), act)


@router.get("/replay", response=ReplaysAnswer, auth=READ, summary="Replays")
@_told
def replays(
    request: HttpRequest,  # noqa: ARG001
    status: Annotated[ReplayStatus | None, Query(description="only those that are up to this")] = None,
    cursor: Cursor = "",
    limit: Limit = 50,
) -> dict[str, Any]:
    """A page of replays, jobs and what was sent again at once, newest first."""
    return replayreads.replays(status, cursor, limit)


@router.post("/replay/{target}", response=REPLAYED, auth=REPLAY, summary="Send one event again")
@_told
def replay_one(
    request: HttpRequest,
    target: Which,
    body: Annotated[ReplayRequest | None, Body()] = None,
    key: IdempotencyHeader = None,
) -> Any:
    """Send an event again to where it went, or to another destination; or repeat one delivery.

    409 when it is delivered already (``force_retry`` sends it all the same), when it is still under way, when
    its payload is erased, or when what is stored is not what was signed.
    """
    limit(request, "replays", settings.API_REPLAYS_PER_MINUTE)
    body = body or ReplayRequest()
    number, options = _target(target), _options(body)
    if body.dry_run:
        one = (
            replaying.preview_event(number, **options)
            if isinstance(number, uuid.UUID)
            else replaying.preview_deliveries([number], **options)
        )
        return Status(200, _preview(one))
    actor = Actor.of(request)
    more: dict[str, Any] = {"max_retries": body.max_retries, "reason": body.reason}

    def act() -> dict[str, Any]:
        made = (
            replaying.replay_event(number, actor=actor, **more, **options)
            if isinstance(number, uuid.UUID)
            else replaying.replay_deliveries([number], actor=actor, **more, **options)
        )
        return {"replay": str(made.id)}

    return _once(actor, key, body.model_dump(mode="json") | {"target": str(number)}, act)


@router.get(
    "/replay/{target}", response={200: ReplayAnswer, 404: ProblemDocument}, auth=READ, summary="A replay's progress"
)
def progress(
    request: HttpRequest,  # noqa: ARG001
    target: Annotated[str, Path(description="the replay's id")],
) -> dict[str, Any]:
    """How far it is, and what became of the deliveries that it made."""
    return replayreads.replay(_replay(target))


@router.post(
    "/replay/{target}/{verb}",
    response={200: ReplayAnswer, 404: ProblemDocument, 409: ProblemDocument},
    auth=REPLAY,
    summary="Pause, resume or cancel a replay",
)
@_told
def change(
    request: HttpRequest,
    target: Annotated[str, Path(description="the replay's id")],
    verb: Annotated[Verb, Path(description="what to do with it")],
    body: Annotated[ChangeRequest | None, Body()] = None,
) -> dict[str, Any]:
    """Cancelling also cancels what it made that still waits. 409 when the replay is not in the state for it."""
    row, actor, reason = _replay(target), Actor.of(request), body.reason if body else ""
    {Verb.PAUSE: replaying.pause, Verb.RESUME: replaying.resume, Verb.CANCEL: replaying.cancel}[verb](
        row, actor, reason
    )
    row.refresh_from_db()
    return replayreads.replay(row)


# Publishing ----------------------------------------------------------------------------------------


@router.post(
    "/publish",
    response={202: PublishAnswer, 409: ProblemDocument},
    auth=PUBLISH,
    summary="Publish an event",
)
@_told
def publish(request: HttpRequest, body: PublishRequest, key: IdempotencyHeader = None) -> Any:
    """Store an event of ours and send it by its routes (of the source ``published``).

    The same idempotency key with the same event answers with the first one; with another event, 409.
    """
    if key and body.idempotency_key and key != body.idempotency_key:
        raise Problem.invalid(("idempotency_key", f"differs from the header {KEY}"))
    priority = Priority[body.priority.upper()] if body.priority else None
    found = publishing.publish(
        body.type, body.data, body.idempotency_key or key or "", actor=Actor.of(request), priority=priority
    )
    answer = {"id": found.event_id, "created": found.created, "duplicate": not found.created}
    return Status(202, answer | {"deliveries": found.deliveries})


# Inside --------------------------------------------------------------------------------------------


def _once(actor: Actor, key: str | None, asked: Any, act: Callable[[], dict[str, Any]]) -> Status[dict[str, Any]]:
    answer = idempotency.once(f"replay {actor.name}", idempotency.read(key), asked, act)
    return Status(202, replayreads.replay(_replay(str(answer.value["replay"]))))


def _preview(found: Preview) -> dict[str, Any]:
    return {
        "total": found.total,
        "would_go": found.would_go,
        "skipped": found.skipped,
        "looked_at": found.looked_at,
        "examples": found.examples,
    }


def _options(body: ReplayRequest) -> dict[str, Any]:
    return {"force": body.force_retry, "destination": _destination(body.destination)}


def _destination(slug: str | None) -> Destination | None:
    if not slug:
        return None
    found = Destination.objects.filter(slug=slug.replace("\0", ""), archived_at=None).first()
    if found is None:
        raise Problem.invalid(("destination", "there is no destination of that name"))
    return found


def _selection(body: BulkReplayRequest) -> Filter | None:
    """The filter of a job; None: ids were given."""
    names = ("source", "type", "status", "since", "until", "q", "category", "fingerprint")
    given = {name: getattr(body, name) for name in names} | {"destination": body.from_destination}
    told = any(given.values())
    if body.ids is not None:
        if told:
            raise Problem.invalid(("ids", "give either ids or a filter"))
        return None
    if not told:
        raise Problem.invalid(("since", "give ids, or a filter such as since"))
    return Filter.read(given | {"status": body.status or DeliveryStatus.FAILED})


def _ids(body: BulkReplayRequest) -> tuple[list[int], list[uuid.UUID]]:
    given = body.ids or []
    return (
        [one for one in given if isinstance(one, int) and 0 < one < 2**63],
        [one for one in given if isinstance(one, uuid.UUID)],
    )


def _target(text: str) -> uuid.UUID | int:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    found = _uuid(text)
    if found is None:
        raise Problem(404, NOTHING)
    return found


def _replay(text: str) -> Replay:
    number = _uuid(text)
    found = Replay.objects.select_related("destination").filter(id=number).first() if number else None
    if found is None:
        raise Problem(404, "there is no replay of that id")
    return found


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
