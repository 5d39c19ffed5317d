"""One try of one message: compose it, send it, store what came of it. Nothing is sent inside a transaction."""

from __future__ import annotations

import structlog

from monitoring.models import Notification
from monitoring.notifications import channels, links, settling
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem

log = structlog.get_logger(__name__)


def attempt(claimed: Notification) -> ChannelProblem | None:
    """Send a claimed message and settle it; what stood against it, None when it arrived."""
    try:
        channels.send(claimed.channel, message_of(claimed))
    except ChannelProblem as problem:
        settling.failed(claimed, problem.text, retry=problem.retry, retry_after=problem.retry_after)
        return problem
    except Exception as problem:  # it shows, and is tried as often as any other
        log.exception("a message failed inside wsmon", notification=str(claimed.id))
        words = f"wsmon itself failed ({type(problem).__name__})"
        settling.failed(claimed, words, retry=True)
        return ChannelProblem(words, retry=True)
    settling.sent(claimed)
    return None


def message_of(notification: Notification) -> Message:
    """A message as its channel sends it, with its links."""
    body = notification.body
    if notification.recipient:
        body = f"For {notification.recipient}\n\n{body}"
    return Message(
        id=str(notification.id),
        kind=notification.kind,
        severity=notification.severity,
        title=notification.title,
        body=body,
        url=links.absolute(notification.url or "/alerts/"),
        ack_url=links.ack_url(notification),
        thread=f"alert-{notification.alert_id}" if notification.alert_id else "",
        at=notification.created_at,
    )
