"""The API's documentation page, in a real browser under the real Content-Security-Policy."""

from __future__ import annotations

import pytest

from tests.browser.axe import violations
from tests.browser.conftest import OpenPage
from wsmon import api

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_is_readable_for_everybody(open_page: OpenPage, dark: bool, width: int) -> None:
    page = open_page("/api/docs", dark=dark, width=width)
    operations = sum(len(methods) for methods in api.document()["paths"].values())
    assert page.locator("section.ws-api").count() == operations
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert violations(page) == []


def test_its_links_lead_to_the_operations(open_page: OpenPage) -> None:
    page = open_page("/api/docs")
    page.get_by_role("link", name="/api/admin/integrations/test/{service}").click()
    heading = page.get_by_role("heading", name="POST /api/admin/integrations/test/{service}")
    assert heading.is_visible()
    assert page.get_by_role("link", name="openapi.json").get_attribute("href") == "/api/openapi.json"
