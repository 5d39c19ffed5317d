"""The main job as its users meet it: ``make run``, and the truth about every service on an open page."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.servers import Peer, Server, http
from tests.whole import PASSWORD, ROOT, STOP_WITHIN, Stack, eventually, free_port

pytestmark = pytest.mark.stack

TOKEN = "a-bootstrap-token-for-tests-9876543210"
SOON = 30_000
"""Milliseconds for a change to show on a busy machine; the contract's own bound here is 3 s."""

CONFIG = """
services:
  our-site:
    provider: http
    criticality: critical
    checks:
      - {{kind: http, name: health, url: "{site}", interval: 1s, timeout: 1s, confirm_down: 2, confirm_up: 2,
         expect: {{status: 200, body_contains: fine}}}}
  stripe: {{checks: [{both}, {{kind: authentication, interval: 2s, timeout: 1s}}]}}
  resend: {{checks: [{both}, {{kind: authentication, interval: 2s, timeout: 1s}}]}}
  twilio: {{checks: [{both}, {{kind: authentication, interval: 2s, timeout: 1s}}]}}
  google_calendar: {{checks: [{both}]}}
  supabase_auth: {{checks: [{both}]}}
  supabase_realtime: {{checks: [{both}]}}
"""
CONNECTIVITY = "{kind: connectivity, interval: 2s, timeout: 1s}"

TRUTH = {
    "our-site": ("healthy", None),
    "stripe": ("error", "AUTHENTICATION_ERROR"),
    "resend": ("healthy", None),
    "twilio": ("healthy", None),
    "google_calendar": ("critical", "SERVER_ERROR"),
    "supabase_auth": ("critical", "TIMEOUT_ERROR"),
    "supabase_realtime": ("critical", "NETWORK_ERROR"),
}


def _vendors(peer: Peer) -> None:
    """Five vendors on one port, by the first part of the path: each in another state."""
    while request := peer.read_request():
        vendor = request.split(b" ")[1].split(b"/")[1]
        signed = b"\r\nauthorization:" in request.lower()
        if vendor == b"hangs":
            peer.hold()
        elif vendor == b"stripe":
            message = "Invalid API Key provided" if signed else "You did not provide an API key."
            peer.send(_refusal(error={"type": "invalid_request_error", "message": message}))
        elif vendor == b"resend" and signed:
            domain = {"id": "d", "name": "example.com", "status": "verified"}
            peer.send(_json("200 OK", {"object": "list", "has_more": False, "data": [domain]}))
        elif vendor == b"resend":
            peer.send(_refusal(statusCode=401, name="missing_api_key", message="Missing API Key"))
        elif vendor == b"twilio":
            peer.send(_refusal(code=20003, message="Authenticate", more_info="", status=401))
        else:
            peer.send(http(b"<html>Bad Gateway</html>", "502 Bad Gateway", {"Content-Type": "text/html"}))


def _refusal(**body: object) -> bytes:
    return _json("401 Unauthorized", body)


def _json(status: str, body: object) -> bytes:
    return http(json.dumps(body).encode(), status, {"Content-Type": "application/json"})


class Site:
    """A web server in a process of its own, as the customer's, to be stopped and started."""

    def __init__(self, directory: Path) -> None:
        (directory / "health").write_text("all is fine\n")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/health"
        self.command = [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1"]
        self.command += ["--directory", str(directory)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def watching(make_stack: Callable[..., Stack], site: Site) -> Iterator[Stack]:
    """A wsmon that watches the site and all six vendors, of which one has no credentials."""
    with Server(_vendors) as vendors:
        nobody = f"http://127.0.0.1:{free_port()}"
        stack = make_stack(
            {
                "WSMON_BOOTSTRAP_TOKEN": TOKEN,
                "STRIPE_SECRET_KEY": "sk_test_planted_a",
                "STRIPE_API_BASE": vendors.url("/stripe"),
                "RESEND_API_KEY": "re_planted_b",
                "RESEND_API_BASE": vendors.url("/resend"),
                "TWILIO_API_BASE": vendors.url("/twilio"),
                "GOOGLE_API_BASE": vendors.url("/fails"),
                "SUPABASE_URL": nobody,
                "SUPABASE_AUTH_BASE": vendors.url("/hangs"),
                "SUPABASE_REALTIME_URL": nobody,
            }
        )
        stack.config.write_text(CONFIG.format(site=site.url, both=CONNECTIVITY))
        yield stack.start()


class Reader:
    """Somebody who has signed in by the form and looks at the overview."""

    def __init__(self, browser: Browser, url: str, width: int, *, dark: bool) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",  # what moves for ever costs the machine a good part of a core
        )
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        self.page.locator("input[name=username]").fill("admin")
        self.page.locator("input[name=password]").fill(PASSWORD)
        self.page.keyboard.press("Enter")
        expect(self.page.locator("[data-row]").first).to_be_visible(timeout=SOON)
        self.page.evaluate("() => { window.neverReloaded = true }")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":  # a breach of the Content-Security-Policy is one too
            self.complaints.append(message.text)

    def row(self, service: str) -> Locator:
        """The service's line, whatever its place in the list."""
        return self.page.locator("[data-row]").filter(has=self.page.locator(f'a[href="/services/{service}/"]'))

    def sees(self, service: str, status: str) -> None:
        """Wait until the open page says so."""
        expect(self.row(service)).to_have_attribute("data-s", status, timeout=SOON)
        expect(self.row(service)).to_contain_text(status.capitalize(), ignore_case=True)

    def has_kept_the_page(self) -> bool:
        """Whether it was never reloaded, complained of nothing and fits the screen."""
        page = "() => window.neverReloaded && document.documentElement.scrollWidth <= window.innerWidth"
        return bool(self.page.evaluate(page)) and not self.complaints


@pytest.mark.browser
def test_an_open_page_tells_the_truth_and_follows_the_site(watching: Stack, site: Site, chromium: Browser) -> None:
    def services() -> dict[str, tuple[str, str | None]]:
        url = f"{watching.url}/api/admin/integrations/health"
        found = requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10).json()["services"]
        return {each["service"]: (each["status"], each["error_category"]) for each in found}

    def agreed() -> bool:
        return services() == TRUTH

    eventually(agreed, f"the truth about each service, not {services()}", SOON / 1000)

    readers = [
        Reader(chromium, watching.url, 1440, dark=False),
        Reader(chromium, watching.url, 390, dark=True),
    ]
    for reader in readers:
        for service, (status, category) in TRUTH.items():
            reader.sees(service, status)
            if category:
                expect(reader.row(service)).to_contain_text(category)
        assert "planted" not in reader.page.content()
    expect(readers[0].row("twilio")).to_contain_text("TWILIO_ACCOUNT_SID")

    site.stop()
    for reader in readers:
        reader.sees("our-site", "critical")
        expect(reader.row("our-site")).to_contain_text("NETWORK_ERROR")
    site.start()
    for reader in readers:
        reader.sees("our-site", "healthy")
        assert reader.has_kept_the_page(), reader.complaints
        reader.context.close()
    eventually(agreed, "the API agrees", SOON / 1000)
    assert "planted" not in watching.output()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.skipif(
    not (ROOT / ".venv").exists() or Path(sys.prefix) != ROOT / ".venv", reason="make would install everything anew"
)
def test_make_run_is_all_it_takes_and_ctrl_c_ends_it(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.command = ["make"]
    try:
        process = stack.start().process
        assert process is not None
        assert stack.login().get(stack.url, timeout=10).status_code == 200
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to make and to wsmon
        process.wait(STOP_WITHIN)
        eventually(lambda: not stack.is_up() and not stack.postgres(), "nothing is left", STOP_WITHIN)
        assert "Traceback" not in stack.output()
    finally:
        if stack.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(stack.process.pid, signal.SIGKILL)
