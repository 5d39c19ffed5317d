"""Reading what is known of an incident: a handful of bounded queries each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Avg, F, Sum
from django.utils import timezone
from django.utils.module_loading import import_string

import providers
from monitoring import checkstates
from monitoring.breakers.machine import Mode
from monitoring.incidents.connectivity import Reach
from monitoring.incidents.evidence import PHASES, Calls, Facts, Page, Probes, Sibling
from monitoring.incidents.verdict import Evidence
from monitoring.models import Breaker, BreakerMinute, CheckState, Incident, Service, VendorStatus
from providers.base import NOT_A_CALL
from wsmon.vocabulary import Status

logger = structlog.get_logger(__name__)

LOOKED_AT = 2_000
"""Results of one check that are looked at, the newest since it began."""
BEFORE = timedelta(hours=3)
"""What was usual: the healthy results of so long before."""
SAMPLE = 200
SIBLINGS = 5
_MINUTE = timedelta(minutes=1)
_FAILING = (Status.CRITICAL, Status.DEGRADED)
_BAD = (*_FAILING, Status.ERROR)


def read(incident: Incident, reach: Reach, now: datetime | None = None) -> Facts:
    """Everything about one incident until now, or until it closed."""
    until = incident.closed_at or now or timezone.now()
    service = incident.service
    states = checkstates.of_services([service.id])
    checks = _failing(incident, [state for state in states if state.check_ref.kind not in NOT_A_CALL])
    return Facts(
        began_at=incident.began_at,
        category=incident.category,
        label=service.label,
        is_vendor=is_vendor(service),
        probes=_probes(checks, incident.began_at, until),
        calls=_calls(service, incident.began_at, until),
        reach=reach,
        page=page_of(incident),
        siblings=_siblings(service),
        vendor_word=_says(states, "status_page"),
        late_job=_says(states, "heartbeat"),
        elsewhere=_elsewhere(service.id, incident.began_at),
    )


def is_vendor(service: Service) -> bool:
    """Whether it is somebody else's: a generic provider may watch what is our own."""
    provider = providers.find(service.provider)
    return provider is None or not provider.generic


def _failing(incident: Incident, states: Sequence[CheckState]) -> dict[int, str]:
    """The checks that failed in the incident, by id: what they are said to be now, or their changes since."""
    names = {state.check_ref_id: state.check_ref.name for state in states}
    found = {state.check_ref_id for state in states if state.status in _BAD}
    if not found or incident.closed_at:
        changes = incident.service.changes.filter(at__gte=incident.began_at, check_ref__in=names, new__in=_BAD)
        if incident.closed_at:
            changes = changes.filter(at__lte=incident.closed_at)
        found |= set(changes.values_list("check_ref_id", flat=True))
    return {key: name for key, name in names.items() if key in found}


def _says(states: Sequence[CheckState], kind: str) -> str:
    """What a check of a kind that calls nobody says, while it is not healthy; empty otherwise."""
    said = (state.message for state in states if state.check_ref.kind == kind and state.status in _FAILING)
    return next(said, "")


_SINCE = """
SELECT r.outcome, r.category, r.http_status, r.dns_ms, r.connect_ms, r.tls_ms, r.first_byte_ms
FROM unnest(%(checks)s::bigint[]) AS c(id) CROSS JOIN LATERAL (
    SELECT * FROM service_health_metrics m WHERE m.check_id = c.id AND NOT m.manual
      AND m.at >= %(since)s AND m.at <= %(until)s ORDER BY m.at DESC, m.id DESC LIMIT %(most)s
) r
"""
_USUAL = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY r.dns_ms),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY r.connect_ms),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY r.tls_ms),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY r.first_byte_ms)
FROM unnest(%(checks)s::bigint[]) AS c(id) CROSS JOIN LATERAL (
    SELECT * FROM service_health_metrics m WHERE m.check_id = c.id AND NOT m.manual AND m.outcome = 'healthy'
      AND m.at >= %(since)s AND m.at < %(until)s ORDER BY m.at DESC, m.id DESC LIMIT %(most)s
) r
"""


def _probes(checks: dict[int, str], since: datetime, until: datetime) -> Probes:
    if not checks:
        return Probes()
    ids = list(checks)
    with connection.cursor() as cursor:
        cursor.execute(_SINCE, {"checks": ids, "since": since, "until": until, "most": LOOKED_AT})
        rows = cursor.fetchall()
        cursor.execute(_USUAL, {"checks": ids, "since": since - BEFORE, "until": since, "most": SAMPLE})
        usual = cursor.fetchone()
    bad = [row for row in rows if row[0] != Status.HEALTHY]
    statuses = Counter(row[2] for row in bad if row[2] is not None)
    return Probes(
        total=len(rows),
        checks=tuple(checks.values()),
        categories=dict(Counter(row[1] for row in bad if row[1])),
        http_status=statuses.most_common(1)[0][0] if statuses else None,
        now=_medians([row[3:] for row in bad]),
        before={name: value for name, value in zip(PHASES, usual, strict=True) if value is not None},
    )


def _medians(rows: Sequence[Sequence[float | None]]) -> dict[str, float]:
    found = {}
    for place, name in enumerate(PHASES):
        values = sorted(value for row in rows if (value := row[place]) is not None)
        if values:
            found[name] = values[len(values) // 2]
    return found


_PROBED = """
SELECT count(*) FILTER (WHERE r.outcome IN ('healthy', 'degraded')), count(*) FILTER (WHERE r.outcome = 'critical')
FROM monitoring_configuration c JOIN service_health_metrics r ON r.check_id = c.id
WHERE c.service_id = %s AND NOT c.kind = ANY(%s) AND NOT r.manual AND r.at >= %s AND r.at < %s
"""


def _calls(service: Service, since: datetime, until: datetime) -> Calls:
    """What the breaker counted, less our own probes, which it counts too. By whole minutes."""
    since, until = since.replace(second=0, microsecond=0), until.replace(second=0, microsecond=0) + _MINUTE
    minutes = BreakerMinute.objects.filter(service=service.id, start__gte=since, start__lt=until)
    sums: dict[str, Any] = minutes.aggregate(ok=Sum("ok"), fail=Sum("fail"))
    ok, failed = sums["ok"] or 0, sums["fail"] or 0
    if ok + failed:
        with connection.cursor() as cursor:
            cursor.execute(_PROBED, [service.id, list(NOT_A_CALL), since, until])
            probed_ok, probed_failed = cursor.fetchone()
        ok, failed = max(ok - probed_ok, 0), max(failed - probed_failed, 0)
    row = Breaker.objects.filter(service=service.id).first()
    if row is None:
        return Calls(ok, failed)
    cause = row.cause if row.state != Mode.CLOSED else ""
    return Calls(ok, failed, cause, row.forced_by if row.forced == Mode.OPEN else "")


def page_of(incident: Incident) -> Page | None:
    """What the vendor says of itself."""
    host = status_host(incident.service)
    if not host:
        return None
    row = VendorStatus.objects.filter(provider=incident.service.provider).first()
    if row is None:
        return None
    late = admits_after(incident.service.provider, incident.id)
    text = row.text or ("" if not row.problem else row.problem)
    return Page(host, "" if row.problem else row.indicator, text, row.read_at, late, incident.admitted_at)


def status_host(service: Service) -> str:
    """The host of its vendor's status page; empty when none is known."""
    provider = providers.find(service.provider)
    page = provider.status_page if provider else None
    return urlsplit(page.url).netloc if page else ""


def admits_after(provider: str, but: int = 0) -> float | None:
    """Seconds until a vendor admitted an incident, on average over those that it did admit; None without any."""
    rows = Incident.objects.filter(service__provider=provider, admitted_at__isnull=False).exclude(id=but)
    found = rows.aggregate(mean=Avg(F("admitted_at") - F("began_at")))["mean"]
    return None if found is None else max(found.total_seconds(), 0.0)


def _siblings(service: Service) -> list[Sibling]:
    """The vendor's other services: by the same status page, or by the same provider."""
    host = status_host(service)
    slugs = [service.provider] if is_vendor(service) else []
    if host:
        pages = ((slug, providers.get(slug).status_page) for slug in providers.names())
        slugs = [slug for slug, page in pages if page and urlsplit(page.url).netloc == host]
    rows = Service.objects.filter(provider__in=slugs, archived_at=None).exclude(id=service.id).order_by("slug")
    open_ = {row.service_id: row for row in Incident.objects.filter(service__in=rows, closed_at=None)}
    found = []
    for row in rows.exclude(status__in=(Status.UNKNOWN, Status.PAUSED, Status.NOT_CONFIGURED))[:SIBLINGS]:
        incident = open_.get(row.id)
        if incident is not None:
            found.append(Sibling(row.label, False, incident.title, f"/incidents/{incident.id}/"))
        elif row.status == Status.HEALTHY:
            found.append(Sibling(row.label, True, "", f"/services/{row.slug}/"))
    return found


def _elsewhere(service_id: int, since: datetime) -> list[Evidence]:
    """What other rooms know; one that fails is left out, for the verdict must not hang on it."""
    found: list[Evidence] = []
    for path in settings.EVIDENCE:
        try:
            found += import_string(path)(service_id, since)
        except Exception:
            logger.exception("evidence_failed", function=path)
    return found
