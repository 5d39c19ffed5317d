"""Twilio."""

from __future__ import annotations

import pytest

from providers.base import NotConfigured
from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

SID = "AC00000000000000000000000000000001"


class TestTwilio(VendorContract):
    slug = "twilio"
    variables = {
        "TWILIO_ACCOUNT_SID": SID,
        "TWILIO_AUTH_TOKEN": planted(),
        "TWILIO_MESSAGING_SERVICE_SID": "MG1",
    }
    routes = [
        ("GET", rf"/2010-04-01/Accounts/{SID}\.json$", Reply(200, "account", {"Twilio-Request-Id": "RQ1"})),
        ("GET", rf"/Accounts/{SID}/Messages\.json\?PageSize=1$", Reply(200, "messages")),
        ("GET", rf"/Accounts/{SID}/Balance\.json$", Reply(200, "balance")),
        ("GET", r"^https://messaging\.twilio\.com/v1/Services/MG1$", Reply(200, "messaging_service")),
        ("GET", r"/2010-04-01/Accounts\.json$", Reply(401, "anonymous")),
    ]
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(429, "limited")
    missing = {
        "authentication": ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
        "functionality": ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
    }

    def test_it_shows_the_account(self) -> None:
        outcome = self.probe("authentication", self.healthy_world())
        assert outcome.details["account"] == "Weddings Ltd"
        assert outcome.details["state"] == "active"
        assert outcome.details["type"] == "Full"
        assert outcome.details["request_id"] == "RQ1"

    def test_it_shows_the_balance_but_no_message(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert (outcome.details["balance"], outcome.details["currency"]) == ("42.17", "EUR")
        assert outcome.details["last_message_status"] == "delivered"
        assert outcome.details["messaging_service"] == "Guests"
        assert "Saturday" not in str(outcome.details)
        assert "+1555" not in str(outcome.details)

    def test_a_suspended_account_is_our_trouble(self) -> None:
        account = {"sid": SID, "friendly_name": "Weddings Ltd", "status": "suspended", "type": "Full"}
        outcome = self.probe("authentication", World("twilio", [("GET", ".*", Reply(200, account))]))
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "suspended" in outcome.message

    def test_a_subaccount_has_no_balance(self) -> None:
        routes = [("GET", "/Balance", Reply(404, {"code": 20404, "message": "not found"})), *self.routes]
        outcome = self.probe("functionality", World("twilio", routes))
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.details["not_readable"] == ["balance"]

    def test_an_api_key_does_instead_of_the_auth_token(self) -> None:
        world = self.healthy_world()
        variables = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": planted()}
        outcome = self.probe("authentication", world, variables)
        assert outcome.details["credential"] == "api_key"
        assert world.asked[0].headers["Authorization"] == "Basic U0sxOnBsYW50ZWQtU2VjcmV0KzAxMjM0NTY3ODkveHl6"

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({}, ("TWILIO_AUTH_TOKEN",)),
            ({"TWILIO_API_KEY": "SK1"}, ("TWILIO_API_SECRET",)),
        ],
    )
    def test_half_a_credential_names_the_other_half(self, given: dict[str, str], named: tuple[str, ...]) -> None:
        with pytest.raises(NotConfigured) as caught:
            self.probe("authentication", self.healthy_world(), {"TWILIO_ACCOUNT_SID": SID} | given)
        assert caught.value.variables == named

    def test_an_account_sid_cannot_leave_its_place_in_the_url(self) -> None:
        world = World("twilio", [("GET", ".*", Reply(200, "account"))])
        self.probe("authentication", world, self.variables | {"TWILIO_ACCOUNT_SID": "../../x?y"})
        assert (world.asked[0].url or "").endswith("/Accounts/..%2F..%2Fx%3Fy.json")
