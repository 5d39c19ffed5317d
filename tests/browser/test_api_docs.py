"""The API's documentation page, in a real browser under the real Content-Security-Policy."""

from __future__ import annotations

import pytest

from tests.browser.axe import ENDS, everywhere
from tests.browser.conftest import OpenPage
from wsmon import api

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_it_is_readable_for_everybody(open_page: OpenPage) -> None:
    page = open_page("/api/docs")
    operations = sum(len(methods) for methods in api.document()["paths"].values())
    assert page.locator("section.ws-api").count() == operations
    # They are all made of the same parts, and axe takes a second for each.
    all_of_them = "[...document.querySelectorAll('section.ws-api')]"
    page.evaluate(f"{all_of_them}.filter((one, place) => place % 6).forEach((one) => one.remove())")
    assert page.locator("section.ws-api").count() == -(-operations // 6)
    assert everywhere(page, ENDS) == []


def test_its_links_lead_to_the_operations(open_page: OpenPage) -> None:
    page = open_page("/api/docs")
    page.get_by_role("link", name="/api/admin/integrations/test/{service}").click()
    heading = page.get_by_role("heading", name="POST /api/admin/integrations/test/{service}")
    assert heading.is_visible()
    assert page.get_by_role("link", name="openapi.json").get_attribute("href") == "/api/openapi.json"
