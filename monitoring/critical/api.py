"""The API of critical days, at ``/api/admin/critical-days``, and of the deploy freeze, at ``/api/admin/freeze``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router
from ninja.params.functions import Query

from monitoring.actions import Refused
from monitoring.critical import actions, freeze, inforce
from monitoring.critical.api_schemas import (
    EmergencyRequest,
    FreezeAnswer,
    OverrideRequest,
    PassAnswer,
    PassRequest,
    StateAnswer,
)
from monitoring.models import Emergency, Service
from wsmon.audit import Actor
from wsmon.callers import access
from wsmon.etags import known, tag_of
from wsmon.problems import Problem, ProblemDocument

freeze_router = Router(tags=["critical days"])
router = Router(tags=["critical days"])

READ = access("monitoring:read", "monitoring.view_service")
OPERATE = access("monitoring:admin", "monitoring.operate")


@freeze_router.get(
    "",
    response={200: FreezeAnswer, 423: ProblemDocument},
    auth=READ,
    summary="May I deploy now?",
)
def may_deploy(
    request: HttpRequest,
    response: HttpResponse,
    pipeline: Annotated[
        str, Query(description="who asks, for the people who look at it", examples=["shop/main"], max_length=200)
    ] = "",
) -> Any:
    """200, or 423 with `reason`, `until` and `Retry-After` while deployments are frozen.

    The question is counted, and a person's permission to deploy once all the same is used up by the next one.
    A request with `If-None-Match` only looks: it counts nothing and uses up nothing; 304 while the answer is the
    same. Both answers have `read_only` for applications.
    """
    only_looks = "If-None-Match" in request.headers
    answer = freeze.look() if only_looks else freeze.ask(Actor.of(request), pipeline)
    if known(request, answer.tag):
        return HttpResponse(status=304, headers={"ETag": answer.tag})
    if not answer.allowed:
        until = f" until {answer.until:%F %R} UTC" if answer.until else ""
        raise Problem(
            423,
            f"deployments are frozen{until}: {answer.reason}",
            headers={"Retry-After": str(answer.retry_after(timezone.now())), "ETag": answer.tag},
            frozen=True,
            reason=answer.reason,
            until=answer.until and answer.until.isoformat(),
            read_only=answer.read_only,
        )
    response["ETag"] = answer.tag
    return {
        "frozen": bool(answer.passed),
        "read_only": answer.read_only,
        "reason": answer.reason or None,
        "until": answer.until,
        "passed": answer.passed or None,
        "next_freeze_at": answer.next_freeze_at,
    }


@freeze_router.post(
    "/pass", response={201: PassAnswer, 409: ProblemDocument}, auth=OPERATE, summary="Allow one deploy"
)
def allow_one(request: HttpRequest, body: PassRequest) -> tuple[int, dict[str, Any]]:
    """The next pipeline that asks within the hour gets a 200 although deployments are frozen."""
    try:
        made = actions.allow_deploy(body.reason, Actor.of(request))
    except Refused as why:
        raise _refused(why, body.reason) from None
    return 201, {"reason": made.reason, "by": made.by, "until": made.expires_at}


@router.get("", response=StateAnswer, auth=READ, summary="What is in force now")
def state(request: HttpRequest, response: HttpResponse) -> Any:
    """Whether a critical day or an emergency is in force, why and until when; always 200.

    ``If-None-Match`` with an earlier ETag: 304 while it still holds.
    """
    told = _told()
    tag = tag_of(told)
    if known(request, tag):
        return HttpResponse(status=304, headers={"ETag": tag})
    response["ETag"] = tag
    return told


@router.post("/override", response=StateAnswer, auth=OPERATE, summary="Switch a critical day on or off")
def override(request: HttpRequest, body: OverrideRequest) -> dict[str, Any]:
    """A person's word is above the calendar until it expires."""
    actor = Actor.of(request)
    if body.on is None:
        actions.end_override(actor, body.reason)
        return _told()
    try:
        actions.override(body.on, _until(body), body.reason, actor)
    except Refused as why:
        raise _refused(why, body.reason, "until") from None
    return _told()


@router.post(
    "/emergency", response={200: StateAnswer, 404: ProblemDocument}, auth=OPERATE, summary="Start or end an emergency"
)
def emergency(request: HttpRequest, body: EmergencyRequest) -> dict[str, Any]:
    """Everything at its strictest, for one service or all; it ends by itself after 2 h at most."""
    actor, service = Actor.of(request), _service(body.service)
    if not body.on:
        for row in Emergency.objects.filter(service=service, ended_at=None):
            actions.end_emergency(row, actor, body.reason)
        return _told()
    try:
        actions.start_emergency(service, body.reason, actor, lasts=timedelta(minutes=body.minutes))
    except Refused as why:
        raise _refused(why, body.reason, "minutes") from None
    return _told()


def _told() -> dict[str, Any]:
    found = inforce.now_in_force()
    word, coming = found.override, found.next
    return {
        "critical_day": found.critical,
        "since": found.since,
        "until": found.until,
        "reasons": [
            {"rule": one["rule"] or None, "name": one["name"], "why": one["why"], "until": one["until"]}
            for one in inforce.told(found)
        ],
        "override": word and _said(word.reason, word.by, word.starts_at, word.ends_at) | {"on": word.on},
        "emergencies": [
            _said(one.reason, one.by, one.starts_at, one.ends_at) | {"service": one.slug or None}
            for one in found.emergencies
        ],
        "frozen": found.frozen,
        "frozen_until": found.frozen_until,
        "read_only": found.read_only,
        "next_at": coming.starts_at if coming else None,
    }


def _said(reason: str, by: str, since: datetime, until: datetime) -> dict[str, Any]:
    return {"reason": reason, "by": by, "since": since, "until": until}


def _until(body: OverrideRequest) -> datetime:
    if (body.until is None) == (body.minutes is None):
        raise Problem.invalid(("until", "say until or minutes, one of them"))
    if body.minutes is not None:
        return timezone.now() + timedelta(minutes=body.minutes)
    assert body.until is not None  # noqa: S101  narrows the type
    return body.until


def _service(slug: str | None) -> Service | None:
    if slug is None:
        return None
    found = Service.objects.filter(slug=slug.replace("\0", ""), archived_at=None).first()
    if found is None:
        raise Problem(404, "there is no service of that name")
    return found


def _refused(why: Refused, reason: str, field: str = "") -> Problem:
    if not reason.strip():
        return Problem.invalid(("reason", str(why)))
    return Problem.invalid((field, str(why))) if field else Problem(409, str(why))
