"""The overview, the wall and the changes in a real browser."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Page, expect

from monitoring.models import Check
from tests.browser.axe import ENDS, everywhere, violations
from tests.browser.conftest import OpenPage
from tests.browser.story import STORY, Told, tell

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PATHS = ["/", "/?density=cards", "/?density=dense", "/?q=nothing-like-it", "/wall/", "/changes/"]


def names(page: Page) -> list[str]:
    """The services on the page, in order."""
    return page.locator("#list .svc .nm a").all_inner_texts()


def test_axe_finds_nothing(open_page: OpenPage) -> None:
    tell()
    page = open_page("/")
    for path in PATHS:
        page.goto(urljoin(page.url, path))
        expect(page.locator("#live .w")).to_have_text("Live")
        assert everywhere(page, ENDS) == [], path


def test_axe_finds_nothing_on_the_empty_page_with_its_menus_open(open_page: OpenPage) -> None:
    page = open_page("/")
    for width in ENDS:
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        expect(page.get_by_role("heading", name="Nothing is watched yet")).to_be_visible()
        assert violations(page) == [], width
        page.locator("#account-menu > summary").click()
        assert violations(page) == [], width
        page.keyboard.press("Escape")
        expect(page.locator("#account-menu .ws-pop")).to_be_hidden()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        assert violations(page) == [], width


def test_the_most_urgent_service_comes_first_and_says_what_and_since_when(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    assert names(page)[:3] == ["booking-app", "WhatsApp", "Twilio"]
    first = page.locator("#list .svc").first
    expect(first).to_contain_text("Critical 14 min, since")
    expect(first).to_contain_text("could not obtain connection from pool")
    expect(first).to_contain_text("Nothing to do here but wait or fall back")
    expect(page.locator("#list")).to_contain_text("SLACK_BOT_TOKEN")
    expect(page.locator("#overall")).to_contain_text("Degraded 5/8")


def test_a_filter_changes_list_and_address_and_the_way_back_works(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    page.get_by_role("link", name=re.compile("Not healthy")).click()
    expect(page.locator("#list .svc")).to_have_count(3)
    assert page.url.endswith("/?state=unhealthy")
    expect(page.locator("#state-unhealthy")).to_have_attribute("aria-current", "true")
    expect(page.locator("#state-unhealthy")).to_be_focused()
    page.locator("#period-7d").click()
    expect(page.locator("#list")).to_have_attribute("data-period", "7d")
    assert page.url.endswith("/?state=unhealthy&period=7d")
    page.go_back()
    expect(page.locator("#list")).to_have_attribute("data-period", "24h")
    page.go_back()
    expect(page.locator("#list .svc")).to_have_count(len(STORY))


def test_typing_filters_and_keeps_what_is_typed(open_page: OpenPage) -> None:
    tell()
    page = open_page("/?period=7d")
    page.keyboard.press("/")
    page.keyboard.type("supa", delay=40)
    expect(page.locator("#list .svc")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=supa(&|$)"))  # "su" finds only this one already
    assert "period=7d" in page.url
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#q")).to_have_value("supa")
    page.keyboard.type("xx")
    expect(page.get_by_role("heading", name="No service matches “supaxx”")).to_be_visible()
    page.get_by_role("link", name="Show all services").click()
    expect(page.locator("#list .svc")).to_have_count(len(STORY))


def test_everything_works_without_javascript(open_page: OpenPage) -> None:
    tell()
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name=re.compile("Paused")).click()
    assert names(page) == ["Shopify"]
    page.fill("#q", "stripe")
    page.press("#q", "Enter")
    expect(page.get_by_role("heading", name="No service matches “stripe” here")).to_be_visible()
    page.get_by_role("link", name="Dense").click()
    assert "density=dense" in page.url
    page.goto(page.url.partition("?")[0])
    page.get_by_role("link", name="All changes").click()
    expect(page.get_by_role("heading", name="Changes")).to_be_visible()
    expect(page.locator(".needs-js:visible")).to_have_count(0)


def test_many_services_are_paged(open_page: OpenPage) -> None:
    tell([Told(f"service-{n:03}", "", "normal", "healthy", {"http": "healthy"}) for n in range(120)])
    page = open_page()
    expect(page.locator("#list .svc")).to_have_count(50)
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#list .svc").first).to_contain_text("service-050")
    assert page.url.endswith("?page=2")
    page.get_by_role("link", name="Dense").click()
    expect(page.locator("#list .svc")).to_have_count(100)


def test_keys_move_open_and_change_density(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".is-cursor .nm a")).to_have_text("WhatsApp")
    page.keyboard.press(".")
    expect(page.locator("#list")).to_have_attribute("data-density", "cards")
    page.keyboard.press("w")
    page.wait_for_url("**/wall/")
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(r"/$"))
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/changes/")


def test_enter_opens_the_marked_service(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/services/booking-app/")


def test_keys_can_be_switched_off_and_are_off_in_fields(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    page.click("#q")
    page.keyboard.type("jw")
    expect(page.locator("#q")).to_have_value("jw")
    expect(page.locator(".is-cursor")).to_have_count(0)
    page.keyboard.press("Escape")
    page.click("#account-menu > summary")
    page.uncheck("#keys-on")
    page.reload()
    page.keyboard.press("w")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    assert "/wall/" not in page.url


def test_the_theme_is_chosen_and_kept(open_page: OpenPage) -> None:
    page = open_page("/", dark=False)
    page.click("#account-menu > summary")
    page.locator("label[for=theme-dark]").click()
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(12, 14, 18)"
    page.click("#account-menu > summary")
    page.locator("label[for=theme-system]").click()
    assert page.evaluate("document.documentElement.dataset.bsTheme") is None


def test_on_a_phone_the_menu_and_all_targets_can_be_touched(open_page: OpenPage) -> None:
    tell()
    page = open_page("/", width=390)
    page.get_by_text("More", exact=True).click()
    expect(page.locator("#account-menu .ws-pop")).to_be_in_viewport()
    small = page.evaluate(
        """[...document.querySelectorAll('a, button, summary, input, select')].filter(e => {
            const b = e.getBoundingClientRect();
            const small = b.height < 24 || b.width < 20;
            return b.width && e.offsetParent && small && !e.closest('p, label, .vh, .skip, .words, .n');
        }).map(e => e.outerHTML.slice(0, 90))"""
    )
    assert small == []


def test_a_check_is_tested_from_its_row(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    page.get_by_role("button", name="Test health now").click()
    result = page.locator(".svc", has_text="booking-app").locator(".test")
    expect(result).to_contain_text("health: error (ours)")  # loopback is refused unless allowed
    expect(result).to_contain_text("CONFIGURATION_ERROR")


def test_a_test_that_cannot_be_made_says_so_in_its_row(open_page: OpenPage) -> None:
    tell()
    page = open_page()
    result = page.locator(".svc", has_text="Twilio").locator(".test")
    page.get_by_role("button", name="Test functionality now").click()
    expect(result).to_contain_text("TWILIO_ACCOUNT_SID")
    Check.objects.update(kind="no-such-kind")
    page.get_by_role("button", name="Test functionality now").click()
    expect(result).to_contain_text("has no no-such-kind test")


def test_the_header_has_room_for_every_count(open_page: OpenPage) -> None:
    tell()
    page = open_page("/")
    expect(page.locator("#live .w")).to_have_text("Live")
    fill = """() => document.querySelectorAll('.ws-nav .ws-counted')
        .forEach((box) => { box.innerHTML = '<span class="ws-count">999+</span>'; })"""
    for width in (1920, 1440, 1300, 1181, 1180, 1081, 1000, 961, 800, 700):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(fill)
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), width
