"""From when on rules raise alerts: what may stand under ``alerts:`` of wsmon.yaml, with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitoring.models import AlertThresholds
from monitoring.schema import Slug, between
from wsmon.config.problems import Finding as Flaw
from wsmon.config.problems import show
from wsmon.config.schema import check, wrong_mapping
from wsmon.durations import Duration
from wsmon.vocabulary import JSON

DAY = 86_400.0
KINDS = (
    "breaker",
    "certificate",
    "credential",
    "error_budget",
    "failed_deliveries",
    "flapping",
    "on_call",
    "probe_errors",
    "rate_limit",
    "refused_signatures",
    "scheduler",
    "slow",
)
"""Every rule, as ``disabled`` may name it."""


def _kind(value: str) -> str:
    if value not in KINDS:
        raise ValueError(f"{show(value)} is not a rule: {', '.join(KINDS)}")
    return value


Share = Annotated[float, Field(gt=0, le=100)]
"""Percent."""
Slo = Annotated[float, Field(ge=50, lt=100)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Window = Annotated[Duration, between(60, 6 * 3600)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Over(_Entry):
    """More than so many within a time."""

    over: Count
    within: Window


class FailedDeliveries(Over):
    """Dead letters of one destination; ten times as many are critical."""

    over: Count = 10
    within: Window = 900.0


class RefusedSignatures(Over):
    """Requests to one source whose signature was refused: so many, and ``times`` what is usual."""

    over: Count = 20
    within: Window = 600.0
    times: Annotated[float, Field(ge=1, le=1000)] = 5.0


class Ending(_Entry):
    """A certificate or credential that ends within so long."""

    warning: Annotated[Duration, between(0, 365 * DAY)] = 14 * DAY
    critical: Annotated[Duration, between(0, 365 * DAY)] = 3 * DAY

    @model_validator(mode="after")
    def _in_order(self) -> Ending:
        if self.critical > self.warning:
            raise ValueError("critical must not be longer than warning")
        return self


class RateLimit(_Entry):
    """So little left of a vendor's limit (percent), or used up within ``ahead`` at the present pace."""

    below: Share = 10.0
    ahead: Annotated[Duration, between(60, DAY)] = 3600.0


class Flapping(_Entry):
    """A check that changed its confirmed status so often."""

    changes: Annotated[int, Field(ge=2, le=1000)] = 5
    within: Window = 1800.0


class ProbeErrors(_Entry):
    """A part (percent) of a service's probes that failed by our own fault, unconfirmed as it may be."""

    above: Share = 20.0
    within: Window = 600.0


class Slow(_Entry):
    """The 95th percentile of a check above its budget: its ``degraded_over``, or the service's ``p95``."""

    within: Window = 900.0


class ErrorBudget(_Entry):
    """Burn rates: how many times faster than the SLO allows. The defaults are those of Google's SRE workbook."""

    slo: Slo = 99.9
    fast: Annotated[float, Field(gt=0, le=1000)] = 14.4
    slow: Annotated[float, Field(gt=0, le=1000)] = 6.0


class OfService(_Entry):
    """What one service has of its own."""

    slo: Slo | None = None
    p95: Annotated[Duration, between(0.001, 120)] | None = None


class Thresholds(_Entry):
    """Everything under ``alerts:``. Durations are seconds, shares percent."""

    failed_deliveries: FailedDeliveries = FailedDeliveries()
    refused_signatures: RefusedSignatures = RefusedSignatures()
    certificate: Ending = Ending()
    credential: Ending = Ending()
    rate_limit: RateLimit = RateLimit()
    flapping: Flapping = Flapping()
    probe_errors: ProbeErrors = ProbeErrors()
    scheduler_late: Annotated[Duration, between(1, 3600)] = 15.0
    slow: Slow = Slow()
    error_budget: ErrorBudget = ErrorBudget()
    services: Annotated[dict[Slug, OfService], Field(max_length=10_000)] = {}
    disabled: Annotated[list[Annotated[str, AfterValidator(_kind)]], Field(max_length=len(KINDS))] = []

    def slo(self, service: str) -> float:
        """The share (0..1) of a service's probes that must succeed."""
        own = self.services.get(service)
        return ((own.slo if own else None) or self.error_budget.slo) / 100

    def p95_ms(self, service: str, degraded_over: float | None) -> float | None:
        """The budget of the 95th percentile in ms: the service's own, or its check's ``degraded_over`` (s)."""
        own = self.services.get(service)
        seconds = (own.p95 if own else None) or degraded_over
        return None if seconds is None else seconds * 1000


def read(data: Any) -> tuple[dict[str, JSON], list[Flaw]]:
    """Judge what stands under ``alerts:``; return what differs from the defaults (durations in seconds)."""
    if data is None:
        return {}, [Flaw((), "has no value")]
    if not isinstance(data, Mapping):
        return {}, [Flaw((), wrong_mapping(data))]
    found, flaws = check(Thresholds, data)
    if found is None:
        return {}, flaws
    return kept(found), []


def kept(thresholds: Thresholds) -> dict[str, JSON]:
    """What differs from the defaults, as it is stored."""
    values: dict[str, JSON] = thresholds.model_dump(exclude_defaults=True)
    services = {slug: own for slug, own in values.get("services", {}).items() if own}
    return {key: value for key, value in (values | {"services": services}).items() if value not in ({}, [])}


def present() -> Thresholds:
    """Those in force: what is stored over the defaults, the defaults when that is no use any more."""
    stored = AlertThresholds.objects.filter(id=1).values_list("values", flat=True).first()
    try:
        return Thresholds.model_validate(stored or {})
    except ValidationError:
        return Thresholds()
