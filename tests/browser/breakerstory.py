"""Breakers to look at: the story's services with breakers in every state, written straight into the tables."""

from __future__ import annotations

import math
from datetime import timedelta

from django.utils import timezone

from monitoring.models import Breaker, BreakerMinute, BreakerSlot, BreakerTransition, Service
from tests.browser.story import Told, tell

MORE = [
    Told("sendgrid", "SendGrid", "high", "degraded", {"connectivity": "degraded"}, 410, 6, "503 for 1 of 2", ""),
    Told("resend", "Resend", "normal", "healthy", {"connectivity": "healthy"}, 61),
]


def tell_breakers() -> dict[str, Service]:
    """The Saturday's services and their breakers: open, ours, half open, forced, closed."""
    services = tell() | tell(MORE)
    now = timezone.now()
    services["sendgrid"].breaker = {"policy": "counting"}
    services["resend"].breaker = {"policy": "counting"}
    for slug in ("sendgrid", "resend"):
        services[slug].save()
    states = {
        "booking-app": {"state": "OPEN", "generation": 9, "since": now - timedelta(minutes=14), "openings": 5,
                        "opened_at": now - timedelta(seconds=48), "open_for": 120.0, "cause": "outage",
                        "reason": "20 of 20 calls failed in 10 s"},
        "whatsapp": {"state": "OPEN", "generation": 3, "since": now - timedelta(minutes=70), "openings": 1,
                     "opened_at": now - timedelta(seconds=20), "open_for": 300.0, "cause": "credential",
                     "reason": "31 of 31 calls failed in 10 s"},
        "github": {"state": "OPEN", "generation": 3, "since": now - timedelta(minutes=2), "openings": 2,
                   "opened_at": now - timedelta(seconds=40), "open_for": 30.0, "cause": "rate_limit",
                   "reason": "22 of 40 calls failed in 10 s", "not_before": now - timedelta(seconds=5)},
        "sendgrid": {"state": "HALF_OPEN", "generation": 6, "since": now - timedelta(seconds=50), "openings": 2,
                     "opened_at": now - timedelta(minutes=1), "open_for": 30.0, "cause": "outage", "successes": 1,
                     "reason": "5 failures counted, 5 open it",
                     "trials": [{"token": "t", "until": (now + timedelta(seconds=6)).isoformat(),
                                 "by": "process 4711 on host-b"}]},
        "shopify": {"state": "CLOSED", "generation": 2, "since": now - timedelta(days=9), "forced": "OPEN",
                    "forced_by": "operator", "forced_reason": "shop moves to the new account",
                    "forced_at": now - timedelta(hours=20), "forced_until": now + timedelta(days=2)},
        "public-site": {"state": "OPEN", "generation": 5, "since": now - timedelta(minutes=20), "openings": 1,
                        "opened_at": now - timedelta(minutes=20), "open_for": 30.0, "cause": "outage",
                        "reason": "12 of 20 calls failed in 10 s", "forced": "CLOSED", "forced_by": "grace",
                        "forced_reason": "<b>only the health check</b> is wrong",
                        "forced_at": now - timedelta(minutes=3)},
        "resend": {"state": "CLOSED", "generation": 4, "since": now - timedelta(days=3, hours=4), "score": 3},
        "twilio": {"state": "CLOSED", "generation": 4, "since": now - timedelta(days=3, hours=4)},
    }  # fmt: skip
    for slug, fields in states.items():
        Breaker.objects.create(service=services[slug], **fields)
    calls = {"booking-app": (0, 1), "twilio": (9, 2), "stripe": (22, 0), "sendgrid": (1, 0), "supabase-auth": (38, 0)}
    rejected = {"booking-app": 1204, "whatsapp": 37, "sendgrid": 88, "github": 12}
    for slug, service in services.items():
        flow(service, *calls.get(slug, (3, 0)), rejected.get(slug, 0))
    _log(services)
    return services


def flow(service: Service, ok: int, fail: int, rejected: int = 0) -> None:
    """Calls: about so many per second in the window, and an hour of minutes that ends like it."""
    now = timezone.now()
    row = Breaker.objects.filter(service=service).first()
    quiet = row is not None and "OPEN" in (row.state, row.forced)
    BreakerSlot.objects.bulk_create(
        BreakerSlot(
            service=service, generation=row.generation if row else 0, start=now - timedelta(seconds=back),
            ok=max(0, ok + round(2 * math.sin(back * 2.1))) if ok else 0, fail=fail + back % 2 if fail else 0,
        )
        for back in (range(1, 10) if not quiet else range(4, 5) if fail else ())
    )  # fmt: skip
    minute = now.replace(second=0, microsecond=0)
    BreakerMinute.objects.bulk_create(
        BreakerMinute(
            service=service, start=minute - timedelta(minutes=back), ok=60 * ok,
            fail=60 * fail if back < 16 else 0, rejected=rejected if back == 3 else 0,
        )
        for back in range(60)
    )  # fmt: skip


def _log(services: dict[str, Service]) -> None:
    now = timezone.now()
    rows = [
        ("shopify", 1200, "CLOSED", "CLOSED", "forced", "operator", "", "shop moves to the new account", "OPEN"),
        ("whatsapp", 70, "CLOSED", "OPEN", "threshold", "", "credential", "31 of 31 calls failed in 10 s", ""),
        ("booking-app", 14, "CLOSED", "OPEN", "threshold", "", "outage", "20 of 20 calls failed in 10 s", ""),
        ("booking-app", 13, "OPEN", "HALF_OPEN", "trial admitted", "process 12 on host-a", "outage", "", ""),
        (
            "booking-app",
            13,
            "HALF_OPEN",
            "OPEN",
            "trial failed",
            "process 12 on host-a",
            "outage",
            "a trial failed",
            "",
        ),
        ("sendgrid", 6, "CLOSED", "OPEN", "threshold", "", "outage", "5 failures counted, 5 open it", ""),
        (
            "public-site",
            3,
            "OPEN",
            "OPEN",
            "forced",
            "grace",
            "outage",
            "<b>only the health check</b> is wrong",
            "CLOSED",
        ),
        ("github", 2, "CLOSED", "OPEN", "threshold", "", "rate_limit", "22 of 40 calls failed in 10 s", ""),
        ("stripe", 2, "OPEN", "CLOSED", "reset", "operator", "", "", ""),
        ("sendgrid", 1, "OPEN", "HALF_OPEN", "trial admitted", "process 4711 on host-b", "outage", "", ""),
        ("twilio", 1, "CLOSED", "CLOSED", "force ended", "", "", "", ""),
        ("booking-app", 0.8, "HALF_OPEN", "OPEN", "trial lost", "", "outage", "a trial never came back", ""),
    ]
    for number, (slug, minutes, old, new, trigger, by, cause, reason, forced) in enumerate(rows):
        BreakerTransition.objects.create(
            at=now - timedelta(minutes=minutes), service=services[slug], generation=number, old=old, new=new,
            trigger=trigger, by=by, cause=cause, reason=reason, forced=forced, open_for=60 if new == "OPEN" else 0,
            forced_until=now + timedelta(days=2) if forced == "OPEN" else None,
        )  # fmt: skip
