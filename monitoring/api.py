"""The API of this room, at ``/api/admin/integrations``. Its shapes are in ``monitoring.api_schemas``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router
from ninja.params.functions import Path, Query
from ninja.renderers import JSONRenderer

import providers
from monitoring import api_reads, probing
from monitoring.api_schemas import (
    HealthAnswer,
    StatusAnswer,
    TestAnswer,
    TestRequest,
    TestType,
    Timeframe,
)
from monitoring.models import Check, Service
from providers.base import NotConfigured, ProbeOutcome
from wsmon import audit
from wsmon.callers import access, limit
from wsmon.problems import Problem, ProblemDocument
from wsmon.vocabulary import Outcome

router = Router(tags=["integrations"])

READ = access("monitoring:read", "monitoring.view_service")
OPERATE = access("monitoring:admin", "monitoring.operate")

_JSON = JSONRenderer()
_SLUG = re.compile(r"[-a-zA-Z0-9_]{1,60}")


@router.get(
    "/health", response={200: HealthAnswer, 404: ProblemDocument}, auth=READ, summary="How every service is now"
)
def health(
    request: HttpRequest,
    service: Annotated[str | None, Query(description="list this service only", examples=["stripe"])] = None,
    detailed: Annotated[bool, Query(description="add each service's checks and details")] = False,
    include_history: Annotated[bool, Query(description="add its latest results and changes of status")] = False,
) -> HttpResponse:
    """The status after confirmation, why and since when, and the last response time of every service."""
    only = [_service(service).id] if service is not None else None
    views = api_reads.services(only)
    services = api_reads.detailed(views, checks=detailed, past=include_history)
    return _answer(request, api_reads.totals() | {"services": services})


@router.get("/status", response=StatusAnswer, auth=READ, summary="How every service was over a timeframe")
def status(
    request: HttpRequest,
    timeframe: Annotated[Timeframe, Query(description="the span that the metrics cover")] = Timeframe.DAY,
    include_metrics: Annotated[bool, Query(description="add uptime, percentiles and counts")] = False,
) -> HttpResponse:
    """The present status of every service, with its uptime and latency over the timeframe on demand."""
    views = api_reads.services(None)
    metrics = api_reads.metrics(views, timeframe) if include_metrics else {}
    services = [api_reads.service(view) | {"metrics": metrics.get(view.id)} for view in views]
    return _answer(request, api_reads.totals() | {"timeframe": timeframe, "services": services})


@router.post(
    "/test/{service}",
    response={200: TestAnswer, 404: ProblemDocument, 409: ProblemDocument},
    auth=OPERATE,
    summary="Test a service now",
)
def test(
    request: HttpRequest,
    body: TestRequest,
    service: Annotated[str, Path(description="the service's name", examples=["stripe"])],
) -> dict[str, Any]:
    """Probe at once and answer with the result.

    The result enters the log of the check it belongs to, but neither its status nor its statistics.
    409 names the variables to set when the service is not configured.
    """
    limit(request, "tests", settings.API_TESTS_PER_MINUTE)
    tested = _service(service)
    check, kind = _target(tested, body.test_type)
    audit.record(
        audit.Actor.of(request),
        "service.test",
        f"service:{tested.slug}",
        test_type=body.test_type,
        timeout_ms=body.timeout_ms,
    )
    try:
        result = probing.probe_now(tested, kind, body.timeout_ms / 1000, check)
    except NotConfigured as missing:
        raise _not_configured(tested, missing.variables) from None
    return {
        "service": tested.slug,
        "test_type": body.test_type,
        "check": result.check,
        "checked_at": result.at,
    } | _outcome(result.outcome)


def _answer(request: HttpRequest, found: dict[str, Any]) -> HttpResponse:
    """Answer with what was read, as it is: to make thousands of objects of it first, only to see that they
    fit the documented schema, is most of the time. Tests hold every answer against the schema instead."""
    body = _JSON.render(request, found, response_status=200)
    return HttpResponse(body, content_type=f"{_JSON.media_type}; charset={_JSON.charset}")


def _service(slug: str) -> Service:
    found = Service.objects.filter(slug=slug, archived_at=None).first() if _SLUG.fullmatch(slug) else None
    if found is None:
        raise Problem(404, "there is no service of that name")
    return found


def _target(service: Service, test_type: TestType) -> tuple[Check | None, str]:
    """Which check to run, and as which kind: generic providers know no test types of their own."""
    try:
        provider = providers.get(service.provider)
    except providers.UnknownProvider:
        raise Problem(409, f"the provider {service.provider} is not installed") from None
    if not provider.generic:
        if test_type not in provider.kinds:
            raise Problem.invalid(("test_type", f"{provider.label} offers {', '.join(sorted(provider.kinds))}"))
        return None, test_type.value
    if test_type is not TestType.CONNECTIVITY:
        raise Problem.invalid(("test_type", f"{provider.label} offers connectivity only"))
    check = service.checks.filter(archived_at=None).order_by("id").first()
    if check is None:
        raise Problem(409, f"{service.slug} has no check to run")
    return check, check.kind


def _not_configured(service: Service, variables: tuple[str, ...]) -> Problem:
    return Problem(409, f"{service.slug} is not configured: set {', '.join(variables)}", variables=list(variables))


def _outcome(outcome: ProbeOutcome) -> dict[str, Any]:
    success = outcome.outcome in (Outcome.HEALTHY, Outcome.DEGRADED)
    return {
        "success": success,
        "status": outcome.outcome,
        "message": outcome.message,
        "response_time": outcome.timings.total_ms,
        "error": None if success else outcome.message,
        "error_category": outcome.category,
        "http_status": outcome.http_status,
        "timings": api_reads.phases(outcome.timings),
        "details": dict(outcome.details),
    }
