"""Shopify: the Admin API of one shop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from providers import payloads, signing
from providers.answers import Answer, Complaint, Dialect, Meaning, Talk, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, Scheme, Verified
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


# https://shopify.dev/docs/apps/build/webhooks/subscribe/https (X-Shopify-...) and, for Events, the same
# headers without X-. Only the body is signed: topic, shop and ids are as good as the secret, no better.
OLD, NEW = "x-shopify-", "shopify-"
SIGNATURES = {prefix: signing.OverBody(f"{prefix}hmac-sha256", "base64") for prefix in (OLD, NEW)}


def _prefix(inbound: Inbound) -> str:
    return NEW if f"{NEW}hmac-sha256" in inbound.headers and f"{OLD}hmac-sha256" not in inbound.headers else OLD


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """HMAC-SHA256 of the body with the app's client secret, in base64."""
    return SIGNATURES[_prefix(inbound)].verify(inbound, secrets)


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event: the topic is its type, the delivery's id its key (the same over retries)."""
    body, prefix = payloads.read_object(inbound.body), _prefix(inbound)

    def header(name: str) -> str:
        return inbound.headers.get(prefix + name, "")

    subject = header("resource-id") or dig(body, "admin_graphql_api_id") or dig(body, "id")
    return [
        Found(
            key=payloads.event_key(inbound.body, header("webhook-id") or header("event-id")),
            type=payloads.event_type(header("topic")),
            occurred_at=payloads.from_iso(header("triggered-at")),
            subject=payloads.text(subject),
        )
    ]


HOOKS = Scheme(
    verify=verify,
    read=read,
    secrets=("SHOPIFY_API_SECRET",),
    signed_headers=tuple(each.header for each in SIGNATURES.values()),
    hint="Webhooks made by hand in the shop's Notifications have a secret of their own, shown there.",
    secret_problem=signing.plain_problem,
)

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
    hooks=HOOKS,
)
