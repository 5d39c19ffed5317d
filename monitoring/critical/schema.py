"""What may stand under ``critical_days:`` of wsmon.yaml, and in the admin's form: one judge for both.

A rule has exactly one of ``every``, ``dates``, ``ranges``, ``rrule``, ``ical`` and ``holidays``::

    saturdays: {every: saturday, lead: 2h, trail: 2h}
    fairs: {ical: "env:FAIRS_ICAL_URL", match: [fair, expo]}
    holidays: {holidays: {country: DE, subdivision: BY, match: christmas}}
    launch: {ranges: [{from: 2026-11-27, to: 2026-11-30}], read_only: false, freeze: true}
    first-sunday: {rrule: "FREQ=MONTHLY;BYDAY=1SU", starts_at: "2026-11-01 18:00", lasts: 6h, except: 2027-01-03}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import holidays
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from monitoring.critical import expanding, rules
from monitoring.critical.expanding import KINDS, WEEKDAYS
from monitoring.critical.icalevents import moment
from monitoring.literals import literal_secrets
from monitoring.maintenance import check_recurrence
from monitoring.schema import between, slug_findings
from wsmon import secrets
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.config.schema import check, wrong_mapping
from wsmon.durations import Duration
from wsmon.vocabulary import JSON

FIRST_YEAR, LAST_YEAR = 2000, 2100
_WORDS = {word[:3]: (word,) for word in WEEKDAYS} | {word: (word,) for word in WEEKDAYS}
_DAYS = _WORDS | {"weekend": ("saturday", "sunday"), "weekdays": WEEKDAYS[:5], "day": WEEKDAYS}
_SHAPES = {"rrule": ("starts_at", "lasts"), "ical": ("match",)}


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name; raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ValueError(f"{show(name)} is not a time zone such as Europe/Berlin") from None


def _zone(name: str) -> str:
    zone_of(name)
    return name


def _label(value: str) -> str:
    if len(value) > 100 or not value.isprintable():
        raise ValueError(f"{show(value)} must be one line of at most 100 characters")
    return value


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _weekday(value: str) -> str:
    if value.strip().lower() not in _DAYS:
        raise ValueError(not_one_of(value, [*WEEKDAYS, "weekend", "weekdays", "day"], "a weekday"))
    return value.strip().lower()


def _day(value: str) -> str:
    try:
        day = date.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"{show(value)} is not a date such as 2026-12-24") from None
    return _in_our_time(day).isoformat()


def _moment(value: str) -> str:
    try:
        found = expanding.local(value)
    except ValueError as problem:
        told = str(problem)
        words = told if told.startswith("is in") else "is not a date or time such as 2026-12-24 or 2026-12-24 18:00"
        raise ValueError(f"{show(value)} {words}") from None
    _in_our_time(found)
    return f"{found:%Y-%m-%d %H:%M}" if isinstance(found, datetime) else found.isoformat()


def _in_our_time(day: date) -> date:
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"{day} is not between the years {FIRST_YEAR} and {LAST_YEAR}")
    return day


def _recurrence(value: str) -> str:
    check_recurrence(value)
    return value


def _feed(value: str) -> str:
    if secrets.is_reference(value):
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https", "webcal", "webcals") or not parts.hostname or len(value) > 500:
        raise ValueError(f"{show(value)} is not the URL of a feed, nor a reference such as env:NAME")
    return value


def _word(value: str) -> str:
    if not value.strip() or len(value) > 100 or not value.isprintable():
        raise ValueError("must be text of at most 100 characters")
    return value


Day = Annotated[str, AfterValidator(_day)]
Moment = Annotated[str, AfterValidator(_moment)]
Words = Annotated[list[Annotated[str, AfterValidator(_word)]], BeforeValidator(_list), Field(max_length=20)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RangeEntry(_Entry):
    """From one day or time to another; the last day is part of it."""

    from_: Annotated[Moment, Field(alias="from")]
    to: Moment


class HolidaysEntry(_Entry):
    """Public holidays of a country; ``match`` picks some of them by name."""

    country: str
    subdivision: str | None = None
    match: Words = []


class RuleEntry(_Entry):
    """The keys of a rule; which of them go together is judged afterwards."""

    name: Annotated[str, AfterValidator(_label)] = ""
    time_zone: Annotated[str, AfterValidator(_zone)] = ""
    lead: Annotated[Duration, between(0, rules.LONGEST_AROUND)] = rules.LEAD
    trail: Annotated[Duration, between(0, rules.LONGEST_AROUND)] = rules.TRAIL
    every: Annotated[
        list[Annotated[str, AfterValidator(_weekday)]], BeforeValidator(_list), Field(min_length=1, max_length=10)
    ] = []
    dates: Annotated[list[Day], BeforeValidator(_list), Field(min_length=1, max_length=500)] = []
    ranges: Annotated[list[RangeEntry], BeforeValidator(_list), Field(min_length=1, max_length=200)] = []
    rrule: Annotated[str, AfterValidator(_recurrence)] = ""
    starts_at: Moment | None = None
    lasts: Annotated[Duration, between(60, expanding.LONGEST.total_seconds())] = 86_400.0
    ical: Annotated[str, AfterValidator(_feed)] = ""
    match: Words = []
    holidays: Any = None
    except_: Annotated[list[Day], BeforeValidator(_list), Field(alias="except", max_length=500)] = []
    freeze: bool = True
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule as wished for; durations in seconds, ``spec`` without what says nothing."""

    slug: str
    name: str = ""
    spec: Mapping[str, JSON] = field(default_factory=dict)
    time_zone: str = ""
    lead: float = rules.LEAD
    trail: float = rules.TRAIL

    @property
    def values(self) -> dict[str, Any]:
        """The row's columns."""
        return {
            "name": self.name,
            "spec": dict(self.spec),
            "time_zone": self.time_zone,
            "lead": self.lead,
            "trail": self.trail,
        }


def read_rule(slug: str, data: Any) -> tuple[RuleSpec | None, list[Finding]]:
    """Judge one rule. A spec is returned only when nothing is wrong with it."""
    findings = slug_findings(slug)
    if not isinstance(data, Mapping):
        return None, [*findings, Finding((), wrong_mapping(data))]
    entry, found = check(RuleEntry, data)
    findings += found
    findings += _kinds(data)
    told, found = _read_holidays(data)
    findings += found
    findings += [Finding(path, message) for path, message in literal_secrets(dict(data)) if path[0] == "ical"]
    if entry is not None and not findings:
        findings += list(_order(entry))
    if findings or entry is None:
        return None, findings
    return RuleSpec(slug, entry.name, _spec(entry, told), entry.time_zone, entry.lead, entry.trail), []


def _kinds(data: Mapping[str, Any]) -> list[Finding]:
    kinds = [kind for kind in KINDS if kind in data]
    if not kinds:
        return [Finding((), "says no days: it needs one of " + ", ".join(KINDS))]
    if len(kinds) > 1:
        return [Finding((kinds[1],), f"stands beside `{kinds[0]}`: make a rule of its own of each")]
    allowed = _SHAPES.get(kinds[0], ())
    others = {key for keys in _SHAPES.values() for key in keys} - set(allowed)
    findings = [Finding((key,), f"has no use beside `{kinds[0]}`") for key in others if key in data]
    if kinds[0] == "rrule" and "starts_at" not in data:
        findings.append(Finding(("starts_at",), "is missing: the first day or time gives the time of day"))
    return findings


def _order(entry: RuleEntry) -> list[Finding]:
    return [
        Finding(("ranges", index, "to"), f"{one.to} is before {one.from_}")
        for index, one in enumerate(entry.ranges)
        if _ends(one.to) <= moment(expanding.local(one.from_), ZoneInfo("UTC"))
    ]


def _ends(text: str) -> datetime:
    found = expanding.local(text)
    whole = datetime.combine(found, datetime.max.time()) if not isinstance(found, datetime) else found
    return moment(whole, ZoneInfo("UTC"))


def _read_holidays(data: Mapping[str, Any]) -> tuple[dict[str, JSON], list[Finding]]:
    told = data.get("holidays")
    if told is None:
        return {}, []
    told = {"country": told} if isinstance(told, str) else told
    if not isinstance(told, Mapping):
        return {}, [Finding(("holidays",), f"{show(told)} is not a country such as DE")]
    entry, findings = check(HolidaysEntry, told)
    if entry is None:
        return {}, [finding.under("holidays") for finding in findings]
    known = holidays.list_supported_countries()
    if entry.country not in known:
        return {}, [Finding(("holidays", "country"), f"{show(entry.country)} is not a country such as DE")]
    if entry.subdivision and entry.subdivision not in known[entry.country]:
        message = not_one_of(entry.subdivision, known[entry.country], f"a part of {entry.country}")
        return {}, [Finding(("holidays", "subdivision"), message)]
    found: dict[str, JSON] = {"country": entry.country}
    if entry.subdivision:
        found["subdivision"] = entry.subdivision
    if entry.match:
        found["match"] = list(entry.match)
    return found, []


def _spec(entry: RuleEntry, told: Mapping[str, JSON]) -> dict[str, JSON]:
    """What is kept of a rule: its kind, and what differs from the defaults."""
    found: dict[str, JSON] = {}
    if entry.every:
        days = {day for word in entry.every for day in _DAYS[word]}
        found["every"] = [day for day in WEEKDAYS if day in days]
    if entry.dates:
        found["dates"] = sorted(set(entry.dates))
    if entry.ranges:
        found["ranges"] = [{"from": one.from_, "to": one.to} for one in entry.ranges]
    if entry.rrule:
        found |= {"rrule": entry.rrule, "starts_at": entry.starts_at, "lasts": entry.lasts}
    if entry.ical:
        found |= {"ical": entry.ical} | ({"match": list(entry.match)} if entry.match else {})
    if told:
        found["holidays"] = dict(told)
    if entry.except_:
        found["except"] = sorted(set(entry.except_))
    if not entry.freeze:
        found["freeze"] = False
    if entry.read_only:
        found["read_only"] = True
    return found
