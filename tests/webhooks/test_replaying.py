"""``webhooks.replaying`` and ``webhooks.replayplan``: what goes again, what does not, and jobs of many."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.webhooks.factories import make_delivery, make_destination, make_event, make_source, set_secrets
from tests.webhooks.receivers import Receiver
from tests.whole import eventually
from webhooks import actions, catalog, replaying, replayplan
from webhooks.dispatcher import Dispatcher
from webhooks.filters import BadFilter, Filter
from webhooks.models import Delivery, Destination, Event, Replay
from webhooks.replaying import Refused, Unknown
from webhooks.vocabulary import DeliveryStatus, Lane, Priority, ReplayStatus
from wsmon.audit import Actor
from wsmon.models import AuditEntry

ANNA = Actor.system("anna")
FAILED = Filter(status="failed")

pytestmark = pytest.mark.django_db


def replay(event: Event, **more: Any) -> Replay:
    return replaying.replay_event(event.id, **{"actor": ANNA, "reason": "it was down"} | more)


def made(row: Replay) -> list[Delivery]:
    return list(Delivery.objects.filter(replay=row).order_by("id"))


def failed(count: int, **more: Any) -> list[Delivery]:
    """So many failed deliveries from one source to one destination."""
    source, app = make_source(), more.pop("destination", None) or make_destination()
    return [make_delivery(make_event(source), app, "failed", **more) for _ in range(count)]


class TestOne:
    """``replay_event`` and ``replay_deliveries``."""

    def test_it_makes_a_new_delivery_and_leaves_the_old_one(self) -> None:
        old = make_delivery(status="failed", priority=Priority.HIGH, order_key="pi_1")
        before = Delivery.objects.filter(id=old.id).values().get()
        row = replay(old.event, max_retries=2)
        (new,) = made(row)
        assert (new.event_id, new.destination_id, new.source_id) == (old.event_id, old.destination_id, old.source_id)
        assert (new.status, new.lane, new.replay_of) == (DeliveryStatus.PENDING, Lane.REPLAY, old.id)
        assert (new.max_tries, new.tries, new.order_key) == (2, 0, "pi_1")
        assert (new.priority, new.type) == (Priority.HIGH, old.type)
        assert Delivery.objects.filter(id=old.id).values().get() == before
        assert (row.status, row.total, row.made, row.skipped) == (ReplayStatus.DONE, 1, 1, 0)
        assert (row.created_by, row.reason, row.max_retries) == ("anna", "it was down", 2)

    def test_it_leaves_an_audit_row(self) -> None:
        row = replay(make_delivery(status="failed").event)
        entry = AuditEntry.objects.get(action="replay.start")
        assert (entry.actor_name, entry.target, entry.reason) == ("anna", f"replay:{row.id}", "it was down")
        assert entry.details["total"] == 1

    def test_it_goes_to_each_destination_that_lacks_it(self) -> None:
        event = make_event()
        bad, cancelled = make_delivery(event, status="failed"), make_delivery(event, status="cancelled")
        make_delivery(event, status="delivered")
        make_delivery(event, status="retrying")
        row = replay(event)
        assert {new.replay_of for new in made(row)} == {bad.id, cancelled.id}
        assert (row.total, row.made, row.skips) == (4, 2, {"delivered": 1, "under way": 1})

    def test_what_is_delivered_does_not_go_again(self) -> None:
        with pytest.raises(Refused) as refused:
            replay(make_delivery(status="delivered").event)
        assert "already delivered" in str(refused.value)
        assert refused.value.skipped == {"delivered": 1}
        assert Delivery.objects.count() == 1
        assert not Replay.objects.exists()
        assert not AuditEntry.objects.filter(action="replay.start").exists()

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("status", ["pending", "retrying", "delivering"])
    def test_what_is_under_way_does_not_go_again_even_by_force(self, status: str, force: bool) -> None:
        event = make_delivery(status=status).event
        with pytest.raises(Refused) as refused:
            replay(event, force=force)
        assert refused.value.skipped == {"under way": 1}
        dry = replaying.preview_event(event.id, force=force)
        assert (dry.would_go, dry.skipped) == (0, {"under way": 1})

    def test_force_sends_what_was_delivered_all_the_same(self) -> None:
        assert len(made(replay(make_delivery(status="delivered").event, force=True))) == 1

    def test_what_is_sent_again_by_force_is_under_way_then(self) -> None:
        event = make_delivery(status="delivered").event
        replay(event, force=True)
        with pytest.raises(Refused) as refused:
            replay(event, force=True)
        assert refused.value.skipped == {"under way": 1}
        assert Delivery.objects.filter(event=event).count() == 2

    def test_what_is_under_way_elsewhere_may_go_to_another_destination(self) -> None:
        event = make_delivery(status="retrying").event
        assert len(made(replay(event, force=True, destination=make_destination("other")))) == 1

    def test_a_second_replay_waits_for_the_first(self) -> None:
        event = make_delivery(status="failed").event
        replay(event)
        with pytest.raises(Refused) as refused:
            replay(event)
        assert refused.value.skipped == {"under way": 1}

    def test_what_a_replay_delivered_counts_as_delivered(self) -> None:
        old = make_delivery(status="failed")
        make_delivery(old.event, old.destination, "delivered")
        for again in (
            lambda: replay(old.event),
            lambda: replaying.replay_deliveries([old.id], actor=ANNA),
        ):
            with pytest.raises(Refused):
                again()

    def test_it_goes_to_another_destination(self) -> None:
        event, other = make_event(), make_destination("other")
        make_delivery(event, status="delivered", order_key="a")
        make_delivery(event, status="failed")
        row = replay(event, destination=other)
        (new,) = made(row)
        assert new.destination == other
        assert (new.route_id, new.order_key) == (None, "")
        assert row.destination == other

    def test_another_destination_puts_it_in_its_own_order(self) -> None:
        event = make_event(data={"data": {"customer": "cus_1"}}, subject="pi_1")
        make_delivery(event, status="failed", order_key="something")
        by_path = make_destination(order_by="$.data.customer")
        by_subject = make_destination(order_by="subject")
        assert [new.order_key for new in made(replay(event, destination=by_path))] == ["cus_1"]
        assert [new.order_key for new in made(replay(event, destination=by_subject))] == ["pi_1"]

    def test_what_was_delivered_elsewhere_may_go_to_another_destination_once(self) -> None:
        event, other = make_delivery(status="delivered").event, make_destination()
        replay(event, destination=other)
        Delivery.objects.update(status="delivered")
        with pytest.raises(Refused) as refused:
            replay(event, destination=other)
        assert refused.value.skipped == {"delivered": 1}

    def test_an_unrouted_event_needs_a_destination(self) -> None:
        event, other = make_event(), make_destination()
        with pytest.raises(Refused) as refused:
            replay(event)
        assert "name a destination" in str(refused.value)
        (new,) = made(replay(event, destination=other))
        assert (new.destination, new.replay_of, new.type) == (other, None, event.type)

    def test_nothing_goes_to_an_archived_destination(self) -> None:
        old = make_delivery(status="failed")
        Destination.objects.update(archived_at=timezone.now())
        with pytest.raises(Refused) as refused:
            replay(old.event)
        assert refused.value.skipped == {"archived": 1}
        old.destination.refresh_from_db()
        with pytest.raises(Refused):
            replay(old.event, destination=old.destination)

    def test_it_may_go_to_a_paused_destination_and_waits_there(self) -> None:
        old = make_delivery(status="failed")
        actions.pause_destination(old.destination, ANNA, "maintenance")
        assert len(made(replay(old.event))) == 1

    def test_what_is_erased_or_tampered_does_not_go_even_by_force(self) -> None:
        erased = make_event(sealed=None)
        tampered = make_event(sha256=b"\0" * 32)
        for event, reason in ((erased, "erased"), (tampered, "tampered")):
            make_delivery(event, status="failed")
            with pytest.raises(Refused) as refused:
                replay(event, force=True)
            assert refused.value.skipped == {reason: 1}

    def test_a_signature_that_no_longer_fits_keeps_it_back(self) -> None:
        source = make_source(secrets=["s1"])
        event = make_event(source, verification={"secret_id": catalog.secret_id("s1")})
        make_delivery(event, status="failed")
        with pytest.raises(Refused) as refused:
            replay(event)
        assert refused.value.skipped == {"tampered": 1}
        set_secrets(source, ["s2"])
        assert len(made(replay(event))) == 1

    def test_it_knows_no_other_events(self) -> None:
        with pytest.raises(Unknown):
            replaying.replay_event(uuid.uuid4(), actor=ANNA)
        with pytest.raises(Unknown):
            replaying.replay_deliveries([1], actor=ANNA)
        with pytest.raises(Unknown):
            replaying.preview_event(uuid.uuid4())

    @pytest.mark.parametrize("tries", [0, 6, -1])
    def test_it_is_tried_one_to_five_times(self, tries: int) -> None:
        event = make_delivery(status="failed").event
        with pytest.raises(Refused):
            replay(event, max_retries=tries)

    def test_chosen_deliveries_go_and_one_event_goes_once(self) -> None:
        first, second = failed(2)
        twin = make_delivery(first.event, first.destination, "failed")
        row = replaying.replay_deliveries([second.id, first.id, twin.id, first.id], actor=ANNA)
        assert [new.event_id for new in made(row)] == [first.event_id, second.event_id]
        assert row.skips == {"chosen twice": 1}

    def test_deliveries_and_events_may_be_chosen_together(self) -> None:
        first, second = failed(2)
        row = replaying.replay_deliveries([first.id], events=[second.event_id, first.event_id], actor=ANNA)
        assert {new.event_id for new in made(row)} == {first.event_id, second.event_id}
        assert row.made == 2

    def test_not_too_many_are_chosen_at_once(self) -> None:
        with pytest.raises(Refused):
            replaying.replay_deliveries(range(1, replaying.AT_ONCE + 2), actor=ANNA)

    def test_a_dry_run_changes_nothing(self) -> None:
        event = make_event()
        make_delivery(event, make_destination("app"), "failed")
        make_delivery(event, status="delivered")
        found = replaying.preview_event(event.id)
        assert (found.total, found.would_go, found.skipped) == (2, 1, {"delivered": 1})
        assert found.examples[0]["destination"] == "app"
        assert replaying.preview_event(event.id, force=True).would_go == 2
        assert Delivery.objects.count() == 2
        assert not Replay.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_of_two_at_the_same_time_one_goes(self) -> None:
        event = make_delivery(status="failed").event
        results: list[str] = []
        together = threading.Barrier(4)

        def ask() -> None:
            together.wait(10)
            try:
                replay(event)
                results.append("made")
            except Refused:
                results.append("refused")
            connection.close()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(results) == ["made", "refused", "refused", "refused"]
        assert Delivery.objects.filter(lane=Lane.REPLAY).count() == 1


class Clock:
    """Time for jobs, second by second."""

    def __init__(self) -> None:
        self.now = timezone.now()

    def tick(self, seconds: float = 1) -> int:
        """Let time pass and do what is due."""
        self.now += timedelta(seconds=seconds)
        return replaying.run_due(self.now)


@pytest.fixture
def clock() -> Clock:
    """A clock that starts now."""
    return Clock()


def start(selection: Filter = FAILED, **more: Any) -> Replay:
    return replaying.start(selection, **{"actor": ANNA, "reason": "an outage"} | more)


def fresh(row: Replay) -> Replay:
    row.refresh_from_db()
    return row


def arrive() -> None:
    """All that is under way is delivered."""
    Delivery.objects.filter(lane=Lane.REPLAY).update(status="delivered")


class TestJobs:
    """``start``, ``step`` and ``run_due``."""

    def test_it_goes_through_all_that_the_filter_found(self, clock: Clock) -> None:
        rows = failed(7)
        make_delivery(status="delivered")
        row = start(per_second=3)
        assert (row.total, row.made, row.status) == (7, 0, ReplayStatus.RUNNING)
        for _ in range(5):
            clock.tick()
            arrive()
        assert [new.replay_of for new in made(row)] == [old.id for old in rows]
        row = fresh(row)
        assert (row.status, row.made, row.skipped, row.total) == (ReplayStatus.DONE, 7, 0, 7)
        assert row.finished_at is not None
        assert clock.tick() == 0

    def test_it_makes_no_more_than_it_may_by_the_second(self, clock: Clock) -> None:
        failed(12)
        row = start(per_second=2)
        counts = []
        for _ in range(4):
            clock.tick()
            arrive()
            counts.append(fresh(row).made)
        assert counts == [2, 4, 6, 8]
        clock.tick(0.2)
        assert fresh(row).made == 8

    def test_a_slow_one_makes_one_at_a_time(self, clock: Clock) -> None:
        failed(3)
        row = start(per_second=0.1)
        counts = []
        for _ in range(4):
            clock.tick(5.5)
            arrive()
            counts.append(fresh(row).made)
        assert counts == [1, 1, 2, 2]

    def test_a_late_look_costs_no_pace_but_makes_no_burst(self, clock: Clock) -> None:
        failed(40)
        row = start(per_second=5)
        clock.tick(60)
        arrive()
        assert fresh(row).made == 5
        clock.tick()
        assert fresh(row).made == 10

    def test_it_waits_while_what_it_made_is_under_way(self, clock: Clock) -> None:
        failed(20)
        row = start(per_second=3)
        for _ in range(10):
            clock.tick()
        assert fresh(row).made == 6
        arrive()
        clock.tick()
        assert fresh(row).made == 9

    def test_it_passes_many_that_do_not_go_in_one_look(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "LOOK", 4)
        source, app = make_source(), make_destination()
        for number in range(30):
            old = make_delivery(make_event(source), app, "failed")
            if number != 17:
                make_delivery(old.event, app, "delivered")
        row = start(per_second=1)
        for _ in range(3):
            clock.tick()
        row = fresh(row)
        assert (row.status, row.made, row.skips) == (ReplayStatus.DONE, 1, {"delivered": 29})

    def test_later_failures_do_not_enter_it(self, clock: Clock) -> None:
        failed(1)
        row = start()
        failed(1)
        clock.tick()
        clock.tick()
        assert (fresh(row).made, row.status) == (1, ReplayStatus.DONE)

    def test_one_event_that_failed_twice_goes_once(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "LOOK", 1)
        old = make_delivery(status="failed")
        make_delivery(old.event, old.destination, "failed")
        row = start(force=True, per_second=1)
        for _ in range(4):
            clock.tick()
            arrive()
        assert (fresh(row).made, row.skips, row.status) == (1, {"chosen twice": 1}, ReplayStatus.DONE)

    def test_what_changed_meanwhile_is_accounted_for(self, clock: Clock) -> None:
        rows = failed(3)
        row = start()
        Delivery.objects.filter(id=rows[1].id).delete()
        clock.tick()
        row = fresh(row)
        assert (row.total, row.made, row.skips) == (3, 2, {"no longer matches": 1})

    def test_it_sends_to_another_destination(self, clock: Clock) -> None:
        failed(2)
        other = make_destination("other")
        row = start(destination=other)
        clock.tick()
        assert {new.destination for new in made(row)} == {other}

    def test_a_fault_leaves_nothing_half_done_and_is_taken_up_again(self, clock: Clock) -> None:
        failed(4)
        row = start(per_second=4)
        with mock.patch.object(replayplan, "plan", side_effect=RuntimeError):
            assert clock.tick() == 0
        assert (fresh(row).made, row.cursor, len(made(row))) == (0, 0, 0)
        assert clock.tick() == 0  # it rests for a while
        clock.tick(120)
        assert (fresh(row).made, len(made(row))) == (4, 4)

    def test_a_job_at_fault_does_not_keep_others_back(self, clock: Clock) -> None:
        failed(1)
        broken, good = start(), start()
        Replay.objects.filter(id=broken.id).update(selection={"status": "nonsense"})
        clock.tick()
        assert fresh(good).made == 1
        assert fresh(broken).status == ReplayStatus.RUNNING

    @pytest.mark.django_db(transaction=True)
    def test_only_one_process_steps_a_job_at_a_time(self, clock: Clock) -> None:
        failed(4)
        row = start(per_second=2)
        clock.now += timedelta(seconds=1)
        answers: list[bool] = []

        def other() -> None:
            answers.append(replaying.step(row.id, clock.now))
            connection.close()

        with transaction.atomic():
            assert replaying.step(row.id, clock.now)
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)
        assert answers == [False]
        assert len(made(row)) == fresh(row).made == 2

    @pytest.mark.django_db(transaction=True)
    def test_many_processes_together_make_each_once(self, clock: Clock) -> None:
        failed(30)
        row = start(per_second=100)

        def work() -> None:
            for second in range(10):
                replaying.run_due(clock.now + timedelta(seconds=second))
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (fresh(row).status, row.made) == (ReplayStatus.DONE, 30)
        assert len({new.replay_of for new in made(row)}) == len(made(row)) == 30

    def test_it_leaves_an_audit_row_that_says_what_was_chosen(self) -> None:
        failed(2)
        start(Filter(status="failed", since=datetime(2026, 1, 1, tzinfo=UTC)), per_second=7)
        entry = AuditEntry.objects.get(action="replay.start")
        assert entry.details["selection"] == {"status": "failed", "since": "2026-01-01T00:00:00Z"}
        assert (entry.details["total"], entry.details["per_second"]) == (2, 7)

    def test_it_needs_something_to_do(self) -> None:
        with pytest.raises(Refused):
            start()
        with pytest.raises(BadFilter):
            start(Filter(status="unrouted"))
        failed(1)
        for pace in (0, -1, 1000):
            with pytest.raises(Refused):
                start(per_second=pace)
        assert not Replay.objects.exists()

    def test_a_preview_tells_what_it_would_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "VERIFIED", 2)
        rows = failed(5)
        make_delivery(rows[0].event, rows[0].destination, "delivered")
        Event.objects.filter(id=rows[4].event_id).update(sealed=None)
        make_delivery(rows[1].event, rows[1].destination, "failed")
        found = replaying.preview(FAILED)
        assert (found.total, found.would_go, found.looked_at) == (6, 3, 6)
        assert found.skipped == {"delivered": 1, "erased": 1, "chosen twice": 1}
        assert [one["delivery"] for one in found.examples] == [str(row.id) for row in rows[1:4]]
        assert not Replay.objects.exists()

    def test_a_preview_looks_at_so_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "VERIFIED", 2)
        monkeypatch.setattr(replaying, "PREVIEWED", 4)
        failed(7)
        found = replaying.preview(FAILED)
        assert (found.total, found.looked_at) == (7, 4)


class TestControl:
    """Pause, resume, cancel."""

    def test_a_paused_job_rests_and_goes_on_where_it_was(self, clock: Clock) -> None:
        rows = failed(4)
        row = start(per_second=1)
        clock.tick()
        replaying.pause(row, ANNA, "too much")
        arrive()
        for _ in range(3):
            clock.tick()
        assert fresh(row).made == 1
        replaying.resume(row, ANNA)
        for _ in range(5):
            clock.tick()
            arrive()
        assert fresh(row).status == ReplayStatus.DONE
        assert [new.replay_of for new in made(row)] == [old.id for old in rows]

    def test_a_cancelled_job_ends_and_takes_back_what_waits(self, clock: Clock) -> None:
        failed(5)
        row = start(per_second=3)
        clock.tick()
        first, second, _third = made(row)
        Delivery.objects.filter(id=first.id).update(status="delivered")
        Delivery.objects.filter(id=second.id).update(status="delivering")
        assert replaying.cancel(row, ANNA, "wrong ones") == 1
        assert [new.status for new in made(row)] == ["delivered", "delivering", "cancelled"]
        clock.tick()
        assert (fresh(row).status, row.made, len(made(row))) == (ReplayStatus.CANCELLED, 3, 3)

    def test_it_can_be_cancelled_while_paused(self) -> None:
        failed(1)
        row = start()
        replaying.pause(row, ANNA)
        replaying.cancel(row, ANNA)
        assert fresh(row).status == ReplayStatus.CANCELLED

    def test_each_leaves_an_audit_row(self) -> None:
        failed(1)
        row = start()
        replaying.pause(row, ANNA, "a")
        replaying.resume(row, ANNA, "b")
        replaying.cancel(row, ANNA, "c")
        rows = AuditEntry.objects.filter(target=f"replay:{row.id}").order_by("id").values_list("action", "reason")
        assert list(rows) == [
            ("replay.start", "an outage"),
            ("replay.pause", "a"),
            ("replay.resume", "b"),
            ("replay.cancel", "c"),
        ]

    def test_what_does_not_fit_the_state_is_refused(self, clock: Clock) -> None:
        failed(1)
        row = start()
        with pytest.raises(Refused):
            replaying.resume(row, ANNA)
        replaying.pause(row, ANNA)
        with pytest.raises(Refused):
            replaying.pause(row, ANNA)
        replaying.resume(row, ANNA)
        clock.tick()
        for change in (replaying.pause, replaying.resume, replaying.cancel):
            with pytest.raises(Refused):
                change(row, ANNA)

    def test_progress_tells_what_became_of_it(self, clock: Clock) -> None:
        failed(4)
        row = start(per_second=2)
        clock.tick()
        Delivery.objects.filter(id=made(row)[0].id).update(status="failed")
        found = replaying.progress(fresh(row))
        assert (found.share, found.statuses) == (0.5, {"failed": 1, "pending": 1})


@pytest.mark.django_db(transaction=True)
class TestArriving:
    """A replay that is really sent."""

    def test_the_receiver_gets_the_same_event_and_is_told_of_the_replay(
        self, running: Dispatcher, receiver: Receiver
    ) -> None:
        event = make_event(data={"id": "evt_1"})
        make_delivery(event, make_destination(url=receiver.url), "failed")
        row = replay(event)
        eventually(lambda: Delivery.objects.get(replay=row).status == "delivered", "the replay arrives")
        (request,) = receiver.received
        assert request.body == b'{"id": "evt_1"}'
        assert request.headers["webhook-id"] == str(event.id)
        assert request.headers["webhook-replay"] == str(row.id)

    def test_what_was_changed_after_the_replay_began_is_not_sent(
        self, running: Dispatcher, receiver: Receiver
    ) -> None:
        event = make_event()
        app = make_destination(url=receiver.url)
        make_delivery(event, app, "failed")
        actions.pause_destination(app, ANNA)
        row = replay(event, max_retries=1)
        Event.objects.filter(id=event.id).update(sha256=b"\0" * 32)
        actions.resume_destination(app, ANNA)
        eventually(lambda: Delivery.objects.get(replay=row).finished_at, "the replay ends")
        assert Delivery.objects.get(replay=row).status == "failed"
        assert receiver.received == []
