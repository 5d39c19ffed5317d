"""webhooks/recovery.py: a destination that wsmon disabled comes back by its health URL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import alerts
from tests.servers import Peer, Server, http
from tests.webhooks.factories import make_delivery, make_destination
from webhooks import actions, recovery, settling
from webhooks.models import Destination, DestinationState
from webhooks.vocabulary import DeliveryStatus
from wsmon.audit import Actor
from wsmon.models import AuditEntry

NOW = timezone.now()
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("loopback_targets")]


class Health:
    """A health page that answers as told."""

    status = "200 OK"
    headers: dict[str, str] = {}

    def handle(self, peer: Peer) -> None:
        while peer.read_request():
            peer.send(http(b"", self.status, self.headers))


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> Iterator[Server]:
    with Server(health.handle) as running:
        yield running


@pytest.fixture
def destination(server: Server) -> Destination:
    made = make_destination("app", health_url=server.url("/health"))
    settling.disable(made.id, "every try has failed")
    return made


def is_disabled(destination: Destination) -> bool:
    return DestinationState.objects.get(destination=destination).disabled_at is not None


def test_a_destination_that_answers_again_is_enabled_with_its_backlog(destination: Destination) -> None:
    waiting = make_delivery(destination=destination, status=DeliveryStatus.RETRYING)
    assert len(alerts.open_alerts()) == 1
    assert recovery.run_due(NOW) == 1
    assert not is_disabled(destination)
    assert alerts.open_alerts() == []
    waiting.refresh_from_db()
    assert waiting.status == DeliveryStatus.RETRYING
    entry = AuditEntry.objects.filter(action="destination.enable").get()
    assert (entry.actor_name, entry.target, entry.reason) == (
        "recovery",
        "destination:app",
        "its health URL answers again",
    )


@pytest.mark.parametrize(
    "status", ["500 Internal Server Error", "404 Not Found", "302 Found", "429 Too Many Requests"]
)
def test_anything_but_a_2xx_leaves_it_disabled(destination: Destination, health: Health, status: str) -> None:
    health.status = status
    health.headers = {"Location": "/elsewhere"}
    assert recovery.run_due(NOW) == 0
    assert is_disabled(destination)
    assert len(alerts.open_alerts()) == 1


def test_it_is_asked_once_a_minute(destination: Destination, health: Health, server: Server) -> None:
    health.status = "503 Service Unavailable"
    for seconds in (0, 1, 30, 54, 60, 61, 120):
        recovery.run_due(NOW + timedelta(seconds=seconds))
    assert len(server.requests) == 3
    assert is_disabled(destination)


@pytest.mark.parametrize(
    "change",
    [{"health_url": ""}, {"archived_at": NOW}, {"health_url": "env:NO_SUCH_VARIABLE"}, {"health_url": "not a url"}],
    ids=["no url", "archived", "unset reference", "bad url"],
)
def test_what_cannot_be_asked_stays_disabled(destination: Destination, change: dict[str, Any]) -> None:
    Destination.objects.filter(id=destination.id).update(**change)
    assert recovery.run_due(NOW) == 0
    assert is_disabled(destination)


def test_what_a_person_disabled_is_not_even_asked(server: Server) -> None:
    made = make_destination(health_url=server.url())
    actions.disable_destination(made, Actor.system("jane"), "moving house")
    assert recovery.run_due(NOW) == 0
    assert is_disabled(made)
    assert server.requests == []


def test_a_person_who_disables_it_meanwhile_has_the_last_word(destination: Destination) -> None:
    DestinationState.objects.filter(destination=destination).update(disabled_by="jane")
    assert not recovery.enable(destination)
    assert is_disabled(destination)


def test_the_url_may_be_a_reference(
    destination: Destination, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_HEALTH", server.url("/from-environment"))
    Destination.objects.filter(id=destination.id).update(health_url="env:APP_HEALTH")
    assert recovery.run_due(NOW) == 1
    assert server.requests[0].startswith(b"GET /from-environment ")


def test_destinations_in_use_are_not_asked(server: Server) -> None:
    make_destination(health_url=server.url())
    assert recovery.run_due(NOW) == 0
    assert server.requests == []


def test_one_that_hangs_does_not_keep_the_others(destination: Destination) -> None:
    with Server(lambda peer: peer.hold()) as hanging:
        slow = make_destination(health_url=hanging.url(), timeout=0.2)
        settling.disable(slow.id, "gone")
        assert recovery.run_due(NOW) == 1
    assert not is_disabled(destination)
    assert is_disabled(slow)
