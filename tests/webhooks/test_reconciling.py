"""webhooks/reconciling.py: what never came is fetched, against a stand-in of Stripe on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from monitoring import alerts, variables
from monitoring.models import Credential
from tests.monitoring.factories import make_service
from tests.servers import Peer, Server, http
from tests.webhooks.factories import make_destination, make_event, make_route, make_source
from webhooks import erasing, reconciling, sealing
from webhooks.mentions import Subject
from webhooks.models import Delivery, Event, EventCount, Reconciliation, Source
from wsmon import secrets
from wsmon.audit import Actor

NOW = timezone.now().replace(microsecond=0)
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("loopback_targets")]


class Stripe:
    """A list of events, newest first, as https://docs.stripe.com/api/events/list gives it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = "200 OK"
        self.asked: list[dict[str, list[str]]] = []
        self.keys: list[str] = []

    def add(self, key: str, age: timedelta = timedelta(minutes=30), type_: str = "invoice.paid", **data: Any) -> None:
        created = int((NOW - age).timestamp())
        self.events.append(
            {
                "id": key,
                "object": "event",
                "type": type_,
                "created": created,
                "data": {"object": {"id": "in_1"} | data},
            }
        )

    def handle(self, peer: Peer) -> None:
        while request := peer.read_request():
            head = request.decode()
            query = parse_qs(urlsplit(head.split(" ")[1]).query)
            self.asked.append(query)
            self.keys += [line.split(" ")[-1] for line in head.split("\r\n") if line.startswith("Authorization")]
            since = int(query["created[gte]"][0])
            found = sorted((one for one in self.events if one["created"] >= since), key=lambda one: -one["created"])
            body = json.dumps({"object": "list", "data": found, "has_more": False}).encode()
            peer.send(http(body, self.status, {"Content-Type": "application/json"}))


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stripe]:
    stand_in = Stripe()
    with Server(stand_in.handle) as server:
        monkeypatch.setenv("STRIPE_API_BASE", server.url("").rstrip("/"))
        monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_from_environment")
        variables.forget()
        yield stand_in
    variables.forget()


@pytest.fixture
def source() -> Source:
    return make_source("stripe", reconcile=True)


def keys() -> set[str]:
    return set(Event.objects.values_list("key", flat=True))


def test_what_never_came_is_fetched_stored_and_routed(stripe: Stripe, source: Source) -> None:
    make_route(source, make_destination(), ["invoice.*"])
    make_event(source, key="evt_known", type="invoice.paid")
    stripe.add("evt_known")
    stripe.add("evt_missed", customer="cus_1")
    assert reconciling.run_due(NOW) == 1
    event = Event.objects.get(key="evt_missed")
    assert event.verification == {"scheme": "fetched from the vendor's API"}
    assert (event.type, event.subject, event.routed) == ("invoice.paid", "in_1", 1)
    assert event.occurred_at == NOW - timedelta(minutes=30)
    content = sealing.unseal(bytes(event.sealed or b""))
    assert json.loads(content.body)["data"]["object"]["customer"] == "cus_1"
    assert Delivery.objects.get().event_id == event.id
    row = Reconciliation.objects.get()
    assert (row.found, row.last_found, row.failures, row.problem, row.lease_until) == (1, 1, 0, "", None)


def test_a_day_is_asked_for_first_then_two_hours_every_ten_minutes(stripe: Stripe, source: Source) -> None:
    for minutes in (0, 1, 9, 10, 11, 20):
        reconciling.run_due(NOW + timedelta(minutes=minutes))
    since = [datetime.fromtimestamp(int(query["created[gte]"][0]), UTC) for query in stripe.asked]
    assert since == [
        NOW - timedelta(hours=24),
        NOW + timedelta(minutes=10) - timedelta(hours=2),
        NOW + timedelta(minutes=20) - timedelta(hours=2),
    ]
    assert source.slug == "stripe"


def test_after_failures_everything_since_the_last_success_is_asked_for(source: Source) -> None:
    row = Reconciliation(source=source, done_at=NOW - timedelta(days=2))
    assert reconciling.since(row, NOW) < NOW - timedelta(days=2)
    row.done_at = NOW - timedelta(days=60)
    assert reconciling.since(row, NOW) == NOW - timedelta(days=7)


@pytest.mark.usefixtures("source")
def test_fetching_twice_stores_once(stripe: Stripe) -> None:
    stripe.add("evt_1")
    assert reconciling.run_due(NOW) == 1
    assert reconciling.run_due(NOW + timedelta(minutes=10)) == 0
    assert Event.objects.get().duplicates == 0
    assert Reconciliation.objects.get().found == 1


@pytest.mark.usefixtures("source")
def test_what_may_still_be_on_its_way_waits(stripe: Stripe) -> None:
    stripe.add("evt_new", timedelta(seconds=30))
    assert reconciling.run_due(NOW) == 0
    assert reconciling.run_due(NOW + timedelta(minutes=10)) == 1


def test_types_that_nobody_wants_are_not_fetched(stripe: Stripe, source: Source) -> None:
    make_route(source, make_destination(), ["invoice.*"])
    EventCount.objects.create(level=3600, source_id=source.id, type="charge.failed", start=NOW, events=1)
    stripe.add("evt_routed")
    stripe.add("evt_seen", type_="charge.failed")
    stripe.add("evt_other", type_="balance.available")
    reconciling.run_due(NOW)
    assert keys() == {"evt_routed", "evt_seen"}


def test_what_was_erased_is_not_fetched_back(stripe: Stripe, source: Source) -> None:
    make_event(source, key="evt:jane@example.com")
    erasure = erasing.start(Subject("jane@example.com"), Actor.system("x"), "")
    while erasing.step(erasure.id):
        pass
    stripe.add("evt:jane@example.com")
    assert reconciling.run_due(NOW) == 0


def test_the_key_of_the_services_own_is_used(stripe: Stripe) -> None:
    service = make_service("billing", provider="stripe")
    Credential.objects.create(
        service=service, variable="STRIPE_SECRET_KEY", encrypted=secrets.encrypt("sk_test_of_the_service")
    )
    make_source("stripe", reconcile=True, service=service)
    reconciling.run_due(NOW)
    assert stripe.keys == ["sk_test_of_the_service"]


@pytest.mark.usefixtures("source")
def test_repeated_failure_raises_an_alert_that_success_resolves(stripe: Stripe) -> None:
    stripe.status = "500 Internal Server Error"
    for number in range(3):
        assert alerts.open_alerts([reconciling.KIND]) == []
        reconciling.run_due(NOW + number * reconciling.EVERY)
    (alert,) = alerts.open_alerts([reconciling.KIND])
    assert "500" in alert.detail
    assert Reconciliation.objects.get().failures == 3
    stripe.status = "200 OK"
    reconciling.run_due(NOW + 3 * reconciling.EVERY)
    assert alerts.open_alerts([reconciling.KIND]) == []
    assert Reconciliation.objects.get().problem == ""


@pytest.mark.usefixtures("source")
def test_a_missing_key_is_named_and_no_secret_is_shown(stripe: Stripe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_SECRET_KEY")
    variables.forget()
    reconciling.run_due(NOW)
    assert Reconciliation.objects.get().problem == "set STRIPE_SECRET_KEY"
    assert stripe.asked == []


@pytest.mark.usefixtures("stripe")
@pytest.mark.parametrize("change", [{"reconcile": False}, {"archived_at": NOW}], ids=["off", "archived"])
def test_sources_that_are_not_to_be_compared_are_left_alone(source: Source, change: dict[str, Any]) -> None:
    Source.objects.filter(id=source.id).update(**change)
    reconciling.run_due(NOW)
    assert not Reconciliation.objects.exists()


def test_a_vendor_without_a_list_is_said_so() -> None:
    make_source("twilio", provider="twilio", reconcile=True)
    reconciling.run_due(NOW)
    assert Reconciliation.objects.get().problem == "its vendor has no list of events"


@pytest.mark.usefixtures("source")
def test_one_process_at_a_time_asks_and_a_dead_ones_lease_runs_out(stripe: Stripe) -> None:
    reconciling._ensure(NOW)
    assert reconciling._claim(NOW) is not None
    Reconciliation.objects.update(due_at=NOW)
    assert reconciling.run_due(NOW) == 0
    assert stripe.asked == []
    reconciling.run_due(NOW + reconciling.LEASE)
    assert len(stripe.asked) == 1


@pytest.mark.usefixtures("source")
def test_garbage_in_the_list_is_a_problem_and_no_crash(stripe: Stripe) -> None:
    stripe.events = [{"created": 2**40, "id": {"a": 1}, "type": None}]
    reconciling.run_due(NOW)
    assert Reconciliation.objects.get().lease_until is None
