"""What may stand under ``rotations:`` and ``escalations:`` of wsmon.yaml, and in the admin's forms.

One judge for both; it knows no database, so whether the channels and rotations are there is for ``planning``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from itertools import pairwise
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitoring.alertmodels import Severity
from monitoring.critical.schema import zone_of
from monitoring.escalation.oncall import PREFIX
from monitoring.literals import literal_secrets
from monitoring.notifications.schema import Clock, SeverityWord
from monitoring.schema import Slug, between, slug_findings
from wsmon import secrets
from wsmon.config.problems import Finding, show
from wsmon.config.schema import check, wrong_mapping
from wsmon.durations import Duration
from wsmon.vocabulary import JSON

WEEK = 7 * 86_400.0
HANDOVER = "09:00"
ZONE = "UTC"
_NAME = re.compile(rf"(?:{PREFIX})?[-a-zA-Z0-9_]{{1,60}}")


def _person(value: str) -> str:
    value = value.strip()
    if not value or len(value) > 100 or not value.isprintable():
        raise ValueError("must be one line of at most 100 characters")
    return value


def _day(value: str) -> str:
    try:
        day = date.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("is not a date such as 2026-01-05") from None
    if not 2000 <= day.year <= 2100:
        raise ValueError("is not between the years 2000 and 2100")
    return day.isoformat()


def _zone(value: str) -> str:
    zone_of(value)
    return value


def _feed(value: str) -> str:
    if secrets.is_reference(value):
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https", "webcal", "webcals") or not parts.hostname or len(value) > 300:
        raise ValueError("is not the URL of a calendar, nor a reference such as env:NAME")
    return value


def _target(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"is neither a channel nor {PREFIX}NAME")
    return value


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PersonEntry(_Entry):
    """Somebody who takes turns."""

    name: Annotated[str, AfterValidator(_person)]
    channels: Annotated[list[Slug], Field(min_length=1, max_length=20)]


class RotationEntry(_Entry):
    """The keys of a rotation."""

    people: Annotated[list[PersonEntry], Field(min_length=1, max_length=100)]
    starts_on: Annotated[str, AfterValidator(_day)] | None = None
    handover: Clock = HANDOVER
    time_zone: Annotated[str, AfterValidator(_zone)] = ZONE
    ical: Annotated[str, AfterValidator(_feed)] | None = None
    renamed_from: Slug | None = None


class StepEntry(_Entry):
    """One step: after so long, tell these."""

    after: Annotated[Duration, between(0, WEEK)] = 0.0
    notify: Annotated[list[Annotated[str, AfterValidator(_target)]], Field(min_length=1, max_length=20)]


class EscalationEntry(_Entry):
    """The keys of an escalation."""

    steps: Annotated[list[StepEntry], Field(min_length=1, max_length=20)]
    remind_every: Annotated[Duration, between(60, WEEK)] | None = None
    services: Annotated[list[Slug], Field(max_length=500)] = []
    min_severity: SeverityWord = Severity.CRITICAL.value
    renamed_from: Slug | None = None


@dataclass(frozen=True, slots=True)
class RotationSpec:
    """A rotation as wished for; ``values`` are the columns of its row."""

    slug: str
    values: Mapping[str, JSON] = field(default_factory=dict)
    renamed_from: str | None = None

    @property
    def channels(self) -> list[tuple[tuple[str | int, ...], str]]:
        """The channels it names, each with the path to it."""
        return [
            (("people", place, "channels", index), name)
            for place, person in enumerate(self.values["people"])
            for index, name in enumerate(person["channels"])
        ]


@dataclass(frozen=True, slots=True)
class EscalationSpec:
    """An escalation as wished for; ``values`` are the columns of its row."""

    slug: str
    values: Mapping[str, JSON] = field(default_factory=dict)
    renamed_from: str | None = None

    @property
    def targets(self) -> list[tuple[tuple[str | int, ...], str]]:
        """The channels and ``rotation:`` names it tells, each with the path to it."""
        return [
            (("steps", place, "notify", index), name)
            for place, step in enumerate(self.values["steps"])
            for index, name in enumerate(step["notify"])
        ]


Spec = TypeVar("Spec", RotationSpec, EscalationSpec)


def read_rotation(slug: str, data: Any) -> tuple[RotationSpec | None, list[Finding]]:
    """Judge one rotation. A spec is returned only when nothing is wrong with it."""
    findings = slug_findings(slug)
    if not isinstance(data, Mapping):
        return None, [*findings, Finding((), wrong_mapping(data))]
    entry, found = check(RotationEntry, data)
    findings += found
    findings += [Finding(path, message) for path, message in literal_secrets(dict(data)) if path[0] == "ical"]
    if entry is None or findings:
        return None, findings
    names = [person.name.lower() for person in entry.people]
    findings += [
        Finding(("people", place, "name"), f"{show(entry.people[place].name)} stands here twice")
        for place, name in enumerate(names)
        if name in names[:place]
    ]
    if findings:
        return None, findings
    values: dict[str, JSON] = {
        "people": [person.model_dump() for person in entry.people],
        "starts_on": date.fromisoformat(entry.starts_on) if entry.starts_on else None,
        "handover": time.fromisoformat(entry.handover),
        "time_zone": entry.time_zone,
        "ical": entry.ical or "",
    }
    return RotationSpec(slug, values, entry.renamed_from), []


def read_escalation(slug: str, data: Any) -> tuple[EscalationSpec | None, list[Finding]]:
    """Judge one escalation. A spec is returned only when nothing is wrong with it."""
    findings = slug_findings(slug)
    if not isinstance(data, Mapping):
        return None, [*findings, Finding((), wrong_mapping(data))]
    entry, found = check(EscalationEntry, data)
    findings += found
    if entry is not None:
        findings += [
            Finding(("steps", place, "after"), "is not later than the step before it")
            for place, (earlier, later) in enumerate(pairwise(entry.steps), 1)
            if later.after <= earlier.after
        ]
    if entry is None or findings:
        return None, findings
    values: dict[str, JSON] = {
        "steps": [step.model_dump() for step in entry.steps],
        "remind_every": entry.remind_every,
        "services": list(dict.fromkeys(entry.services)),
        "min_severity": entry.min_severity,
    }
    return EscalationSpec(slug, values, entry.renamed_from), []
