"""The incidents' API, at ``/api/admin/incidents``. Its shapes are in ``incidents.api_schemas``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router
from ninja.params.functions import Path, Query

from monitoring.actions import Refused
from monitoring.history import BadCursor
from monitoring.incidents import actions, reads, timeline
from monitoring.incidents.actions import Taken
from monitoring.incidents.api_schemas import IncidentDetail, ListAnswer, NoteRequest, ResolveRequest, State, Whose
from monitoring.incidents.timeline import Line
from monitoring.models import Incident
from wsmon.audit import Actor
from wsmon.callers import access
from wsmon.problems import Problem, ProblemDocument

router = Router(tags=["incidents"])

READ = access("monitoring:read", "monitoring.view_service")
OPERATE = access("monitoring:admin", "monitoring.operate")

Id = Annotated[int, Path(description="the incident's number", examples=[212], ge=1, le=2**62)]
ONE = {200: IncidentDetail, 404: ProblemDocument}
ACTED = {200: IncidentDetail, 404: ProblemDocument, 409: ProblemDocument}


@router.get("", response=ListAnswer, auth=READ, summary="Incidents, newest first")
def incidents(
    request: HttpRequest,  # noqa: ARG001 - every operation takes it
    state: Annotated[State, Query(description="which ones")] = State.ALL,
    service: Annotated[str, Query(description="of this service only", max_length=60, examples=["twilio"])] = "",
    verdict: Annotated[Whose | None, Query(description="of this verdict only")] = None,
    since: Annotated[datetime | None, Query(description="opened at this time or later")] = None,
    cursor: Annotated[str | None, Query(description="the `next_cursor` of the page before", max_length=60)] = None,
    limit: Annotated[int, Query(description="so many at most", ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """By service, state and verdict, with how long they took."""
    moment = since.replace(tzinfo=since.tzinfo or timezone.get_default_timezone()) if since else None
    wanted = reads.Filter(state.value, service.replace("\x00", ""), verdict.value if verdict else "", moment)
    try:
        found = reads.page(wanted, cursor, limit)
    except BadCursor as problem:
        raise Problem.invalid(("cursor", str(problem))) from None
    rows = [_item(row) for row in found.rows]
    return {"incidents": rows, "next_cursor": found.next_cursor, "open": reads.open_count()}


@router.get("/{incident_id}", response=ONE, auth=READ, summary="One incident")
def incident(request: HttpRequest, incident_id: Id) -> dict[str, Any]:  # noqa: ARG001
    """With the evidence of its verdict and everything that happened."""
    return _detail(_one(incident_id))


@router.post("/{incident_id}/acknowledge", response=ACTED, auth=OPERATE, summary="Say that one has it")
def acknowledge(request: HttpRequest, incident_id: Id) -> dict[str, Any]:
    """Escalation stops. 409 when somebody else was first, or it is over."""
    _one(incident_id)
    try:
        actions.acknowledge(incident_id, Actor.of(request))
    except Taken as taken:
        raise Problem(409, f"{taken}", acknowledged_by=taken.by, acknowledged_at=taken.at.isoformat()) from None
    except Refused as why:
        raise Problem(409, str(why)) from None
    return _detail(_one(incident_id))


@router.post("/{incident_id}/note", response=ONE, auth=OPERATE, summary="Add a note")
def note(request: HttpRequest, incident_id: Id, body: NoteRequest) -> dict[str, Any]:
    """It enters the timeline; secrets in it are masked."""
    _one(incident_id)
    try:
        actions.note(incident_id, body.text, Actor.of(request))
    except Refused as why:
        raise Problem.invalid(("text", str(why))) from None
    return _detail(_one(incident_id))


@router.post("/{incident_id}/resolve", response=ACTED, auth=OPERATE, summary="Say that it is over")
def resolve(request: HttpRequest, incident_id: Id, body: ResolveRequest) -> dict[str, Any]:
    """Whatever its service's status is: it opens again when that gets worse. 409 when it is over already."""
    found = _one(incident_id)
    if not body.reason.strip():
        raise Problem.invalid(("reason", "a reason is required"))
    try:
        actions.resolve(found.id, body.reason, Actor.of(request))
    except Refused as why:
        raise Problem(409, str(why)) from None
    return _detail(_one(incident_id))


def _one(incident_id: int) -> Incident:
    found = Incident.objects.select_related("service", "assignee").filter(id=incident_id).first()
    if found is None:
        raise Problem(404, "there is no incident of that number")
    return found


def _item(row: Incident) -> dict[str, Any]:
    figures = reads.figures(row)
    return {
        "id": row.id,
        "service": row.service.slug,
        "title": row.title,
        "status": row.status,
        "worst": row.worst,
        "error_category": row.category or None,
        "error": row.reason,
        "began_at": row.began_at,
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
        "closed_by": row.closed_by,
        "acknowledged_at": row.acknowledged_at,
        "acknowledged_by": row.acknowledged_by,
        "assignee": row.assignee.get_username() if row.assignee else None,
        "verdict": row.verdict,
        "confidence": row.confidence,
        "admitted_at": row.admitted_at,
        "critical_day": row.critical_day,
        "duration": figures.lasts,
        "time_to_detect": figures.to_detect,
        "time_to_acknowledge": figures.to_acknowledge,
        "time_to_recover": figures.to_recover,
    }


def _detail(row: Incident) -> dict[str, Any]:
    lines = [_line(line) for line in timeline.of(row).lines]
    return _item(row) | {"evidence": row.evidence, "timeline": lines}


def _line(line: Line) -> dict[str, Any]:
    detail = line.quote or line.sub
    return {"at": line.at, "kind": line.kind, "who": line.who, "text": line.what, "detail": detail, "url": line.url}
