"""The formats in which vendors say how they are doing, read into one shape.

A reader raises :class:`NotAStatusPage` for anything that is not its format: what cannot be read means
"unknown", never "down".
"""

from __future__ import annotations

import codecs
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from wsmon.http import HttpError, Response
from wsmon.vocabulary import JSON


class NotAStatusPage(ValueError):
    """The answer is not in the format that was named; the text says what is wrong, in a few words."""


class Word(IntEnum):
    """A vendor's word for a component, from good to bad."""

    OPERATIONAL = 0
    MAINTENANCE = 1
    DEGRADED = 2
    PARTIAL_OUTAGE = 3
    MAJOR_OUTAGE = 4

    @property
    def text(self) -> str:
        """As people read it."""
        return "degraded performance" if self is Word.DEGRADED else self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the vendor's product."""

    name: str
    word: Word


@dataclass(frozen=True, slots=True)
class Incident:
    """Something open now. ``components`` names the parts it is about, where the format tells."""

    title: str
    word: Word
    components: tuple[str, ...] = ()
    id: str = ""
    """The vendor's own; empty where the format has none."""
    status: str = ""
    """How far the vendor is: "investigating", "monitoring"."""
    at: datetime | None = None
    """Since when, as the vendor says."""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Work that the vendor announced, not finished yet."""

    id: str
    title: str
    starts_at: datetime
    ends_at: datetime
    components: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a page says. ``overall`` is its own summary, None when it gives none."""

    overall: Word | None
    components: tuple[Component, ...] = ()
    incidents: tuple[Incident, ...] = ()
    page_id: str | None = None
    lists_components: bool = True
    """False for formats that name a part only while it has an incident."""
    maintenances: tuple[Maintenance, ...] = ()


def read(format_name: str, response: Response) -> Report:
    """Read an answer; raise :class:`NotAStatusPage`."""
    try:
        return READERS[format_name](response)
    except (KeyError, TypeError, AttributeError, IndexError):
        raise NotAStatusPage(f"its answer is not in the format {format_name}") from None


def _json(response: Response) -> Any:
    try:
        return response.json()
    except HttpError as error:
        raise NotAStatusPage(error.message) from None


def _rows(value: JSON) -> list[dict[str, Any]]:
    """A list of objects; raises TypeError for anything else."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TypeError
    return value


def _moment(value: JSON) -> datetime | None:
    """A time as ISO 8601, or as seconds or milliseconds of the epoch; None for anything else."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _link(value: JSON) -> str:
    """An address of the web, or nothing: it becomes a link on our pages."""
    text = str(value or "")
    return text if text.startswith(("https://", "http://")) and len(text) <= 500 else ""


def _id(value: JSON) -> str:
    return "" if value is None else str(value)[:100]


def _names(value: JSON) -> tuple[str, ...]:
    return tuple(str(each.get("name")) for each in _rows(value or []))


def _word(words: Mapping[str, Word], value: JSON) -> Word:
    """An unknown word of trouble is trouble, but no outage."""
    return words.get(str(value).lower(), Word.DEGRADED)


# https://www.atlassian.com/software/statuspage: GET /api/v2/summary.json
_INDICATORS = {
    "none": Word.OPERATIONAL,
    "maintenance": Word.MAINTENANCE,
    "minor": Word.DEGRADED,
    "major": Word.PARTIAL_OUTAGE,
    "critical": Word.MAJOR_OUTAGE,
}
_STATUSPAGE = {
    "operational": Word.OPERATIONAL,
    "under_maintenance": Word.MAINTENANCE,
    "degraded_performance": Word.DEGRADED,
    "partial_outage": Word.PARTIAL_OUTAGE,
    "major_outage": Word.MAJOR_OUTAGE,
    "full_outage": Word.MAJOR_OUTAGE,  # incident.io's word
}


def _statuspage(response: Response) -> Report:
    page = _json(response)
    components = tuple(
        Component(str(row["name"]), _word(_STATUSPAGE, row["status"]))
        for row in _rows(page["components"])
        if not row.get("group")
    )
    incidents = tuple(
        Incident(
            str(row["name"]),
            _word(_INDICATORS, row.get("impact")),
            _names(row.get("components")),
            _id(row.get("id")),
            str(row.get("status") or "")[:40],
            _moment(row.get("started_at") or row.get("created_at")),
            _link(row.get("shortlink")),
        )
        for row in _rows(page.get("incidents") or [])
        if row.get("status") not in ("resolved", "postmortem", "completed")
    )
    indicator = (page.get("status") or {}).get("indicator")
    overall = None if indicator is None else _word(_INDICATORS, indicator)
    page_id = (page.get("page") or {}).get("id")
    works = tuple(_maintenances(page.get("scheduled_maintenances")))
    return Report(overall, components, incidents, None if page_id is None else str(page_id), maintenances=works)


def _maintenances(value: JSON) -> Iterator[Maintenance]:
    for row in _rows(value or []):
        starts, ends = _moment(row.get("scheduled_for")), _moment(row.get("scheduled_until"))
        if row.get("status") != "completed" and row.get("id") and starts and ends and starts < ends:
            title = str(row.get("name") or "maintenance")[:200]
            yield Maintenance(
                _id(row["id"]), title, starts, ends, _names(row.get("components")), _link(row.get("shortlink"))
            )


# https://www.google.com/appsstatus/dashboard/incidents.json: an archive; open ones have no end
_IMPACTS = {
    "service_information": Word.OPERATIONAL,
    "service_disruption": Word.PARTIAL_OUTAGE,
    "service_outage": Word.MAJOR_OUTAGE,
}


def _google(response: Response) -> Report:
    rows = _rows(_json(response))
    if rows and not any("begin" in row or "status_impact" in row for row in rows):
        raise KeyError
    incidents = tuple(
        Incident(
            _first_line(row.get("external_desc")),
            _word(_IMPACTS, row.get("status_impact")),
            (str(row.get("service_name")), *_titles(row)),
            _id(row.get("id")),
            str((row.get("most_recent_update") or {}).get("status") or "").lower()[:40],
            _moment(row.get("begin")),
        )
        for row in rows
        if not row.get("end")
    )
    return _from_incidents(incidents)


def _titles(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(product.get("title")) for product in _rows(row.get("affected_products") or []))


# https://docs.slack.dev/reference/slack-status-api: GET /api/v2.0.0/current
_SLACK = {"maintenance": Word.MAINTENANCE, "incident": Word.PARTIAL_OUTAGE, "outage": Word.MAJOR_OUTAGE}


def _slack(response: Response) -> Report:
    page = _json(response)
    if page["status"] not in ("ok", "active"):
        raise KeyError
    return _from_incidents(
        tuple(
            Incident(
                str(row.get("title")),
                _word(_SLACK, row.get("type")),
                tuple(map(str, row.get("services") or ())),
                _id(row.get("id")),
                str(row.get("status") or "")[:40],
                _moment(row.get("date_created")),
                _link(row.get("url")),
            )
            for row in _rows(page.get("active_incidents") or [])
        )
    )


# https://www.apple.com/support/systemstatus/data/system_status_en_US.js: JSON, on developer pages JSONP
_APPLE = {
    "maintenance": Word.MAINTENANCE,
    "performance": Word.DEGRADED,
    "issue": Word.PARTIAL_OUTAGE,
    "outage": Word.MAJOR_OUTAGE,
}


def _apple(response: Response) -> Report:
    text = response.text().strip().lstrip("\ufeff")
    wrapped = re.fullmatch(r"\w+\((.*)\);?", text, re.DOTALL)
    try:
        page = json.loads(wrapped[1] if wrapped else text)
    except (ValueError, RecursionError):
        raise NotAStatusPage("its answer is not JSON") from None
    components: list[Component] = []
    incidents: list[Incident] = []
    for service in _rows(page["services"]):
        name = str(service["serviceName"])
        worst = Word.OPERATIONAL
        for event in _rows(service.get("events") or []):
            if event.get("eventStatus") == "ongoing":
                word = _word(_APPLE, event.get("statusType"))
                if word is Word.MAJOR_OUTAGE and "some" in str(event.get("usersAffected")).lower():
                    word = Word.PARTIAL_OUTAGE
                worst = max(worst, word)
                at, key = _moment(event.get("epochStartDate")), _id(event.get("messageId"))
                incidents.append(Incident(_first_line(event.get("message")), word, (name,), key, at=at))
        components.append(Component(name, worst))
    return Report(None, tuple(components), tuple(incidents))


# https://betterstack.com/docs/uptime/status-pages: GET /index.json
_BETTERSTACK = {
    "operational": Word.OPERATIONAL,
    "maintenance": Word.MAINTENANCE,
    "degraded": Word.DEGRADED,
    "downtime": Word.MAJOR_OUTAGE,
    "not_monitored": Word.OPERATIONAL,
}


def _betterstack(response: Response) -> Report:
    page = _json(response)
    data = page["data"]
    included = _rows(page.get("included") or [])
    components = tuple(
        Component(str(row["attributes"]["public_name"]), _word(_BETTERSTACK, row["attributes"]["status"]))
        for row in included
        if row.get("type") == "status_page_resource"
    )
    page_id = data.get("id")
    overall = _word(_BETTERSTACK, data["attributes"]["aggregate_state"])
    return Report(overall, components, (), None if page_id is None else str(page_id))


# https://health.aws.amazon.com/public/currentevents: UTF-16, big-endian, with a byte order mark; status 0 is over
_AWS = {"1": Word.OPERATIONAL, "2": Word.DEGRADED, "3": Word.MAJOR_OUTAGE}


def _aws(response: Response) -> Report:
    try:
        rows = _rows(json.loads(response.body.decode("utf-16" if response.body[:2] in _MARKS else "utf-8-sig")))
    except (ValueError, RecursionError):
        raise NotAStatusPage("its answer is not JSON") from None
    if rows and not any("service" in row for row in rows):
        raise KeyError
    return _from_incidents(
        tuple(
            Incident(
                _first_line(row.get("summary")),
                _word(_AWS, row.get("status")),
                (str(row["service"]),),
                _id(row.get("arn") or row.get("date")),
                at=_moment(_number(row.get("date"))),
            )
            for row in rows
            if str(row.get("status")) != "0"
        )
    )


_MARKS = (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)


def _number(value: JSON) -> JSON:
    """Digits in quotes as the number that they are."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


_MOST_ITEMS = 1_000


# https://www.rssboard.org/rss-specification: for feeds that hold open outages only, as metastatus.com's do.
# Read by pattern, since an XML parser would also expand whatever entities a feed declares.
def _rss(response: Response) -> Report:
    text = response.text()
    if not re.search(r"<rss\b", text[:2_000], re.IGNORECASE):
        raise NotAStatusPage("its answer is not an RSS feed")
    if response.truncated:
        raise NotAStatusPage("its feed is larger than what wsmon reads")
    items = re.split(r"<item\b", text, maxsplit=_MOST_ITEMS, flags=re.IGNORECASE)[1:]
    return _from_incidents(tuple(Incident(_rss_title(item), Word.PARTIAL_OUTAGE) for item in items))


def _rss_title(item: str) -> str:
    """The text of the first title. Step by step: one pattern for it would take quadratic time on garbage."""
    opened = re.search(r"<title(?:\s[^<>]*)?>", item, re.IGNORECASE)
    closed = re.search(r"</title", item[opened.end() :], re.IGNORECASE) if opened else None
    if opened is None or closed is None:
        return "an outage"
    title = item[opened.end() : opened.end() + closed.start()].strip()
    return _first_line(html.unescape(title.removeprefix("<![CDATA[").removesuffix("]]>")))


def _from_incidents(incidents: tuple[Incident, ...]) -> Report:
    overall = max((incident.word for incident in incidents), default=Word.OPERATIONAL)
    return Report(overall, (), incidents, lists_components=False)


def _first_line(value: JSON) -> str:
    lines = str(value or "").strip().splitlines()
    return lines[0][:200] if lines else "an incident"


READERS: Mapping[str, Callable[[Response], Report]] = {
    "statuspage": _statuspage,
    "google": _google,
    "slack": _slack,
    "apple": _apple,
    "betterstack": _betterstack,
    "rss": _rss,
    "aws": _aws,
}
