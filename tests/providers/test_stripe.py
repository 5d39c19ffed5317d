"""Stripe."""

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
from tests.providers.contract import NOW, Reply, VendorContract, World, planted
from tests.whole import free_port
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome

KEY = {"STRIPE_SECRET_KEY": planted("sk_test_")}


class TestStripe(VendorContract):
    slug = "stripe"
    variables = KEY
    routes = [
        ("GET", r"/v1/balance$", Reply(200, "balance", {"Request-Id": "req_1", "Stripe-Version": "2026-09-30"})),
        ("GET", r"/v1/events\?limit=1$", Reply(200, "events")),
        ("GET", r"/v1/events\?delivery_success=false", Reply(200, "events_undelivered")),
        ("GET", r"/v1/webhook_endpoints", Reply(200, "webhook_endpoints")),
    ]
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(429, "limited")
    missing = {"authentication": ("STRIPE_SECRET_KEY",), "functionality": ("STRIPE_SECRET_KEY",)}

    def test_it_shows_the_mode_and_the_balance(self) -> None:
        outcome = self.probe("authentication", self.healthy_world())
        assert outcome.details["livemode"] is False
        assert outcome.details["key_mode"] == "test"
        assert outcome.details["available"] == [{"amount": 125000, "currency": "eur"}]
        assert outcome.details["request_id"] == "req_1"
        assert outcome.details["api_version"] == "2026-09-30"
        assert "test mode" in outcome.message

    def test_it_shows_webhook_endpoints_without_the_tokens_in_their_urls(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert [each["status"] for each in outcome.details["webhook_endpoints"]] == ["enabled", "disabled"]
        assert outcome.details["webhook_endpoints"][1]["url"] == "https://old.example.com/hooks/…"
        assert outcome.details["warnings"] == [
            "some events could not be delivered to a webhook endpoint",
            "webhook endpoint disabled: https://old.example.com/hooks/…",
        ]
        assert outcome.details["undelivered_events"] == 1

    def test_a_restricted_key_that_may_not_list_endpoints_still_works(self) -> None:
        routes = [("GET", r"/v1/webhook_endpoints", Reply(403, "forbidden")), *self.routes]
        outcome = self.probe("functionality", World("stripe", routes))
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.http_status == 200
        assert outcome.details["not_readable"] == ["webhook endpoints"]

    def test_an_outage_half_way_is_not_overlooked(self) -> None:
        routes = [("GET", r"/v1/webhook_endpoints", Reply(503, b"")), *self.routes]
        outcome = self.probe("functionality", World("stripe", routes))
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.SERVER_ERROR)

    def test_the_base_url_can_be_overridden(self) -> None:
        world = self.healthy_world()
        self.probe("authentication", world, KEY | {"STRIPE_API_BASE": "http://127.0.0.1:12111/stripe/"})
        assert [request.url for request in world.asked] == ["http://127.0.0.1:12111/stripe/v1/balance"]


@pytest.fixture(scope="module")
def localstripe() -> Iterator[str]:
    """localstripe, a stand-in for Stripe that others wrote, as a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "localstripe", "--port", str(port), "--from-scratch"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                requests.get(url, timeout=1)
                break
            except requests.ConnectionError:
                assert process.poll() is None, "localstripe ended at once"
                time.sleep(0.05)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


class TestLocalstripe:
    """Over real sockets. localstripe differs from Stripe: its balance has no ``object`` and names one
    amount instead of a list, its errors have no code, it refuses ``delivery_success``, and a resource it
    does not know (webhook endpoints) is a plain-text 404.
    """

    def probe(self, kind: str, url: str, key: str = "sk_test_12345") -> ProbeOutcome:
        context = ProbeContext(
            http=Client(["127.0.0.0/8"]),
            timeout=10,
            now=NOW,
            variables={"STRIPE_API_BASE": url, "STRIPE_SECRET_KEY": key},
        )
        return run(providers.get("stripe"), kind, context)

    def test_it_is_reachable_without_a_key(self, localstripe: str) -> None:
        outcome = self.probe("connectivity", localstripe)
        assert (outcome.outcome, outcome.http_status) == (Outcome.HEALTHY, 401)
        assert outcome.message == "401 with Stripe's error shape: reachable"
        assert outcome.timings.total_ms

    def test_a_key_of_the_right_form_works(self, localstripe: str) -> None:
        outcome = self.probe("authentication", localstripe)
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.details["livemode"] is False

    def test_events_can_be_read(self, localstripe: str) -> None:
        outcome = self.probe("functionality", localstripe)
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.details["not_readable"] == ["failed deliveries", "webhook endpoints"]

    def test_a_wrong_key_is_our_error(self, localstripe: str) -> None:
        outcome = self.probe("authentication", localstripe, "no-such-key")
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)

    def test_nothing_listening_is_a_network_error(self) -> None:
        outcome = self.probe("authentication", f"http://127.0.0.1:{free_port()}")
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.NETWORK_ERROR)

    def test_loopback_is_refused_unless_allowed(self, localstripe: str) -> None:
        variables = {"STRIPE_API_BASE": localstripe}
        context = ProbeContext(http=Client(), timeout=5, now=NOW, variables=variables)
        outcome = run(providers.get("stripe"), "connectivity", context)
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
