"""WhatsApp Business Cloud API (Meta's Graph)."""

from __future__ import annotations

from urllib.parse import quote

from providers.answers import Complaint, Dialect, Meaning, Talk, conversation, reachable, three, under_error
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from wsmon.http import Response

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
)
