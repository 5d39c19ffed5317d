"""The service page in a real browser: reading it, acting on it, and watching it change."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urljoin

import pytest
from django.utils import timezone
from playwright.sync_api import Page, Route, expect

from monitoring import actions, store
from monitoring.models import Check, MaintenanceWindow, Service, StateChange
from tests.browser.axe import ENDS, everywhere, violations
from tests.browser.conftest import OpenPage, drawn
from tests.browser.past import slow_since
from tests.browser.story import tell
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.audit import Actor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

TWILIO = "/services/twilio/"


@pytest.fixture
def twilio() -> Service:
    """Slow for 41 minutes, with a past to look at."""
    service = tell()["twilio"]
    for check in service.checks.all():
        slow_since(check, minutes=0 if check.name == "connectivity" else 41)
    check = service.checks.get(name="functionality")
    StateChange.objects.create(
        at=timezone.now() - timedelta(minutes=41), service=service, check_ref=check, old="healthy", new="degraded"
    )
    return service


def picture(page: Page) -> str:
    """The chart as drawn; playwright's screenshots add a style, which the policy rightly refuses."""
    return str(page.evaluate("document.querySelector('#chart-plot canvas').toDataURL()"))


# looking at it -------------------------------------------------------------------------------------


def test_axe_finds_nothing(open_page: OpenPage, twilio: Service) -> None:
    make_check(make_service("nightly", "heartbeat", name="Nightly backup"), "heartbeat", name="backup")
    make_service("bare", "http")
    MaintenanceWindow.objects.create(
        service=twilio, starts_at=timezone.now(), ends_at=timezone.now() + timedelta(hours=1), reason="number port"
    )
    page = open_page(TWILIO)
    paths = [TWILIO, TWILIO + "?show=changes", TWILIO + "?category=DNS_ERROR", *(
        f"/services/{slug}/" for slug in ("slack", "shopify", "nightly", "bare", "booking-app")
    )]  # fmt: skip
    for path in paths:
        page.goto(urljoin(page.url, path))
        expect(page.locator("#live .w")).to_have_text("Live")
        assert everywhere(page, ENDS) == [], path


def test_axe_finds_nothing_in_open_panels(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    for width in ENDS:
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        drawn(page)
        for panel in ("Pause checks…", "Start maintenance…"):
            page.get_by_text(panel).click()
            assert violations(page) == [], (width, panel)
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), (width, panel)
            page.keyboard.press("Escape")
            expect(page.get_by_text(panel)).to_be_focused()
        page.get_by_text("Numbers as a table").click()
        assert violations(page) == [], width


def test_the_chart_is_drawn_zoomed_and_read_by_keyboard(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    drawn(page)
    plot, said = page.locator("#chart-plot"), page.locator("#chart-readout")
    plot.focus()
    page.keyboard.press("End")
    expect(said).to_contain_text(re.compile(r"p50 2,\d{3} ms, p95 .* probes"))
    newest = said.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(said).not_to_have_text(newest)
    box = page.locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_timeout(100)
    zoomed = picture(page)
    plot.focus()
    page.keyboard.press("Escape")
    page.wait_for_timeout(100)
    assert picture(page) != zoomed


def test_the_chart_follows_the_theme(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    drawn(page)
    light = picture(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert picture(page) != light


def test_a_period_changes_table_chart_and_address(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO + "?show=unhealthy")
    drawn(page)
    page.locator("#period-7d").click()
    expect(page.locator("#svc-checks-table")).to_contain_text("p95, 7 d")
    drawn(page)
    expect(page.locator("#period-7d")).to_be_focused()
    expect(page.locator("#show-unhealthy")).to_have_attribute("aria-current", "true")
    assert page.url.endswith("?period=7d&show=unhealthy")
    page.go_back()
    expect(page.locator("#svc-checks-table")).to_contain_text("p95, 24 h")


def test_a_period_chosen_during_a_refresh_stays(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    drawn(page)
    held: list[Route] = []
    page.route(re.compile(r"/live/$"), lambda route: held.append(route))  # noqa: PLW0108  no builtin
    with page.expect_request(re.compile(r"/live/$")):
        page.evaluate("document.body.dispatchEvent(new Event('resync'))")
    page.locator("#period-7d").click()
    expect(page.locator("#svc-checks-table")).to_contain_text("p95, 7 d")
    page.evaluate("""() => {
        window.seen = [];
        const look = () => window.seen.push(document.querySelector("#svc-checks-table").textContent);
        new MutationObserver(look).observe(document.querySelector("#main"), {childList: true, subtree: true});
    }""")
    with page.expect_response(re.compile(r"/live/.*period=7d")):  # it asks again
        held[0].continue_()
    expect(page.locator("#svc-checks-table")).to_contain_text("p95, 7 d")
    drawn(page)
    page.wait_for_timeout(300)
    assert [text for text in page.evaluate("window.seen") if "p95, 7 d" not in text] == []


def test_one_check_can_be_charted_alone(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    drawn(page)
    page.get_by_label("Checks in the chart").select_option("connectivity")
    expect(page.locator("[data-last=p50]")).to_have_text(re.compile(r"^[23]\d\d\s?ms$"))
    assert page.url.endswith("?chart=connectivity")
    drawn(page)


def test_the_log_filters_and_pages_in_place(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    page.locator("#show-unhealthy").click()
    expect(page.locator("#show-unhealthy")).to_have_attribute("aria-current", "true")
    page.get_by_label("Category", exact=True).select_option("TIMEOUT_ERROR")
    expect(page.locator("#svc-log tbody tr")).to_have_count(3)
    assert page.url.endswith("?show=unhealthy&category=TIMEOUT_ERROR")
    page.get_by_label("Category", exact=True).select_option("")
    expect(page.locator("#svc-log tbody tr")).to_have_count(25)
    first = page.locator("#svc-log tbody time").first
    newest = first.inner_text()
    page.get_by_role("link", name="Older results").click()
    expect(first).not_to_have_text(newest)
    expect(page).to_have_url(re.compile("before="))
    page.get_by_role("link", name="Newest results").click()
    expect(first).to_have_text(newest)
    page.reload()
    expect(page.locator("#show-unhealthy")).to_have_attribute("aria-current", "true")


def test_a_refresh_does_not_take_a_link_away_that_waits_for_its_answer(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    refreshes: list[Route] = []
    older: list[Route] = []
    page.route(re.compile(r"refresh=1"), lambda route: refreshes.append(route))  # noqa: PLW0108  no builtin
    page.route(re.compile(r"/results/.*before="), lambda route: older.append(route))  # noqa: PLW0108  no builtin
    with page.expect_request(re.compile(r"refresh=1")):
        page.evaluate("document.body.dispatchEvent(new Event('resync'))")
    with page.expect_request(re.compile(r"/results/.*before=")):
        page.get_by_role("link", name="Older results").click()
    with page.expect_event("requestfinished", lambda request: "refresh=1" in request.url):
        refreshes[0].continue_()
    page.wait_for_timeout(300)  # it would be in the page by now
    older[0].continue_()
    expect(page).to_have_url(re.compile("before="))
    expect(page.locator("#svc-results .meta")).to_have_text("older ones")


# watching it ---------------------------------------------------------------------------------------


def test_what_somebody_else_does_shows_without_a_reload(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    expect(page.locator("#live .w")).to_have_text("Live")
    actions.pause(list(twilio.checks.all()), Actor.system("grace"), "number port")
    expect(page.locator("#svc-head")).to_contain_text("Nothing is probed: paused by grace")
    expect(page.get_by_role("button", name="Resume 3 checks")).to_be_visible()
    expect(page.locator("#svc-timeline")).to_contain_text("paused")


def test_a_new_result_appears_by_itself(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    expect(page.locator("#live .w")).to_have_text("Live")
    check = twilio.checks.get(name="functionality")
    store.settle([finished(check, outcome("degraded", 2345.0, message="a quite new answer"))])
    expect(page.locator("#svc-log tbody tr").first).to_contain_text("a quite new answer", timeout=10_000)
    expect(page.locator("#svc-checks-table")).to_contain_text("2,345")


def test_a_change_takes_no_open_panel_away(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    expect(page.locator("#live .w")).to_have_text("Live")
    page.get_by_text("Pause checks…").click()
    expect(page.locator("#id_pause-reason")).to_be_focused()
    page.keyboard.type("half a rea")
    actions.pause([twilio.checks.get(name="connectivity")], Actor.system("grace"), "number port")
    expect(page.locator("#svc-head")).to_contain_text("1 of 3 checks paused")
    page.keyboard.type("son")
    expect(page.locator("#id_pause-reason")).to_have_value("half a reason")


# acting on it --------------------------------------------------------------------------------------


class Slow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.7)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def slow_site(loopback_targets: None) -> Iterator[Check]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    Thread(target=server.serve_forever, daemon=True).start()
    options = {"url": f"http://127.0.0.1:{server.server_port}/"}
    yield make_check(make_service("shop", "http", name="Shop"), name="home", options=options)
    server.shutdown()
    server.server_close()


def test_a_test_says_that_it_runs_and_then_what_it_found(open_page: OpenPage, slow_site: Check) -> None:
    page = open_page("/services/shop/")
    button = page.locator("#tests button")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_text(re.compile("Testing…"))
    expect(button).to_be_disabled()
    expect(page.locator("#test-result")).to_contain_text("home: healthy")
    expect(page.locator("#test-result")).to_have_attribute("role", "status")
    expect(button).to_be_focused()
    page.get_by_label("Give up after, ms").fill("1000")
    button.click()
    expect(page.locator("#test-result")).to_contain_text("HTTP 200")
    assert violations(page) == []


def test_pausing_and_resuming_in_place(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    page.get_by_text("Pause checks…").click()
    expect(page.locator("#id_pause-reason")).to_be_focused()
    page.keyboard.type("   ")
    page.get_by_role("button", name="Pause checks", exact=True).click()
    expect(page.locator("#pause")).to_contain_text("Say why: others will read it.")
    expect(page.locator("#id_pause-reason")).to_be_focused()
    page.locator("#id_pause-reason").fill("number port")
    page.get_by_label("For", exact=True).select_option("60")
    page.get_by_role("button", name="Pause checks", exact=True).click()
    expect(page.locator("#svc-head")).to_contain_text("paused by operator until")
    expect(page.locator("#toasts")).to_contain_text("Paused 3 checks of Twilio")
    page.get_by_role("button", name="Resume 3 checks").click()
    expect(page.get_by_text("Pause checks…")).to_be_visible()
    expect(page.locator("#svc-head")).to_contain_text("No data yet")


def test_maintenance_is_planned_and_cancelled_in_place(open_page: OpenPage, twilio: Service) -> None:
    page = open_page(TWILIO)
    page.get_by_text("Start maintenance…").click()
    expect(page.locator("#id_maintenance-reason")).to_be_focused()
    page.keyboard.type("number port")
    page.get_by_label("Repeats").select_option("weekly")
    page.get_by_role("button", name="Start maintenance", exact=True).click()
    expect(page.locator("#svc-head")).to_contain_text("in maintenance: number port")
    expect(page.locator("#svc-windows")).to_contain_text("every week")
    page.get_by_role("button", name="Cancel maintenance: number port").click()
    expect(page.locator("#svc-windows")).to_be_hidden()


def test_everything_works_without_javascript(open_page: OpenPage, twilio: Service, slow_site: Check) -> None:
    page = open_page(TWILIO, java_script_enabled=False)
    expect(page.locator("#chart")).to_contain_text("its numbers are in the table below")
    page.get_by_text("Numbers as a table").click()
    expect(page.locator("#chart-numbers tbody tr").first).to_be_visible()
    page.locator("#show-unhealthy").click()
    expect(page.locator("#svc-log tbody tr").first).to_contain_text("Degraded")
    page.get_by_text("Pause checks…").click()
    page.locator("#id_pause-reason").fill("number port")
    page.get_by_role("button", name="Pause checks", exact=True).click()
    expect(page.locator("#svc-head")).to_contain_text("paused by operator")
    page.goto(urljoin(page.url, "/services/shop/"))
    page.locator("#tests button").click()
    expect(page.locator("#test-result")).to_contain_text("home: healthy")
