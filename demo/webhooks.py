"""What the stand-in vendors send: signed webhooks, a few in each second, some of them twice or out of order."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import requests

PATIENCE = 5.0
RANDOM = random.Random()  # noqa: S311  a story, not a secret
PEOPLE = ("ada", "grace", "linus", "margaret", "alan")


@dataclass(frozen=True, slots=True)
class Sending:
    """One webhook as its vendor sends it."""

    source: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def stripe(secret: str) -> Sending:
    """A payment, a checkout or an invoice."""
    number = uuid.uuid4().hex[:14]
    kinds = ["payment_intent.succeeded", "checkout.session.completed", "invoice.paid", "charge.refunded"]
    kind = RANDOM.choices([*kinds, "invoice.finalized", "customer.updated"], [8, 4, 3, 1, 0.4, 1])[0]
    person = RANDOM.choice(PEOPLE)
    body = _json(
        {
            "id": f"evt_{number}",
            "object": "event",
            "api_version": "2026-09-30",
            "type": kind,
            "created": int(time.time()),
            "livemode": False,
            "data": {
                "object": {
                    "id": f"{kind[:2]}_{number}",
                    "object": kind.rpartition(".")[0],
                    "amount": RANDOM.randrange(1_000, 200_000),
                    "currency": "eur",
                    "customer": f"cus_{person}",
                    "receipt_email": f"{person}@example.com",
                    "shipping": {"name": person.title(), "phone": "+49 30 1234567"},
                }
            },
        }
    )
    seconds = int(time.time())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return Sending("stripe", body, {"Stripe-Signature": f"t={seconds},v1={digest}"})


def resend(secret: str) -> Sending:
    """What became of an e-mail."""
    message = f"msg_{uuid.uuid4().hex}"
    kinds = ["email.sent", "email.delivered", "email.opened", "email.bounced"]
    kind = RANDOM.choices(kinds, [4, 8, 3, 0.3])[0]
    person = RANDOM.choice(PEOPLE)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    data = {"email_id": str(uuid.uuid4()), "created_at": now, "to": [f"{person}@example.com"], "subject": "Your date"}
    body = _json({"type": kind, "created_at": now, "data": data})
    seconds = str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return Sending("resend", body, {"svix-id": message, "svix-timestamp": seconds, "svix-signature": signature})


def twilio(secret: str, url: str) -> Sending:
    """What became of a text message; Twilio signs the URL and the form."""
    status = RANDOM.choices(["sent", "delivered", "undelivered"], [4, 8, 0.5])[0]
    number = uuid.uuid4().hex
    form = {"MessageSid": f"SM{number}", "MessageStatus": status, "From": "+15005550006", "To": "+491701234567"}
    text = url + "".join(name + form[name] for name in sorted(form))
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()
    headers = {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
        "I-Twilio-Idempotency-Token": number,
    }
    return Sending("twilio", urlencode(form).encode(), headers)


def calendar(token: str) -> Sending:
    """A calendar has changed; Google sends no body."""
    headers = {
        "X-Goog-Channel-ID": "demo-channel",
        "X-Goog-Channel-Token": token,
        "X-Goog-Resource-State": "exists",
        "X-Goog-Resource-ID": "demo-resource",
        "X-Goog-Message-Number": str(time.time_ns() // 1_000_000),
    }
    return Sending("google_calendar", b"", headers)


def forged() -> Sending:
    """Somebody who does not know the secret tries."""
    return Sending("stripe", b'{"id": "evt_forged"}', {"Stripe-Signature": f"t={int(time.time())},v1={'0' * 64}"})


class Senders:
    """A thread for each vendor; they begin when wsmon (its URL) is there."""

    def __init__(self, environment: Mapping[str, str], wsmon: str) -> None:
        self._base = f"{wsmon.rstrip('/')}/api/webhooks/"
        self._stopping = threading.Event()
        env = environment
        makers: list[tuple[Callable[[], Sending], float]] = [
            (lambda: stripe(env["STRIPE_WEBHOOK_SECRET"]), 2.0),
            (lambda: resend(env["RESEND_WEBHOOK_SECRET"]), 2.0),
            (lambda: twilio(env["TWILIO_AUTH_TOKEN"], f"{self._base}twilio"), 0.5),
            (lambda: calendar(env["GOOGLE_CALENDAR_CHANNEL_TOKEN"]), 0.2),
            (forged, 0.02),
        ]
        for make, per_second in makers:
            threading.Thread(target=self._send_on, args=(make, per_second), daemon=True, name="webhooks").start()

    def stop(self) -> None:
        """End the sending; returns at once."""
        self._stopping.set()

    def _send_on(self, make: Callable[[], Sending], per_second: float) -> None:
        session = requests.Session()
        session.trust_env = False
        while not self._stopping.wait(RANDOM.expovariate(per_second)):
            sending = make()
            copies = 2 if RANDOM.random() < 0.03 else 1  # vendors send some events twice
            for _ in range(copies):
                self._deliver(session, sending)

    def _deliver(self, session: requests.Session, sending: Sending) -> None:
        headers = {"Content-Type": "application/json"} | dict(sending.headers)
        for pause in (0.5, 2.0, 5.0):
            try:
                url = self._base + sending.source
                answer: Any = session.post(url, data=sending.body, headers=headers, timeout=PATIENCE)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code < 500:
                return
            if self._stopping.wait(pause):
                return


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
