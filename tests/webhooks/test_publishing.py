"""``webhooks.publishing``: the team's own events."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import pytest
from django.db import connection

from tests.webhooks.factories import make_destination, make_route, make_source
from webhooks import publishing, sealing
from webhooks.idempotency import BadKey, Conflict
from webhooks.models import Delivery, Event, Source
from webhooks.publishing import Unpublishable
from webhooks.vocabulary import PUBLISHED, Priority
from wsmon.audit import Actor

ANNA = Actor.system("anna")
BERT = Actor.system("bert")

pytestmark = pytest.mark.django_db


def publish(type_: str = "order.paid", data: Any = None, key: str = "", **more: Any) -> publishing.Published:
    return publishing.publish(type_, {"id": "ord_1"} if data is None else data, key, **{"actor": ANNA} | more)


def test_an_event_is_stored_as_standard_webhooks_has_it() -> None:
    found = publish(data={"id": "ord_1", "total": 4200, "ü": "ö\u0000"})
    event = Event.objects.get(id=found.event_id)
    content = sealing.unseal(event.sealed)
    body = json.loads(content.body)
    assert set(body) == {"type", "timestamp", "data"}
    assert body["type"] == event.type == "order.paid"
    assert body["data"] == {"id": "ord_1", "total": 4200, "ü": "ö\u0000"}
    assert body["timestamp"].endswith("Z")
    assert event.source.slug == PUBLISHED
    assert event.subject == "ord_1"
    assert event.verification["by"] == "anna"
    assert dict(content.headers)["content-type"] == "application/json"


def test_its_source_is_made_once() -> None:
    publish()
    publish()
    assert Source.objects.filter(slug=PUBLISHED).count() == 1


def test_it_goes_by_the_routes_of_the_source() -> None:
    source = make_source(PUBLISHED, provider=PUBLISHED, secrets=())
    app, crm = make_destination("app"), make_destination("crm")
    make_route(source, app, ["order.*"], priority=Priority.LOW)
    make_route(source, crm, ["customer.*"])
    found = publish()
    assert (found.created, found.deliveries) == (True, 1)
    delivery = Delivery.objects.get()
    assert (delivery.destination, delivery.status, delivery.priority) == (app, "pending", Priority.LOW)


def test_a_priority_goes_before_the_routes() -> None:
    source = make_source(PUBLISHED, provider=PUBLISHED, secrets=())
    make_route(source, make_destination(), priority=Priority.LOW)
    publish(priority=Priority.CRITICAL)
    assert Delivery.objects.get().priority == Priority.CRITICAL


def test_an_event_that_no_route_takes_is_kept() -> None:
    assert publish().deliveries == 0
    assert Event.objects.count() == 1


def test_the_same_key_gives_the_first_event() -> None:
    first, again = publish(key="k"), publish(key="k")
    assert first.created
    assert not again.created
    assert (again.event_id, again.deliveries) == (first.event_id, first.deliveries)
    assert Event.objects.count() == 1


def test_without_a_key_each_is_an_event() -> None:
    assert publish().event_id != publish().event_id


@pytest.mark.parametrize(
    ("type_", "data", "more"),
    [("order.lost", None, {}), ("order.paid", {"id": "ord_2"}, {}), ("order.paid", None, {"priority": Priority.LOW})],
)
def test_the_same_key_for_another_event_is_a_conflict(type_: str, data: Any, more: dict[str, Any]) -> None:
    publish(key="k")
    with pytest.raises(Conflict):
        publish(type_, data, "k", **more)
    assert Event.objects.count() == 1


def test_somebody_elses_keys_are_their_own() -> None:
    assert publish(key="k").event_id != publish(key="k", actor=BERT).event_id


@pytest.mark.parametrize("type_", ["", " ", "a b", ".a", "a" * 201, "é", "a\x00", "a\nb", "a*"])
def test_a_type_that_cannot_be_is_refused(type_: str) -> None:
    with pytest.raises(Unpublishable) as wrong:
        publish(type_)
    assert wrong.value.field == "type"


@pytest.mark.parametrize("data", [float("nan"), {"a": float("inf")}, "x" * 1_048_577])
def test_data_that_cannot_be_sent_is_refused(data: Any) -> None:
    with pytest.raises(Unpublishable) as wrong:
        publish(data=data)
    assert wrong.value.field == "data"
    assert not Event.objects.exists()


@pytest.mark.parametrize("data", [[], "text", 1, {"a": {"b": [None]}}, {"id": 17}, {"id": "\ud800\x00" + "x" * 300}])
def test_any_json_may_be_published(data: Any) -> None:
    event = Event.objects.get(id=publish(data=data).event_id)
    assert json.loads(sealing.unseal(event.sealed).body)["data"] == data


def test_a_bad_key_is_refused() -> None:
    with pytest.raises(BadKey):
        publish(key="a b")


@pytest.mark.django_db(transaction=True)
def test_many_at_once_with_one_key_make_one_event() -> None:
    make_route(make_source(PUBLISHED, provider=PUBLISHED, secrets=()), make_destination())
    found: list[uuid.UUID] = []

    def ask() -> None:
        found.append(publish(key="k").event_id)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 10
    assert len(set(found)) == 1
    assert Event.objects.count() == Delivery.objects.count() == 1
