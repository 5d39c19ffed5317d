"""Slack, through a bot token."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from providers.answers import Complaint, Dialect, Meaning, Talk, Verdict, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from wsmon.vocabulary import JSON


class FunctionalityOptions(BaseModel):
    """With ``channel`` (its id, e.g. C0123ABC), that channel is looked up."""

    model_config = ConfigDict(extra="forbid")

    channel: str | None = Field(default=None, pattern=r"^[A-Z0-9]{6,20}$")


def _complaint(data: JSON) -> Complaint | None:
    """Slack answers 200 with ``ok: false``: https://api.slack.com/web#slack-web-api__evaluating-responses."""
    error = dig(data, "error")
    return Complaint(error) if dig(data, "ok") is False and isinstance(error, str) else None


# https://api.slack.com/methods/auth.test#errors
SLACK = Dialect(
    vendor="Slack",
    complaint=_complaint,
    variables=(Variable("SLACK_BOT_TOKEN", "xoxb-…"),),
    bases={"SLACK_API_BASE": "https://slack.com"},
    meanings={
        "invalid_auth": Meaning.REFUSED,
        "not_authed": Meaning.REFUSED,
        "token_revoked": Meaning.REFUSED,
        "token_expired": Meaning.REFUSED,
        "account_inactive": Meaning.REFUSED,
        "missing_scope": Meaning.FORBIDDEN,
        "no_permission": Meaning.FORBIDDEN,
        "not_allowed_token_type": Meaning.FORBIDDEN,
        "access_denied": Meaning.FORBIDDEN,
        "ratelimited": Meaning.LIMITED,
        "internal_error": Meaning.SERVER,
        "fatal_error": Meaning.SERVER,
        "service_unavailable": Meaning.SERVER,
        "request_timeout": Meaning.SERVER,
    },
    complains_in_200=True,
    headers={"x-oauth-scopes": "scopes", "x-slack-req-id": "request_id"},
)


def _method(talk: Talk, name: str) -> str:
    return f"{talk.base('SLACK_API_BASE')}/api/{name}"


def _token(talk: Talk) -> dict[str, str]:
    (token,) = talk.need("SLACK_BOT_TOKEN")
    return {"Authorization": f"Bearer {token}"}


# https://api.slack.com/methods/api.test
@conversation(SLACK)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The method that Slack has for this purpose; it wants no token."""
    return reachable(talk, "POST", _method(talk, "api.test"))


@conversation(SLACK)
def authentication(talk: Talk) -> ProbeOutcome:
    """Whose token it is."""
    answer = talk.ask("POST", _method(talk, "auth.test"), headers=_token(talk))
    talk.must(answer.get("ok") is True, "ok")
    return talk.healthy(
        "the token works",
        team=answer.get("team"),
        user=answer.get("user"),
        bot_id=answer.get("bot_id"),
    )


# https://api.slack.com/methods/conversations.info, .../conversations.list
@conversation(SLACK)
def functionality(talk: Talk) -> ProbeOutcome:
    """The channel can be looked up, or channels listed; nothing is posted."""
    channel = talk.options.channel if isinstance(talk.options, FunctionalityOptions) else None
    if channel:
        url = _method(talk, f"conversations.info?channel={channel}")
        answer = talk.ask("GET", url, headers=_token(talk))
        talk.must(isinstance(answer.get("channel"), dict), "the channel")
        if answer.get("channel", "is_archived") is True:
            talk.warn("the channel is archived")
        return talk.healthy("the channel can be read", channel=answer.get("channel", "name"))
    try:
        answer = talk.ask("GET", _method(talk, "conversations.list?limit=1"), headers=_token(talk))
    except Verdict as verdict:
        if verdict.complaint.code == "missing_scope" and "chat:write" in _scopes(talk):
            return talk.healthy("the token may post, but not list channels")
        raise
    talk.must(isinstance(answer.get("channels"), list), "channels")
    return talk.healthy("channels can be listed")


def _scopes(talk: Talk) -> list[str]:
    return [scope.strip() for scope in str(talk.details.get("scopes", "")).split(",")]


PROVIDER = Provider(
    slug="slack",
    label="Slack",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("SLACK_BOT_TOKEN",),
        options=FunctionalityOptions,
    ),
    variables=SLACK.variables,
    base_urls=SLACK.bases,
    status_page=StatusPage("https://slack-status.com/api/v2.0.0/current", format="slack"),
    docs_url="https://api.slack.com/methods",
)
