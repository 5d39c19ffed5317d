"""The pages of an instance that has seen nothing yet, on a phone."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage

PAGES = (
    "/",
    "/wall/",
    "/changes/",
    "/incidents/",
    "/incidents/sla/",
    "/breakers/",
    "/breakers/transitions/",
    "/webhooks/",
    "/webhooks/sources/",
    "/webhooks/failures/",
    "/alerts/",
    "/critical-days/",
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_nothing_is_wider_than_the_screen_and_each_page_says_what_to_do_next(open_page: OpenPage) -> None:
    page = open_page(width=390)
    for path in PAGES:
        page.goto(urljoin(page.url, path))
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        if path != "/wall/":
            expect(page.locator("main a, main button").first).to_be_visible()
