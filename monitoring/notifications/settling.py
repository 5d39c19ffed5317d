"""What becomes of a message that was tried: sent, to be tried again, given to another channel, or undelivered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from monitoring import alerts
from monitoring.alertmodels import Severity
from monitoring.models import Channel, Notification
from monitoring.notifications import outbox, retries
from monitoring.notifications.outbox import CHANNEL_KIND
from wsmon import live
from wsmon.ids import uuid7
from wsmon.redact import redact

State = Notification.State
LOST = "the process that sent it ended before it knew the answer"
_CHAIN = 10


def sent(claimed: Notification) -> None:
    """It arrived. A channel that failed before works again: what waits for its next try goes at once."""
    now = timezone.now()
    with transaction.atomic():
        channel = _locked(claimed.channel_id)
        rows = Notification.objects.filter(id=claimed.id, state__in=(State.SENDING, State.PENDING))
        rows.update(state=State.SENT, sent_at=now, lease_token=None, lease_until=None, problem="")
        Notification.objects.filter(gathered_in=claimed.id).update(sent_at=now)
        if channel is None:
            return
        if channel.failing_since is not None:
            waiting = Notification.objects.filter(channel=channel, state=State.PENDING, tries__gt=0)
            waiting.update(due_at=now)
            alerts.resolve(f"{CHANNEL_KIND}:{channel.slug}")
            outbox.wake()
        Channel.objects.filter(id=channel.id).update(sent_at=now, failing_since=None, problem="")
        _announce(claimed)


def failed(claimed: Notification, problem: str, *, retry: bool, retry_after: float | None = None) -> None:
    """It did not arrive, as far as is known. Nothing happens when the lease was lost meanwhile."""
    now = timezone.now()
    words = redact(problem)[:300]
    with transaction.atomic():
        channel = _locked(claimed.channel_id)
        mine = Notification.objects.select_for_update()
        row = mine.filter(id=claimed.id, lease_token=claimed.lease_token, state=State.SENDING).first()
        if row is None or channel is None:
            return
        row.tries += 1
        following = retries.after(row.tries, retry=retry and row.kind != "test", retry_after=retry_after)
        row.state = State.PENDING if following.wait is not None else State.FAILED
        row.due_at = now + timedelta(seconds=following.wait or 0)
        row.lease_token, row.lease_until, row.problem = None, None, words
        row.save(update_fields=["tries", "state", "due_at", "lease_token", "lease_until", "problem"])
        Channel.objects.filter(id=channel.id).update(failing_since=channel.failing_since or now, problem=words)
        if following.fall_back and row.kind != "test":
            _fall_back(row, channel, words)
        _announce(row)


def forget(days: int) -> int:
    """Delete messages that ended so many days ago; return how many."""
    oldest = timezone.now() - timedelta(days=days)
    rows = Notification.objects.filter(created_at__lt=oldest)
    return rows.exclude(state__in=(State.PENDING, State.SENDING)).delete()[0]


def _locked(channel_id: int) -> Channel | None:
    rows = Channel.objects.select_for_update(of=("self",), no_key=True).select_related("fallback")
    return rows.filter(id=channel_id).first()


def _fall_back(row: Notification, channel: Channel, problem: str) -> None:
    """Tell another channel, once, and raise an alert: somebody must know that this one does not work.

    Of one that was archived meanwhile nobody need know.
    """
    other = channel.fallback if channel.fallback and channel.fallback.archived_at is None else None
    if other is not None and other.id in _tried(row):
        other = None
    if other is not None:
        _give(row, channel, other)
    if channel.archived_at is not None:
        return
    last = row.state == State.FAILED
    alerts.raise_alert(
        f"{CHANNEL_KIND}:{channel.slug}",
        CHANNEL_KIND,
        Severity.CRITICAL if last and row.severity == Severity.CRITICAL and not _is_known(row) else Severity.WARNING,
        f"Channel {channel.slug} does not take messages",
        f"{problem}. " + (f"{other.slug} is told instead." if other else "No other channel is told instead."),
        "/alerts/",
    )


def _is_known(row: Notification) -> bool:
    """Whether another channel told, or will tell, what a message says."""
    twins = Notification.objects.filter(alert=row.alert_id).exclude(state__in=(State.FAILED, State.DROPPED))
    same = twins.exclude(channel=row.channel_id).exists() if row.alert_id else False
    return same or Notification.objects.filter(fallback_of=row.id).exclude(state=State.FAILED).exists()


def _give(row: Notification, channel: Channel, other: Channel) -> None:
    values: dict[str, Any] = {
        "id": uuid7(),
        "channel": other.id,
        "of": row.id,
        "once": f"fallback:{row.id}",
        "title": row.title,
        "body": f"{row.body}\n\nSent here because {channel.slug} does not take messages.",
    }
    with connection.cursor() as cursor:
        cursor.execute(_GIVE, values)
        if cursor.rowcount:
            outbox.wake()


_GIVE = """
INSERT INTO monitoring_notification (id, channel_id, alert_id, incident_id, kind, once, severity, title, body, url,
    recipient, state, due_at, tries, created_at, problem, fallback_of_id)
SELECT %(id)s, %(channel)s, n.alert_id, n.incident_id, n.kind, %(once)s, n.severity, %(title)s, %(body)s, n.url,
    n.recipient, 'pending', statement_timestamp(), 0, clock_timestamp(), '', n.id
FROM monitoring_notification n WHERE n.id = %(of)s
  AND NOT EXISTS (SELECT 1 FROM monitoring_notification t WHERE t.channel_id = %(channel)s
    AND t.alert_id = n.alert_id AND t.kind = n.kind AND t.state NOT IN ('dropped', 'failed'))
ON CONFLICT (once) DO NOTHING
"""


def _tried(row: Notification) -> set[int]:
    """The channels that a message was given away by."""
    found = {row.channel_id}
    for _ in range(_CHAIN):
        if row.fallback_of_id is None:
            break
        before = Notification.objects.filter(id=row.fallback_of_id).first()
        if before is None:
            break
        row = before
        found.add(row.channel_id)
    return found


def _announce(row: Notification) -> None:
    live.publish("alert", {"alerts": [row.alert_id] if row.alert_id else []})


def undelivered() -> Q:
    """What could not be delivered: messages that did not arrive by their channel, nor by its fallback."""
    arrived = (State.SENT, State.GATHERED)
    by_fallback = Notification.objects.filter(
        channel=OuterRef("channel__fallback"), alert=OuterRef("alert"), kind=OuterRef("kind"), state__in=arrived
    )
    given = Notification.objects.filter(fallback_of=OuterRef("id"), state__in=arrived)
    return Q(state=State.FAILED) & ~Exists(by_fallback) & ~Exists(given)
