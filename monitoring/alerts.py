"""Alerts: what a person should know, one row while it lasts however often it is found.

Whoever finds it raises it each time, and resolves it once it is over, by a key of its own such as
``delivery-failures:app``. Both in the caller's transaction: an alert is there when, and only if, what it tells of is,
and so are the messages about it (``monitoring.notifications.outbox``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from monitoring import storable
from monitoring.alertmodels import RANKS, Severity, rank
from monitoring.models import Alert, Incident, Service
from monitoring.notifications import inhibition, outbox
from monitoring.notifications.routing import What
from wsmon import live
from wsmon.redact import redact


@dataclass(frozen=True, slots=True)
class News:
    """What is found and should be known. ``severity`` is one of :class:`~monitoring.alertmodels.Severity`.

    ``url`` is a page of this site. ``inhibited_by`` says why nobody is told ("" for no reason); None leaves that as
    it was.
    """

    key: str
    kind: str
    severity: str
    title: str
    detail: str = ""
    url: str = ""
    service_id: int | None = None
    incident_id: int | None = None
    inhibited_by: str | None = None


_URGENT_FIRST = (rank("severity").desc(), "-opened_at", "-id")

# In the order of their keys, so that two who raise the same ones never wait for each other in a circle.
_RAISE = """
INSERT INTO service_alerts
    (key, kind, severity, title, detail, url, service_id, incident_id, inhibited_by, opened_at, last_at, count)
SELECT key, kind, severity, title, detail, url, service_id, incident_id, coalesce(inhibited_by, ''),
    clock_timestamp(), clock_timestamp(), 1
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(key text, kind text, severity text, title text, detail text, url text,
    service_id bigint, incident_id bigint, inhibited_by text)
ORDER BY key COLLATE "C"
ON CONFLICT (key) WHERE resolved_at IS NULL DO UPDATE SET
    severity = excluded.severity, title = excluded.title, detail = excluded.detail, url = excluded.url,
    inhibited_by = CASE WHEN %(keep)s THEN service_alerts.inhibited_by ELSE excluded.inhibited_by END,
    last_at = greatest(service_alerts.last_at, excluded.last_at), count = service_alerts.count + 1
RETURNING id
"""


def raise_alert(  # noqa: PLR0913
    key: str,
    kind: str,
    severity: str,
    title: str,
    detail: str = "",
    url: str = "",
    service: Service | None = None,
    *,
    incident: Incident | None = None,
    inhibited_by: str | None = None,
) -> Alert:
    """Open an alert, or note on the open one of that key that it was raised again, in the newest words.

    The words are those of :class:`News`; secrets in them are masked. Until the caller's transaction ends, others who
    raise the same key wait: raise late in it. When it is new, or more urgent than it was, the channels are told:
    what they are told is written in the same transaction.
    """
    ids = (service.id if service else None, incident.id if incident else None)
    (found,) = raise_alerts([News(key, kind, severity, title, detail, url, *ids, inhibited_by)])
    return found


def raise_alerts(news: Iterable[News]) -> list[Alert]:
    """The same for many at once, by a few statements however many they are; of one key the last word counts.

    In no certain order.
    """
    wanted = {row["key"]: row for row in map(_row, news)}
    if not wanted:
        return []
    with transaction.atomic():
        ids: list[int] = []
        for keep in (True, False):
            ids += _insert([row for row in wanted.values() if (row["inhibited_by"] is None) is keep], keep=keep)
        found = list(Alert.objects.select_related("service").filter(id__in=ids).order_by("id"))
        worse = [alert for alert in found if RANKS[alert.severity] > RANKS[alert.told_severity]]
        inhibition.put_right(worse, timezone.now())
        live.publish("alert", {"alerts": [alert.id for alert in found]})
    return found


def _row(news: News) -> dict[str, Any]:
    return {
        "key": _key(news.key),
        "kind": storable.text(news.kind, 40),
        "severity": Severity(news.severity).value,
        "title": storable.text(redact(news.title), 200),
        "detail": storable.text(redact(news.detail), 2000),
        "url": news.url if news.url.startswith("/") and len(news.url) <= 500 else "",
        "service_id": news.service_id,
        "incident_id": news.incident_id,
        "inhibited_by": None if news.inhibited_by is None else storable.text(news.inhibited_by, 200),
    }


def _insert(rows: Sequence[dict[str, Any]], *, keep: bool) -> list[int]:
    """``keep``: an alert that is open already goes on being told, or not told, as it was."""
    if not rows:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_RAISE, {"rows": json.dumps(rows), "keep": keep})
        return [row[0] for row in cursor.fetchall()]


def resolve(key: str) -> bool:
    """It is over; False when no alert of that key is open."""
    return bool(resolve_all([key]))


def resolve_all(keys: Collection[str]) -> int:
    """They are over, whichever of them are open; how many were. A few statements however many they are."""
    if not keys:
        return 0
    with transaction.atomic():
        rows = Alert.objects.select_for_update(of=("self",)).filter(key__in=map(_key, keys), resolved_at=None)
        found = list(rows.select_related("service").order_by("id"))
        if not found:
            return 0
        mine = Alert.objects.filter(id__in=[alert.id for alert in found])
        mine.update(resolved_at=Now(), next_step_at=None)  # it climbs no further
        over = dict(mine.values_list("id", "resolved_at"))
        for alert in found:
            alert.resolved_at = over[alert.id]
        outbox.tell_all([(alert, What.RESOLVED) for alert in found])
        live.publish("alert", {"alerts": [alert.id for alert in found]})
    return len(found)


def open_alerts(kinds: Collection[str] | None = None) -> list[Alert]:
    """Those that are open, of some kinds or of all: the most urgent first, then the newest."""
    return list(_open(kinds).order_by(*_URGENT_FIRST))


def listed(most: int) -> list[Alert]:
    """So many of the open ones: those that somebody has, or that nobody is told of, after the others."""
    rows = _open(None).alias(had=Q(acknowledged_at__isnull=False), silent=~Q(inhibited_by=""))
    return list(rows.order_by("had", "silent", *_URGENT_FIRST)[:most])


def pressing(most: int) -> tuple[list[Alert], int]:
    """Those that somebody is told of and no row of the overview shows: incidents stand there.

    So many of them, the most urgent first, and how many there are.
    """
    rows = _open(None).filter(inhibited_by="").exclude(kind="incident")
    return list(rows.order_by(*_URGENT_FIRST)[:most]), rows.count()


def open_counts() -> dict[tuple[str, str], int]:
    """How many are open, by kind and severity."""
    rows = _open(None).order_by().values_list("kind", "severity").annotate(Count("id"))
    return {(kind, severity): number for kind, severity, number in rows}


def _open(kinds: Collection[str] | None) -> QuerySet[Alert]:
    rows = Alert.objects.filter(resolved_at=None).select_related("service")
    return rows if kinds is None else rows.filter(kind__in=kinds)


def _key(key: str) -> str:
    """A key that fits its column and is still a key of its own."""
    cleaned = storable.text(key, len(key))
    if len(cleaned) <= 200:
        return cleaned
    return f"{cleaned[:160]}~{hashlib.sha256(cleaned.encode()).hexdigest()[:32]}"
