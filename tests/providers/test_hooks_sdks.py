"""What the vendors' own libraries sign, here and now: we believe it, and nothing that was changed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sendgrid.helpers.eventwebhook import EventWebhook
from standardwebhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook
from twilio.request_validator import RequestValidator

import providers
from providers.hooks import Inbound, Refused, Scheme, options_of
from tests.providers.hooks_contract import BASE, NOW
from wsmon.http import Headers

Signed = tuple[str, Inbound]
BODY = json.dumps({"type": "thing.made", "text": "Blåbær – 東京 🎉", "data": {"id": "1"}}, ensure_ascii=False)
WHEN = datetime.fromtimestamp(NOW, UTC)
KEY = "whsec_" + base64.b64encode(b"planted-0123456789-secret").decode()
TOKEN = "planted0123456789abcdef012345678"
FORM = {"MessageSid": "SM1", "MessageStatus": "delivered", "Blank": "", "Body": "Blåbær & 東京", "To": "+15005550010"}


def _inbound(slug: str, headers: dict[str, str], body: bytes, query: str = "") -> Inbound:
    return Inbound("POST", f"{BASE}/{slug}{query}", Headers(headers.items()), body, float(NOW))


def _stripe() -> Signed:
    secret = "whsec_planted0123456789"
    digest = stripe.WebhookSignature._compute_signature(f"{NOW}.{BODY}", secret)
    return secret, _inbound("stripe", {"Stripe-Signature": f"t={NOW},v1={digest}"}, BODY.encode())


def _svix(slug: str) -> Callable[[], Signed]:
    def sign() -> Signed:
        signature = SvixWebhook(KEY).sign("msg_1", WHEN, BODY)
        headers = {"svix-id": "msg_1", "svix-timestamp": str(NOW), "svix-signature": signature}
        return KEY, _inbound(slug, headers, BODY.encode())

    return sign


def _standard(slug: str, secret: str) -> Callable[[], Signed]:
    def sign() -> Signed:
        signature = StandardWebhook(KEY).sign("msg_1", WHEN, BODY)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}
        return secret, _inbound(slug, headers, BODY.encode())

    return sign


def _twilio_form() -> Signed:
    signature = RequestValidator(TOKEN).compute_signature(f"{BASE}/twilio", FORM)
    headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
    return TOKEN, _inbound("twilio", headers, urlencode(FORM).encode())


def _twilio_json() -> Signed:
    query = f"?bodySHA256={hashlib.sha256(BODY.encode()).hexdigest()}"
    signature = RequestValidator(TOKEN).compute_signature(f"{BASE}/twilio{query}", {})
    headers = {"X-Twilio-Signature": signature, "Content-Type": "application/json"}
    return TOKEN, _inbound("twilio", headers, BODY.encode(), query)


def _sendgrid() -> Signed:
    """SendGrid's library only verifies: what it accepts of our signing is what SendGrid sends."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = base64.b64encode(der).decode()
    signature = base64.b64encode(key.sign(f"{NOW}{BODY}".encode(), ec.ECDSA(SHA256()))).decode()
    assert EventWebhook(public).verify_signature(BODY, signature, str(NOW))
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": str(NOW),
    }
    return public, _inbound("sendgrid", headers, BODY.encode())


SIGNERS: dict[str, tuple[str, Callable[[], Signed]]] = {
    "stripe": ("stripe", _stripe),
    "resend by svix": ("resend", _svix("resend")),
    "svix": ("svix", _svix("svix")),
    "standardwebhooks": ("standardwebhooks", _standard("standardwebhooks", KEY)),
    "supabase_auth by standardwebhooks": ("supabase_auth", _standard("supabase_auth", f"v1,{KEY}")),
    "twilio form": ("twilio", _twilio_form),
    "twilio json": ("twilio", _twilio_json),
    "sendgrid": ("sendgrid", _sendgrid),
}


def _scheme(slug: str) -> tuple[Scheme, Any]:
    scheme = providers.get(slug).hooks
    assert scheme is not None
    return scheme, options_of(scheme, {})


@pytest.mark.parametrize("name", SIGNERS)
def test_what_their_library_signs_is_believed(name: str) -> None:
    slug, sign = SIGNERS[name]
    scheme, options = _scheme(slug)
    secret, inbound = sign()
    assert scheme.verify(inbound, [secret], options).secret == 0
    assert scheme.read(inbound, [secret], options)


@pytest.mark.parametrize("name", SIGNERS)
def test_what_was_changed_on_the_way_is_not(name: str) -> None:
    slug, sign = SIGNERS[name]
    scheme, options = _scheme(slug)
    secret, inbound = sign()
    body = inbound.body
    for other in (body + b"&more=1", body[:-1], b"", body.replace(b"1", b"2"), b" " + body):
        with pytest.raises(Refused):
            scheme.verify(replace(inbound, body=other), [secret], options)
    with pytest.raises(Refused):
        scheme.verify(inbound, ["whsec_" + base64.b64encode(b"x" * 24).decode()], options)


def test_stripes_library_believes_the_same_window() -> None:
    secret, inbound = _stripe()
    header = inbound.headers["stripe-signature"]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(BODY + "x", header, secret, None)
    assert stripe.WebhookSignature.verify_header(BODY, header, secret, None)
