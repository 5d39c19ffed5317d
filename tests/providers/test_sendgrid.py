"""SendGrid."""

from __future__ import annotations

import json

from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Outcome

HEADERS = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "599", "X-RateLimit-Reset": "1795262460"}


class TestSendGrid(VendorContract):
    slug = "sendgrid"
    variables = {"SENDGRID_API_KEY": planted("SG.")}
    routes = [
        ("GET", r"/v3/scopes$", Reply(200, "scopes", HEADERS)),
        ("GET", r"/v3/user/account$", Reply(200, "account", HEADERS)),
        ("GET", r"/v3/user/credits$", Reply(200, "credits")),
        ("GET", r"/v3/user/webhooks/event/settings/all$", Reply(200, "webhooks")),
        ("POST", r"/v3/mail/send$", Reply(200, b"")),
    ]
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(429, "limited")
    missing = {"authentication": ("SENDGRID_API_KEY",), "functionality": ("SENDGRID_API_KEY",)}

    def test_it_says_whether_the_key_may_send(self) -> None:
        outcome = self.probe("authentication", self.healthy_world())
        assert outcome.details["may_send"] is True
        assert outcome.details["rate_limit_remaining"] == 599
        assert outcome.details["rate_limit_reset"] == "2026-11-21T12:01:00+00:00"
        without = World("sendgrid", [("GET", ".*", Reply(200, {"scopes": ["stats.read"]}))])
        outcome = self.probe("authentication", without)
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.details["warnings"] == ["the key lacks the scope mail.send"]

    def test_it_shows_credits_and_webhooks(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert outcome.details["credits_remaining"] == 48200
        assert outcome.details["webhooks"] == [
            {"url": "https://app.example.com/api/webhooks/sendgrid", "enabled": True}
        ]

    def test_nothing_is_posted_unless_asked_for(self) -> None:
        world = self.healthy_world()
        self.probe("functionality", world)
        assert {request.method for request in world.asked} == {"GET"}

    def test_a_mail_only_ever_goes_to_the_sandbox(self) -> None:
        world = self.healthy_world()
        outcome = self.probe("functionality", world, sandbox_from="probe@example.com")
        assert outcome.message == "a mail was validated in sandbox mode"
        (sent,) = [request for request in world.asked if request.method == "POST"]
        assert json.loads(sent.body or "")["mail_settings"] == {"sandbox_mode": {"enable": True}}

    def test_a_mail_that_was_sent_after_all_is_told(self) -> None:
        world = World("sendgrid", [("POST", ".*", Reply(202, b"")), *self.routes])
        outcome = self.probe("functionality", world, sandbox_from="probe@example.com")
        assert "sandbox mode was ignored" in outcome.details["warnings"][0]

    def test_a_refused_mail_is_our_error(self) -> None:
        refusal = {"errors": [{"message": "The from address does not match a verified Sender Identity"}]}
        world = World("sendgrid", [("POST", ".*", Reply(400, refusal)), *self.routes])
        outcome = self.probe("functionality", world, sandbox_from="probe@example.com")
        assert outcome.outcome == Outcome.ERROR
        assert "verified Sender Identity" in outcome.message
