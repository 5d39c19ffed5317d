"""The breakers' API, at ``/api/admin/circuit-breakers``. Its shapes are in ``breakers.api_schemas``."""

from __future__ import annotations

import math
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router
from ninja.params.functions import Body, Path, Query

from monitoring.api_schemas import Timeframe
from monitoring.breakers import actions, external, machine, reads, store
from monitoring.breakers.api_schemas import (
    BreakerState,
    ForceRequest,
    MetricsAnswer,
    OutcomeItem,
    OutcomesAnswer,
    OutcomesRequest,
    ResetRequest,
    StatusAnswer,
    TrialAnswer,
    TrialRequest,
)
from monitoring.breakers.external import Reported
from monitoring.breakers.machine import Mode
from monitoring.breakers.reads import BreakerView
from monitoring.breakers.store import Shared
from monitoring.periods import PERIODS
from wsmon.audit import Actor
from wsmon.callers import access
from wsmon.etags import known, tag_of
from wsmon.problems import Problem, ProblemDocument

router = Router(tags=["circuit breakers"])

READ = access("monitoring:read", "monitoring.view_service")
OPERATE = access("monitoring:admin", "monitoring.operate")
REPORT = access("monitoring:admin", "monitoring.operate", counted_as="reports")
"""Programs report each second: that has a limit of its own."""

Name = Annotated[str, Path(description="the service's name, or a destination's", examples=["stripe"])]
NOBODY = "there is no service of that name"
SEVERAL = {200: BreakerState, 404: ProblemDocument}


@router.get("/status", response=StatusAnswer, auth=READ, summary="Every breaker's state")
def status(
    request: HttpRequest,
    response: HttpResponse,
    service: Annotated[str | None, Query(description="this one only", examples=["stripe"])] = None,
) -> Any:
    """What callers meet, why, and until when. ``If-None-Match`` with an earlier ETag: 304 while it still holds."""
    views = reads.views() if service is None else [_view(service)]
    breakers = [answer(view) for view in views]
    tag = tag_of(breakers)
    if known(request, tag):
        return HttpResponse(status=304, headers={"ETag": tag})
    response["ETag"] = tag
    return {"breakers": breakers, "last_updated": timezone.now()}


@router.get("/metrics", response=MetricsAnswer, auth=READ, summary="Every breaker over a timeframe")
def metrics(
    request: HttpRequest,  # noqa: ARG001 - every operation takes it
    timeframe: Annotated[Timeframe, Query(description="the span that the numbers cover")] = Timeframe.DAY,
) -> dict[str, Any]:
    """Calls, failures, refusals, openings and time not closed."""
    views = reads.views()
    found = reads.metrics(views, PERIODS[timeframe].length)
    rows = [{"service": view.slug, "kind": view.kind} | found[view.id] for view in views]
    return {"timeframe": timeframe, "breakers": rows, "last_updated": timezone.now()}


@router.post("/reset/{service}", response=SEVERAL, auth=OPERATE, summary="Close a breaker and forget its past")
def reset(request: HttpRequest, service: Name, body: Annotated[ResetRequest | None, Body()] = None) -> dict[str, Any]:
    """CLOSED, with an empty window, nothing forced, and the open time back to its first length."""
    actions.reset(_view(service), Actor.of(request), body.reason if body else "")
    return answer(_view(service))


@router.post("/force/{service}", response=SEVERAL, auth=OPERATE, summary="Force a breaker, or end that")
def force(request: HttpRequest, service: Name, body: ForceRequest) -> dict[str, Any]:
    """Hold it OPEN or CLOSED whatever its calls do, for some minutes or until further notice."""
    found, actor = _view(service), Actor.of(request)
    if body.state is None:
        actions.release(found, actor, body.reason)
    elif not body.reason:
        raise Problem.invalid(("reason", "a reason is required"))
    else:
        seconds = body.minutes * 60 if body.minutes else None
        actions.force(found, Mode(body.state), actor, body.reason, seconds)
    return answer(_view(service))


@router.post(
    "/outcomes/{service}",
    response={202: OutcomesAnswer, 404: ProblemDocument},
    auth=REPORT,
    summary="Count calls of the caller's own",
)
def outcomes(request: HttpRequest, service: Name, body: OutcomesRequest) -> tuple[int, dict[str, Any]]:
    """Feed a breaker with the calls your programs made; the answer says what callers meet now."""
    reported = [_reported(item) for item in body.outcomes]
    by = Actor.of(request).name
    found = external.report(_shared(service), reported, rejected=body.rejected, trial=body.trial, by=by)
    after = _shared(service)  # read anew, so that the time is not older than what it tells
    return 202, {
        "accepted": found.accepted,
        "ignored": found.ignored,
        "state": after.state.effective,
        "next_attempt_at": None if after.state.override else machine.due_at(after.state, after.factor),
        "generation": after.state.generation,
        "now": after.now,
    }


@router.post(
    "/trial/{service}",
    response={200: TrialAnswer, 404: ProblemDocument, 409: ProblemDocument},
    auth=REPORT,
    summary="Ask for a trial",
)
def trial(request: HttpRequest, service: Name, body: Annotated[TrialRequest | None, Body()] = None) -> dict[str, Any]:
    """The right to make one call although the breaker is open; report its end with ``outcomes`` and ``trial``.

    409, with ``Retry-After``, when it is not time yet or as many trials as allowed are under way.
    """
    shared = _shared(service)
    if body and body.trial:
        if all(one.token != body.trial for one in shared.state.trials):
            raise Problem(409, "there is no such trial any more")
        store.renew(shared.service_id, body.trial)
        return {"trial": body.trial, "lease_seconds": machine.LEASE}
    token = external.ask_trial(shared, Actor.of(request).name)
    if token is None:
        raise _no_trial(shared)
    return {"trial": token, "lease_seconds": machine.LEASE}


def answer(view: BreakerView) -> dict[str, Any]:
    """One breaker as the API shows it."""
    state, override = view.state, view.state.override
    return {
        "service": view.slug,
        "kind": view.kind,
        "state": view.effective,
        "policy": view.policy.policy,
        "forced": override.mode if override else None,
        "forced_by": override.by if override else None,
        "forced_reason": override.reason if override else None,
        "forced_until": override.until if override else None,
        "failure_rate": view.failure_rate,
        "failure_count": view.fail,
        "success_count": view.ok,
        "opened_at": state.opened_at,
        "next_attempt_at": view.next_attempt_at,
        "calls_rejected": view.rejected,
        "openings": state.openings,
        "cause": state.cause or None,
        "reason": state.reason or None,
        "since": state.since,
        "generation": state.generation,
        "trials": len(state.trials),
    }


def _no_trial(shared: Shared) -> Problem:
    if shared.state.override:
        return Problem(409, f"the breaker is forced {shared.state.override.mode}")
    if shared.state.mode is Mode.CLOSED:
        return Problem(409, "the breaker is closed: no trial is needed")
    wait = max(math.ceil(shared.due_in or 0), 1)
    return Problem(409, f"no trial is to be had now, try again in {wait} s", headers={"Retry-After": str(wait)})


def _reported(item: OutcomeItem) -> Reported:
    seconds = None if item.duration_ms is None else item.duration_ms / 1000
    return Reported(item.ok, seconds, item.status, item.retry_after, item.at, item.count)


def _shared(name: str) -> Shared:
    found = store.read([name.replace("\0", "")]).get(name)
    if found is None:
        raise Problem(404, NOBODY)
    return found


def _view(name: str) -> BreakerView:
    found = reads.view(name.replace("\0", ""))
    if found is None:
        raise Problem(404, NOBODY)
    return found
