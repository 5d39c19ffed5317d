"""What each kind of rule comes to in a time: spans without lead and trail. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays
from dateutil.rrule import rrulestr

from monitoring.critical.icalevents import events_of, moment
from wsmon.vocabulary import JSON

KINDS = ("every", "dates", "ranges", "rrule", "ical", "holidays")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LONGEST = timedelta(days=60)
"""No single span of a recurrence rule may last longer."""
MOST_SPANS = 1_000
"""Of one rule in one look."""
_ZERO = timedelta(0)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """One occurrence of a rule, in UTC; ``why`` says which one it is."""

    starts_at: datetime
    ends_at: datetime
    why: str


Spec = Mapping[str, Any]
_Expand = Callable[[Spec, ZoneInfo, datetime, datetime, str], Iterator[Span]]


def kind_of(spec: Mapping[str, JSON]) -> str:
    """Which kind of rule it is; empty for one that says nothing."""
    return next((kind for kind in KINDS if kind in spec), "")


def spans(spec: Mapping[str, JSON], zone: ZoneInfo, since: datetime, until: datetime, calendar: str) -> list[Span]:
    """The occurrences that touch the time from ``since`` to ``until``; none begins on a day that ``except`` names."""
    expand = _EXPANDERS.get(kind_of(spec))
    if expand is None:
        return []
    left_out = {date.fromisoformat(str(day)) for day in several(spec.get("except"))}
    found: list[Span] = []
    for span in expand(spec, zone, since, until, calendar):
        if len(found) >= MOST_SPANS:
            break
        touches = span.starts_at < span.ends_at and span.starts_at < until and span.ends_at > since
        if touches and span.starts_at.astimezone(zone).date() not in left_out:
            found.append(span)
    return found


def day_span(first: date, days: int, zone: ZoneInfo, why: str) -> Span:
    """Whole local days: from one midnight to another, 23 to 25 h each."""
    return Span(moment(first, zone), moment(first + days * _DAY, zone), why)


def _days(zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[date]:
    day, last = since.astimezone(zone).date() - _DAY, until.astimezone(zone).date() + _DAY
    while day <= last:
        yield day
        day += _DAY


def _every(spec: Spec, zone: ZoneInfo, since: datetime, until: datetime, _calendar: str) -> Iterator[Span]:
    wanted = {WEEKDAYS.index(word) for word in several(spec["every"])}
    for day in _days(zone, since, until):
        if day.weekday() in wanted:
            yield day_span(day, 1, zone, day_name(day))


def _dates(spec: Spec, zone: ZoneInfo, _since: datetime, _until: datetime, _calendar: str) -> Iterator[Span]:
    for text in several(spec["dates"]):
        day = date.fromisoformat(text)
        yield day_span(day, 1, zone, day_name(day))


def _ranges(spec: Spec, zone: ZoneInfo, _since: datetime, _until: datetime, _calendar: str) -> Iterator[Span]:
    for one in spec["ranges"]:
        first, last = local(one["from"]), local(one["to"])
        ends = last if isinstance(last, datetime) else last + _DAY
        yield Span(moment(first, zone), moment(ends, zone), f"{_said(first)} to {_said(last)}")


def _rrule(spec: Spec, zone: ZoneInfo, since: datetime, until: datetime, _calendar: str) -> Iterator[Span]:
    first = local(spec["starts_at"])
    whole_days = not isinstance(first, datetime)
    begin = datetime.combine(first, datetime.min.time()) if whole_days else first
    length = timedelta(seconds=spec["lasts"])
    rule = rrulestr(spec["rrule"], dtstart=begin)
    low = since.astimezone(zone).replace(tzinfo=None) - length - _DAY
    high = until.astimezone(zone).replace(tzinfo=None) + _DAY
    for start in rule.xafter(low, inc=True):
        if start > high:
            return
        if whole_days and length % _DAY == _ZERO:
            yield day_span(start.date(), length // _DAY, zone, day_name(start))
        else:
            starts_at = moment(start, zone)
            yield Span(starts_at, starts_at + length, _said(start))


def _ical(spec: Spec, zone: ZoneInfo, since: datetime, until: datetime, calendar: str) -> Iterator[Span]:
    words = [word.casefold() for word in several(spec.get("match"))]

    def wanted(text: str) -> bool:
        return not words or any(word in text.casefold() for word in words)

    for event in events_of(calendar, since, until, zone, wanted):
        yield Span(event.starts_at, event.ends_at, event.summary or "an event without a name")


def _holidays(spec: Spec, zone: ZoneInfo, since: datetime, until: datetime, _calendar: str) -> Iterator[Span]:
    told = spec["holidays"]
    words = tuple(word.casefold() for word in several(told.get("match")))
    low, high = since.astimezone(zone).date(), until.astimezone(zone).date()
    for year in range(low.year, high.year + 1):
        for day, names in _of_year(told["country"], told.get("subdivision"), year):
            if not words or any(word in name.casefold() for word in words for name in names):
                yield day_span(day, 1, zone, names[0])


@lru_cache(maxsize=256)
def _of_year(country: str, subdivision: str | None, year: int) -> Sequence[tuple[date, tuple[str, ...]]]:
    """A year's public holidays, each with its English name, if there is one, and the local one."""
    known = holidays.country_holidays(country, subdiv=subdivision)
    english = next((code for code in known.supported_languages if code.startswith("en")), None)
    # Without being told, the library goes by the host's own language.
    here, told = (
        holidays.country_holidays(country, subdiv=subdivision, years=year, language=language)
        for language in (known.default_language, english)
    )
    return [(day, tuple(dict.fromkeys((told.get(day) or name, name)))) for day, name in sorted(here.items())]


def local(text: str) -> date | datetime:
    """``2026-12-24`` or ``2026-12-24 18:00``, in the rule's time zone; raises ValueError."""
    cleaned = text.strip()
    try:
        return date.fromisoformat(cleaned)
    except ValueError:
        found = datetime.fromisoformat(cleaned)
    if found.tzinfo is not None:
        raise ValueError("is in the rule's time zone: leave out the offset")
    return found


def day_name(day: date) -> str:
    """ "Sat 17 Oct"."""
    return f"{day:%a} {day.day} {day:%b}"


def _said(at: date | datetime) -> str:
    return f"{day_name(at)} {at:%H:%M}" if isinstance(at, datetime) else day_name(at)


def several(value: Any) -> list[str]:
    """What may be one word or a list of them, as a list; empty for nothing."""
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)] if value else []


_EXPANDERS: Mapping[str, _Expand] = {
    "every": _every,
    "dates": _dates,
    "ranges": _ranges,
    "rrule": _rrule,
    "ical": _ical,
    "holidays": _holidays,
}
