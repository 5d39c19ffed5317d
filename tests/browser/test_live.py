"""Open pages change by themselves, say when they cannot, and recover."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from playwright.sync_api import Page, expect

from monitoring import overview
from monitoring.models import CheckState, Process, Service
from tests.browser.conftest import OpenPage, viewer, wait_live
from tests.browser.site import Site
from tests.browser.story import STORY, tell
from wsmon import hub, live

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def change(slug: str, status: str, reason: str = "") -> Service:
    """Change a service's status as the cycle does: rows and notification in one transaction."""
    with transaction.atomic():
        service = Service.objects.get(slug=slug)
        service.status, service.status_since, service.reason = status, timezone.now(), reason
        service.save()
        CheckState.objects.filter(check_ref__service=service).update(status=status, message=reason)
        live.publish("state", {"services": [service.id]})
    return service


def order(page: Page) -> list[str]:
    """The services on the page, in order."""
    return page.locator("#list .svc .nm a").all_inner_texts()


def test_a_state_change_appears_moves_the_row_and_updates_the_header(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    wait_live(page)
    change("github", "critical", "refused")
    row = page.locator(".svc", has_text="GitHub")
    expect(row).to_have_attribute("data-s", "critical")
    expect(row).to_contain_text("refused")
    expect(page.locator("[data-group=attention] .svc", has_text="GitHub")).to_be_visible(timeout=7000)
    assert order(page).index("GitHub") == 1  # after booking-app, which is more critical
    expect(page.locator("#overall")).to_contain_text("4/8")
    expect(page.locator("#state-unhealthy")).to_contain_text("4")
    expect(page.locator("#answers")).to_contain_text("2 critical")
    change("github", "healthy")
    expect(row).to_have_attribute("data-s", "healthy")
    expect(page.locator("[data-group=working] .svc", has_text="GitHub")).to_be_visible(timeout=7000)


def test_rows_do_not_move_under_the_pointer(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    wait_live(page)
    page.locator(".svc", has_text="Stripe").hover()
    before = order(page)
    change("github", "critical", "refused")
    expect(page.locator(".svc", has_text="GitHub")).to_have_attribute("data-s", "critical")
    page.wait_for_timeout(6000)
    assert order(page) == before
    page.locator(".ws-foot").hover()
    expect(page.locator("[data-group=attention] .svc", has_text="GitHub")).to_be_visible()


def test_the_focus_stays_on_its_control_when_the_row_is_replaced(open_page: OpenPage) -> None:
    services = tell()
    page = open_page()
    wait_live(page)
    button = f"svc-{services['twilio'].id}-o"
    page.focus(f"#{button}")
    change("twilio", "degraded", "slower still")
    expect(page.locator(".svc", has_text="Twilio")).to_contain_text("slower still")
    assert page.evaluate("document.activeElement.id") == button


def test_another_period_keeps_its_own_uptime_when_a_row_changes(open_page: OpenPage) -> None:
    tell()
    page = open_page("/?period=90d")
    wait_live(page)
    change("github", "degraded", "connectivity: slow")
    row = page.locator(".svc", has_text="GitHub")
    expect(row).to_have_attribute("data-s", "degraded")
    expect(row.locator(".ws-up")).to_have_attribute("aria-label", re.compile("^Last 90 days"))


def test_an_ordinary_result_changes_number_age_and_sparkline_in_place(open_page: OpenPage) -> None:
    services = tell()
    page = open_page()
    wait_live(page)
    row = page.locator(f"#svc-{services['stripe'].id}")
    points = row.locator(".ln").get_attribute("points")
    stripe = overview.view("stripe")
    assert stripe is not None
    assert stripe.main is not None
    now = timezone.now().timestamp()
    ticks = {str(check.id): [stripe.id, 9999.0, now, "healthy"] for check in stripe.checks}
    ticks[str(stripe.main.id)] = [stripe.id, 1234.4, now, "healthy"]  # the row shows this check's numbers only
    live.publish("tick", {"checks": ticks})
    expect(row.locator(".lat")).to_contain_text("1,234")
    expect(row.locator(".last")).to_contain_text(re.compile(r"now|[123] s ago"))
    assert row.locator(".ln").get_attribute("points") != points
    expect(row.locator(".ws-spark")).to_have_attribute("aria-label", re.compile("now 1,234 ms"))


def test_a_first_result_fills_the_dashes(open_page: OpenPage) -> None:
    services = tell()
    page = open_page()
    wait_live(page)
    row = page.locator(f"#svc-{services['resend-batch'].id}")
    expect(row.locator(".ln")).to_have_count(0)
    for ms in (40.2, 0.54):
        check = services["resend-batch"].checks.get()
        tick = [check.service_id, ms, timezone.now().timestamp(), "healthy"]
        live.publish("tick", {"checks": {str(check.id): tick}})
        expect(row.locator(".lat")).to_have_text("40ms" if ms > 1 else "0.5ms")
    expect(row.locator(".last time")).to_have_count(1)
    expect(row.locator(".ws-spark")).to_have_attribute("aria-label", "last 2 response times, now 1 ms")
    assert len(str(row.locator(".ln").get_attribute("points")).split()) == 2


def test_a_filtered_list_fetches_what_now_belongs_to_it(open_page: OpenPage) -> None:
    tell()
    page = open_page("/?state=unhealthy")
    wait_live(page)
    expect(page.locator(".svc")).to_have_count(3)
    change("github", "critical", "refused")
    expect(page.locator(".svc")).to_have_count(4, timeout=8000)


def test_the_wall_changes_by_itself(open_page: OpenPage) -> None:
    tell()
    page = open_page("/wall/")
    wait_live(page)
    change("github", "critical", "refused")
    expect(page.locator(".wt", has_text="GitHub")).to_have_attribute("data-s", "critical")
    expect(page.locator(".wall-head")).to_contain_text("4 need attention")
    expect(page.locator("#live .w")).to_have_text("Live")


def test_a_lost_connection_shows_itself_and_recovers(site: Site, open_page: OpenPage) -> None:
    tell()
    page = open_page(alone=True)  # its whole context gets another clock
    wait_live(page)
    page.clock.install()  # from here on the page's clock can be moved
    site.stop()
    expect(page.locator("#live")).to_have_attribute("data-s", "reconnecting", timeout=10_000)
    expect(page.locator("#live .w")).to_have_text("Reconnecting…")
    change("github", "critical", "missed while away")
    page.clock.fast_forward(130_000)
    expect(page.locator("#live")).to_have_attribute("data-s", "stale")
    expect(page.locator("#live .w")).to_have_text("Stale 2 min")
    site.start()
    expect(page.locator("#live")).to_have_attribute("data-s", "live", timeout=20_000)
    expect(page.locator("[data-group=attention]")).to_contain_text("missed while away")
    expect(page.locator("#overall")).to_contain_text("4/8")


def test_a_tab_in_the_background_gives_its_connection_back(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    wait_live(page)
    hide = "Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true});"
    tell_page = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true" + tell_page)
    expect(page.locator("#live")).not_to_have_attribute("data-s", "live", timeout=10_000)
    change("github", "critical", "missed while hidden")
    page.evaluate(hide % "false" + tell_page)
    expect(page.locator("#live")).to_have_attribute("data-s", "live")
    expect(page.locator("[data-group=attention]")).to_contain_text("missed while hidden")


def test_without_a_worker_a_banner_says_so_and_goes_again(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "REGULAR_EVERY", 1.2)
    tell()
    page = open_page()
    expect(page.locator("#banner [role=alert]")).to_have_count(0)
    Process.objects.update(seen_at=timezone.now() - timedelta(minutes=1))
    expect(page.locator("#banner [role=alert]")).to_contain_text("No worker runs")
    expect(page.locator("#self")).to_contain_text("Has a problem")
    Process.objects.update(seen_at=timezone.now() + timedelta(minutes=1))
    expect(page.locator("#banner [role=alert]")).to_have_count(0)


def test_signing_out_elsewhere_ends_the_stream(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PING_EVERY", 0.3)
    monkeypatch.setattr(hub, "RECHECK_EVERY", 1.0)
    tell()
    page = open_page()
    wait_live(page)
    Session.objects.all().delete()
    expect(page.locator("#live .w")).to_have_text("Signed out")


def test_one_page_too_many_keeps_trying_and_gets_its_turn(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_PER_USER", 1)
    monkeypatch.setattr(live, "TOO_MANY_WAIT", 1.0)
    tell()
    first = open_page()
    wait_live(first)
    second = open_page()
    expect(second.locator("#live")).to_have_attribute("title", re.compile("too many pages of wsmon open"))
    expect(second.locator("#live .w")).to_have_text("Reconnecting…")
    first.close()
    expect(second.locator("#live .w")).to_have_text("Live", timeout=15_000)


@pytest.mark.parametrize("path", ["/account/", "/api/docs"])
def test_staff_who_may_see_no_service_see_no_state_and_no_live_indicator(open_page: OpenPage, path: str) -> None:
    tell()
    page = open_page(path, user=User.objects.create_user("new", password="only-for-tests-1", is_staff=True))
    expect(page.locator("#account-menu")).to_be_visible()
    expect(page.locator("#live, #overall, #banner")).to_have_count(0)
    assert page.evaluate("window.wsmon.live === undefined")


def test_a_viewer_sees_no_buttons_for_what_only_operators_may_do(open_page: OpenPage) -> None:
    tell()
    page = open_page("/", user=viewer())
    expect(page.locator("#list .svc")).to_have_count(len(STORY))
    expect(page.locator(".may-operate:visible")).to_have_count(0)
    expect(page.locator("#live .w")).to_have_text("Live")


def test_many_changes_at_once_reach_the_page(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    wait_live(page)
    for status in ("critical", "degraded", "critical"):
        for slug in ("github", "stripe", "supabase-auth", "public-site"):
            change(slug, status, f"now {status}")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and page.locator("[data-group=attention] .svc").count() != 7:
        page.wait_for_timeout(100)
    assert page.locator("[data-group=attention] .svc").count() == 7
    assert page.locator("[data-group=attention] .svc[data-s=critical]").count() == 5
