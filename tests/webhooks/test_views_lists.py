"""The page of webhooks as answers: who gets it, what it says, how it is filtered and paged, what it costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from monitoring.models import Breaker
from tests.webhooks.factories import make_delivery, make_destination, make_event, make_source
from tests.webhooks.pages import ACT, HTMX, LIVE, READ, signed_in, text
from tests.webhooks.story import tell
from webhooks import search
from webhooks.models import Delivery, DestinationState
from webhooks.views import lists

pytestmark = pytest.mark.django_db

PATHS = ["/webhooks/", "/webhooks/failures/", "/webhooks/sources/"]


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer", *READ)


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", *ACT)


class TestWhoGetsThem:
    @pytest.mark.parametrize("path", PATHS)
    def test_strangers_are_sent_to_the_login(self, client: Client, path: str) -> None:
        response = client.get(path)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/login/")

    @pytest.mark.parametrize("path", PATHS)
    def test_accounts_without_the_permission_are_refused(self, path: str) -> None:
        assert signed_in("novice").get(path).status_code == 403

    @pytest.mark.parametrize("path", PATHS)
    def test_they_cannot_be_posted_to(self, viewer: Client, path: str) -> None:
        assert viewer.post(path).status_code == 405

    @pytest.mark.parametrize("path", PATHS)
    def test_viewers_read_and_get_no_buttons(self, viewer: Client, path: str) -> None:
        tell()
        page = text(viewer.get(path))
        assert "data-asks=" not in page
        assert 'type="checkbox" class="ws-check" name="d"' not in page


class TestThePage:
    def test_what_is_held_is_explained(self, viewer: Client) -> None:
        told = tell()
        page = " ".join(text(viewer.get("/webhooks/")).split())
        assert "4 deliveries to <b>app</b> are held since" in page
        assert "and go out by themselves." in page
        assert "1 delivery to <b>mailer</b> is held since" in page
        assert "resumes it</a>. Nothing accepted is lost." in page
        DestinationState.objects.filter(destination=told.mailer).update(paused_at=None, disabled_at=told.now)
        Breaker.objects.update(forced="OPEN", forced_by="grace", forced_reason="x", forced_at=told.now)
        page = text(viewer.get("/webhooks/"))
        assert "enabled again</a>" in page
        assert "until somebody ends the force on its breaker" in page

    def test_when_nothing_is_held_that_is_said(self, viewer: Client) -> None:
        make_delivery(status="delivered")
        assert "Nothing waits." in text(viewer.get("/webhooks/"))

    def test_routes_tell_rates_of_the_chosen_period(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/"))
        assert '75.00<span class="u">%</span>' in page
        assert "payment_intent.*, invoice.*" in page
        assert ">paused<" in page
        assert 'href="#b-OPEN"' in page
        part = text(viewer.get("/webhooks/?period=7d", headers=HTMX | {"HX-Target": "routes"}))
        assert "<html" not in part
        assert 'id="period-7d" href="/webhooks/?period=7d"' in part
        assert "last 7 days" in part

    def test_deliveries_tell_what_comes_next(self, viewer: Client) -> None:
        told = tell()
        page = text(viewer.get("/webhooks/"))
        assert page.count("breaker OPEN") == 4
        assert "none left" in page
        Delivery.objects.filter(destination=told.ledger).update(
            status="retrying", due_at=told.now + timedelta(hours=1)
        )
        assert "data-in" in text(viewer.get("/webhooks/?destination=ledger"))

    def test_a_failed_one_with_tries_left_gave_up(self, viewer: Client) -> None:
        make_delivery(status="failed", tries=1, max_tries=9)
        assert "gave up" in text(viewer.get("/webhooks/"))

    def test_nothing_personal_is_in_it(self, viewer: Client) -> None:
        event = make_event(subject="jane.doe@example.com")
        make_delivery(event)
        assert "jane.doe" not in text(viewer.get("/webhooks/"))

    def test_what_a_vendor_sends_is_escaped(self, viewer: Client) -> None:
        make_delivery(make_event(type="<b>x", subject='"><i>'))
        page = text(viewer.get("/webhooks/"))
        assert "<b>x" not in page
        assert "<i>" not in page

    def test_the_navigation_counts_failures(self, viewer: Client) -> None:
        tell()
        assert '3<span class="vh"> failed</span>' in text(viewer.get("/changes/"))

    def test_the_number_of_queries_does_not_grow(
        self, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        told = tell()
        for _ in range(30):
            make_delivery(make_event(told.stripe), told.ledger, "failed")
        with django_assert_max_num_queries(32):
            text(operator.get("/webhooks/"))
        with django_assert_max_num_queries(18):
            text(operator.get("/webhooks/?ids=1,2,3", headers=LIVE))


class TestBeforeAnythingCame:
    def test_without_a_source_it_shows_what_to_write(self, operator: Client) -> None:
        page = text(operator.get("/webhooks/"))
        assert "Say who sends, and where it goes" in page
        assert "env:STRIPE_WEBHOOK_SECRET" in page
        assert "http://testserver/api/webhooks/stripe" in page
        assert 'id="deliveries"' not in page

    def test_with_sources_it_gives_their_addresses(self, operator: Client, settings: object) -> None:
        settings.PUBLIC_URL = "https://ops.example.com"  # type: ignore[attr-defined]
        make_source("stripe")
        make_source("twilio", "twilio", url="https://hooks.example.com/api/webhooks/twilio")
        page = text(operator.get("/webhooks/"))
        assert "2 sources configured" in page
        assert "https://ops.example.com/api/webhooks/stripe" in page
        assert "https://hooks.example.com/api/webhooks/twilio" in page

    def test_a_filter_that_finds_nothing_offers_a_way_out(self, operator: Client) -> None:
        tell()
        page = text(operator.get("/webhooks/?source=nowhere"))
        assert "Nothing matches" in page
        assert "Show all deliveries" in page


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "number"),
        [
            ("", 11),
            ("status=failed", 3),
            ("destination=app", 7),
            ("source=resend", 1),
            ("type=invoice.*", 6),
            ("status=failed&source=stripe&type=invoice.finalized", 3),
            ("since=30m", 5),
            ("until=30m", 6),
            ("category=SERVER_ERROR", 3),
            ("q=in_1", 2),
            ("q=data.object.customer%3Dcus_R4v0e1&status=failed", 3),
        ],
    )
    def test_they_narrow_the_list(self, viewer: Client, query: str, number: int) -> None:
        tell()
        search.index_some()
        page = text(viewer.get(f"/webhooks/?{query}"))
        assert page.count('<tr id="d-') == number
        assert f"{number} deliver" in page

    def test_each_is_a_chip_that_can_be_taken_away(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/?status=failed&source=stripe&since=24h&period=7d"))
        assert 'id="without-status" href="/webhooks/?source=stripe&amp;since=24h&amp;period=7d"' in page
        assert "last 24 h</b>" in page
        assert 'aria-label="Remove the filter source stripe"' in page

    def test_what_nobody_filled_in_leaves_the_address(self, viewer: Client) -> None:
        response = viewer.get("/webhooks/?status=failed&source=&q=")
        assert (response.status_code, response["Location"]) == (302, "/webhooks/?status=failed")
        assert viewer.get("/webhooks/?status=")["Location"] == "/webhooks/"

    @pytest.mark.parametrize("query", ["since=soon", "status=odd", "q=" + "x" * 301])
    def test_one_that_cannot_be_read_is_told_and_left_out(self, viewer: Client, query: str) -> None:
        tell()
        page = text(viewer.get(f"/webhooks/?{query}"))
        assert "This filter cannot be read, and was left out." in page
        assert page.count('<tr id="d-') == 11

    def test_events_without_a_route_are_a_list_of_their_own(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/?status=unrouted"))
        assert "Events without a route" in page
        assert "email.opened" in page
        assert "no route takes it" in page
        assert "Show what would go" not in page

    def test_htmx_gets_the_list_alone(self, viewer: Client) -> None:
        tell()
        target = HTMX | {"HX-Target": "deliveries"}
        part = text(viewer.get("/webhooks/?status=failed", headers=target))
        assert "<html" not in part
        assert part.count('<tr id="d-') == 3
        whole = viewer.get("/webhooks/", headers=target | {"HX-History-Restore-Request": "true"})
        assert "<html" in text(whole)


class TestPages:
    def test_older_ones_follow_by_key(self, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lists, "PER_PAGE", 2)
        source, to = make_source("stripe"), make_destination()
        rows = [make_delivery(make_event(source), to) for _ in range(3)]
        page = text(viewer.get("/webhooks/"))
        assert f'href="/webhooks/?before={rows[1].id}"' in page
        assert "3 match" in page
        older = text(viewer.get(f"/webhooks/?before={rows[1].id}"))
        assert older.count('<tr id="d-') == 1
        assert 'id="page-newest"' in older
        assert 'id="page-older"' not in older

    @pytest.mark.parametrize("before", ["x", "-1", "²", "9" * 30])
    def test_an_odd_cursor_is_ignored(self, viewer: Client, before: str) -> None:
        tell()
        assert text(viewer.get("/webhooks/", {"before": before})).count('<tr id="d-') == 11
        assert "email.opened" in text(viewer.get("/webhooks/", {"before": before, "status": "unrouted"}))


class TestLive:
    def test_rows_are_told_as_they_are_now_and_newer_ones_are_counted(self, viewer: Client) -> None:
        told = tell()
        gone = told.failed[0]
        Delivery.objects.filter(id=gone.id).update(status="delivered")
        top = Delivery.objects.order_by("-id").values_list("id", flat=True)[0]
        make_delivery(make_event(told.stripe), told.ledger, "failed")
        part = text(viewer.get(f"/webhooks/?status=failed&ids={gone.id},x,&top={top}", headers=LIVE))
        assert "<html" not in part
        assert part.count('<tr id="d-') == 1
        assert 'data-s="delivered"' in part, "also when it does not match any more"
        assert "Show 1 new" in part
        assert 'id="wh-lead"' in part
        assert 'id="routes-rows"' in part

    def test_a_page_without_rows_asks_for_none(self, viewer: Client) -> None:
        tell()
        part = text(viewer.get("/webhooks/?ids=0&status=unrouted&top=1", headers=LIVE))
        assert '<tr id="d-' not in part
        assert "new</a>" not in part

    def test_no_more_rows_than_a_page_can_have_are_read(
        self, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "MOST_IDS", 1)
        told = tell()
        ids = ",".join(str(row.id) for row in told.failed)
        assert text(viewer.get(f"/webhooks/?ids={ids}", headers=LIVE)).count('<tr id="d-') == 1
