"""Resend: e-mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from providers import payloads
from providers.answers import Complaint, Dialect, Meaning, Talk, Verdict, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig, public_url
from providers.hooks import Found, Inbound, MessageStatus, Scheme
from providers.standardwebhooks import STANDARD, SVIX, Family, secret_problem
from wsmon.vocabulary import JSON


def _complaint(data: JSON) -> Complaint | None:
    name, message = dig(data, "name"), dig(data, "message")
    return Complaint(name, message) if isinstance(name, str) and isinstance(message, str) else None


# Names, not statuses, tell: an invalid key is 403 (or 400), and a valid key that may only send
# answers 401. https://resend.com/docs/api-reference/errors
# Headers: https://resend.com/docs/api-reference/rate-limit
RESEND = Dialect(
    vendor="Resend",
    complaint=_complaint,
    variables=(Variable("RESEND_API_KEY", "re_…"),),
    bases={"RESEND_API_BASE": "https://api.resend.com"},
    meanings={
        "missing_api_key": Meaning.REFUSED,
        "invalid_api_key": Meaning.REFUSED,
        "restricted_api_key": Meaning.FORBIDDEN,
        "rate_limit_exceeded": Meaning.LIMITED,
        "daily_quota_exceeded": Meaning.LIMITED,
        "monthly_quota_exceeded": Meaning.LIMITED,
        "application_error": Meaning.SERVER,
        "internal_server_error": Meaning.SERVER,
    },
    headers={
        "ratelimit-limit": "rate_limit_limit",
        "ratelimit-remaining": "rate_limit_remaining",
        "ratelimit-reset": "rate_limit_reset",
    },
)


def _key(talk: Talk) -> dict[str, str]:
    (key,) = talk.need("RESEND_API_KEY")
    return {"Authorization": f"Bearer {key}"}


def _sending_only(verdict: Verdict) -> bool:
    """True for the answer that only a *valid* key with the scope "sending access" gets."""
    return verdict.complaint.code == "restricted_api_key"


@conversation(RESEND)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The domains without a key: Resend's own 401 proves that its API answers."""
    return reachable(talk, "GET", f"{talk.base('RESEND_API_BASE')}/domains")


# https://resend.com/docs/api-reference/domains/list-domains
@conversation(RESEND)
def authentication(talk: Talk) -> ProbeOutcome:
    """The domains with the key; a key that may only send counts as accepted."""
    try:
        answer = talk.ask("GET", f"{talk.base('RESEND_API_BASE')}/domains", headers=_key(talk))
    except Verdict as verdict:
        if not _sending_only(verdict):
            raise
        return talk.healthy("the key works (it may only send)", scope="sending_access")
    talk.must(isinstance(answer.get("data"), list), "a list of domains")
    return talk.healthy("the key works", scope="full_access")


# https://resend.com/docs/dashboard/domains/introduction (statuses of a domain)
@conversation(RESEND)
def functionality(talk: Talk) -> ProbeOutcome:
    """Which domains are verified, and which webhooks are enabled."""
    answer = talk.ask("GET", f"{talk.base('RESEND_API_BASE')}/domains", headers=_key(talk))
    talk.must(isinstance(answer.get("data"), list), "a list of domains")
    domains = [{"name": row.get("name"), "status": row.get("status")} for row in answer.rows("data")]
    for each in domains:
        if each["status"] != "verified":
            talk.warn(f"domain {each['name']} is {each['status']}")
    verified = sum(each["status"] == "verified" for each in domains)
    hooks = talk.try_ask("webhooks", "GET", f"{talk.base('RESEND_API_BASE')}/webhooks", headers=_key(talk))
    return talk.healthy(
        f"{verified} of {len(domains)} domains verified",
        domains=domains,
        webhooks=[
            {"url": public_url(row.get("endpoint")), "status": row.get("status"), "events": row.get("events")}
            for row in (hooks.rows("data") if hooks else [])
        ],
    )


# Signed by Svix: https://resend.com/docs/webhooks/verify-webhooks-requests
SIGNATURES = Family((SVIX, STANDARD))

# https://resend.com/docs/webhooks/event-types
STATUSES = {
    "email.scheduled": MessageStatus.QUEUED,
    "email.sent": MessageStatus.SENT,
    "email.delivery_delayed": MessageStatus.SENT,
    "email.delivered": MessageStatus.DELIVERED,
    "email.opened": MessageStatus.READ,
    "email.clicked": MessageStatus.READ,
    "email.failed": MessageStatus.FAILED,
    "email.suppressed": MessageStatus.FAILED,
    "email.bounced": MessageStatus.BOUNCED,
    "email.complained": MessageStatus.COMPLAINED,
    "suppression.added": MessageStatus.UNSUBSCRIBED,
}


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event. ``created_at`` is the event's time, ``data.created_at`` the e-mail's."""
    body = payloads.read_object(inbound.body)
    kind = payloads.event_type(dig(body, "type"))
    status = STATUSES.get(kind)
    if kind == "contact.updated" and dig(body, "data", "unsubscribed") is True:
        status = MessageStatus.UNSUBSCRIBED
    key = payloads.event_key(inbound.body, SIGNATURES.id(inbound))
    subject = payloads.text(dig(body, "data", "email_id") or dig(body, "data", "id"))
    return [Found(key, kind, payloads.from_iso(dig(body, "created_at")), subject, status)]


HOOKS = Scheme(
    verify=SIGNATURES.verify,
    read=read,
    secrets=("RESEND_WEBHOOK_SECRET",),
    signed_headers=SIGNATURES.headers(),
    secret_problem=secret_problem,
)

PROVIDER = Provider(
    slug="resend",
    label="Resend",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("RESEND_API_KEY",),
    ),
    variables=RESEND.variables,
    base_urls=RESEND.bases,
    status_page=StatusPage(
        "https://resend-status.com/api/v2/summary.json",
        components=("Single Email", "General API", "Webhooks"),
    ),
    docs_url="https://resend.com/docs/api-reference/introduction",
    hooks=HOOKS,
)
