"""Configuring by hand, in a real browser and under our own Content-Security-Policy."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect

from monitoring.models import Check, Credential
from tests.browser.axe import violations
from tests.browser.conftest import OpenPage
from tests.monitoring.factories import make_check
from wsmon import secrets

pytestmark = pytest.mark.browser


def test_a_service_is_entered_with_a_check_and_a_secret(open_page: OpenPage) -> None:
    page = open_page("/admin/monitoring/service/add/")
    page.fill("#id_slug", "stripe")
    page.select_option("#id_provider", "stripe")
    page.get_by_role("button", name="Add another Check").click()
    page.select_option("#id_checks-0-kind", "connectivity")
    page.fill("#id_checks-0-interval", "5 parsecs")
    page.get_by_role("button", name="Add another Credential").click()
    page.fill("#id_credentials-0-variable", "STRIPE_SECRET_KEY")
    page.fill("#id_credentials-0-value", "planted-secret-4711")
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_text("is not a duration such as")).to_be_visible()
    assert page.input_value("#id_credentials-0-value") == ""

    page.fill("#id_checks-0-interval", "45s")
    page.fill("#id_credentials-0-value", "planted-secret-4711")
    page.get_by_role("button", name="Save and continue editing").click()

    expect(page.get_by_text("set on")).to_be_visible()
    assert "planted-secret-4711" not in page.content()
    assert page.input_value("#id_checks-0-interval") == "45s"
    assert Check.objects.get().interval == 45
    assert secrets.decrypt(bytes(Credential.objects.get().encrypted or b"")) == "planted-secret-4711"


def test_its_pages_can_be_used_by_everybody_(open_page: OpenPage) -> None:
    check = make_check()
    Credential.objects.create(service=check.service, variable="X", reference="env:PATH")

    page = open_page("/admin/", width=1200, bypass_csp=True)  # axe adds styles

    for path in (
        "/admin/",
        "/admin/monitoring/service/",
        "/admin/monitoring/service/add/",
        f"/admin/monitoring/service/{check.service_id}/change/",
        f"/admin/monitoring/service/{check.service_id}/delete/",
        "/admin/monitoring/maintenancewindow/add/",
        "/admin/wsmon/auditentry/",
        "/admin/wsmon/apitoken/",
    ):
        page.goto(urljoin(page.url, path))
        assert violations(page) == [], path


def test_its_pages_break_no_rule_of_the_policy(open_page: OpenPage) -> None:
    page = open_page("/admin/", width=390)

    for path in ("/admin/", "/admin/monitoring/service/add/", "/admin/wsmon/auditentry/"):
        page.goto(urljoin(page.url, path))
        expect(page.locator("h1").first).to_be_visible()
