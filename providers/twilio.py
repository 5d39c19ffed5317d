"""Twilio: SMS and voice."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

from providers.answers import Complaint, Dialect, Meaning, Talk, conversation, given, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from wsmon.vocabulary import JSON, Category, Outcome


def _complaint(data: JSON) -> Complaint | None:
    code, message = dig(data, "code"), dig(data, "message")
    return Complaint(str(code), message) if isinstance(code, int) and isinstance(message, str) else None


# Error bodies and codes: https://www.twilio.com/docs/api/errors (20429: too many concurrent requests)
TWILIO = Dialect(
    vendor="Twilio",
    complaint=_complaint,
    variables=(
        Variable("TWILIO_ACCOUNT_SID", "AC…", secret=False),
        Variable("TWILIO_AUTH_TOKEN", "or an API key and its secret"),
        Variable("TWILIO_API_KEY", "SK…, instead of the auth token"),
        Variable("TWILIO_API_SECRET", "the API key's secret"),
        Variable("TWILIO_MESSAGING_SERVICE_SID", "MG…, optional: looked up by functionality", secret=False),
    ),
    bases={
        "TWILIO_API_BASE": "https://api.twilio.com",
        "TWILIO_MESSAGING_BASE": "https://messaging.twilio.com",
    },
    meanings={"20429": Meaning.LIMITED},
    headers={"Twilio-Request-Id": "request_id"},
)
CREDENTIALS = (("TWILIO_AUTH_TOKEN",), ("TWILIO_API_KEY", "TWILIO_API_SECRET"))


def _login(talk: Talk) -> tuple[dict[str, str], bool]:
    """The Basic header, and whether it is an API key's."""
    (sid,) = talk.need("TWILIO_ACCOUNT_SID")
    by_key = given(talk.context, CREDENTIALS) == 1
    pair = (talk.value("TWILIO_API_KEY"), talk.value("TWILIO_API_SECRET"))
    user, password = pair if by_key else (sid, talk.value("TWILIO_AUTH_TOKEN"))
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    talk.secrets.append(encoded)
    return {"Authorization": f"Basic {encoded}"}, by_key


def _account(talk: Talk) -> str:
    (sid,) = talk.need("TWILIO_ACCOUNT_SID")
    return f"{talk.base('TWILIO_API_BASE')}/2010-04-01/Accounts/{quote(sid, safe='')}"


@conversation(TWILIO)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The accounts without a credential: Twilio's own 401 proves that its API answers."""
    return reachable(talk, "GET", f"{talk.base('TWILIO_API_BASE')}/2010-04-01/Accounts.json")


# https://www.twilio.com/docs/iam/api/account
@conversation(TWILIO)
def authentication(talk: Talk) -> ProbeOutcome:
    """The account, its state and type. With an API key: its messages, since not every key may read accounts."""
    headers, by_key = _login(talk)
    if by_key:
        messages = talk.ask("GET", f"{_account(talk)}/Messages.json?PageSize=1", headers=headers)
        talk.must(isinstance(messages.get("messages"), list), "a list of messages")
        return talk.healthy("the API key works", credential="api_key")
    account = talk.ask("GET", f"{_account(talk)}.json", headers=headers)
    state = account.text("status")
    talk.must(state is not None, "an account's status")
    talk.details |= {"account": account.get("friendly_name"), "state": state, "type": account.get("type")}
    if state != "active":
        return talk.say(
            Outcome.ERROR,
            f"the credential works, but the account is {state}",
            Category.AUTHENTICATION_ERROR,
        )
    return talk.healthy("the auth token works, the account is active", credential="auth_token")


# https://www.twilio.com/docs/sms/api/message-resource#read-multiple-message-resources
@conversation(TWILIO)
def functionality(talk: Talk) -> ProbeOutcome:
    """Messages can be read; the balance and the messaging service where there are any."""
    headers, _ = _login(talk)
    messages = talk.ask("GET", f"{_account(talk)}/Messages.json?PageSize=1", headers=headers)
    talk.must(isinstance(messages.get("messages"), list), "a list of messages")
    balance = talk.try_ask("balance", "GET", f"{_account(talk)}/Balance.json", headers=headers)
    if service := talk.value("TWILIO_MESSAGING_SERVICE_SID"):
        base = talk.base("TWILIO_MESSAGING_BASE")
        found = talk.ask("GET", f"{base}/v1/Services/{quote(service, safe='')}", headers=headers)
        talk.details["messaging_service"] = found.get("friendly_name")
    return talk.healthy(
        "messages can be read",
        last_message_status=messages.get("messages", 0, "status"),
        last_error_code=messages.get("messages", 0, "error_code"),
        balance=balance.get("balance") if balance else None,
        currency=balance.get("currency") if balance else None,
    )


PROVIDER = Provider(
    slug="twilio",
    label="Twilio",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("TWILIO_ACCOUNT_SID",),
        credentials=CREDENTIALS,
    ),
    variables=TWILIO.variables,
    base_urls=TWILIO.bases,
    status_page=StatusPage(
        "https://status.twilio.com/api/v2/summary.json",
        components=("REST API", "SMS"),
        page_id="gpkpyklzq55q",
    ),
    docs_url="https://www.twilio.com/docs/usage/api",
)
