"""Requests as vendors sign them, for the inbound application: (body, headers) of each."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twilio.request_validator import RequestValidator

Signed = tuple[bytes, dict[str, str]]
TWILIO_TOKEN = "planted0123456789abcdef012345678"
WHATSAPP_SECRET = "app-secret-planted"
GRAPH_STATE = "client-state-planted-0123"
SLACK_SECRET = "slack-secret-planted"
FORM = "application/x-www-form-urlencoded"
JSON_TYPE = {"content-type": "application/json"}


def twilio(url: str, **form: str) -> Signed:
    """A status callback, signed for the URL under which Twilio knows us."""
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered"} | form
    signature = RequestValidator(TWILIO_TOKEN).compute_signature(url, fields)
    return urlencode(fields).encode(), {"x-twilio-signature": signature, "content-type": FORM}


def twilio_by_get(url: str, **parameters: str) -> tuple[str, dict[str, str]]:
    """A status callback by GET: its query, and the headers."""
    query = urlencode({"MessageSid": "SM1", "MessageStatus": "delivered"} | parameters)
    return query, {"x-twilio-signature": RequestValidator(TWILIO_TOKEN).compute_signature(f"{url}?{query}", {})}


class SendGrid:
    """An account of SendGrid's, with its key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public = base64.b64encode(der).decode()

    def signed(self, elements: list[dict[str, Any]]) -> Signed:
        """Events of mails, in one request."""
        body, seconds = json.dumps(elements).encode(), str(int(time.time()))
        signature = base64.b64encode(self._key.sign(seconds.encode() + body, ec.ECDSA(SHA256()))).decode()
        prefix = "x-twilio-email-event-webhook-"
        return body, JSON_TYPE | {f"{prefix}signature": signature, f"{prefix}timestamp": seconds}


def whatsapp(*statuses: tuple[str, str]) -> Signed:
    """Statuses of messages (id, word), each in an entry of its own."""
    entries = [
        {
            "id": f"account-{number}",
            "changes": [
                {
                    "field": "messages",
                    "value": {
                        "messaging_product": "whatsapp",
                        "statuses": [{"id": message, "status": word, "timestamp": "1772000000"}],
                    },
                }
            ],
        }
        for number, (message, word) in enumerate(statuses)
    ]
    body = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
    digest = hmac.new(WHATSAPP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return body, JSON_TYPE | {"x-hub-signature-256": f"sha256={digest}"}


def graph(*states: str) -> Signed:
    """Notifications of Microsoft Graph, each with a clientState."""
    items = [
        {
            "subscriptionId": "sub-1",
            "clientState": state,
            "changeType": "updated",
            "resource": f"Users/u/Events/{number}",
            "resourceData": {"@odata.type": "#Microsoft.Graph.Event", "@odata.etag": "W/1", "id": f"item-{number}"},
        }
        for number, state in enumerate(states)
    ]
    return json.dumps({"value": items}).encode(), dict(JSON_TYPE)


def slack(**event: Any) -> Signed:
    """Anything of Slack's."""
    body, seconds = json.dumps(event).encode(), str(int(time.time()))
    digest = hmac.new(SLACK_SECRET.encode(), f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
    return body, JSON_TYPE | {"x-slack-signature": f"v0={digest}", "x-slack-request-timestamp": seconds}


def generic(secret: str, body: bytes) -> Signed:
    """An HMAC over the body, in hex."""
    return body, {"x-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
