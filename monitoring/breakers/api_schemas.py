"""What ``/api/admin/circuit-breakers`` takes and answers. Part of the contract: names are never changed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from monitoring.breakers.machine import Cause, Mode
from wsmon.vocabulary import JSON

MOST_OUTCOMES = 1000
LONGEST_FORCE_MINUTES = 60 * 24 * 31

_TIME = "2026-11-21T09:30:00.120Z"
_BREAKER: JSON = {
    "service": "stripe",
    "kind": "service",
    "state": "OPEN",
    "policy": "rolling",
    "forced": None,
    "forced_by": None,
    "forced_reason": None,
    "forced_until": None,
    "failure_rate": 0.55,
    "failure_count": 11,
    "success_count": 9,
    "opened_at": _TIME,
    "next_attempt_at": "2026-11-21T09:30:30.120Z",
    "calls_rejected": 1204,
    "openings": 1,
    "cause": "outage",
    "reason": "11 of 20 calls failed in 10 s",
    "since": _TIME,
    "generation": 7,
    "trials": 0,
}


def _example(example: JSON, *, strict: bool = False) -> ConfigDict:
    extra: dict[str, Any] = {"examples": [example]}
    return ConfigDict(extra="forbid", json_schema_extra=extra) if strict else ConfigDict(json_schema_extra=extra)


Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]
Forced = Literal["OPEN", "CLOSED"]
Guards = Annotated[Literal["service", "destination"], Field(description="what it guards")]


class BreakerState(Schema):
    """One breaker. ``state`` is what callers meet: a forced state stands above the breaker's own."""

    model_config = _example(_BREAKER)

    service: str = Field(description="the name of what it guards: `stripe`, or `destination:app`")
    kind: Guards
    state: Mode
    policy: Literal["rolling", "counting"]
    forced: Forced | None = Field(description="by a person, until `forced_until` or for good")
    forced_by: str | None = None
    forced_reason: str | None = None
    forced_until: datetime | None = None
    failure_rate: float | None = Field(description="share of the window's calls that failed, 0..1; null without any")
    failure_count: int = Field(description="calls that failed in the window, over all processes")
    success_count: int = Field(description="calls that succeeded in the window")
    opened_at: datetime | None = Field(description="when it opened; null when it is closed")
    next_attempt_at: datetime | None = Field(description="from when on a trial may be made")
    calls_rejected: int = Field(description="calls refused in the last 24 hours, over all processes")
    openings: int = Field(description="times in a row it has opened: the open time backs off by it")
    cause: Cause | None = Field(description="whose fault it is that it is open: `credential`, `rate_limit`: ours")
    reason: str | None
    since: datetime | None = Field(description="since when it is in its state; null: ever since")
    generation: int = Field(description="one more at each change")
    trials: int = Field(description="trials under way")


class StatusAnswer(Schema):
    """Every breaker, those that let nothing through first."""

    model_config = _example({"breakers": [_BREAKER], "last_updated": _TIME})

    breakers: list[BreakerState]
    last_updated: datetime = Field(description="the server's time of this answer")


class ForceRequest(Schema):
    """What to force a breaker to."""

    model_config = _example({"state": "OPEN", "reason": "moving to the new account", "minutes": 60}, strict=True)

    state: Forced | None = Field(description="null ends what is forced")
    reason: Reason = Field("", description="required with a state; kept in the audit and shown to everyone")
    minutes: float | None = Field(
        None, gt=0, le=LONGEST_FORCE_MINUTES, description="ends by itself after so long; null: never"
    )


class ResetRequest(Schema):
    """Why."""

    model_config = _example({"reason": "repaired"}, strict=True)

    reason: Reason = ""


class OutcomeItem(Schema):
    """One call of the caller's own, or several that ended alike."""

    model_config = ConfigDict(extra="forbid")

    ok: bool
    duration_ms: float | None = Field(None, ge=0, le=86_400_000)
    status: int | None = Field(None, ge=100, le=599, description="the HTTP status, when there was an answer")
    at: AwareDatetime | None = Field(None, description="when it ended; now when left out")
    retry_after: float | None = Field(None, ge=0, le=86_400, description="seconds the other side asked to wait")
    count: int = Field(1, ge=1, le=10_000_000, description="so many calls that ended alike")


class OutcomesRequest(Schema):
    """The caller's own calls, oldest first."""

    model_config = _example({"outcomes": [{"ok": False, "duration_ms": 5000, "status": 503}]}, strict=True)

    outcomes: list[OutcomeItem] = Field(max_length=MOST_OUTCOMES)
    trial: str = Field("", max_length=64, description="the first outcome is this trial's")
    rejected: int = Field(0, ge=0, le=10_000_000, description="calls the caller did not make since it is open")


class OutcomesAnswer(Schema):
    """What became of them."""

    model_config = _example(
        {"accepted": 1, "ignored": 0, "state": "CLOSED", "next_attempt_at": None, "generation": 6, "now": _TIME}
    )

    accepted: int
    ignored: int = Field(description="neutral, too old, or of before the breaker's last change")
    state: Mode
    next_attempt_at: datetime | None
    generation: int
    now: datetime


class TrialRequest(Schema):
    """A trial to go on with; empty for a new one."""

    model_config = _example({}, strict=True)

    trial: str = Field("", max_length=64, description="lengthen this trial's lease")


class TrialAnswer(Schema):
    """The right to make one call, until the lease runs out."""

    model_config = _example({"trial": "5d1c9a52-6f0e-4a56-9f2e-2b1f4d6f8a11", "lease_seconds": 10.0})

    trial: str
    lease_seconds: float


class BreakerMetrics(Schema):
    """A breaker's numbers over the timeframe, over all processes."""

    service: str
    kind: Guards
    calls: int
    failures: int
    failure_rate: float | None
    rejected: int
    openings: int
    open_seconds: float = Field(description="seconds in which it was not closed")


class MetricsAnswer(Schema):
    """Every breaker over a timeframe."""

    model_config = _example(
        {
            "timeframe": "24h",
            "breakers": [
                {
                    "service": "stripe",
                    "kind": "service",
                    "calls": 20_400,
                    "failures": 61,
                    "failure_rate": 0.00299,
                    "rejected": 1204,
                    "openings": 2,
                    "open_seconds": 94.2,
                }
            ],
            "last_updated": _TIME,
        }
    )

    timeframe: str
    breakers: list[BreakerMetrics]
    last_updated: datetime
