"""``webhooks.counts``: a period is told the same from days and hours as from minutes alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.factories import count_deliveries, make_destination, make_source
from webhooks import reads
from webhooks.apireads import LENGTHS, health
from webhooks.counts import BUCKETS, LEVELS, Level, buckets_after, midnight_after
from webhooks.models import DeliveryCount, Destination, Source

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def tries(after: datetime, level: Level) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(sum(tries), 0) FROM webhooks_deliverycount WHERE {BUCKETS}",
            buckets_after(after, level),
        )
        return int(cursor.fetchone()[0])


def every_few_hours(source: Source, to: Destination, end: datetime) -> dict[datetime, int]:
    """Tries in many an hour of ten days; by the hour's start."""
    made = {}
    for number in range(60):
        at = (end - timedelta(hours=4.3 * number)).replace(minute=0, second=0, microsecond=0)
        count_deliveries(source, to, at, tries=number + 1, delivered=number + 1)
        made[at] = number + 1
    return made


@pytest.mark.parametrize("hour", [0, 1, 5, 12, 23])
def test_a_period_is_the_sum_of_its_hours(hour: int) -> None:
    end = NOON.replace(hour=hour, minute=30)
    made = every_few_hours(make_source(), make_destination(), end)
    for length in LENGTHS.values():
        after = end - length
        assert tries(after, Level.HOUR) == sum(n for at, n in made.items() if at > after)
        assert tries(after, Level.MINUTE) == tries(after, Level.HOUR), "a midnight may lie in an hour"


def test_pages_and_api_tell_the_same_as_the_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOON)
    source, to = make_source("stripe"), make_destination()
    made = every_few_hours(source, to, NOON)
    for name in ("24h", "7d"):
        since = NOON - LENGTHS[name]
        told = reads.rates(name)[source.id, to.id]
        assert told.tries == told.delivered == sum(n for at, n in made.items() if at > since)
        whole = sum(n for at, n in made.items() if at > since - timedelta(hours=1))
        assert health(name)["services"]["stripe"]["tries"] == health(name)["total_deliveries"] == whole


def test_a_week_takes_few_rows() -> None:
    source, to = make_source(), make_destination()
    for hours in range(24 * 8):
        count_deliveries(source, to, NOON - timedelta(hours=hours), tries=1)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), sum(tries) FROM webhooks_deliverycount WHERE {BUCKETS}",
            buckets_after(NOON - timedelta(days=7), LEVELS["7d"]),
        )
        assert cursor.fetchone() == (11 + 7, 168), "the hours up to midnight, and the days"


@given(st.integers(1_500_000_000, 2_500_000_000), st.integers(-12, 14))
def test_midnight_is_later_and_at_most_a_day(seconds: int, hours: int) -> None:
    moment = datetime.fromtimestamp(seconds, timezone(timedelta(hours=hours)))
    midnight = midnight_after(moment)
    assert timedelta(0) < midnight - moment <= timedelta(days=1)
    assert midnight.timestamp() % 86_400 == 0


def test_the_migration_makes_days_of_the_hours_that_there_are() -> None:
    source, to = make_source(), make_destination()
    made = every_few_hours(source, to, NOON)
    DeliveryCount.objects.filter(level=Level.HOUR).update(histogram=[0, 1, 2])
    latest = DeliveryCount.objects.filter(level=Level.HOUR).order_by("-start")[0]
    DeliveryCount.objects.filter(pk=latest.pk).update(histogram=[5], sum_ms=1.5)
    days = list(DeliveryCount.objects.filter(level=Level.DAY).order_by("start").values_list("start", "tries"))
    migration = import_module("webhooks.migrations.0003_days")
    with connection.cursor() as cursor:
        cursor.execute(migration.BACKWARD)
        cursor.execute(migration.FORWARD)
    found = DeliveryCount.objects.filter(level=Level.DAY).order_by("start")
    assert list(found.values_list("start", "tries")) == days
    assert sum(row.tries for row in found) == sum(made.values())
    last = found.reverse()[0]
    others = sum(1 for at in made if at.date() == NOON.date()) - 1
    assert (last.histogram, last.sum_ms) == ([5, others, 2 * others], 1.5)
