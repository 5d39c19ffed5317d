"""Microsoft Graph (Outlook calendars), as an application of its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from providers import oauth
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
from wsmon.vocabulary import Category

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
)
