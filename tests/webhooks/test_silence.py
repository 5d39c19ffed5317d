"""webhooks/silence.py: learning from the counts, alerts, and who is spared them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from monitoring import alerts
from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_event, make_source
from webhooks import silence
from webhooks.models import EventCount, Source, TypeRate

NOW = datetime(2031, 5, 10, 14, tzinfo=UTC)
"""A Saturday."""
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TYPE = "payment_intent.succeeded"

pytestmark = pytest.mark.django_db


def fill(source: Source, type_: str = TYPE, days: int = 56, per_hour: int = 60, until: datetime = NOW) -> None:
    """Steady traffic by the hour, and the minutes of the last hour."""
    rows = [(3600, until - number * HOUR) for number in range(1, days * 24 + 1)]
    rows += [(60, until - number * MINUTE) for number in range(1, 61)]
    EventCount.objects.bulk_create(
        EventCount(level=level, source_id=source.id, type=type_, start=start, events=per_hour * level // 3600)
        for level, start in rows
    )
    make_event(source, type=type_, received_at=until)


def one_event(source: Source, at: datetime, type_: str = TYPE) -> None:
    EventCount.objects.create(
        level=60, source_id=source.id, type=type_, start=at.replace(second=0, microsecond=0), events=1
    )
    make_event(source, type=type_, received_at=at)


def watch(minutes: int, start: datetime = NOW) -> datetime:
    for number in range(minutes + 1):
        silence.watch(start + number * MINUTE)
    return start + minutes * MINUTE


def open_keys() -> set[str]:
    return {alert.key for alert in alerts.open_alerts([silence.KIND])}


def test_a_source_that_stops_raises_one_alert_for_all_its_types() -> None:
    service = make_service("stripe", provider="stripe")
    source = make_source("stripe", service=service)
    fill(source)
    fill(source, "invoice.paid")
    silence.learn(NOW)
    watch(5)
    assert open_keys() == set()
    watch(25, NOW + 6 * MINUTE)
    assert open_keys() == {"webhook-silence:stripe:"}
    alert = alerts.open_alerts()[0]
    assert alert.title.startswith("stripe: no event for ")
    assert "120.0 an hour are usual now (learned from 8 weeks)" in alert.detail
    assert "2031-05-10 14:00 UTC" in alert.detail
    assert (alert.severity, alert.service, alert.url) == ("critical", service, "/webhooks/?source=stripe")


def test_a_type_that_stops_alone_raises_its_own_and_one_event_resolves_it() -> None:
    source = make_source("stripe")
    fill(source)
    fill(source, "invoice.paid")
    silence.learn(NOW)
    silence.watch(NOW)
    for number in range(1, 40):
        one_event(source, NOW + number * MINUTE, "invoice.paid")
        silence.watch(NOW + number * MINUTE)
    assert open_keys() == {f"webhook-silence:stripe:{TYPE}"}
    assert alerts.open_alerts()[0].severity == "warning"
    one_event(source, NOW + 40 * MINUTE)
    silence.watch(NOW + 40 * MINUTE)
    assert open_keys() == set()


def test_types_are_covered_by_their_source_in_either_order() -> None:
    source = make_source("stripe")
    fill(source)
    fill(source, "invoice.paid", per_hour=600)
    silence.learn(NOW)
    watch(60)
    assert open_keys() == {"webhook-silence:stripe:"}
    assert TypeRate.objects.exclude(silent_since=None).count() == 3


def test_learning_keeps_what_is_watched() -> None:
    source = make_source("stripe")
    fill(source)
    silence.learn(NOW)
    now = watch(30)
    before = TypeRate.objects.get(type=TYPE)
    silence.learn(now + HOUR)
    after = TypeRate.objects.get(type=TYPE)
    assert (after.expected, after.silent_since, after.last_at) == (
        before.expected,
        before.silent_since,
        before.last_at,
    )
    assert len(after.usual) == 168
    assert after.weeks == 8


@pytest.mark.parametrize("change", [{"watch_silence": False}, {"archived_at": NOW}], ids=["unwatched", "archived"])
def test_a_source_that_nobody_wants_to_watch_is_quiet(change: dict[str, Any]) -> None:
    source = make_source("stripe")
    fill(source)
    silence.learn(NOW)
    now = watch(30)
    assert open_keys()
    Source.objects.filter(id=source.id).update(**change)
    silence.watch(now + MINUTE)
    assert open_keys() == set()
    silence.learn(now + HOUR)
    assert not TypeRate.objects.exists()


def test_what_has_not_come_for_eight_weeks_is_forgotten_and_its_alert_resolved() -> None:
    source = make_source("stripe")
    fill(source)
    silence.learn(NOW)
    watch(30)
    silence.learn(NOW + timedelta(weeks=9))
    assert not TypeRate.objects.exists()
    assert open_keys() == set()


def test_a_young_source_is_watched_after_a_steady_day() -> None:
    source = make_source("stripe")
    fill(source, days=2)
    silence.learn(NOW)
    assert TypeRate.objects.get(type=TYPE).weeks == 0
    watch(20)
    assert open_keys() == set()
    watch(40, NOW + 21 * MINUTE)
    assert open_keys() == {"webhook-silence:stripe:"}
    assert "by the last two days" in alerts.open_alerts()[0].detail


def test_hours_in_which_wsmon_did_not_run_raise_nothing() -> None:
    source = make_source("stripe")
    fill(source)
    silence.learn(NOW)
    silence.watch(NOW)
    silence.watch(NOW + 8 * HOUR)
    assert open_keys() == set()


def test_the_hour_that_is_not_over_is_not_learned() -> None:
    source = make_source("stripe")
    fill(source)
    EventCount.objects.create(level=3600, source_id=source.id, type=TYPE, start=NOW, events=1_000_000)
    silence.learn(NOW + 59 * MINUTE)
    assert max(TypeRate.objects.get(type=TYPE).usual) == 60


def test_only_the_busiest_types_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "MOST_TYPES", 2)
    source = make_source("stripe")
    for number in (1, 2, 3):
        fill(source, f"type.{number}", days=14, per_hour=60 * number)
    silence.learn(NOW)
    assert set(TypeRate.objects.values_list("type", flat=True)) == {"", "type.2", "type.3"}


def test_the_queries_do_not_grow_with_the_types(django_assert_max_num_queries: Callable[[int], Any]) -> None:
    source = make_source("stripe")
    for number in range(12):
        fill(source, f"type.{number}", days=15)
    with django_assert_max_num_queries(8):
        silence.learn(NOW)
    with django_assert_max_num_queries(8):
        silence.watch(NOW)


def test_the_task_learns_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source("stripe")
    fill(source)
    learned: list[datetime] = []
    learn = silence.learn
    monkeypatch.setattr(silence, "learn", lambda now: learned.append(now) or learn(now))
    for minutes in (0, 1, 30, 59, 60, 61):
        silence.run(NOW + minutes * MINUTE)
    assert learned == [NOW, NOW + 60 * MINUTE]


@pytest.mark.django_db(transaction=True)
def test_one_process_at_a_time_watches() -> None:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtext('wsmon silence watch'))")
        source = make_source("stripe")
        fill(source, days=14)
        silence.learn(NOW)
        silence.watch(NOW)
        assert TypeRate.objects.filter(watched_at=None).count() == 2
    finally:
        other.close()
