"""What ``/api/admin/incidents`` takes and answers. Part of the contract: names are never changed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from ninja import Schema
from pydantic import ConfigDict, Field

_TIME = "2026-11-21T09:30:00.120Z"
_ITEM: dict[str, Any] = {
    "id": 212,
    "service": "twilio",
    "title": "Twilio answers slowly",
    "status": "degraded",
    "worst": "degraded",
    "error_category": None,
    "error": "functionality: slow: 2,310 ms, limit 1,500 ms",
    "began_at": "2026-11-21T09:30:00.120Z",
    "opened_at": "2026-11-21T09:30:15.300Z",
    "closed_at": None,
    "closed_by": "",
    "acknowledged_at": "2026-11-21T09:37:02.000Z",
    "acknowledged_by": "ann",
    "assignee": "ann",
    "verdict": "theirs",
    "confidence": 0.86,
    "admitted_at": None,
    "critical_day": True,
    "duration": 2460.0,
    "time_to_detect": 15.2,
    "time_to_acknowledge": 406.7,
    "time_to_recover": None,
}
_DETAIL: dict[str, Any] = _ITEM | {
    "evidence": [
        {
            "key": "probes",
            "side": "them",
            "weight": 1.6,
            "title": "Our probes",
            "text": "first byte 2.3 s, was 200 ms; DNS, connect and TLS unchanged",
            "sub": "328 probes since 09:30, authentication, functionality",
            "url": "",
        }
    ],
    "timeline": [
        {
            "at": "2026-11-21T09:37:02.000Z",
            "kind": "entry",
            "who": "ann",
            "text": "acknowledged by the link in the message",
            "detail": "",
            "url": "",
        }
    ],
}


class State(StrEnum):
    """Which incidents to list."""

    ALL = "all"
    OPEN = "open"
    UNACKNOWLEDGED = "unacknowledged"
    CLOSED = "closed"


class Whose(StrEnum):
    """Whose fault an incident is."""

    OURS = "ours"
    THEIRS = "theirs"
    UNCLEAR = "unclear"


class Piece(Schema):
    """One piece of evidence."""

    key: str = Field(examples=["probes"])
    side: str = Field(description="`us`, `them` or `unclear`", examples=["them"])
    weight: float = Field(description="natural logarithm of the odds, 0 for what is unclear", examples=[2.0])
    title: str = Field(examples=["Our probes"])
    text: str = Field(examples=["they answer with an error of their own (503), 12 of 12"])
    sub: str = Field("", description="what it is based on")
    url: str = ""


class TimelineItem(Schema):
    """One thing that happened."""

    at: datetime = Field(examples=[_TIME])
    kind: str = Field(
        description="`entry`, `note`, `change`, `breaker`, `message`, `probe` or `sibling`", examples=["change"]
    )
    who: str = Field("", description="who did it; empty: nobody in particular")
    text: str = Field(examples=["authentication: healthy to critical"])
    detail: str = ""
    url: str = ""


class IncidentItem(Schema):
    """An incident in short. Times that have not come are null, durations are seconds."""

    id: int = Field(examples=[212])
    service: str = Field(examples=["twilio"])
    title: str = Field(examples=["Twilio answers slowly"])
    status: str = Field(description="the service's status as far as the incident goes", examples=["degraded"])
    worst: str = Field(examples=["critical"])
    error_category: str | None = Field(None, examples=["TIMEOUT_ERROR"])
    error: str = Field("", description="what it looks like")
    began_at: datetime = Field(description="the first failing probe", examples=[_TIME])
    opened_at: datetime = Field(description="when that was confirmed", examples=[_TIME])
    closed_at: datetime | None = None
    closed_by: str = Field("", description="empty: the recovery was confirmed")
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    assignee: str | None = None
    verdict: str = Field(description="`ours`, `theirs` or `unclear`", examples=["theirs"])
    confidence: float = Field(description="0..1", examples=[0.86])
    admitted_at: datetime | None = Field(None, description="when the vendor's own page first said so")
    critical_day: bool = Field(False, description="it began on one")
    duration: float = Field(description="seconds until it closed, or until now", examples=[2460.0])
    time_to_detect: float = Field(examples=[15.0])
    time_to_acknowledge: float | None = None
    time_to_recover: float | None = None


class IncidentDetail(IncidentItem):
    """The same with its evidence and timeline."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DETAIL]})

    evidence: list[Piece] = []
    timeline: list[TimelineItem] = Field([], description="newest first")


class ListAnswer(Schema):
    """A page of incidents, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"incidents": [_ITEM], "next_cursor": None, "open": 1}]}
    )

    incidents: list[IncidentItem]
    next_cursor: str | None = Field(None, description="send it as `cursor` for the next page")
    open: int = Field(description="how many are open", examples=[1])


class NoteRequest(Schema):
    """What was seen or done."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": "switched to e-mail"}]})

    text: str = Field(min_length=1, max_length=4000, description="enters the timeline; secrets are masked")


class ResolveRequest(Schema):
    """Why it is over."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "they fixed it"}]})

    reason: str = Field(min_length=1, max_length=500, description="everybody reads it, and the audit keeps it")
