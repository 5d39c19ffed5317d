"""Why nobody is told of an alert: maintenance, or another alert that says it already.

Incidents know of maintenance and of our own network by themselves (``monitoring.incidents``); whoever raises an
alert may say so too (``raise_alert(inhibited_by=...)``), and then that is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from monitoring import maintenance
from monitoring.alertmodels import rank
from monitoring.models import Alert, MaintenanceWindow
from monitoring.notifications import outbox
from monitoring.notifications.routing import What

PARENT = "alert: "
MAINTENANCE = "maintenance: "
INCIDENT, OWN_NETWORK, FLAPPING = "incident", "own-connectivity", "flapping"
"""Kinds of alerts that say what others would repeat; the second is the key of its only one."""
OWN_ERROR, BREAKER = "own_error", "breaker"
"""A fault of our own, such as a credential that is refused; of it the breaker's opening is a consequence."""
STAND_ALONE = frozenset({INCIDENT, FLAPPING, OWN_NETWORK, "own_connectivity", OWN_ERROR})
"""What an incident of the same service does not say already, by kind, besides the next."""
_LASTING = ("certificate", "credential", "calendar", "channel", "disabled", "rate_limit")
"""Words in kinds of what is no consequence of a service's outage, and is still there after it."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Open:
    """An open alert that may stand for others."""

    key: str
    kind: str
    service_id: int | None


def reason(kind: str, key: str, service_id: int | None, parents: Iterable[Open], planned: str = "") -> str:
    """Why nobody is told of an alert, "" when they are. ``planned``: the reason of its service's maintenance.

    Pure. An alert without a service is nobody's consequence.
    """
    if service_id is None or kind in (FLAPPING, OWN_NETWORK, "own_connectivity"):
        return ""
    if planned and kind != INCIDENT:
        return f"{MAINTENANCE}{planned}"[:200]
    for parent in parents:
        if parent.key != key and _stands_for(parent, kind, service_id):
            return f"{PARENT}{parent.key}"[:200]
    return ""


def _stands_for(parent: Open, kind: str, service_id: int) -> bool:
    if any(word in kind for word in _LASTING):
        return False
    if parent.key == OWN_NETWORK:
        return kind not in STAND_ALONE
    if parent.service_id != service_id:
        return False
    if parent.kind == FLAPPING:
        return kind == INCIDENT
    if parent.kind == OWN_ERROR:
        return kind == BREAKER
    return parent.kind == INCIDENT and kind not in STAND_ALONE


def is_mine(kind: str, inhibited_by: str) -> bool:
    """Whether a reason is one of these, to be worked out again, and not what somebody else said."""
    mine = (PARENT,) if kind == INCIDENT else (PARENT, MAINTENANCE)
    return not inhibited_by or inhibited_by.startswith(mine)


def of(alerts: Sequence[Alert], now: datetime) -> dict[int, str]:
    """By alert: the reason that holds for it now. Two queries or none, however many they are."""
    mine = [alert for alert in alerts if is_mine(alert.kind, alert.inhibited_by)]
    services = {alert.service_id for alert in mine if alert.service_id is not None}
    found = {alert.id: alert.inhibited_by for alert in alerts} | {alert.id: "" for alert in mine}
    if not services:
        return found
    parents, windows = _parents(services, now)
    for alert in mine:
        if alert.service_id is not None:
            planned = _planned(windows, alert.service_id)
            known = (*parents[None], *parents[alert.service_id])
            found[alert.id] = reason(alert.kind, alert.key, alert.service_id, known, planned)
    return found


def refresh(now: datetime) -> int:
    """Tell of alerts whose reason not to is over, or that are worse than what was told; return how many messages.

    Called every few seconds. It also finds what a message was dropped for by mistake.
    """
    told, last = 0, 0
    while True:
        with transaction.atomic():
            rows = _untold().filter(id__gt=last).select_for_update(of=("self",), skip_locked=True)
            found = list(rows.select_related("service").order_by("id")[:_AT_ONCE])
            told += put_right(found, now)
        if len(found) < _AT_ONCE:
            return told
        last = found[-1].id


_SET = """
UPDATE service_alerts a SET inhibited_by = n.why FROM unnest(%s::bigint[], %s::text[]) AS n(id, why) WHERE a.id = n.id
"""


def put_right(alerts: Sequence[Alert], now: datetime) -> int:
    """Set the reasons of alerts as they are now, and tell of those that have none; how many messages that makes."""
    reasons = of(alerts, now)
    changed = [alert for alert in alerts if reasons[alert.id] != alert.inhibited_by]
    for alert in changed:
        alert.inhibited_by = reasons[alert.id]
    if changed:
        with connection.cursor() as cursor:
            cursor.execute(_SET, [[alert.id for alert in changed], [alert.inhibited_by for alert in changed]])
    told = [alert for alert in alerts if not alert.inhibited_by]
    return outbox.tell_all([(alert, What.WORSE if alert.told_severity else What.OPENED) for alert in told])


def _untold() -> QuerySet[Alert]:
    """Open alerts that are worse than anybody was told, but for those that somebody else keeps quiet."""
    mine = Q(inhibited_by="") | Q(inhibited_by__startswith=PARENT)
    mine |= Q(inhibited_by__startswith=MAINTENANCE) & ~Q(kind=INCIDENT)
    rows = Alert.objects.filter(mine, resolved_at=None)
    return rows.annotate(_told=rank("told_severity"), _own=rank("severity")).filter(_told__lt=F("_own"))


# Each part by an index of its own: of a service that many alerts are about only a few are looked at. An error of our
# own explains no breaker that calls opened which failed by themselves, and none that a person holds.
_PARENTS = """
SELECT key, kind, service_id FROM service_alerts WHERE key = %(network)s AND resolved_at IS NULL
UNION ALL
SELECT key, kind, service_id FROM service_alerts
WHERE service_id = ANY(%(services)s) AND kind = ANY(%(kinds)s) AND resolved_at IS NULL
UNION ALL
SELECT key, kind, service_id FROM service_alerts a
WHERE service_id = ANY(%(services)s) AND kind = %(own_error)s AND resolved_at IS NULL
  AND NOT EXISTS (SELECT FROM circuit_breaker_status b
    WHERE b.service_id = a.service_id AND (b.forced <> '' OR b.cause = 'outage'))
UNION ALL
SELECT '', '', NULL WHERE EXISTS (SELECT FROM monitoring_maintenancewindow
    WHERE cancelled_at IS NULL AND (service_id IS NULL OR service_id = ANY(%(services)s)))
"""

Parents = Mapping[int | None, Sequence[Open]]


def _parents(service_ids: Collection[int], now: datetime) -> tuple[Parents, list[MaintenanceWindow]]:
    """By service: what may stand for its alerts (None: for anybody's); and the maintenance that is in force."""
    values: dict[str, Any] = {
        "network": OWN_NETWORK,
        "services": list(service_ids),
        "kinds": [INCIDENT, FLAPPING],
        "own_error": OWN_ERROR,
    }
    found: defaultdict[int | None, list[Open]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_PARENTS, values)
        rows = [Open(*row) for row in cursor.fetchall()]
    for one in rows:
        if one.key:
            found[one.service_id].append(one)
    is_planned = any(not one.key for one in rows)  # perhaps: most are not in force now
    return found, maintenance.in_force(maintenance.relevant(now), now) if is_planned else []


def _planned(windows: Iterable[MaintenanceWindow], service_id: int) -> str:
    """The reason of the maintenance that is in force for a service, "" for none."""
    mine = maintenance.of_service(windows, service_id)
    return mine[0].reason or "planned" if mine else ""
