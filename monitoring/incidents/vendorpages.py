"""What vendors say of themselves: their status pages, read each minute while something is wrong, else each five.

A page that cannot be read says nothing about its vendor. Work that a vendor announces becomes a maintenance window
of its services, made once for each, moved and cancelled along with the announcement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

import providers
from monitoring import actions, storable, variables
from monitoring.incidents import store
from monitoring.models import Incident, MaintenanceWindow, Service, VendorStatus
from providers import status_formats, status_page
from providers.base import Provider, StatusPage
from providers.status_formats import Maintenance, Word
from providers.status_page import Look, Unreadable
from wsmon import live
from wsmon.audit import Actor, record
from wsmon.http import http_client
from wsmon.redact import redact

logger = structlog.get_logger(__name__)

EVERY, EVERY_IN_TROUBLE = timedelta(minutes=5), timedelta(minutes=1)
_SLACK = timedelta(seconds=5)
"""A nudge that comes a little early still counts."""
TIMEOUT = 15.0
POSTS, WORKS = 10, 20
"""Open posts and announcements that are kept of a page."""
LONGEST_WORK = timedelta(hours=24)
"""Longer work is told of but holds no alert: a vendor's year-long migration must not silence an outage."""
AHEAD = timedelta(days=60)
EARLIER = timedelta(hours=1)
"""A post may be so much older than what we saw, and still be about it."""

INDICATORS = {
    Word.OPERATIONAL: "none",
    Word.MAINTENANCE: "minor",
    Word.DEGRADED: "minor",
    Word.PARTIAL_OUTAGE: "major",
    Word.MAJOR_OUTAGE: "critical",
}
WORDS = {"none": "All systems operational", "minor": "minor trouble", "major": "partial outage", "critical": "outage"}


@dataclass(frozen=True, slots=True)
class Due:
    """A page that is to be read now."""

    provider: Provider
    page: StatusPage
    etag: str = ""


def read_due(now: datetime | None = None) -> int:
    """Each minute: read the pages that are due; how many. Makes HTTP requests."""
    return sum(read(one, now) for one in due(now or timezone.now()))


def due(now: datetime) -> list[Due]:
    """The status pages of the vendors in use that are due."""
    used = set(Service.objects.filter(archived_at=None).values_list("provider", flat=True).order_by())
    troubled = set(Incident.objects.filter(closed_at=None).values_list("service__provider", flat=True).order_by())
    known = VendorStatus.objects.in_bulk(used)
    found = []
    for slug in sorted(used):
        provider = providers.find(slug)
        page = provider.status_page_with(variables.resolve(provider, "{}")) if provider else None
        row = known.get(slug)
        every = EVERY_IN_TROUBLE if slug in troubled else EVERY
        if provider and page and (row is None or _is_due(row.read_at, every, now)):
            found.append(Due(provider, page, row.etag if row and not row.problem else ""))
    return found


def _is_due(read_at: datetime | None, every: timedelta, now: datetime) -> bool:
    if read_at is None or read_at > now + every:  # the clock went back
        return True
    return now - read_at >= every - _SLACK


def read(one: Due, now: datetime | None = None) -> bool:
    """Read one page and keep what it says; whether it could be read."""
    problem, seen = "", None
    try:
        seen = status_page.look(http_client(), one.page, TIMEOUT, one.etag)
    except Unreadable as error:
        problem = redact(error.why)
    except Exception:
        logger.exception("status_page_failed", provider=one.provider.slug)
        problem = "wsmon failed to read it; see its log"
    try:
        keep(one.provider.slug, seen, problem, now or timezone.now())
    except Exception:  # one page must not keep the others from being read
        logger.exception("status_page_not_kept", provider=one.provider.slug)
        return False
    return not problem


# Keeping ----------------------------------------------------------------------------------------------


@transaction.atomic
def keep(provider: str, seen: Look | None, problem: str, now: datetime) -> VendorStatus:
    """Store what a page says, and what follows from it. No ``seen`` and no ``problem``: the same as before."""
    VendorStatus.objects.get_or_create(provider=provider)
    row = VendorStatus.objects.select_for_update().get(provider=provider)
    before = (row.indicator, row.text, row.posts)
    row.read_at, row.problem = now, storable.text(problem, 300)
    if seen is not None:
        row.indicator, row.text = INDICATORS[seen.word], storable.text(_text(seen), 300)
        row.posts, row.etag = [_post(post) for post in seen.incidents[:POSTS]], seen.etag
        row.maintenance = _settle_works(provider, row.maintenance, seen.maintenances, now)
        if (row.indicator, row.text, row.posts) != before:
            row.changed_at = now
    row.save()
    if not problem:
        _tell_incidents(row, before, now)
    return row


def _text(seen: Look) -> str:
    if seen.incidents:
        return seen.incidents[0].title
    worst = max(seen.components, key=lambda part: part.word, default=None)
    if worst is not None and worst.word is not Word.OPERATIONAL:
        return f"{worst.name}: {worst.word.text}"
    return WORDS[INDICATORS[seen.word]]


def _post(post: status_formats.Incident) -> dict[str, Any]:
    return {
        "id": storable.text(post.id or post.title, 100),
        "title": storable.text(post.title, 200),
        "status": storable.text(post.status, 40),
        "at": post.at.isoformat() if post.at else None,
        "url": post.url,
    }


def _tell_incidents(row: VendorStatus, before: tuple[str, str, list[Any]], now: datetime) -> None:
    """Note in the vendor's open incidents what it newly says, and when it first admitted trouble."""
    rows = Incident.objects.select_for_update(of=("self",)).select_related("service").filter(closed_at=None)
    admits, had = row.indicator not in ("", "none"), before[0] not in ("", "none")
    known = {(post["id"], post["status"]) for post in before[2]}
    for incident in rows.filter(service__provider=row.provider).order_by("id"):
        first = admits and incident.admitted_at is None
        if first:
            incident.admitted_at = _admitted(row, incident, now)
            incident.save(update_fields=["admitted_at"])
        news = [post for post in row.posts if first or (post["id"], post["status"]) not in known]
        for post in news if admits else []:
            status = f" ({post['status']})" if post["status"] else ""
            store.write(incident, "vendor", f"The vendor says: {post['title']}{status}", now, detail=post["url"])
        if first and not news:
            store.write(incident, "vendor", f"The vendor admits it: {row.text}", now)
        elif had and not admits and incident.admitted_at:
            store.write(incident, "vendor", "The vendor says that it is over", now)
        if first or news or had != admits:
            store.announce(incident)


def _admitted(row: VendorStatus, incident: Incident, now: datetime) -> datetime:
    """When it first said so: the time of its post, where that is about the same trouble."""
    times = [datetime.fromisoformat(post["at"]) for post in row.posts if post["at"]]
    near = [at for at in times if incident.began_at - EARLIER <= at <= now]
    return max(min(near), incident.began_at) if near else now


# Announced work -----------------------------------------------------------------------------------------


def _settle_works(
    provider: str, before: list[dict[str, Any]], works: Iterable[Maintenance], now: datetime
) -> list[dict[str, Any]]:
    """Bring the maintenance windows in step with what is announced; what to remember of it."""
    windows = {one["id"]: dict(one.get("windows") or {}) for one in before}
    found = []
    for work in list(works)[:WORKS]:
        if work.ends_at > now and work.starts_at < now + AHEAD:
            held = work.ends_at - work.starts_at <= LONGEST_WORK
            made = dict(_windows(provider, work, windows.pop(work.id, {}))) if held else {}
            found.append(_work(work) | {"windows": made})
    for gone in windows.values():
        for window in MaintenanceWindow.objects.filter(id__in=gone.values(), cancelled_at=None, ends_at__gt=now):
            actions.cancel_maintenance(window, _actor(provider))
    return found


def _work(work: Maintenance) -> dict[str, Any]:
    return {
        "id": work.id,
        "title": storable.text(work.title, 200),
        "starts_at": work.starts_at.isoformat(),
        "ends_at": work.ends_at.isoformat(),
        "url": work.url,
    }


def _windows(provider: str, work: Maintenance, known: dict[str, int]) -> Iterator[tuple[str, int]]:
    """One window for each of the vendor's services: the one that was made before, moved, or a new one."""
    for service in Service.objects.filter(provider=provider, archived_at=None).order_by("id"):
        window_id = known.pop(service.slug, None)
        window = MaintenanceWindow.objects.filter(id=window_id).first() if window_id else None
        if window is None:
            reason = f"{work.title} (announced by the vendor)"
            window = actions.start_maintenance(service, work.starts_at, work.ends_at, reason, _actor(provider))
        elif window.cancelled_at is None and (window.starts_at, window.ends_at) != (work.starts_at, work.ends_at):
            window.starts_at, window.ends_at = work.starts_at, work.ends_at
            window.save(update_fields=["starts_at", "ends_at"])
            times = {"starts_at": work.starts_at.isoformat(), "ends_at": work.ends_at.isoformat()}
            record(_actor(provider), "maintenance.move", f"service:{service.slug}", work.title, **times)
            live.publish("state", {"services": [service.id]})
        yield service.slug, window.id


def _actor(provider: str) -> Actor:
    return Actor.system(f"vendor:{provider}")
