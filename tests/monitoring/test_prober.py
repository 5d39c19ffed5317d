from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection
from django.db.models.functions import Now
from django.utils import timezone

from monitoring import claims, prober, store, tasks
from monitoring.models import Check, CheckState, Heartbeat, ProbeResult, Process, Rollup, StateChange
from monitoring.prober import Planned, Prober
from monitoring.store import Finished
from providers.base import ProbeContext, ProbeOutcome
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.fakes import Vendors, down, healthy
from tests.whole import eventually
from wsmon.embedded import Server

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def running(threads: int = 8, width: int = 4, ticking: bool = True) -> Iterator[Prober]:
    """A prober that is ticked twenty times a second."""
    made = Prober(threads, width)
    made.start()
    enough = threading.Event()

    def tick() -> None:
        while not enough.wait(0.05):
            made.tick()

    ticker = threading.Thread(target=tick)
    if ticking:
        ticker.start()
        eventually(lambda: made.log, "the prober joins")
    try:
        yield made
    finally:
        enough.set()
        if ticking:
            ticker.join()
        made.stop()


def make(number: int, provider: str = "fake", interval: float = 600, **fields: Any) -> list[Check]:
    """Checks of one service of a fake provider, due now; each has a target of its own."""
    service = make_service(provider=provider)
    names = [f"{provider}-{service.id}-{place}" for place in range(number)]
    Check.objects.bulk_create(
        Check(service=service, kind="ping", name=name, interval=interval, options={"target": name}, **fields)
        for name in names
    )
    checks = list(service.checks.order_by("id"))
    CheckState.objects.bulk_create([CheckState(check_ref=check) for check in checks])
    return checks


def results(checks: Sequence[Check]) -> Counter[str]:
    """How often each check has a result."""
    return Counter(ProbeResult.objects.filter(check_ref__in=checks).values_list("check_ref__name", flat=True))


def once(checks: Sequence[Check]) -> dict[str, int]:
    return dict.fromkeys((check.name for check in checks), 1)


def stored(checks: Sequence[Check], times: int = 1) -> None:
    eventually(lambda: sum(results(checks).values()) >= len(checks) * times, "every result is stored")


def statuses(checks: Sequence[Check]) -> set[str]:
    return set(CheckState.objects.filter(check_ref__in=checks).values_list("status", flat=True))


def due_again(checks: Sequence[Check]) -> None:
    CheckState.objects.filter(check_ref__in=checks).update(next_due_at=Now())


class TestProbing:
    def test_it_goes_on_with_the_threads_it_has_when_the_machine_gives_no_more(
        self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
    ):
        start = threading.Thread.start

        def start_one(thread: threading.Thread) -> None:
            if thread.name.startswith("prober-probe-") and thread.name != "prober-probe-0":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_one)
        checks = make(4)
        with running() as made:
            stored(checks)
            assert len(made._workers) == 3
        assert results(checks) == once(checks)

    def test_each_due_check_is_probed_once_however_often_it_ticks(self, vendors: Vendors):
        checks = make(20)
        with running() as made:
            stored(checks)
            for _ in range(20):
                made.tick()
        assert vendors.fake.calls == once(checks)
        assert results(checks) == once(checks)
        assert statuses(checks) == {"healthy"}

    def test_and_again_when_it_is_due_again(self, vendors: Vendors):
        checks = make(5)
        with running():
            stored(checks)
            due_again(checks)
            stored(checks, 2)
        assert set(vendors.fake.calls.values()) == {2}

    def test_it_goes_on_by_itself_at_the_interval(self, vendors: Vendors):
        checks = make(3, interval=0.2)
        with running():
            stored(checks, 5)
        assert set(Rollup.objects.filter(level=86_400).values_list("check_id", flat=True)) == {c.id for c in checks}

    def test_five_hundred_checks_due_at_once_are_each_probed_once(self, vendors: Vendors):
        checks = [check for _ in range(10) for check in make(50, "plain")]
        with running(threads=16, width=8):
            stored(checks)
        assert vendors.plain.calls == once(checks)
        assert vendors.plain.peak <= 16

    def test_a_check_due_within_the_horizon_is_started_when_it_is_due(self, vendors: Vendors):
        (check,) = make(1)
        CheckState.objects.update(next_due_at=Now() + timedelta(seconds=0.6))
        due = CheckState.objects.get().next_due_at
        with running():
            stored([check])
        assert ProbeResult.objects.get(check_ref=check).at >= due - timedelta(milliseconds=50)

    def test_what_fails_turns_critical_and_recovers(self, vendors: Vendors):
        checks = make(3, interval=0.1, confirm_down=2, confirm_up=2)
        with running():
            eventually(lambda: statuses(checks) == {"healthy"}, "healthy")
            vendors.fake.answer = down
            eventually(lambda: statuses(checks) == {"critical"}, "critical")
            vendors.fake.answer = healthy
            eventually(lambda: statuses(checks) == {"healthy"}, "healthy again")
        changes = StateChange.objects.filter(check_ref=checks[0]).order_by("id").values_list("old", "new")
        assert list(changes) == [("unknown", "healthy"), ("healthy", "critical"), ("critical", "healthy")]

    def test_a_first_failure_is_confirmed_before_the_interval_is_over(self, vendors: Vendors):
        checks = make(2, interval=600, confirm_down=2)
        vendors.fake.answer = down
        with running():
            eventually(lambda: statuses(checks) == {"critical"}, "critical")

    def test_a_provider_that_crashes_is_our_error(self, vendors: Vendors):
        def crash(context: ProbeContext) -> ProbeOutcome:
            raise RuntimeError("boom")

        vendors.fake.answer = crash
        checks = make(2, confirm_down=1)
        with running():
            stored(checks)
        assert statuses(checks) == {"error"}

    def test_a_check_without_its_credential_is_not_configured(self, vendors: Vendors):
        check = make_check(make_service(provider="fake"), "login", options={})
        with running():
            eventually(lambda: statuses([check]) == {"not_configured"}, "not configured")
        assert vendors.fake.total == 0
        assert CheckState.objects.get().missing == ["FAKE_KEY"]

    def test_paused_checks_are_left_alone(self, vendors: Vendors):
        asleep, awake = make(1, paused_at=timezone.now()), make(1)
        with running():
            stored(awake)
        assert vendors.fake.calls == once(awake)
        assert results(asleep) == {}


class TestLanes:
    def test_a_vendor_that_hangs_does_not_delay_the_others(self, vendors: Vendors):
        vendors.slow.gate.clear()
        hanging, others = make(30, "slow"), make(30, "fake")
        with running(threads=8, width=4):
            stored(others)
            assert vendors.slow.running == 4
            assert results(hanging) == {}
            vendors.slow.gate.set()
            stored(hanging)
        assert vendors.slow.peak == 4

    def test_each_service_of_a_generic_provider_is_a_lane_of_its_own(self, vendors: Vendors):
        vendors.plain.gate.clear()
        make(5, "plain")
        make(5, "plain")
        with running(threads=8, width=2):
            eventually(lambda: vendors.plain.running == 4, "two of each")
            vendors.plain.gate.set()
        assert vendors.plain.peak == 4

    def test_no_more_threads_than_allowed_whatever_the_number_of_lanes(self, vendors: Vendors):
        vendors.plain.gate.clear()
        checks = [check for _ in range(6) for check in make(2, "plain")]
        with running(threads=3, width=4):
            eventually(lambda: vendors.plain.running == 3, "all threads are busy")
            vendors.plain.gate.set()
            stored(checks)
        assert vendors.plain.peak == 3


class TestTwoWorkers:
    def test_they_never_probe_one_due_check_twice(self, vendors: Vendors):
        with running() as one, running() as other:
            assert one.log is not None
            assert other.log is not None
            checks = [check for _ in range(6) for check in make(40, "plain")]
            stored(checks)
            due_again(checks)
            stored(checks, 2)
        assert set(vendors.plain.calls.values()) == {2}
        assert set(results(checks).values()) == {2}

    def test_a_second_scheduler_that_ticks_too_does_no_harm(self, vendors: Vendors):
        checks = make(30)
        with running() as made:
            threads = [threading.Thread(target=lambda: [made.tick() for _ in range(200)]) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stored(checks)
        assert vendors.fake.calls == once(checks)

    def test_when_one_dies_in_mid_probe_the_other_probes_again(self, vendors: Vendors):
        numbers, released = itertools.count(), threading.Event()

        def first_one_hangs(context: ProbeContext) -> ProbeOutcome:
            if next(numbers) == 0:
                released.wait(20)
                return down(context)
            return healthy(context)

        vendors.fake.answer = first_one_hangs
        with running(ticking=False) as dying:
            checks = make(1, confirm_down=1)
            dying.tick()
            eventually(lambda: vendors.fake.total == 1, "the first probe runs")
            # As if the lease's time were over; a dead process says nothing any more.
            CheckState.objects.update(lease_until=Now() - timedelta(seconds=1), lease_owner=uuid.uuid4())
            with running():
                stored(checks)
            released.set()
        assert vendors.fake.total == 2
        assert results(checks) == once(checks)  # the late result of the first does not count
        assert statuses(checks) == {"healthy"}

    def test_a_process_tidied_away_by_mistake_comes_back(self, vendors: Vendors):
        with running() as made:
            assert made.log is not None
            Process.objects.all().delete()
            made.log._reported = 0.0
            eventually(lambda: Process.objects.filter(id=made.log.process_id).exists(), "its row is back")  # type: ignore[union-attr]


class Outage:
    """A database that refuses for a while."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lasts = False
        self.refused: Counter[str] = Counter()
        for module, name in ((claims, "claim"), (claims, "give_back"), (store, "settle")):
            patch.setattr(module, name, self._guarded(name, getattr(module, name)))

    def _guarded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            if self.lasts:
                self.refused[name] += 1
                raise OperationalError("the database system is shutting down")
            return call(*arguments)

        return guarded


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(monkeypatch)


class TestDatabaseAway:
    def test_results_wait_for_it_and_nobody_is_called_down(self, vendors: Vendors, outage: Outage):
        vendors.fake.gate.clear()
        checks = make(6, confirm_down=1)
        with running(width=6):
            eventually(lambda: vendors.fake.running == 6, "all are being probed")
            outage.lasts = True
            vendors.fake.gate.set()
            eventually(lambda: outage.refused["settle"] >= 2 and outage.refused["claim"] >= 2, "it is refused")
            assert results(checks) == {}
            outage.lasts = False
            stored(checks)
        assert results(checks) == once(checks)
        assert statuses(checks) == {"healthy"}

    def test_what_waits_at_the_end_is_given_up(self, vendors: Vendors, outage: Outage):
        vendors.fake.gate.clear()
        checks = make(2)
        with running() as made:
            eventually(lambda: vendors.fake.running == 2, "both are being probed")
            outage.lasts = True
            vendors.fake.gate.set()
            eventually(lambda: outage.refused["settle"], "it is refused")
        assert results(checks) == {}
        assert not any(thread.is_alive() for thread in made._workers)

    def test_a_postgresql_that_is_stopped_and_started_loses_nothing(
        self, vendors: Vendors, embedded_database: Server
    ):
        vendors.fake.gate.clear()
        checks = make(6, confirm_down=1)
        with running(width=6) as made:
            eventually(lambda: vendors.fake.running == 6, "all are being probed")
            connection.close()
            embedded_database.stop()
            try:
                vendors.fake.gate.set()
                eventually(lambda: made.stalls._failed, "the prober notices")
            finally:
                embedded_database.start()
            stored(checks)
            assert results(checks) == once(checks)
            due_again(checks)
            stored(checks, 2)  # and probing goes on
        assert statuses(checks) == {"healthy"}

    def test_too_many_waiting_results_stop_the_claiming(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        checks = make(2)
        with monkeypatch.context() as patch:
            patch.setattr(prober, "KEPT_RESULTS", -1)
            with running() as made:
                eventually(lambda: made.hungry, "it asks for no more")
                assert vendors.fake.total == 0
                patch.undo()
                stored(checks)


class TestBadResults:
    def test_one_that_cannot_be_stored_does_not_hold_up_the_others(
        self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
    ):
        checks = make(10)
        poison, settle = checks[4].id, store.settle

        def refuse_one(batch: Sequence[Finished]) -> int:
            if any(one.check_id == poison for one in batch):
                raise DataError("invalid input")
            return settle(batch)

        monkeypatch.setattr(store, "settle", refuse_one)
        good = [check for check in checks if check.id != poison]
        with running():
            stored(good)
        assert results(checks) == once(good)

    def test_a_fault_in_claiming_does_not_end_all_probing(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        claim, faults = claims.claim, itertools.count()

        def fails_at_first(*arguments: Any) -> Any:
            if next(faults) < 2:
                raise RuntimeError("a broken provider module")
            return claim(*arguments)

        monkeypatch.setattr(claims, "claim", fails_at_first)
        checks = make(2)
        with running() as made:
            stored(checks)
            assert not made.stalls._failed


class TestStandstill:
    def test_a_failure_during_our_own_standstill_is_dropped_and_probed_again(self, vendors: Vendors):
        numbers = itertools.count()
        with running() as made:

            def fails_while_we_stand_still(context: ProbeContext) -> ProbeOutcome:
                if next(numbers) == 0:
                    made.stalls.note_stall(time.monotonic())
                    return down(context)
                return healthy(context)

            vendors.fake.answer = fails_while_we_stand_still
            checks = make(1, confirm_down=1)
            stored(checks)
        assert vendors.fake.total == 2
        assert results(checks) == once(checks)
        assert statuses(checks) == {"healthy"}

    def test_what_works_during_a_standstill_counts(self, vendors: Vendors):
        with running() as made:

            def works(context: ProbeContext) -> ProbeOutcome:
                made.stalls.note_stall(time.monotonic())
                return healthy(context)

            vendors.fake.answer = works
            checks = make(1)
            stored(checks)
        assert vendors.fake.total == 1

    def test_a_probe_that_starts_when_its_lease_is_nearly_over_is_given_back(self, vendors: Vendors):
        make(1)
        made = Prober(2, 2)
        (claim,) = claims.claim(uuid.uuid4(), 1, {}, 1)
        started = time.monotonic()
        made._probe(Planned(started - claims.LEASE_MARGIN, 0, claim, started - claims.LEASE_MARGIN), started)
        assert vendors.fake.total == 0
        assert CheckState.objects.get().lease_token is None


class TestStopping:
    def test_what_runs_is_finished_and_the_rest_given_back(self, vendors: Vendors):
        vendors.slow.gate.clear()
        checks = make(10, "slow")
        with running(threads=2, width=2) as made:
            eventually(lambda: vendors.slow.running == 2, "two are being probed")
            eventually(lambda: CheckState.objects.exclude(lease_token=None).count() > 2, "others wait")
            threading.Timer(0.2, vendors.slow.gate.set).start()
        assert vendors.slow.total == 2
        assert sum(results(checks).values()) == 2
        assert not CheckState.objects.exclude(lease_token=None).exists()
        assert not Process.objects.exists()
        assert not any(thread.is_alive() for thread in made._workers)

    def test_a_prober_that_never_ticked_stops_too(self):
        with running(ticking=False) as made:
            pass
        assert made.log is None
        assert not any(thread.is_alive() for thread in made._workers)

    def test_a_process_has_one_prober_and_the_tick_starts_it(self, vendors: Vendors):
        checks = make(3)
        try:
            tasks.tick()
            stored(checks)
            made = prober.prober()
            assert made is prober.prober()
        finally:
            prober.stop()
        assert made.stopping
        prober.stop()  # a second time does nothing
        assert prober._prober is None


@pytest.fixture
def set_clock() -> Iterator[Callable[[timedelta], None]]:
    """Lets the database's clock jump: ``now()`` of a schema that comes before PostgreSQL's own."""
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA clock")
        cursor.execute("CREATE TABLE clock.jump AS SELECT interval '0' AS by")
        for function in ("now", "statement_timestamp"):
            cursor.execute(
                f"CREATE FUNCTION clock.{function}() RETURNS timestamptz LANGUAGE sql STABLE AS"
                f" 'SELECT pg_catalog.{function}() + by FROM clock.jump'"
            )
        cursor.execute(f'ALTER DATABASE "{name}" SET search_path = clock, pg_catalog, public')
    connection.close()

    def jump(by: timedelta) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE clock.jump SET by = %s", [by])

    yield jump
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" RESET search_path')
        cursor.execute("DROP SCHEMA clock CASCADE")
    connection.close()


class TestClock:
    @pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
    def test_an_hour_calls_nobody_down_and_probing_goes_on(
        self, vendors: Vendors, set_clock: Callable[[timedelta], None], hours: int
    ):
        checks = make(3, interval=0.3, confirm_down=1)
        job = make_check(kind="heartbeat", interval=0.3, confirm_down=1, options={"period": 120, "grace": 0})
        Heartbeat.objects.filter(check_ref=job).update(last_success_at=timezone.now())
        everything = [*checks, job]
        with running():
            stored(everything, 2)
            for by in (timedelta(hours=hours), timedelta(0)):
                set_clock(by)
                before = sum(results(everything).values())
                eventually(lambda: sum(results(everything).values()) >= before + 12, "probing goes on")  # noqa: B023
                assert statuses(everything) == {"healthy"}
        assert not ProbeResult.objects.filter(check_ref__in=everything).exclude(outcome="healthy").exists()
        half, more = sorted(timezone.now() + timedelta(hours=hours * share) for share in (0.5, 1.5))
        moved = ProbeResult.objects.filter(check_ref__in=everything, at__gt=half, at__lt=more)
        assert moved.exists()

    def test_long_intervals_go_on_too_after_the_clock_went_back(
        self, vendors: Vendors, set_clock: Callable[[timedelta], None]
    ):
        checks = make(3, interval=60)
        with running():
            stored(checks)
            set_clock(timedelta(hours=-1))
            stored(checks, 2)
        assert set(vendors.fake.calls.values()) == {2}


class TestFaultsOfOurOwn:
    def test_a_fault_after_a_probe_ends_no_thread(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        def fail(*_: Any) -> None:
            raise RuntimeError("a fault in counting")

        monkeypatch.setattr(prober.WorkerLog, "probed", fail)
        checks = make(12)
        with running(threads=2, width=2):
            stored(checks)
        assert vendors.fake.calls == once(checks)

    def test_a_lease_that_cannot_be_given_back_runs_out_by_itself(self, vendors: Vendors, outage: Outage):
        make(1)
        made = Prober(2, 2)
        (claim,) = claims.claim(uuid.uuid4(), 1, {}, 1)
        outage.lasts = True
        made._give_back(Planned(time.monotonic(), 0, claim, time.monotonic()))
        assert outage.refused["give_back"] == 1

    def test_batches_are_bounded(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(prober, "STORE_LIMIT", 2)
        sizes: list[int] = []
        settle = store.settle
        monkeypatch.setattr(store, "settle", lambda batch: sizes.append(len(batch)) or settle(batch))
        checks = make(9)
        with running():
            stored(checks)
        assert sum(sizes) == 9
        assert max(sizes) <= 2

    def test_a_probe_before_the_process_is_known_as_a_worker_counts_too(self, vendors: Vendors):
        make(1)
        made = Prober(2, 2)
        (claim,) = claims.claim(uuid.uuid4(), 1, {}, 1)
        now = time.monotonic()
        made._probe(Planned(now, 0, claim, now), now)
        finished = made.results.get_nowait()
        assert finished is not None
        assert finished.check_id == claim.check_id
