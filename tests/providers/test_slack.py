"""Slack."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

SCOPES = {"x-oauth-scopes": "chat:write,channels:read"}


class TestSlack(VendorContract):
    slug = "slack"
    variables = {"SLACK_BOT_TOKEN": planted("xoxb-")}
    routes = [
        ("POST", r"/api/auth\.test$", Reply(200, "auth_test", SCOPES)),
        ("GET", r"/api/conversations\.list\?limit=1$", Reply(200, "channels", SCOPES)),
        ("GET", r"/api/conversations\.info\?channel=C0123ABC$", Reply(200, "channel", SCOPES)),
        ("POST", r"/api/api\.test$", Reply(200, "anonymous")),
    ]
    anonymous = Reply(200, "anonymous")
    refused = Reply(200, "refused")
    forbidden = Reply(200, "forbidden")
    limited = Reply(429, "limited")
    missing = {"authentication": ("SLACK_BOT_TOKEN",), "functionality": ("SLACK_BOT_TOKEN",)}

    def test_it_shows_the_team_and_the_scopes(self) -> None:
        details = self.probe("authentication", self.healthy_world()).details
        assert (details["team"], details["user"], details["bot_id"]) == ("Weddings", "wsmon", "B1")
        assert details["scopes"] == "chat:write,channels:read"

    @pytest.mark.parametrize("error", ["token_revoked", "account_inactive", "not_authed", "token_expired"])
    def test_ok_false_is_a_refusal_although_the_status_is_200(self, error: str) -> None:
        outcome = self.probe("authentication", self.world(Reply(200, {"ok": False, "error": error})))
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert error in outcome.message

    def test_its_own_failure_is_a_server_error_although_the_status_is_200(self) -> None:
        for kind, outcome in self.every(Reply(200, "internal_error")):
            assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.SERVER_ERROR), kind

    def test_a_channel_can_be_looked_up(self) -> None:
        outcome = self.probe("functionality", self.healthy_world(), channel="C0123ABC")
        assert outcome.details["channel"] == "ops"

    def test_a_channel_that_is_gone_is_our_mistake(self) -> None:
        missing = Reply(200, {"ok": False, "error": "channel_not_found"})
        outcome = self.probe("functionality", self.world(missing), channel="C0123ABC")
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CLIENT_ERROR)

    def test_a_bot_that_may_only_post_works(self) -> None:
        reply = replace(self.forbidden, headers={"x-oauth-scopes": "chat:write"})
        outcome = self.probe("functionality", World("slack", [("GET", ".*", reply)]))
        assert outcome.outcome == Outcome.HEALTHY
