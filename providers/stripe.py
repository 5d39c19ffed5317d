"""Stripe: payments."""

from __future__ import annotations

from providers.answers import Dialect, Meaning, Talk, conversation, reachable, three, under_error
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import public_url
from wsmon.vocabulary import JSON

# Error bodies, types and statuses: https://docs.stripe.com/api/errors
# Rate limits (no headroom headers): https://docs.stripe.com/rate-limits
STRIPE = Dialect(
    vendor="Stripe",
    complaint=under_error,
    variables=(Variable("STRIPE_SECRET_KEY", "sk_live_…, sk_test_… or a restricted key rk_…"),),
    bases={"STRIPE_API_BASE": "https://api.stripe.com"},
    meanings={"rate_limit": Meaning.LIMITED},
    headers={"Request-Id": "request_id", "Stripe-Version": "api_version"},
)
MODES = {"sk_live_": "live", "rk_live_": "live", "sk_test_": "test", "rk_test_": "test"}


def _key(talk: Talk) -> dict[str, str]:
    (key,) = talk.need("STRIPE_SECRET_KEY")
    talk.details["key_mode"] = MODES.get(key[:8], "unknown")
    talk.details["key_type"] = "restricted" if key.startswith("rk_") else "secret"
    return {"Authorization": f"Bearer {key}"}


def _amounts(rows: list[dict[str, JSON]]) -> list[dict[str, JSON]]:
    """Balances; ``amount`` stays in the currency's smallest unit, as Stripe gives it."""
    return [{"amount": row.get("amount"), "currency": row.get("currency")} for row in rows]


@conversation(STRIPE)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The balance without a key: Stripe's own 401 proves that its API answers."""
    return reachable(talk, "GET", f"{talk.base('STRIPE_API_BASE')}/v1/balance")


# https://docs.stripe.com/api/balance/balance_retrieve
@conversation(STRIPE)
def authentication(talk: Talk) -> ProbeOutcome:
    """The balance with the key: shows the mode and the money."""
    answer = talk.ask("GET", f"{talk.base('STRIPE_API_BASE')}/v1/balance", headers=_key(talk))
    talk.must(answer.get("available") is not None, "a balance")
    livemode = answer.get("livemode")
    mode = "live mode" if livemode is True else "test mode" if livemode is False else "mode not told"
    return talk.healthy(
        f"the key works ({mode})",
        livemode=livemode,
        available=_amounts(answer.rows("available")),
        pending=_amounts(answer.rows("pending")),
    )


# https://docs.stripe.com/api/events/list (delivery_success: events are kept 30 days)
# https://docs.stripe.com/api/webhook_endpoints/list
@conversation(STRIPE)
def functionality(talk: Talk) -> ProbeOutcome:
    """Events can be read, which webhook endpoints are enabled, and whether deliveries fail."""
    base, headers = talk.base("STRIPE_API_BASE"), _key(talk)
    events = talk.ask("GET", f"{base}/v1/events?limit=1", headers=headers)
    talk.must(isinstance(events.get("data"), list), "a list of events")
    failed = talk.try_ask(
        "failed deliveries", "GET", f"{base}/v1/events?delivery_success=false&limit=20", headers=headers
    )
    hooks = talk.try_ask("webhook endpoints", "GET", f"{base}/v1/webhook_endpoints?limit=20", headers=headers)
    endpoints = hooks.rows("data") if hooks else []
    undelivered = len(failed.rows("data")) if failed else None
    if undelivered:
        talk.warn("some events could not be delivered to a webhook endpoint")
    for each in endpoints:
        if each.get("status") == "disabled":
            talk.warn(f"webhook endpoint disabled: {public_url(each.get('url'))}")
    return talk.healthy(
        "events can be read",
        livemode=events.get("data", 0, "livemode"),
        latest_event=events.get("data", 0, "type"),
        undelivered_events=undelivered,
        webhook_endpoints=[
            {"url": public_url(each.get("url")), "status": each.get("status"), "api_version": each.get("api_version")}
            for each in endpoints
        ],
    )


PROVIDER = Provider(
    slug="stripe",
    label="Stripe",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("STRIPE_SECRET_KEY",),
    ),
    variables=STRIPE.variables,
    base_urls=STRIPE.bases,
    status_page=StatusPage(
        "https://www.stripestatus.com/api/v2/summary.json",
        components=("Stripe API", "Global payments", "Stripe core components"),
        page_id="d5zv7xbys5v3",
    ),
    docs_url="https://docs.stripe.com/api",
)
