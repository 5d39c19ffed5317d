"""Supabase Auth."""

from __future__ import annotations

from tests.providers.contract import Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

URL = {"SUPABASE_URL": "https://weddings.supabase.co/"}


class TestSupabaseAuth(VendorContract):
    slug = "supabase_auth"
    variables = URL | {"SUPABASE_SERVICE_ROLE_KEY": planted("sb_secret_")}
    connectivity_variables = URL
    routes = [
        (
            "GET",
            r"^https://weddings\.supabase\.co/auth/v1/admin/users\?",
            Reply(200, "users", {"x-total-count": "412"}),
        ),
        ("GET", r"/auth/v1/settings$", Reply(200, "settings")),
        ("GET", r"/auth/v1/health$", Reply(200, "health")),
    ]
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(429, "limited")
    missing = {
        "connectivity": ("SUPABASE_URL",),
        "authentication": ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"),
        "functionality": ("SUPABASE_URL", "SUPABASE_ANON_KEY"),
    }

    def test_it_shows_the_settings(self) -> None:
        outcome = self.probe("functionality", self.healthy_world())
        assert outcome.message == "sign-in by email, google"
        assert outcome.details["version"] == "v2.182.1"
        assert outcome.details["disable_signup"] is False
        assert outcome.details["sms_provider"] == "twilio"

    def test_it_counts_users_and_keeps_none(self) -> None:
        outcome = self.probe("authentication", self.healthy_world())
        assert outcome.details["users"] == 412
        assert "bride" not in str(outcome)

    def test_the_key_goes_to_the_gateway_and_to_the_service(self) -> None:
        world = self.healthy_world()
        self.probe("authentication", world)
        key = self.variables["SUPABASE_SERVICE_ROLE_KEY"]
        assert world.asked[0].headers["apikey"] == key
        assert world.asked[0].headers["Authorization"] == f"Bearer {key}"

    def test_the_anon_key_is_enough_for_the_settings(self) -> None:
        world = self.healthy_world()
        self.probe("functionality", world, URL | {"SUPABASE_ANON_KEY": "anon", "SUPABASE_SERVICE_ROLE_KEY": "s"})
        assert {request.headers["apikey"] for request in world.asked} == {"anon"}

    def test_a_url_that_is_none_is_our_mistake(self) -> None:
        outcome = self.probe("connectivity", World(self.slug, []), {"SUPABASE_URL": "weddings"})
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
