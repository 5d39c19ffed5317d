"""Shopify: the Admin API of one shop."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from providers.answers import Answer, Complaint, Dialect, Meaning, Talk, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from wsmon.vocabulary import JSON

SHOP = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*")


class FunctionalityOptions(BaseModel):
    """``api_version`` such as ``2026-07``; by default the release before the newest."""

    model_config = ConfigDict(extra="forbid")

    api_version: str | None = Field(default=None, pattern=r"^\d{4}-(01|04|07|10)$")


def _complaint(data: JSON) -> Complaint | None:
    """REST says ``errors: "text"``; GraphQL ``errors: [{message, extensions: {code}}]``."""
    errors = dig(data, "errors")
    if isinstance(errors, str) and errors:
        return Complaint("", errors)
    message, code = dig(errors, 0, "message"), dig(errors, 0, "extensions", "code")
    if isinstance(message, str):
        return Complaint(code if isinstance(code, str) else "", message)
    return None


# The code tells, whatever the HTTP status: https://shopify.dev/docs/api/usage/limits
# https://shopify.dev/docs/api/admin-graphql#status_and_error_codes
SHOPIFY = Dialect(
    vendor="Shopify",
    complaint=_complaint,
    variables=(
        Variable("SHOPIFY_SHOP", "your-shop.myshopify.com", secret=False),
        Variable("SHOPIFY_ACCESS_TOKEN", "shpat_…"),
    ),
    bases={"SHOPIFY_API_BASE": "https://{SHOPIFY_SHOP}"},
    meanings={
        "THROTTLED": Meaning.LIMITED,
        "ACCESS_DENIED": Meaning.FORBIDDEN,
        "INTERNAL_SERVER_ERROR": Meaning.SERVER,
    },
    complains_in_200=True,
    headers={"X-Shopify-API-Version": "api_version", "X-Request-Id": "request_id"},
)
NEEDS = ("SHOPIFY_SHOP", "SHOPIFY_ACCESS_TOKEN")


# Releases are quarterly and each is kept for at least a year: https://shopify.dev/docs/api/usage/versioning
def version(now: datetime) -> str:
    """The release before the newest one: surely out, surely still supported."""
    quarter = now.year * 4 + (now.month - 1) // 3 - 1
    return f"{quarter // 4}-{quarter % 4 * 3 + 1:02d}"


def _admin(talk: Talk) -> str:
    shop = talk.value("SHOPIFY_SHOP")
    if shop and not SHOP.fullmatch(shop):
        raise talk.ours("SHOPIFY_SHOP must be a shop's domain, e.g. your-shop.myshopify.com")
    chosen = talk.options.api_version if isinstance(talk.options, FunctionalityOptions) else None
    return f"{talk.base('SHOPIFY_API_BASE')}/admin/api/{chosen or version(talk.context.now)}"


def _query(talk: Talk, query: str) -> Answer:
    _, token = talk.need(*NEEDS)
    answer = talk.ask(
        "POST",
        f"{_admin(talk)}/graphql.json",
        headers={"X-Shopify-Access-Token": token},
        json={"query": query},
    )
    throttle = answer.get("extensions", "cost", "throttleStatus")
    talk.details |= {
        key: value
        for key, value in {
            "rate_limit_limit": dig(throttle, "maximumAvailable"),
            "rate_limit_remaining": dig(throttle, "currentlyAvailable"),
            "rate_limit_restored_per_second": dig(throttle, "restoreRate"),
        }.items()
        if value is not None
    }
    return answer


@conversation(SHOPIFY)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The shop without a token: Shopify's own 401 proves that the shop's API answers."""
    talk.need("SHOPIFY_SHOP")
    return reachable(talk, "GET", f"{_admin(talk)}/shop.json")


# https://shopify.dev/docs/api/admin-graphql/latest/queries/shop
@conversation(SHOPIFY)
def authentication(talk: Talk) -> ProbeOutcome:
    """The shop's name and plan with the token."""
    answer = _query(talk, "{shop{name plan{publicDisplayName}}}")
    talk.must(isinstance(answer.get("data", "shop"), dict), "the shop")
    return talk.healthy(
        "the token works",
        shop=answer.get("data", "shop", "name"),
        plan=answer.get("data", "shop", "plan", "publicDisplayName"),
    )


# https://shopify.dev/docs/api/admin-graphql/latest/queries/webhookSubscriptions
@conversation(SHOPIFY)
def functionality(talk: Talk) -> ProbeOutcome:
    """Which webhooks the app has; Shopify deletes those that keep failing."""
    answer = _query(talk, "{webhookSubscriptions(first:20){nodes{topic}}}")
    talk.must(isinstance(answer.get("data", "webhookSubscriptions", "nodes"), list), "webhook subscriptions")
    topics = [row.get("topic") for row in answer.rows("data", "webhookSubscriptions", "nodes")]
    return talk.healthy(f"{len(topics)} webhook subscriptions", webhook_topics=topics)


PROVIDER = Provider(
    slug="shopify",
    label="Shopify",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        connectivity_needs=("SHOPIFY_SHOP",),
        needs=NEEDS,
        options=FunctionalityOptions,
    ),
    variables=SHOPIFY.variables,
    base_urls=SHOPIFY.bases,
    status_page=StatusPage(
        "https://www.shopifystatus.com/api/v2/summary.json",
        components=("Admin", "Checkout", "API & Mobile"),
    ),
    docs_url="https://shopify.dev/docs/api/admin-graphql",
)
