"""SendGrid: e-mail."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from providers.answers import Complaint, Dialect, Talk, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig, public_url
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
)
