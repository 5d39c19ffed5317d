"""WhatsApp Business Cloud API (Meta's Graph)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from providers import payloads, signing
from providers.answers import Complaint, Dialect, Meaning, Talk, conversation, reachable, three, under_error
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, MessageStatus, Refused, Reply, Scheme, Verified
from wsmon.http import Response
from wsmon.vocabulary import JSON

VERSION = "v26.0"

# Codes, not statuses, tell (an expired token may be 400 or 401):
# https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
MEANINGS = {
    "190": Meaning.REFUSED,
    "3": Meaning.FORBIDDEN,
    "10": Meaning.FORBIDDEN,
    "131005": Meaning.FORBIDDEN,
    "4": Meaning.LIMITED,
    "80007": Meaning.LIMITED,
    "130429": Meaning.LIMITED,
    "131056": Meaning.LIMITED,
    "1": Meaning.SERVER,
    "2": Meaning.SERVER,
    "131000": Meaning.SERVER,
    "131016": Meaning.SERVER,
} | {str(code): Meaning.FORBIDDEN for code in range(200, 300)}


def _missing_token(response: Response, complaint: Complaint | None) -> Meaning | None:
    """Graph types a refused login as OAuthException, whatever the code of a missing token."""
    if response.status == 401 and complaint:
        return MEANINGS.get(complaint.code, Meaning.REFUSED)
    return None


WHATSAPP = Dialect(
    vendor="WhatsApp",
    complaint=under_error,
    variables=(
        Variable("WHATSAPP_TOKEN", "a system user's access token"),
        Variable("WHATSAPP_PHONE_NUMBER_ID", "the number's id in Graph", secret=False),
    ),
    bases={"WHATSAPP_API_BASE": "https://graph.facebook.com"},
    meanings=MEANINGS,
    special=_missing_token,
    headers={"x-fb-trace-id": "request_id", "facebook-api-version": "api_version"},
)


def _number(talk: Talk) -> str:
    (number,) = talk.need("WHATSAPP_PHONE_NUMBER_ID")
    return f"{talk.base('WHATSAPP_API_BASE')}/{VERSION}/{quote(number, safe='')}"


def _token(talk: Talk) -> dict[str, str]:
    (token,) = talk.need("WHATSAPP_TOKEN")
    return {"Authorization": f"Bearer {token}"}


@conversation(WHATSAPP)
def connectivity(talk: Talk) -> ProbeOutcome:
    """Graph without a token: its own error proves that it answers."""
    number = quote(talk.value("WHATSAPP_PHONE_NUMBER_ID") or "me", safe="")
    return reachable(talk, "GET", f"{talk.base('WHATSAPP_API_BASE')}/{VERSION}/{number}")


# https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers
@conversation(WHATSAPP)
def authentication(talk: Talk) -> ProbeOutcome:
    """The phone number with the token."""
    answer = talk.ask("GET", f"{_number(talk)}?fields=verified_name", headers=_token(talk))
    talk.must(answer.text("id") is not None, "the number's id")
    return talk.healthy("the token works", verified_name=answer.get("verified_name"))


@conversation(WHATSAPP)
def functionality(talk: Talk) -> ProbeOutcome:
    """The number's quality rating, throughput and messaging limit."""
    fields = "verified_name,display_phone_number,quality_rating,throughput,whatsapp_business_manager_messaging_limit"
    answer = talk.ask("GET", f"{_number(talk)}?fields={fields}", headers=_token(talk))
    talk.must(answer.text("id") is not None, "the number's id")
    quality = answer.text("quality_rating")
    if quality in {"YELLOW", "RED"}:
        talk.warn(f"the quality rating is {quality}")
    return talk.healthy(
        "the number can be read" + (f", quality {quality}" if quality else ""),
        verified_name=answer.get("verified_name"),
        phone_number=answer.get("display_phone_number"),
        quality_rating=quality,
        throughput=answer.get("throughput", "level"),
        messaging_limit=answer.get("whatsapp_business_manager_messaging_limit"),
    )


# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/create-webhook-endpoint
class HookOptions(BaseModel):
    """``verify_token`` is what was entered at Meta beside the URL; Meta shows it when it checks the URL."""

    model_config = ConfigDict(extra="forbid")

    verify_token: str | None = Field(default=None, min_length=1, max_length=500, repr=False)


# Meta signs the bytes it sends (with \\uXXXX escapes) by the app's secret, not by the verify token.
SIGNATURE = signing.OverBody("x-hub-signature-256", prefix="sha256=")
_CHALLENGE = re.compile(r"[\w.~-]{1,500}", re.ASCII)


def greet(inbound: Inbound, _secrets: Sequence[str] = (), options: Any = None) -> Reply | None:
    """Meta's check of the URL, a GET each time it is saved: the challenge for the right token, else 403."""
    if inbound.method != "GET":
        return None
    asked = dict(payloads.query(inbound.url))
    wanted = options.verify_token if isinstance(options, HookOptions) else None
    if not wanted:
        raise Refused("not_configured", "set the option verify_token", status=403)
    if asked.get("hub.mode") != "subscribe" or not signing.equal(asked.get("hub.verify_token", ""), wanted):
        raise Refused("signature_mismatch", "the verify token is not the one of this source", status=403)
    challenge = asked.get("hub.challenge", "")
    if not _CHALLENGE.fullmatch(challenge):
        raise Refused("malformed", "the challenge is not one of Meta's", status=403)
    return Reply(body=challenge.encode())


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """HMAC-SHA256 of the body by the app's secret."""
    return SIGNATURE.verify(inbound, secrets)


# https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
STATUSES = {
    "sent": MessageStatus.SENT,
    "delivered": MessageStatus.DELIVERED,
    "read": MessageStatus.READ,
    "played": MessageStatus.READ,
    "failed": MessageStatus.FAILED,
}
OPTED_OUT = 131050
LISTS = ("messages", "statuses", "errors")


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event for each status, message or other change, in the envelope's order."""
    envelope = payloads.read_object(inbound.body)
    found = []
    for entry, change, kind, item in _parts(envelope):
        part = payloads.compact(envelope | {"entry": [{**entry, "changes": [change]}]})
        found.append(_found(part or inbound.body, change, kind, item))
    return found if len(found) > 1 else [replace(each, body=None) for each in found] or payloads.unknown(inbound)


_Part = tuple[Mapping[str, JSON], Mapping[str, JSON], str, Mapping[str, JSON]]


def _parts(envelope: Mapping[str, JSON]) -> Iterator[_Part]:
    """Each entry and change with one status or message only; a change with neither as it is."""
    for entry in payloads.rows(envelope.get("entry")):
        for change in payloads.rows(entry.get("changes")):
            value = change.get("value")
            value = value if isinstance(value, dict) else {}
            listed = [(name, item) for name in LISTS[:2] for item in payloads.rows(value.get(name))]
            for name, item in listed:
                yield entry, {**change, "value": _only(value, name, item)}, name, item
            if not listed:
                yield entry, change, "", {}


def _only(value: Mapping[str, JSON], name: str, item: Mapping[str, JSON]) -> dict[str, JSON]:
    """A change's value with one item of one list; of the contacts only its own, where there is one."""
    kept = {key: each for key, each in value.items() if key not in LISTS} | {name: [item]}
    person = item.get("from") or item.get("recipient_id")
    own = [contact for contact in payloads.rows(value.get("contacts")) if contact.get("wa_id") == person]
    return kept | {"contacts": own} if own else kept


def _found(body: bytes, change: Mapping[str, JSON], kind: str, item: Mapping[str, JSON]) -> Found:
    when, subject = payloads.from_unix(item.get("timestamp")), payloads.text(item.get("id"))
    if kind == "messages":
        return Found(payloads.event_key(body, item.get("id")), "message.received", when, subject, body=body)
    if kind == "statuses":
        word = payloads.text(item.get("status"))
        codes = [error.get("code") for error in payloads.rows(item.get("errors"))]
        status = MessageStatus.UNSUBSCRIBED if OPTED_OUT in codes else STATUSES.get(word)
        key = payloads.event_key(body, item.get("id"), item.get("status"))
        return Found(key, payloads.event_type("message", word), when, subject, status, body)
    wishes = payloads.rows(dig(change, "value", "user_preferences"))
    stopped = MessageStatus.UNSUBSCRIBED if any(wish.get("value") == "stop" for wish in wishes) else None
    person = payloads.text(wishes[0].get("wa_id")) if wishes else ""
    return Found(payloads.digest(body), payloads.event_type(change.get("field")), None, person, stopped, body)


HOOKS = Scheme(
    verify=verify,
    read=read,
    greet=greet,
    methods=("GET", "POST"),
    options=HookOptions,
    secrets=("WHATSAPP_APP_SECRET",),
    signed_headers=(SIGNATURE.header,),
    max_bytes=3 * 1_048_576,
    batch=True,
    hint="Meta checks the URL when it is saved: the option verify_token must be set before.",
    secret_problem=signing.plain_problem,
)

PROVIDER = Provider(
    slug="whatsapp",
    label="WhatsApp",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("WHATSAPP_TOKEN", "WHATSAPP_PHONE_NUMBER_ID"),
    ),
    variables=WHATSAPP.variables,
    base_urls=WHATSAPP.bases,
    status_page=StatusPage("https://metastatus.com/outage-events-feed-whatsapp-business-api.rss", format="rss"),
    docs_url="https://developers.facebook.com/documentation/business-messaging/whatsapp",
    hooks=HOOKS,
)
