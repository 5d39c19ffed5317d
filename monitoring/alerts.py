"""Alerts: what a person should know, one row while it lasts however often it is found.

Whoever finds it raises it each time, and resolves it once it is over, by a key of its own such as
``delivery-failures:app``. Both in the caller's transaction: an alert is there when, and only if, what it tells of is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, Count, IntegerField, QuerySet, Value, When
from django.db.models.functions import Now

from monitoring import storable
from monitoring.alertmodels import Severity
from monitoring.models import Alert, Service
from wsmon import live
from wsmon.redact import redact

URGENCY = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)

_RAISE = """
INSERT INTO service_alerts (key, kind, severity, title, detail, url, service_id, opened_at, last_at, count)
VALUES (%(key)s, %(kind)s, %(severity)s, %(title)s, %(detail)s, %(url)s, %(service_id)s,
    clock_timestamp(), clock_timestamp(), 1)
ON CONFLICT (key) WHERE resolved_at IS NULL DO UPDATE SET
    severity = excluded.severity, title = excluded.title, detail = excluded.detail, url = excluded.url,
    last_at = greatest(service_alerts.last_at, excluded.last_at), count = service_alerts.count + 1
RETURNING id
"""


def raise_alert(
    key: str,
    kind: str,
    severity: str,
    title: str,
    detail: str = "",
    url: str = "",
    service: Service | None = None,
) -> Alert:
    """Open an alert, or note on the open one of that key that it was raised again, in the newest words.

    ``severity`` is one of :class:`~monitoring.alertmodels.Severity`, ``url`` a page of this site. Secrets in its
    words are masked. Until the caller's transaction ends, others who raise the same key wait: raise late in it.
    """
    values = {
        "key": _key(key),
        "kind": storable.text(kind, 40),
        "severity": Severity(severity).value,
        "title": storable.text(redact(title), 200),
        "detail": storable.text(redact(detail), 2000),
        "url": url if url.startswith("/") and len(url) <= 500 else "",
        "service_id": service.id if service else None,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RAISE, values)
        found = Alert.objects.get(id=cursor.fetchone()[0])
        live.publish("alert", {"alerts": [found.id]})
    return found


def resolve(key: str) -> bool:
    """It is over; False when no alert of that key is open."""
    with transaction.atomic():
        rows = Alert.objects.select_for_update().filter(key=_key(key), resolved_at=None)
        found = rows.first()
        if found is None:
            return False
        Alert.objects.filter(id=found.id).update(resolved_at=Now())
        live.publish("alert", {"alerts": [found.id]})
    return True


def open_alerts(kinds: Collection[str] | None = None) -> list[Alert]:
    """Those that are open, of some kinds or of all: the most urgent first, then the newest."""
    return list(_open(kinds).order_by(_urgency(), "-opened_at", "-id"))


def open_counts() -> dict[tuple[str, str], int]:
    """How many are open, by kind and severity."""
    rows = _open(None).order_by().values_list("kind", "severity").annotate(Count("id"))
    return {(kind, severity): number for kind, severity, number in rows}


def _open(kinds: Collection[str] | None) -> QuerySet[Alert]:
    rows = Alert.objects.filter(resolved_at=None)
    return rows if kinds is None else rows.filter(kind__in=kinds)


def _urgency() -> Any:
    places = [When(severity=word, then=Value(place)) for place, word in enumerate(URGENCY)]
    return Case(*places, default=Value(len(places)), output_field=IntegerField())


def _key(key: str) -> str:
    """A key that fits its column and is still a key of its own."""
    cleaned = storable.text(key, len(key))
    if len(cleaned) <= 200:
        return cleaned
    return f"{cleaned[:160]}~{hashlib.sha256(cleaned.encode()).hexdigest()[:32]}"
