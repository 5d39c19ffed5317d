"""CalDAV: iCloud's answers under ``responses``, and Radicale as a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests

import providers
from providers.base import ProbeContext, ProbeOutcome
from providers.runner import run
from tests.providers.contract import GARBAGE, HTML, NOW, Reply, VendorContract, World, fixture, planted
from tests.whole import free_port
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome

XML = {"Content-Type": "application/xml; charset=utf-8"}
LOGIN = {"WWW-Authenticate": 'Basic realm="iCloud"'}
USER = "planner@example.com"
NEEDS = ("CALDAV_USERNAME", "CALDAV_PASSWORD")
BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<multistatus xmlns="DAV:"><response><href>&b;</href></response></multistatus>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<multistatus xmlns="DAV:"><response><propstat><prop><current-user-principal><href>&a;</href>
</current-user-principal></prop></propstat></response></multistatus>"""


class TestICloud(VendorContract):
    slug = "apple_caldav"
    variables = {"CALDAV_USERNAME": USER, "CALDAV_PASSWORD": planted()}
    routes = [
        ("PROPFIND", r"^https://caldav\.icloud\.com/$", Reply(207, "principal.xml", XML)),
        ("PROPFIND", r"^https://caldav\.icloud\.com/123/principal/$", Reply(207, "home.xml", XML)),
        ("PROPFIND", r"^https://p42-caldav\.icloud\.com(:443)?/123/calendars/$", Reply(207, "calendars.xml", XML)),
    ]
    anonymous = Reply(401, b"", LOGIN)
    refused = Reply(401, b"", LOGIN)
    forbidden = Reply(403, b"Account blocked", {"Content-Type": "text/plain"})
    limited = Reply(429, b"")
    missing = {"authentication": NEEDS, "functionality": NEEDS}

    def test_strange_values_anywhere_do_not_break_the_probe(self) -> None:
        """XML instead of JSON: cut at every tenth byte, and each name replaced in turn."""
        for number, (method, url, reply) in enumerate(self.routes):
            good = reply.content(self.slug)
            bodies = [good[:end] for end in range(0, len(good), 10)]
            bodies += [good.replace(word, b"odd") for word in (b"href", b"prop", b"multistatus", b"response")]
            bodies += [good.replace(b"/123/", odd) for odd in (b"http://[::1", b"", b"//", b"\x00", b"javascript:1")]
            for body in bodies:
                routes = list(self.routes)
                routes[number] = (method, url, Reply(207, body, XML))
                routes.append(("PROPFIND", ".*", Reply(404, b"")))
                outcome = self.probe("functionality", World(self.slug, routes))
                assert outcome.category != Category.UNKNOWN_ERROR, (body, outcome.message)

    def test_it_follows_the_principal_to_the_calendars(self) -> None:
        world = self.healthy_world()
        outcome = self.probe("functionality", world)
        assert outcome.message == "2 calendars"
        assert outcome.details["calendars"] == ["Weddings", "Team"]
        assert outcome.details["calendar_host"] == "p42-caldav.icloud.com"
        assert [request.headers["Depth"] for request in world.asked] == ["0", "0", "1"]

    def test_the_empty_400_of_icloud_means_reachable(self) -> None:
        assert self.probe("connectivity", self.world(Reply(400, b""))).outcome == Outcome.HEALTHY

    @pytest.mark.parametrize(
        "home",
        [
            "https://evil.example.com/123/",
            "http://p42-caldav.icloud.com/123/",
            "https://p42-caldav.icloud.com:8443/123/",
            "https://evil-icloud.com/123/",
            "//127.0.0.1/123/",
        ],
    )
    def test_the_password_goes_to_no_other_host(self, home: str) -> None:
        body = fixture(self.slug, "home.xml").replace(
            b"https://p42-caldav.icloud.com:443/123/calendars/", home.encode()
        )
        routes = [self.routes[0], ("PROPFIND", "/principal/", Reply(207, body, XML))]
        world = World(self.slug, routes)
        outcome = self.probe("functionality", world)
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
        assert len(world.asked) == 2

    @pytest.mark.parametrize(
        "body",
        [BOMB, OUTSIDE, BOMB.decode().encode("utf-16"), b"<multistatus/>", b"<a>" * 50_000, HTML, *GARBAGE],
        ids=lambda body: repr(body[:12]),
    )
    def test_dangerous_or_broken_xml_is_refused(self, body: bytes) -> None:
        outcome = self.probe("authentication", self.world(Reply(207, body, XML)))
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR)

    def test_too_much_xml_is_refused(self) -> None:
        body = fixture(self.slug, "principal.xml") + b" " * 300_000
        outcome = self.probe("authentication", self.world(Reply(207, body, XML)))
        assert outcome.category == Category.VALIDATION_ERROR


@pytest.fixture(scope="module")
def radicale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real CalDAV server with one user and one calendar."""
    home = tmp_path_factory.mktemp("radicale")
    (home / "users").write_text("planner:correct-horse\n")
    port = free_port()
    options = {
        "server-hosts": f"127.0.0.1:{port}",
        "auth-type": "htpasswd",
        "auth-htpasswd-filename": str(home / "users"),
        "auth-htpasswd-encryption": "plain",
        "auth-delay": "0",
        "storage-filesystem-folder": str(home / "collections"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "radicale", "--config", "", *(f"--{key}={value}" for key, value in options.items())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=home,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, process)
        made = requests.request(
            "MKCALENDAR", f"{url}/planner/weddings/", auth=("planner", "correct-horse"), timeout=5
        )
        assert made.status_code == 201, made.text
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            requests.get(url, timeout=1, allow_redirects=False)
        except requests.ConnectionError:
            assert process.poll() is None, "radicale ended at once"
            time.sleep(0.05)
        else:
            return


class TestRadicale:
    def probe(self, kind: str, url: str, password: str = "correct-horse") -> ProbeOutcome:
        context = ProbeContext(
            http=Client(["127.0.0.0/8"]),
            timeout=10,
            now=NOW,
            variables={"CALDAV_URL": url, "CALDAV_USERNAME": "planner", "CALDAV_PASSWORD": password},
        )
        return run(providers.get("apple_caldav"), kind, context)

    def test_it_is_reachable_without_a_password(self, radicale: str) -> None:
        outcome = self.probe("connectivity", radicale)
        assert outcome.outcome == Outcome.HEALTHY, outcome.message

    def test_the_right_password_works(self, radicale: str) -> None:
        outcome = self.probe("authentication", radicale)
        assert outcome.outcome == Outcome.HEALTHY, outcome.message
        assert outcome.http_status == 207

    def test_a_wrong_password_is_our_error(self, radicale: str) -> None:
        outcome = self.probe("authentication", radicale, "wrong-battery")
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "wrong-battery" not in str(outcome)

    def test_its_calendars_are_found(self, radicale: str) -> None:
        outcome = self.probe("functionality", radicale)
        assert outcome.outcome == Outcome.HEALTHY, outcome.message
        assert len(outcome.details["calendars"]) == 1
