"""Twilio: SMS and voice."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

from providers import payloads, signing
from providers.answers import Complaint, Dialect, Meaning, Talk, Verdict, conversation, given, reachable, three
from providers.base import NotConfigured, ProbeContext, ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, MessageStatus, Refused, Reply, Scheme, Verified
from wsmon.http import Client, HttpError
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
        Variable("TWILIO_FROM", "+1…, the number that wsmon's own SMS come from", secret=False),
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


# https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource
class SmsProblem(Exception):
    """An SMS was not taken. ``text`` says why, without a secret; ``retry``: another try can help."""

    def __init__(self, text: str, *, retry: bool, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.retry = retry
        self.retry_after = retry_after


def send_sms(http: Client, values: Mapping[str, str], to: str, text: str, timeout: float) -> None:
    """Send one SMS of wsmon's own, from the messaging service or the number; raise :class:`SmsProblem`.

    ``values`` are the provider's variables, ``to`` is an E.164 number, ``timeout`` is in seconds.
    """
    talk = Talk(ProbeContext(http, timeout, datetime.now(UTC), dict(values)), TWILIO)
    try:
        headers, _ = _login(talk)
        service = talk.value("TWILIO_MESSAGING_SERVICE_SID")
        sender = {"MessagingServiceSid": service} if service else {"From": talk.need("TWILIO_FROM")[0]}
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode({"To": to, "Body": text, **sender})
        talk.ask("POST", f"{_account(talk)}/Messages.json", headers=headers, body=body)
    except NotConfigured as absent:
        raise SmsProblem(f"SMS need {', '.join(absent.variables)}", retry=False) from None
    except HttpError as problem:
        raise SmsProblem(problem.message, retry=not problem.ours) from None
    except Verdict as verdict:
        category = verdict.outcome.category
        wrong = category in (Category.AUTHENTICATION_ERROR, Category.CLIENT_ERROR, Category.CONFIGURATION_ERROR)
        seconds = verdict.outcome.details.get("retry_after")
        wait = float(seconds) if isinstance(seconds, int | float) else None
        raise SmsProblem(verdict.outcome.message, retry=not wrong, retry_after=wait) from None


# https://www.twilio.com/docs/usage/security#validating-requests
# https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys
SIGNATURE = "x-twilio-signature"
SETTINGS = "x-twilio-webhooks-signature-settings"
_URL = re.compile(
    r"(https?)://(?:([^/?#@]*)@)?"  # scheme, user
    r"(\[[^\]/?#]*\]|[^/?#:\[\]]*)(?::([0-9]{1,5}))?"  # host, port
    r"(?=[/?#]|$)(.*)",
    re.DOTALL,
)
DEFAULT_PORTS = {"http": "80", "https": "443"}


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """HMAC-SHA1 (SHA-256 with a shared key) over the URL and a form's parameters; JSON by its digest.

    A callback by GET has its parameters in the URL, and nothing else is signed.
    """
    sent = signing.decoded(signing.header(inbound, SIGNATURE), "base64")
    algorithm = _algorithm(inbound)
    parameters = _signed_parameters(inbound)
    texts = [signing.raw(url) + parameters for url in _spellings(inbound.url)]

    def fits(secret: str) -> bool:
        return signing.any_equal(sent, [signing.sign(secret, text, algorithm) for text in texts])

    name = "HMAC-SHA1" if algorithm == "sha1" else "shared key, HMAC-SHA256"
    return Verified(f"X-Twilio-Signature, {name}", signing.fitting(secrets, fits))


def _algorithm(inbound: Inbound) -> signing.Algorithm:
    """SHA-1, unless the settings header says otherwise: then never SHA-1."""
    settings = inbound.headers.get(SETTINGS)
    if settings is None:
        return "sha1"
    if dict(part.partition("=")[::2] for part in settings.split(",")).get("algorithm") != "HMAC_SHA256":
        raise Refused("signature_malformed", "the signature's settings name an algorithm that is not known")
    return "sha256"


def _signed_parameters(inbound: Inbound) -> bytes:
    """A form's names and values, sorted and glued together, equal pairs once; b"" for JSON, whose digest
    stands in the URL and is checked here."""
    digests = [value for name, value in payloads.query(inbound.url) if name == "bodySHA256"]
    if digests:
        if len(digests) > 1 or not signing.equal(digests[0], sha256(inbound.body).hexdigest()):
            raise Refused("signature_mismatch", "the body's digest is not the one in the URL")
        return b""
    if not inbound.body:
        return b""
    if not payloads.is_form(inbound):
        raise Refused("signature_missing", "the URL holds no digest of the body (bodySHA256)")
    pairs = payloads.read_form(inbound.body)
    if not pairs:
        raise Refused("malformed", "the body is not a form", status=400)
    return signing.raw_form("".join(name + value for name, value in sorted(set(pairs))))


def _spellings(url: str) -> list[str]:
    """The URL without its fragment, as it is, without its port, and with the scheme's own port.

    Twilio is not of one mind about ports; a port that is not in our URL is never made up.
    """
    url = url.partition("#")[0]
    match = _URL.fullmatch(url)
    if match is None:
        return [url]
    scheme, user, host, port, rest = match.groups()
    start = f"{scheme}://{user}@{host}" if user is not None else f"{scheme}://{host}"
    spellings = {url: None, f"{start}{rest}": None}
    if port in (None, DEFAULT_PORTS[scheme]):
        spellings[f"{start}:{DEFAULT_PORTS[scheme]}{rest}"] = None
    return list(spellings)


# https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
STATUSES = {
    "accepted": MessageStatus.QUEUED,
    "scheduled": MessageStatus.QUEUED,
    "queued": MessageStatus.QUEUED,
    "sending": MessageStatus.QUEUED,
    "sent": MessageStatus.SENT,
    "delivered": MessageStatus.DELIVERED,
    "partially_delivered": MessageStatus.DELIVERED,
    "read": MessageStatus.READ,
    "undelivered": MessageStatus.FAILED,
    "failed": MessageStatus.FAILED,
    "canceled": MessageStatus.FAILED,
}
OPTED_OUT = "21610"


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """A status callback, an incoming message or a call; or a list of CloudEvents (Event Streams)."""
    if inbound.method == "GET":
        return [_by_get(inbound)]
    if payloads.is_form(inbound):
        return [_callback(dict(payloads.read_form(inbound.body)), inbound, inbound.body)]
    data = payloads.read_json(inbound.body)
    events = payloads.rows(data if isinstance(data, list) else [data])
    parts = [payloads.compact([event]) if len(events) > 1 else None for event in events]
    return [_cloud_event(*pair, inbound) for pair in zip(events, parts, strict=True)] or payloads.unknown(inbound)


def _by_get(inbound: Inbound) -> Found:
    """A callback whose parameters stand in the URL (``StatusCallbackMethod: GET``).

    They become its body, so that routes can look into it and a destination gets them: as JSON, unless the
    request says that it is a form.
    """
    sent = signing.raw(inbound.url.partition("#")[0].partition("?")[2])
    parameters = dict(payloads.query(inbound.url))
    found = _callback(parameters, inbound, sent)
    return replace(found, body=(sent if payloads.is_form(inbound) else payloads.compact(dict(parameters))) or None)


def _callback(form: Mapping[str, str], inbound: Inbound, sent: bytes) -> Found:
    """Twilio names no time; a request's retries share its idempotency token. ``sent``: the form as it came."""
    message = form.get("MessageSid") or form.get("SmsSid") or ""
    word = (form.get("MessageStatus") or form.get("SmsStatus") or "").lower()
    subject, kind = message, payloads.event_type("message", word) if word else payloads.UNKNOWN
    if not message and form.get("CallSid"):
        subject, word = form["CallSid"], form.get("CallStatus", "")
        kind = payloads.event_type("call", word)
    token = inbound.headers.get("i-twilio-idempotency-token")
    key = payloads.event_key(sent, token) if token else payloads.event_key(sent, subject, word)
    status = STATUSES.get(word) if message else None
    if form.get("ErrorCode") == OPTED_OUT or form.get("OptOutType", "").upper() == "STOP":
        status = MessageStatus.UNSUBSCRIBED
    return Found(key, kind, None, payloads.text(subject), status)


# https://www.twilio.com/docs/events/event-types
def _cloud_event(event: Mapping[str, JSON], part: bytes | None, inbound: Inbound) -> Found:
    word = payloads.text(dig(event, "data", "messageStatus")).lower()
    return Found(
        key=payloads.event_key(part or inbound.body, event.get("id")),
        type=payloads.event_type("message", word) if word else payloads.event_type(event.get("type")),
        occurred_at=payloads.from_iso(event.get("time")),
        subject=payloads.text(dig(event, "data", "messageSid")),
        status=STATUSES.get(word),
        body=part,
    )


def secret_problem(secret: str) -> str | None:
    """An auth token or a shared key, not the id of an account or key."""
    if re.fullmatch(r"(?:AC|SK)[0-9a-f]{32}", secret):
        return "is the SID of an account or an API key, not the auth token"
    return signing.plain_problem(secret)


HOOKS = Scheme(
    verify=verify,
    read=read,
    methods=("POST", "GET"),
    secrets=("TWILIO_AUTH_TOKEN",),
    signed_headers=(SIGNATURE, SETTINGS),
    signs_url=True,
    accepted=Reply(200, b"<Response/>", "text/xml"),
    batch=True,
    # https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
    hint="Add #rc=5&rp=all to the URL at Twilio: without it only a failed connection is tried again, once.",
    secret_problem=secret_problem,
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
    hooks=HOOKS,
)
