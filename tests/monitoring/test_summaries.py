from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from monitoring import history, store, summaries
from monitoring.models import Check, Service, ServiceSummary
from monitoring.periods import PERIODS
from monitoring.summaries import refresh, refresh_due
from tests.monitoring.factories import finished, make_check, make_service, outcome

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def record(check: Check, back: timedelta, word: str = "healthy", ms: float | None = 100.0) -> None:
    store.settle([finished(check, outcome(word, ms=ms), at=NOW - back)])


def summary(service: Service, period: str = "24h") -> ServiceSummary:
    refresh(PERIODS[period])
    return ServiceSummary.objects.get(service=service, period=period)


def counts(found: ServiceSummary) -> tuple[int, int, int, int]:
    return found.healthy, found.degraded, found.critical, found.error


@pytest.mark.parametrize("period", PERIODS)
def test_it_says_what_the_rollups_say(period: str):
    service = make_service()
    one, other = make_check(service), make_check(service)
    slot = timedelta(seconds=PERIODS[period].slot_seconds)
    for number in range(30):
        record(one, slot * number, ms=10.0 + 10 * number)
        record(other, slot * number, "critical" if number == 7 else "healthy", ms=1_000)
    found = summary(service, period)
    counted = history.counts([one.id, other.id], period).values()
    assert counts(found) == (59, 0, 1, 0)
    assert sum(each.total for each in counted) == 60
    assert found.uptime == pytest.approx(59 / 60)
    assert found.p50_ms == pytest.approx(300, rel=0.1)
    assert found.p95_ms == pytest.approx(1_000, rel=0.06)
    assert found.p99_ms == found.p95_ms
    assert found.first_start == PERIODS[period].first_start(NOW)
    assert len(found.bar) == 90
    assert set(found.bar) == {"h", "c", "."}
    assert found.bar.endswith("h")
    worst = found.bar.index("c")
    assert 80 <= worst <= 82
    assert found.notes[str(worst)].startswith("critical, 1 of ")


def test_a_service_without_results_has_an_empty_one():
    found = summary(make_service())
    assert (found.bar, found.notes, found.uptime, found.p50_ms) == ("." * 90, {}, None, None)
    assert counts(found) == (0, 0, 0, 0)


def test_where_very_many_slots_are_bad_none_is_told_in_words():
    service = make_service()
    check = make_check(service)
    slot = timedelta(seconds=PERIODS["24h"].slot_seconds)
    for number in range(30):
        record(check, slot * number, "critical")
    assert len(summary(service).notes) == 30
    record(check, slot * 30, "critical")
    found = summary(service)
    assert (found.bar.count("c"), found.notes) == (31, {})


def test_archived_checks_do_not_count():
    service = make_service()
    old = make_check(service)
    record(old, timedelta(hours=1), "critical")
    Check.objects.filter(id=old.id).update(archived_at=timezone.now())
    assert counts(summary(service)) == (0, 0, 0, 0)


def test_archived_services_get_none():
    make_service(archived_at=timezone.now())
    assert refresh(PERIODS["24h"]) == 0


def test_only_those_asked_for_are_made():
    one, _ = make_service(), make_service()
    assert refresh(PERIODS["24h"], [one.id]) == 1
    assert ServiceSummary.objects.get().service == one


def test_making_it_again_replaces_it():
    service = make_service()
    check = make_check(service)
    record(check, timedelta(hours=1))
    assert counts(summary(service)) == (1, 0, 0, 0)
    record(check, timedelta(hours=2), "critical")
    assert summary(service).uptime == 0.5
    assert ServiceSummary.objects.count() == 1


def test_more_services_than_a_chunk_are_all_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summaries, "CHUNK", 2)
    checks = [make_check() for _ in range(5)]
    for check in checks:
        record(check, timedelta(hours=1))
    assert refresh(PERIODS["24h"]) == 5
    assert set(ServiceSummary.objects.values_list("healthy", flat=True)) == {1}


def test_the_number_of_queries_does_not_grow_with_services_or_results(
    django_assert_num_queries: Any, django_assert_max_num_queries: Any
):
    for _ in range(10):
        check = make_check()
        for hours in range(3):
            record(check, timedelta(hours=hours))
    with django_assert_max_num_queries(8):
        refresh(PERIODS["24h"])


class TestWhenItIsDue:
    def made(self) -> set[str]:
        return set(ServiceSummary.objects.filter(made_at=timezone.now()).values_list("period", flat=True))

    def test_at_first_each_period_is(self):
        make_service()
        assert refresh_due() == len(PERIODS)
        assert self.made() == set(PERIODS)

    @pytest.mark.parametrize(
        ("later", "due"),
        [
            (timedelta(seconds=49), set()),
            (timedelta(seconds=50), {"1h", "24h"}),
            (timedelta(minutes=10), {"1h", "24h", "7d"}),
            (timedelta(hours=1), {"1h", "24h", "7d", "90d"}),
            (timedelta(hours=-1), {"1h", "24h", "7d", "90d"}),  # the clock went back
        ],
    )
    def test_later_those_that_are_old(self, clock: time_machine.Traveller, later: timedelta, due: set[str]):
        make_service()
        refresh_due()
        clock.move_to(NOW + later)
        assert refresh_due() == len(due)
        assert self.made() == due

    def test_without_services_there_is_nothing_to_make(self):
        assert refresh_due() == 0
