"""The shared half, on a real PostgreSQL: races, sums, and a log that tells everything."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from monitoring.breakers import machine, store
from monitoring.breakers.machine import Fold, Mode, Trigger
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind
from monitoring.breakers.store import Counted, Counts
from monitoring.models import Breaker, BreakerMinute, BreakerSlot, BreakerTransition, CheckState, Service, StateChange
from monitoring.statuses import settle_services
from tests.monitoring.factories import make_check, make_service

pytestmark = pytest.mark.django_db

COUNTING = {"policy": "counting", "failure_threshold": 3, "recovery_timeout": 30}
SOON = {"policy": "counting", "failure_threshold": 1, "recovery_timeout": 0.05, "success_threshold": 1}
RESTLESS = {
    "policy": "counting", "failure_threshold": 1, "success_threshold": 1,
    "recovery_timeout": 0.001, "recovery_max": 0.001,
}  # fmt: skip


def service(**policy: Any) -> Service:
    return make_service("vendor", breaker=policy)


def shared() -> store.Shared:
    return store.read(["vendor"])["vendor"]


def counted(one: Service, ok: int = 0, fail: int = 0, generation: int = 0, **more: Any) -> Counted:
    at = more.pop("at", None)
    return Counted(one.id, generation, 1.0, Counts(ok=ok, fail=fail, **more), at)


def trip(one: Service) -> None:
    """Open a counting one."""
    fold = Fold()
    for _ in range(9):
        fold = fold.then(ok=False)
    assert store.add_to_score(one.id, shared().state.generation, fold) is not None


def open_and_due(one: Service) -> None:
    trip(one)
    Breaker.objects.update(opened_at=timezone.now() - timedelta(hours=1))


def together(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run functions in threads, all at the same moment; what they returned."""
    todo = list(works)
    barrier, found = threading.Barrier(len(todo)), [None] * len(todo)

    def run(number: int) -> None:
        try:
            barrier.wait(10)
            found[number] = todo[number]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(todo))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def row_version() -> tuple[Any, ...]:
    """Where and by whom the breaker's row was last written: differs after any write, even of the same values."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ctid::text, xmin::text, xmax::text FROM circuit_breaker_status")
        return tuple(cursor.fetchone())


# -- counting ---------------------------------------------------------------------------------------


def test_a_service_that_nobody_touched_is_closed():
    service()
    found = shared()
    assert (found.state, found.window, found.due_in, found.factor) == (machine.State(), machine.Window(), None, 1.0)


def test_services_that_are_archived_or_not_there_are_left_out():
    make_service("gone", archived_at=timezone.now())
    service()
    assert set(store.read(["vendor", "gone", "never was"])) == {"vendor"}
    assert set(store.read()) == {"vendor"}


def test_the_counts_of_all_processes_add_up():
    one = service()
    for _ in range(3):
        store.count([counted(one, ok=2, fail=1, credential=1, rejected=5)])
    store.count([counted(one, fail=2, limited=2, retry_after=60.0)])
    window = shared().window
    assert (window.ok, window.fail, window.credential, window.limited) == (6, 5, 3, 2)
    assert window.retry_at is not None
    assert (window.retry_at - shared().now).total_seconds() == pytest.approx(60, abs=5)
    assert sum(BreakerMinute.objects.values_list("rejected", flat=True)) == 15


def test_counts_of_another_generation_and_of_another_time_are_outside_the_window():
    one = service()
    now = timezone.now()
    store.count(
        [
            counted(one, ok=1, generation=7),
            counted(one, ok=2, at=now - timedelta(seconds=11)),
            counted(one, ok=4, at=now - timedelta(seconds=5)),
            counted(one, ok=8),
        ]
    )
    assert shared().window.ok == 12
    assert sum(BreakerMinute.objects.values_list("ok", flat=True)) == 15


def test_a_late_count_dates_its_retry_after_to_when_it_was_told():
    one = service()
    at = timezone.now() - timedelta(seconds=5)
    store.count([counted(one, fail=1, at=at, retry_after=20.0)])
    assert BreakerSlot.objects.get().retry_at == at + timedelta(seconds=20)


def test_rejected_calls_alone_make_no_slot():
    store.count([counted(service(), rejected=3)])
    assert not BreakerSlot.objects.exists()


def test_counts_of_a_service_that_is_deleted_meanwhile_are_dropped():
    one, other = service(), make_service("other")
    rows = [counted(one, ok=1), counted(other, ok=1)]
    other.delete()
    store.count(rows)
    assert shared().window.ok == 1
    assert BreakerMinute.objects.count() == 1


def test_nothing_to_count_is_no_transaction(django_assert_num_queries: Any):
    with django_assert_num_queries(0):
        store.count([])


def test_counting_folds_exactly():
    one = service(policy="counting", failure_threshold=50)
    generator, score = random.Random(7), 0
    for _ in range(12):
        fold = Fold()
        for ok in generator.choices([True, False], [4, 5], k=9):
            score = max(score - 1, 0) if ok else score + 1
            fold = fold.then(ok)
        store.add_to_score(one.id, 0, fold)
        assert shared().state.score == score
    assert score > 0


def test_a_fold_of_another_generation_is_dropped():
    one = service(**COUNTING)
    store.reset(one.id, "ann", "")
    assert store.add_to_score(one.id, 0, Fold().then(ok=False)) is None
    assert shared().state.score == 0


def test_a_peak_within_a_fold_opens_it_even_if_it_ends_low():
    one = service(**COUNTING)
    fold = Fold()
    for ok in [False] * 3 + [True] * 3:
        fold = fold.then(ok)
    found = store.add_to_score(one.id, 0, fold)
    assert found is not None
    assert found.state.mode is Mode.OPEN


# -- trials -----------------------------------------------------------------------------------------


def test_an_attempt_that_is_denied_writes_nothing():
    one = service(**COUNTING)
    open_and_due(one)
    assert store.admit(one.id, "first", "me") is not None
    before, logged = row_version(), BreakerTransition.objects.count()
    assert store.admit(one.id, "second", "you") is None
    assert store.end_trial(one.id, "second", OK) is None
    store.renew(one.id, "second")
    assert store.sweep(one.id) is None
    assert store.open_if_crossed(one.id, shared().state.generation) is None
    assert (row_version(), BreakerTransition.objects.count()) == (before, logged)


def test_a_denied_attempt_makes_no_row_either():
    one = service()
    assert store.admit(one.id, "first", "me") is None
    assert store.force(one.id, None, "ann", "", None) is None
    assert not Breaker.objects.exists()


def run_out() -> None:
    """As if a trial's lease had run out meanwhile."""
    row = Breaker.objects.get()
    row.trials = [one | {"until": (timezone.now() - timedelta(seconds=1)).isoformat()} for one in row.trials]
    row.save()


def test_a_lease_that_runs_out_counts_as_a_failure():
    one = service(**COUNTING)
    open_and_due(one)
    store.admit(one.id, "first", "me")
    assert store.sweep(one.id) is None
    run_out()
    found = store.sweep(one.id)
    assert found is not None
    assert (found.state.mode, found.state.openings, found.state.trials) == (Mode.OPEN, 2, ())
    assert BreakerTransition.objects.latest("id").trigger == Trigger.TRIAL_LOST
    assert store.end_trial(one.id, "first", OK) is None  # too late


def test_a_renewed_lease_does_not_run_out(monkeypatch: pytest.MonkeyPatch):
    one = service(**COUNTING)
    open_and_due(one)
    monkeypatch.setattr(machine, "LEASE", 5.0)
    store.admit(one.id, "first", "me")
    monkeypatch.setattr(machine, "LEASE", 600.0)
    store.renew(one.id, "first")
    assert shared().state.trials[0].until > timezone.now() + timedelta(seconds=300)
    assert store.sweep(one.id) is None
    assert [trial.token for trial in shared().state.trials] == ["first"]


def test_a_trial_knows_why_it_failed():
    one = service(**COUNTING)
    open_and_due(one)
    store.admit(one.id, "first", "me")
    store.end_trial(one.id, "first", Ending(Kind.LIMITED, 900.0), "me")
    row = BreakerTransition.objects.latest("id")
    assert (row.trigger, row.cause, row.by) == (Trigger.TRIAL_FAILED, "rate_limit", "me")
    due_in = shared().due_in
    assert due_in is not None
    assert due_in == pytest.approx(900, abs=5)


def test_half_of_the_recovery_time_also_holds_for_one_that_is_open_already():
    one = service(**COUNTING)
    trip(one)
    Breaker.objects.update(opened_at=timezone.now() - timedelta(seconds=20))
    assert store.admit(one.id, "early", "me") is None
    store.set_recovery_factor(0.5)
    due_in = shared().due_in
    assert due_in is not None
    assert due_in < 0
    assert store.admit(one.id, "now", "me") is not None


# -- people and statuses ----------------------------------------------------------------------------


def test_a_force_that_is_over_is_swept_away():
    one = service(**COUNTING)
    store.force(one.id, Mode.OPEN, "ann", "moving house", 0.0)
    assert store.admit(one.id, "first", "me") is None
    found = store.sweep(one.id)
    assert found is not None
    assert (found.state.effective, found.state.generation) == (Mode.CLOSED, 2)
    triggers = list(BreakerTransition.objects.order_by("id").values_list("trigger", flat=True))
    assert triggers == [Trigger.FORCED, Trigger.RELEASED]


def status() -> tuple[str, str]:
    one = Service.objects.get()
    return one.status, one.reason


def test_an_open_breaker_makes_a_healthy_service_degraded():
    one = service(**SOON)
    check = make_check(one)
    CheckState.objects.filter(check_ref=check).update(status="healthy")
    settle_services({one.id: timezone.now()})
    assert status() == ("healthy", "")
    trip(one)
    assert status()[0] == "degraded"
    assert "its breaker is open" in status()[1]
    assert StateChange.objects.filter(service=one, check_ref=None).latest("id").category == "BREAKER_OPEN"
    time.sleep(0.06)
    store.admit(one.id, "first", "me")
    assert status()[0] == "degraded"
    store.end_trial(one.id, "first", OK)
    assert status() == ("healthy", "")


def test_a_person_who_closes_it_makes_the_service_healthy():
    one = service(**COUNTING)
    CheckState.objects.filter(check_ref=make_check(one)).update(status="healthy")
    trip(one)
    store.force(one.id, Mode.CLOSED, "ann", "it works", None)
    assert status() == ("healthy", "")
    store.force(one.id, Mode.OPEN, "bob", "it does not", None)
    assert status() == ("degraded", "its breaker is open: it does not")


# -- the log ----------------------------------------------------------------------------------------

Story = dict[str, Any]
OPENS = {Trigger.THRESHOLD, Trigger.TRIAL_FAILED, Trigger.TRIAL_LOST}


def told_by_the_log() -> Story:
    """The present state, from the log's rows alone."""
    story: Story = {
        "state": "CLOSED", "generation": 0, "openings": 0, "open_for": 0.0, "not_before": None,
        "forced": "", "forced_until": None, "opened_at": None, "cause": "",
    }  # fmt: skip
    for row in BreakerTransition.objects.order_by("id"):
        assert (row.old, row.generation) == (story["state"], story["generation"] + 1)
        opened_at: datetime | None = row.at if row.trigger in OPENS else story["opened_at"]
        story = {
            "state": row.new, "generation": row.generation, "openings": row.openings, "open_for": row.open_for,
            "not_before": row.not_before, "forced": row.forced, "forced_until": row.forced_until,
            "opened_at": None if row.new == "CLOSED" else opened_at, "cause": row.cause,
        }  # fmt: skip
    return story


def told_by_the_row() -> Story:
    return Breaker.objects.values(*told_by_the_log()).get()


class Somebody:
    """Does one thing after the other to a breaker."""

    def __init__(self, one: Service, seed: int) -> None:
        self.one, self.random = one, random.Random(seed)

    def act(self) -> None:
        often: dict[Callable[[], None], int] = {
            self.fail: 8, self.ask: 8, self.end: 8, self.lose: 2,
            self.release: 3, self.force: 2, self.sweep: 2, self.reset: 1,
        }  # fmt: skip
        (action,) = self.random.choices(list(often), list(often.values()))
        action()

    def fail(self) -> None:
        now = shared().state.generation
        generation = self.random.choice([now, now, now, 0])
        store.add_to_score(self.one.id, generation, Fold().then(ok=False))

    def ask(self) -> None:
        store.admit(self.one.id, str(self.random.random()), "me")

    def end(self) -> None:
        ending = self.random.choice([OK, OK, FAIL, NEUTRAL, Ending(Kind.LIMITED, 0.001)])
        running = [trial.token for trial in shared().state.trials]
        store.end_trial(self.one.id, self.random.choice(running or ["of long ago"]), ending)

    def force(self) -> None:
        mode, seconds = self.random.choice([Mode.OPEN, Mode.CLOSED]), self.random.choice([None, 0.0, 60.0])
        store.force(self.one.id, mode, "ann", "because", seconds)

    def release(self) -> None:
        store.force(self.one.id, None, "ann", "", None)

    def reset(self) -> None:
        store.reset(self.one.id, "ann", "again")

    def sweep(self) -> None:
        store.sweep(self.one.id)

    def lose(self) -> None:
        for row in Breaker.objects.all():
            past = (timezone.now() - timedelta(seconds=1)).isoformat()
            row.trials = [one | {"until": past} for one in row.trials]
            row.save(update_fields=["trials"])
        store.sweep(self.one.id)


@pytest.mark.parametrize("seed", range(4))
def test_the_log_alone_tells_the_present_state(seed: int):
    one = service(**RESTLESS)
    somebody = Somebody(one, seed)
    for _ in range(60):
        somebody.act()
        if Breaker.objects.exists():
            assert told_by_the_log() == told_by_the_row()
    assert BreakerTransition.objects.count() > 10


def test_sixty_things_that_happen_come_to_every_kind_of_transition():
    one = service(**RESTLESS)
    for seed in range(3):
        somebody = Somebody(one, seed)
        for _ in range(60):
            somebody.act()
    assert set(BreakerTransition.objects.values_list("trigger", flat=True)) == set(Trigger)


# -- races ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_of_eight_who_see_it_cross_one_opens_it(self):
        one = service(min_volume=10)
        store.count([counted(one, ok=5, fail=5)])
        found = together([lambda: store.open_if_crossed(one.id, 0)] * 8)
        assert sum(each is not None for each in found) == 1
        (row,) = BreakerTransition.objects.all()
        assert (row.generation, row.old, row.new, row.trigger) == (1, "CLOSED", "OPEN", Trigger.THRESHOLD)
        assert row.reason == "5 of 10 calls failed in 10 s"

    def test_eight_who_count_at_once_lose_nothing(self):
        services = [make_service() for _ in range(5)]

        def work() -> None:
            for _ in range(20):
                rows = [Counted(one.id, 0, 1.0, Counts(ok=1, fail=2, rejected=3)) for one in services]
                random.shuffle(rows)
                store.count(rows)

        together([work] * 8)
        totals = BreakerMinute.objects.values_list("ok", "fail", "rejected")
        assert [sum(column) for column in zip(*totals, strict=True)] == [800, 1_600, 2_400]
        slots = BreakerSlot.objects.values_list("ok", "fail")
        assert [sum(column) for column in zip(*slots, strict=True)] == [800, 1_600]

    def test_eight_who_score_at_once_lose_nothing(self):
        one = service(policy="counting", failure_threshold=1_000)
        together([lambda: [store.add_to_score(one.id, 0, Fold().then(ok=False)) for _ in range(10)]] * 8)
        assert shared().state.score == 80

    def test_of_eight_who_ask_for_a_trial_one_gets_it(self):
        one = service(**COUNTING)
        open_and_due(one)
        found = together([lambda: store.admit(one.id, threading.current_thread().name, "me")] * 8)
        (granted,) = [each for each in found if each is not None]
        assert shared().state.trials == granted.state.trials
        assert BreakerTransition.objects.filter(trigger=Trigger.TRIAL).count() == 1

    def test_people_who_press_opposite_buttons_at_once_make_one_line_of_history(self):
        one = service(**COUNTING)
        trip(one)
        for _ in range(5):
            together(
                [
                    lambda: store.force(one.id, Mode.OPEN, "ann", "stop", None),
                    lambda: store.force(one.id, Mode.CLOSED, "bob", "go", 600),
                    lambda: store.reset(one.id, "eve", "again"),
                    lambda: store.force(one.id, None, "joe", "", None),
                    lambda: store.admit(one.id, "t", "me"),
                ]
            )
        generations = list(BreakerTransition.objects.order_by("id").values_list("generation", flat=True))
        assert generations == list(range(1, len(generations) + 1))
        assert len(generations) >= 16
        assert told_by_the_log() == told_by_the_row()
        times = list(BreakerTransition.objects.order_by("id").values_list("at", flat=True))
        assert times == sorted(times)
