"""The forecast in the chart of the service page, in a real browser."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from monitoring.forecasts import running
from monitoring.models import Check, CheckState, Forecast
from tests.browser.axe import looks, violations
from tests.browser.conftest import OpenPage, drawn
from tests.browser.past import remember
from tests.monitoring.factories import make_check, make_service

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

STRIPE = "/services/stripe/?period=24h"


@pytest.fixture
def rising() -> Check:
    """Stripe's response time rises by 60 ms an hour: in two hours it will be over 800 ms."""
    service = make_service("stripe", "stripe", name="Stripe", status="healthy")
    check = make_check(service, "connectivity", name="connectivity", degraded_over=0.8)
    now = timezone.now()
    rows = [
        (now - timedelta(minutes=5 * n), "healthy", 680 - 5 * n + 12 * ((n * 7) % 5 - 2), "200") for n in range(96)
    ]
    remember(check, rows)
    CheckState.objects.update(
        status="healthy", checked_at=now, recent_ms=[row[2] for row in rows[:30]], outcome="healthy"
    )
    for minutes, word in ((8, "came"), (-14, "came"), (0, "wrong")):
        Forecast.objects.create(
            check_ref=check, metric="latency", value=1, slope=1, limit=2, outcome=word,
            crosses_at=now, settled_at=now + timedelta(minutes=minutes),
        )  # fmt: skip
    assert running.run(now) == 1
    return check


def test_it_is_drawn_said_and_read_by_keyboard(open_page: OpenPage, rising: Check) -> None:
    page = open_page(STRIPE)
    drawn(page)
    expect(page.locator("#chart-forecast-key")).to_be_visible()
    said = page.locator("#svc-forecast")
    expect(said).to_contain_text(re.compile(r"p95 over 800 ms\s+expected"))
    expect(said).to_contain_text("Of 3 forecasts in 90 days 2 came true")
    page.locator("#chart-plot").focus()
    page.keyboard.press("End")
    expect(page.locator("#chart-readout")).to_contain_text(re.compile(r"p95 is expected to be [78]\d\d ms, "))
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#chart-readout")).to_contain_text(re.compile(r"p50 \d+ ms, p95 .* probes"))


def test_it_goes_when_it_is_over_without_a_reload(open_page: OpenPage, rising: Check) -> None:
    page = open_page(STRIPE)
    drawn(page)
    Forecast.objects.filter(outcome="").delete()
    page.evaluate("document.body.dispatchEvent(new Event('resync'))")
    expect(page.locator("#chart-forecast-key")).to_be_hidden()
    expect(page.locator("#svc-forecast")).not_to_contain_text("expected")
    page.locator("#chart-plot").focus()
    page.keyboard.press("End")
    expect(page.locator("#chart-readout")).to_contain_text("probes")


def test_axe_finds_nothing(open_page: OpenPage, rising: Check) -> None:
    page = open_page(STRIPE)
    for look in looks(page):
        drawn(page)
        assert violations(page) == [], look
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), look
