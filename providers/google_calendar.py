"""Google Calendar."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field

from providers import oauth, payloads, signing
from providers.answers import (
    Answer,
    Complaint,
    Dialect,
    Meaning,
    Talk,
    Verdict,
    conversation,
    given,
    reachable,
    three,
)
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, Scheme, Verified
from wsmon.secrets import read_file
from wsmon.vocabulary import JSON, Category

SCOPE = "https://www.googleapis.com/auth/calendar.readonly"
ADVICE = "the consent is gone or expired: let the user consent again and store the new refresh token"
KEY_ADVICE = "make a new key for the service account"


class FunctionalityOptions(BaseModel):
    """Which calendar is read."""

    model_config = ConfigDict(extra="forbid")

    calendar_id: str = Field(default="primary", min_length=1, max_length=300)


def _complaint(data: JSON) -> Complaint | None:
    """``errors[0].reason`` says more than the code: https://developers.google.com/calendar/api/guides/errors."""
    message = dig(data, "error", "message")
    reason = dig(data, "error", "errors", 0, "reason") or dig(data, "error", "status")
    if not isinstance(message, str):
        return None
    return Complaint(reason if isinstance(reason, str) else "", message)


# Quotas have no headroom headers: https://developers.google.com/calendar/api/guides/quota
GOOGLE = Dialect(
    vendor="Google",
    complaint=_complaint,
    variables=(
        Variable("GOOGLE_APPLICATION_CREDENTIALS", "path to a service account's JSON key"),
        Variable("GOOGLE_CLIENT_ID", "instead: an OAuth client …", secret=False),
        Variable("GOOGLE_CLIENT_SECRET", "… its secret …"),
        Variable("GOOGLE_REFRESH_TOKEN", "… and a user's refresh token"),
        Variable("GOOGLE_SUBJECT", "optional: the user a service account acts for", secret=False),
    ),
    bases={
        "GOOGLE_API_BASE": "https://www.googleapis.com",
        "GOOGLE_TOKEN_BASE": "https://oauth2.googleapis.com",
    },
    meanings={
        "authError": Meaning.REFUSED,
        "rateLimitExceeded": Meaning.LIMITED,
        "userRateLimitExceeded": Meaning.LIMITED,
        "quotaExceeded": Meaning.LIMITED,
        "backendError": Meaning.SERVER,
    },
)
TOKENS = oauth.token_dialect("Google")
CREDENTIALS = (
    ("GOOGLE_APPLICATION_CREDENTIALS",),
    ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "GOOGLE_REFRESH_TOKEN"),
)


def _api(talk: Talk, path: str) -> str:
    return f"{talk.base('GOOGLE_API_BASE')}/calendar/v3{path}"


def _ask(talk: Talk, method: str, path: str, **request: Any) -> Answer:
    """One call with an access token; a token that is refused is not used again."""
    credential, token = _token(talk)
    try:
        return talk.ask(method, _api(talk, path), headers={"Authorization": f"Bearer {token.text}"}, **request)
    except Verdict as verdict:
        if verdict.outcome.category is Category.AUTHENTICATION_ERROR:
            oauth.forget(credential)
        raise


def _token(talk: Talk) -> tuple[tuple[str, ...], oauth.Token]:
    url = f"{talk.base('GOOGLE_TOKEN_BASE')}/token"
    if given(talk.context, CREDENTIALS) == 1:
        talk.details["grant"] = "refresh token"
        names = CREDENTIALS[1]
        values = tuple(talk.value(name) for name in names)
        form = dict(zip(("client_id", "client_secret", "refresh_token"), values, strict=True))
        form["grant_type"] = "refresh_token"
        advice = ADVICE
    else:
        talk.details["grant"] = "service account"
        email, key, key_id = _service_account(talk)
        talk.details["service_account"] = email
        subject = talk.value("GOOGLE_SUBJECT")
        values = (email, key, subject)
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
        advice = KEY_ADVICE
    credential = (url, *values)

    def fetch() -> oauth.Token:
        if "client_id" not in form:
            form["assertion"] = _assertion(talk, email, key, key_id, subject, url)
        return oauth.grant(talk, url, form, TOKENS, advice)

    return credential, oauth.kept(talk, credential, fetch)


def _service_account(talk: Talk) -> tuple[str, str, str]:
    """The e-mail, the PEM key and its id from the key file (or from JSON given in the variable itself)."""
    value = talk.value("GOOGLE_APPLICATION_CREDENTIALS")
    try:
        text = value if value.lstrip().startswith("{") else read_file(value)
        data = json.loads(text)
    except ValueError:
        raise talk.ours("GOOGLE_APPLICATION_CREDENTIALS names no readable JSON key file") from None
    email, key = dig(data, "client_email"), dig(data, "private_key")
    if not isinstance(email, str) or not isinstance(key, str):
        raise talk.ours("GOOGLE_APPLICATION_CREDENTIALS is not a service account's key")
    talk.secrets.append(key)
    return email, key, str(dig(data, "private_key_id") or "")


# https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests
def _assertion(talk: Talk, email: str, pem: str, key_id: str, subject: str, url: str) -> str:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise talk.ours("the service account's private key cannot be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise talk.ours("the service account's private key is not an RSA key")
    now = int(talk.context.now.timestamp())
    claims = {"iss": email, "scope": SCOPE, "aud": url, "iat": now, "exp": now + 3600}
    if subject:
        claims["sub"] = subject
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": key_id} if key_id else {})
    signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
    assertion = f"{signed}.{_encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"
    talk.secrets.append(assertion)
    return assertion


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@conversation(GOOGLE)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The calendar list without a token: Google's own 401 proves that the API answers."""
    return reachable(talk, "GET", _api(talk, "/users/me/calendarList"))


# https://developers.google.com/calendar/api/v3/reference/calendarList/list
@conversation(GOOGLE)
def authentication(talk: Talk) -> ProbeOutcome:
    """The calendar list with a token; a refresh token that is gone shows here."""
    answer = _ask(talk, "GET", "/users/me/calendarList?maxResults=1&fields=kind,items(accessRole)")
    talk.must(answer.get("kind") == "calendar#calendarList", "a calendar list")
    return talk.healthy("the token works", access_role=answer.get("items", 0, "accessRole"))


# https://developers.google.com/calendar/api/v3/reference/events/list
@conversation(GOOGLE)
def functionality(talk: Talk) -> ProbeOutcome:
    """The calendar can be read; its events' contents are not asked for."""
    options = talk.options if isinstance(talk.options, FunctionalityOptions) else FunctionalityOptions()
    fields = "kind,summary,timeZone,accessRole,updated"
    calendar = quote(options.calendar_id, safe="")
    answer = _ask(talk, "GET", f"/calendars/{calendar}/events?maxResults=1&fields={fields}")
    talk.must(answer.get("kind") == "calendar#events", "a calendar")
    return talk.healthy(
        "the calendar can be read",
        calendar=answer.get("summary"),
        time_zone=answer.get("timeZone"),
        access_role=answer.get("accessRole"),
        updated=answer.get("updated"),
    )


# Push notifications: https://developers.google.com/calendar/api/guides/push. Nothing is signed; the
# channel's token, which we chose when opening it, is all there is to know them by.
CHANNEL_TOKEN = "x-goog-channel-token"  # noqa: S105 - a header's name
STATES = {"sync": "calendar.sync", "exists": "calendar.changed", "not_exists": "calendar.deleted"}


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """The channel's token is one of ours."""
    token = signing.header(inbound, CHANNEL_TOKEN)
    return Verified("X-Goog-Channel-Token", signing.fitting(secrets, lambda secret: signing.equal(secret, token)))


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One notification, all of it in headers; channel and message number are its key."""
    channel, number, state, resource = (
        inbound.headers.get(f"x-goog-{name}", "")
        for name in ("channel-id", "message-number", "resource-state", "resource-id")
    )
    # Without a number two notifications look alike, and the body is always empty: better twice than never.
    fallback = "\n".join((channel, resource, state, str(inbound.received_at)))
    return [
        Found(
            key=payloads.event_key(signing.raw(fallback), channel, number),
            type=STATES.get(state) or payloads.event_type("calendar", state),
            subject=payloads.text(channel),
        )
    ]


HOOKS = Scheme(
    verify=verify,
    read=read,
    secrets=("GOOGLE_CALENDAR_CHANNEL_TOKEN",),
    hint="Open the channel with the secret as its token, and open a new one before it expires.",
    secret_problem=lambda secret: signing.plain_problem(secret, 16),
)

PROVIDER = Provider(
    slug="google_calendar",
    label="Google Calendar",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        credentials=CREDENTIALS,
        options=FunctionalityOptions,
    ),
    variables=GOOGLE.variables,
    base_urls=GOOGLE.bases,
    status_page=StatusPage(
        "https://www.google.com/appsstatus/dashboard/incidents.json",
        format="google",
        components=("Google Calendar",),
    ),
    docs_url="https://developers.google.com/calendar/api/v3/reference",
    hooks=HOOKS,
)
