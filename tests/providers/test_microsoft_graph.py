"""Microsoft Graph."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import parse_qs

from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

TOKEN_URL = r"https://login\.microsoftonline\.com/tenant/oauth2/v2\.0/token$"
NEEDS = ("MS_TENANT_ID", "MS_CLIENT_ID", "MS_CLIENT_SECRET")


class TestMicrosoftGraph(VendorContract):
    slug = "microsoft_graph"
    variables = {"MS_TENANT_ID": "tenant", "MS_CLIENT_ID": "client", "MS_CLIENT_SECRET": planted()}
    routes = [
        ("POST", TOKEN_URL, Reply(200, "token")),
        ("GET", r"/v1\.0/subscriptions$", Reply(200, "subscriptions", {"request-id": "r9"})),
        ("GET", r"/v1\.0/users/[^/]+/calendar\?", Reply(200, "calendar")),
        ("GET", r"/v1\.0/me$", Reply(401, "anonymous")),
    ]
    always = "/token"
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(429, "limited")
    missing = {"authentication": NEEDS, "functionality": NEEDS}
    tokens_of_others: ClassVar[tuple[str, ...]] = ("eyJ0.planted-access-token-0002.x",)

    def test_it_shows_subscriptions_and_the_next_to_expire(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert outcome.details["subscriptions"] == 2
        assert outcome.details["next_subscription_expiry"] == "2026-11-24T10:00:00Z"
        assert outcome.details["request_id"] == "r9"
        assert "calendar" not in outcome.details

    def test_it_reads_a_user_s_calendar_if_one_is_named(self) -> None:
        world = self.healthy_world()
        outcome = self.probe("functionality", world, user="planner@example.com")
        assert outcome.details["calendar"] == "Calendar"
        assert "/users/planner@example.com/calendar?" in (world.asked[-1].url or "")

    def test_it_asks_for_a_token_of_its_own(self) -> None:
        world = self.healthy_world()
        self.probe("authentication", world)
        form = parse_qs((world.asked[0].body or b"").decode())  # type: ignore[union-attr]
        assert form["grant_type"] == ["client_credentials"]
        assert form["client_id"] == ["client"]
        assert world.asked[1].headers["Authorization"] == "Bearer eyJ0.planted-access-token-0002.x"

    def test_an_expired_client_secret_says_what_to_do(self) -> None:
        world = World("microsoft_graph", [("POST", TOKEN_URL, Reply(401, "invalid_client"))])
        outcome = self.probe("authentication", world)
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "secret keys are expired" in outcome.message
        assert "whether the client secret has expired" in outcome.message
        assert "Trace ID" not in outcome.message

    def test_a_refused_token_is_thrown_away(self) -> None:
        self.probe("authentication", self.world(self.refused))
        world = self.healthy_world()
        self.probe("authentication", world)
        assert [request.method for request in world.asked] == ["POST", "GET"]
