"""Everything that happened in an incident, newest first, from the tables in which it stands anyway.

Its own entries, the confirmed changes of the service's checks, its breaker's transitions, the messages that were
sent about it, the vendor's other incidents meanwhile, and the first probe that failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from monitoring.incidents.facts import is_vendor
from monitoring.models import BreakerTransition, Incident, IncidentEntry, Notification, StateChange
from monitoring.templatetags.wsmon_ui import span_words, status_word

MOST = 300
"""Lines of each kind that are looked at."""
TOGETHER = timedelta(seconds=10)
"""Messages of one kind that were written within this time are one line."""
_AFTERWARDS = timedelta(seconds=5)
KINDS = ("all", "notes", "messages")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened. ``mark`` is a status whose shape stands before it, or else ``icon`` an icon."""

    at: datetime
    kind: str
    """One of "entry", "note", "change", "breaker", "message", "probe", "sibling"."""
    what: str
    sub: str = ""
    who: str = ""
    """Who did it, before ``what``."""
    mark: str = ""
    icon: str = ""
    quote: str = ""
    """A person's own words."""
    url: str = ""
    """The page that tells more."""
    order: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The lines of one incident, newest first."""

    lines: list[Line]
    notes: int
    messages: int
    sent: list[Notification]
    """The messages that the lines tell of, oldest first."""

    def only(self, kind: str) -> list[Line]:
        """The lines of a filter: all, notes or messages."""
        wanted = {"notes": "note", "messages": "message"}.get(kind)
        return [line for line in self.lines if wanted in (None, line.kind)]


def of(incident: Incident, now: datetime | None = None) -> Timeline:
    """The timeline until now, or until the incident closed; about eight queries."""
    until = (incident.closed_at or now or timezone.now()) + _AFTERWARDS
    entries = list(incident.entries.order_by("-at", "-id")[:MOST])
    told = {entry.at for entry in entries}
    sent = _sent(incident)
    lines = [
        *map(_entry, entries),
        *_changes(incident, until, told),
        *_transitions(incident, until),
        *_messages(incident, sent),
        *_siblings(incident, until),
        *_first_probe(incident),
    ]
    lines.sort(key=lambda line: (line.at, line.order), reverse=True)
    notes = sum(line.kind == "note" for line in lines)
    return Timeline(lines, notes, sum(line.kind == "message" for line in lines), sent)


_ICONS = {
    "verdict": "shield-check",
    "vendor": "external-link",
    "deliveries": "webhook",
    "acknowledged": "user",
    "assigned": "user",
    "note": "note",
    "escalated": "bell",
    "reopened": "arrow-back-up",
}


def _entry(entry: IncidentEntry) -> Line:
    marks = {"opened": "critical", "worse": "critical", "resolved": "healthy"}
    mark, text = marks.get(entry.kind, ""), entry.text
    if entry.kind == "opened" and "degraded" in text.split():
        mark = "degraded"
    is_note = entry.kind == "note"
    url = entry.detail if entry.detail.startswith(("https://", "http://", "/")) else ""
    return Line(
        at=entry.at,
        kind="note" if is_note else "entry",
        what=text,
        sub="" if is_note or url else entry.detail,
        who=entry.by,
        mark=mark,
        icon="" if mark else _ICONS.get(entry.kind, "activity"),
        quote=entry.detail if is_note else "",
        url=url,
        order=2,
    )


def _changes(incident: Incident, until: datetime, told: set[datetime]) -> Iterator[Line]:
    """Of checks, and of the service where the incident's own entries do not say it."""
    rows = StateChange.objects.select_related("check_ref").filter(
        Q(check_ref__isnull=False) | ~Q(at__in=told),
        service=incident.service_id,
        at__gte=incident.began_at,
        at__lte=until,
    )
    for row in rows.order_by("-at", "-id")[:MOST]:
        name = row.check_ref.name if row.check_ref else incident.service.label
        text = f"{name}: {status_word(row.old).lower()} to {status_word(row.new).lower()}"
        sub = row.reason or row.category
        yield Line(row.at, "change", text, sub, mark=row.new, order=1 if row.check_ref else 3)


_BY_HAND = {
    "forced": "forced its breaker",
    "released": "ended the force on its breaker",
    "reset": "reset its breaker",
}


def _transitions(incident: Incident, until: datetime) -> Iterator[Line]:
    """Openings, closings and what people did; the trials between them are counted, not told one by one."""
    rows = BreakerTransition.objects.filter(
        service=incident.service_id, at__gte=incident.began_at, at__lte=until
    ).order_by("-at", "-id")
    failed: list[BreakerTransition] = []
    for row in reversed(rows[:MOST]):
        if row.trigger in _BY_HAND:
            words = f"forced its breaker {row.forced.lower()}" if row.forced else _BY_HAND[row.trigger]
            yield Line(row.at, "breaker", words, row.reason, who=row.by or "wsmon", icon="bolt", order=4)
        elif row.new == "CLOSED" or (row.new == "OPEN" and row.old == "CLOSED"):
            verb = "closed" if row.new == "CLOSED" else "opened"
            yield Line(row.at, "breaker", f"Its breaker {verb}", row.reason, icon="bolt", order=4)
        elif row.new == "OPEN":
            failed.append(row)
    if failed:
        count = f"{len(failed)} trial{'' if len(failed) == 1 else 's'} failed"
        yield Line(failed[-1].at, "breaker", f"Its breaker stayed open: {count}", icon="bolt", order=4)


# Messages ---------------------------------------------------------------------------------------------

_SAID = {
    "opened": "Alert sent to",
    "worse": "Told that it is worse:",
    "escalated": "Escalated to",
    "reminder": "Reminded",
    "resolved": "Told that it is over:",
}


def _sent(incident: Incident) -> list[Notification]:
    rows = Notification.objects.select_related("channel").filter(incident=incident)
    return list(rows.order_by("created_at", "id")[:MOST])


def state_of(row: Notification) -> str:
    """What became of a message, in words."""
    match Notification.State(row.state):
        case Notification.State.SENT:
            took = (row.sent_at - row.created_at).total_seconds() if row.sent_at else 0.0
            return f"delivered in {took:.1f} s" if took < 60 else f"delivered after {span_words(took)}"
        case Notification.State.GATHERED:
            return "gathered into another message"
        case Notification.State.DROPPED:
            return f"not needed: {row.problem}" if row.problem else "not needed any more"
        case Notification.State.FAILED:
            return f"could not be delivered: {row.problem}" if row.problem else "could not be delivered"
        case _:
            return row.problem or "on its way"


def _messages(incident: Incident, sent: Sequence[Notification]) -> Iterator[Line]:
    group: list[Notification] = []
    for row in sent:
        if group and (row.kind != group[0].kind or row.created_at - group[0].created_at > TOGETHER):
            yield _message(incident, group)
            group = []
        group.append(row)
    if group:
        yield _message(incident, group)


def _message(incident: Incident, group: list[Notification]) -> Line:
    first = group[0]
    names = [f"{row.channel.slug} ({row.recipient})" if row.recipient else row.channel.slug for row in group]
    states = list(dict.fromkeys(state_of(row) for row in group))
    if first.kind == "opened" and first.sent_at:
        after = max((first.sent_at - incident.began_at).total_seconds(), 0.0)
        states.insert(0, f"{span_words(after)} after the first failing probe")
    failed = any(row.state == Notification.State.FAILED for row in group)
    what = f"{_SAID.get(first.kind, first.kind.capitalize())} {' and '.join(names)}"
    mark = "failed" if failed else ""
    return Line(first.created_at, "message", what, "; ".join(states), mark=mark, icon="bell", order=5)


# What else --------------------------------------------------------------------------------------------


def _siblings(incident: Incident, until: datetime) -> Iterator[Line]:
    if not is_vendor(incident.service):
        return
    rows = Incident.objects.select_related("service").filter(
        service__provider=incident.service.provider, opened_at__gte=incident.began_at, opened_at__lte=until
    )
    for row in rows.exclude(service=incident.service_id).order_by("-opened_at")[:20]:
        url = reverse("incident", args=[row.id])
        text = f"{row.service.label} (same vendor): {row.title}"
        yield Line(row.opened_at, "sibling", text, f"Incident #{row.id}", mark=row.worst, url=url)


_FIRST = """
SELECT c.name, r.outcome, r.message, r.total_ms, (
    SELECT max(g.at) FROM service_health_metrics g
    WHERE g.check_id = c.id AND g.outcome = 'healthy' AND NOT g.manual
      AND g.at < r.at AND g.at > r.at - interval '1 day'
)
FROM monitoring_configuration c JOIN service_health_metrics r ON r.check_id = c.id AND r.at = %(at)s
WHERE c.service_id = %(service)s AND r.outcome <> 'healthy' AND NOT r.manual ORDER BY c.id LIMIT 1
"""


def _first_probe(incident: Incident) -> Iterator[Line]:
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, {"at": incident.began_at, "service": incident.service_id})
        row = cursor.fetchone()
    if row is None:
        return
    name, outcome, message, total_ms, good_at = row
    slow = outcome == "degraded"
    took = f"{total_ms:,.0f} ms" if total_ms is not None else ""
    text = f"First {'slow' if slow else 'failing'} probe: {(took if slow else '') or message or took or outcome}"
    sub = name
    if good_at is not None:
        sub += f", {span_words((incident.began_at - good_at).total_seconds())} after the last good one"
    yield Line(incident.began_at, "probe", text[:300], sub, mark=outcome)
