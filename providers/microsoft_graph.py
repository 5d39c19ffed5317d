"""Microsoft Graph (Outlook calendars), as an application of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from providers import oauth, payloads, signing
from providers.answers import (
    Answer,
    Dialect,
    Meaning,
    Talk,
    Verdict,
    conversation,
    reachable,
    three,
    under_error,
)
from providers.base import ProbeOutcome, Provider, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, Refused, Reply, Scheme, Verified
from wsmon.vocabulary import JSON, Category

SCOPE = "https://graph.microsoft.com/.default"
ADVICE = "check MS_TENANT_ID and MS_CLIENT_ID, and whether the client secret has expired"


class FunctionalityOptions(BaseModel):
    """With ``user`` (an id or a user principal name), that user's calendar is read as well."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(default=None, min_length=1, max_length=300)


# Errors: https://learn.microsoft.com/graph/errors; throttling: https://learn.microsoft.com/graph/throttling
MICROSOFT = Dialect(
    vendor="Microsoft Graph",
    complaint=under_error,
    variables=(
        Variable("MS_TENANT_ID", "the directory's id", secret=False),
        Variable("MS_CLIENT_ID", "the application's id", secret=False),
        Variable("MS_CLIENT_SECRET", "the application's client secret"),
    ),
    bases={
        "MS_GRAPH_BASE": "https://graph.microsoft.com",
        "MS_LOGIN_BASE": "https://login.microsoftonline.com",
    },
    meanings={"InvalidAuthenticationToken": Meaning.REFUSED},
    headers={"request-id": "request_id"},
)
TOKENS = oauth.token_dialect("Microsoft")
NEEDS = ("MS_TENANT_ID", "MS_CLIENT_ID", "MS_CLIENT_SECRET")


# https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
def _token(talk: Talk) -> tuple[tuple[str, ...], oauth.Token]:
    tenant, client, secret = talk.need(*NEEDS)
    url = f"{talk.base('MS_LOGIN_BASE')}/{quote(tenant, safe='')}/oauth2/v2.0/token"
    form = {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_secret": secret,
        "scope": SCOPE,
    }
    credential = (url, client, secret)
    return credential, oauth.kept(talk, credential, lambda: oauth.grant(talk, url, form, TOKENS, ADVICE))


def _ask(talk: Talk, path: str, credential: tuple[str, ...], token: oauth.Token, **more: Any) -> Answer:
    """One call with an access token; a token that is refused is not used again."""
    url = f"{talk.base('MS_GRAPH_BASE')}/v1.0{path}"
    try:
        return talk.ask("GET", url, headers={"Authorization": f"Bearer {token.text}"}, **more)
    except Verdict as verdict:
        if verdict.outcome.category is Category.AUTHENTICATION_ERROR:
            oauth.forget(credential)
        raise


@conversation(MICROSOFT)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The user without a token: Graph's own 401 proves that it answers."""
    return reachable(talk, "GET", f"{talk.base('MS_GRAPH_BASE')}/v1.0/me")


# https://learn.microsoft.com/graph/api/subscription-list (an application sees its own subscriptions)
@conversation(MICROSOFT)
def authentication(talk: Talk) -> ProbeOutcome:
    """A token by client credentials, and that Graph takes it."""
    answer = _ask(talk, "/subscriptions", *_token(talk))
    talk.must(isinstance(answer.get("value"), list), "a list of subscriptions")
    return talk.healthy("the client secret works")


@conversation(MICROSOFT)
def functionality(talk: Talk) -> ProbeOutcome:
    """Our subscriptions and when they expire; a user's calendar if one is named."""
    credential, token = _token(talk)
    answer = _ask(talk, "/subscriptions", credential, token)
    talk.must(isinstance(answer.get("value"), list), "a list of subscriptions")
    if isinstance(talk.options, FunctionalityOptions) and talk.options.user:
        user = quote(talk.options.user, safe="@")
        calendar = _ask(talk, f"/users/{user}/calendar?$select=name,canEdit", credential, token)
        talk.details["calendar"] = calendar.get("name")
    ends = sorted(
        row["expirationDateTime"] for row in answer.rows("value") if isinstance(row.get("expirationDateTime"), str)
    )
    return talk.healthy(
        "subscriptions can be read",
        subscriptions=len(answer.rows("value")),
        next_subscription_expiry=ends[0] if ends else None,
    )


# https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
LONGEST_TOKEN = 4_096


def greet(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> Reply | None:
    """The validation token as plain text, escaped as Microsoft asks: anybody may send one."""
    token = dict(payloads.query(inbound.url)).get("validationToken")
    if token is None:
        return None
    if len(token) > LONGEST_TOKEN:
        raise Refused("malformed", "the validation token is too long", status=400)
    return Reply(body=signing.raw(escape(token, quote=False)))


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """Nothing is signed: at least one notification must bring our clientState; the others are dropped."""
    items = payloads.rows(payloads.read_object(inbound.body).get("value"))
    states = [state for item in items if isinstance(state := item.get("clientState"), str)]
    if not states:
        raise Refused("signature_missing", "no notification has a clientState", status=403)
    try:
        index = signing.fitting(secrets, lambda secret: signing.any_equal(secret, states))
    except Refused as refused:
        status = 401 if refused.code == "not_configured" else 403
        raise Refused(refused.code, refused.message, status) from None
    return Verified("clientState", index)


def read(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> list[Found]:
    """One event for each notification that has our clientState."""
    items = payloads.rows(payloads.read_object(inbound.body).get("value"))
    ours = [item for item in items if _is_ours(item, secrets)]
    found = [_found(item, inbound) for item in ours]
    return found if len(items) > 1 else [replace(each, body=None) for each in found] or payloads.unknown(inbound)


def _is_ours(item: Mapping[str, JSON], secrets: Sequence[str]) -> bool:
    state = item.get("clientState")
    return isinstance(state, str) and any(signing.equal(state, secret) for secret in secrets if secret)


def _found(item: Mapping[str, JSON], inbound: Inbound) -> Found:
    part = payloads.compact({"value": [item]}) or inbound.body
    lifecycle = item.get("lifecycleEvent")
    kind = ("lifecycle", lifecycle) if lifecycle else (_resource_kind(item), item.get("changeType"))
    subject = payloads.text(dig(item, "resourceData", "id")) or payloads.text(item.get("subscriptionId"))
    return Found(_key(item, part, inbound), payloads.event_type(*kind), subject=subject, body=part)


def _key(item: Mapping[str, JSON], part: bytes, inbound: Inbound) -> str:
    """Microsoft documents no id that holds over retries.

    The version (etag) tells one change from the next. Without it the minute must do, so that a later
    change of the same item is never taken for the same.
    """
    what = dig(item, "resourceData", "id") or item.get("resource") or item.get("lifecycleEvent")
    change = item.get("changeType") or "lifecycle"
    version = dig(item, "resourceData", "@odata.etag") or f"minute {int(inbound.received_at // 60)}"
    return payloads.event_key(part, item.get("subscriptionId"), what, change, version)


def _resource_kind(item: Mapping[str, JSON]) -> str:
    """``event`` out of ``#Microsoft.Graph.Event``, or of ``Users/x/Events/1``."""
    kind = dig(item, "resourceData", "@odata.type")
    if isinstance(kind, str) and kind:
        return kind.rpartition(".")[2].lower()
    steps = payloads.text(item.get("resource")).strip("/").split("/")
    return (steps[-2] if len(steps) > 1 else steps[0]).split("(")[0].lower().removesuffix("s")


def secret_problem(secret: str) -> str | None:
    """Something that cannot be guessed, as short as Microsoft wants it."""
    return "is longer than 128 characters" if len(secret) > 128 else signing.plain_problem(secret, 16)


HOOKS = Scheme(
    verify=verify,
    read=read,
    greet=greet,
    secrets=("MS_CLIENT_STATE",),
    batch=True,
    hint="Create the subscription with the secret as its clientState, and this URL for lifecycle notifications too.",
    secret_problem=secret_problem,
)

PROVIDER = Provider(
    slug="microsoft_graph",
    label="Microsoft Graph",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=NEEDS,
        options=FunctionalityOptions,
    ),
    variables=MICROSOFT.variables,
    base_urls=MICROSOFT.bases,
    # Microsoft publishes no machine-readable status for Graph outside a tenant's own admin API.
    docs_url="https://learn.microsoft.com/graph/overview",
    hooks=HOOKS,
)
