"""webhooks/ingest.py: requests that come at the same time are stored in one transaction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from tests.webhooks.engine import at_once, known, new_event, place
from tests.webhooks.factories import make_destination, set_secrets
from tests.whole import eventually
from webhooks import catalog, store
from webhooks import ingest as module
from webhooks.ingest import Ingest, Unavailable
from webhooks.models import Delivery, Event, Source
from webhooks.store import NewEvent, Saved
from wsmon.embedded import Server

pytestmark = pytest.mark.django_db(transaction=True)
Save = Callable[[Sequence[NewEvent]], list[Saved]]


def together(one: Ingest, requests: Sequence[Sequence[NewEvent]], seconds: float = 20.0) -> list[Any]:
    """Requests that come at the same time; of each what it got, or why nothing."""

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(one.save(events, seconds) for events in requests), return_exceptions=True)

    return asyncio.run(all_of_them())


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Nothing is stored meanwhile; yields how many events each statement held, afterwards."""
    gate, sizes, save = threading.Event(), [], store.save

    def waiting(events: Sequence[NewEvent]) -> list[Saved]:
        gate.wait(20)
        sizes.append(len(events))
        return save(events)

    monkeypatch.setattr(store, "save", waiting)
    try:
        yield sizes
    finally:
        gate.set()


def test_each_request_gets_what_became_of_its_own_events(inlet: Ingest):
    source = place("stripe", make_destination())
    requests = [[new_event(source, number), new_event(source, f"{number}b")] for number in range(20)]
    saved = together(inlet, requests)
    for events, found in zip(requests, saved, strict=True):
        assert [one.event_id for one in found] == [event.id for event in events]
        assert [(one.new, one.routed) for one in found] == [(True, 1)] * 2
    assert Event.objects.count() == Delivery.objects.count() == 40


def test_what_waits_meanwhile_goes_in_one_statement(inlet: Ingest, monkeypatch: pytest.MonkeyPatch):
    source = place("stripe")

    async def come() -> list[Any]:
        with held(monkeypatch) as sizes:
            waiting = [asyncio.create_task(inlet.save([new_event(source, 0)], 20))]
            while inlet._handed.qsize() or not inlet._waiting:  # the first is taken alone
                await asyncio.sleep(0.01)
            waiting += [asyncio.create_task(inlet.save([new_event(source, number)], 20)) for number in range(1, 100)]
            while inlet._waiting < 100:
                await asyncio.sleep(0.01)
        await asyncio.gather(*waiting)
        return sizes

    assert asyncio.run(come()) == [1, 99]
    assert Event.objects.count() == 100


def test_a_statement_takes_only_so_many(inlet: Ingest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BATCH", 10)
    source, sizes, save = place("stripe"), [], store.save
    monkeypatch.setattr(store, "save", lambda events: (sizes.append(len(events)), save(events))[1])
    together(inlet, [[new_event(source, number)] for number in range(95)])
    assert max(sizes) <= 10
    assert sum(sizes) == 95


def test_fifty_copies_over_several_processes_are_one_event(transactional_db: None):
    """Each process has a thread like this: here they are threads of one."""
    source = place("stripe", make_destination())
    inlets = [Ingest() for _ in range(5)]
    try:
        jobs = [lambda one=one: together(one, [[new_event(source)] for _ in range(10)]) for one in inlets]
        saved = [one[0] for found in at_once(jobs) for one in found]
    finally:
        for one in inlets:
            one.stop()
    assert sum(one.new for one in saved) == 1
    assert len(saved) == 50
    assert Event.objects.get().duplicates == 49
    assert Delivery.objects.count() == 1


@pytest.mark.parametrize("what", ["the database's", "our own"])
def test_one_that_cannot_be_stored_does_not_keep_the_others_out(
    inlet: Ingest, monkeypatch: pytest.MonkeyPatch, what: str
):
    source = place("stripe", make_destination())
    poison = new_event(source, "poison", type="x" * 201) if what == "the database's" else new_event(source, "poison")
    save = store.save

    def fails(events: Sequence[NewEvent]) -> list[Saved]:
        if what == "our own" and any(event.key == "evt_poison" for event in events):
            raise TypeError("a bug")
        return save(events)

    monkeypatch.setattr(store, "save", fails)
    requests = [[new_event(source, number)] for number in range(10)]
    found = together(inlet, [*requests[:5], [poison], *requests[5:]])
    assert isinstance(found.pop(5), Unavailable)
    assert all(one[0].new for one in found)
    assert Event.objects.count() == Delivery.objects.count() == 10


def test_while_the_database_is_away_nothing_is_acknowledged_and_afterwards_it_works_again(
    inlet: Ingest, embedded_database: Server
):
    source = place("stripe", make_destination())
    assert together(inlet, [[new_event(source, 1)]])[0][0].new
    connection.close()
    embedded_database.stop()
    try:
        found = together(inlet, [[new_event(source, number)] for number in range(2, 6)])
        assert [type(one) for one in found] == [Unavailable] * 4
    finally:
        embedded_database.start()

    def again() -> bool:
        return all(not isinstance(one, Unavailable) for one in together(inlet, [[new_event(source, 2)]]))

    eventually(again, "it is stored when the vendor sends it again")
    assert Event.objects.count() == Delivery.objects.count() == 2


def test_a_database_that_hangs_is_not_waited_for_longer_than_the_vendor_waits(
    inlet: Ingest, monkeypatch: pytest.MonkeyPatch
):
    source = place("stripe")

    async def come() -> None:
        with held(monkeypatch), pytest.raises(Unavailable):
            await inlet.save([new_event(source)], 0.2)

    asyncio.run(come())
    # It is stored all the same: the vendor sends it again, and that is a duplicate.
    eventually(lambda: Event.objects.count() == 1, "what waited is stored")
    assert not together(inlet, [[new_event(source)]])[0][0].new


def test_a_request_that_has_given_up_with_its_loop_does_not_end_the_thread(
    inlet: Ingest, monkeypatch: pytest.MonkeyPatch
):
    source = place("stripe")
    with held(monkeypatch):
        assert isinstance(together(inlet, [[new_event(source, 1)]], 0.1)[0], Unavailable)  # its loop is closed
    assert together(inlet, [[new_event(source, 2)]])[0][0].new
    assert inlet._bytes == 0


@pytest.mark.parametrize("limit", ["WAITING", "WAITING_BYTES"])
def test_when_too_much_waits_the_next_is_refused_at_once(inlet: Ingest, monkeypatch: pytest.MonkeyPatch, limit: str):
    source = place("stripe")
    body = b"x" * 100

    async def come() -> None:
        with held(monkeypatch):
            waiting = [asyncio.create_task(inlet.save([new_event(source, "first", body=body)], 20))]
            while inlet._handed.qsize() or not inlet._waiting:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(module, limit, 4 if limit == "WAITING" else 400)
            waiting += [asyncio.create_task(inlet.save([new_event(source, n, body=body)], 20)) for n in range(3)]
            while inlet._waiting < 4:
                await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await inlet.save([new_event(source, "one too many", body=body)], 20)
        await asyncio.gather(*waiting)
        assert (await inlet.save([new_event(source, "later", body=body)], 20))[0].new

    asyncio.run(come())
    assert Event.objects.count() == 5


def test_one_that_is_larger_than_all_that_may_wait_is_taken_when_nothing_else_waits(
    inlet: Ingest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "WAITING_BYTES", 10)
    assert together(inlet, [[new_event(place("stripe"), body=b"x" * 100)]])[0][0].new


def test_when_it_stops_what_waits_is_stored_first(inlet: Ingest, monkeypatch: pytest.MonkeyPatch):
    source = place("stripe")

    async def come() -> list[Any]:
        with held(monkeypatch):
            waiting = [asyncio.create_task(inlet.save([new_event(source, 0)], 20))]
            while inlet._handed.qsize() or not inlet._waiting:
                await asyncio.sleep(0.01)
            waiting += [asyncio.create_task(inlet.save([new_event(source, number)], 20)) for number in range(1, 10)]
            while inlet._waiting < 10:
                await asyncio.sleep(0.01)
            stopping = threading.Thread(target=inlet.stop, args=(20.0,))
            stopping.start()
        found = await asyncio.gather(*waiting)
        stopping.join(20)
        return found

    assert all(one[0].new for one in asyncio.run(come()))
    assert inlet._thread is None
    assert together(inlet, [[new_event(source, "after")]])[0][0].new  # it starts again by itself


def test_it_sees_what_is_configured_anew(inlet: Ingest):
    place("stripe")
    inlet.start()
    eventually(lambda: catalog.current() is not None, "it looks by itself")
    known("stripe")
    Source.objects.get(slug="stripe").secrets.all().delete()
    set_secrets(Source.objects.get(slug="stripe"), ["whsec_new"])

    def seen() -> bool:
        now = catalog.current()
        return now is not None and now.sources["stripe"].secrets == ("whsec_new",)

    eventually(seen, "the new secret counts")


def test_an_error_in_its_chores_does_not_end_the_thread(inlet: Ingest, monkeypatch: pytest.MonkeyPatch):
    source, asked = place("stripe"), []

    def broken(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise OperationalError if len(asked) % 2 else ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "refresh", broken)
        inlet.start()
        eventually(lambda: len(asked) >= 3, "it goes on")
    assert together(inlet, [[new_event(source)]])[0][0].new
