"""What webhooks know of whose fault an incident is."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from monitoring.incidents.verdict import Evidence
from monitoring.models import Service
from tests.monitoring.factories import make_service
from tests.webhooks.factories import count_deliveries, make_delivery, make_destination, make_event, make_source
from webhooks import evidence
from webhooks.models import EventCount, Source, TypeRate

pytestmark = pytest.mark.django_db
NOW = timezone.now()
SINCE = NOW - timedelta(minutes=30)


@pytest.fixture(autouse=True)
def from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are read long before their tests run, in a long run a quarter of an hour."""
    now = timezone.now()
    monkeypatch.setattr(sys.modules[__name__], "NOW", now)
    monkeypatch.setattr(sys.modules[__name__], "SINCE", now - timedelta(minutes=30))


@pytest.fixture
def service() -> Service:
    return make_service("stripe", "stripe")


def usual(source: Source, per_hour: float, **fields: object) -> None:
    TypeRate.objects.create(source=source, type="", usual=[per_hour] * 168, weeks=4, **fields)


def came(source: Source, number: int) -> None:
    EventCount.objects.create(
        level=EventCount.Level.MINUTE, source_id=source.id, type="x", events=number,
        start=(NOW - timedelta(minutes=5)).replace(second=0, microsecond=0),
    )  # fmt: skip


def told(service: Service) -> list[tuple[str, str, str]]:
    return [(one.key, one.side.value, one.text) for one in evidence.of_service(service.id, SINCE)]


def test_without_webhooks_there_is_nothing_to_say(service: Service) -> None:
    assert told(service) == []
    assert evidence.of_service(service.id + 1, SINCE) == []


@pytest.mark.parametrize(
    ("number", "side", "text"),
    [
        (60, "us", "their events arrive as usual"),
        (40, "us", "their events arrive as usual"),
        (20, "unclear", "fewer of their events arrive than usual"),
        (3, "them", "hardly any of their events arrive"),
    ],
)
def test_how_much_comes_beside_what_is_usual(service: Service, number: int, side: str, text: str) -> None:
    source = make_source("stripe")
    usual(source, 120)
    came(source, number)
    assert told(service) == [("webhooks", side, text)]


def test_where_little_is_usual_nothing_is_said(service: Service) -> None:
    usual(make_source("stripe"), 4)
    assert told(service) == []


def test_silence_points_to_them(service: Service) -> None:
    usual(make_source("stripe"), 120, silent_since=SINCE)
    ((_key, side, text),) = told(service)
    assert (side, text.startswith("nothing has come since ")) == ("them", True)


def test_what_arrives_late_points_to_them(service: Service) -> None:
    source = make_source("stripe")
    for minutes, late in ((120, 4), (110, 4), (10, 185), (5, 190)):
        at = NOW - timedelta(minutes=minutes)
        make_event(source, received_at=at, occurred_at=at - timedelta(seconds=late))
    ((_key, side, text),) = told(service)
    assert (side, text) == ("them", "what happens there arrives 3 min late, usually 4 s")


def test_a_few_seconds_are_not_late(service: Service) -> None:
    source = make_source("stripe")
    at = NOW - timedelta(minutes=5)
    make_event(source, received_at=at, occurred_at=at - timedelta(seconds=20))
    assert told(service) == []


def test_sources_that_name_the_service_count_before_those_of_its_vendor(service: Service) -> None:
    usual(make_source("of-the-vendor"), 120)
    named = make_source("named", provider="standardwebhooks", service=service)
    usual(named, 120)
    came(named, 60)
    (piece,) = evidence.of_service(service.id, SINCE)
    assert piece.url == "/webhooks/?source=named"


def test_another_services_source_says_nothing(service: Service) -> None:
    usual(make_source("other", service=make_service("other")), 120)
    assert told(service) == []


def test_what_does_not_get_through_to_it(service: Service) -> None:
    source, destination = make_source(), make_destination("app", service=service)
    for status in ("pending", "retrying", "failed", "delivered"):
        make_delivery(make_event(source), destination, status)
    count_deliveries(source, destination, NOW - timedelta(minutes=5), failed=1, tries=9)
    (piece,) = evidence.of_service(service.id, SINCE)
    assert isinstance(piece, Evidence)
    assert (piece.key, piece.side, piece.weight, piece.text) == ("deliveries", "unclear", 0.0, "2 wait, 1 failed")
    assert piece.url == "/webhooks/failures/"
