"""Incidents in a real browser: seen live, acknowledged, noted, resolved; also without JavaScript."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from monitoring.incidents import actions, judging
from monitoring.models import Incident
from tests.browser.axe import everywhere
from tests.browser.conftest import OpenPage, viewer
from tests.monitoring.incidents.makers import probe, vendor
from wsmon.audit import Actor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
GRACE = Actor.system("grace")


@pytest.fixture
def incident(settings: Any, transactional_db: None) -> Incident:
    """An outage of Twilio, judged."""
    settings.CONTROL_TARGETS = []
    check = vendor("twilio", "twilio", name="Twilio", criticality="high")
    probe(check, "hhhhcccc", message="answered 503", http_status=503)
    judging.rejudge()
    return Incident.objects.get()


def test_axe_finds_nothing_on_the_incidents_pages(open_page: OpenPage, incident: Incident) -> None:
    actions.note(incident.id, "Reminders can wait.", GRACE)
    page = open_page(f"/incidents/{incident.id}/")
    expect(page.locator("#live .w")).to_have_text("Live")
    page.get_by_text("Open a ticket text for Twilio").click()
    page.get_by_text("How this is worked out").click()
    assert everywhere(page) == []
    page.get_by_text("Resolve…").click()
    assert everywhere(page, (1440, 390)) == []
    for path in ("/incidents/", "/incidents/?state=closed", "/incidents/sla/", "/"):
        page.goto(page.url.split("/incidents")[0] + path)
        assert everywhere(page, (1440, 390)) == [], path


def test_what_others_do_appears_by_itself(open_page: OpenPage, incident: Incident) -> None:
    page = open_page(f"/incidents/{incident.id}/", user=viewer())
    expect(page.locator("#live .w")).to_have_text("Live")
    expect(page.locator("#inc-head")).to_contain_text("nobody has it yet")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    actions.acknowledge(incident.id, GRACE)
    expect(page.locator("#inc-head")).to_contain_text("grace has it")
    actions.note(incident.id, "Switched the region.", GRACE)
    expect(page.locator("#inc-lines")).to_contain_text("Switched the region.")
    expect(page.locator("#inc-shows")).to_contain_text("Notes 1")
    probe(incident.service.checks.get(), "hh", timezone.now())
    expect(page.locator("#inc-head")).to_contain_text("Over")


def test_acknowledging_noting_resolving_and_reopening(open_page: OpenPage, incident: Incident) -> None:
    page = open_page(f"/incidents/{incident.id}/")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#toasts")).to_contain_text("You have incident")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    page.get_by_label("Add a note").fill("Confirmations go by mail.")
    page.keyboard.press("Enter")
    expect(page.locator("#inc-lines")).to_contain_text("Confirmations go by mail.")
    expect(page.get_by_label("Add a note")).to_have_value("")
    page.get_by_text("Resolve…").click()
    expect(page.locator("#resolve").get_by_label("Why")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#resolve form")).to_be_hidden()
    page.get_by_text("Resolve…").click()
    page.locator("#resolve").get_by_label("Why").fill("they fixed it")
    page.get_by_role("button", name="Resolve it").click()
    expect(page.locator("#inc-head")).to_contain_text("Over")
    page.get_by_text("Reopen…").click()
    page.locator("#reopen").get_by_label("Why").fill("they did not")
    page.get_by_role("button", name="Reopen it").click()
    expect(page.locator("#inc-head")).to_contain_text("nobody has it yet")
    assert Incident.objects.get().closed_at is None


def test_what_is_typed_survives_the_news(open_page: OpenPage, incident: Incident) -> None:
    page = open_page(f"/incidents/{incident.id}/")
    expect(page.locator("#live .w")).to_have_text("Live")
    page.get_by_text("Resolve…").click()
    page.locator("#resolve").get_by_label("Why").fill("half a sen")
    actions.note(incident.id, "Meanwhile.", GRACE)
    expect(page.locator("#inc-lines")).to_contain_text("Meanwhile.")
    expect(page.locator("#resolve").get_by_label("Why")).to_have_value("half a sen")


def test_the_overview_acknowledges_and_leads_to_it(open_page: OpenPage, incident: Incident) -> None:
    page = open_page("/")
    expect(page.locator("#live .w")).to_have_text("Live")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#toasts")).to_contain_text("You have incident")
    expect(page.locator(f"#svc-{incident.service_id}")).to_contain_text("operator has it")
    page.locator(f"#svc-{incident.service_id}-i").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Twilio answers with errors of its own")


def test_the_second_who_acknowledges_is_told(open_page: OpenPage, incident: Incident) -> None:
    page = open_page(f"/incidents/{incident.id}/")
    Incident.objects.update(acknowledged_at=timezone.now(), acknowledged_by="grace")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#toasts")).to_contain_text("grace acknowledged it before you")


def test_without_javascript_everything_works(open_page: OpenPage, incident: Incident) -> None:
    page = open_page(f"/incidents/{incident.id}/", java_script_enabled=False)
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("main")).to_contain_text("You have incident")
    page.get_by_text("Resolve…").click()
    page.get_by_role("button", name="Resolve it").click()
    page.locator("#resolve").get_by_label("Why").fill("fixed")
    page.get_by_role("button", name="Resolve it").click()
    expect(page.locator("main")).to_contain_text("is resolved")


def test_a_new_incident_appears_in_the_navigation(open_page: OpenPage, incident: Incident) -> None:
    page = open_page("/incidents/")
    expect(page.locator("#live .w")).to_have_text("Live")
    expect(page.locator(".ws-nav")).to_contain_text("Incidents1")
    expect(page.locator(f"#inc-{incident.id}")).to_contain_text("nobody yet")
    actions.acknowledge(incident.id, GRACE)
    expect(page.locator(f"#inc-{incident.id}")).to_contain_text("grace")
