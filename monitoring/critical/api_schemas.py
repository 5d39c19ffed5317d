"""What the API of critical days takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import AwareDatetime, ConfigDict, Field

from wsmon.vocabulary import JSON

_SINCE, _UNTIL = "2026-10-16T20:00:00Z", "2026-10-18T00:00:00Z"
_OVERRIDE: JSON = {"on": True, "reason": "the launch", "by": "anna", "since": _SINCE, "until": _UNTIL}
_EMERGENCY: JSON = {"service": "stripe", "reason": "payments fail", "by": "anna", "since": _SINCE, "until": _UNTIL}
_RULE: JSON = {"rule": "saturdays", "name": "saturdays", "why": "Sat 17 Oct", "until": _UNTIL}


def _example(example: JSON, *, strict: bool = False) -> ConfigDict:
    extra: dict[str, Any] = {"examples": [example]}
    return ConfigDict(extra="forbid", json_schema_extra=extra) if strict else ConfigDict(json_schema_extra=extra)


Reason = Annotated[str, Field(max_length=500, description="why, for everybody to read", examples=["the fair moved"])]


class FreezeAnswer(Schema):
    """Deployments are allowed now."""

    model_config = _example(
        {
            "frozen": False,
            "read_only": False,
            "reason": None,
            "until": None,
            "passed": None,
            "next_freeze_at": _SINCE,
        }
    )

    frozen: bool = Field(description="false, but for one that is let through a freeze")
    read_only: bool = Field(description="whether applications are asked to switch to read-only")
    reason: str | None = Field(None, description="why deployments are frozen, for one that is let through")
    until: datetime | None = Field(None, description="when that freeze ends")
    passed: str | None = Field(None, description="why this one was let through; the next one asks in vain")
    next_freeze_at: datetime | None = Field(None, description="when the calendar freezes deployments next")


class ReasonItem(Schema):
    """One reason for which a critical day is in force."""

    rule: str | None = Field(description="the rule's name; null for a person's word", examples=["saturdays"])
    name: str = Field(examples=["saturdays"])
    why: str = Field(examples=["Sat 17 Oct"])
    until: datetime


class OverrideItem(Schema):
    """A person's word against the calendar."""

    model_config = _example(_OVERRIDE)

    on: bool = Field(description="a critical day is in force, or else none is")
    reason: str
    by: str
    since: datetime
    until: datetime


class EmergencyItem(Schema):
    """An emergency that is on."""

    service: str | None = Field(description="null: of all services", examples=["stripe"])
    reason: str
    by: str
    since: datetime
    until: datetime


class StateAnswer(Schema):
    """What is in force."""

    model_config = _example(
        {
            "critical_day": True,
            "since": _SINCE,
            "until": _UNTIL,
            "reasons": [_RULE],
            "override": None,
            "emergencies": [_EMERGENCY],
            "frozen": True,
            "frozen_until": _UNTIL,
            "read_only": False,
            "next_at": "2026-10-23T20:00:00Z",
        }
    )

    critical_day: bool
    since: datetime | None = None
    until: datetime | None = None
    reasons: list[ReasonItem]
    override: OverrideItem | None = None
    emergencies: list[EmergencyItem]
    frozen: bool
    frozen_until: datetime | None = None
    read_only: bool = Field(description="whether applications are asked to switch to read-only")
    next_at: datetime | None = Field(None, description="when the next critical day begins")


class OverrideRequest(Schema):
    """Switch a critical day on or off until a time, or (null) let the calendar decide again."""

    model_config = _example({"on": True, "reason": "the launch", "minutes": 120}, strict=True)

    on: bool | None = Field(description="null ends an override")
    reason: Annotated[str, Field(max_length=500)] = ""
    until: AwareDatetime | None = Field(None, description="when it expires; or say minutes", examples=[_UNTIL])
    minutes: Annotated[float, Field(gt=0, le=44_640)] | None = Field(None, description="for how long")


class EmergencyRequest(Schema):
    """Start or end an emergency."""

    model_config = _example({"on": True, "service": "stripe", "reason": "payments fail"}, strict=True)

    on: bool
    service: str | None = Field(None, description="null: of all services", examples=["stripe"])
    reason: Annotated[str, Field(max_length=500)] = ""
    minutes: Annotated[float, Field(gt=0, le=120)] = 120.0


class PassRequest(Schema):
    """Let one deploy through a freeze."""

    model_config = _example({"reason": "the fix for the outage"}, strict=True)

    reason: Reason


class PassAnswer(Schema):
    """The permission; the next pipeline that asks uses it up."""

    model_config = _example({"reason": "the fix for the outage", "by": "anna", "until": _UNTIL})

    reason: str
    by: str
    until: datetime
