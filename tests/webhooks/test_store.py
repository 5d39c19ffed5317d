"""webhooks/store.py: events and their deliveries in one transaction, each event once."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from django.db import DataError, Error, IntegrityError, connection, transaction
from django.db.models import Sum
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from providers.hooks import MessageStatus, outranks, rank
from tests.webhooks.engine import at_once, known, new_event, place
from tests.webhooks.factories import make_destination, make_route, make_source
from webhooks import sealing, store
from webhooks.models import Delivery, Event, EventCount, Message
from webhooks.sealing import Content
from webhooks.store import Saved
from webhooks.vocabulary import DeliveryStatus, Lane, Priority

pytestmark = pytest.mark.django_db
WHEN = datetime(2026, 3, 7, 12, 30, 30, tzinfo=UTC)


def counted(level: int = EventCount.Level.MINUTE) -> tuple[int, int]:
    found = EventCount.objects.filter(level=level).aggregate(events=Sum("events"), duplicates=Sum("duplicates"))
    return int(found["events"] or 0), int(found["duplicates"] or 0)


def test_an_event_is_stored_with_all_that_is_known_of_it():
    source = place("stripe")
    request = Content([("a", "b")], "https://x/whole", b"[whole]")
    event = new_event(
        source,
        subject="pi_1",
        occurred_at=WHEN,
        received_at=WHEN + timedelta(seconds=1),
        address="2001:db8::1",
        verification={"scheme": "Stripe-Signature v1", "secret": 0, "age": 0.5},
        request=request,
    )
    assert store.save([event]) == [Saved(event.id, True, 0)]
    row = Event.objects.get()
    assert (row.id, row.source_id, row.key, row.type, row.subject) == (
        event.id,
        source.id,
        "evt_1",
        "payment_intent.succeeded",
        "pi_1",
    )
    assert (row.occurred_at, row.received_at, row.address) == (WHEN, event.received_at, "2001:db8::1")
    assert (row.size, bytes(row.sha256)) == (len(event.content.body), hashlib.sha256(event.content.body).digest())
    assert row.verification == event.verification
    assert (row.message_status, row.routed, row.duplicates, row.indexed) == ("", 0, 0, False)
    assert sealing.unseal(bytes(row.sealed or b"")) == event.content
    assert sealing.unseal(bytes(row.request or b"")) == request


def test_its_deliveries_are_made_in_the_same_statement_as_their_routes_have_it():
    app = make_destination("app", order_by="$.number", retry=[1, 2])
    other = make_destination("other")
    source = make_source("stripe")
    make_route(source, app, ["payment_intent.*"], priority=Priority.CRITICAL)
    make_route(source, other, ["payment_intent.*"])
    make_route(source, make_destination("third"), ["invoice.*"])
    event = new_event(known("stripe"))
    assert store.save([event]) == [Saved(event.id, True, 2)]
    assert Event.objects.get().routed == 2
    rows = Delivery.objects.order_by("destination__slug")
    assert [row.destination.slug for row in rows] == ["app", "other"]
    first = rows[0]
    assert (first.event_id, first.source_id, first.type) == (event.id, known("stripe").id, event.type)
    assert (first.status, first.lane, first.priority) == (DeliveryStatus.PENDING, Lane.LIVE, Priority.CRITICAL)
    assert (first.order_key, first.tries, first.max_tries, first.lease_token) == ("1", 0, 3, None)
    assert rows[1].priority == Priority.NORMAL


def test_of_several_routes_to_one_destination_the_most_urgent_one_that_fits_counts():
    source, app = make_source("stripe"), make_destination("app")
    make_route(source, app, priority=Priority.LOW)
    best = make_route(source, app, ["payment_intent.*"], priority=Priority.HIGH)
    make_route(source, app, priority=Priority.NORMAL)
    make_route(source, app, priority=Priority.CRITICAL, filters={"$.number": "other"})
    make_route(source, app, priority=Priority.HIGH)
    assert [one.routed for one in store.save([new_event(known("stripe"))])] == [1]
    assert (Delivery.objects.get().priority, Delivery.objects.get().route_id) == (Priority.HIGH, best.id)


def test_an_event_may_bring_its_own_priority():
    store.save([new_event(place("published", make_destination()), priority=Priority.CRITICAL)])
    assert Delivery.objects.get().priority == Priority.CRITICAL


def test_one_that_no_route_takes_is_kept_and_shows_as_such():
    source = place("stripe", make_destination(), events=["invoice.*"])
    assert store.save([new_event(source)])[0].routed == 0
    assert Event.objects.get().routed == 0
    assert not Delivery.objects.exists()


def test_a_form_is_routed_by_its_fields():
    source = place("sms", make_destination(), filters={"$.MessageStatus": "failed"})
    form = {"content_type": "application/x-www-form-urlencoded"}
    saved = store.save(
        [
            new_event(source, 1, body=b"MessageSid=SM1&MessageStatus=failed", **form),
            new_event(source, 2, body=b"MessageSid=SM2&MessageStatus=sent", **form),
        ]
    )
    assert [one.routed for one in saved] == [1, 0]


def test_what_comes_again_is_counted_and_changes_nothing():
    source = place("stripe", make_destination())
    first, *_ = store.save([new_event(source)])
    for _ in range(3):
        again = new_event(source, body=b"another body", type="another.type")
        assert store.save([again]) == [Saved(first.event_id, False, 1)]
    event = Event.objects.get()
    assert (event.duplicates, event.type) == (3, "payment_intent.succeeded")
    assert b"evt_1" in sealing.unseal(bytes(event.sealed or b"")).body
    assert Delivery.objects.count() == 1


def test_so_is_what_comes_twice_in_one_batch():
    source = place("stripe", make_destination())
    one, two = new_event(source, 1), new_event(source, 2)
    saved = store.save([one, two, new_event(source, 1), new_event(source, 1)])
    assert [(each.event_id, each.new) for each in saved] == [
        (one.id, True),
        (two.id, True),
        (one.id, False),
        (one.id, False),
    ]
    assert Event.objects.get(id=one.id).duplicates == 2
    store.save([new_event(source, 1), new_event(source, 1)])
    assert Event.objects.get(id=one.id).duplicates == 4
    assert counted() == (2, 4)
    assert Delivery.objects.count() == 2


def test_the_same_key_of_another_source_is_another_event():
    sources = [place("one"), place("two")]
    assert all(one.new for one in store.save([new_event(source) for source in sources]))


def test_nothing_is_as_good_as_no_statement():
    assert store.save([]) == []


def test_events_are_counted_by_type_minute_and_hour():
    source = place("stripe")
    late = WHEN + timedelta(minutes=40)
    store.save([new_event(source, number, received_at=WHEN) for number in range(3)])
    store.save([new_event(source, 7, received_at=late, type="invoice.paid"), new_event(source, 0, received_at=late)])
    rows = EventCount.objects.order_by("level", "start", "type").values_list("level", "type", "events", "duplicates")
    assert list(rows) == [
        (60, "payment_intent.succeeded", 3, 0),
        (60, "invoice.paid", 1, 0),
        (60, "payment_intent.succeeded", 0, 1),
        (3600, "payment_intent.succeeded", 3, 0),
        (3600, "invoice.paid", 1, 0),
        (3600, "payment_intent.succeeded", 0, 1),
    ]
    assert counted(60) == counted(3600) == (4, 1)


def test_a_callers_transaction_decides():
    source = place("stripe", make_destination())
    with transaction.atomic():
        store.save([new_event(source)])
        transaction.set_rollback(True)
    assert not Event.objects.exists()


POISON: dict[str, dict[str, Any]] = {
    "a NUL in the key": {"key": "a\0b"},
    "a type that is too long": {"type": "x" * 201},
    "an address that is none": {"address": "not an address"},
    "a NUL in JSON": {"verification": {"scheme": "a\0b"}},
}


@pytest.mark.parametrize("what", POISON)
def test_one_that_cannot_be_stored_is_told_from_a_database_that_is_away_and_nothing_is_stored(what: str):
    source = place("stripe", make_destination())
    with pytest.raises((DataError, IntegrityError)), transaction.atomic():
        store.save([new_event(source, 1), new_event(source, 2, **POISON[what]), new_event(source, 3)])
    assert not Event.objects.exists()
    assert not EventCount.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAtTheSameInstant:
    def test_fifty_copies_are_one_event_one_delivery_for_each_route_and_49_duplicates(self):
        destinations = [make_destination() for _ in range(3)]
        source = place("stripe", *destinations)
        saved = at_once([lambda: store.save([new_event(source)])[0] for _ in range(50)])
        assert sum(one.new for one in saved) == 1
        assert len({one.event_id for one in saved}) == 1
        assert {one.routed for one in saved} == {3}
        event = Event.objects.get()
        assert (event.id, event.duplicates) == (saved[0].event_id, 49)
        assert sorted(Delivery.objects.values_list("destination", flat=True)) == sorted(
            one.id for one in destinations
        )
        assert counted(60) == counted(3600) == (1, 49)

    def test_overlapping_batches_in_any_order_never_wait_for_each_other_in_a_circle(self):
        """New and known ones mixed, so that inserts, updates, counts and messages all meet."""
        source = place("stripe", make_destination())

        def event(number: int) -> Any:
            return new_event(source, number, subject=f"msg_{number % 7}", status=MessageStatus.SENT)

        def work(seed: int) -> int:
            shuffled = random.Random(seed)
            new = 0
            for start in range(0, 400, 20):
                numbers = [*range(start, start + 40), *shuffled.sample(range(start + 40), 10)]
                shuffled.shuffle(numbers)
                new += sum(one.new for one in store.save([event(number) for number in numbers]))
            return new

        assert sum(at_once([partial(work, seed) for seed in range(4)])) == 420
        assert Event.objects.count() == Delivery.objects.count() == 420
        duplicates = Event.objects.aggregate(total=Sum("duplicates"))["total"]
        assert duplicates == 4 * 20 * 50 - 420
        assert counted() == (420, duplicates)

    def test_whoever_delivers_is_told_when_it_is_committed_and_only_if_there_is_something(self):
        app = make_destination()
        source, unrouted = place("stripe", app), place("other")
        parameters = connection.get_connection_params()
        parameters.pop("cursor_factory", None), parameters.pop("context", None)
        with psycopg.connect(**parameters, autocommit=True) as ear:
            ear.execute(f"LISTEN {store.CHANNEL}")

            def heard() -> int:
                return len(list(ear.notifies(timeout=0.3)))

            store.save([new_event(unrouted, 1)])
            assert heard() == 0
            store.save([new_event(source, 1), new_event(source, 2)])
            assert heard() == 1
            store.save([new_event(source, 1)])
            assert heard() == 0

    def test_when_the_database_is_gone_it_says_so(self, monkeypatch: pytest.MonkeyPatch):
        source = place("stripe")
        connection.ensure_connection()
        connection.connection.close()
        with pytest.raises((Error, psycopg.Error)):
            store.save([new_event(source)])
        connection.close()
        assert store.save([new_event(source)])[0].new


class TestMessages(TestCase):
    """What became of a message never moves backwards, in whatever order one hears of it."""

    @given(st.lists(st.sampled_from(MessageStatus), min_size=1, max_size=8), st.data())
    @hypothesis_settings(max_examples=60, deadline=None)
    def test_the_status_that_outranks_all_others_stays(self, statuses: list[MessageStatus], data: st.DataObject):
        source = known(make_source().slug)
        best: MessageStatus | None = None
        events = [
            new_event(source, number, subject="msg_1", status=status, occurred_at=WHEN + timedelta(seconds=number))
            for number, status in enumerate(statuses)
        ]
        cuts = data.draw(st.sets(st.integers(1, len(events))))
        pieces = sorted({0, len(events), *cuts})
        for start, end in pairwise(pieces):
            store.save(events[start:end])
            for status in statuses[start:end]:
                best = status if outranks(status, best) else best
            row = Message.objects.get(source_id=source.id)
            assert (row.status, row.rank) == (best, rank(best or status))
        store.save(events)  # all of them again
        assert Message.objects.get(source_id=source.id).status == best


def test_a_message_tells_which_event_it_has_its_status_from():
    source = place("resend")
    first = new_event(source, 1, subject="msg", status=MessageStatus.DELIVERED, occurred_at=WHEN)
    late = new_event(source, 2, subject="msg", status=MessageStatus.SENT, occurred_at=WHEN - timedelta(minutes=1))
    store.save([first])
    store.save([late])
    row = Message.objects.get()
    assert (row.status, row.event_id, row.changed_at) == ("delivered", first.id, WHEN)
    assert Event.objects.get(id=late.id).message_status == "sent"


def test_what_is_no_message_makes_none():
    source = place("stripe")
    store.save([new_event(source, 1, subject="pi_1"), new_event(source, 2, status=MessageStatus.SENT)])
    assert not Message.objects.exists()
