"""The webhooks' pages in a real browser: finding what failed and replaying it, selecting, watching, revealing."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect

from tests.browser.axe import everywhere
from tests.browser.conftest import OpenPage, wait_live
from tests.webhooks.factories import make_delivery, make_event
from tests.webhooks.story import Told, tell
from webhooks.models import Delivery, DestinationState, Replay
from webhooks.vocabulary import Lane
from wsmon import live
from wsmon.models import AuditEntry

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def told() -> Told:
    """The Saturday's webhooks."""
    return tell()


def news() -> None:
    """Say that deliveries changed, as whoever changes them does."""
    live.publish("deliveries", {"destinations": []})


def test_a_failed_stripe_event_is_found_understood_and_replayed_in_three_clicks(
    open_page: OpenPage, told: Told
) -> None:
    page = open_page("/")
    page.get_by_role("link", name="Failures 3 failed").click()
    expect(page.locator(".wh-group").first).to_contain_text("ledger does not accept the content")
    page.locator(".wh-group .eg a").first.click()
    expect(page.locator(".wh-shown")).to_contain_text("unknown tax_rate")
    page.get_by_role("button", name="Replay to ledger", exact=True).click()
    expect(page.locator("#toasts")).to_contain_text("Replayed 1 delivery")
    again = Delivery.objects.get(replay__isnull=False)
    assert again.destination_id == told.ledger.id
    assert Replay.objects.get(deliveries=again).created_by == "operator"
    expect(page.locator("#to-ledger-head")).to_contain_text("replayed by operator")
    expect(page.locator("#to-ledger-tries")).to_contain_text("1 earlier delivery to ledger")
    expect(page.locator(".wh-panel")).to_have_count(0)


def test_the_same_by_keyboard_alone(open_page: OpenPage, told: Told) -> None:
    page = open_page("/")
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page).to_have_url(re.compile(r"/webhooks/$"))
    expect(page.locator("#live .w")).to_have_text("Live")  # its scripts run
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("in_0")
    from webhooks import search  # noqa: PLC0415

    search.index_some()
    page.keyboard.press("Enter")
    expect(page.locator("#deliveries tbody tr")).to_have_count(2)
    expect(page.locator("#live .w")).to_have_text("Live")
    failed = page.locator(f"#d-{told.failed[0].id}")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(failed).to_have_class(re.compile("is-cursor"))
    page.keyboard.press("x")
    expect(page.locator("#bulk-replay")).to_have_text("Replay 1 delivery…")
    page.keyboard.press("r")
    expect(page.locator("#bulk-panel form")).to_contain_text("Replay this event to ledger?")
    expect(page.locator("#bulk-panel").get_by_label("Destination")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#bulk-replay")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#bulk-panel").get_by_label("Destination")).to_be_focused()
    page.get_by_label("Tries, 1 to 5").press("Enter")
    expect(page.locator("#toasts")).to_contain_text("Replayed 1 delivery")
    expect(page.locator("#bulk")).to_be_hidden()
    assert Delivery.objects.get(replay__isnull=False).event_id == told.failed[0].event_id


def test_selecting_some_or_all_that_match(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/?destination=app")
    expect(page.locator("#bulk")).to_be_hidden()
    boxes = page.locator('#deliveries input[name="d"]')
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(page.locator("#bulk-n")).to_have_text("3 selected")
    expect(page.locator("#bulk-cancel")).to_have_text("Cancel 3 waiting…")
    page.locator("#bulk-all").click()
    expect(page.locator("#bulk-n")).to_have_text("All 7 selected")
    page.locator("#bulk-show").click()
    panel = page.locator("#bulk-panel form")
    expect(panel).to_contain_text("Replay all 7 deliveries that match?")
    expect(panel).to_contain_text("4 would not: still under way.")
    panel.get_by_label(re.compile("^Also what was delivered")).check()
    panel.get_by_role("button", name="Show what would go").click()
    expect(panel).to_contain_text("3 of 7 would go.")
    assert Replay.objects.count() == 1
    page.locator("#bulk-cancel").click()
    panel = page.get_by_role("form", name="Cancel 4 deliveries?")
    panel.get_by_label("Reason").fill("wrong data")
    panel.get_by_role("button", name="Cancel 4 deliveries").click()
    expect(page.locator("#toasts")).to_contain_text("Cancelled 4 deliveries")
    expect(page.locator("#deliveries tbody")).to_contain_text("cancelled")
    assert Delivery.objects.filter(status="cancelled").count() == 4


def test_news_is_announced_and_what_is_shown_changes_in_place(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/")
    wait_live(page)
    row = page.locator(f"#d-{told.failed[0].id}")
    row.locator("input").check()
    number = page.locator("#deliveries tbody tr").count()
    Delivery.objects.filter(id=told.failed[0].id).update(status="delivered")
    DestinationState.objects.update(paused_at=None)
    make_delivery(make_event(told.stripe), told.ledger, "failed")
    news()
    expect(row).to_contain_text("delivered", timeout=15_000)
    expect(row.locator("input")).to_be_checked()
    expect(page.locator("#wh-lead")).not_to_contain_text("mailer")
    expect(page.locator("#deliveries tbody tr")).to_have_count(number)
    page.get_by_role("link", name="Show 1 new").click()
    expect(page.locator("#deliveries tbody tr")).to_have_count(number + 1)
    expect(page.locator("#show-new")).to_have_count(0)


def test_an_open_question_stays_while_things_change(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/failures/")
    wait_live(page)
    page.locator(".wh-group [data-key=r]").first.click()
    page.get_by_label(re.compile("^Reason")).fill("half a rea")
    Replay.objects.update(made=140)
    make_delivery(told.failed[0].event, told.ledger, "delivered", lane=Lane.REPLAY)
    news()
    expect(page.locator("#jobs")).to_contain_text("148 of 200", timeout=15_000)
    expect(page.locator(".wh-group").first).to_contain_text("1 was replayed since")
    page.keyboard.type("son")
    expect(page.get_by_label(re.compile("^Reason"))).to_have_value("half a reason")
    page.locator(".wh-panel button[type=submit]").first.click()
    expect(page.locator("#toasts")).to_contain_text("Replay of 3 deliveries started")
    expect(page.locator("#jobs-list > li")).to_have_count(2)
    page.get_by_role("link", name="Pause replay…").first.click()
    page.get_by_role("button", name="Pause the replay").click()
    expect(page.locator("#jobs")).to_contain_text("paused")


def test_pausing_a_destination_and_publishing(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/sources/")
    page.locator("#to-ledger-pause").click()
    page.get_by_role("button", name="Pause ledger").click()
    expect(page.locator("#to-ledger-panel form")).to_be_visible()  # the browser asks for the reason
    page.get_by_label("Reason").fill("moving")
    page.get_by_role("button", name="Pause ledger").click()
    expect(page.locator("#to-ledger-in")).to_contain_text("by operator: “moving”")
    expect(page.locator("#to-ledger-resume")).to_be_visible()
    page.locator("#publish").click()
    expect(page.get_by_label("Type")).to_be_focused()
    page.get_by_label("Type").fill("order.paid")
    page.get_by_label("Data, JSON").fill("{")
    page.get_by_role("button", name="Publish the event").click()
    expect(page.get_by_label("Data, JSON")).to_be_focused()
    expect(page.locator("#publish-panel")).to_contain_text("This is no JSON, line 1.")
    page.get_by_label("Data, JSON").fill('{"id": "o1"}')
    page.get_by_role("button", name="Publish the event").click()
    expect(page.locator("#toasts")).to_contain_text("Published order.paid")


def test_a_payload_is_revealed_once(open_page: OpenPage, told: Told) -> None:
    page = open_page(f"/webhooks/events/{told.failed[0].event_id}/")
    page.locator("#reveal").click()
    expect(page.locator("#reveal-panel").get_by_label("Reason")).to_be_focused()
    page.keyboard.type("the customer asks")
    page.keyboard.press("Enter")
    expect(page.locator(".wh-revealed")).to_contain_text("jane.doe@example.com")
    expect(page.locator("#ev-steps")).to_contain_text("operator revealed the payload", timeout=9000)
    page.reload()
    expect(page.locator("main")).not_to_contain_text("jane.doe")
    assert AuditEntry.objects.get().reason == "the customer asks"


def test_everything_works_without_javascript(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/", java_script_enabled=False)
    for row in told.failed[:2]:
        page.locator(f"#d-{row.id}-x").check()
    page.get_by_role("button", name="Replay the selected…").click()
    expect(page.locator("main")).to_contain_text("2 of 2 would go.")
    page.get_by_role("button", name="Replay 2 deliveries").click()
    expect(page.locator("main")).to_contain_text("Replayed 2 deliveries. It goes out now.")
    page.goto(urljoin(page.url, f"/webhooks/events/{told.waiting[1].event_id}/"))
    page.get_by_role("link", name="Request").click()
    expect(page.locator(".wh-shown")).to_contain_text("POST https://app.example.com/hooks")
    page.get_by_role("link", name="Cancel delivery…").click()
    page.get_by_label("Reason").fill("wrong")
    page.get_by_role("button", name="Cancel delivery").click()
    expect(page.locator("main")).to_contain_text("Cancelled 1 delivery.")


def test_axe_finds_nothing(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/")
    expect(page.locator("#live .w")).to_have_text("Live")
    page.locator('#deliveries input[name="d"]').nth(1).check()
    page.locator("#publish").click()
    expect(page.locator("#publish-panel form")).to_be_visible()
    page.evaluate("document.getElementById('bulk').classList.replace('ws-bulk', 'ws-bar')")  # it lies over rows
    assert everywhere(page, (1440, 390)) == []
    page.goto(urljoin(page.url, "/webhooks/failures/"))
    page.locator(".wh-group [data-key=r]").first.click()
    expect(page.locator(".wh-panel")).to_be_visible()
    assert everywhere(page, (1440, 390)) == []
    for path in (
        "/webhooks/sources/",
        f"/webhooks/events/{told.failed[0].event_id}/",
        f"/webhooks/events/{told.waiting[1].event_id}/?part=curl",
        "/webhooks/?status=unrouted",
        "/webhooks/?q=nothing&since=soon",
        "/webhooks/publish/",
    ):
        page.goto(urljoin(page.url, path))
        assert everywhere(page, (1440, 390)) == [], path


def test_nothing_is_cut_off_or_overlaps(open_page: OpenPage, told: Told) -> None:
    page = open_page("/webhooks/")
    for path in ("/webhooks/", "/webhooks/failures/", "/webhooks/sources/"):
        page.goto(urljoin(page.url, path))
        for width in (1920, 1300, 1000, 800, 390):
            page.set_viewport_size({"width": width, "height": 900})
            found = page.evaluate("""() => [...document.querySelectorAll('main *')].filter((part) => {
                const box = part.getBoundingClientRect();
                return box.width && box.right > innerWidth + 1 && !part.closest('.ws-scroll, .ws-filter, pre, .vh');
            }).map((part) => `${part.tagName} ${part.id} ${part.className}`)""")
            assert found == [], (path, width)
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), (path, width)
