"""Slack, through a bot token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from providers import payloads, signing
from providers.answers import Complaint, Dialect, Meaning, Talk, Verdict, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, Refused, Reply, Scheme, Verified
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


# https://api.slack.com/authentication/verifying-requests-from-slack
SIGNATURE, TIMESTAMP = "x-slack-signature", "x-slack-request-timestamp"


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """HMAC-SHA256 over ``v0:timestamp:body``, in hex after ``v0=``."""
    value = signing.header(inbound, SIGNATURE)
    timestamp = signing.header(inbound, TIMESTAMP)
    if not value.startswith("v0="):
        raise Refused("signature_malformed", "X-Slack-Signature does not begin with v0=")
    sent = signing.decoded(value.removeprefix("v0="), "hex")
    signed_at = signing.unix_time(timestamp)
    signing.check_window(signed_at, inbound)
    signed = f"v0:{timestamp}:".encode() + inbound.body
    index = signing.fitting(secrets, lambda secret: signing.equal(signing.sign(secret, signed), sent))
    return Verified("X-Slack-Signature v0, HMAC-SHA256", index, float(signed_at))


# https://api.slack.com/events/url_verification (signed like any event)
def answer(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> Reply | None:
    """The challenge, when the URL is entered at Slack."""
    body = _body(inbound)
    challenge = body.get("challenge")
    if body.get("type") != "url_verification" or not isinstance(challenge, str):
        return None
    return Reply(body=signing.raw(challenge))


# Events: https://api.slack.com/apis/events-api#event_type_structure; slash commands and interactive
# payloads are forms: https://api.slack.com/interactivity/handling
def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event, slash command or interaction; retries repeat ``event_id``."""
    body = _body(inbound)
    kind = dig(body, "event", "type") or body.get("type") or ("command" if "command" in body else None)
    subject = dig(body, "event", "channel") or dig(body, "channel", "id") or body.get("channel_id")
    return [
        Found(
            key=payloads.event_key(inbound.body, body.get("event_id") or body.get("trigger_id")),
            type=payloads.event_type(kind),
            occurred_at=payloads.from_unix(body.get("event_time")),
            subject=payloads.text(subject),
        )
    ]


def _body(inbound: Inbound) -> Mapping[str, JSON]:
    if not payloads.is_form(inbound):
        return payloads.read_object(inbound.body)
    form = dict(payloads.read_form(inbound.body))
    return payloads.read_object(signing.raw_form(form["payload"])) if "payload" in form else form


HOOKS = Scheme(
    verify=verify,
    read=read,
    answer=answer,
    secrets=("SLACK_SIGNING_SECRET",),
    accepted=Reply(200),
    signed_headers=(SIGNATURE, TIMESTAMP),
    hint="Slack waits 3 s for an answer, and checks the URL when it is entered.",
    secret_problem=signing.plain_problem,
)

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
    hooks=HOOKS,
)
