"""Rules and what they come to, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitoring.critical import expanding
from monitoring.critical.expanding import WEEKDAYS, kind_of, several
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON

LISTED = 4
_FREQUENCY = {"DAILY": "every day", "WEEKLY": "every week", "MONTHLY": "every month", "YEARLY": "every year"}
_UNITS = {"d": "d", "h": "h", "m": "min", "s": "s"}


def days_words(spec: Mapping[str, JSON]) -> str:
    """Which days a rule means: "every Saturday", "public holidays of DE"."""
    kind = kind_of(spec)
    words = _WORDS[kind](spec) if kind else "no days"
    if left_out := spec.get("except"):
        words += ", but not on " + listed([_day(text) for text in several(left_out)])
    return words


def around_words(lead: float, trail: float) -> str:
    """ "2 h before until 2 h after"; empty for neither."""
    before = f"{span(lead)} before" if lead else ""
    after = f"{span(trail)} after" if trail else ""
    return " until ".join(part for part in (before, after) if part) if before and after else before or after


def rule_words(spec: Mapping[str, JSON], lead: float, trail: float) -> str:
    """ "every Saturday, 2 h before until 2 h after"."""
    return ", ".join(part for part in (days_words(spec), around_words(lead, trail)) if part)


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"; of many the first few and how many more."""
    if len(words) > LISTED:
        return ", ".join(words[: LISTED - 1]) + f" and {len(words) - LISTED + 1} more"
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part) if words else ""


def span(seconds: float) -> str:
    """ "2 h", "90 min", "1 d"."""
    text = format_duration(seconds)
    for unit, word in _UNITS.items():
        if text.endswith(unit) and text[:-1].replace(".", "").isdigit():
            return f"{text[:-1]} {word}"
    return text


def _every(spec: Mapping[str, Any]) -> str:
    days = [day for day in WEEKDAYS if day in several(spec["every"])]
    if len(days) == len(WEEKDAYS):
        return "every day"
    return "every " + listed([day.capitalize() for day in days])


def _dates(spec: Mapping[str, Any]) -> str:
    return listed([_day(text) for text in several(spec["dates"])])


def _ranges(spec: Mapping[str, Any]) -> str:
    return listed([f"{_day(one['from'])} to {_day(one['to'])}" for one in spec["ranges"]])


def _rrule(spec: Mapping[str, Any]) -> str:
    parts = dict(part.partition("=")[::2] for part in str(spec["rrule"]).upper().split(";"))
    often = _FREQUENCY.get(parts.pop("FREQ", ""), "repeated")
    rest = ", ".join(f"{name} {value}" for name, value in parts.items())
    start = _day(spec["starts_at"])
    return f"{often}{f' ({rest})' if rest else ''} from {start}, {span(spec['lasts'])} each"


def _ical(spec: Mapping[str, Any]) -> str:
    words = several(spec.get("match"))
    if not words:
        return "every event of a calendar"
    return "events of a calendar that match " + listed([f"“{word}”" for word in words])


def _holidays(spec: Mapping[str, Any]) -> str:
    told = spec["holidays"]
    where = "-".join(part for part in (told["country"], told.get("subdivision")) if part)
    match = several(told.get("match"))
    return f"public holidays of {where}" + (f" that match {listed([f'“{word}”' for word in match])}" if match else "")


def _day(text: str) -> str:
    try:
        found = expanding.local(text)
    except ValueError:
        return text
    day = f"{found.day} {found:%b %Y}"
    return day if not hasattr(found, "hour") else f"{day} {found:%H:%M}"


_WORDS = {
    "every": _every,
    "dates": _dates,
    "ranges": _ranges,
    "rrule": _rrule,
    "ical": _ical,
    "holidays": _holidays,
}
