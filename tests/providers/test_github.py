"""GitHub."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from providers.github import FunctionalityOptions
from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

HEADERS = {
    "x-ratelimit-limit": "5000",
    "x-ratelimit-remaining": "4988",
    "x-ratelimit-reset": "1795262460",
    "x-oauth-scopes": "repo, read:org",
    "x-github-request-id": "A:B:C",
}


class TestGitHub(VendorContract):
    slug = "github"
    variables = {"GITHUB_TOKEN": planted("ghp_")}
    routes = [
        ("GET", r"/rate_limit$", Reply(200, "rate_limit", HEADERS)),
        ("GET", r"/user$", Reply(200, "user", HEADERS)),
        ("GET", r"/user/repos\?per_page=1$", Reply(200, "repos", HEADERS)),
        ("GET", r"/repos/weddings/app$", Reply(200, "repo", HEADERS)),
        ("GET", r"/repos/weddings/app/hooks/7/deliveries\?", Reply(200, "deliveries", HEADERS)),
    ]
    anonymous = Reply(200, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(403, "limited")
    missing = {"authentication": ("GITHUB_TOKEN",), "functionality": ("GITHUB_TOKEN",)}

    def test_json_of_another_shape_is_no_proof_that_a_credential_works(self) -> None:
        """An empty list is a good answer for a token that sees no repository."""
        for body in ({}, {"hello": "world"}):
            for kind in self.speaking_kinds:
                outcome = self.probe(kind, self.world(Reply(200, body)))
                assert outcome.category == Category.VALIDATION_ERROR, (kind, body, outcome)

    def test_it_shows_the_headroom_the_scopes_and_the_login(self) -> None:
        details = self.probe("authentication", self.healthy_world()).details
        assert (details["rate_limit_limit"], details["rate_limit_remaining"]) == (5000, 4988)
        assert details["rate_limit_reset"] == "2026-11-21T12:01:00+00:00"
        assert details["scopes"] == "repo, read:org"
        assert details["login"] == "weddings-bot"

    def test_an_installation_token_has_no_user(self) -> None:
        world = World("github", [("GET", r"/user$", Reply(403, "forbidden")), *self.routes])
        outcome = self.probe("authentication", world)
        assert outcome.outcome == Outcome.HEALTHY
        assert outcome.details["not_readable"] == ["user"]

    def test_it_counts_failed_webhook_deliveries(self) -> None:
        outcome = self.probe("functionality", self.healthy_world(), repo="weddings/app", hook_id=7)
        assert outcome.details["webhook_deliveries"] == 2
        assert outcome.details["webhook_deliveries_failed"] == 1
        assert outcome.details["warnings"] == ["1 of the last 2 webhook deliveries failed"]
        assert outcome.details["visibility"] == "private"

    def test_a_repository_that_cannot_be_seen_is_our_mistake(self) -> None:
        outcome = self.probe("functionality", self.world(Reply(404, "not_found")), repo="weddings/app")
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CLIENT_ERROR)

    @pytest.mark.parametrize("headers", [{"x-ratelimit-remaining": "0"}, {"retry-after": "60"}])
    def test_a_spent_limit_may_come_as_403(self, headers: dict[str, str]) -> None:
        outcome = self.probe("authentication", self.world(Reply(403, "limited", headers)))
        assert outcome.category == Category.RATE_LIMITED

    @pytest.mark.parametrize(
        "options", [{"repo": "weddings"}, {"repo": "a/../b"}, {"hook_id": 1}, {"repo": "a/b", "hook": 1}]
    )
    def test_bad_options_are_refused(self, options: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            FunctionalityOptions.model_validate(options)
