"""What the stand-in vendors answer: the shapes of the real ones, as far as wsmon's probes look at them."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.script import Behaviour


@dataclass(frozen=True, slots=True)
class Request:
    """What a stand-in looks at. ``path`` begins behind the vendor's prefix and has no query."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    behaviour: Behaviour
    """Only the status page asks for it: the others misbehave before they are asked."""

    @property
    def has_credential(self) -> bool:
        return bool(self.headers.get("authorization") or self.headers.get("apikey"))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; ``body`` is JSON unless it is text already."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """One vendor: its good answers by method and path, and its ways to complain."""

    answers: Mapping[str, Callable[[Request], Reply] | Reply]
    """``"GET /v1/balance"`` (a regular expression) -> the answer."""
    refused: Reply
    limited: Reply
    anonymous: Reply | None = None
    """The answer without a credential; ``None`` where none is needed."""
    open: str = r"(?!)"
    """Paths that need no credential."""
    latency: tuple[float, float] = (0.04, 0.12)
    """Seconds that a good answer takes, at least and at most."""

    def answer(self, request: Request) -> Reply:
        """The good answer to a request."""
        if self.anonymous and not request.has_credential and not re.fullmatch(self.open, request.path):
            return self.anonymous
        for pattern, reply in self.answers.items():
            if re.fullmatch(pattern, f"{request.method} {request.path}"):
                return reply(request) if callable(reply) else reply
        return Reply(404, {"message": "Not Found", "code": 404, "error": {"message": "Not Found"}})


_numbers = itertools.count(1)


def _headroom(limit: int) -> dict[str, str]:
    """Rate-limit headers whose headroom moves a little."""
    return {
        "ratelimit-limit": str(limit),
        "ratelimit-remaining": str(limit - next(_numbers) % max(1, limit // 2)),
        "ratelimit-reset": "1",
    }


def _stripe_error(status: int, message: str, **more: str) -> Reply:
    return Reply(status, {"error": {"type": "invalid_request_error", "message": message} | more})


def _stripe_events(request: Request) -> Reply:
    """Every event was delivered, so nothing is listed when only failed deliveries are asked for."""
    event = {"object": "event", "type": "payment_intent.succeeded", "livemode": False}
    listed = [] if "delivery_success=false" in request.query else [event]
    return _stripe({"object": "list", "data": listed})(request)


def _stripe(data: Mapping[str, Any]) -> Callable[[Request], Reply]:
    def reply(_: Request) -> Reply:
        headers = {"Request-Id": f"req_demo{next(_numbers):06d}", "Stripe-Version": "2026-09-30"}
        return Reply(200, data, headers)

    return reply


STRIPE = Shape(
    answers={
        "GET /v1/balance": _stripe(
            {
                "object": "balance",
                "livemode": False,
                "available": [{"amount": 1_284_050, "currency": "eur"}],
                "pending": [{"amount": 97_300, "currency": "eur"}],
            }
        ),
        "GET /v1/events": _stripe_events,
        "GET /v1/webhook_endpoints": _stripe(
            {
                "object": "list",
                "data": [
                    {
                        "status": "enabled",
                        "url": "https://app.example.com/api/webhooks/stripe",
                        "api_version": "2026-09-30",
                    }
                ],
            }
        ),
    },
    anonymous=_stripe_error(401, "You did not provide an API key."),
    refused=_stripe_error(401, "Invalid API Key provided: sk_test_****demo"),
    limited=_stripe_error(429, "Request rate limit exceeded.", code="rate_limit"),
    latency=(0.09, 0.18),
)


def _resend_error(status: int, name: str, message: str) -> Reply:
    return Reply(status, {"statusCode": status, "name": name, "message": message})


def _resend(rows: list[dict[str, Any]]) -> Callable[[Request], Reply]:
    return lambda _: Reply(200, {"object": "list", "data": rows}, _headroom(10))


RESEND = Shape(
    answers={
        "GET /domains": _resend(
            [
                {"name": "weddings.example", "status": "verified"},
                {"name": "mail.weddings.example", "status": "pending"},
            ]
        ),
        "GET /webhooks": _resend(
            [
                {
                    "status": "enabled",
                    "endpoint": "https://app.example.com/api/webhooks/resend",
                    "events": ["email.delivered", "email.bounced"],
                }
            ]
        ),
    },
    anonymous=_resend_error(401, "missing_api_key", "Missing API Key"),
    refused=_resend_error(403, "invalid_api_key", "API key is invalid"),
    limited=_resend_error(429, "rate_limit_exceeded", "Too many requests."),
    latency=(0.05, 0.11),
)


def _twilio_error(status: int, code: int, message: str) -> Reply:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return Reply(status, {"code": code, "message": message, "more_info": more, "status": status})


_ACCOUNT = "/2010-04-01/Accounts/[^/]+"
TWILIO = Shape(
    answers={
        rf"GET {_ACCOUNT}\.json": Reply(200, {"friendly_name": "Weddings Ltd", "status": "active", "type": "Full"}),
        rf"GET {_ACCOUNT}/Messages\.json": Reply(200, {"messages": [{"status": "delivered", "error_code": None}]}),
        rf"GET {_ACCOUNT}/Balance\.json": Reply(200, {"balance": "42.17", "currency": "EUR"}),
    },
    anonymous=_twilio_error(401, 20003, "Authentication Error - No credentials provided"),
    refused=_twilio_error(401, 20003, "Authenticate"),
    limited=_twilio_error(429, 20429, "Too Many Requests"),
    latency=(0.12, 0.22),
)


def _google_error(status: int, reason: str, message: str) -> Reply:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return Reply(status, {"error": {"code": status, "message": message, "errors": errors}})


GOOGLE = Shape(
    answers={
        "POST /token": lambda _: Reply(
            200,
            {"access_token": f"ya29.demo{next(_numbers):06d}", "expires_in": 3599, "token_type": "Bearer"},
        ),
        "GET /calendar/v3/users/me/calendarList": Reply(
            200, {"kind": "calendar#calendarList", "items": [{"accessRole": "owner"}]}
        ),
        "GET /calendar/v3/calendars/[^/]+/events": Reply(
            200,
            {
                "kind": "calendar#events",
                "summary": "Weddings",
                "timeZone": "Europe/Berlin",
                "accessRole": "owner",
                "updated": "2026-11-20T10:00:00.000Z",
            },
        ),
    },
    open="/token",
    anonymous=_google_error(401, "required", "Login Required."),
    refused=_google_error(401, "authError", "Invalid Credentials"),
    limited=_google_error(429, "rateLimitExceeded", "Rate Limit Exceeded"),
    latency=(0.06, 0.13),
)

SUPABASE = Shape(
    answers={
        "GET /auth/v1/health": Reply(200, {"version": "v2.182.1", "name": "GoTrue"}),
        "GET /auth/v1/settings": Reply(
            200,
            {
                "external": {"email": True, "google": True, "apple": False},
                "disable_signup": False,
                "mailer_autoconfirm": False,
                "phone_autoconfirm": False,
                "sms_provider": "twilio",
                "saml_enabled": False,
            },
        ),
        "GET /auth/v1/admin/users": Reply(200, {"users": [], "aud": "authenticated"}, {"x-total-count": "412"}),
        "GET /realtime/v1/api/ping": Reply(
            200, {"message": "Success"}, {"x-rate-limit": "100", "x-rate-limit-remaining": "97"}
        ),
    },
    anonymous=Reply(401, {"message": "No API key found in request"}),
    refused=Reply(401, {"code": 401, "error_code": "bad_jwt", "msg": "invalid JWT: unable to verify signature"}),
    limited=Reply(429, {"code": 429, "error_code": "over_request_rate_limit", "msg": "Request rate limit reached"}),
    latency=(0.03, 0.08),
)

SITE = Shape(
    answers={"GET /health": lambda _: Reply(200, {"ok": True, "db": "up", "time": int(time.time())})},
    refused=Reply(401, {"ok": False}),
    limited=Reply(429, {"ok": False}),
    latency=(0.01, 0.03),
)

WORDS = {
    Behaviour.SLOW: ("minor", "degraded_performance", "Elevated latency"),
    Behaviour.FAIL: ("major", "partial_outage", "Elevated errors on e-mail delivery"),
}


def _summary(request: Request) -> Reply:
    """A Statuspage summary; this "vendor" misbehaves by telling of an incident."""
    indicator, word, title = WORDS.get(request.behaviour, ("none", "operational", ""))
    incident = {
        "id": "i1",
        "name": title,
        "status": "investigating",
        "impact": indicator,
        "components": [{"id": "c1", "name": "E-mail API"}],
    }
    described = "All Systems Operational" if indicator == "none" else title
    return Reply(
        200,
        {
            "page": {"id": "demo", "name": "Demo vendors"},
            "status": {"indicator": indicator, "description": described},
            "components": [
                {"id": "c1", "name": "E-mail API", "status": word, "group": False},
                {"id": "c2", "name": "Payments API", "status": "operational", "group": False},
            ],
            "incidents": [incident] if title else [],
            "scheduled_maintenances": [],
        },
    )


STATUS = Shape(
    answers={r"GET /api/v2/summary\.json": _summary},
    refused=Reply(401, {}),
    limited=Reply(429, {}),
)

# The team's own programs, which wsmon forwards webhooks to.
_TAKEN = Reply(200, {"ok": True})
_TAX_RATE = {"error": "unknown tax_rate txr_1Q", "field": "lines.data[0].tax_rates"}

APP = Shape(answers={r"POST /hooks.*": _TAKEN}, refused=Reply(401, {}), limited=Reply(429, {}), latency=(0.01, 0.06))
LEDGER = Shape(
    # It does not understand invoices with a tax rate that it has never heard of: dead letters for a person.
    answers={r"POST /hooks/finalized": Reply(422, _TAX_RATE), r"POST /hooks.*": _TAKEN},
    refused=Reply(401, {}),
    limited=Reply(429, {}),
    latency=(0.005, 0.03),
)
MAILER = Shape(
    answers={r"POST /hooks.*": _TAKEN}, refused=Reply(401, {}), limited=Reply(429, {}), latency=(0.005, 0.02)
)

SHAPES: Mapping[str, Shape] = {
    "stripe": STRIPE,
    "resend": RESEND,
    "twilio": TWILIO,
    "google": GOOGLE,
    "supabase": SUPABASE,
    "site": SITE,
    "status": STATUS,
    "app": APP,
    "ledger": LEDGER,
    "mailer": MAILER,
}
