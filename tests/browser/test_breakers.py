"""The breakers in a real browser: watching them, forcing, resetting, by mouse, by keyboard, without JavaScript."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urljoin

import pytest
from django.utils import timezone
from playwright.sync_api import Locator, Page, Route, expect

from monitoring.breakers import actions, store
from monitoring.breakers.machine import Mode
from monitoring.models import Breaker, BreakerSlot, RecoveryFactor, Service
from tests.browser.axe import everywhere
from tests.browser.breakerstory import tell_breakers
from tests.browser.conftest import OpenPage, viewer, wait_live
from tests.browser.story import tell
from wsmon.audit import Actor
from wsmon.models import AuditEntry

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

GRACE = Actor.system("grace")


@pytest.fixture
def services() -> dict[str, Service]:
    """The story's services and their breakers."""
    return tell_breakers()


def row(page: Page, service: Service) -> Locator:
    """A breaker's row."""
    return page.locator(f"#brk-{service.id}")


def ask(page: Page, action: str, service: Service) -> Locator:
    """Open a panel that asks."""
    page.locator(f"#brk-{service.id}-{action}").click()
    panel = page.locator(f"#brk-{service.id}-panel form")
    expect(panel).to_be_visible()
    expect(panel.get_by_label(re.compile("^Reason"))).to_be_focused()
    return panel


# looking at it -------------------------------------------------------------------------------------


def test_axe_finds_nothing_on_the_breakers_pages(open_page: OpenPage, services: dict[str, Service]) -> None:
    RecoveryFactor.objects.update_or_create(id=1, defaults={"factor": 0.5})
    page = open_page("/breakers/")
    expect(page.locator("#live .w")).to_have_text("Live")
    ask(page, "force-open", services["sendgrid"])
    ask(page, "release", services["shopify"])
    assert everywhere(page) == []
    for path in ("/breakers/transitions/", "/breakers/stripe/force-open/", "/breakers/?state=closed"):
        page.goto(urljoin(page.url, path))
        assert everywhere(page, (1440, 390)) == [], path


def test_axe_finds_nothing_where_a_breaker_is_shown(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/")
    assert everywhere(page) == []
    for slug in ("booking-app", "whatsapp", "sendgrid", "public-site"):
        page.goto(urljoin(page.url, f"/services/{slug}/"))
        assert everywhere(page, (1440, 390)) == [], slug
    page.goto(urljoin(page.url, "/services/stripe/"))
    ask(page, "force-open", services["stripe"])
    assert everywhere(page, (1440, 390)) == []


def test_nothing_in_a_row_is_cut_off_or_overlaps(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/")
    for width in (1920, 1440, 1300, 1100, 800, 390):
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate("""() => [...document.querySelectorAll('.brk')].flatMap((row) => {
            const boxes = [...row.children].map((part) => [part.className, part.getBoundingClientRect(), part]);
            const shown = boxes.filter(([, box]) => box.width && box.height);
            const wide = shown.filter(([, box, part]) => part.scrollWidth > box.width + 1).map(([name]) => name);
            const over = shown.flatMap(([a, x], index) => shown.slice(index + 1)
                .filter(([, y]) => x.right > y.left + 1 && y.right > x.left + 1)
                .filter(([, y]) => x.bottom > y.top + 1 && y.bottom > x.top + 1)
                .map(([b]) => `${a} over ${b}`));
            return [...wide, ...over].map((text) => `${row.id} ${text}`);
        })""")
        assert found == [], width


def test_the_deadline_is_counted_down(open_page: OpenPage, services: dict[str, Service]) -> None:
    Breaker.objects.filter(service=services["booking-app"]).update(opened_at=timezone.now(), open_for=12)
    page = open_page("/breakers/")
    item = row(page, services["booking-app"])
    expect(item.locator("time[data-in]")).to_have_text(re.compile(r"in \d+ s"))
    ring = item.locator(".ws-ring text")
    first = int(ring.text_content() or "")
    assert 0 < first <= 12
    expect(ring).not_to_have_text(str(first))  # by how much it is less by then, the machine decides
    assert int(ring.text_content() or "") < first
    expect(item.locator(".why")).to_contain_text("The next call is the trial", timeout=30_000)


def test_without_javascript_the_deadline_is_a_clock_time(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/", java_script_enabled=False)
    item = row(page, services["whatsapp"])
    expect(item.locator("time[data-in]")).to_have_text(re.compile(r"at \d\d:\d\d:\d\d"))
    expect(item.locator(".ws-ring")).to_be_hidden()


def test_filters_replace_the_list_and_can_be_linked_to(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/")
    page.locator("#state-not_closed").click()
    expect(page).to_have_url(re.compile(r"state=not_closed"))
    expect(page.locator(".brk")).to_have_count(5)
    expect(page.locator("#state-not_closed")).to_have_attribute("aria-current", "true")
    actions.force(services["stripe"], Mode.OPEN, GRACE, "out of stock", None)
    expect(row(page, services["stripe"])).to_contain_text("OPEN · forced", timeout=9000)
    expect(page.locator("#state-not_closed")).to_contain_text("6")
    page.go_back()
    expect(page.locator(".brk")).to_have_count(13)


def test_a_filter_chosen_during_a_refresh_wins(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/")
    wait_live(page)
    held: list[Route] = []
    page.route(re.compile(r"/breakers/$"), lambda route: held.append(route))  # noqa: PLW0108  no builtin
    with page.expect_request(re.compile(r"/breakers/$")):
        actions.force(services["stripe"], Mode.OPEN, GRACE, "out of stock", None)
    page.locator("#state-not_closed").click()
    expect(page.locator(".brk")).to_have_count(6)
    held[0].continue_()
    page.wait_for_timeout(500)  # it would be in the page, or complain, by now
    expect(page.locator(".brk")).to_have_count(6)
    page.locator("#state-closed").click()
    expect(page.locator("#state-closed")).to_have_attribute("aria-current", "true")
    expect(page.locator(".brk")).to_have_count(7)


def test_a_first_open_breaker_fills_an_empty_filter(open_page: OpenPage) -> None:
    services = tell()
    page = open_page("/breakers/?state=not_closed")
    expect(page.locator("#brk-list")).to_contain_text("Every breaker is closed")
    wait_live(page)
    actions.force(services["stripe"], Mode.OPEN, GRACE, "out of stock", None)
    expect(row(page, services["stripe"])).to_contain_text("OPEN · forced", timeout=9000)
    expect(page.locator("#brk-list")).not_to_contain_text("Every breaker is closed")


def test_the_key_leads_to_it(open_page: OpenPage) -> None:
    tell()
    page = open_page("/")
    page.keyboard.press("g")
    page.keyboard.press("b")
    expect(page).to_have_url(re.compile(r"/breakers/$"))
    expect(page.locator(".ws-nav [aria-current]")).to_have_text("Breakers")


# watching it ---------------------------------------------------------------------------------------


def test_what_one_forces_another_sees_without_a_reload(open_page: OpenPage, services: dict[str, Service]) -> None:
    stripe = services["stripe"]
    other, overview = open_page("/breakers/"), open_page("/")
    service_page, page = open_page("/services/stripe/"), open_page("/breakers/")
    for each in (other, overview, service_page, page):
        wait_live(each)
    expect(overview.locator(".ws-nav a[href='/breakers/'] .ws-count")).to_contain_text("5")
    panel = ask(page, "force-open", stripe)
    page.keyboard.type("out of stock")
    panel.get_by_label("Expires by itself").select_option("3600")
    panel.get_by_role("button", name="Force Stripe open").click()
    expect(row(other, stripe)).to_contain_text("OPEN · forced")
    expect(row(page, stripe)).to_contain_text("Forced open by operator")
    expect(row(page, stripe)).to_contain_text("“out of stock”")
    expect(page.locator("#toasts")).to_contain_text("Stripe is forced open for 1 h")
    expect(page.locator("[data-under=forced] .brk", has_text="Stripe")).to_be_visible()
    expect(page.locator(f"#brk-{stripe.id}-a")).to_be_focused()
    expect(other.locator("[data-under=forced] .brk", has_text="Stripe")).to_be_visible(timeout=12_000)
    expect(other.locator("#brk-steps tbody tr").first).to_contain_text("out of stock")
    expect(overview.locator(".ws-nav a[href='/breakers/'] .ws-count")).to_contain_text("6")
    expect(overview.locator(".svc", has_text="Stripe").locator(".ws-brk")).to_contain_text("forced")
    expect(row(service_page, stripe)).to_contain_text("OPEN · forced")


def test_a_force_ends_by_itself(open_page: OpenPage, services: dict[str, Service]) -> None:
    stripe = services["stripe"]
    page = open_page("/breakers/")
    wait_live(page)
    actions.force(stripe, Mode.OPEN, GRACE, "out of stock", 4)
    expect(row(page, stripe)).to_contain_text("OPEN · forced")
    expect(row(page, stripe).locator(".state")).to_contain_text("CLOSED", timeout=12_000)
    expect(row(page, stripe).locator(".why")).to_be_hidden()


def test_numbers_are_fresh_within_seconds(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/")
    item = row(page, services["github"])
    expect(item.locator("[data-part=calls]")).to_contain_text("0")
    now = timezone.now() + timedelta(seconds=2)
    BreakerSlot.objects.create(service=services["github"], generation=9, start=now, ok=700, fail=77)
    expect(item.locator("[data-part=calls]")).to_contain_text("777", timeout=9000)
    expect(item.locator("[data-part=failing]")).to_contain_text("9%")


def test_a_change_takes_no_open_panel_away(open_page: OpenPage, services: dict[str, Service]) -> None:
    stripe, github = services["stripe"], services["github"]
    page = open_page("/breakers/")
    wait_live(page)
    ask(page, "force-open", stripe)
    page.keyboard.type("half a rea")
    actions.force(stripe, Mode.CLOSED, GRACE, "never mind", None)
    actions.reset(github, GRACE)
    expect(row(page, github).locator(".state")).to_contain_text("CLOSED")  # the others go on
    page.wait_for_timeout(4000)  # longer than from one look to the next
    page.keyboard.type("son")
    expect(row(page, stripe).get_by_label(re.compile("^Reason"))).to_have_value("half a reason")
    page.keyboard.press("Escape")
    expect(row(page, stripe)).to_contain_text("CLOSED · forced")


def test_the_focus_stays_where_it_was(open_page: OpenPage, services: dict[str, Service]) -> None:
    button = f"brk-{services['booking-app'].id}-reset"
    page = open_page("/breakers/")
    wait_live(page)
    page.focus(f"#{button}")
    actions.force(services["booking-app"], Mode.OPEN, GRACE, "it is over", None)
    expect(row(page, services["booking-app"])).to_contain_text("OPEN · forced")
    page.wait_for_timeout(3500)
    assert page.evaluate("document.activeElement.id") == button


def test_a_day_that_becomes_critical_shows(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/")
    wait_live(page)
    store.set_recovery_factor(0.5)
    expect(row(page, services["whatsapp"])).to_contain_text(
        "without the critical day it would be 5 min", timeout=2500
    )


# acting on it --------------------------------------------------------------------------------------


def test_by_keyboard_alone(open_page: OpenPage, services: dict[str, Service]) -> None:
    whatsapp = services["whatsapp"]
    opener = f"#brk-{whatsapp.id}-reset"
    page = open_page("/breakers/")
    wait_live(page)
    page.focus(opener)
    page.keyboard.press("Enter")
    expect(row(page, whatsapp).get_by_label(re.compile("^Reason"))).to_be_focused()
    expect(page.locator(opener)).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(page.locator(opener)).to_be_focused()
    expect(page.locator(opener)).to_have_attribute("aria-expanded", "false")
    expect(row(page, whatsapp).locator("form")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(row(page, whatsapp).get_by_label(re.compile("^Reason"))).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("WhatsApp’s breaker was reset")
    expect(page.locator(f"#brk-{whatsapp.id}-a")).to_be_focused()
    assert AuditEntry.objects.get().action == "breaker.reset"
    assert Breaker.objects.get(service=whatsapp).state == "CLOSED"


def test_a_panel_closes_by_its_quiet_button_and_by_its_opener(
    open_page: OpenPage, services: dict[str, Service]
) -> None:
    page = open_page("/breakers/")
    panel = ask(page, "force-open", services["stripe"])
    panel.get_by_text("Keep as it is").click()
    expect(panel).to_have_count(0)
    opener = page.locator(f"#brk-{services['stripe'].id}-force-open")
    expect(opener).to_be_focused()
    ask(page, "force-open", services["stripe"])
    opener.click()
    expect(panel).to_have_count(0)
    assert page.url.endswith("/breakers/")


def test_what_is_wrong_is_said_in_the_panel(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/")
    panel = ask(page, "force-closed", services["booking-app"])
    page.keyboard.type("   ")
    panel.get_by_role("button", name="Force booking-app closed").click()
    expect(panel).to_contain_text("Say why: others will read it.")
    expect(panel.get_by_label(re.compile("^Reason"))).to_be_focused()
    assert not AuditEntry.objects.exists()
    panel.get_by_label(re.compile("^Reason")).fill("pool doubled")
    panel.get_by_role("button", name="Force booking-app closed").click()
    expect(row(page, services["booking-app"])).to_contain_text("CLOSED · forced")


def test_forcing_and_ending_it_on_the_services_page(open_page: OpenPage, services: dict[str, Service]) -> None:
    stripe = services["stripe"]
    page = open_page("/services/stripe/")
    wait_live(page)
    panel = ask(page, "force-open", stripe)
    page.keyboard.type("out of stock")
    panel.get_by_role("button", name="Force Stripe open").click()
    expect(row(page, stripe)).to_contain_text("Forced open by operator")
    expect(page.locator("#toasts")).to_contain_text("Stripe is forced open for 10 min")
    panel = ask(page, "release", stripe)
    store.reset(stripe.id, "grace", "")  # a change that comes while somebody looks takes nothing away
    page.wait_for_timeout(1500)
    expect(panel).to_be_visible()
    panel.get_by_role("button", name="End the force on Stripe").click()
    expect(page.locator("#toasts")).to_contain_text("Nothing was forced on Stripe any more")
    expect(row(page, stripe).locator(".ws-brk").first).to_have_text("CLOSED")


def test_everything_works_without_javascript(open_page: OpenPage, services: dict[str, Service]) -> None:
    page = open_page("/breakers/", java_script_enabled=False)
    page.locator(f"#brk-{services['stripe'].id}-force-open").click()
    expect(page.locator("form.brk-panel")).to_contain_text("Force Stripe open?")
    page.get_by_role("button", name="Force Stripe open").click()
    page.get_by_label(re.compile("^Reason")).fill("out of stock")
    page.get_by_role("button", name="Force Stripe open").click()
    expect(page).to_have_url(re.compile(r"/breakers/$"))
    expect(page.locator("main")).to_contain_text("Stripe is forced open for 10 min.")
    expect(row(page, services["stripe"])).to_contain_text("OPEN · forced")
    page.goto(urljoin(page.url, "/services/stripe/"))
    page.get_by_role("link", name="End the force… Stripe").click()
    page.get_by_role("link", name="Keep it forced").click()
    expect(page).to_have_url(re.compile(r"/services/stripe/$"))
    page.get_by_role("link", name="End the force… Stripe").click()
    page.get_by_role("button", name="End the force on Stripe").click()
    expect(page.locator("main")).to_contain_text("The force on Stripe has ended.")


def test_viewers_see_no_buttons(open_page: OpenPage, services: dict[str, Service]) -> None:
    user = viewer()
    for path in ("/breakers/", "/services/booking-app/"):
        page = open_page(path, user=user)
        expect(page.get_by_text("20 of 20 calls failed in 10 s.").first).to_be_visible()
        expect(page.get_by_role("link", name=re.compile("Reset…"))).to_have_count(0)
