"""Signing in, the second factor and the error pages in a real browser."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, expect

from tests.browser.axe import ENDS, everywhere
from tests.browser.conftest import OpenPage
from tests.browser.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "only-for-tests-1"


def sign_in(page: Page, site: Site, path: str = "/account/") -> None:
    page.goto(site.url + path)
    page.get_by_label("User name").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_axe_finds_nothing(open_page: OpenPage, site: Site, operator: User) -> None:
    page = open_page("/account/")
    assert everywhere(page, ENDS) == []
    page.get_by_role("link", name="Change password…").click()
    assert everywhere(page, ENDS) == []
    page.goto(site.url + "/account/")
    page.get_by_role("button", name="Set up two-factor sign-in").click()
    expect(page.locator("svg.ws-qr")).to_be_visible()
    assert everywhere(page, ENDS) == []
    TOTPDevice.objects.update(confirmed=True)
    for path in ("/account/", "/account/two-factor/off/", "/account/two-factor/recovery/", "/nowhere/"):
        page.goto(site.url + path)
        assert everywhere(page, ENDS) == [], path


def test_axe_finds_nothing_on_the_way_in(site: Site, operator: User, page: Page) -> None:
    TOTPDevice.objects.create(user=operator, confirmed=True, name="phone")
    page.goto(site.url + "/login/")
    assert everywhere(page, ENDS) == []
    for _ in range(5):
        page.get_by_label("User name").fill("somebody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        assert everywhere(page, ENDS) == []
    expect(page.get_by_role("heading", name="Locked for now")).to_be_visible()
    sign_in(page, site)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    page.get_by_label("Code", exact=True).fill("000000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    assert everywhere(page, ENDS) == []


def test_one_signs_in_sets_up_a_second_factor_and_needs_it_next_time(site: Site, operator: User, page: Page) -> None:
    sign_in(page, site)
    page.get_by_role("button", name="Set up two-factor sign-in").click()
    device = TOTPDevice.objects.get()
    page.get_by_label("Code", exact=True).fill(f"{totp(device.bin_key):06d}")
    page.get_by_role("button", name="Turn on two-factor sign-in").click()
    expect(page.locator(".ws-codes li")).to_have_count(10)
    recovery = page.locator(".ws-codes li").first.inner_text()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.locator("main")).to_contain_text("10 recovery codes left")
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, site)
    page.get_by_label("Code", exact=True).fill(recovery)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("main")).to_contain_text("9 recovery codes left")


def test_a_session_that_ended_leads_to_the_login_and_back(open_page: OpenPage, site: Site) -> None:
    page = open_page("/account/")
    page.context.clear_cookies()
    page.get_by_role("link", name="Change password…").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("User name").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Change password")).to_be_visible()
