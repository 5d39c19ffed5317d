"""WhatsApp Business."""

from __future__ import annotations

import pytest

from tests.providers.contract import Reply, VendorContract, planted
from wsmon.vocabulary import Category, Outcome

NUMBER = "106540352242922"
NEEDS = ("WHATSAPP_TOKEN", "WHATSAPP_PHONE_NUMBER_ID")


class TestWhatsApp(VendorContract):
    slug = "whatsapp"
    variables = {"WHATSAPP_TOKEN": planted("EAA"), "WHATSAPP_PHONE_NUMBER_ID": NUMBER}
    routes = [
        ("GET", rf"/v\d+\.\d/{NUMBER}\?fields=", Reply(200, "number", {"facebook-api-version": "v26.0"})),
        ("GET", rf"/{NUMBER}$", Reply(400, "anonymous")),
    ]
    anonymous = Reply(400, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(400, "limited")
    missing = {"authentication": NEEDS, "functionality": NEEDS}

    def test_it_shows_quality_and_limits(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert outcome.details["quality_rating"] == "YELLOW"
        assert outcome.details["messaging_limit"] == "TIER_10K"
        assert outcome.details["throughput"] == "STANDARD"
        assert outcome.details["warnings"] == ["the quality rating is YELLOW"]
        assert outcome.details["api_version"] == "v26.0"

    @pytest.mark.parametrize("status", [400, 401])
    def test_code_190_is_a_refused_token_whatever_the_status(self, status: int) -> None:
        outcome = self.probe("authentication", self.world(Reply(status, "refused")))
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "refused the credential" in outcome.message

    @pytest.mark.parametrize("code", [10, 200, 299, 131005])
    def test_a_permission_code_may_come_as_400(self, code: int) -> None:
        error = {"error": {"message": "no", "type": "OAuthException", "code": code}}
        outcome = self.probe("authentication", self.world(Reply(400, error)))
        assert "lacks a permission" in outcome.message

    def test_its_own_trouble_may_come_as_400(self) -> None:
        error = {"error": {"message": "Service temporarily unavailable", "type": "OAuthException", "code": 2}}
        outcome = self.probe("connectivity", self.world(Reply(400, error)))
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.SERVER_ERROR)

    def test_it_can_be_reached_without_a_number(self) -> None:
        world = self.world(self.anonymous)
        assert self.probe("connectivity", world, {}).outcome == Outcome.HEALTHY
        assert (world.asked[0].url or "").endswith("/me")
