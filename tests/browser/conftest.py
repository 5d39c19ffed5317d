"""What browser tests share: a served site, accounts, and pages that complain about console errors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.browser.site import Site
from tests.conftest import driven_chromium

expect.set_options(timeout=15_000)  # ms; two test processes and their browsers share a machine
OpenPage = Callable[..., Page]
LOOK: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
"""Without what moves for ever: painting it costs the machine a good part of a core for as long as a page is open."""
NO_FAULTS = ("Failed to load resource", "htmx:sendAbort", "htmx:afterRequest", "htmx:sendError")
"""What a server that is stopped on purpose, and a request that a newer one replaced, leave in the console."""


def wait_live(page: Page) -> None:
    """Until the page is connected and has settled."""
    expect(page.locator("#live .w")).to_have_text("Live")
    page.wait_for_timeout(1700)  # the first page of a process fetches once when LISTEN begins


def drawn(page: Page) -> None:
    """Until a service's chart is there."""
    expect(page.locator("#chart-plot canvas")).to_be_visible()


def viewer() -> User:
    """Somebody who may look and do nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_service"))
    return user


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all of these modules: none of them minds the event loop of another's playwright."""
    with driven_chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A fresh tab with no cookies of another test."""
    with chromium.new_context(**LOOK) as context:
        yield context.new_page()


@pytest.fixture(scope="package")
def port() -> Iterator[int]:
    """The same for all of these tests, as the browser keeps what it has fetched; bound, so that nobody takes it."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@pytest.fixture
def site(transactional_db: None, port: int) -> Iterator[Site]:
    """wsmon's web process on the test's database."""
    served = Site(port).start()
    yield served
    served.stop()


@pytest.fixture
def operator(transactional_db: None) -> User:
    """A superuser, who may do everything."""
    return User.objects.create_superuser("operator", password="only-for-tests-1")


class Desk:
    """A browser context that outlives a test.

    A new one has a renderer of its own, which fetches, parses and compiles everything again: more than half of the
    CPU time that a page takes. What a test leaves in it is taken away.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self.context = browser.new_context(**LOOK)
        self._url = url
        self._anchor = self.context.new_page()  # a renderer ends with its last page
        self._anchor.goto(f"{url}/static/wsmon/icon.svg")
        self._devtools = self.context.new_cdp_session(self._anchor)

    def clear(self) -> None:
        """As if nobody had been here."""
        for page in self.context.pages:
            if page != self._anchor:
                page.close()
        self.context.clear_cookies()
        kinds = "local_storage,indexeddb,service_workers,cache_storage"
        self._devtools.send("Storage.clearDataForOrigin", {"origin": self._url, "storageTypes": kinds})


@pytest.fixture(scope="package")
def desks() -> list[Desk]:
    """The one desk, once it is there."""
    return []


@pytest.fixture
def desk(site: Site, chromium: Browser, desks: list[Desk]) -> Iterator[Desk]:
    """A browser context without cookies."""
    if not desks:
        desks.append(Desk(chromium, site.url))
    yield desks[0]
    desks[0].clear()


@pytest.fixture
def open_page(site: Site, operator: User, chromium: Browser, desk: Desk) -> Iterator[OpenPage]:
    """Open a path as the operator: ``open_page("/wall/", width=390, dark=True)``. No console error may occur.

    A test's first page opens at the desk, any other, and one with further options, in a context ``alone``.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    desk_is_free = True

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def open_(
        path: str = "/",
        *,
        width: int = 1440,
        dark: bool = False,
        user: User | None = None,
        alone: bool = False,
        **more: Any,
    ) -> Page:
        nonlocal desk_is_free
        client = Client()
        client.force_login(user or operator)
        if desk_is_free and not (alone or more):
            context, desk_is_free = desk.context, False
        else:
            context = chromium.new_context(**LOOK, **more)
            contexts.append(context)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", said)
        page.goto(site.url + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [text for text in complaints if not text.startswith(NO_FAULTS)] == []
