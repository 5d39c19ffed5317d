"""Claiming stays cheap however much a channel had lately, and however much waits for others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from monitoring.models import Channel, Notification
from monitoring.notifications import claims
from monitoring.notifications.pacing import Lately
from tests.monitoring.notifications.factories import make_channel
from wsmon.ids import uuid7

pytestmark = pytest.mark.django_db
CAP = 20


def fill(channel: Channel, number: int, state: str, kind: str = "opened", every: float = 0.5, **fields: Any) -> None:
    """So many messages in a state, the newest one now, one each ``every`` seconds before."""
    now = timezone.now()
    Notification.objects.bulk_create(
        Notification(
            id=uuid7(),
            channel=channel,
            kind=kind,
            once=f"{channel.slug}:{state}:{kind}:{place}",
            severity="warning",
            title="Something",
            state=state,
            due_at=now - timedelta(seconds=place * every),
            created_at=now - timedelta(seconds=place * every),
            sent_at=now - timedelta(seconds=place * every) if state in ("sent", "gathered") else None,
            **fields,
        )
        for place in range(number)
    )


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE monitoring_notification")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(rows: QuerySet[Any, Any]) -> list[tuple[str, int]]:
    """What a query reads: the index of each scan ("" for none), and how many rows it looked at."""
    (explained,) = json.loads(rows.explain(format="json", analyze=True))
    found = [node for node in nodes(explained["Plan"]) if "Scan" in node["Node Type"]]
    return [
        (node.get("Index Name", ""), node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in found
        if node["Node Type"] != "Bitmap Heap Scan"
    ]


@pytest.fixture
def busy() -> Channel:
    """A channel that had thousands of messages within the hour, of which it sent many; another has them waiting."""
    channel = make_channel("busy", max_per_hour=CAP)
    fill(channel, 3_000, "sent")
    fill(channel, 3_000, "gathered")
    fill(channel, 500, "sent", "test")
    fill(channel, 20, "sent", "storm", every=100)
    fill(channel, 2, "sending", lease_until=timezone.now() + timedelta(seconds=20))
    fill(channel, 1, "sending", "test", lease_until=timezone.now() + timedelta(seconds=20))
    fill(make_channel("other"), 3_000, "pending")
    analyze()
    return channel


def test_what_it_sent_lately_is_read_up_to_its_cap_and_no_further(busy: Channel) -> None:
    sent, under_way, storms = claims._lately_rows(busy, timezone.now())
    assert scans(sent) == [("notification_sent", CAP)]
    ((index, rows),) = scans(under_way)
    assert (index, rows <= 3) == ("notification_sending", True)
    assert scans(storms[:1]) == [("notification_storm", 1)]


def test_and_that_is_all_that_pacing_asks_for(busy: Channel, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):
        found = claims._lately(busy)
    newest = Notification.objects.filter(channel=busy, state="sent").exclude(kind="test").order_by("-sent_at")
    assert found == Lately(
        sent=[row.sent_at for row in newest[:CAP] if row.sent_at],
        under_way=2,
        storm_at=Notification.objects.filter(kind="storm").latest("created_at").created_at,
    )


def test_what_is_older_than_an_hour_or_lost_does_not_count() -> None:
    channel = make_channel(max_per_hour=CAP)
    fill(channel, 3, "sent", every=3_000)
    fill(channel, 3, "sent", "storm", every=3_601)
    fill(channel, 1, "sending", lease_until=timezone.now() - timedelta(seconds=1))
    found = claims._lately(channel)
    assert (len(found.sent), found.under_way, found.storm_at is not None) == (3, 0, True)


def test_what_waits_for_another_channel_is_not_looked_at(busy: Channel) -> None:
    waiting = Notification.objects.filter(channel=busy, state="pending", due_at__lte=timezone.now())
    ((index, rows),) = scans(waiting)
    assert (index, rows <= 3) == ("notification_due", True), "but for its own that are on their way"
