"""Shopify."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from providers.shopify import version
from tests.providers.contract import Reply, VendorContract, planted
from wsmon.vocabulary import Category, Outcome

SHOP = {"SHOPIFY_SHOP": "weddings.myshopify.com"}
GRAPHQL = r"^https://weddings\.myshopify\.com/admin/api/2026-07/graphql\.json$"
ANSWERED = {"X-Shopify-API-Version": "2026-07"}


class TestShopify(VendorContract):
    slug = "shopify"
    variables = SHOP | {"SHOPIFY_ACCESS_TOKEN": planted("shpat_")}
    connectivity_variables = SHOP
    routes = [
        (
            "POST",
            GRAPHQL,
            Reply(
                200,
                {
                    "data": {
                        "shop": {"name": "Weddings Shop", "plan": {"publicDisplayName": "Advanced"}},
                        "webhookSubscriptions": {"nodes": [{"topic": "ORDERS_CREATE"}]},
                    },
                    "extensions": {
                        "cost": {
                            "throttleStatus": {
                                "maximumAvailable": 4000.0,
                                "currentlyAvailable": 3999,
                                "restoreRate": 200.0,
                            }
                        }
                    },
                },
                ANSWERED,
            ),
        ),
        ("GET", r"/shop\.json$", Reply(401, "anonymous")),
    ]
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(200, "forbidden")
    limited = Reply(429, "limited")
    missing = {
        "connectivity": ("SHOPIFY_SHOP",),
        "authentication": ("SHOPIFY_SHOP", "SHOPIFY_ACCESS_TOKEN"),
        "functionality": ("SHOPIFY_SHOP", "SHOPIFY_ACCESS_TOKEN"),
    }

    def test_it_shows_the_shop_and_the_headroom(self) -> None:
        details = self.probe("authentication", self.world(Reply(200, "shop", ANSWERED))).details
        assert (details["shop"], details["plan"]) == ("Weddings Shop", "Advanced")
        assert (details["rate_limit_limit"], details["rate_limit_remaining"]) == (4000.0, 3999)
        assert details["api_version"] == "2026-07"

    def test_it_shows_the_webhooks(self) -> None:
        outcome = self.probe("functionality", self.world(Reply(200, "webhooks")))
        assert outcome.details["webhook_topics"] == ["ORDERS_CREATE", "APP_UNINSTALLED"]

    @pytest.mark.parametrize("status", [200, 429])
    def test_throttled_is_told_by_its_code_whatever_the_status(self, status: int) -> None:
        outcome = self.probe("authentication", self.world(Reply(status, "limited")))
        assert (outcome.outcome, outcome.category) == (Outcome.DEGRADED, Category.RATE_LIMITED)

    def test_a_version_can_be_chosen(self) -> None:
        world = self.world(Reply(200, "webhooks"))
        self.probe("functionality", world, api_version="2026-04")
        assert "/admin/api/2026-04/" in (world.asked[0].url or "")

    @pytest.mark.parametrize("shop", ["evil.com/x", "a@evil.com", "a b", "a:443", "-a"])
    def test_a_shop_that_is_no_domain_is_our_mistake(self, shop: str) -> None:
        outcome = self.probe("connectivity", self.healthy_world(), {"SHOPIFY_SHOP": shop})
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)


@pytest.mark.parametrize(
    ("day", "expected"),
    [((2026, 11, 21), "2026-07"), ((2027, 1, 1), "2026-10"), ((2026, 3, 31), "2025-10"), ((2026, 4, 1), "2026-01")],
)
def test_the_version_is_the_release_before_the_newest(day: tuple[int, int, int], expected: str) -> None:
    assert version(datetime(*day, tzinfo=UTC)) == expected
