from __future__ import annotations

import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import histogram, store
from monitoring.models import Check, CheckState, ProbeResult, Rollup, Service, StateChange
from monitoring.store import Finished
from providers.base import ProbeOutcome
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.vocabulary import Category, Outcome, Timings

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


def state_of(check: Check) -> CheckState:
    return CheckState.objects.get(check_ref=check)


def changes_of(check: Check) -> list[tuple[str, str]]:
    return list(StateChange.objects.filter(check_ref=check).order_by("id").values_list("old", "new"))


def settle(check: Check, word: str = "healthy", **fields: Any) -> int:
    return store.settle([finished(check, outcome(word, **fields))])


def rollups(check: Check) -> dict[tuple[int, datetime], tuple[Any, ...]]:
    """(level, start) -> (healthy, degraded, critical, error, sum, max, histogram by bin)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT level, start, healthy, degraded, critical, error, sum_ms, max_ms,"
            " array_lower(histogram, 1), histogram FROM monitoring_rollup WHERE check_id = %s",
            [check.id],
        )
        rows = cursor.fetchall()
    found = {}
    for level, start, *counts, total, top, lowest, bins in rows:
        counted = {index: number for index, number in enumerate(bins, lowest or 0) if number}
        found[level, start] = (*counts, pytest.approx(total), top, counted)
    return found


def recomputed(results: Iterable[tuple[datetime, str, float | None]]) -> dict[tuple[int, datetime], tuple[Any, ...]]:
    """What the rollups of these raw results must be, counted plainly."""
    buckets = defaultdict(list)
    for at, word, ms in results:
        for level in (60, 960, 3600, 86_400):
            start = datetime.fromtimestamp(at.timestamp() // level * level, UTC)
            buckets[level, start].append((word, ms))
    found = {}
    for key, members in buckets.items():
        words = Counter(word for word, _ in members)
        times = [ms for _, ms in members if ms is not None]
        counts = [words[word] for word in ("healthy", "degraded", "critical", "error")]
        found[key] = (*counts, sum(times), max(times, default=None), dict(Counter(map(histogram.bin_of, times))))
    return found


class TestOneResult:
    def test_it_is_stored_with_its_rollups_and_state(self):
        check = make_check()
        assert settle(check, ms=120) == 1

        state = state_of(check)
        assert (state.status, state.outcome, state.total_ms, state.recent_ms) == ("healthy", "healthy", 120, [120])
        assert (state.lease_token, state.lease_until, state.lease_owner) == (None, None, None)
        assert ProbeResult.objects.filter(check_ref=check, manual=False).count() == 1
        assert sorted(Rollup.objects.values_list("level", "healthy")) == [(60, 1), (960, 1), (3600, 1), (86400, 1)]
        assert Service.objects.get().status == "healthy"
        assert [(c.old, c.new) for c in StateChange.objects.all()] == [("unknown", "healthy")] * 2

    def test_every_field_of_an_outcome_is_kept(self):
        check = make_check()
        timings = Timings(dns_ms=1, connect_ms=2, tls_ms=3, first_byte_ms=4, total_ms=10.5)
        found = ProbeOutcome(
            Outcome.CRITICAL, Category.SERVER_ERROR, "500", timings, http_status=500, details={"request_id": "r1"}
        )
        store.settle([finished(check, found)])
        row = ProbeResult.objects.get(check_ref=check)
        assert (row.outcome, row.category, row.message, row.http_status) == ("critical", "SERVER_ERROR", "500", 500)
        assert (row.dns_ms, row.connect_ms, row.tls_ms, row.first_byte_ms, row.total_ms) == (1, 2, 3, 4, 10.5)
        assert row.details == {"request_id": "r1"}
        state = state_of(check)
        assert (state.category, state.message, state.http_status) == ("SERVER_ERROR", "500", 500)
        assert state.details == {"request_id": "r1"}

    def test_statuses_follow_the_outcomes_one_by_one(self):
        check = make_check(confirm_down=2, confirm_up=2)
        found = []
        for word in ("healthy", "critical", "healthy", "critical", "critical", "healthy", "healthy"):
            settle(check, word)
            found.append(state_of(check).status)
        assert found == ["healthy", "healthy", "healthy", "healthy", "critical", "critical", "healthy"]
        assert changes_of(check) == [("unknown", "healthy"), ("healthy", "critical"), ("critical", "healthy")]

    def test_a_change_tells_why_and_when(self):
        check = make_check(confirm_down=1)
        settle(check)
        at = timezone.now() - timedelta(seconds=3)
        bad = outcome("critical", category=Category.TIMEOUT_ERROR, message="timed out")
        store.settle([finished(check, bad, at=at)])
        change = StateChange.objects.get(check_ref=check, new="critical")
        assert (change.at, change.category, change.reason) == (at, "TIMEOUT_ERROR", "timed out")
        assert state_of(check).status_since == at
        service = Service.objects.get()
        assert (service.status, service.status_since, service.reason) == ("critical", at, f"{check.name}: timed out")

    def test_since_when_it_is_so_stays_while_it_is_so(self):
        check = make_check()
        settle(check)
        since = state_of(check).status_since
        settle(check)
        assert state_of(check).status_since == since

    def test_outcomes_and_times_are_remembered_up_to_their_limits(self):
        check = make_check()
        for number in range(35):
            settle(check, ms=float(number))
        state = state_of(check)
        assert state.recent == ["healthy"] * 20
        assert state.recent_ms == [float(number) for number in range(5, 35)]

    def test_a_result_without_a_time_leaves_a_gap_in_the_sparkline(self):
        check = make_check()
        settle(check, ms=None)
        assert state_of(check).recent_ms == [None]
        assert all(row[-1] == {} and row[-2] is None for row in rollups(check).values())


class TestWhenItIsDueNext:
    def due_in(self, check: Check) -> float:
        return (state_of(check).next_due_at - timezone.now()).total_seconds()

    def test_a_first_failure_of_an_unknown_check_is_confirmed_at_once(self):
        check = make_check(interval=600)
        settle(check, "critical")
        assert self.due_in(check) <= 1.0

    def test_a_known_check_keeps_its_interval_when_it_fails(self):
        check = make_check(interval=600)
        settle(check)
        settle(check, "critical")
        assert self.due_in(check) > 60

    def test_a_check_on_time_keeps_its_phase(self):
        check = make_check(interval=600)
        settle(check)
        due = timezone.now() - timedelta(seconds=2)
        CheckState.objects.update(next_due_at=due)
        settle(check)
        assert state_of(check).next_due_at == due + timedelta(seconds=600)

    def test_new_checks_spread_over_their_interval(self):
        checks = [make_check(interval=1000) for _ in range(20)]
        store.settle([finished(check) for check in checks])
        waits = [self.due_in(check) for check in checks]
        assert all(90 < wait <= 1000 for wait in waits)
        assert max(waits) - min(waits) > 100

    def test_an_overdue_check_is_not_made_up_for(self):
        check = make_check(interval=10)
        settle(check)
        CheckState.objects.update(next_due_at=timezone.now() - timedelta(hours=1))
        settle(check)
        assert 0 < self.due_in(check) <= 10

    def test_a_due_time_of_a_clock_that_went_back_is_set_anew(self):
        check = make_check(interval=10)
        settle(check)
        CheckState.objects.update(next_due_at=timezone.now() + timedelta(hours=1))
        settle(check)
        assert 0 < self.due_in(check) <= 10

    def test_who_made_it_due_meanwhile_is_heeded(self):
        check = make_check(interval=600)
        one = finished(check)
        meant = timezone.now() - timedelta(seconds=1)
        CheckState.objects.update(next_due_at=meant)
        store.settle([one])
        assert state_of(check).next_due_at == meant

    def test_who_made_it_due_meanwhile_is_heeded_without_a_credential_too(self):
        check = make_check(interval=600)
        one = finished(check, missing=("KEY",))
        meant = timezone.now() - timedelta(seconds=1)
        CheckState.objects.update(next_due_at=meant)
        store.settle([one])
        assert state_of(check).next_due_at == meant


class TestExactlyOnce:
    def test_the_same_batch_twice_counts_once(self):
        checks = [make_check() for _ in range(3)]
        batch = [finished(check) for check in checks]
        assert store.settle(batch) == 3
        assert store.settle(batch) == 0
        assert ProbeResult.objects.count() == 3
        assert all(row.healthy == 1 for row in Rollup.objects.all())

    def test_the_same_result_twice_in_one_batch_counts_once(self):
        one = finished(make_check())
        assert store.settle([one, one]) == 1
        assert ProbeResult.objects.count() == 1
        assert set(Rollup.objects.values_list("healthy", flat=True)) == {1}

    def test_two_leases_of_one_check_in_one_batch_count_once(self):
        check = make_check()
        late = finished(check, outcome("critical"))
        valid = finished(check, outcome("healthy"))
        assert store.settle([late, valid]) == 1
        assert [row.outcome for row in ProbeResult.objects.all()] == ["healthy"]
        assert state_of(check).status == "healthy"

    def test_a_result_under_a_lease_taken_over_is_dropped(self):
        check = make_check()
        old = finished(check, outcome("critical"))
        CheckState.objects.update(lease_token=uuid.uuid4())
        assert store.settle([old]) == 0
        assert not ProbeResult.objects.exists()
        assert state_of(check).lease_token is not None

    def test_a_result_of_a_check_that_is_gone_does_not_hold_up_the_others(self):
        gone, here = make_check(), make_check()
        batch = [finished(gone), finished(here)]
        gone.delete()
        assert store.settle(batch) == 1
        assert state_of(here).status == "healthy"

    def test_nothing_to_store_is_fine(self):
        assert store.settle([]) == 0

    def test_a_failure_on_the_way_stores_nothing_at_all(self, monkeypatch: pytest.MonkeyPatch):
        check = make_check()
        one = finished(check)
        with monkeypatch.context() as patch:
            patch.setattr(store, "_announce", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store.settle([one])
        assert not ProbeResult.objects.exists()
        assert not Rollup.objects.exists()
        assert store.settle([one]) == 1
        assert set(Rollup.objects.values_list("healthy", flat=True)) == {1}


class TestRollups:
    @pytest.mark.parametrize("back", [timedelta(minutes=2), timedelta(hours=3), timedelta(days=2)])
    def test_a_late_result_is_counted_where_it_belongs(self, back: timedelta):
        check = make_check()
        store.settle([finished(check, at=NOON)])
        store.settle([finished(check, outcome("critical", ms=900), at=NOON - back)])
        assert rollups(check) == recomputed([(NOON, "healthy", 100.0), (NOON - back, "critical", 900.0)])

    def test_results_of_several_days_at_once_are_counted_each_in_its_own(self):
        checks = [make_check() for _ in range(4)]
        moments = [NOON - timedelta(days=days) for days in range(4)]
        store.settle([finished(check, at=at) for check, at in zip(checks, moments, strict=True)])
        for check, at in zip(checks, moments, strict=True):
            assert rollups(check) == recomputed([(at, "healthy", 100.0)])

    def test_a_bucket_begins_with_its_first_microsecond(self):
        check = make_check()
        edge = datetime(2026, 11, 21, tzinfo=UTC)
        before = edge - timedelta(microseconds=1)
        for at in (before, edge):
            store.settle([finished(check, at=at)])
        assert rollups(check) == recomputed([(before, "healthy", 100.0), (edge, "healthy", 100.0)])

    results = st.tuples(
        st.integers(-3 * 86_400_000, 0),
        st.sampled_from(["healthy", "degraded", "critical", "error"]),
        st.none() | st.floats(0.01, 300_000),
    )

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        rounds=st.lists(st.lists(results, min_size=1, max_size=3), max_size=8),
        split=st.booleans(),
        again=st.booleans(),
    )
    def test_they_equal_what_the_raw_results_give(
        self, rounds: list[list[tuple[int, str, float | None]]], split: bool, again: bool
    ):
        checks = [make_check() for _ in range(3)]
        batches: list[list[Finished]] = []
        for members in rounds:
            batch = [
                finished(check, outcome(word, ms=ms), at=NOON + timedelta(milliseconds=offset))
                for check, (offset, word, ms) in zip(checks, members, strict=False)
            ]
            for part in [[one] for one in batch] if split else [batch]:
                store.settle(part)
            batches.append(batch)
            if again:
                assert store.settle([one for earlier in batches for one in earlier]) == 0
        for check in checks:
            raw = list(ProbeResult.objects.filter(check_ref=check).values_list("at", "outcome", "total_ms"))
            assert rollups(check) == recomputed(raw)
        assert ProbeResult.objects.filter(check_ref__in=checks).count() == sum(map(len, rounds))


class TestNotConfigured:
    def test_it_names_what_to_set_and_counts_nothing(self):
        check = make_check()
        assert store.settle([finished(check, missing=("STRIPE_SECRET_KEY", "OTHER"))]) == 1
        state = state_of(check)
        assert (state.status, state.missing) == ("not_configured", ["STRIPE_SECRET_KEY", "OTHER"])
        assert state.lease_token is None
        assert state.next_due_at > timezone.now()
        assert not ProbeResult.objects.exists()
        assert not Rollup.objects.exists()
        assert Service.objects.get().status == "not_configured"
        assert StateChange.objects.get(check_ref=check).reason == "set STRIPE_SECRET_KEY, OTHER"

    def test_once_configured_it_starts_anew(self):
        check = make_check(confirm_down=2)
        settle(check, "critical")
        store.settle([finished(check, missing=("KEY",))])
        settle(check, "critical")
        assert state_of(check).status == "not_configured"  # the failure of before does not count
        settle(check, "healthy")
        state = state_of(check)
        assert (state.status, state.missing) == ("healthy", [])

    def test_staying_so_is_no_change(self):
        check = make_check()
        for _ in range(3):
            store.settle([finished(check, missing=("KEY",))])
        assert changes_of(check) == [("unknown", "not_configured")]

    def test_it_forgets_the_last_result(self):
        check = make_check()
        settle(check, "critical", category=Category.SERVER_ERROR)
        store.settle([finished(check, missing=("KEY",))])
        state = state_of(check)
        assert (state.outcome, state.category, state.message, state.total_ms) == ("", "", "", None)

    def test_it_may_stand_beside_others_in_a_batch(self):
        service = make_service()
        without, healthy = make_check(service), make_check(service)
        assert store.settle([finished(without, missing=("KEY",)), finished(healthy)]) == 2
        assert Service.objects.get().status == "healthy"


class TestServices:
    def test_two_results_of_one_service_settle_it_once(self):
        service = make_service()
        good, bad = make_check(service, confirm_down=1), make_check(service, confirm_down=1)
        store.settle([finished(good), finished(bad, outcome("critical", message="refused"))])
        service.refresh_from_db()
        assert (service.status, service.reason) == ("critical", f"{bad.name}: refused")
        assert StateChange.objects.filter(check_ref=None).count() == 1

    def test_it_recovers_when_its_last_bad_check_does(self):
        service = make_service()
        checks = [make_check(service, confirm_down=1, confirm_up=1) for _ in range(2)]
        store.settle([finished(check, outcome("critical")) for check in checks])
        settle(checks[0])
        service.refresh_from_db()
        assert service.status == "critical"
        settle(checks[1])
        service.refresh_from_db()
        assert service.status == "healthy"

    def test_archived_checks_do_not_count(self):
        service = make_service()
        old = make_check(service, archived_at=timezone.now())
        CheckState.objects.filter(check_ref=old).update(status="critical")
        settle(make_check(service))
        service.refresh_from_db()
        assert service.status == "healthy"

    def test_paused_checks_do_not_count(self):
        service = make_service()
        asleep = make_check(service, paused_at=timezone.now())
        CheckState.objects.filter(check_ref=asleep).update(status="critical")
        settle(make_check(service))
        service.refresh_from_db()
        assert service.status == "healthy"


class TestBadInput:
    @pytest.mark.parametrize(
        ("message", "kept"),
        [
            ("a\x00b", "ab"),
            ("x" * 2_000, "x" * 500),
            ("Zeitüberschreitung ✗ 超时", "Zeitüberschreitung ✗ 超时"),
            ("😀" * 600, "😀" * 500),
            ("half \udc80", "half ?"),
            ("'; DROP TABLE monitoring_rollup; --", "'; DROP TABLE monitoring_rollup; --"),
        ],
    )
    def test_any_message_is_stored(self, message: str, kept: str):
        check = make_check(confirm_down=1)
        assert settle(check, "critical", message=message) == 1
        assert ProbeResult.objects.get(check_ref=check).message == kept
        assert state_of(check).message == kept
        assert StateChange.objects.get(check_ref=check).reason == kept

    @pytest.mark.parametrize("ms", [float("nan"), float("inf"), float("-inf")])
    def test_a_time_that_is_no_number_is_none(self, ms: float):
        check = make_check()
        assert settle(check, ms=ms) == 1
        assert state_of(check).total_ms is None

    @pytest.mark.parametrize(("given_status", "kept"), [(200, 200), (999, 999), (99_999, None), (-1, None)])
    def test_a_status_no_target_may_send_is_not_kept(self, given_status: int, kept: int | None):
        check = make_check()
        assert settle(check, http_status=given_status) == 1
        assert ProbeResult.objects.get(check_ref=check).http_status == kept

    def test_what_cannot_be_stored_leaves_no_half_batch(self):
        good, bad = make_check(), make_check()
        batch = [finished(good), finished(bad, outcome(details={"half": "\ud800"}))]
        with pytest.raises(DatabaseError), transaction.atomic():
            store.settle(batch)
        assert not ProbeResult.objects.exists()
        assert store.settle(batch[:1]) == 1


class TestManual:
    def test_it_enters_the_log_and_nothing_else(self):
        check = make_check()
        before = state_of(check)
        store.record_manual(check.id, timezone.now(), outcome("critical", category=Category.DNS_ERROR))
        row = ProbeResult.objects.get()
        assert (row.manual, row.outcome, row.category) == (True, "critical", "DNS_ERROR")
        assert not Rollup.objects.exists()
        after = state_of(check)
        assert (after.status, after.recent, after.next_due_at) == (before.status, [], before.next_due_at)


class TestAnnouncements:
    def test_a_change_and_a_tick_are_published(self, monkeypatch: pytest.MonkeyPatch):
        said: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(store.live, "publish", lambda kind, payload: said.append((kind, payload)))
        check = make_check()
        at = datetime(2026, 11, 21, 12, tzinfo=UTC)
        store.settle([finished(check, outcome(ms=42), at=at)])
        tick = {"checks": {str(check.id): [check.service_id, 42, at.timestamp(), "healthy"]}}
        assert said == [("state", {"services": [check.service_id]}), ("tick", tick)]

    def test_an_ordinary_result_is_only_a_tick(self, monkeypatch: pytest.MonkeyPatch):
        check = make_check()
        settle(check)
        said: list[str] = []
        monkeypatch.setattr(store.live, "publish", lambda kind, payload: said.append(kind))
        settle(check)
        assert said == ["tick"]

    def test_a_check_that_is_not_configured_has_no_tick(self, monkeypatch: pytest.MonkeyPatch):
        said: list[str] = []
        monkeypatch.setattr(store.live, "publish", lambda kind, payload: said.append(kind))
        check = make_check()
        for _ in range(2):
            store.settle([finished(check, missing=("KEY",))])
        assert said == ["state"]


@pytest.mark.django_db(transaction=True)
class TestConcurrency:
    def in_threads(self, *batches: list[Finished]) -> list[int]:
        barrier = threading.Barrier(len(batches))
        counted: list[int] = []

        def work(batch: list[Finished]) -> None:
            try:
                barrier.wait(10)
                counted.append(store.settle(batch))
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return sorted(counted)

    def test_two_workers_that_change_two_checks_of_a_service_agree_on_it(self, monkeypatch: pytest.MonkeyPatch):
        service = make_service()
        one, other = make_check(service, confirm_up=1), make_check(service, confirm_up=1)
        CheckState.objects.filter(check_ref__service=service).update(status="critical")
        Service.objects.filter(id=service.id).update(status="critical")
        batches = [[finished(one)], [finished(other)]]
        second, announce = threading.Event(), store._announce

        def dawdle(decided: Any, changed: Any) -> None:
            """The first holds its transaction open for as long as the second, unless it is made to wait, takes."""
            announce(decided, changed)
            if decided[0].finished.check_id == one.id:
                second.wait(0.5)
            else:
                second.set()

        monkeypatch.setattr(store, "_announce", dawdle)
        assert self.in_threads(*batches) == [1, 1]
        service.refresh_from_db()
        assert service.status == "healthy"

    def test_two_workers_with_the_same_results_count_them_once(self):
        checks = [make_check() for _ in range(10)]
        batch = [finished(check) for check in checks]
        assert self.in_threads(batch, list(reversed(batch))) == [0, 10]
        assert ProbeResult.objects.filter(check_ref__in=checks).count() == 10
        assert set(Rollup.objects.values_list("healthy", flat=True)) == {1}

    def test_many_workers_share_a_service_without_deadlock(self):
        service = make_service()
        checks = [make_check(service, confirm_down=1) for _ in range(8)]
        words = ["healthy", "critical"] * 4
        batches = [[finished(check, outcome(word))] for check, word in zip(checks, words, strict=True)]
        assert self.in_threads(*batches) == [1] * 8
        service.refresh_from_db()
        assert service.status == "critical"


def test_a_batch_may_be_as_large_as_the_prober_makes_it():
    service = make_service()
    Check.objects.bulk_create(Check(service=service, name=f"c{n}", kind="http") for n in range(512))
    checks = list(Check.objects.filter(service=service))
    CheckState.objects.bulk_create(CheckState(check_ref=check, lease_token=uuid.uuid4()) for check in checks)
    template = finished(make_check(service))
    states = CheckState.objects.filter(check_ref__in=checks)
    batch = [
        replace(template, check_id=state.check_ref_id, token=state.lease_token, due_at=state.next_due_at)
        for state in states
    ]
    assert store.settle(batch) == 512
    assert Rollup.objects.count() == 512 * 4
