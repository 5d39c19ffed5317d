"""What browser tests share: a served site, accounts, and pages that complain about console errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.browser.site import Site

expect.set_options(timeout=15_000)  # ms; two test processes and their browsers share a machine
OpenPage = Callable[..., Page]
NO_FAULTS = ("Failed to load resource", "htmx:sendAbort", "htmx:afterRequest", "htmx:sendError")
"""What a server that is stopped on purpose, and a request that a newer one replaced, leave in the console."""


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    """wsmon's web process on the test's database."""
    served = Site().start()
    yield served
    served.stop()


@pytest.fixture
def operator(transactional_db: None) -> User:
    """A superuser, who may do everything."""
    return User.objects.create_superuser("operator", password="only-for-tests-1")


@pytest.fixture
def open_page(site: Site, operator: User, chromium: Browser) -> Iterator[OpenPage]:
    """Open a path as the operator: ``open_page("/wall/", width=390, dark=True)``. No console error may occur."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def open_(
        path: str = "/", *, width: int = 1440, dark: bool = False, user: User | None = None, **more: Any
    ) -> Page:
        client = Client()
        client.force_login(user or operator)
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", **more
        )
        contexts.append(context)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", said)
        page.goto(site.url + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [text for text in complaints if not text.startswith(NO_FAULTS)] == []
