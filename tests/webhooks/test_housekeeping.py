"""webhooks/housekeeping.py: what is kept, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DataError, connection, transaction
from django.utils import timezone

from tests.webhooks.factories import make_attempt, make_delivery, make_destination, make_event, make_source
from webhooks import housekeeping, search
from webhooks.models import (
    Attempt,
    Delivery,
    DeliveryCount,
    Event,
    EventCount,
    EventTokens,
    IdempotencyKey,
    Message,
    Refusal,
)
from webhooks.vocabulary import DeliveryStatus

NOW = datetime(2031, 5, 10, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.django_db


def event_of(age: timedelta, status: DeliveryStatus = DeliveryStatus.DELIVERED, **fields: Any) -> Event:
    """An indexed event so old, with one delivery and one attempt."""
    event = make_event(received_at=NOW - age, **fields)
    make_attempt(make_delivery(event, status=status))
    search.index_some()
    return event


@pytest.fixture
def days(settings: Any) -> None:
    settings.PAYLOAD_DAYS, settings.EVENT_DAYS = 30, 180


@pytest.mark.usefixtures("days")
def test_payloads_go_after_their_days_to_the_second() -> None:
    old, young = event_of(timedelta(days=30) + SECOND), event_of(timedelta(days=30) - SECOND)
    assert housekeeping.drop_payloads(NOW) == 1
    old.refresh_from_db()
    young.refresh_from_db()
    assert old.sealed is None
    assert young.sealed is not None
    assert [row.event_id for row in EventTokens.objects.all()] == [young.id]
    assert Attempt.objects.filter(sealed=None).get().delivery.event_id == old.id
    assert old.erased_at is None  # it was not erased on request
    assert housekeeping.drop_payloads(NOW) == 0


@pytest.mark.usefixtures("days")
@pytest.mark.parametrize("status", [DeliveryStatus.PENDING, DeliveryStatus.RETRYING, DeliveryStatus.DELIVERING])
def test_what_is_still_to_be_delivered_keeps_its_payload_and_itself(status: DeliveryStatus) -> None:
    event = event_of(timedelta(days=500), status)
    assert housekeeping.drop_payloads(NOW) == 0
    assert housekeeping.drop_events(NOW) == 0
    event.refresh_from_db()
    assert event.sealed is not None
    Delivery.objects.update(status=DeliveryStatus.FAILED)
    assert housekeeping.drop_payloads(NOW) == 1
    assert housekeeping.drop_events(NOW) == 1


@pytest.mark.usefixtures("days")
def test_an_unindexed_event_without_its_payload_is_not_indexed_any_more() -> None:
    make_event(received_at=NOW - timedelta(days=31))
    housekeeping.drop_payloads(NOW)
    assert search.index_some() == 0


@pytest.mark.usefixtures("days")
def test_events_go_with_everything_that_is_theirs_and_nothing_else() -> None:
    source = make_source()
    old = event_of(timedelta(days=180) + SECOND, source=source, subject="m1")
    young = event_of(timedelta(days=180) - SECOND, source=source, subject="m2")
    for event in (old, young):
        Message.objects.create(
            source=source,
            subject=event.subject,
            status="sent",
            rank=1,
            changed_at=event.received_at,
            event_id=event.id,
        )
    assert housekeeping.drop_events(NOW) == 1
    assert Event.objects.get() == young
    assert Delivery.objects.get().event_id == young.id
    assert Attempt.objects.get().delivery.event_id == young.id
    assert EventTokens.objects.get().event_id == young.id
    assert Message.objects.get().subject == "m2"


@pytest.mark.usefixtures("days")
def test_a_message_that_was_heard_of_since_stays() -> None:
    source = make_source()
    event_of(timedelta(days=200), source=source, subject="m1")
    later = event_of(timedelta(days=1), source=source, subject="m1")
    Message.objects.create(
        source=source, subject="m1", status="read", rank=4, changed_at=later.received_at, event_id=later.id
    )
    housekeeping.drop_events(NOW)
    assert Message.objects.count() == 1


@pytest.mark.usefixtures("days")
def test_more_than_one_batch_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVENTS_AT_ONCE", 2)
    source, destination = make_source(), make_destination()
    for _ in range(5):
        make_delivery(
            make_event(source, received_at=NOW - timedelta(days=200)), destination, DeliveryStatus.DELIVERED
        )
    assert housekeeping.drop_payloads(NOW) == 5
    assert housekeeping.drop_events(NOW) == 5
    assert not Delivery.objects.exists()


def test_minutes_of_counts_are_kept_for_8_days_hours_and_days_for_400() -> None:
    source, destination = make_source(), make_destination()
    for level, days in ((60, 7.99), (60, 8.01), (3600, 8.01), (3600, 399.9), (3600, 400.1)):
        start = NOW - timedelta(days=days)
        EventCount.objects.create(level=level, source_id=source.id, type="a", start=start, events=1)
        DeliveryCount.objects.create(level=level, source_id=source.id, destination_id=destination.id, start=start)
    for days in (399.9, 400.1):
        DeliveryCount.objects.create(
            level=86400, source_id=source.id, destination_id=destination.id, start=NOW - timedelta(days=days)
        )
    assert housekeeping.drop_counts(NOW) == 5
    assert DeliveryCount.objects.filter(level=86400).count() == 1
    assert EventCount.objects.filter(level=60).count() == 1
    assert DeliveryCount.objects.filter(level=3600).count() == 2


def refusal(age: timedelta, number: int = 0) -> Refusal:
    at = NOW - age
    return Refusal.objects.create(
        at=at, source="stripe", code="too_old", size=1, last_at=at, address=f"10.0.{number // 250}.{number % 250}"
    )


def test_refusals_are_kept_for_14_days() -> None:
    refusal(timedelta(days=14) + SECOND)
    kept = refusal(timedelta(days=14) - SECOND)
    assert housekeeping.drop_refusals(NOW) == 1
    assert Refusal.objects.get() == kept


def test_of_too_many_refusals_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "MOST_REFUSALS", 3)
    monkeypatch.setattr(housekeeping, "ROWS_AT_ONCE", 2)
    made = [refusal(timedelta(minutes=number), number) for number in range(8)]
    assert housekeeping.drop_refusals(NOW) == 5
    assert set(Refusal.objects.all()) == set(made[:3])


def test_idempotency_keys_are_kept_for_a_day() -> None:
    for key, age in (("old", timedelta(hours=24, seconds=1)), ("young", timedelta(hours=23, minutes=59))):
        IdempotencyKey.objects.create(scope="publish", key=key, digest="", created_at=NOW - age)
    assert housekeeping.drop_idempotency_keys(NOW) == 1
    assert IdempotencyKey.objects.get().key == "young"


def test_events_are_indexed_until_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVENTS_AT_ONCE", 2)
    source = make_source()
    for _ in range(5):
        make_event(source)
    assert housekeeping.index_events() == 5
    assert EventTokens.objects.count() == 5


def test_indexing_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVENTS_AT_ONCE", 2)
    source = make_source()
    for _ in range(5):
        make_event(source)
    assert housekeeping.index_events(seconds=-1) == 2


def test_one_step_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def fail() -> None:
        raise DataError

    monkeypatch.setattr(housekeeping, "index_events", fail)
    monkeypatch.setattr(housekeeping, "drop_idempotency_keys", lambda: called.append("keys"))
    fail.__name__ = "index_events"
    housekeeping.housekeep()
    assert called == ["keys"]


@pytest.mark.django_db(transaction=True)
def test_rows_that_somebody_holds_are_passed_over() -> None:
    """Another connection holds the row of one old event: the other one goes, and nothing waits."""
    held, free = (make_event(received_at=timezone.now() - timedelta(days=400)) for _ in range(2))
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM webhooks_event WHERE id = %s FOR UPDATE", [held.id])
        with transaction.atomic():
            assert housekeeping.drop_payloads() == 1
        assert housekeeping.drop_events() == 1
        assert Event.objects.get() == held
        assert not Event.objects.filter(id=free.id).exists()
    finally:
        other.rollback()
        other.close()
