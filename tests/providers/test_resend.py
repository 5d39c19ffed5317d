"""Resend."""

from __future__ import annotations

from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

HEADERS = {"ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-reset": "1"}


class TestResend(VendorContract):
    slug = "resend"
    variables = {"RESEND_API_KEY": planted("re_")}
    routes = [
        ("GET", r"/domains$", Reply(200, "domains", HEADERS)),
        ("GET", r"/webhooks$", Reply(200, "webhooks", HEADERS)),
    ]
    anonymous = Reply(401, "anonymous")
    refused = Reply(403, "refused")
    forbidden = Reply(401, "forbidden")
    limited = Reply(429, "limited")
    missing = {"authentication": ("RESEND_API_KEY",), "functionality": ("RESEND_API_KEY",)}

    def test_it_shows_its_domains_and_the_headroom(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert outcome.message == "1 of 2 domains verified"
        assert outcome.details["domains"] == [
            {"name": "example.com", "status": "verified"},
            {"name": "mail.example.com", "status": "pending"},
        ]
        assert outcome.details["warnings"] == ["domain mail.example.com is pending"]
        assert outcome.details["rate_limit_remaining"] == 1
        assert outcome.details["rate_limit_reset"] == "2026-11-21T12:00:01+00:00"
        assert outcome.details["webhooks"][0]["status"] == "enabled"

    def test_a_key_that_may_only_send_is_accepted(self) -> None:
        outcome = self.probe("authentication", self.world(self.forbidden))
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.details["scope"] == "sending_access"

    def test_an_invalid_key_may_also_be_400(self) -> None:
        outcome = self.probe("authentication", self.world(Reply(400, "refused")))
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)

    def test_a_spent_quota_is_a_rate_limit(self) -> None:
        outcome = self.probe("authentication", self.world(Reply(429, "quota")))
        assert outcome.category == Category.RATE_LIMITED
        assert "daily_quota_exceeded" in outcome.message

    def test_its_own_failure_is_a_server_error(self) -> None:
        outcome = self.probe("connectivity", self.world(Reply(500, "application_error")))
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.SERVER_ERROR)

    def test_every_call_names_a_user_agent(self) -> None:
        world = self.healthy_world()
        self.probe("functionality", world)
        assert all(request.headers["User-Agent"].startswith("wsmon/") for request in world.asked)

    def test_a_key_without_access_to_webhooks_still_shows_the_domains(self) -> None:
        world = World("resend", [self.routes[0], ("GET", "/webhooks$", Reply(403, "refused"))])
        assert self.probe("functionality", world).details["not_readable"] == ["webhooks"]
