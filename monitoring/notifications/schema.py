"""What may stand under ``channels:`` of wsmon.yaml, and in the admin's form: one judge for both.

It knows no database, so whether services and fallbacks are there is for ``planning``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from django.conf import settings
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitoring.alertmodels import Severity
from monitoring.notifications import channels, mail, push, sms
from monitoring.notifications.quiet import WEEKDAYS
from monitoring.schema import STORED, Slug, between, read_reference, slug_findings
from wsmon import secrets
from wsmon.config.problems import Finding, not_one_of
from wsmon.config.schema import check, wrong_mapping
from wsmon.durations import Duration
from wsmon.vocabulary import JSON

MAX_PER_HOUR = 60
SEVERITIES = tuple(word.value for word in Severity)
PLAIN = (push.SCHEME, sms.SCHEME)
"""Schemes of addresses in which no secret stands; and SMTP without a password."""
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def _clock(value: str) -> str:
    if not (match := _CLOCK.fullmatch(value.strip())):
        raise ValueError("is not a time of day such as 22:00")
    return f"{int(match[1]):02}:{match[2]}"


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, KeyError, OSError):
        raise ValueError("is no time zone that is known, such as Europe/Berlin") from None
    return value


def _day(value: str) -> str:
    if value.lower() not in WEEKDAYS:
        raise ValueError(not_one_of(value, WEEKDAYS, "a weekday"))
    return value.lower()


def _severity(value: str) -> str:
    if value not in SEVERITIES:
        raise ValueError(not_one_of(value, SEVERITIES, "a severity"))
    return value


Clock = Annotated[str, AfterValidator(_clock)]
SeverityWord = Annotated[str, AfterValidator(_severity)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class QuietEntry(_Entry):
    """When only what is critical may wake somebody."""

    begins: Clock = Field(alias="from")
    ends: Clock = Field(alias="to")
    days: Annotated[list[Annotated[str, AfterValidator(_day)]], Field(max_length=7)] = []
    time_zone: Annotated[str, AfterValidator(_zone)] | None = None


class ChannelEntry(_Entry):
    """The keys of a channel; ``url`` is judged by itself."""

    url: Any = None
    min_severity: SeverityWord = Severity.WARNING.value
    services: Annotated[list[Slug], Field(max_length=500)] = []
    quiet_hours: QuietEntry | None = None
    digest: Annotated[Duration, between(10, 86_400)] | None = None
    max_per_hour: Annotated[int, Field(ge=1, le=3_600)] = MAX_PER_HOUR
    fallback: Slug | None = None
    direct: bool = True
    renamed_from: Slug | None = None


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A channel as wished for: ``url`` is a reference, ``stored`` or a plain address; ``values`` are columns."""

    slug: str
    url: str
    values: Mapping[str, JSON] = field(default_factory=dict)
    fallback: str | None = None
    renamed_from: str | None = None


def read_channel(slug: str, data: Any) -> tuple[ChannelSpec | None, list[Finding]]:
    """Judge one channel. A spec is returned only when nothing is wrong with it."""
    findings = slug_findings(slug)
    if not isinstance(data, Mapping):
        return None, [*findings, Finding((), wrong_mapping(data))]
    entry, found = check(ChannelEntry, data)
    findings += found
    url = data.get("url")
    wrong = "is missing" if "url" not in data else address_flaw(url) if url is not None else None
    findings += [Finding(("url",), wrong)] if wrong else []
    if entry is not None and entry.fallback == slug:
        findings.append(Finding(("fallback",), "is the channel itself"))
    if entry is None or findings or not isinstance(url, str):
        return None, findings
    quiet: dict[str, JSON] = {}
    if entry.quiet_hours is not None:
        hours = entry.quiet_hours
        zone = hours.time_zone or settings.TIME_ZONE
        quiet = {"from": hours.begins, "to": hours.ends, "days": _in_order(hours.days), "time_zone": zone}
        if hours.begins == hours.ends and len(quiet["days"]) in (0, 7):
            return None, [Finding(("quiet_hours",), "is always: then the channel takes only what is critical")]
    values: dict[str, JSON] = {
        "min_severity": entry.min_severity,
        "services": list(dict.fromkeys(entry.services)),
        "quiet_hours": quiet,
        "digest": entry.digest,
        "max_per_hour": entry.max_per_hour,
        "direct": entry.direct,
    }
    return ChannelSpec(slug, url, values, entry.fallback, entry.renamed_from), []


def address_flaw(url: Any) -> str | None:
    """What is wrong with what stands under ``url``, None: nothing. An address with a secret in it is not quoted."""
    if isinstance(url, str) and is_plain(url):
        return channels.check(url)
    if url == STORED:
        return None
    wrong = read_reference(url)
    if wrong is not None:
        if isinstance(url, str) and secrets.is_reference(url):
            return wrong
        return f"{wrong} (only {', '.join(f'{scheme}:' for scheme in PLAIN)} and smtp:// without a password may)"
    flaw = channels.check(secrets.resolve(url))
    return f"what it leads to {flaw}" if flaw else None


def is_plain(url: str) -> bool:
    """Whether an address may stand in the file as it is."""
    scheme = channels.scheme_of(url)
    if scheme in PLAIN:
        return len(url) <= 300
    if scheme not in mail.SCHEMES or len(url) > 300:
        return False
    try:
        return urlsplit(url).password is None
    except ValueError:
        return False


def _in_order(days: list[str]) -> list[str]:
    return sorted(set(days), key=WEEKDAYS.index)
