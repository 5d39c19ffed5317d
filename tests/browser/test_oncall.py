"""Who is on call and who is told next, on the alerts' page, as people see it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from playwright.sync_api import expect

from monitoring import alerts
from monitoring.escalation import running
from monitoring.models import Alert, Channel, Escalation, Rotation
from tests.browser import axe
from tests.browser.conftest import OpenPage
from tests.monitoring.factories import make_service

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PEOPLE = [{"name": "Ana Sousa", "channels": ["ana-sms"]}, {"name": "Ben", "channels": ["ben-sms", "ben-mail"]}]


def team() -> None:
    for slug in ("ops", "ana-sms", "ben-sms", "ben-mail", "boss"):
        Channel.objects.create(slug=slug, reference="webpush:*", direct=slug == "ops")
    started = datetime.now(UTC).date() - timedelta(days=2)
    Rotation.objects.create(slug="ops", people=PEOPLE, starts_on=started)
    Rotation.objects.create(slug="spring", people=PEOPLE, starts_on=date(2099, 3, 2))
    steps = [
        {"after": 0, "notify": ["ops"]},
        {"after": 300, "notify": ["rotation:ops"]},
        {"after": 900, "notify": ["boss", "rotation:ops"]},
    ]
    Escalation.objects.create(slug="everybody", steps=steps, remind_every=1800)
    Escalation.objects.create(slug="stripe", steps=steps[1:2], services=["stripe"], min_severity="warning")


def test_the_page_says_who_is_on_call_and_who_is_told_when(open_page: OpenPage) -> None:
    team()
    alerts.raise_alert("a", "incident", "critical", "Stripe does not answer in time", service=make_service("stripe"))
    running.run_due(datetime.now(UTC))
    page = open_page("/alerts/")
    section = page.locator("#oncall")
    for look in axe.looks(page):
        expect(section.locator("#rotations")).to_contain_text("Ana Sousa")
        expect(section.locator("#rotations")).to_contain_text("Nobody")
        expect(section.locator("#escalations")).to_contain_text("after 5 min")
        expect(section.locator("#escalations")).to_contain_text("Ana Sousa (on call, ops)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{look}: nothing sticks out"
        assert [line for line in axe.violations(page) if "#oncall" in line or "rotations" in line] == [], look


def test_it_changes_while_one_looks(open_page: OpenPage) -> None:
    team()
    page = open_page("/alerts/")
    waiting = page.locator("#escalations tbody tr").filter(has_text="everybody").locator("td").last
    expect(waiting).to_have_text("0")
    alerts.raise_alert("a", "incident", "critical", "Something does not answer")
    running.run_due(datetime.now(UTC))
    expect(waiting).to_have_text("1")
    Alert.objects.update(acknowledged_at=datetime.now(UTC))
    alerts.raise_alert("b", "other", "warning", "Something else")
    expect(waiting).to_have_text("0")


def test_without_any_it_says_how_to_begin(open_page: OpenPage) -> None:
    page = open_page("/alerts/", width=390)
    expect(page.locator("#oncall")).to_contain_text("No escalation is configured")
    assert [line for line in axe.violations(page) if "escalation" in line] == []
