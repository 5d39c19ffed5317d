"""Sources and destinations as an answer: what to give vendors, what is missing, how destinations stand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tests.webhooks.factories import make_destination, make_source
from tests.webhooks.pages import ACT, LIVE, READ, signed_in, text
from tests.webhooks.story import tell
from webhooks.models import Destination, DestinationState, TypeRate

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer", *READ)


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", *ACT)


class TestSources:
    def test_each_gives_its_address_and_the_vendor_s_hint(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/sources/"))
        assert 'id="give-stripe">http://testserver/api/webhooks/stripe<' in page
        assert 'data-copy="#give-stripe"' in page
        assert "Each endpoint has its own signing secret" in page

    def test_what_is_not_configured_names_the_variable(self, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        tell()
        page = text(viewer.get("/webhooks/sources/"))
        assert "not configured" in page
        assert "NO_SUCH_SECRET" in page
        assert "stored in wsmon" in page
        assert "whsec_test" not in page

    def test_what_has_gone_silent_is_said(self, viewer: Client) -> None:
        told = tell()
        page = " ".join(text(viewer.get("/webhooks/sources/")).split())
        assert 'No <span class="mono">push</span> since' in page
        TypeRate.objects.create(source=told.github, type="", silent_since=told.now - timedelta(hours=1))
        assert "Nothing since" in text(viewer.get("/webhooks/sources/"))

    def test_what_came_is_counted(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/sources/"))
        assert '12 <span class="ink3" title="repeats of known events">+2</span>' in page

    def test_our_own_has_no_address(self, viewer: Client) -> None:
        make_source("published", "published", [])
        page = text(viewer.get("/webhooks/sources/"))
        assert "our own events" in page
        assert "/api/webhooks/published" not in page

    def test_one_of_a_provider_that_is_gone_is_shown_all_the_same(self, viewer: Client) -> None:
        make_source("old", "no_such_provider")
        assert "the provider no_such_provider has no webhooks" in text(viewer.get("/webhooks/sources/"))


class TestDestinations:
    def test_each_tells_how_it_stands(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/sources/"))
        assert "https://app.example.com/hooks?token=***" in page
        assert "abcdefghijklmnop" not in page
        assert "at most 50 per second" in page
        assert "one at a time per subject" in page
        assert "by grace: “moving”" in page
        assert page.count('75.00<span class="u">%</span>') == 3
        assert 'href="#b-OPEN"' in page

    def test_buttons_fit_the_state(self, operator: Client) -> None:
        told = tell()
        page = text(operator.get("/webhooks/sources/"))
        assert 'id="to-app-pause"' in page
        assert 'id="to-mailer-resume"' in page
        assert 'id="to-mailer-pause"' not in page
        DestinationState.objects.filter(destination=told.app).update(
            disabled_at=told.now, disabled_reason="nothing but failures"
        )
        Destination.objects.filter(id=told.app.id).update(health_url="https://app.example.com/health")
        page = text(operator.get("/webhooks/sources/"))
        assert 'id="to-app-enable"' in page
        assert 'id="to-app-pause"' not in page
        assert "by wsmon: nothing but failures. Enabled again when its health URL answers." in page

    def test_one_that_no_route_leads_to_says_so(self, viewer: Client) -> None:
        make_destination("attic", "env:ATTIC_URL")
        page = text(viewer.get("/webhooks/sources/"))
        assert "no route leads here" in page
        assert "env:ATTIC_URL" in page

    def test_since_when_it_fails_is_told(self, viewer: Client) -> None:
        told = tell()
        DestinationState.objects.filter(destination=told.ledger).update(failing_since=told.now)
        assert "failing since" in text(viewer.get("/webhooks/sources/"))


def test_empty_it_says_how_to_begin(viewer: Client) -> None:
    page = text(viewer.get("/webhooks/sources/"))
    assert "No source yet" in page
    assert "No destination yet" in page


def test_the_live_script_gets_what_changes(viewer: Client) -> None:
    tell()
    part = text(viewer.get("/webhooks/sources/", headers=LIVE))
    assert "<html" not in part
    assert 'id="from-stripe-n"' in part
    assert 'id="to-app-in"' in part


def test_the_number_of_queries_does_not_grow(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    tell()
    for _ in range(10):
        make_source()
        make_destination()
    with django_assert_max_num_queries(42):
        text(operator.get("/webhooks/sources/"))
