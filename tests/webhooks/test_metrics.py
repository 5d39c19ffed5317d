"""webhooks/metrics.py: what Prometheus sees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from tests.webhooks.factories import count_deliveries, make_delivery, make_destination, make_event, make_source
from webhooks import metrics
from webhooks.models import Destination, DestinationState, EventCount, Refusal, Source, TypeRate
from webhooks.vocabulary import DeliveryStatus

pytestmark = pytest.mark.django_db

TODAY = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


class _All:
    def collect(self) -> Any:
        return metrics.collect()


def scrape() -> dict[str, float]:
    """Every line's value by its name and labels."""
    registry = CollectorRegistry()
    registry.register(_All())  # type: ignore[arg-type]
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def count(source: Source, start: datetime, events: int, level: int = 3600, type_: str = "a") -> None:
    EventCount.objects.create(
        level=level, source_id=source.id, type=type_, start=start, events=events, duplicates=events // 10
    )


def test_the_room_is_registered() -> None:
    assert "webhooks.metrics.collect" in settings.METRIC_COLLECTORS


def test_events_of_today_are_counted_by_source() -> None:
    stripe = make_source("stripe")
    make_source("quiet")
    count(stripe, TODAY, 20)
    count(stripe, TODAY, 5, type_="b")
    count(stripe, TODAY, 20, level=60)
    count(stripe, TODAY - timedelta(days=1), 1_000)
    found = scrape()
    assert found['wsmon_webhook_events_total{source="stripe"}'] == 25
    assert found['wsmon_webhook_duplicates_total{source="stripe"}'] == 2
    assert found['wsmon_webhook_events_total{source="quiet"}'] == 0


def test_deliveries_are_counted_by_destination_and_how_they_ended() -> None:
    source, app = make_source(), make_destination("app")
    count_deliveries(source, app, TODAY, tries=10, tries_failed=3, delivered=7, failed=1, sum_ms=2_500)
    count_deliveries(source, app, TODAY - timedelta(days=1), tries=99, delivered=99)
    found = scrape()
    assert found['wsmon_webhook_deliveries_total{destination="app",status="delivered"}'] == 7
    assert found['wsmon_webhook_deliveries_total{destination="app",status="failed"}'] == 1
    assert found['wsmon_webhook_tries_total{destination="app",result="ok"}'] == 7
    assert found['wsmon_webhook_tries_total{destination="app",result="failed"}'] == 3
    assert found['wsmon_webhook_tries_seconds_total{destination="app"}'] == 2.5


def test_what_waits_and_what_failed_is_counted_as_it_is_now() -> None:
    app, event = make_destination("app"), make_event()
    late = timezone.now() - timedelta(minutes=10)
    make_delivery(event, app, DeliveryStatus.PENDING, due_at=timezone.now() + timedelta(hours=1))
    make_delivery(event, app, DeliveryStatus.RETRYING, due_at=late, lane=1, priority=3)
    make_delivery(event, app, DeliveryStatus.DELIVERING)
    make_delivery(event, app, DeliveryStatus.DELIVERED)
    make_delivery(event, app, DeliveryStatus.FAILED)
    DestinationState.objects.filter(destination=app).update(paused_at=late)
    found = scrape()
    assert found['wsmon_webhook_waiting{destination="app"}'] == 3
    assert found['wsmon_webhook_failed{destination="app"}'] == 1
    assert found['wsmon_webhook_oldest_due_seconds{destination="app"}'] == pytest.approx(600, abs=60)
    assert found['wsmon_webhook_held{destination="app",why="paused"}'] == 1
    assert found['wsmon_webhook_held{destination="app",why="disabled"}'] == 0


def test_nothing_due_is_no_wait() -> None:
    make_destination("app")
    assert scrape()['wsmon_webhook_oldest_due_seconds{destination="app"}'] == 0


def test_a_long_backlog_is_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "COUNTED", 2)
    app, event = make_destination("app"), make_event()
    for _ in range(4):
        make_delivery(event, app)
    assert scrape()['wsmon_webhook_waiting{destination="app"}'] == 2


def test_refusals_are_counted_by_source_and_reason() -> None:
    for address in ("10.0.0.1", "10.0.0.2"):
        Refusal.objects.create(
            at=TODAY, source="stripe", code="too_old", size=1, last_at=TODAY, count=4, address=address
        )
    assert scrape()['wsmon_webhook_refused_total{code="too_old",source="stripe"}'] == 8


def test_silent_types_are_counted() -> None:
    source = make_source("stripe")
    TypeRate.objects.create(source=source, type="a", silent_since=TODAY)
    TypeRate.objects.create(source=source, type="b")
    assert scrape()['wsmon_webhook_silent_types{source="stripe"}'] == 1


def test_what_is_archived_is_not_shown() -> None:
    make_source("old")
    make_destination("old")
    Source.objects.update(archived_at=timezone.now())
    Destination.objects.update(archived_at=timezone.now())
    assert not [name for name in scrape() if "old" in name]


def test_the_queries_do_not_grow(django_assert_num_queries: Callable[[int], Any]) -> None:
    for _ in range(5):
        make_delivery()
    with django_assert_num_queries(5):
        list(metrics.collect())
