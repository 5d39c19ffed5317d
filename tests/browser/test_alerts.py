"""The alerts' page in a real browser: watching it, acknowledging, trying a channel; the link in a message."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Page, expect

from monitoring import alerts
from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import links, sending
from monitoring.views import acklinks
from tests import servers
from tests.browser.axe import everywhere
from tests.browser.conftest import OpenPage, wait_live
from tests.browser.site import Site
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.conftest import sink
from tests.monitoring.notifications.factories import Sink, in_turn, make_channel, raised, send_due
from wsmon.models import AuditEntry

__all__ = ["sink"]  # a fixture
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def story(sink: Sink) -> dict[str, Alert]:
    """Alerts of every kind, a channel that works, one that refuses, one that gathers."""
    hours = {"from": "00:00", "to": "23:59", "days": [], "time_zone": "UTC"}
    make_channel("team", sink.address, digest=600, quiet_hours=hours, min_severity="warning")
    ops = make_channel("ops", sink.address)
    with Sink(in_turn(servers.http(status="401 No"))) as refusing:
        make_channel("pager", refusing.address, min_severity="critical")
        service = make_service("stripe", name="Stripe")
        found = {
            "down": raised("a", title="Stripe does not answer in time", detail="http: timed out", service=service),
            "slow": raised("b", "warning", "The site answers slowly"),
            "quiet": raised("c", "warning", "Echo", inhibited_by="echo of a", service=service),
        }
        for _ in range(3):
            send_due()
    Notification.objects.filter(channel=ops, alert=found["down"]).update(recipient="Ana")
    return found


def test_axe_finds_nothing(open_page: OpenPage, story: dict[str, Alert]) -> None:
    page = open_page("/alerts/")
    page.locator(f"#alert-{story['down'].id}-ack").click()
    expect(page.locator(".ws-confirm-panel")).to_be_visible()
    assert everywhere(page) == []
    for path in ("/account/browsers/", f"/alerts/{story['down'].id}/acknowledge/"):
        page.goto(urljoin(page.url, path))
        assert everywhere(page, (1440, 390)) == [], path


def test_axe_finds_nothing_without_anything(open_page: OpenPage) -> None:
    assert everywhere(open_page("/alerts/"), (1440, 390)) == []


def test_what_opens_comes_and_what_is_over_goes(open_page: OpenPage, story: dict[str, Alert]) -> None:
    page = open_page("/alerts/")
    wait_live(page)
    raised("new", "critical", "Twilio is down")
    expect(page.locator("#open")).to_contain_text("Twilio is down")
    expect(page.locator("#open-n")).to_contain_text("5 open, 4 wait for somebody")
    alerts.resolve("new")
    expect(page.locator("#open")).not_to_contain_text("Twilio is down")


def test_acknowledging_by_keyboard(open_page: OpenPage, story: dict[str, Alert]) -> None:
    page = open_page("/alerts/")
    wait_live(page)
    opener = page.locator(f"#alert-{story['down'].id}-ack")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("What are you doing about it?")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".ws-confirm-panel")).to_have_count(0)
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("What are you doing about it?")).to_be_focused()
    page.keyboard.type("asking their support")
    page.keyboard.press("Enter")
    expect(page.locator(".ws-toast")).to_contain_text("Acknowledged: Stripe does not answer in time")
    expect(page.locator(f"#alert-{story['down'].id}")).to_contain_text("Somebody has it")
    expect(page.locator(".ws-confirm-panel")).to_have_count(0)
    assert AuditEntry.objects.get(action="alert.acknowledge").reason == "asking their support"


def test_trying_a_channel_and_sending_again(open_page: OpenPage, story: dict[str, Alert], sink: Sink) -> None:
    page = open_page("/alerts/")
    wait_live(page)
    page.locator("#ch-ops-test").click()
    expect(page.locator(".ws-toast").last).to_contain_text("ops took the test")
    page.locator("#ch-pager-test").click()
    expect(page.locator(".ws-toast").last).to_contain_text("pager did not take the test")
    page.get_by_role("button", name=re.compile("^Send again")).first.click()
    expect(page.locator(".ws-toast").last).to_contain_text("It is sent to pager again")
    expect(page.get_by_role("button", name=re.compile("^Send again"))).to_have_count(0)
    assert sink.titles[-1] == "Test of ops: wsmon can reach you"


def test_without_javascript_it_works_too(open_page: OpenPage, story: dict[str, Alert]) -> None:
    page = open_page("/alerts/", java_script_enabled=False)
    page.locator(f"#alert-{story['slow'].id}-ack").click()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("body")).to_contain_text("Acknowledged: The site answers slowly")
    page.locator("#ch-ops-test").click()
    expect(page.locator("body")).to_contain_text("ops took the test")


def test_the_link_in_a_message_needs_no_sign_in(site: Site, page: Page, story: dict[str, Alert]) -> None:
    acklinks.rate.reset()
    row = Notification.objects.select_related("channel", "alert").get(alert=story["down"], channel__slug="ops")
    assert sending.message_of(row).ack_url
    page.goto(f"{site.url}/ack/{links.token_of(row.id)}/")
    assert everywhere(page, (1440, 390)) == []
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("h1")).to_have_text("It is yours")
    assert Alert.objects.get(key="a").acknowledged_by == "Ana (by link)"
    page.goto(f"{site.url}/ack/{links.token_of(row.id)}/")
    expect(page.locator("h1")).to_have_text("This link was used")
    assert Channel.objects.count() == 3


def test_the_page_of_browsers_finds_out_what_this_one_can(open_page: OpenPage) -> None:
    page = open_page("/account/browsers/")
    expect(page.locator("#push-state")).not_to_have_text(re.compile("^Looking"))
