"""The breakers' page, its log and actions as answers: who gets them, what they say, what they cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from monitoring.breakers import glance, reads
from monitoring.breakers.machine import Cause, Mode
from monitoring.models import Breaker, BreakerTransition, RecoveryFactor, Service
from monitoring.templatetags.wsmon_breakers import failure_trend, ring_text, window_bars
from monitoring.views.breakerrows import Row, share
from tests.browser.breakerstory import flow, tell_breakers
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.test_views_service import signed_in
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

LIST = {"HX-Request": "true", "HX-Target": "breakers"}
HTMX = {"HX-Request": "true"}
PATHS = ["/breakers/", "/breakers/transitions/"]
ACTIONS = ["reset", "release", "force-open", "force-closed"]
FORCE = {"reason": "pool doubled", "expires": "600"}


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer", "view_service")


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", "view_service", "operate")


@pytest.fixture
def service() -> Service:
    return make_service("stripe", "stripe", name="Stripe <b>")


def text(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.content[:300]
    said: str = response.content.decode()
    return said


def url(action: str, slug: str = "stripe") -> str:
    return reverse("breaker-act", args=[slug, action])


def opened(service: Service, **fields: Any) -> Breaker:
    now = timezone.now()
    told = {"state": "OPEN", "since": now, "opened_at": now, "open_for": 30.0, "openings": 1, "generation": 1}
    return Breaker.objects.create(service=service, **told | {"cause": "outage", "reason": "it failed"} | fields)


class TestWhoGetsThem:
    @pytest.mark.parametrize("path", [*PATHS, "/breakers/stripe/reset/"])
    def test_strangers_are_sent_to_the_login(self, client: Client, path: str) -> None:
        response = client.get(path)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/login/")

    @pytest.mark.parametrize("path", PATHS)
    def test_accounts_without_the_permission_are_refused(self, path: str) -> None:
        assert signed_in("novice").get(path).status_code == 403

    @pytest.mark.parametrize("path", PATHS)
    def test_they_cannot_be_posted_to(self, viewer: Client, path: str) -> None:
        assert viewer.post(path).status_code == 405

    @pytest.mark.parametrize("action", ACTIONS)
    def test_viewers_may_not_act_nor_ask(self, viewer: Client, service: Service, action: str) -> None:
        assert viewer.post(url(action), FORCE).status_code == 403
        assert viewer.get(url(action)).status_code == 403
        assert not AuditEntry.objects.exists()
        assert not Breaker.objects.exists()

    @pytest.mark.parametrize("action", ACTIONS)
    def test_other_methods_are_refused(self, operator: Client, service: Service, action: str) -> None:
        assert operator.put(url(action)).status_code == 405
        assert operator.delete(url(action)).status_code == 405

    def test_a_form_of_another_site_is_refused(self, service: Service) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies = signed_in("operator", "view_service", "operate").cookies
        assert client.post(url("force-open"), FORCE).status_code == 403

    @pytest.mark.parametrize("path", ["/breakers/nowhere/reset/", "/breakers/stripe/explode/"])
    def test_an_unknown_service_or_action_is_not_found(self, operator: Client, service: Service, path: str) -> None:
        assert operator.post(path, FORCE).status_code == 404
        assert operator.get(path).status_code == 404

    def test_a_removed_service_is_not_found(self, operator: Client, service: Service) -> None:
        Service.objects.update(archived_at=timezone.now())
        assert operator.post(url("reset")).status_code == 404


class TestThePage:
    def test_without_services_it_says_so(self, viewer: Client) -> None:
        page = text(viewer.get("/breakers/"))
        assert "There is no breaker yet" in page
        assert 'id="brk-list"' not in page

    def test_it_groups_them_and_says_why(self, operator: Client) -> None:
        tell_breakers()
        RecoveryFactor.objects.update_or_create(id=1, defaults={"factor": 0.5})
        page = text(operator.get("/breakers/"))
        for words in (
            "Our credential, not an outage:",
            "Our rate limit, not an outage:",
            "20 of 20 calls failed in 10 s.",
            "one call at a time over all processes",
            "without the critical day it would be 2 min",
            "process 4711 on host-b, lease",
            "Closes after 1 more success",
            "Forced open by operator",
            "“shop moves to the new account”",
            "Underneath it is <b>CLOSED</b>",
            "It does not end by itself.",
            "3 of 5 counted",
            "opened 5×",
            "1,204",
        ):
            assert words in page, words
        assert "&lt;b&gt;only the health check&lt;/b&gt;" in page
        assert "All <span" in page
        assert page.count('class="brk"') == 13

    @pytest.mark.parametrize(("state", "number"), [("all", 13), ("not_closed", 5), ("closed", 8), ("odd", 13)])
    def test_it_can_be_filtered(self, viewer: Client, state: str, number: int) -> None:
        tell_breakers()
        assert text(viewer.get("/breakers/", {"state": state})).count('class="brk"') == number

    def test_htmx_gets_the_list_and_the_filter_alone(self, viewer: Client) -> None:
        tell_breakers()
        part = text(viewer.get("/breakers/?state=closed", headers=LIST))
        assert "<html" not in part
        assert 'id="brk-filter"' in part
        assert part.count('class="brk"') == 8
        whole = viewer.get("/breakers/", headers=LIST | {"HX-History-Restore-Request": "true"})
        assert "<html" in text(whole)

    def test_nothing_fits_a_filter(self, viewer: Client, service: Service) -> None:
        assert "Every breaker is closed" in text(viewer.get("/breakers/?state=not_closed"))
        opened(service)
        assert "No breaker is closed" in text(viewer.get("/breakers/?state=closed"))

    def test_many_are_paged_and_odd_pages_are_the_nearest(self, viewer: Client) -> None:
        for number in range(103):
            make_service(f"s-{number:03}")
        first = text(viewer.get("/breakers/"))
        assert first.count('class="brk"') == 100
        assert "Page 1 of 2, 103 breakers" in first
        assert "/breakers/?page=2" in first
        for page in ("2", "99"):
            assert text(viewer.get("/breakers/", {"page": page})).count('class="brk"') == 3
        for page in ("0", "x", "²", "-1", "9" * 50):
            assert "Page 1 of 2" in text(viewer.get("/breakers/", {"page": page}))

    def test_the_navigation_counts_those_that_are_not_closed(self, viewer: Client, service: Service) -> None:
        assert "not closed</span></span>" not in text(viewer.get("/changes/"))
        opened(service)
        assert text(viewer.get("/changes/")).count('1<span class="vh"> not closed</span>') == 2

    def test_a_force_that_is_over_is_not_shown(self, viewer: Client, service: Service) -> None:
        past = timezone.now() - timedelta(minutes=1)
        opened(service, forced="CLOSED", forced_by="grace", forced_reason="x", forced_at=past, forced_until=past)
        page = text(viewer.get("/breakers/"))
        assert "Forced closed by grace" not in page
        assert "Next trial" in page or "The next call is the trial" in page

    def test_the_number_of_queries_does_not_grow(
        self, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        tell_breakers()
        with django_assert_max_num_queries(20):
            text(operator.get("/breakers/"))
        with django_assert_max_num_queries(15):
            text(operator.get("/breakers/", headers=LIST))
        with django_assert_max_num_queries(14):
            text(operator.get("/breakers/transitions/"))


class TestTransitions:
    def test_they_are_told_newest_first_and_by_service(self, viewer: Client) -> None:
        tell_breakers()
        page = text(viewer.get("/breakers/transitions/"))
        assert page.count("<tr><td") == 12
        assert "&lt;b&gt;only the health check&lt;/b&gt;" in page
        assert "our credential: 31 of 31 calls failed in 10 s" in page
        assert "force ended by itself" in page
        assert "calls of all processes" in page
        one = text(viewer.get("/breakers/transitions/?service=shopify"))
        assert one.count("<tr><td") == 1
        assert "forced: “shop moves to the new account”" in one

    def test_they_are_paged(self, viewer: Client, service: Service) -> None:
        now = timezone.now()
        BreakerTransition.objects.bulk_create(
            BreakerTransition(
                service=service, at=now + timedelta(seconds=n), generation=n, old="CLOSED", new="OPEN",
                trigger="threshold", reason=f"number {n}.",
            )
            for n in range(60)
        )  # fmt: skip
        first = text(viewer.get("/breakers/transitions/?service=stripe"))
        assert "number 59." in first
        assert "number 9." not in first
        oldest = BreakerTransition.objects.get(generation=10)
        assert f"?service=stripe&amp;before={oldest.id}" in first
        second = text(viewer.get(f"/breakers/transitions/?before={oldest.id}"))
        assert "number 9." in second
        assert "number 10." not in second
        assert "No older transitions" in text(viewer.get("/breakers/transitions/?before=1"))

    @pytest.mark.parametrize("cursor", ["x", "-1", "²", "9" * 30])
    def test_a_bad_cursor_leads_to_the_newest(self, viewer: Client, cursor: str) -> None:
        response = viewer.get("/breakers/transitions/", {"before": cursor})
        assert (response.status_code, response["Location"]) == (302, "/breakers/transitions/")

    def test_none_yet(self, viewer: Client, service: Service) -> None:
        assert "No breaker has changed" in text(viewer.get("/breakers/transitions/"))
        assert "has not changed its state yet" in text(viewer.get("/breakers/transitions/?service=stripe"))


class TestAsking:
    def test_htmx_gets_the_panel_alone_with_the_effect_in_numbers(self, operator: Client, service: Service) -> None:
        flow(service, 10, 2)
        panel = text(operator.get(url("force-open"), headers=HTMX))
        assert "<html" not in panel
        assert "Force Stripe &lt;b&gt; open?" in panel
        assert "calls a second will be refused" in panel

    @pytest.mark.parametrize(
        ("action", "words"),
        [
            ("force-open", "no trial is made"),
            ("force-closed", "It opened because it failed; 7 calls were refused in the last 24 h."),
            ("reset", "That it opened 3 times in a row is forgotten"),
            ("release", "Calls to Stripe &lt;b&gt; are refused until a trial succeeds."),
        ],
    )
    def test_an_open_one_says_what_changes(self, operator: Client, service: Service, action: str, words: str) -> None:
        opened(service, openings=3)
        flow(service, 0, 0, rejected=7)
        assert words in text(operator.get(url(action)))

    @pytest.mark.parametrize(
        ("action", "words"),
        [
            ("force-open", "No call ended in the last 10 s."),
            ("force-closed", "It will not open while this holds."),
            ("reset", "it opens again when 50% of at least 20 calls in 10 s fail"),
            ("release", "The state underneath counts again: CLOSED."),
        ],
    )
    def test_a_closed_one_says_what_changes(
        self, operator: Client, service: Service, action: str, words: str
    ) -> None:
        assert words in text(operator.get(url(action)))

    def test_without_javascript_it_is_a_page(self, operator: Client, service: Service) -> None:
        page = text(operator.get(url("force-open")))
        assert "<html" in page
        assert 'href="/breakers/"' in page
        assert 'href="/services/stripe/"' in text(operator.get(url("force-open") + "?at=service"))


class TestActing:
    def test_forcing_open_returns_the_row_and_a_toast(self, operator: Client, service: Service) -> None:
        said = text(operator.post(url("force-open"), FORCE, headers=HTMX))
        assert "<html" not in said
        assert "OPEN · forced" in said
        assert "is forced open for 10 min" in said
        assert 'hx-swap-oob="beforeend:#toasts"' in said
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.target, entry.reason) == ("breaker.force", "breaker:stripe", "pool doubled")
        assert entry.actor_name == "operator"

    def test_without_javascript_it_redirects_with_a_message(self, operator: Client, service: Service) -> None:
        response = operator.post(url("force-closed"), FORCE | {"expires": "never"}, follow=True)
        assert response.redirect_chain == [("/breakers/", 302)]
        assert "is forced closed until somebody ends that." in text(response)
        assert Breaker.objects.get().forced_until is None
        back = operator.post(url("release"), {"at": "service"})
        assert (back.status_code, back["Location"]) == (302, "/services/stripe/")
        assert Breaker.objects.get().forced == ""

    def test_from_the_services_page_the_card_comes_back(self, operator: Client, service: Service) -> None:
        said = text(operator.post(url("force-open"), FORCE | {"at": "service"}, headers=HTMX))
        assert f'class="ws-card brk-card" id="brk-{service.id}"' in said
        assert "OPEN · forced" in said
        assert "<html" not in said

    def test_a_reset_needs_no_reason(self, operator: Client, service: Service) -> None:
        opened(service)
        assert "was reset" in text(operator.post(url("reset"), headers=HTMX))
        assert Breaker.objects.get().state == "CLOSED"
        assert AuditEntry.objects.get().action == "breaker.reset"

    def test_ending_what_does_not_hold_any_more_says_so(self, operator: Client, service: Service) -> None:
        assert "Nothing was forced" in text(operator.post(url("release"), headers=HTMX))
        assert not AuditEntry.objects.exists()

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"reason": " ", "expires": "600"}, "Say why: others will read it."),
            ({"reason": "x" * 501, "expires": "600"}, "at most 500 characters"),
            ({"reason": "x"}, "Choose when it ends."),
            ({"reason": "x", "expires": "7"}, "Choose when it ends."),
            ({}, "Say why: others will read it."),
        ],
    )
    @pytest.mark.parametrize("htmx", [True, False])
    def test_bad_values_are_explained_and_change_nothing(
        self, operator: Client, service: Service, data: dict[str, str], words: str, htmx: bool
    ) -> None:
        response = operator.post(url("force-open"), data, headers=HTMX if htmx else {})
        page = text(response, 422)
        assert words in page
        assert ("<html" in page) is not htmx
        assert response.headers.get("HX-Retarget") == (f"#brk-{service.id}-panel" if htmx else None)
        assert not Breaker.objects.exists()
        assert not AuditEntry.objects.exists()

    def test_a_long_reason_of_a_reset_is_refused(self, operator: Client, service: Service) -> None:
        assert "at most 500" in text(operator.post(url("reset"), {"reason": "x" * 501}, headers=HTMX), 422)


class TestTheServicesPage:
    def test_its_card_says_what_its_row_says(self, operator: Client, service: Service) -> None:
        make_check(service, "connectivity")
        opened(service, cause="credential")
        BreakerTransition.objects.create(
            service=service, at=timezone.now(), generation=1, old="CLOSED", new="OPEN", trigger="threshold",
            reason="31 of 31 calls failed", cause="credential",
        )  # fmt: skip
        for name in ("service", "service-live"):
            page = text(operator.get(reverse(name, args=["stripe"])))
            assert "Its checks wait for the breaker’s next trial." in page
            assert "Our credential, not an outage:" in page
            assert "our credential: 31 of 31 calls failed" in page
            assert "?at=service" in page

    def test_a_closed_one_offers_both_forces(self, operator: Client, service: Service) -> None:
        page = text(operator.get("/services/stripe/"))
        assert "Force open…" in page
        assert "Force closed…" in page
        assert "It has not changed its state yet." in page


class TestGlances:
    def test_it_takes_one_query_and_names_those_that_are_not_closed(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        services = tell_breakers()
        with django_assert_num_queries(1):
            seen = glance.of([service.id for service in services.values()])
        by_slug = {slug: seen[service.id] for slug, service in services.items() if service.id in seen}
        assert set(by_slug) == {"booking-app", "whatsapp", "github", "sendgrid", "shopify"}
        assert by_slug["shopify"].forced
        assert by_slug["shopify"].due_at is None
        assert by_slug["whatsapp"].cause is Cause.CREDENTIAL
        assert (by_slug["sendgrid"].mode, by_slug["sendgrid"].trials) == (Mode.HALF_OPEN, 1)

    def test_the_overview_and_the_wall_show_them(self, viewer: Client) -> None:
        tell_breakers()
        for path in ("/", "/wall/"):
            page = text(viewer.get(path))
            assert '<span class="d">trial <time' in page
            assert '<span class="d">trial running</span>' in page
            assert '<span class="d">our credential</span>' in page

    def test_a_half_open_one_may_wait_for_its_trial(self, viewer: Client) -> None:
        tell_breakers()
        Breaker.objects.filter(state="HALF_OPEN").update(trials=[])
        assert "waits for a trial" in text(viewer.get("/"))
        assert "The next call is the trial." in text(viewer.get("/breakers/"))


class TestPictures:
    def test_bars_tell_their_tenth_of_the_window(self, service: Service) -> None:
        flow(service, 10, 2)
        view = reads.view("stripe")
        assert view is not None
        drawn = window_bars(view)
        assert drawn.count("<title>") == 10
        assert "1 to 0 s ago" in drawn
        assert 'class="fb"' in drawn

    def test_the_hour_has_gaps_and_says_its_peak(self, service: Service) -> None:
        view = reads.view("stripe")
        assert view is not None
        assert "no calls" in failure_trend(view)
        trend: list[float | None] = [None] * 60
        trend[3], trend[10], trend[11] = 0.005, 0.2, 0.999
        drawn = failure_trend(replace(view, trend=trend))
        assert drawn.count("<polyline") == 2
        assert "no calls in this minute, highest 99%" in drawn
        assert "threshold, 50%" in drawn

    @pytest.mark.parametrize(
        ("rate", "words"), [(None, "–"), (0.0, "0%"), (0.001, "<1%"), (0.29, "29%"), (0.9999, "99%"), (1.0, "100%")]
    )
    def test_shares_are_never_rounded_to_nothing_or_all(self, rate: float | None, words: str) -> None:
        assert share(rate) == words

    @pytest.mark.parametrize(
        ("seconds", "words"), [(0, "0"), (11.2, "12"), (118.1, "119"), (120, "2m"), (179, "2m"), (7200, "2h")]
    )
    def test_a_rings_text_fits(self, seconds: float, words: str) -> None:
        assert ring_text(seconds) == words

    def test_a_row_without_a_breaker_row_never_opened(self, viewer: Client, service: Service) -> None:
        view = reads.view("stripe")
        assert view is not None
        assert Row(view).group == "closed"
        assert "never opened" in text(viewer.get("/breakers/"))
