"""webhooks/answers.py: what the overview says of what is lost, and how to get it back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.template.loader import render_to_string
from django.utils import timezone

from monitoring import overview, panels
from tests.webhooks.factories import make_delivery, make_destination, make_event, make_route, make_source
from webhooks.answers import Losses, losses
from webhooks.models import Delivery, Destination, DestinationState, Source

pytestmark = pytest.mark.django_db


def found() -> Losses:
    context = losses()
    assert context is not None
    return context["losses"]


@pytest.fixture
def app() -> Destination:
    return make_destination("app")


def old(status: str, app: Destination, **values: object) -> Delivery:
    return make_delivery(make_event(), app, status=status, created_at=timezone.now() - timedelta(minutes=5), **values)


def test_without_any_source_or_destination_monitoring_answers_itself() -> None:
    assert losses() is None
    assert panels.answers(overview.overall()).elsewhere == []


def test_what_failed_is_lost_until_it_is_sent_again_and_what_waits_is_held(app: Destination) -> None:
    old("failed", app)
    old("retrying", app, tries=2)
    old("pending", app)
    old("delivered", app)
    make_delivery(make_event(), app, status="pending")  # came just now
    one = found()
    assert (one.lost, one.held, one.stopped, one.automatic, one.by_you) == (1, 2, 0, 2, 1)


def test_what_a_stopped_destination_holds_needs_a_person(app: Destination) -> None:
    old("pending", app)
    DestinationState.objects.update(paused_at=timezone.now())
    one = found()
    assert (one.held, one.stopped, one.automatic, one.by_you) == (1, 1, 0, 1)


def test_the_overview_says_it_with_the_next_step(app: Destination) -> None:
    old("failed", app)
    text = "".join(panels.answers(overview.overall()).elsewhere)
    assert "What did we lose?" in text
    assert 'href="/webhooks/failures/"' in text
    assert "Review 1 failed delivery" in text


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Losses(0, 0, 0, 0, 0), ["Nothing", "Nothing was sent in the last hour", "No need"]),
        (Losses(0, 41, 0, 99, 1), ["Nothing", "41 held", "They go out when their destination works again"]),
        (Losses(0, 10_000, 10_000, 0, 0), ["10,000+ held", "Resume the stopped destination"]),
        (Losses(1_000, 0, 0, 1, 1), ["1,000+ failed", "Review 1,000+ failed deliveries"]),
    ],
)
def test_numbers_become_words(one: Losses, words: list[str]) -> None:
    text = render_to_string("webhooks/_answers.html", {"losses": one})
    assert [word for word in words if word not in text] == []


def test_archived_sources_are_none(app: Destination) -> None:
    assert losses() is not None
    make_route(make_source("stripe"), app)
    Destination.objects.update(archived_at=timezone.now())
    assert losses() is not None
    Source.objects.update(archived_at=timezone.now())
    assert losses() is None
