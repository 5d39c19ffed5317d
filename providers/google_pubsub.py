"""Google Cloud Pub/Sub: push subscriptions with authentication (Cloud Storage's notifications among them).

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate
from pydantic import Field

from providers import payloads, signing
from providers.base import Provider
from providers.details import dig
from providers.hooks import TOLERANCE, Found, Inbound, Refused, Scheme, Verified
from providers.options import Options
from wsmon.vocabulary import JSON

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
LONGEST_TOKEN = 8_192


class HookOptions(Options):
    """``service_account`` is the e-mail that the subscription pushes as; ``audience`` defaults to the URL."""

    service_account: str = Field(min_length=3, max_length=300)
    audience: str | None = Field(default=None, min_length=1, max_length=2_000)


@lru_cache(maxsize=64)
def keys_of(secret: str) -> Mapping[str, RSAPublicKey]:
    """Google's certificates by key id, as https://www.googleapis.com/oauth2/v1/certs gives them (JSON)."""
    found: dict[str, RSAPublicKey] = {}
    for name, pem in payloads.read_object(signing.raw(secret)).items():
        try:
            key = load_pem_x509_certificate(pem.encode()).public_key()
        except (ValueError, AttributeError):
            continue
        if isinstance(key, RSAPublicKey):
            found[name] = key
    return found


def verify(inbound: Inbound, secrets: Sequence[str], options: Any = None) -> Verified:
    """An OIDC token signed by Google (RS256) for our audience and service account.

    The token does not cover the body: whoever sees one can send another body while it lasts (an hour).
    """
    scheme, _, token = signing.header(inbound, "authorization").partition(" ")
    pieces = token.split(".")
    if scheme != "Bearer" or len(pieces) != 3 or len(token) > LONGEST_TOKEN:
        raise Refused("signature_missing", "there is no bearer token of three parts")
    head, claims, signature = _part(pieces[0]), _part(pieces[1]), _bytes(pieces[2])
    if dig(head, "alg") != "RS256":  # never what the token would like: "none", or HMAC with the public key
        raise Refused("signature_malformed", "the token is not signed by RS256")
    signed = signing.raw(f"{pieces[0]}.{pieces[1]}")

    def fits(secret: str) -> bool:
        key = keys_of(secret).get(payloads.text(dig(head, "kid")))
        try:
            return key is not None and key.verify(signature, signed, PKCS1v15(), SHA256()) is None
        except InvalidSignature:
            return False

    index = signing.fitting(secrets, fits)
    return Verified("OIDC token, RS256", index, _check_claims(claims, inbound, options))


def _check_claims(claims: JSON, inbound: Inbound, options: Any) -> float:
    """Issuer, audience, service account and times; return when the token was issued."""
    wanted = options if isinstance(options, HookOptions) else None
    if wanted is None:
        raise Refused("not_configured", "set the option service_account")
    audience = wanted.audience or inbound.url.partition("?")[0]
    if dig(claims, "iss") not in ISSUERS or dig(claims, "aud") != audience:
        raise Refused("signature_mismatch", "the token is Google's for somebody else")
    if dig(claims, "email") != wanted.service_account or dig(claims, "email_verified") is not True:
        raise Refused("signature_mismatch", "the token is another service account's")
    issued, expires = (payloads.from_unix(dig(claims, name)) for name in ("iat", "exp"))
    if issued is None or expires is None:
        raise Refused("signature_malformed", "the token has no times")
    if inbound.received_at > expires.timestamp() + TOLERANCE:
        raise Refused("too_old", "the token has expired")
    if inbound.received_at < issued.timestamp() - TOLERANCE:
        raise Refused("from_the_future", "the token is from the future")
    return issued.timestamp()


def _part(piece: str) -> JSON:
    return payloads.read_object(_bytes(piece))


def _bytes(piece: str) -> bytes:
    try:
        return base64.b64decode(signing.raw(piece + "=" * (-len(piece) % 4)), altchars=b"-_", validate=True)
    except binascii.Error:
        raise Refused("signature_malformed", "the token is not base64url") from None


# https://cloud.google.com/pubsub/docs/push#receive_push; for buckets the type is an attribute:
# https://cloud.google.com/storage/docs/pubsub-notifications#attributes
def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One message, wrapped as by default or bare with headers (no wrapper)."""
    body = payloads.read_object(inbound.body)
    attributes = dig(body, "message", "attributes")

    def at(name: str, header: str) -> JSON:
        return dig(body, "message", name) or inbound.headers.get(f"x-goog-pubsub-{header}")

    subscription = body.get("subscription") or inbound.headers.get("x-goog-pubsub-subscription-name")
    kind = dig(attributes, "eventType") or dig(attributes, "ce-type") or "pubsub.message"
    subject = dig(attributes, "objectId") or payloads.text(subscription).rpartition("/")[2]
    return [
        Found(
            key=payloads.event_key(inbound.body, at("messageId", "message-id")),
            type=payloads.event_type(kind),
            occurred_at=payloads.from_iso(at("publishTime", "publish-time")),
            subject=payloads.text(subject),
        )
    ]


def secret_problem(secret: str) -> str | None:
    """Whether it is what Google publishes."""
    return (
        None
        if keys_of(secret)
        else "is not Google's certificates, as JSON (https://www.googleapis.com/oauth2/v1/certs)"
    )


HOOKS = Scheme(
    verify=verify,
    read=read,
    options=HookOptions,
    secrets=("GOOGLE_OAUTH2_CERTS",),
    signs_url=True,
    max_bytes=14 * 1_048_576,
    hint="The secret is Google's certificates, which change within days: let a file be renewed daily, and name it.",
    secret_problem=secret_problem,
)

PROVIDER = Provider(
    slug="google_pubsub",
    label="Google Cloud Pub/Sub",
    kinds={},
    hooks=HOOKS,
    docs_url="https://cloud.google.com/pubsub/docs/push",
)
