"""Judging open incidents again and again."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import Error, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from monitoring.incidentmodels import Verdict
from monitoring.incidents import connectivity, facts, store, verdict
from monitoring.incidents.connectivity import Reach
from monitoring.incidents.evidence import gather
from monitoring.incidents.verdict import Evidence, Judged
from monitoring.models import Incident, IncidentEntry

logger = structlog.get_logger(__name__)

EVERY, YOUNG = timedelta(seconds=10), timedelta(minutes=15)
"""How often an incident is judged, while it is young."""
LATER = timedelta(minutes=1)
"""How often it is when it is older."""
MOST = 40
"""Incidents judged in one go for the first time, or for the last."""
AGAIN = 4
"""The same of those judged before, the longest ago first: however many are open, the machine has other work too."""
_AFTERWARDS = timedelta(minutes=10)
"""An incident that closed is judged once more, unless that is long ago."""


def rejudge(now: datetime | None = None) -> int:
    """Each second or so: judge the open incidents that are due again; how many. No HTTP."""
    moment = now or timezone.now()
    store.uninhibit_all(moment)
    due = _due(moment)
    if not due:
        return 0
    reach = connectivity.reach(moment)
    return sum(_judge_one(row, reach, moment) for row in due)


def _due(now: datetime) -> list[Incident]:
    over = Q(closed_at__gt=now - _AFTERWARDS) & (Q(judged_at=None) | Q(judged_at__lt=F("closed_at")))
    stale = Q(judged_at__lte=now - EVERY, opened_at__gt=now - YOUNG) | Q(judged_at__lte=now - LATER)
    set_back = Q(judged_at__gt=now + EVERY)
    return [
        *_oldest(Q(closed_at=None, judged_at=None) | over, MOST),
        *_oldest(Q(closed_at=None) & (stale | set_back), AGAIN),
    ]


def _oldest(wanted: Q, most: int) -> QuerySet[Incident]:
    rows = Incident.objects.filter(wanted).select_related("service")
    return rows.order_by(F("judged_at").asc(nulls_first=True), "id")[:most]


def _judge_one(incident: Incident, reach: Reach, now: datetime) -> bool:
    """Claim it, so that of several workers one judges it, and write what it says now."""
    claimed = Incident.objects.filter(id=incident.id, judged_at=incident.judged_at).update(judged_at=now)
    if not claimed:
        return False
    try:
        judged = verdict.judge(gather(facts.read(incident, reach, now)))
        _write(incident.id, judged, now)
    except Error:
        logger.exception("incident_not_judged", incident=incident.id)
        return False
    return True


@transaction.atomic
def _write(incident_id: int, judged: Judged, now: datetime) -> None:
    incident = Incident.objects.select_for_update(of=("self",)).select_related("service").get(id=incident_id)
    before, first = Verdict(incident.verdict), not incident.evidence
    same = incident.evidence == verdict.dump(judged.evidence) and before == judged.verdict
    incident.verdict, incident.confidence = judged.verdict, round(judged.confidence, 3)
    incident.evidence = verdict.dump(judged.evidence)
    incident.save(update_fields=["verdict", "confidence", "evidence"])
    if judged.verdict is not before or (first and judged.verdict is not Verdict.UNCLEAR):
        words = verdict.sentence(judged, incident.service.label, is_vendor=facts.is_vendor(incident.service))
        sure = f"{judged.confidence:.0%} sure, by {len(judged.evidence)} pieces of evidence"
        store.write(
            incident, "verdict", words, None if incident.closed_at is None else incident.closed_at, detail=sure
        )
    _note_deliveries(incident, judged.evidence)
    if incident.closed_at is None:
        store.uninhibit(incident, now)
    if not same:
        store.announce(incident)


def _note_deliveries(incident: Incident, evidence: tuple[Evidence, ...]) -> None:
    """Webhooks that do not get through enter the timeline once for each thing that happens to them."""
    told = [piece for piece in evidence if piece.key == "deliveries"]
    if told and not incident.entries.filter(kind=IncidentEntry.Kind.DELIVERIES).exists():
        for piece in told:
            store.write(incident, "deliveries", f"{piece.title}: {piece.text}", detail=piece.sub)
