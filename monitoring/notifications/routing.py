"""Who is told of an alert, and when: a pure function of the alert, what happened, the channels and the time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto

from monitoring.alertmodels import RANKS, Severity
from monitoring.notifications.quiet import Quiet, quiet_until


class What(StrEnum):
    """What happened to an alert; the ``kind`` of the messages about it."""

    OPENED = "opened"
    WORSE = "worse"
    REMINDER = "reminder"
    ESCALATED = "escalated"
    RESOLVED = "resolved"


class Told(Enum):
    """What a channel knows of an alert."""

    NOTHING = auto()
    WAITING = auto()
    """A message is held back on purpose (quiet hours, a digest), and was not tried yet."""
    TOLD = auto()
    """A message went out or is on its way."""


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """What routing knows of an alert. ``service`` is a slug, "" for none."""

    severity: str
    service: str = ""
    inhibited_by: str = ""
    not_to: str = ""
    """A channel that is not told: the alert is about it."""


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What routing knows of a channel."""

    id: int
    slug: str
    min_severity: str = Severity.WARNING.value
    services: frozenset[str] = frozenset()
    quiet: Quiet | None = None
    digest: float | None = None
    direct: bool = True
    told: Told = Told.NOTHING
    window_ends: datetime | None = None
    """When the digest that is being gathered goes out; None: none is."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done for one channel: write a message that is due at some time, or ``drop`` those that wait."""

    channel_id: int
    what: What
    due_at: datetime
    held: str = ""
    """Why it is not due at once."""
    drop: bool = False


def decide(
    alert: AlertFacts,
    what: What,
    channels: Iterable[ChannelFacts],
    now: datetime,
    named: frozenset[str] = frozenset(),
) -> list[Planned]:
    """The messages that follow. ``named``: the channels that an escalation or a reminder is for."""
    plans: list[Planned] = []
    for channel in channels:
        if what is What.RESOLVED:
            plans += _resolved(alert, channel, now)
        elif alert.inhibited_by or channel.slug == alert.not_to:
            continue
        elif what in (What.ESCALATED, What.REMINDER):
            plans += [_due(alert, what, channel, now)] if channel.slug in named else []
        elif wants(alert, channel):
            plans += _news(alert, what, channel, now)
    return plans


def wants(alert: AlertFacts, channel: ChannelFacts) -> bool:
    """Whether a channel is told of such alerts at all."""
    if not channel.direct or RANKS[alert.severity] < RANKS[channel.min_severity]:
        return False
    return not channel.services or alert.service in channel.services


def _news(alert: AlertFacts, what: What, channel: ChannelFacts, now: datetime) -> list[Planned]:
    if what is What.OPENED or channel.told is Told.NOTHING:
        return [] if channel.told is not Told.NOTHING else [_due(alert, What.OPENED, channel, now)]
    told = _due(alert, What.WORSE, channel, now)
    if channel.told is Told.WAITING:  # what waits says less than this
        return [Planned(channel.id, What.OPENED, now, drop=True), told]
    return [told]


def _resolved(alert: AlertFacts, channel: ChannelFacts, now: datetime) -> list[Planned]:
    """The end is told to whom the beginning was told; who does not know of it yet need not."""
    if channel.told is Told.TOLD:
        return [_due(alert, What.RESOLVED, channel, now)]
    return [Planned(channel.id, What.RESOLVED, now, drop=True)] if channel.told is Told.WAITING else []


def _due(alert: AlertFacts, what: What, channel: ChannelFacts, now: datetime) -> Planned:
    if alert.severity == Severity.CRITICAL:
        return Planned(channel.id, what, now)
    due, held = now, ""
    if channel.digest and what not in (What.ESCALATED, What.REMINDER):
        ends = channel.window_ends
        due, held = (ends if ends and ends > now else now + timedelta(seconds=channel.digest)), "digest"
    morning = quiet_until(channel.quiet, due)
    return Planned(channel.id, what, morning, "quiet hours") if morning else Planned(channel.id, what, due, held)
