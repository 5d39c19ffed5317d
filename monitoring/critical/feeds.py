"""iCal feeds: read now and then, the last good one kept. Whoever needs a calendar from outside comes here.

A feed belongs to an owner, such as ``critical:fairs`` or ``rotation:ops``. :func:`read_due` reads those whose time
has come, outside any transaction; :func:`events` answers from what is kept, without any HTTP. A feed that is
broken, too large or away for long leaves the last good calendar in force and raises an alert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from django.db import transaction

from monitoring import alerts, storable
from monitoring.alertmodels import Severity
from monitoring.critical import icalevents
from monitoring.critical.icalevents import BadCalendar, CalendarEvent
from monitoring.models import CalendarFeed
from wsmon import secrets
from wsmon.http import HttpError, http_client
from wsmon.redact import redact

EVERY = timedelta(minutes=15)
AFTER_A_PROBLEM = timedelta(minutes=5)
PATIENCE = timedelta(hours=1)
"""For so long a feed may be away before that is an alert; what it says can be wrong at once."""
LARGEST = 2_097_152
TIMEOUT = 20.0
ALERT_KIND = "calendar_feed"
PAGE = "/critical-days/"


@dataclass(frozen=True, slots=True)
class Read:
    """What one reading found. ``problem`` empty: it went well; ``text`` None: nothing new."""

    text: str | None = None
    etag: str = ""
    problem: str = ""
    remark: str = ""
    broken: bool = False
    """The feed answered, with something that is no use: waiting does not help."""


def read_due(wanted: Mapping[str, str], kind: str, now: datetime) -> int:
    """Read the feeds of ``wanted`` (owner -> URL, or a reference to it) that are due; return how many were.

    Every owner begins with ``kind`` and a colon; feeds of that kind that nobody wants any more are forgotten.
    """
    known = {feed.owner: feed for feed in CalendarFeed.objects.filter(owner__startswith=f"{kind}:").defer("text")}
    for owner in set(known) - set(wanted):
        forget(owner)
    due = [owner for owner in wanted if is_due(known.get(owner), now)]
    for owner in due:
        feed = known.get(owner)
        keep(owner, fetch(wanted[owner], feed.etag if feed else "", now), now)
    return len(due)


def is_due(feed: CalendarFeed | None, now: datetime) -> bool:
    """Whether a feed is to be read again; one that was read in the future is, since the clock went back."""
    if feed is None or feed.tried_at is None or feed.tried_at > now:
        return True
    return now - feed.tried_at >= (AFTER_A_PROBLEM if _failed(feed) else EVERY)


def fetch(reference: str, etag: str, now: datetime) -> Read:
    """Read a feed once. Nothing of its URL or content gets into a message."""
    try:
        url = _url(secrets.dereference(reference))
        headers = {"Accept": "text/calendar, */*;q=0.1"} | ({"If-None-Match": etag} if etag else {})
        answer = http_client().get(
            url, headers=headers, timeout=TIMEOUT, max_bytes=LARGEST, redirects="follow", secrets=[url]
        )
    except secrets.Unresolvable as problem:
        return Read(problem=str(problem), broken=True)
    except HttpError as problem:
        return Read(problem=problem.message)
    if answer.status == 304 and etag:
        return Read(etag=etag)
    if not answer.ok:
        gone = answer.status in (401, 403, 404, 410)
        return Read(problem=f"it answered {answer.status}", broken=gone)
    if answer.truncated:
        return Read(problem=f"it is larger than {LARGEST // 1_048_576} MiB", broken=True)
    try:
        cleaned = icalevents.clean(answer.text(), now)
        icalevents.between(cleaned.text, now, now + timedelta(days=1), ZoneInfo("UTC"))
    except BadCalendar as problem:
        return Read(problem=str(problem), broken=True)
    remark = f"{cleaned.left_out} of its events cannot be used and are left out" if cleaned.left_out else ""
    return Read(cleaned.text, answer.headers.get("etag", "")[:200], remark=remark)


def keep(owner: str, read: Read, now: datetime) -> None:
    """Store what a reading found, and raise or resolve the feed's alert."""
    with transaction.atomic():
        CalendarFeed.objects.bulk_create([CalendarFeed(owner=owner)], ignore_conflicts=True)
        feed = CalendarFeed.objects.select_for_update().get(owner=owner)
        had_failed, feed.tried_at = _failed(feed), now
        if read.problem:
            feed.problem = storable.text(redact(read.problem), 300)
        elif read.text is None:
            feed.read_at = now
            feed.problem = "" if had_failed else feed.problem
        else:
            feed.text, feed.etag, feed.read_at, feed.problem = read.text, read.etag, now, read.remark
        feed.save()
        _alert(feed, read, now)


def forget(owner: str) -> None:
    """Nobody wants this feed any more."""
    with transaction.atomic():
        CalendarFeed.objects.filter(owner=owner).delete()
        alerts.resolve(_key(owner))


def events(
    owner: str, since: datetime, until: datetime, zone: ZoneInfo, wanted: Callable[[str], bool] | None = None
) -> list[CalendarEvent]:
    """What the kept calendar of an owner has from ``since`` to ``until``; nothing when none was read yet."""
    found = CalendarFeed.objects.filter(owner=owner).values_list("text", flat=True).first()
    return icalevents.events_of(found or "", since, until, zone, wanted)


def _failed(feed: CalendarFeed) -> bool:
    """Whether the last try went wrong; a remark about a calendar that was read is no failure."""
    return bool(feed.problem) and (feed.read_at is None or feed.tried_at is None or feed.read_at < feed.tried_at)


def _alert(feed: CalendarFeed, read: Read, now: datetime) -> None:
    if not read.problem:
        alerts.resolve(_key(feed.owner))
        return
    if not read.broken and feed.read_at is not None and now - feed.read_at < PATIENCE:
        return
    kept = f"The one read {feed.read_at:%F %R} UTC stays in force." if feed.read_at else "None was read yet."
    alerts.raise_alert(
        _key(feed.owner),
        ALERT_KIND,
        Severity.WARNING,
        f"The calendar of {feed.owner} cannot be read",
        f"{feed.problem}. {kept}",
        PAGE,
    )


def _key(owner: str) -> str:
    return f"calendar-feed:{owner}"


def _url(text: str) -> str:
    """The address to ask: ``webcal:`` is what calendars call https."""
    parts = urlsplit(text.strip())
    return urlunsplit(parts._replace(scheme="https")) if parts.scheme in ("webcal", "webcals") else text.strip()
