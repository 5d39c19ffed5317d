"""What ``/api/admin/forecasts`` answers. Part of the contract: names are never changed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from ninja import Schema
from pydantic import ConfigDict, Field

from monitoring.forecasts.listing import State
from monitoring.forecasts.sources import CERTIFICATE, ERRORS, LATENCY, QUOTA

_ITEM: dict[str, Any] = {
    "id": 41,
    "service": "stripe",
    "check": "connectivity",
    "metric": "latency",
    "state": "open",
    "text": "p95 over 800 ms",
    "value": 520.0,
    "slope": 70.0,
    "limit": 800.0,
    "unit": "ms",
    "crosses_at": "2026-10-17T18:40:00Z",
    "earliest": "2026-10-17T17:55:00Z",
    "latest": "2026-10-17T20:10:00Z",
    "confidence": 0.9,
    "made_at": "2026-10-17T12:00:00Z",
    "renewed_at": "2026-10-17T14:40:00Z",
    "settled_at": None,
}
_ACCURACY: dict[str, Any] = {
    "total": 8,
    "came": 6,
    "averted": 1,
    "wrong": 1,
    "half_within": 720.0,
    "text": "Of 8 forecasts in 90 days 6 came true, half of them within 12 min of the time said; 1 averted, 1 wrong.",
}


class Metric(StrEnum):
    """Which number: 95th percentile of the response time, error budget, rate limit, TLS certificate."""

    LATENCY = LATENCY
    ERRORS = ERRORS
    QUOTA = QUOTA
    CERTIFICATE = CERTIFICATE


class ForecastItem(Schema):
    """One number of a check, and when it is expected to cross its limit. Times are UTC."""

    id: int = Field(examples=[41])
    service: str = Field(examples=["stripe"])
    check: str = Field(description="the check's name", examples=["connectivity"])
    metric: Metric
    state: State = Field(
        description="`open`: expected now; `lapsed`: no trend is found any more; `came`, `averted` or `wrong`: "
        "how it ended"
    )
    text: str = Field(description="what is expected", examples=["p95 over 800 ms"])
    value: float = Field(description="where it stands, or stood when the forecast was made, in `unit`")
    slope: float = Field(description="`unit` per hour")
    limit: float = Field(description="in `unit`", examples=[800.0])
    unit: str = Field(description="`ms`, `percent` or `days`", examples=["ms"])
    crosses_at: datetime | None = Field(description="when it crosses; of one that is not open: as was said first")
    earliest: datetime | None = Field(description="as was said first")
    latest: datetime | None = Field(description="as was said first")
    confidence: float = Field(description="0..1: how far the trend stands out of the noise", examples=[0.9])
    made_at: datetime
    renewed_at: datetime = Field(description="when it was last worked out anew")
    settled_at: datetime | None = Field(None, description="when it came, was averted or turned out wrong")


class Accuracy(Schema):
    """How the forecasts that ended within 90 days ended."""

    total: int = Field(examples=[8])
    came: int = Field(examples=[6])
    averted: int = Field(description="the number turned back before it got there", examples=[1])
    wrong: int = Field(examples=[1])
    half_within: float | None = Field(
        description="seconds: half of those that came were at most so far from the time said", examples=[720.0]
    )
    text: str | None = Field(description="the same in a sentence")


class ListAnswer(Schema):
    """A page of forecasts, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"forecasts": [_ITEM], "accuracy": _ACCURACY, "next_cursor": None}]}
    )

    forecasts: list[ForecastItem]
    accuracy: Accuracy
    next_cursor: str | None = Field(None, description="send it as `cursor` for the next page")
