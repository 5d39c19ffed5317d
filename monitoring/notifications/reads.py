"""What the alerts' page shows: open alerts and who was told, channels and how they do, what was not delivered."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from monitoring import alerts
from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import channels, quiet
from monitoring.notifications.settling import State, undelivered

ALERTS_SHOWN = 200
MESSAGES_SHOWN = 30
UNDELIVERED_DAYS = 7
TOLD_SHOWN = 6
WORDS = {
    "pending": "waits",
    "sending": "is being sent",
    "sent": "told",
    "gathered": "told, with others",
    "dropped": "not needed",
    "failed": "not delivered",
}
MARKS = {"pending": "unknown", "sending": "unknown", "sent": "healthy", "gathered": "healthy", "failed": "critical"}
_KINDS = {
    "opened": "opened",
    "worse": "got worse",
    "reminder": "reminder",
    "escalated": "escalation",
    "resolved": "resolved",
    "digest": "digest",
    "storm": "many at once",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One message as people read it."""

    row: Notification

    @property
    def word(self) -> str:
        """What became of it; one that was tried says so."""
        if self.row.state == State.PENDING and self.row.tries:
            return f"tried {self.row.tries}×, tried again"
        return WORDS[self.row.state]

    @property
    def mark(self) -> str:
        """The shape and colour of that."""
        if self.row.state == State.PENDING and self.row.tries:
            return "degraded"
        return MARKS.get(self.row.state, "paused")

    @property
    def at(self) -> datetime:
        """When it arrived, or when it was written."""
        return self.row.sent_at or self.row.created_at

    @property
    def kind(self) -> str:
        """What it says, in a word."""
        return _KINDS.get(self.row.kind, self.row.kind)

    @property
    def waits(self) -> bool:
        """Whether its time is still to come."""
        return self.row.state == State.PENDING and self.row.due_at > timezone.now()


@dataclass(frozen=True, slots=True)
class AlertView:
    """An open alert and what the channels know of it, newest first."""

    alert: Alert
    told: Sequence[Told] = ()
    more: int = 0
    """Messages that are not shown."""

    @property
    def nobody(self) -> bool:
        """Whether no channel has it or will have it."""
        return not any(one.row.state not in (State.DROPPED, State.FAILED) for one in self.told)


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel and how it does."""

    channel: Channel
    kind: str
    waiting: int = 0
    sent: int = 0
    """In the last 24 hours, without those that went as a line of another."""
    failed: int = 0
    quiet_until: datetime | None = None
    problem: str = field(default="")

    @property
    def mark(self) -> str:
        """The shape and colour that stand for it."""
        if self.kind == "not configured":
            return "not_configured"
        if self.channel.failing_since is not None:
            return "critical"
        return "healthy" if self.channel.sent_at else "unknown"

    @property
    def word(self) -> str:
        """How it does, in a word."""
        words = {"not_configured": "Not configured", "critical": "Failing", "healthy": "Works"}
        return words.get(self.mark, "Not used yet")


def open_views() -> list[AlertView]:
    """Open alerts, the most urgent first; those that somebody has, or that are inhibited, after the others."""
    found = alerts.open_alerts()
    found.sort(key=lambda one: (bool(one.acknowledged_at), bool(one.inhibited_by)))
    found = found[:ALERTS_SHOWN]
    told = _told(found)
    return [
        AlertView(one, told.get(one.id, [])[:TOLD_SHOWN], max(0, len(told.get(one.id, [])) - TOLD_SHOWN))
        for one in found
    ]


def open_count() -> int:
    """How many open alerts wait for somebody, for the navigation."""
    return Alert.objects.filter(resolved_at=None, acknowledged_at=None, inhibited_by="").count()


def channel_views() -> list[ChannelView]:
    """The channels in use."""
    rows = Channel.objects.filter(archived_at=None).select_related("fallback").order_by("slug")
    return list(_views(rows))


def channel_view(slug: str) -> ChannelView | None:
    """One of them."""
    rows = Channel.objects.filter(archived_at=None, slug=slug).select_related("fallback")
    return next(iter(_views(rows)), None)


def undelivered_rows() -> list[Told]:
    """What nobody got by a channel in the last days, nor by the one that is told instead."""
    since = timezone.now() - timedelta(days=UNDELIVERED_DAYS)
    rows = _messages().filter(undelivered(), created_at__gt=since).exclude(kind="test")
    return [Told(row) for row in rows.order_by("-created_at", "-id")[:MESSAGES_SHOWN]]


def messages(before: uuid.UUID | None = None) -> list[Told]:
    """The newest messages, or those before one; one more than a page shows, if there is one."""
    rows = _messages().filter(gathered_in=None)
    rows = rows.filter(id__lt=before) if before else rows
    counted = rows.annotate(line_count=Count("lines")).order_by("-id")
    return [Told(row) for row in counted[: MESSAGES_SHOWN + 1]]


def _messages() -> QuerySet[Notification]:
    return Notification.objects.select_related("channel", "alert", "fallback_of__channel")


def _told(found: Iterable[Alert]) -> dict[int, list[Told]]:
    rows = _messages().filter(alert__in=[one.id for one in found]).order_by("-created_at", "-id")
    told: dict[int, list[Told]] = {}
    for row in rows:
        told.setdefault(row.alert_id or 0, []).append(Told(row))
    return told


def _views(rows: QuerySet[Channel]) -> Iterable[ChannelView]:
    found = list(rows)
    numbers = _numbers([channel.id for channel in found])
    now = timezone.now()
    for channel in found:
        waiting, sent, failed = numbers.get(channel.id, (0, 0, 0))
        yield ChannelView(
            channel=channel,
            kind=channels.kind_of(channel),
            waiting=waiting,
            sent=sent,
            failed=failed,
            quiet_until=quiet.quiet_until(quiet.read(channel.quiet_hours), now),
            problem=channel.problem or _unresolved(channel),
        )


def _unresolved(channel: Channel) -> str:
    try:
        channels.address_of(channel)
    except channels.ChannelProblem as problem:
        return problem.text
    return ""


def _numbers(ids: Sequence[int]) -> Mapping[int, tuple[int, int, int]]:
    since = timezone.now() - timedelta(days=1)
    rows = Notification.objects.filter(channel__in=ids).filter(
        Q(state__in=(State.PENDING, State.SENDING)) | Q(created_at__gt=since)
    )
    counted = (
        rows.order_by()
        .values("channel_id")
        .annotate(
            waiting=Count("id", filter=Q(state__in=(State.PENDING, State.SENDING))),
            sent=Count("id", filter=Q(state=State.SENT)),
            failed=Count("id", filter=Q(state=State.FAILED)),
        )
    )
    return {row["channel_id"]: (row["waiting"], row["sent"], row["failed"]) for row in counted}
