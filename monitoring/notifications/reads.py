"""What the alerts' page shows: open alerts and who was told, channels and how they do, what was not delivered."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Window
from django.db.models.functions import RowNumber
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
    """An open alert and what the channels know of it: the newest messages, newest first."""

    alert: Alert
    told: Sequence[Told] = ()
    more: int = 0
    """Messages that are not shown."""
    nobody: bool = True
    """No channel has it or will have it, by any message, shown or not."""


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
    """The first open alerts, the most urgent first; those that somebody has, or are inhibited, after the others."""
    found = alerts.listed(ALERTS_SHOWN)
    ids = [one.id for one in found]
    told, numbers = _newest(ids), _numbers_of(ids)
    views = []
    for one in found:
        shown, (written, reached) = told.get(one.id, []), numbers.get(one.id, (0, 0))
        views.append(AlertView(one, shown, max(0, written - len(shown)), nobody=not reached))
    return views


def every_open() -> int:
    """How many alerts are open, shown or not."""
    return Alert.objects.filter(resolved_at=None).count()


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
    """What nobody got by a channel in the last days, nor by the one that is told instead: the newest.

    One more than a page shows, if there is one.
    """
    since = timezone.now() - timedelta(days=UNDELIVERED_DAYS)
    rows = _messages().filter(undelivered(), created_at__gt=since).exclude(kind="test")
    return [Told(row) for row in rows.order_by("-created_at", "-id")[: MESSAGES_SHOWN + 1]]


def messages(before: uuid.UUID | None = None) -> list[Told]:
    """The newest messages, or those before one; one more than a page shows, if there is one."""
    rows = _messages().filter(gathered_in=None)
    rows = rows.filter(id__lt=before) if before else rows
    lines = Notification.objects.filter(gathered_in=OuterRef("id")).order_by().values("gathered_in")
    counted = rows.annotate(line_count=Subquery(lines.annotate(number=Count("id")).values("number"))).order_by("-id")
    return [Told(row) for row in counted[: MESSAGES_SHOWN + 1]]


def _messages() -> QuerySet[Notification]:
    return Notification.objects.select_related("channel", "alert", "fallback_of__channel")


def _newest(alert_ids: Collection[int]) -> dict[int, list[Told]]:
    """By alert: its newest messages, as many as are shown of one."""
    place = Window(RowNumber(), partition_by=F("alert_id"), order_by=("-created_at", "-id"))
    rows = _messages().filter(alert__in=alert_ids).annotate(place=place).filter(place__lte=TOLD_SHOWN)
    told: dict[int, list[Told]] = {}
    for row in rows.order_by("place"):
        told.setdefault(row.alert_id or 0, []).append(Told(row))
    return told


def _numbers_of(alert_ids: Collection[int]) -> dict[int, tuple[int, int]]:
    """By alert: how many messages were written of it, and how many of them a channel has or will have."""
    reaching = Count("id", filter=~Q(state__in=(State.DROPPED, State.FAILED)))
    rows = Notification.objects.filter(alert__in=alert_ids).order_by().values_list("alert_id")
    return {number: (written, reached) for number, written, reached in rows.annotate(Count("id"), reached=reaching)}


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
