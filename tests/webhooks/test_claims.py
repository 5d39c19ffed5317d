"""webhooks/claims.py: who sends what, and when."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from tests.webhooks.engine import at_once, claim, later, new_event, place, stored
from tests.webhooks.factories import make_delivery, make_destination, make_event
from webhooks import claims, store
from webhooks.claims import Claim
from webhooks.models import Delivery, Destination, DestinationState
from webhooks.vocabulary import DeliveryStatus, Lane, Priority

# Real transactions: within one the time stands still for PostgreSQL's now().
pytestmark = pytest.mark.django_db(transaction=True)


def state(destination: Destination, **fields: Any) -> None:
    DestinationState.objects.filter(destination=destination).update(**fields)


def keys(found: list[Claim]) -> list[str]:
    """Which events, in the order in which they were claimed."""
    names = dict(Delivery.objects.filter(id__in=[one.id for one in found]).values_list("id", "event__key"))
    return [names[one.id] for one in found]


def done(one: Claim, status: DeliveryStatus = DeliveryStatus.DELIVERED) -> None:
    Delivery.objects.filter(id=one.id).update(status=status, lease_token=None, lease_until=None)


class TestOne:
    def test_a_claim_has_all_that_sending_needs_and_a_lease(self):
        app = make_destination("app", timeout=5)
        source = place("stripe", app)
        event = new_event(source)
        store.save([event])
        (one,) = claim()
        row = Delivery.objects.get()
        assert (one.id, one.event_id, one.destination_id, one.source_id) == (row.id, event.id, app.id, source.id)
        assert (one.lane, one.number, one.max_tries) == (Lane.LIVE, 1, 9)
        assert (one.replay_id, one.partial, one.trial, one.received_at) == (None, False, False, event.received_at)
        assert one.sealed is not None
        assert (row.status, row.tries, row.lease_token) == ("delivering", 1, one.token)
        assert row.lease_until is not None
        left = (row.lease_until - timezone.now()).total_seconds()
        assert 0 < left <= 5 + claims.LEASE_MARGIN
        assert claim() == []

    def test_the_payload_does_not_show_in_its_representation(self):
        stored()
        (one,) = claim()
        assert "sealed" not in repr(one)

    @pytest.mark.parametrize("what", ["request", "batch"])
    def test_a_part_of_what_was_signed_is_told_as_such(self, what: str):
        event = make_event(**{what: b"x" if what == "request" else uuid.uuid4()})
        make_delivery(event)
        assert claim()[0].partial

    def test_an_erased_payload_is_claimed_too_so_that_it_ends(self):
        make_delivery(make_event(sealed=None))
        assert claim()[0].sealed is None

    DUE: dict[str, tuple[dict[str, Any], bool]] = {
        "due now": ({}, True),
        "long overdue": ({"due_at": timezone.now() - timedelta(days=9), "status": "retrying"}, True),
        "due later": ({"due_at": timezone.now() + timedelta(hours=1), "status": "retrying"}, False),
        "delivered": ({"status": "delivered"}, False),
        "failed": ({"status": "failed"}, False),
        "cancelled": ({"status": "cancelled"}, False),
        "under way": ({"status": "delivering", "lease_until": timezone.now() + timedelta(hours=1)}, False),
        "under way by one who died": ({"status": "delivering", "lease_until": timezone.now()}, False),
        "in another lane": ({"lane": Lane.RETRY}, False),
    }

    @pytest.mark.parametrize("what", DUE)
    def test_only_what_waits_and_is_due(self, what: str):
        fields, claimed = self.DUE[what]
        stored()
        Delivery.objects.update(**fields)
        assert len(claim()) == claimed

    STATES: dict[str, tuple[dict[str, Any], bool]] = {
        "free": ({}, True),
        "paused": ({"paused_at": timezone.now()}, False),
        "disabled": ({"disabled_at": timezone.now()}, False),
        "held": ({"held_until": timezone.now() + timedelta(hours=1)}, False),
        "held until a moment ago": ({"held_until": timezone.now() - timedelta(seconds=1)}, True),
    }

    @pytest.mark.parametrize("what", STATES)
    def test_only_where_something_may_be_sent(self, what: str):
        fields, claimed = self.STATES[what]
        app = stored()
        state(app, **fields)
        assert claims.due_destinations([app.id]) == ({app.id} if claimed else set())
        assert len(claim()) == claimed
        if not claimed:
            assert claims.claim_trial(app.id) is None

    def test_an_archived_destination_gets_nothing(self):
        app = stored()
        Destination.objects.filter(id=app.id).update(archived_at=timezone.now())
        assert claim() == []

    def test_those_whose_breaker_is_open_are_left_out(self):
        app, other = stored(2), stored(2)
        assert {one.destination_id for one in claim(leave_out=[app.id])} == {other.id}

    def test_a_trial_is_one_delivery_live_ones_first(self):
        app = stored(3)
        other = stored(1)
        Delivery.objects.filter(event__key="evt_1").update(lane=Lane.RETRY)
        one = claims.claim_trial(app.id)
        assert one is not None
        assert (one.lane, one.trial, one.destination_id) == (Lane.LIVE, True, app.id)
        found = [claims.claim_trial(app.id) for _ in range(3)]
        assert [each and each.lane for each in found] == [Lane.LIVE, Lane.RETRY, None]
        assert claims.due_destinations([app.id, other.id]) == {other.id}
        assert claims.due_destinations([]) == set()


class TestOrder:
    def test_the_most_urgent_first_then_what_is_due_longest_over_all_destinations(self):
        for slug, priority in (("app", Priority.NORMAL), ("other", Priority.LOW), ("third", Priority.CRITICAL)):
            stored(2, slug=slug, destination=make_destination(slug))
            Delivery.objects.filter(destination__slug=slug).update(priority=priority)
        Delivery.objects.filter(destination__slug="app", event__key="evt_2").update(due_at=later(-60))
        by_id = {one.id: one.slug for one in Destination.objects.all()}
        found = claim()
        assert [by_id[one.destination_id] for one in found] == ["third"] * 2 + ["app"] * 2 + ["other"] * 2
        assert keys(found)[2:4] == ["evt_2", "evt_1"]

    def test_within_a_destination_a_late_critical_one_overtakes_everything(self):
        stored(50, concurrency=5)
        Delivery.objects.filter(event__key="evt_50").update(priority=Priority.CRITICAL)
        assert keys(claim(limit=1)) == ["evt_50"]

    def test_one_at_a_time_per_key_in_the_order_of_arrival(self):
        app = make_destination(order_by="$.key")
        source = place("stripe", app)
        store.save([new_event(source, n, body=b'{"key": "%s"}' % (b"a" if n % 2 else b"b")) for n in range(1, 7)])
        for expected in (["evt_1", "evt_2"], ["evt_3", "evt_4"], ["evt_5", "evt_6"]):
            found = claim()
            assert sorted(keys(found)) == expected
            assert claim() == []
            for one in found:
                done(one)
        assert claim() == []

    def test_a_retry_keeps_its_successors_waiting_and_a_dead_letter_lets_them_go(self):
        app = make_destination(order_by="subject")
        source = place("stripe", app)
        store.save([new_event(source, n, subject="pi_1") for n in range(1, 4)])
        (one,) = claim()
        Delivery.objects.filter(id=one.id).update(status="retrying", due_at=later(3600), lane=Lane.RETRY)
        assert claim() == []
        assert claim(Lane.RETRY) == []
        done(one, DeliveryStatus.FAILED)
        assert keys(claim()) == ["evt_2"]

    def test_events_of_one_request_keep_their_order_whatever_their_ids_are(self):
        app = make_destination(order_by="subject")
        source = place("stripe", app)
        store.save([new_event(source, key, subject="msg_1") for key in ("z", "m", "a")])
        for expected in ("evt_z", "evt_m", "evt_a"):
            (one,) = claim()
            assert keys([one]) == [expected]
            done(one)

    def test_without_a_key_nothing_waits(self):
        app = make_destination(order_by="$.key")
        source = place("stripe", app)
        store.save([new_event(source, n) for n in range(1, 4)])
        assert len(claim()) == 3

    def test_the_same_key_at_another_destination_is_another_order(self):
        apps = [make_destination(order_by="subject") for _ in range(2)]
        source = place("stripe", *apps)
        store.save([new_event(source, n, subject="pi_1") for n in (1, 2)])
        assert Counter(one.destination_id for one in claim()) == {apps[0].id: 1, apps[1].id: 1}


class TestBudgets:
    def test_no_more_at_once_than_the_destinations_concurrency(self):
        stored(10, concurrency=3)
        first = claim()
        assert len(first) == 3
        assert claim() == []
        done(first[0])
        assert len(claim()) == 1

    def test_retries_and_replays_together_leave_half_of_it_to_live_traffic(self):
        app = stored(30, concurrency=4)
        Delivery.objects.filter(event__key__in=[f"evt_{n}" for n in range(1, 11)]).update(lane=Lane.RETRY)
        Delivery.objects.filter(event__key__in=[f"evt_{n}" for n in range(11, 21)]).update(lane=Lane.REPLAY)
        assert len(claim(Lane.RETRY)) == 2
        assert claim(Lane.REPLAY) == []
        assert len(claim(Lane.LIVE)) == 2
        assert claim(Lane.LIVE) == []
        assert Delivery.objects.filter(destination=app, status="delivering").count() == 4

    def test_live_traffic_may_have_all_of_it(self):
        stored(10, concurrency=4)
        assert len(claim(Lane.LIVE)) == 4

    def test_where_there_is_room_for_one_every_lane_may_have_it(self):
        stored(1, concurrency=1)
        Delivery.objects.update(lane=Lane.REPLAY)
        assert len(claim(Lane.REPLAY)) == 1

    def test_a_lease_that_has_run_out_takes_no_room(self):
        stored(3, concurrency=1)
        claim()
        Delivery.objects.filter(status="delivering").update(lease_until=later(-1))
        assert len(claim()) == 1

    def test_a_rate_lets_through_a_seconds_worth_at_first_and_then_by_time(self):
        app = stored(30, max_per_second=5, concurrency=100)
        state(app, tokens=5, filled_at=later(0))
        assert len(claim()) == 5
        assert claim() == []
        state(app, filled_at=later(-0.5))
        assert len(claim()) == 2
        state(app, filled_at=later(-3600))  # a long pause is no credit
        assert len(claim()) == 5

    def test_a_rate_below_one_a_second_keeps_what_it_has_saved(self):
        app = stored(5, max_per_second=0.1)
        state(app, tokens=0, filled_at=later(-9))
        assert claim() == []
        state(app, filled_at=later(-10.5))
        assert len(claim()) == 1
        assert claim() == []

    def test_what_was_not_claimed_is_not_paid_for(self):
        app = stored(2, max_per_second=10)
        state(app, tokens=10, filled_at=later(0))
        claim()
        assert 7.9 <= DestinationState.objects.get(destination=app).tokens < 9

    def test_a_claim_of_few_takes_what_it_may_and_leaves_the_rest(self):
        stored(10)
        assert keys(claim(limit=4)) == ["evt_1", "evt_2"]
        assert len(claim(limit=100)) == 6  # concurrency is 8


class TestGivingUp:
    def test_what_is_given_back_is_as_if_nobody_had_claimed_it(self):
        stored(2)
        before = list(Delivery.objects.order_by("id").values())
        claims.give_back(claim())
        assert list(Delivery.objects.order_by("id").values()) == before
        claims.give_back([])

    def test_a_second_try_that_is_given_back_is_still_a_retry(self):
        stored()
        Delivery.objects.update(status="retrying", tries=3, lane=Lane.RETRY)
        claims.give_back(claim(Lane.RETRY))
        assert Delivery.objects.values_list("status", "tries", "lane").get() == ("retrying", 3, Lane.RETRY)

    def test_only_whoever_holds_the_lease_can_give_it_back(self):
        stored()
        (one,) = claim()
        Delivery.objects.update(lease_token=uuid.uuid4())
        claims.give_back([one])
        assert Delivery.objects.get().status == "delivering"
        done(one)
        claims.give_back([one])
        assert Delivery.objects.get().status == "delivered"

    def test_the_leases_of_who_died_run_out_and_nothing_is_lost(self):
        stored(3)
        claim(limit=4)
        assert claims.release_expired() == 0
        Delivery.objects.filter(status="delivering").update(lease_until=later(-1))
        assert claims.release_expired() == 2
        rows = Delivery.objects.filter(status="retrying")
        assert [(row.lane, row.tries, row.lease_token) for row in rows] == [(Lane.RETRY, 1, None)] * 2
        assert all("ended before" in row.message for row in rows)
        assert len(claim(Lane.RETRY)) == 2

    def test_a_try_whose_end_nobody_knows_is_not_the_last(self):
        stored()
        Delivery.objects.update(tries=8)
        claim()
        Delivery.objects.update(lease_until=later(-1))
        claims.release_expired()
        row = Delivery.objects.get()
        assert (row.tries, row.max_tries) == (9, 10)

    def test_a_replays_lease_runs_out_into_its_own_lane(self):
        stored()
        Delivery.objects.update(lane=Lane.REPLAY)
        claim(Lane.REPLAY)
        Delivery.objects.update(lease_until=later(-1))
        claims.release_expired()
        assert Delivery.objects.get().lane == Lane.REPLAY


class TestTwoClaimers:
    def all_of(self, number: int = 2, rounds: int = 60, limit: int = 7) -> list[list[Claim]]:
        def work() -> list[Claim]:
            return [one for _ in range(rounds) for one in claim(limit=limit)]

        return at_once([work] * number)

    def test_nothing_is_claimed_twice_and_nothing_is_left(self):
        for _ in range(3):
            stored(100, concurrency=256)
        found = [one.id for each in self.all_of(4) for one in each]
        found += [one.id for _ in range(3) for one in claim(limit=900)]  # a claimer passes over what another holds
        assert len(found) == len(set(found)) == 300

    def test_a_rate_holds_over_both_of_them_to_one(self):
        app = stored(200, max_per_second=20, concurrency=200)
        state(app, tokens=20, filled_at=timezone.now())
        began = time.monotonic()
        claimed = sum(len(each) for each in self.all_of(3))
        assert 20 <= claimed <= 20 * (1 + time.monotonic() - began)

    def test_so_does_the_concurrency_whatever_the_lanes(self):
        app = stored(200, concurrency=6)
        Delivery.objects.filter(id__in=Delivery.objects.values("id")[:100]).update(lane=Lane.RETRY)

        def work(lane: Lane) -> list[int]:
            most = []
            for _ in range(80):
                found = claim(lane, 3)
                most.append(Delivery.objects.filter(status="delivering").count())
                claims.give_back(found)
            return most

        most = at_once([partial(work, lane) for lane in (Lane.LIVE, Lane.RETRY) * 2])
        assert max(number for each in most for number in each) <= 6
        assert Delivery.objects.filter(destination=app, status="delivering").count() == 0

    def test_so_does_the_order_of_a_key(self):
        app = make_destination(order_by="$.key", concurrency=64)
        source = place("stripe", app)
        store.save([new_event(source, n, body=b'{"key": "%d"}' % (n % 5)) for n in range(100)])
        under_way: Counter[str] = Counter()
        order: dict[str, list[int]] = {str(n): [] for n in range(5)}
        lock = threading.Lock()

        def work() -> None:
            while Delivery.objects.exclude(status="delivered").exists():
                for one in claim(limit=3):
                    key = Delivery.objects.get(id=one.id).order_key
                    with lock:
                        under_way[key] += 1
                        assert under_way[key] == 1
                        order[key].append(one.id)
                    with lock:
                        under_way[key] -= 1
                    done(one)

        at_once([work] * 3)
        assert [len(ids) for ids in order.values()] == [20] * 5
        assert all(ids == sorted(ids) for ids in order.values())

    def test_a_destination_that_another_holds_is_passed_over_and_not_waited_for(self):
        app, other = stored(1), stored(1)
        parameters = connection.get_connection_params()
        parameters.pop("cursor_factory", None), parameters.pop("context", None)
        with psycopg.connect(**parameters) as holder:
            holder.execute("SELECT 1 FROM webhooks_destinationstate WHERE destination_id = %s FOR UPDATE", [app.id])
            assert [one.destination_id for one in claim()] == [other.id]
        assert [one.destination_id for one in claim()] == [app.id]

    def test_leases_are_released_once(self):
        stored(40, concurrency=100)
        claim()
        Delivery.objects.update(lease_until=later(-1))
        assert sum(at_once([claims.release_expired] * 4)) == 40


class TestThreads:
    """Nobody gets more threads than it leaves free: there are some for whoever comes next."""

    def test_six_that_hang_leave_threads_for_the_next_one(self):
        held: Counter[int] = Counter()
        for _ in range(6):
            stored(40, concurrency=64)
        for _ in range(5):  # nothing ever ends
            held.update(one.destination_id for one in claim(limit=32 - held.total(), held=held))
        assert held.total() == 27
        assert max(held.values()) <= 32 - held.total()
        quick = stored(5)
        assert [one.destination_id for one in claim(limit=5, held=held)] == [quick.id, quick.id]

    def test_thirty_that_hang_have_one_each(self):
        held: Counter[int] = Counter()
        for _ in range(31):
            stored(2)
        for _ in range(3):
            held.update(one.destination_id for one in claim(limit=32 - held.total(), held=held))
        assert set(held.values()) == {1}
        assert held.total() == 31

    def test_one_alone_has_half_of_them(self):
        app = stored(64, concurrency=64)
        assert len(claim(limit=32)) == 16
        assert claim(limit=16, held={app.id: 16}) == []
        assert len(claim(limit=17, held={app.id: 15})) == 1

    def test_what_is_critical_has_most_of_them(self):
        app = stored(64, concurrency=64)
        Delivery.objects.update(priority=Priority.CRITICAL)
        assert len(claim(limit=32)) == 25
        assert claim(limit=7, held={app.id: 25}) == []

    def test_where_there_are_fewer_threads_than_destinations_the_most_urgent_has_one(self):
        for slug, priority in (("app", Priority.NORMAL), ("other", Priority.LOW), ("third", Priority.CRITICAL)):
            stored(2, destination=make_destination(slug))
            Delivery.objects.filter(destination__slug=slug).update(priority=priority)
        by_id = {one.id: one.slug for one in Destination.objects.all()}
        assert [by_id[one.destination_id] for one in claim(limit=1)] == ["third"]

    def test_a_single_thread_is_used_too(self):
        stored(2)
        assert len(claim(limit=1)) == 1
