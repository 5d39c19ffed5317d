"""The page of critical days in a real browser: what is in force, live, and what a person does about it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from monitoring.critical import actions, inforce
from monitoring.models import CriticalOverride, CriticalRule, DeployPass, Emergency
from tests.browser.axe import ENDS, everywhere
from tests.browser.conftest import OpenPage, viewer, wait_live
from tests.monitoring.factories import make_check, make_service
from wsmon.audit import Actor
from wsmon.models import AuditEntry

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ANNA = Actor.system("anna")
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
PAGE = "/critical-days/"


@pytest.fixture(autouse=True)
def services() -> None:
    make_check(make_service("shop", name="Shop", criticality="critical"), name="health", interval=30, timeout=5)
    make_check(make_service("blog", name="Blog", criticality="low"), name="health", interval=60)


def always() -> None:
    """Every day is a critical day, and there are holidays."""
    CriticalRule.objects.create(slug="always", spec={"every": DAYS})
    CriticalRule.objects.create(slug="holidays", spec={"holidays": {"country": "DE"}})
    inforce.refresh(force=True)


def test_a_critical_day_is_switched_on_and_off_and_every_page_says_so(open_page: OpenPage) -> None:
    other = open_page("/")
    wait_live(other)
    page = open_page(PAGE)
    wait_live(page)
    expect(page.locator("#cd-now")).to_contain_text("Usual policies")
    page.get_by_role("link", name="Switch on now…").click()
    expect(page.get_by_label("Reason, shown to everyone")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#do-on")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("Reason, shown to everyone").fill("the launch of the shop")
    page.get_by_label("Expires").select_option("6")
    page.get_by_role("button", name="Switch critical day on").click()
    expect(page.locator("#toasts")).to_contain_text("A critical day is in force until")
    expect(page.locator("#cd-now")).to_contain_text("operator, who switched it on until")
    expect(page.locator("#cd-values")).to_contain_text("15 s")
    for one in (page, other):
        expect(one.locator("#banner")).to_contain_text("Critical day: Switched on by operator")
        expect(one.locator("#banner")).to_contain_text("deploys frozen")
    page.get_by_role("link", name="Let the calendar decide…").click()
    page.get_by_role("button", name="Let the calendar decide").click()
    expect(page.locator("#cd-now")).to_contain_text("Usual policies")
    expect(other.locator("#banner")).not_to_contain_text("Critical day")
    assert AuditEntry.objects.filter(action__startswith="critical_day.override").count() == 2


def test_the_wall_says_so_in_one_line_by_itself(open_page: OpenPage) -> None:
    wall = open_page("/wall/")
    wait_live(wall)
    said = wall.locator(".wall .ws-banner", has_text="Critical day")
    expect(said).to_have_count(0)
    always()
    expect(said).to_contain_text("Critical day: always")
    box = said.bounding_box()
    assert box is not None
    assert box["height"] < 50
    expect(wall.locator(".wall-grid .wt")).to_have_count(2)
    CriticalRule.objects.all().delete()
    inforce.refresh(force=True)
    expect(said).to_have_count(0)
    expect(wall.locator(".wall-grid .wt")).to_have_count(2)


def test_one_deploy_is_let_through_and_an_early_end_is_confirmed(open_page: OpenPage) -> None:
    always()
    page = open_page(PAGE)
    wait_live(page)
    page.get_by_role("link", name="Allow one deploy…").click()
    page.get_by_role("button", name="Allow one deploy").click()  # the browser asks for the reason
    assert not DeployPass.objects.exists()
    page.get_by_label("Reason, shown to everyone").fill("the fix")
    page.get_by_role("button", name="Allow one deploy").click()
    expect(page.locator("#cd-freeze")).to_contain_text("“the fix”, operator")
    page.get_by_role("link", name="End this critical day early…").click()
    page.locator("#cd-override-panel").get_by_label("Reason").fill("the fair was cancelled")
    page.get_by_role("button", name="End critical day now").click()
    expect(page.locator("#cd-now")).to_contain_text("operator switched it off until")
    expect(page.locator("#cd-freeze")).to_contain_text("deploys are allowed")
    assert CriticalOverride.objects.get().on is False


def test_an_emergency_of_one_service_begins_and_ends(open_page: OpenPage) -> None:
    page = open_page(PAGE)
    wait_live(page)
    page.get_by_role("link", name="Start emergency mode…").click()
    expect(page.get_by_label("For", exact=True)).to_be_focused()
    page.get_by_label("For", exact=True).select_option("shop")
    page.get_by_label("Reason, shown to everyone").fill("bookings fail")
    page.get_by_role("button", name="Start emergency mode").click()
    expect(page.locator("#cd-emergency")).to_contain_text("Shop until")
    expect(page.locator("#banner")).to_contain_text("Emergency mode: Shop")
    page.get_by_role("link", name="End emergency mode…").click()
    page.get_by_role("button", name="End emergency mode").click()
    expect(page.locator("#banner")).not_to_contain_text("Emergency")
    assert Emergency.objects.get().ended_at is not None


def test_it_follows_what_others_do(open_page: OpenPage) -> None:
    page = open_page(PAGE)
    wait_live(page)
    actions.override(True, timezone.now() + timedelta(hours=1), "a colleague knows why", ANNA)
    expect(page.locator("#cd-now")).to_contain_text("“a colleague knows why”")
    expect(page.locator("#cd-acts")).not_to_contain_text("Switch on now")


def test_a_rehearsal_shows_what_would_differ(open_page: OpenPage) -> None:
    page = open_page(PAGE)
    page.get_by_role("link", name="Rehearse a critical day").click()
    expect(page.locator("#rehearsal")).to_contain_text("2 checks would be made in another way.")
    page.get_by_text("Check by check").click()
    expect(page.locator("#rehearsal .cd-checks")).to_contain_text("Shop health")
    page.get_by_role("link", name="An emergency").click()
    expect(page.locator("#rehearsal")).to_contain_text("asked for read-only")
    page.get_by_label("or a moment").fill("2031-10-18T12:00")
    page.get_by_role("button", name="Look").click()
    expect(page.locator("#rehearsal")).to_contain_text("usual policies; no rule has that day.")
    page.get_by_role("link", name="End rehearsal").click()
    expect(page.locator("#rehearsal")).to_have_count(0)


def test_without_javascript_it_works_too(open_page: OpenPage) -> None:
    page = open_page(PAGE, java_script_enabled=False)
    page.get_by_role("link", name="Switch on now…").click()
    page.get_by_label("Reason, shown to everyone").fill("the launch")
    page.get_by_role("button", name="Switch critical day on").click()
    expect(page.locator(".ws-main")).to_contain_text("A critical day is in force until")


def test_a_viewer_reads_and_does_nothing(open_page: OpenPage) -> None:
    always()
    page = open_page(PAGE, user=viewer())
    expect(page.locator("#cd-now")).to_contain_text("In force now")
    expect(page.locator("[data-asks]")).to_have_count(0)


def test_everybody_can_read_and_use_it(open_page: OpenPage) -> None:
    always()
    actions.start_emergency(None, "the data centre burns", ANNA)
    page = open_page(PAGE)
    wait_live(page)
    page.get_by_role("link", name="Extend…").click()
    expect(page.get_by_label("Reason, shown to everyone")).to_be_focused()
    assert everywhere(page) == []
    page.goto(page.url + "?rehearse=critical")
    page.get_by_text("Check by check").click()
    assert everywhere(page, ENDS) == []
