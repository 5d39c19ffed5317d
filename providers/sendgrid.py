"""SendGrid: e-mail."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field

from providers import payloads, signing
from providers.answers import Complaint, Dialect, Talk, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig, public_url
from providers.hooks import Found, Inbound, MessageStatus, Scheme, Verified
from wsmon.vocabulary import JSON


class FunctionalityOptions(BaseModel):
    """With ``sandbox_from``, a mail in sandbox mode is validated too (not sent, not billed, no event)."""

    model_config = ConfigDict(extra="forbid")

    sandbox_from: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")


def _complaint(data: JSON) -> Complaint | None:
    message = dig(data, "errors", 0, "message")
    return Complaint("", message) if isinstance(message, str) else None


# https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors
# .../rate-limits
SENDGRID = Dialect(
    vendor="SendGrid",
    complaint=_complaint,
    variables=(Variable("SENDGRID_API_KEY", "SG.…"),),
    bases={"SENDGRID_API_BASE": "https://api.sendgrid.com"},
    headers={
        "X-RateLimit-Limit": "rate_limit_limit",
        "X-RateLimit-Remaining": "rate_limit_remaining",
        "X-RateLimit-Reset": "rate_limit_reset",
    },
)


def _key(talk: Talk) -> dict[str, str]:
    (key,) = talk.need("SENDGRID_API_KEY")
    return {"Authorization": f"Bearer {key}"}


@conversation(SENDGRID)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The scopes without a key: SendGrid's own 401 proves that its API answers."""
    return reachable(talk, "GET", f"{talk.base('SENDGRID_API_BASE')}/v3/scopes")


# https://www.twilio.com/docs/sendgrid/api-reference/api-key-permissions (any key may read its scopes)
@conversation(SENDGRID)
def authentication(talk: Talk) -> ProbeOutcome:
    """The key's own scopes, and whether it may send."""
    answer = talk.ask("GET", f"{talk.base('SENDGRID_API_BASE')}/v3/scopes", headers=_key(talk))
    scopes = answer.get("scopes")
    talk.must(isinstance(scopes, list), "scopes")
    may_send = "mail.send" in scopes
    if not may_send:
        talk.warn("the key lacks the scope mail.send")
    return talk.healthy("the key works", may_send=may_send, scopes=len(scopes))


# Sandbox mode: https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sandbox-mode
@conversation(SENDGRID)
def functionality(talk: Talk) -> ProbeOutcome:
    """The account, its credits and event webhooks; a sandboxed mail if asked for."""
    base, headers, sender = talk.base("SENDGRID_API_BASE"), _key(talk), _sandbox_from(talk)
    if sender:
        _send_in_sandbox(talk, base, headers, sender)
    else:
        account = talk.ask("GET", f"{base}/v3/user/account", headers=headers)
        talk.must(account.text("type") is not None, "the account's type")
        talk.details |= {"account_type": account.get("type"), "reputation": account.get("reputation")}
    credit = talk.try_ask("credits", "GET", f"{base}/v3/user/credits", headers=headers)
    hooks = talk.try_ask("event webhooks", "GET", f"{base}/v3/user/webhooks/event/settings/all", headers=headers)
    return talk.healthy(
        "a mail was validated in sandbox mode" if sender else "the account can be read",
        credits_remaining=credit.get("remain") if credit else None,
        webhooks=[
            {"url": public_url(row.get("url")), "enabled": row.get("enabled")}
            for row in (hooks.rows("webhooks") if hooks else [])
        ],
    )


def _sandbox_from(talk: Talk) -> str | None:
    options = talk.options
    return options.sandbox_from if isinstance(options, FunctionalityOptions) else None


def _send_in_sandbox(talk: Talk, base: str, headers: dict[str, str], sender: str) -> None:
    """Validated only; SendGrid answers 200 with an empty body."""
    mail = {
        "personalizations": [{"to": [{"email": sender}]}],
        "from": {"email": sender},
        "subject": "wsmon probe",
        "content": [{"type": "text/plain", "value": "sandbox"}],
        "mail_settings": {"sandbox_mode": {"enable": True}},
    }
    answer = talk.ask("POST", f"{base}/v3/mail/send", headers=headers, json=mail, empty=True)
    if answer.response.status == 202:
        talk.warn("the mail was queued (202): sandbox mode was ignored; leave sandbox_from out")


# https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
# SendGrid repeats an event for 24 h, and nobody says whether it signs it anew: old signatures are taken so
# long. The same signature can be written in two ways (ECDSA), so it is never a key.
SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
PAST = 25 * 3600.0


@lru_cache(maxsize=256)
def public_key(text: str) -> EllipticCurvePublicKey | None:
    """The key that SendGrid shows: base64 of DER without armour, or PEM; None when it is neither."""
    try:
        if "-----BEGIN" in text:
            key = load_pem_public_key(text.encode())
        else:
            key = load_der_public_key(base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """ECDSA P-256 with SHA-256 over the timestamp immediately followed by the body."""
    sent = signing.decoded(signing.header(inbound, SIGNATURE), "base64")
    timestamp = signing.header(inbound, TIMESTAMP)
    signed_at = signing.unix_time(timestamp)
    signing.check_window(signed_at, inbound, past=PAST)
    signed = timestamp.encode() + inbound.body

    def fits(secret: str) -> bool:
        key = public_key(secret)
        if key is None:
            return False
        try:
            key.verify(sent, signed, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return Verified("Event Webhook signature, ECDSA P-256", signing.fitting(secrets, fits), float(signed_at))


# https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
STATUSES = {
    "processed": MessageStatus.SENT,
    "deferred": MessageStatus.QUEUED,
    "delivered": MessageStatus.DELIVERED,
    "open": MessageStatus.READ,
    "click": MessageStatus.READ,
    "dropped": MessageStatus.FAILED,
    "bounce": MessageStatus.BOUNCED,
    "spamreport": MessageStatus.COMPLAINED,
    "unsubscribe": MessageStatus.UNSUBSCRIBED,
    "group_unsubscribe": MessageStatus.UNSUBSCRIBED,
}
_ROUTING = re.compile(r"\.(?:recvd|filter)")


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event for each element of the array, with the element as its body."""
    elements = payloads.rows(payloads.read_json(inbound.body))
    bodies = [payloads.compact(element) for element in elements]
    if not elements or None in bodies:
        return payloads.unknown(inbound)
    return [_found(element, body or b"") for element, body in zip(elements, bodies, strict=True)]


def _found(element: Mapping[str, JSON], body: bytes) -> Found:
    word = payloads.text(element.get("event"))
    status = STATUSES.get(word)
    if word == "bounce" and element.get("type") == "blocked":  # refused this time, the address may be good
        status = MessageStatus.FAILED
    return Found(
        key=payloads.event_key(body, element.get("sg_event_id")),
        type=payloads.event_type("email", word) if word else payloads.UNKNOWN,
        occurred_at=payloads.from_unix(element.get("timestamp")),
        subject=_message(element),
        status=status,
        body=body,
    )


def _message(element: Mapping[str, JSON]) -> str:
    """What the send answered as X-Message-Id: sg_message_id up to what SendGrid adds on the way."""
    sent = payloads.text(element.get("sg_message_id"))
    return _ROUTING.split(sent)[0] or payloads.text(element.get("smtp-id"))


def secret_problem(secret: str) -> str | None:
    """A public key, not the API key."""
    if secret.startswith("SG."):
        return "is an API key; the verification key is on the event webhook's page"
    return signing.plain_problem(secret) or (None if public_key(secret) else "is not a P-256 public key in base64")


HOOKS = Scheme(
    verify=verify,
    read=read,
    secrets=("SENDGRID_WEBHOOK_PUBLIC_KEY",),
    signed_headers=(SIGNATURE, TIMESTAMP),
    batch=True,
    hint="Switch on the signed event webhook; its verification key is public, and each webhook has its own.",
    secret_problem=secret_problem,
)

PROVIDER = Provider(
    slug="sendgrid",
    label="SendGrid",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("SENDGRID_API_KEY",),
        options=FunctionalityOptions,
    ),
    variables=SENDGRID.variables,
    base_urls=SENDGRID.bases,
    # SendGrid's components stand on Twilio's page.
    status_page=StatusPage(
        "https://status.twilio.com/api/v2/summary.json",
        components=("Mail Sending", "API v3", "Event Webhooks"),
        page_id="gpkpyklzq55q",
    ),
    docs_url="https://www.twilio.com/docs/sendgrid/api-reference",
    hooks=HOOKS,
)
