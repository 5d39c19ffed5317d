"""What people do to channels and messages: try a channel, send again what was not delivered."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from monitoring.actions import Refused
from monitoring.models import Channel, Notification
from monitoring.notifications import outbox, sending
from monitoring.notifications.claims import LEASE_SECONDS
from monitoring.notifications.messages import TEST
from monitoring.notifications.problems import ChannelProblem
from wsmon import live
from wsmon.audit import Actor, record
from wsmon.ids import uuid7

TEST_ACTION = "channel.test"
TESTS_PER_MINUTE = 10
"""Of one person: a test costs a message to somebody."""


def test(channel: Channel, actor: Actor) -> ChannelProblem | None:
    """Send a message to a channel now and wait for it; what stood against it, None when it arrived.

    Call it outside a transaction. Raises Refused when the person tries too often.
    """
    if channel.archived_at is not None:
        raise Refused("the channel is not in use any more")
    if _tests_lately(actor) >= TESTS_PER_MINUTE:
        raise Refused(f"{TESTS_PER_MINUTE} tests in a minute are enough; try again in a moment")
    number, now = uuid7(), timezone.now()
    with transaction.atomic():
        record(actor, TEST_ACTION, f"channel:{channel.slug}")
        Notification.objects.create(
            id=number,
            channel=channel,
            kind=TEST,
            once=f"test:{number}",
            severity="info",
            title=f"Test of {channel.slug}: wsmon can reach you",
            body=f"{actor.name} asked for it. Nothing has happened.",
            url="/alerts/",
            state=Notification.State.SENDING,
            lease_token=uuid.uuid4(),
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
        )
    return sending.attempt(Notification.objects.select_related("channel").get(id=number))


def again(number: uuid.UUID, actor: Actor) -> Notification:
    """Send a message again that was not delivered; raise Refused when it is none, or Notification.DoesNotExist."""
    with transaction.atomic():
        rows = Notification.objects.select_for_update(of=("self",)).select_related("channel")
        row = rows.get(id=number)
        if row.state != Notification.State.FAILED:
            raise Refused("it is not among those that could not be delivered")
        if row.channel.archived_at is not None:
            raise Refused("its channel is not in use any more")
        row.state, row.tries, row.due_at = Notification.State.PENDING, 0, timezone.now()
        row.save(update_fields=["state", "tries", "due_at"])
        record(actor, "notification.again", f"channel:{row.channel.slug}", title=row.title)
        outbox.wake()
        live.publish("alert", {"alerts": [row.alert_id] if row.alert_id else []})
    return row


def _tests_lately(actor: Actor) -> int:
    """Counted in the audit trail, so that the limit holds over every web process."""
    from wsmon.models import AuditEntry  # noqa: PLC0415

    since = timezone.now() - timedelta(minutes=1)
    return AuditEntry.objects.filter(at__gte=since, actor_name=actor.name, action=TEST_ACTION).count()
