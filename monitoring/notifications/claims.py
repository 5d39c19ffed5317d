"""Claiming messages that are due: channel by channel, SKIP LOCKED, and a lease that runs out.

Who claims holds the channel's row for that moment, so that its pace and the order of what it tells hold over
every process. A sender that dies loses its leases by time: its messages are sent again, at least once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import messages, pacing
from monitoring.notifications.messages import DIGEST, GATHERED, STORM, TEST, Line
from monitoring.notifications.pacing import Lately
from wsmon.ids import uuid7

SEND_SECONDS = 15.0
"""Within which a message must have been taken by its channel."""
LEASE_SECONDS = SEND_SECONDS + 10
MOST_GATHERED = 20_000
"""Lines of one message; more are left for the next."""

WHOLE = [*GATHERED, TEST]
"""Kinds of messages that are not gathered into another."""

State = Notification.State

# Due, or written in what is now the future: then the clock went back.
_DUE = "(n.due_at <= statement_timestamp() OR n.created_at > statement_timestamp() + interval '1 minute')"

_CHANNELS = f"""
SELECT DISTINCT n.channel_id FROM monitoring_notification n WHERE n.state = 'pending' AND {_DUE}
"""  # noqa: S608  made of constants

# What nobody needs any more, or nobody is to be told of now (that is told once the reason is over). The alerts are
# locked first, as by whoever raises them; one that somebody else holds has its messages sent.
_NEEDLESS = f"""
SELECT a.id, n.id, CASE WHEN a.resolved_at IS NOT NULL THEN 'over before it was due'
    WHEN a.inhibited_by <> '' THEN left('inhibited by ' || a.inhibited_by, 300)
    ELSE 'acknowledged before it was due' END
FROM monitoring_notification n JOIN service_alerts a ON a.id = n.alert_id
WHERE n.state = 'pending' AND n.tries = 0 AND n.fallback_of_id IS NULL AND n.channel_id = %s AND {_DUE} AND (
    (n.kind IN ('reminder', 'escalated') AND (a.resolved_at IS NOT NULL OR a.acknowledged_at IS NOT NULL))
    OR (n.kind <> 'resolved' AND a.inhibited_by <> '' AND a.resolved_at IS NULL))
ORDER BY a.id FOR NO KEY UPDATE OF a SKIP LOCKED
"""  # noqa: S608  made of constants
_DROP = """
UPDATE monitoring_notification n SET state = 'dropped', problem = x.why
FROM unnest(%s::uuid[], %s::text[]) AS x(id, why) WHERE n.id = x.id AND n.state = 'pending' AND n.tries = 0
"""

# Of each alert the first that is not out yet: nobody hears of an end before the beginning.
_WAITING = f"""
FROM monitoring_notification n
WHERE n.channel_id = %(channel)s AND n.state = 'pending' AND {_DUE} AND NOT EXISTS (
    SELECT 1 FROM monitoring_notification e
    WHERE e.alert_id = n.alert_id AND e.channel_id = n.channel_id AND e.id <> n.id
      AND e.state IN ('pending', 'sending') AND (e.created_at, e.id) < (n.created_at, n.id))
"""  # noqa: S608  made of constants

_COUNT = f"""
SELECT count(*) FILTER (WHERE NOT n.kind = ANY(%(whole)s)), count(*) FILTER (WHERE n.kind = ANY(%(whole)s))
FROM monitoring_notification n WHERE n.channel_id = %(channel)s AND n.state = 'pending' AND {_DUE}
"""  # noqa: S608  made of constants

_CLAIM = f"""
UPDATE monitoring_notification SET state = 'sending', lease_token = gen_random_uuid(),
    lease_until = statement_timestamp() + make_interval(secs => %(lease)s)
WHERE id IN (SELECT n.id {_WAITING} ORDER BY n.due_at, n.created_at LIMIT %(limit)s)
RETURNING id
"""  # noqa: S608  made of constants

_GATHER = f"""
UPDATE monitoring_notification SET state = 'gathered', gathered_in_id = %(into)s, problem = ''
WHERE id = ANY(ARRAY(
    SELECT n.id FROM monitoring_notification n
    WHERE n.channel_id = %(channel)s AND n.state = 'pending' AND {_DUE} AND NOT n.kind = ANY(%(whole)s)
    ORDER BY n.due_at LIMIT %(limit)s))
RETURNING kind, severity, title, alert_id, created_at
"""  # noqa: S608  made of constants


def claim(room: int) -> list[Notification]:
    """Claim up to ``room`` messages that are due, each ours to send until its lease runs out.

    With their channels and alerts. The lease's token is theirs as they were claimed.
    """
    found: list[Notification] = []
    with connection.cursor() as cursor:
        cursor.execute(_CHANNELS)
        channels = [row[0] for row in cursor.fetchall()]
    for channel_id in channels:
        if len(found) >= room:
            break
        found += claim_of(channel_id, room - len(found))
    return found


def claim_of(channel_id: int, room: int) -> list[Notification]:
    """Claim what may go out by one channel now; nothing when another process is at it."""
    with transaction.atomic():
        channel = _take(channel_id)
        if channel is None:
            return []
        _drop_needless(channel.id)
        loose, whole = _waiting(channel.id)
        lately = _lately(channel)
        if whole:  # one that counts others waits for no other count
            lately = replace(lately, storm_at=None)
        pace = pacing.pace(loose + whole, lately, channel.max_per_hour, timezone.now(), digest=bool(channel.digest))
        if pace.gather and loose > 1:
            return _lease([_gather(channel)])
        return _lease(_some(channel.id, min(pacing.AT_ONCE if pace.gather else pace.singly, room)))


def full_until(channel: Channel, now: datetime) -> datetime | None:
    """Until when a channel sends nothing because it has sent too much; None: it may."""
    return pacing.full_until(_lately(channel), channel.max_per_hour, now)


def release_expired() -> list[Notification]:
    """The messages of senders that died, as they were claimed, to be counted as tried; the caller settles."""
    late = Q(lease_until__lte=Now()) | Q(lease_until__gt=timezone.now() + timedelta(minutes=10))
    with transaction.atomic():
        rows = Notification.objects.select_for_update(skip_locked=True)
        return list(rows.filter(late, state=State.SENDING)[:100])


def _take(channel_id: int) -> Channel | None:
    """The channel, held till the end of the transaction. An archived one loses what waits for it."""
    rows = Channel.objects.select_for_update(skip_locked=True, no_key=True)
    channel = rows.filter(id=channel_id).first()
    if channel is not None and channel.archived_at is not None:
        waiting = Notification.objects.filter(channel=channel, state=State.PENDING)
        waiting.update(state=State.DROPPED, problem="the channel was taken out of use")
        return None
    return channel


def _drop_needless(channel_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_NEEDLESS, [channel_id])
        rows = cursor.fetchall()
        if not rows:
            return
        alerts, messages, whys = (list(column) for column in zip(*rows, strict=True))
        cursor.execute(_DROP, [messages, whys])
    Alert.objects.filter(id__in=set(alerts), resolved_at=None).exclude(inhibited_by="").update(told_severity="")


def _lately(channel: Channel) -> Lately:
    """What it sent in the last hour, and what is on its way.

    Asked at each claim, so each part has an index of its own: however much a channel had, no more rows are read than
    it may send in an hour.
    """
    now = timezone.now()
    sent, under_way, storms = _lately_rows(channel, now)
    return Lately(
        sent=[at for at in sent if at],
        under_way=under_way.count(),
        storm_at=storms.first(),
    )


def _lately_rows(
    channel: Channel, now: datetime
) -> tuple[QuerySet[Any, datetime | None], QuerySet[Any], QuerySet[Any, datetime]]:
    """When it sent what, newest first; what is on its way; when messages were gathered, newest first."""
    rows, hour = Notification.objects.filter(channel=channel), now - timedelta(hours=1)
    sent = rows.filter(state=State.SENT, sent_at__gt=hour).exclude(kind=TEST).order_by("-sent_at")
    under_way = rows.filter(state=State.SENDING, lease_until__gt=now).exclude(kind=TEST)
    storms = rows.filter(kind=STORM, fallback_of=None, created_at__gt=hour).order_by("-created_at")
    return (
        sent.values_list("sent_at", flat=True)[: max(channel.max_per_hour, 1)],
        under_way,
        storms.values_list("created_at", flat=True),
    )


def _waiting(channel_id: int) -> tuple[int, int]:
    """How many messages wait that can be gathered, and how many that are of their own."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"channel": channel_id, "whole": WHOLE})
        loose, whole = cursor.fetchone()
    return loose, whole


def _some(channel_id: int, limit: int) -> Sequence[uuid.UUID]:
    if limit <= 0:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"channel": channel_id, "limit": limit, "lease": LEASE_SECONDS})
        return [row[0] for row in cursor.fetchall()]


def _gather(channel: Channel) -> uuid.UUID:
    """One message of all that wait for a channel; it is ours to send."""
    number = uuid7()
    values: dict[str, Any] = {
        "into": number,
        "channel": channel.id,
        "whole": WHOLE,
        "limit": MOST_GATHERED,
    }
    with connection.cursor() as cursor:
        cursor.execute(_GATHER, values)
        rows = cursor.fetchall()
    kind = DIGEST if channel.digest else STORM
    severity, title, body = messages.gather(_lines(rows), kind, timezone.get_default_timezone())
    Notification.objects.create(
        id=number,
        channel=channel,
        kind=kind,
        once=f"gathered:{number}",
        severity=severity,
        title=title,
        body=body,
        url="/alerts/",
        state=State.SENDING,
        lease_token=uuid.uuid4(),
        lease_until=timezone.now() + timedelta(seconds=LEASE_SECONDS),
    )
    return number


def _lines(rows: Sequence[tuple[str, str, str, int | None, datetime]]) -> list[Line]:
    alerts = {row[3] for row in rows if row[3] is not None}
    over = set(Alert.objects.filter(id__in=alerts, resolved_at__isnull=False).values_list("id", flat=True))
    return [Line(kind, severity, title, at, alert in over) for kind, severity, title, alert, at in rows]


def _lease(ids: Sequence[uuid.UUID]) -> list[Notification]:
    rows = Notification.objects.select_related("channel", "alert").filter(id__in=ids)
    return list(rows.order_by("due_at", "created_at"))
