"""webhooks/dispatcher.py: everything of one process that sends, against real receivers and a real database."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from monitoring.breakers import breaker, circuits
from tests.webhooks.engine import claim, later, new_event, place, stored
from tests.webhooks.factories import make_destination
from tests.webhooks.receivers import Received, Receiver
from tests.whole import eventually
from webhooks import dispatcher as module
from webhooks import jobs, settling, store
from webhooks.dispatcher import Dispatcher
from webhooks.models import Attempt, Delivery, DeliveryCount, Destination, DestinationState, Event
from webhooks.vocabulary import Lane
from wsmon.embedded import Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("loopback_targets")]
Start = Callable[..., Dispatcher]
QUICK: dict[str, Any] = {
    "policy": "counting",
    "failure_threshold": 3,
    "success_threshold": 1,
    "recovery_timeout": 0.2,
}


@pytest.fixture
def start() -> Iterator[Start]:
    """A maker of dispatchers at work; all of them are stopped afterwards."""
    made: list[Dispatcher] = []

    def make(threads: int = 8) -> Dispatcher:
        made.append(Dispatcher(threads))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        if not one.stopping:
            one.stop()


class Gate:
    """An answer that hangs until it is opened; counts who hangs there."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.hanging = 0

    def __call__(self, _: Received) -> tuple[int, dict[str, str], bytes]:
        self.hanging += 1
        self.opened.wait(30)
        return 200, {}, b"late"


@pytest.fixture
def gate(receiver: Receiver) -> Iterator[Gate]:
    """The receiver hangs at it."""
    one = Gate()
    receiver.answer = one
    yield one
    one.opened.set()


def delivered(app: Destination | None = None) -> int:
    rows = Delivery.objects.filter(status="delivered")
    return (rows if app is None else rows.filter(destination=app)).count()


def finished(number: int, within: float = 20.0) -> None:
    """Wait until so many are delivered."""
    eventually(lambda: delivered() == number, f"{number} are delivered", within)


def quick_breaker(app: Destination) -> None:
    circuits.ensure(f"destination:{app.slug}", label=app.slug, policy=QUICK)


def numbers_agree() -> None:
    """Tries, attempts and counts tell the same story."""
    attempts = Attempt.objects.count()
    assert Delivery.objects.aggregate(total=Sum("tries"))["total"] == attempts
    minutes = DeliveryCount.objects.filter(level=60).aggregate(tries=Sum("tries"), delivered=Sum("delivered"))
    assert (minutes["tries"], minutes["delivered"]) == (attempts, delivered())


def test_what_is_stored_arrives_once_each(receiver: Receiver, start: Start):
    start()
    app = stored(100, url=receiver.url)
    finished(100)
    assert sorted(Counter(receiver.bodies()).values()) == [1] * 100
    assert {one.headers["webhook-id"] for one in receiver.received} == {
        str(one) for one in Event.objects.values_list("id", flat=True)
    }
    assert Attempt.objects.filter(ok=True).count() == 100
    assert not Delivery.objects.exclude(destination=app).exists()
    numbers_agree()


def test_several_dispatchers_share_the_work_and_send_nothing_twice(receiver: Receiver, start: Start):
    stored(300, url=receiver.url, concurrency=64)
    for _ in range(3):
        start()
    finished(300)
    assert sorted(Counter(receiver.bodies()).values()) == [1] * 300
    numbers_agree()


def test_a_lost_nudge_only_delays(receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch):
    start()
    monkeypatch.setattr(store, "_tell", lambda *_: None)
    stored(5, url=receiver.url)
    finished(5)


def test_an_order_of_a_key_holds_on_the_wire(receiver: Receiver, start: Start):
    app = make_destination(url=receiver.url, order_by="subject", concurrency=16)
    source = place("stripe", app)
    store.save([new_event(source, n, subject=f"s{n % 4}", body=b"%d" % n) for n in range(60)])
    for _ in range(2):
        start()
    finished(60)
    arrived = [int(body) for body in receiver.bodies()]
    for key in range(4):
        mine = [number for number in arrived if number % 4 == key]
        assert mine == sorted(mine)


def test_a_failure_is_tried_again_until_it_is_delivered(receiver: Receiver, start: Start):
    seen: Counter[bytes] = Counter()

    def twice(request: Received) -> tuple[int, dict[str, str], bytes]:
        seen[request.body] += 1
        return (200 if seen[request.body] > 2 else 500), {}, b"not yet"

    receiver.answer = twice
    stored(3, url=receiver.url, retry=[0.05, 0.05, 0.05])
    start()
    finished(3)
    assert set(seen.values()) == {3}
    assert set(Delivery.objects.values_list("tries", "lane")) == {(3, Lane.RETRY)}
    numbers_agree()


def test_after_the_last_try_it_is_a_dead_letter(receiver: Receiver, start: Start):
    receiver.answer = lambda _: (400, {}, b"never")
    stored(1, url=receiver.url, retry=[0.05])
    start()
    eventually(lambda: Delivery.objects.filter(status="failed").exists(), "it is given up")
    assert len(receiver.received) == Attempt.objects.count() == 2


def test_a_receiver_that_was_down_has_every_event_after_it_returns_and_only_trials_used_up_tries(
    receiver: Receiver, start: Start
):
    receiver.answer = lambda _: (503, {}, b"down")
    app = make_destination("app", receiver.url, concurrency=2, retry=[0.05] * 50)
    quick_breaker(app)
    start()
    source = place("stripe", app)
    store.save([new_event(source, number) for number in range(40)])
    guard = breaker("destination:app")
    eventually(lambda: guard.is_open, "its breaker opens")
    eventually(lambda: Attempt.objects.filter(trial=True).count() >= 3, "trials are made")
    store.save([new_event(source, number) for number in range(40, 60)])

    def only_what_was_sent_was_tried() -> bool:
        under_way = Delivery.objects.filter(status="delivering").count()
        tries = Delivery.objects.aggregate(total=Sum("tries"))["total"]
        return bool(tries - under_way <= len(receiver.received))

    eventually(only_what_was_sent_was_tried, "held ones used up no tries")
    assert Delivery.objects.filter(tries=0).count() >= 40
    receiver.answer = lambda _: (200, {}, b"back")
    finished(60, 40)
    assert len(set(receiver.bodies())) == 60
    assert not Delivery.objects.filter(status="failed").exists()
    assert len(receiver.received) == Attempt.objects.count()
    numbers_agree()


def test_while_its_breaker_is_open_nothing_but_trials_is_sent(receiver: Receiver, start: Start):
    receiver.answer = lambda _: (500, {}, b"down")
    app = make_destination("app", receiver.url, concurrency=1, retry=[0.01] * 90)
    quick_breaker(app)
    start()
    stored(20, app)
    eventually(lambda: Attempt.objects.filter(trial=True).count() >= 3, "trials are made")
    rows = list(Attempt.objects.order_by("at").values_list("trial", flat=True))
    first = rows.index(True)
    assert first <= QUICK["failure_threshold"] + 1  # one may be under way when it opens
    assert all(rows[first:])


def test_a_hanging_destination_does_not_delay_the_others(receiver: Receiver, gate: Gate, start: Start):
    with Receiver() as fine:
        hanging = stored(40, url=receiver.url, timeout=30)
        good = [stored(20, url=fine.url) for _ in range(3)]
        start(32)
        eventually(lambda: gate.hanging == 8, "as many hang as may be sent at once")
        finished(60)
        assert [delivered(one) for one in good] == [20] * 3
        assert (gate.hanging, delivered(hanging)) == (8, 0)
    gate.opened.set()
    finished(100)


def test_six_that_hang_leave_threads_for_one_that_answers(receiver: Receiver, gate: Gate, start: Start):
    hanging = [stored(40, url=receiver.url, timeout=30) for _ in range(6)]
    one = start(32)
    eventually(lambda: gate.hanging >= 20, "they take their share")
    with Receiver() as fine:
        good = stored(50, url=fine.url)
        finished(50)
        assert delivered(good) == len(fine.received) == 50
    assert sum(delivered(each) for each in hanging) == 0
    assert gate.hanging == sum(one.held[Lane.LIVE].values()) < 32
    assert max(one.held[Lane.LIVE].values()) <= 32 - gate.hanging
    gate.opened.set()
    finished(290, 40)
    eventually(lambda: one.free == one.room and not any(one.held.values()), "all threads are free again")
    numbers_agree()


def test_the_end_of_a_try_is_enough_to_go_on(receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch):
    """It looks at once for more where a destination had all the threads that it may have."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 60.0)
    stored(100, url=receiver.url, concurrency=64)
    start(4).wake()
    finished(100)


@pytest.mark.parametrize("lane", [Lane.RETRY, Lane.REPLAY])
def test_a_flood_of_retries_or_replays_uses_none_of_the_budget_of_live_traffic(
    receiver: Receiver, gate: Gate, start: Start, lane: Lane
):
    with Receiver() as fine:
        for _ in range(3):
            stored(50, url=receiver.url, timeout=30)
        Delivery.objects.update(lane=lane)
        one = start(8)
        eventually(lambda: gate.hanging == one.room[lane], "the lane is full")
        stored(20, url=fine.url)
        finished(20)
        assert gate.hanging == one.room[lane] == 2


def test_when_it_stops_what_runs_is_finished_and_the_rest_is_as_if_untouched(
    receiver: Receiver, gate: Gate, start: Start
):
    stored(30, url=receiver.url, timeout=20)
    one = start(8)
    eventually(lambda: gate.hanging == 4, "four are under way")
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    eventually(lambda: one.stopping, "it stops")
    gate.opened.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert delivered() == len(receiver.received) == Attempt.objects.count() == 4
    assert Delivery.objects.filter(status="pending", tries=0, lease_token=None).count() == 26
    numbers_agree()


def test_a_trial_that_runs_when_it_stops_is_finished_too(receiver: Receiver, start: Start):
    receiver.answer = lambda _: (500, {}, b"down")
    app = make_destination("app", receiver.url, concurrency=1, retry=[0.01] * 50, timeout=20)
    quick_breaker(app)
    stored(5, app)
    one = start(4)
    eventually(lambda: breaker("destination:app").is_open, "its breaker opens")
    gate = Gate()
    receiver.answer = gate
    eventually(lambda: gate.hanging == 1, "a trial is under way")
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    eventually(lambda: one.stopping, "it stops")
    gate.opened.set()
    stopping.join(20)
    assert Attempt.objects.filter(trial=True, ok=True).count() == 1
    assert not Delivery.objects.filter(status="delivering").exists()
    numbers_agree()


def test_while_postgresql_is_stopped_results_are_kept_and_nothing_is_lost_or_sent_twice(
    receiver: Receiver, start: Start, embedded_database: Server
):
    gate = Gate()
    receiver.answer = gate
    stored(60, url=receiver.url, timeout=20)
    start(16)
    eventually(lambda: gate.hanging == 8, "eight are under way")
    connection.close()
    embedded_database.stop()
    try:
        gate.opened.set()
        eventually(lambda: len(receiver.received) == 8, "they are answered")
        time.sleep(0.3)  # their results meet a database that is not there
    finally:
        embedded_database.start()
    finished(60, 40)
    assert sorted(Counter(receiver.bodies()).values()) == [1] * 60
    numbers_agree()


def test_what_a_process_that_died_had_claimed_is_sent_by_another(receiver: Receiver, start: Start):
    stored(3, url=receiver.url)
    claim()  # and never heard of again
    Delivery.objects.update(lease_until=later(0.3))
    start()
    finished(3)
    assert Delivery.objects.filter(tries=2).count() == 3


def test_paused_and_disabled_ones_get_nothing_until_they_may(receiver: Receiver, start: Start):
    apps = [make_destination(slug, receiver.url) for slug in ("paused", "disabled")]
    DestinationState.objects.filter(destination=apps[0]).update(paused_at=timezone.now())
    DestinationState.objects.filter(destination=apps[1]).update(disabled_at=timezone.now())
    with Receiver() as fine:
        start()
        for one in apps:
            stored(5, one)
        stored(5, url=fine.url)
        finished(5)
    assert receiver.received == []
    DestinationState.objects.update(paused_at=None, disabled_at=None)
    finished(15)


def test_a_destination_that_is_not_configured_fails_visibly_and_opens_no_breaker(start: Start):
    stored(10, make_destination("app", "env:NOT_SET_ANYWHERE", retry=[]))
    start()
    eventually(lambda: Delivery.objects.filter(status="failed").count() == 10, "they are given up")
    assert set(Attempt.objects.values_list("category", flat=True)) == {"CONFIGURATION_ERROR"}
    assert "NOT_SET_ANYWHERE" in Attempt.objects.all()[0].message
    assert not breaker("destination:app").is_open


class TestErasedPayloads:
    def test_one_ends_as_a_dead_letter_without_a_try(self, receiver: Receiver, start: Start):
        stored(2, url=receiver.url)
        Event.objects.filter(key="evt_1").update(sealed=None)
        start()
        eventually(lambda: Delivery.objects.filter(status="failed").count() == 1, "it is given up")
        finished(1)
        assert len(receiver.received) == 1
        assert "erased" in Delivery.objects.get(status="failed").message

    def test_one_does_not_keep_an_open_breaker_from_being_tried(self, receiver: Receiver, start: Start):
        receiver.answer = lambda _: (500, {}, b"down")
        app = make_destination("app", receiver.url, concurrency=1, retry=[0.01] * 50)
        quick_breaker(app)
        stored(6, app)
        start()
        eventually(lambda: breaker("destination:app").is_open, "its breaker opens")
        gone = Event.objects.filter(deliveries__tries=0).values_list("id", flat=True)[:2]
        Event.objects.filter(id__in=list(gone)).update(sealed=None)
        receiver.answer = lambda _: (200, {}, b"back")
        finished(4)
        eventually(lambda: Delivery.objects.filter(status="failed").count() == 2, "the erased ones end")


class TestFaultsOfOurOwn:
    def test_a_bug_in_sending_shows_and_is_tried_as_often_as_anything(
        self, receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
    ):
        def broken(*_: Any) -> None:
            raise KeyError("planted")

        monkeypatch.setattr(jobs, "send", broken)
        stored(2, url=receiver.url, retry=[0.01])
        start()
        eventually(lambda: Delivery.objects.filter(status="failed").count() == 2, "they are given up")
        assert {row.message for row in Attempt.objects.all()} == {"wsmon itself failed (KeyError)"}

    def test_one_result_that_cannot_be_stored_does_not_hold_up_the_others(
        self, receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
    ):
        settle = settling.settle

        def picky(tried: Any) -> None:
            if any(b"evt_3" in one.answer.exchanged.body for one in tried):
                raise KeyError("planted")
            settle(tried)

        monkeypatch.setattr(settling, "settle", picky)
        receiver.answer = lambda request: (200, {}, request.body)
        stored(8, url=receiver.url)
        start()
        finished(7)

    def test_a_claim_that_fails_is_tried_again(
        self, receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
    ):
        asked: list[int] = []
        prepare = jobs.prepare

        def fails_at_first(*arguments: Any) -> Any:
            asked.append(1)
            if len(asked) == 1:
                raise KeyError("planted")
            return prepare(*arguments)

        stored(1, url=receiver.url, timeout=0.1)
        monkeypatch.setattr(jobs, "prepare", fails_at_first)
        monkeypatch.setattr("webhooks.claims.LEASE_MARGIN", 0.2)
        start()
        finished(1)


def test_a_process_has_one_that_a_tick_starts_and_a_stop_ends(receiver: Receiver):
    stored(1, url=receiver.url)
    try:
        module.tick()
        assert module.dispatcher() is module.dispatcher()
        finished(1)
    finally:
        module.stop()
    module.stop()
    assert module._dispatcher is None


@pytest.mark.parametrize(("threads", "room"), [(32, [32, 8, 8]), (8, [8, 2, 2]), (1, [1, 1, 1])])
def test_each_lane_has_a_budget_of_its_own(threads: int, room: list[int]):
    assert list(Dispatcher(threads).room.values()) == room
