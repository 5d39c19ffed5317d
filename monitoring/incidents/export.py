"""An incident as text to take away: Markdown for a post-mortem, and a ticket for the vendor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connection

from monitoring.incidents import budget, reads, timeline, verdict
from monitoring.incidents.facts import is_vendor
from monitoring.incidents.timeline import Line
from monitoring.incidents.verdict import Side
from monitoring.models import Incident
from monitoring.templatetags.wsmon_ui import span_words
from providers.base import NOT_A_CALL
from wsmon.redact import redact

SAMPLES = 5


def markdown(incident: Incident, now: datetime | None = None) -> str:
    """What is known of it, and the headings that a post-mortem still has to fill."""
    parts = [*_head(incident, now), *_whose(incident), *_timeline(incident, now)]
    parts += [
        "## What we learned",
        "",
        "- What went well:",
        "- What went badly:",
        "- Where we were lucky:",
        "",
        "## What we do about it",
        "",
        "| Action | Who | Until |",
        "| --- | --- | --- |",
        "|  |  |  |",
        "",
    ]
    return "\n".join(parts)


def _head(incident: Incident, now: datetime | None) -> Iterator[str]:
    figures, service = reads.figures(incident, now), incident.service
    spent = budget.of(incident, now)
    yield f"# Incident #{incident.id}: {_plain(incident.title)}"
    yield ""
    if settings.PUBLIC_URL:
        yield f"{settings.PUBLIC_URL}/incidents/{incident.id}/"
        yield ""
    rows = [
        ("Service", f"{service.label} ({service.slug}, criticality {service.criticality})"),
        ("First failing probe", _utc(incident.began_at)),
        ("Confirmed", f"{_utc(incident.opened_at)}, after {span_words(figures.to_detect)}"),
        ("Acknowledged", _acknowledged(incident, figures.to_acknowledge)),
        ("Over", _over(incident, figures.to_recover)),
        ("Lasted", span_words(figures.lasts) + ("" if incident.closed_at else " so far")),
        ("Worst", incident.worst),
        ("Vendor admitted it", _admitted(incident, figures.to_admit)),
        ("Error budget", f"{spent.words[0].upper()}{spent.words[1:]}" if spent else "no probes are kept"),
        ("On a critical day", "yes" if incident.critical_day else "no"),
        ("What it looked like", incident.reason or "–"),
    ]
    yield "| | |"
    yield "| --- | --- |"
    for name, value in rows:
        yield f"| {name} | {_plain(value)} |"
    yield ""


def _acknowledged(incident: Incident, seconds: float | None) -> str:
    if incident.acknowledged_at is None or seconds is None:
        return "nobody did"
    return f"{_utc(incident.acknowledged_at)} by {incident.acknowledged_by}, after {span_words(seconds)}"


def _over(incident: Incident, seconds: float | None) -> str:
    if incident.closed_at is None or seconds is None:
        return "not yet"
    by = f" by {incident.closed_by}" if incident.closed_by else ""
    return f"{_utc(incident.closed_at)}{by}, {span_words(seconds)} after it was confirmed"


def _admitted(incident: Incident, seconds: float | None) -> str:
    if incident.admitted_at is None or seconds is None:
        return "not yet" if incident.closed_at is None else "never"
    return f"{_utc(incident.admitted_at)}, after {span_words(seconds)}"


def _whose(incident: Incident) -> Iterator[str]:
    judged = reads.judged(incident)
    yield "## Us or them"
    yield ""
    if not judged.evidence:
        yield "Not judged yet."
    else:
        sentence = verdict.sentence(judged, incident.service.label, is_vendor=is_vendor(incident.service))
        yield f"**{_plain(sentence)}** Us {judged.us_percent}%, them {judged.them_percent}%."
        yield ""
        yield "| Points to | Evidence | |"
        yield "| --- | --- | --- |"
        for piece in judged.evidence:
            yield f"| {piece.side} | {_plain(f'{piece.title}: {piece.text}')} | {_plain(piece.sub)} |"
    yield ""


def _timeline(incident: Incident, now: datetime | None) -> Iterator[str]:
    yield "## Timeline (UTC)"
    yield ""
    yield "| When | What |"
    yield "| --- | --- |"
    for line in reversed(timeline.of(incident, now).lines):
        yield f"| {line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} | {_line(line)} |"
    yield ""


def _line(line: Line) -> str:
    who = f"**{_plain(line.who)}** " if line.who else ""
    more = f"; {_plain(line.sub)}" if line.sub else ""
    quote = f": “{_plain(line.quote)}”" if line.quote else ""
    return f"{who}{_plain(line.what)}{more}{quote}"


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _plain(text: str) -> str:
    """Text that stays one cell of a table, and is neither markup nor a secret."""
    flat = " ".join(redact(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", flat)


# The vendor's ticket --------------------------------------------------------------------------------------

_SAMPLES = """
SELECT r.at, c.kind, r.http_status, r.category, r.message, r.total_ms, r.details ->> 'request_id'
FROM monitoring_configuration c JOIN service_health_metrics r ON r.check_id = c.id
WHERE c.service_id = %(service)s AND r.at >= %(since)s AND r.at <= coalesce(%(until)s, now())
  AND r.outcome <> 'healthy' AND NOT r.manual AND NOT c.kind = ANY(%(no_calls)s)
ORDER BY r.at DESC, r.id DESC LIMIT %(most)s
"""


def ticket(incident: Incident, now: datetime | None = None) -> str:
    """A text for the vendor's support: what we see, since when, and calls that they can find in their own log."""
    figures, judged = reads.figures(incident, now), reads.judged(incident)
    still = "is still going on" if incident.closed_at is None else f"lasted {span_words(figures.lasts)}"
    lines = [
        f"Subject: {incident.title} since {_utc(incident.began_at)}",
        "",
        "Hello,",
        "",
        f"since {_utc(incident.began_at)} our calls to you do not work as usual; it {still}.",
        "",
        "What we see:",
        f"- {incident.reason or incident.title}",
        *(f"- {piece.title}: {piece.text}" for piece in judged.evidence if piece.side is Side.THEM),
        "",
        f"The last calls of our monitoring that failed (newest first, {SAMPLES} at most):",
        *_calls(incident),
        "",
        "Is this known to you, and when do you expect it to be over?",
        "",
    ]
    return redact("\n".join(lines))


def _calls(incident: Incident) -> Iterator[str]:
    values: dict[str, Any] = {
        "service": incident.service_id,
        "since": incident.began_at,
        "until": incident.closed_at,
        "no_calls": list(NOT_A_CALL),
        "most": SAMPLES,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLES, values)
        rows = cursor.fetchall()
    for at, kind, status, category, message, total_ms, request_id in rows:
        parts = [f"HTTP {status}" if status else category or "failed", message]
        parts += [f"{total_ms:,.0f} ms"] if total_ms is not None else []
        parts += [f"request id {request_id}"] if request_id else []
        yield f"- {_utc(at)}, {kind}: {', '.join(part for part in parts if part)}"
    if not rows:
        yield "- none is kept any more"
