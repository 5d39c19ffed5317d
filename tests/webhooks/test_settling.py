"""webhooks/settling.py: what tries found, stored."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from monitoring.models import Alert
from tests.webhooks.engine import at_once, claim, later, stored
from webhooks import catalog, claims, sealing, settling
from webhooks.claims import Claim
from webhooks.models import Attempt, Delivery, DeliveryCount, Destination, DestinationState
from webhooks.schedule import Answer
from webhooks.sealing import Exchanged
from webhooks.settling import Tried
from webhooks.vocabulary import Lane
from wsmon.models import AuditEntry
from wsmon.vocabulary import Category, Timings

pytestmark = pytest.mark.django_db(transaction=True)
GOOD = Answer(
    200,
    timings=Timings(dns_ms=1.0, connect_ms=2.0, tls_ms=3.0, first_byte_ms=9.0, total_ms=12.0),
    exchanged=Exchanged([("a", "b")], [("c", "d")], b"fine"),
)
BAD = Answer(500, Category.SERVER_ERROR, "oops", "f" * 16, timings=Timings(total_ms=30.0))
NOBODY = Answer(None, Category.NETWORK_ERROR, "no connection", "e" * 16)


def tried(one: Claim, answer: Answer = GOOD) -> Tried:
    known = catalog.refresh(max_age=0)
    return Tried(one, known.destinations[one.destination_id], answer, timezone.now())


def settle(found: list[Claim], answer: Answer = GOOD) -> None:
    settling.settle([tried(one, answer) for one in found])


def state(app: Destination) -> DestinationState:
    return DestinationState.objects.get(destination=app)


def again(lane: Lane = Lane.RETRY) -> list[Claim]:
    """Claim what is to be tried again, now."""
    Delivery.objects.filter(status="retrying").update(due_at=later(-1))
    return claim(lane)


def counts(level: int = 60) -> tuple[int, int, int, int]:
    rows = DeliveryCount.objects.filter(level=level)
    return tuple(sum(getattr(row, name) for row in rows) for name in ("tries", "tries_failed", "delivered", "failed"))  # type: ignore[return-value]


class TestOne:
    def test_a_success_is_delivered_with_all_that_is_known_of_the_try(self):
        app = stored()
        (one,) = claim()
        settle([one])
        row, attempt = Delivery.objects.get(), Attempt.objects.get()
        assert (row.status, row.tries, row.lease_token, row.lease_until) == ("delivered", 1, None, None)
        assert (row.http_status, row.category, row.message, row.total_ms) == (200, "", "", 12.0)
        assert row.finished_at
        assert row.tried_at == attempt.at
        assert (attempt.delivery_id, attempt.number, attempt.ok, attempt.trial) == (row.id, 1, True, False)
        assert (attempt.dns_ms, attempt.connect_ms, attempt.tls_ms) == (1.0, 2.0, 3.0)
        assert (attempt.first_byte_ms, attempt.total_ms, attempt.http_status) == (9.0, 12.0, 200)
        assert sealing.unseal_exchange(bytes(attempt.sealed or b"")) == GOOD.exchanged
        assert counts(60) == counts(3600) == counts(86400) == (1, 0, 1, 0)
        assert state(app).succeeded_at
        assert state(app).failing_since is None

    def test_a_failure_is_tried_again_by_the_schedule_in_the_lane_of_retries(self):
        app = stored(retry=[100.0, 200.0])
        settle(claim(), BAD)
        row = Delivery.objects.get()
        assert (row.status, row.lane, row.tries, row.finished_at) == ("retrying", Lane.RETRY, 1, None)
        assert (row.http_status, row.category, row.message) == (500, "SERVER_ERROR", "oops")
        assert row.fingerprint == "f" * 16
        assert 95 < (row.due_at - timezone.now()).total_seconds() <= 121
        assert counts() == (1, 1, 0, 0)
        assert state(app).failing_since

    def test_the_last_failure_is_a_dead_letter(self):
        stored(retry=[1.0])
        settle(claim(), BAD)
        settle(again(), NOBODY)
        row = Delivery.objects.get()
        assert (row.status, row.tries, row.http_status, row.category) == ("failed", 2, None, "NETWORK_ERROR")
        assert row.finished_at
        assert [attempt.number for attempt in Attempt.objects.order_by("id")] == [1, 2]
        assert counts() == (2, 2, 0, 1)

    def test_a_replays_failure_stays_in_its_lane(self):
        stored()
        Delivery.objects.update(lane=Lane.REPLAY)
        settle(claim(Lane.REPLAY), BAD)
        assert Delivery.objects.get().lane == Lane.REPLAY

    def test_texts_that_the_database_cannot_hold_are_made_such_that_it_can(self):
        stored()
        settle(claim(), Answer(500, Category.SERVER_ERROR, "a\0b \ud83d" + "x" * 400))
        assert Delivery.objects.get().message.startswith("ab ?x")

    def test_nothing_is_nothing(self):
        settling.settle([])
        assert not Attempt.objects.exists()


class TestMany:
    def test_all_of_a_batch_and_the_numbers_agree(self):
        apps = [stored(20, concurrency=50) for _ in range(3)]
        found = claim(limit=600)
        random.Random(1).shuffle(found)
        settling.settle([tried(one, (GOOD, BAD, NOBODY)[number % 3]) for number, one in enumerate(found)])
        assert Attempt.objects.count() == 60
        assert counts() == counts(3600) == counts(86400) == (60, 40, 20, 0)
        statuses = list(Delivery.objects.values_list("status", flat=True))
        assert (statuses.count("delivered"), statuses.count("retrying")) == (20, 40)
        assert DeliveryCount.objects.filter(level=60).values("destination_id").distinct().count() == len(apps)
        assert sum(sum(row.histogram) for row in DeliveryCount.objects.filter(level=60)) == 60
        assert sum(row.sum_ms for row in DeliveryCount.objects.filter(level=60)) == pytest.approx(20 * 12 + 20 * 30)

    def test_batches_of_several_processes_at_once(self):
        stored(90, concurrency=90)
        found = claim(limit=900)
        thirds = [found[number::3] for number in range(3)]
        at_once([partial(settle, part) for part in thirds])
        assert Delivery.objects.filter(status="delivered").count() == Attempt.objects.count() == 90
        assert counts() == (90, 0, 90, 0)

    def test_all_or_nothing(self, monkeypatch: pytest.MonkeyPatch):
        stored(3)
        found = claim()
        monkeypatch.setattr(settling, "_STATES", "SELECT 1/0")
        with pytest.raises(Exception, match="division by zero"):
            settle(found)
        assert not Attempt.objects.exists()
        assert Delivery.objects.filter(status="delivering").count() == 3
        assert counts() == (0, 0, 0, 0)

    def test_a_fault_while_disabling_stores_nothing_so_that_a_second_time_counts_once(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        stored()
        found = claim()
        with monkeypatch.context() as patch:
            patch.setattr(settling, "_disable_the_failing", lambda _: (_ for _ in ()).throw(OperationalError("gone")))
            with pytest.raises(OperationalError):
                settle(found, BAD)
        settle(found, BAD)
        assert Attempt.objects.count() == 1
        assert counts() == (1, 1, 0, 0)

    def test_a_delivery_that_is_gone_meanwhile_breaks_nothing(self):
        stored(2)
        one, other = claim()
        Delivery.objects.filter(id=one.id).delete()
        settle([one, other])
        assert Attempt.objects.get().delivery_id == other.id
        assert counts() == (2, 0, 1, 0)


class TestALostLease:
    """A process that was thought dead, or frozen, comes back with what its try found."""

    @pytest.fixture
    def late(self) -> Claim:
        stored()
        (one,) = claim()
        Delivery.objects.update(lease_until=later(-1))
        claims.release_expired()
        return one

    def test_when_it_was_delivered_it_is_not_sent_again(self, late: Claim):
        settle([late])
        assert Delivery.objects.get().status == "delivered"
        assert again() == []
        assert counts() == (1, 0, 1, 0)

    def test_nor_counted_twice_when_somebody_else_has_sent_it_too(self, late: Claim):
        (other,) = again()
        settle([late])
        settle([other])
        assert Delivery.objects.get().status == "delivered"
        assert Attempt.objects.count() == 2
        assert counts() == (2, 0, 1, 0)

    def test_its_failure_changes_nothing(self, late: Claim):
        (other,) = again()
        settle([late], BAD)
        row = Delivery.objects.get()
        assert (row.status, row.lease_token) == ("delivering", other.token)
        settle([other])
        assert Delivery.objects.get().status == "delivered"
        assert counts() == (2, 1, 1, 0)

    def test_a_failure_after_anothers_success_changes_nothing(self, late: Claim):
        settle(again())
        settle([late], BAD)
        assert Delivery.objects.get().status == "delivered"
        assert counts() == (2, 1, 1, 0)

    def test_a_success_after_it_was_given_up_still_counts(self, late: Claim):
        Delivery.objects.update(status="failed")
        settle([late])
        assert Delivery.objects.get().status == "delivered"

    def test_what_a_person_cancelled_stays_cancelled(self, late: Claim):
        Delivery.objects.update(status="cancelled")
        settle([late])
        assert Delivery.objects.get().status == "cancelled"
        assert counts() == (1, 0, 0, 0)

    def test_a_token_that_is_not_its_own_settles_nothing(self):
        stored()
        (one,) = claim()
        Delivery.objects.update(lease_token=uuid.uuid4())
        settle([one], BAD)
        assert Delivery.objects.get().status == "delivering"


class TestTheDestination:
    def test_retry_after_holds_all_of_it_and_is_never_shortened(self):
        app = stored(3)
        first, second, third = claim()
        settle([first], Answer(503, Category.SERVER_ERROR, retry_after=600.0))
        held = state(app).held_until
        assert held is not None
        assert 590 < (held - timezone.now()).total_seconds() <= 600
        settle([second], Answer(429, Category.RATE_LIMITED, retry_after=5.0))
        settle([third])
        assert state(app).held_until == held
        assert again() == []
        DestinationState.objects.update(held_until=later(-1))
        assert len(again()) == 2

    def test_failing_begins_with_the_first_failure_and_ends_with_the_next_success(self):
        app = stored(4)
        one, two, three, four = claim()
        settle([one], BAD)
        since = state(app).failing_since
        settle([two], NOBODY)
        assert state(app).failing_since == since
        settle([three, four])
        assert state(app).failing_since is None
        assert state(app).succeeded_at

    def test_one_success_of_a_batch_is_enough(self):
        app = stored(3)
        found = claim()
        settling.settle([tried(one, answer) for one, answer in zip(found, (BAD, GOOD, BAD), strict=True)])
        assert state(app).failing_since is None

    def test_a_busy_destinations_row_is_left_alone(self):
        app = stored(2)
        one, two = claim()
        settle([one])
        first = state(app).succeeded_at
        settle([two])
        assert state(app).succeeded_at == first

    def test_410_disables_it_with_an_alert_and_keeps_the_backlog(self):
        app = stored(5, concurrency=1, slug="stripe")
        settle(claim(), Answer(410, Category.CLIENT_ERROR, "gone"))
        row = state(app)
        assert row.disabled_at
        assert (row.disabled_by, row.disabled_reason) == ("", "it answered 410 Gone")
        assert again() == claim() == []
        assert Delivery.objects.filter(status__in=["pending", "retrying"]).count() == 5
        alert = Alert.objects.get()
        assert alert.key == settling.alert_key(app.slug)
        assert app.slug in alert.title
        assert AuditEntry.objects.filter(action="destination.disable", target=f"destination:{app.slug}").count() == 1
        DestinationState.objects.update(disabled_at=None)
        assert len(again()) == 1  # the one that was answered 410 is among what goes out

    def test_it_is_disabled_and_told_once(self):
        app = stored(3, disable_after=60)
        settle(claim(), Answer(410, Category.CLIENT_ERROR))
        assert settling.disable(app.id, "another reason") is False
        assert Alert.objects.get().count == 1
        assert state(app).disabled_reason == "it answered 410 Gone"

    FAILING: list[tuple[str, Callable[[], dict[str, Any]], bool]] = [
        ("not for long", lambda: {"failing_since": timezone.now() - timedelta(seconds=500)}, False),
        ("for too long", lambda: {"failing_since": timezone.now() - timedelta(seconds=700)}, True),
        ("never before", dict, False),
    ]

    @pytest.mark.parametrize(("since", "disabled"), [one[1:] for one in FAILING], ids=[one[0] for one in FAILING])
    def test_nothing_but_failures_for_too_long_disables_it(self, since: Callable[[], dict[str, Any]], disabled: bool):
        app = stored(2, disable_after=600)
        DestinationState.objects.filter(destination=app).update(**since())
        settle(claim(limit=1), BAD)
        assert bool(state(app).disabled_at) is disabled
        assert Alert.objects.exists() is disabled
        if disabled:
            assert "every try has failed since" in state(app).disabled_reason
            assert Delivery.objects.filter(status__in=["pending", "retrying"]).count() == 2

    def test_a_success_in_time_does_not(self):
        app = stored(2, disable_after=600)
        DestinationState.objects.update(failing_since=later(-700))
        settling.settle([tried(one, answer) for one, answer in zip(claim(), (GOOD, BAD), strict=True)])
        assert state(app).disabled_at is None


def test_two_processes_with_the_same_destinations_in_any_order_do_not_wait_in_a_circle():
    apps = [stored(40, concurrency=100) for _ in range(6)]
    found = claim(limit=900)
    assert len(found) == 240 == 40 * len(apps)

    def work(part: list[Claim], seed: int) -> None:
        shuffled = random.Random(seed)
        shuffled.shuffle(part)
        for start in range(0, len(part), 10):
            settling.settle([tried(one, shuffled.choice((GOOD, BAD))) for one in part[start : start + 10]])

    at_once([partial(work, found[seed::4], seed) for seed in range(4)])
    assert Attempt.objects.count() == 240
    assert counts()[0] == 240
