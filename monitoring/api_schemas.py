"""What ``/api/admin/integrations`` takes and answers. Part of the contract: names are never changed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from ninja import Schema
from pydantic import ConfigDict, Field

from wsmon.vocabulary import JSON, Category, Criticality, Outcome, Status

_TIME = "2026-11-21T09:30:00.120Z"


class TestType(StrEnum):
    """What to test about a service."""

    CONNECTIVITY = "connectivity"
    AUTHENTICATION = "authentication"
    FUNCTIONALITY = "functionality"


class Timeframe(StrEnum):
    """A span that ends now."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"


class TestRequest(Schema):
    """What to test, and how long to wait."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"test_type": "connectivity", "timeout_ms": 5000}]},
    )

    test_type: TestType = Field(description="a service of a generic provider (http, tcp, ...) has connectivity only")
    timeout_ms: int = Field(5000, ge=1000, le=30_000, description="budget of the whole test in milliseconds")


class Phases(Schema):
    """How long each phase of an exchange took, in milliseconds; null where a phase did not happen."""

    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = Field(None, description="from the request being sent to the answer's first byte")
    total: float | None = None


class CheckHealth(Schema):
    """One check of a service and its last result."""

    name: str = Field(description="unique in its service")
    kind: str = Field(description="e.g. connectivity, authentication, functionality, http, tcp")
    status: Status = Field(description="after confirmation")
    since: datetime | None = Field(description="since when the status holds")
    outcome: Outcome | None = Field(description="what the last probe found, before confirmation")
    response_time: float | None = Field(description="of the last probe, in milliseconds")
    timings: Phases
    http_status: int | None
    message: str = Field(description="the last probe's finding in one sentence")
    error_category: Category | None
    checked_at: datetime | None
    interval: float = Field(description="seconds between probes")
    missing_variables: list[str] = Field(description="what to set before the check can run")
    details: dict[str, Any]


class Result(Schema):
    """One probe in the past."""

    check: str = Field(description="the check's name")
    at: datetime
    outcome: Outcome
    response_time: float | None = Field(description="milliseconds")
    http_status: int | None
    message: str
    error_category: Category | None
    manual: bool = Field(description="asked for by a person or program, not scheduled")


class Change(Schema):
    """One confirmed change of status."""

    check: str | None = Field(description="the check's name; null for the service's own status")
    at: datetime
    old: Status
    new: Status
    reason: str
    error_category: Category | None


class History(Schema):
    """The latest results and changes of one service, newest first."""

    results: list[Result]
    changes: list[Change]


class Metrics(Schema):
    """A service's numbers over the timeframe, over all of its scheduled probes."""

    uptime: float | None = Field(
        description="share of probes that worked, 0..1; our own faults are left out", examples=[0.9991]
    )
    p50: float | None = Field(description="half of the probes were no slower, in milliseconds")
    p95: float | None
    p99: float | None
    total: int = Field(description="number of probes")
    counts: dict[Outcome, int] = Field(description="number of probes by outcome")


class ServiceHealth(Schema):
    """One service."""

    service: str = Field(description="its name in wsmon.yaml and in URLs")
    label: str = Field(description="its name for people")
    provider: str
    criticality: Criticality
    status: Status
    since: datetime | None = Field(description="since when the status holds")
    response_time: float | None = Field(description="of the last probe, in milliseconds")
    error: str | None = Field(description="why the service is not healthy; null when it is")
    error_category: Category | None
    checked_at: datetime | None = Field(description="when it was last probed")
    maintenance: bool = Field(description="whether a maintenance window is in force")
    missing_variables: list[str] = Field(description="what to set before it can be probed in full")
    details: dict[str, Any] = Field(
        {}, description="by check: what the last probe learned; empty unless `detailed=true`"
    )


class DetailedService(ServiceHealth):
    """One service, with as much as was asked for."""

    checks: list[CheckHealth] | None = Field(None, description="null unless `detailed=true`")
    history: History | None = Field(None, description="null unless `include_history=true`")


class MeasuredService(ServiceHealth):
    """One service, with its numbers if they were asked for."""

    metrics: Metrics | None = Field(None, description="null unless `include_metrics=true`")


class Totals(Schema):
    """The overall state. Services that are paused, unknown or not configured are left out of it."""

    overall_status: Status = Field(
        description="healthy when more than 80% of `total_services` are healthy, degraded when more than 50%, "
        "else critical; unknown when nothing counts"
    )
    healthy_services: int
    total_services: int = Field(
        description="services that count: not paused, unknown or not configured. `services` lists those too"
    )
    last_updated: datetime | None = Field(description="the latest result of any service; null before the first")


_SERVICE: JSON = {
    "service": "stripe",
    "label": "Stripe",
    "provider": "stripe",
    "criticality": "critical",
    "status": "critical",
    "since": _TIME,
    "response_time": 5000.4,
    "error": "timed out after 5 s waiting for the first byte",
    "error_category": "TIMEOUT_ERROR",
    "checked_at": _TIME,
    "maintenance": False,
    "missing_variables": [],
    "details": {},
}
_TOTALS: JSON = {"overall_status": "healthy", "healthy_services": 5, "total_services": 6, "last_updated": _TIME}
_TIMINGS: JSON = {"dns": None, "connect": None, "tls": None, "first_byte": 71.2, "total": 72.0}


class HealthAnswer(Totals):
    """How every service is now. The totals are over all services, also when `service` picks one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [_TOTALS | {"services": [_SERVICE | {"checks": None, "history": None}]}],
        }
    )
    services: list[DetailedService] = Field(description="most urgent first")


class StatusAnswer(Totals):
    """How every service is now, and was over a timeframe."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [_TOTALS | {"timeframe": "24h", "services": [_SERVICE | {"metrics": None}]}],
        }
    )
    timeframe: Timeframe
    services: list[MeasuredService] = Field(description="most urgent first")


class TestAnswer(Schema):
    """The result of one test."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "service": "stripe",
                    "test_type": "authentication",
                    "check": "authentication",
                    "success": True,
                    "status": "healthy",
                    "message": "the key works",
                    "response_time": 72.0,
                    "error": None,
                    "error_category": None,
                    "http_status": 200,
                    "timings": _TIMINGS,
                    "details": {"livemode": False},
                    "checked_at": _TIME,
                }
            ]
        }
    )
    service: str
    test_type: TestType
    check: str | None = Field(description="the configured check the result was stored for, if there is one")
    success: bool = Field(description="whether the outcome is healthy or degraded")
    status: Outcome
    message: str = Field(description="the finding in one sentence")
    response_time: float | None = Field(description="milliseconds")
    error: str | None = Field(description="what went wrong; null on success")
    error_category: Category | None
    http_status: int | None
    timings: Phases
    details: dict[str, Any]
    checked_at: datetime
