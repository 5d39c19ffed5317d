from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import DataError, connection
from django.db.models import Count
from django.utils import timezone

from monitoring import housekeeping, tasks
from monitoring.breakers import reads, store
from monitoring.breakers.machine import Mode
from monitoring.housekeeping import (
    CHANGE_DAYS,
    LEVEL_DAYS,
    drop_old_changes,
    drop_old_results,
    drop_old_rollups,
    forget_processes,
    make_partitions,
)
from monitoring.models import (
    Breaker,
    BreakerMinute,
    BreakerSlot,
    BreakerTransition,
    Check,
    ProbeResult,
    Process,
    Rollup,
    ServiceSummary,
    StateChange,
)
from monitoring.periods import PERIODS
from tests.monitoring.factories import make_check, make_service

TODAY = date(2031, 5, 10)


def partitions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'service_health_metrics'::regclass"
        )
        return {row[0] for row in cursor.fetchall()}


def name(offset: int) -> str:
    return f"service_health_metrics_p{TODAY + timedelta(days=offset):%Y%m%d}"


def result(check: Check, offset: int, **time: int) -> datetime:
    """A result so many days from TODAY."""
    day = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) + timedelta(days=offset)
    at = day.replace(**({"hour": 12} | time))
    ProbeResult.objects.create(at=at, check_ref=check, outcome="healthy")
    return at


def stored_in() -> dict[datetime, str]:
    """In which partition each result lies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT at, tableoid::regclass::text FROM service_health_metrics")
        return dict(cursor.fetchall())


@pytest.mark.django_db
class TestPartitions:
    def test_yesterday_to_the_day_after_tomorrow_get_one(self):
        assert make_partitions(TODAY) == [name(-1), name(0), name(1), name(2)]
        assert partitions() >= {name(day) for day in range(-1, 3)} | {"service_health_metrics_other"}

    def test_those_that_exist_stay(self):
        make_partitions(TODAY)
        at = result(make_check(), 1)
        assert make_partitions(TODAY) == []
        assert make_partitions(TODAY + timedelta(days=1)) == [name(3)]
        assert stored_in()[at] == name(1)

    def test_results_that_came_before_their_partition_are_moved_into_it(self):
        check = make_check()
        early = [
            result(check, 0, hour=0),
            result(check, 0, hour=23, minute=59, second=59, microsecond=999_999),
            result(check, 2),
        ]
        beyond = result(check, 3, hour=0)
        assert set(stored_in().values()) == {"service_health_metrics_other"}
        make_partitions(TODAY)
        expected = dict(zip(early, [name(0), name(0), name(2)], strict=True))
        assert stored_in() == expected | {beyond: "service_health_metrics_other"}

    def test_a_result_far_from_today_is_kept_in_the_catch_all(self):
        make_partitions(TODAY)
        at = result(make_check(), 400)
        assert stored_in()[at] == "service_health_metrics_other"

    def test_ids_go_on_over_partitions(self):
        check = make_check()
        make_partitions(TODAY)
        for offset in range(3):
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO service_health_metrics (at, check_id, outcome) VALUES (%s, %s, 'healthy')",
                    [datetime(2031, 5, 10 + offset, tzinfo=UTC), check.id],
                )
        assert len(set(ProbeResult.objects.values_list("id", flat=True))) == 3

    def test_today_is_what_the_clock_says(self):
        today = datetime.now(UTC).date()
        make_partitions()
        assert f"service_health_metrics_p{today:%Y%m%d}" in partitions()
        assert drop_old_results() == []


@pytest.mark.django_db
class TestDroppingResults:
    @pytest.fixture(autouse=True)
    def keep_three_days(self, settings: Any) -> None:
        settings.RESULT_DAYS = 3

    def test_only_days_past_their_time_go(self):
        for day in range(-8, 1):
            make_partitions(TODAY + timedelta(days=day))
        before = partitions()
        assert set(drop_old_results(TODAY)) == {name(day) for day in range(-9, -3)}
        assert before - partitions() == {name(day) for day in range(-9, -3)}
        assert name(-3) in partitions()

    def test_old_rows_of_the_catch_all_go_too(self):
        check = make_check()
        result(check, -4)
        kept = result(check, -3, hour=0)
        drop_old_results(TODAY)
        assert set(stored_in()) == {kept}

    def test_a_second_time_drops_nothing(self):
        make_partitions(TODAY - timedelta(days=10))
        assert drop_old_results(TODAY)
        assert drop_old_results(TODAY) == []

    def test_tables_of_others_are_not_touched(self):
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE service_health_metrics_mine PARTITION OF service_health_metrics"
                " FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00')"
            )
        drop_old_results(TODAY)
        assert "service_health_metrics_mine" in partitions()


@pytest.mark.django_db
class TestDroppingRollups:
    def make(self, check: Check, age: timedelta, level: int) -> Rollup:
        return Rollup.objects.create(level=level, check_id=check.id, start=NOW - age)

    @pytest.mark.parametrize(("level", "days"), LEVEL_DAYS.items())
    def test_each_level_has_its_time(self, level: int, days: int):
        check = make_check()
        self.make(check, timedelta(days=days, seconds=1), level)
        kept = self.make(check, timedelta(days=days), level)
        assert drop_old_rollups(NOW) == 1
        assert list(Rollup.objects.values_list("start", flat=True)) == [kept.start]
        assert drop_old_rollups(NOW) == 0

    def test_archived_checks_lose_theirs_too(self):
        self.make(make_check(archived_at=timezone.now()), timedelta(days=3), 60)
        assert drop_old_rollups(NOW) == 1

    def test_without_checks_there_is_nothing_to_drop(self):
        assert drop_old_rollups() == 0

    @pytest.mark.parametrize("period", PERIODS.values(), ids=lambda period: period.name)
    def test_every_period_of_the_pages_fits_into_what_is_kept(self, period: Any):
        for level in (period.level, period.chart.level, period.chart_of_many.level, period.table.level):
            kept = timedelta(days=LEVEL_DAYS[level])
            assert kept >= period.length + timedelta(seconds=level)
            assert NOW - kept <= period.first_start(NOW)


@pytest.mark.django_db
def test_state_changes_are_kept_for_more_than_a_year():
    service = make_check().service
    for days in (1, CHANGE_DAYS, CHANGE_DAYS + 1):
        StateChange.objects.create(at=NOW - timedelta(days=days), service=service, old="healthy", new="critical")
    assert drop_old_changes(NOW) == 1
    assert StateChange.objects.count() == 2
    assert drop_old_changes(NOW) == 0


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.django_db
def test_processes_not_seen_for_a_while_are_forgotten():
    old = timezone.now() - housekeeping.FORGET_PROCESS - timedelta(seconds=1)
    Process.objects.create(role="worker", host="a", pid=1, seen_at=old)
    alive = Process.objects.create(role="worker", host="a", pid=2)
    assert forget_processes() == 1
    assert Process.objects.get() == alive


@pytest.mark.django_db
class TestRun:
    def test_every_step_is_taken(self):
        make_check(paused_at=timezone.now(), paused_until=timezone.now() - timedelta(seconds=1))
        tasks.housekeep()
        assert Check.objects.get().paused_at is None
        assert ServiceSummary.objects.count() == len(PERIODS)
        assert f"service_health_metrics_p{datetime.now(UTC):%Y%m%d}" in partitions()

    def test_a_step_that_fails_does_not_stop_the_others(self, monkeypatch: pytest.MonkeyPatch):
        def fail() -> None:
            raise DataError("no")

        monkeypatch.setattr(housekeeping, "make_partitions", fail)
        monkeypatch.setattr(housekeeping, "drop_old_results", fail)
        make_service()
        housekeeping.run()
        assert ServiceSummary.objects.count() == len(PERIODS)


@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    @pytest.fixture(autouse=True)
    def tidy(self) -> Iterator[None]:
        yield
        with connection.cursor() as cursor:
            for table in partitions() - {"service_health_metrics_other"}:
                cursor.execute(f"DROP TABLE {table}")
            cursor.execute("TRUNCATE service_health_metrics")

    def test_both_find_everything_done_and_results_go_on_arriving(self):
        check = make_check()
        errors: list[Exception] = []
        enough = threading.Event()
        written: list[datetime] = []

        def keep_house() -> None:
            try:
                make_partitions(TODAY)
                drop_old_results(TODAY)
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        def write() -> None:
            try:
                while not enough.is_set():
                    written.append(result(check, 0, microsecond=len(written)))
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        writer = threading.Thread(target=write)
        writer.start()
        keepers = [threading.Thread(target=keep_house) for _ in range(4)]
        for thread in keepers:
            thread.start()
        for thread in keepers:
            thread.join(30)
        enough.set()
        writer.join(30)
        assert errors == []
        assert {name(day) for day in range(-1, 3)} <= partitions()
        assert {at: table for at, table in stored_in().items() if at in written} == dict.fromkeys(written, name(0))


@pytest.mark.django_db
def test_what_breakers_counted_is_dropped_when_nothing_looks_at_it_any_more():
    usual, patient = make_service(), make_service(breaker={"window": 3600.0})
    now = timezone.now()
    for service in (usual, patient):
        for ago in (timedelta(seconds=100), timedelta(seconds=130), timedelta(hours=3)):
            BreakerSlot.objects.create(service=service, generation=0, start=now - ago, ok=1)
        for ago in (timedelta(days=7), timedelta(days=9)):
            BreakerMinute.objects.create(service=service, start=now - ago, ok=1)
        for ago in (timedelta(days=300), timedelta(days=500)):
            BreakerTransition.objects.create(at=now - ago, service=service, generation=1, old="OPEN", new="CLOSED")
    assert housekeeping.drop_old_breaker_counts() == 3 + 2 + 2
    kept = BreakerSlot.objects.values_list("service").annotate(Count("start"))
    assert dict(kept) == {usual.id: 1, patient.id: 2}
    assert (BreakerMinute.objects.count(), BreakerTransition.objects.count()) == (2, 2)


@pytest.mark.django_db
def test_a_force_that_is_over_ends_though_nobody_calls():
    forced, lost, fine = make_service(), make_service(), make_service()
    for service in (forced, fine):
        store.force(service.id, Mode.OPEN, "ann", "moving house", 3600)
    Breaker.objects.filter(service=forced).update(forced_until=timezone.now() - timedelta(seconds=1))
    before = (timezone.now() - timedelta(seconds=1)).isoformat()
    trials = [{"token": "x", "until": before, "by": "a"}]
    Breaker.objects.create(service=lost, state="HALF_OPEN", opened_at=timezone.now(), trials=trials, generation=2)
    assert reads.not_closed() == 2, "the force that is over does not count"
    assert housekeeping.sweep_breakers() == 2
    found = {row.service_id: (row.forced, row.state) for row in Breaker.objects.all()}
    assert found == {forced.id: ("", "CLOSED"), lost.id: ("", "OPEN"), fine.id: ("OPEN", "CLOSED")}
