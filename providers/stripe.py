"""Stripe: payments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from providers import payloads, signing
from providers.answers import Dialect, Meaning, Talk, conversation, reachable, three, under_error
from providers.base import NotConfigured, ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig, public_url
from providers.hooks import Found, Inbound, Refused, Scheme, Unlisted, Verified, nothing_known
from wsmon.http import Client, HttpError
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


# Signatures: https://docs.stripe.com/webhooks/signature. The secret is used as text, whsec_ included.
# Their libraries look at the age only; a time in the future is refused here. Every automatic retry is
# signed anew, so the window never costs one.
SIGNATURE = "stripe-signature"
_ITEM = re.compile(r"[a-z0-9]+=[^\s,=]*", re.ASCII)


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """HMAC-SHA256 over ``t.body``; ``v1`` entries only, several while a secret is being rolled."""
    items = signing.header(inbound, SIGNATURE).split(",")
    if not all(map(_ITEM.fullmatch, items)):
        raise Refused("signature_malformed", "Stripe-Signature is not t=...,v1=...")
    pairs = [item.split("=") for item in items]
    times = [value for name, value in pairs if name == "t"]
    sent = [digest for name, value in pairs if name == "v1" and (digest := signing.from_hex(value))]
    if len(times) != 1 or not sent:
        raise Refused("signature_malformed", "Stripe-Signature is not t=...,v1=...")
    signed_at = signing.unix_time(times[0])
    signing.check_window(signed_at, inbound)
    signed = times[0].encode() + b"." + inbound.body

    def fits(secret: str) -> bool:
        digest = signing.sign(secret, signed)
        return any(signing.equal(digest, each) for each in sent)

    return Verified("Stripe-Signature v1, HMAC-SHA256", signing.fitting(secrets, fits), float(signed_at))


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event, snapshot or thin."""
    return [_found(payloads.read_object(inbound.body), inbound.body)]


# Snapshot events: https://docs.stripe.com/api/events/object
# Thin events (created in ISO 8601, no data.object): https://docs.stripe.com/api/v2/core/events/object
def _found(event: Mapping[str, JSON], body: bytes) -> Found:
    created = event.get("created")
    subject = dig(event, "data", "object", "id") or dig(event, "related_object", "id")
    return Found(
        key=payloads.event_key(body, event.get("id")),
        type=payloads.event_type(event.get("type")),
        occurred_at=payloads.from_iso(created) if isinstance(created, str) else payloads.from_unix(created),
        subject=payloads.text(subject),
    )


def secret_problem(secret: str) -> str | None:
    """An endpoint's signing secret, not an API key."""
    if secret.startswith(("sk_", "rk_", "pk_")):
        return "is an API key; the endpoint's signing secret begins with whsec_"
    return signing.plain_problem(secret) or (None if secret.startswith("whsec_") else "does not begin with whsec_")


PAGES = 20


# https://docs.stripe.com/api/events/list (newest first, kept for 30 days)
def missed(
    http: Client,
    variables: Mapping[str, str],
    _options: Any,
    since: datetime,
    timeout: float,
    known: Callable[[str], bool] = nothing_known,
) -> Iterator[tuple[Found, dict[str, str], bytes]]:
    """The account's own events, at most 2,000 of them. See :class:`providers.hooks.Missed`.

    A body is the event as the API gives it: in the account's API version, which an endpoint may override.
    """
    key = variables.get("STRIPE_SECRET_KEY")
    if not key:
        raise NotConfigured("STRIPE_SECRET_KEY")
    base = (variables.get("STRIPE_API_BASE") or STRIPE.bases["STRIPE_API_BASE"]).rstrip("/")
    url = f"{base}/v1/events?limit=100&created[gte]={int(since.timestamp())}"
    after = ""
    for _ in range(PAGES):
        page = _page(http, url + after, key, timeout)
        events = payloads.rows(page.get("data"))
        for event in events:
            body = payloads.compact(event) or b""
            found = _found(event, body)
            if body and not known(found.key):
                yield found, {"content-type": "application/json; charset=utf-8"}, body
        last = payloads.text(events[-1].get("id")) if events else ""
        if not last or page.get("has_more") is not True:
            return
        after = f"&starting_after={quote(last, safe='')}"


def _page(http: Client, url: str, key: str, timeout: float) -> Mapping[str, JSON]:
    headers = {"Authorization": f"Bearer {key}"}
    try:
        answer = http.get(url, headers=headers, timeout=timeout, max_bytes=16_777_216, secrets=(key,))
        page = answer.json()
    except HttpError as error:
        raise Unlisted(f"Stripe does not list its events: {error.message}") from None
    if not answer.ok or not isinstance(dig(page, "data"), list):
        raise Unlisted(f"Stripe does not list its events: it answered {answer.status}")
    return dict(page)


HOOKS = Scheme(
    verify=verify,
    read=read,
    secrets=("STRIPE_WEBHOOK_SECRET",),
    signed_headers=(SIGNATURE,),
    hint="Each endpoint has its own signing secret, and so has each mode (live, test).",
    event_url="https://dashboard.stripe.com/events/{key}",
    secret_problem=secret_problem,
    missed=missed,
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
    hooks=HOOKS,
)
