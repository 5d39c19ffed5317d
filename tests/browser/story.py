"""A Saturday to look at: services in every state, written straight into the tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from monitoring.models import Check, CheckState, MaintenanceWindow, Process, Service, ServiceSummary, StateChange
from monitoring.periods import PERIODS, SLOTS, Period

FAR = timedelta(days=300)
"""When the story's checks are due: no worker ever probes them."""


@dataclass(frozen=True)
class Told:
    """A service of the story. ``checks`` maps names (also kinds) to statuses."""

    slug: str
    name: str
    criticality: str
    status: str
    checks: dict[str, str]
    ms: float | None = 120
    since_min: int = 3000
    message: str = ""
    category: str = ""
    bar: dict[int, str] = field(default_factory=dict)
    provider: str = "http"
    limit: float | None = None
    missing: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


STORY = [
    Told("booking-app", "booking-app", "critical", "critical",
         {"health": "critical", "tls": "healthy", "tcp": "healthy"},
         2003, 14, "500 Internal Server Error: could not obtain connection from pool within 2000 ms",
         "SERVER_ERROR", {31: "d", 89: "c"}, limit=0.8),
    Told("twilio", "Twilio", "high", "degraded",
         {"connectivity": "healthy", "authentication": "degraded", "functionality": "degraded"},
         2412, 41, "200 in 2,412 ms, slower than 1.5 s", "", {87: "d", 88: "d", 89: "d"}, "twilio", 1.5),
    Told("whatsapp", "WhatsApp", "normal", "error",
         {"connectivity": "healthy", "authentication": "error"}, 310, 70,
         "401: the access token has expired (Meta code 190)", "AUTHENTICATION_ERROR",
         {86: "e", 87: "e", 88: "e", 89: "e"}, "whatsapp"),
    Told("slack", "", "low", "not_configured", {"authentication": "not_configured"}, None, bar={}, provider="slack",
         missing=("SLACK_BOT_TOKEN",)),
    Told("resend-batch", "Resend batch", "low", "unknown", {"connectivity": "unknown"}, None, provider="resend"),
    Told("stripe", "Stripe", "critical", "healthy",
         dict.fromkeys(["connectivity", "authentication", "functionality", "status-page"], "healthy"),
         182, provider="stripe"),
    Told("supabase-auth", "Supabase Auth", "critical", "healthy", {"connectivity": "healthy"}, 96, bar={12: "d"},
         provider="supabase_auth"),
    Told("google-calendar", "Google Calendar", "high", "healthy",
         {"connectivity": "healthy", "authentication": "not_configured"}, 238, provider="google_calendar",
         bar={44: "d"}, missing=("GOOGLE_CALENDAR_CREDENTIALS",)),
    Told("public-site", "Public site", "high", "healthy",
         {"http": "healthy", "tls": "healthy", "dns": "healthy", "tcp": "healthy"}, 88, bar={57: "c"},
         details={"tls_days_left": 19}),
    Told("github", "GitHub", "low", "healthy", {"connectivity": "healthy"}, 173, provider="github"),
    Told("shopify", "Shopify", "low", "paused", {"connectivity": "paused", "authentication": "paused"}, None,
         900, provider="shopify"),
]  # fmt: skip


def tell(story: list[Told] | None = None, now: datetime | None = None) -> dict[str, Service]:
    """Write the story; return its services by slug. A worker is on time."""
    now = now or timezone.now()
    services = _write(STORY if story is None else story, now)
    beat(now + timedelta(hours=1))
    if story is None:
        _changes(services, now)
        MaintenanceWindow.objects.create(
            service=services["stripe"], starts_at=now + timedelta(days=3),
            ends_at=now + timedelta(days=3, minutes=30),
            reason="moving to the new account", created_by="operator",
        )  # fmt: skip
    return services


def beat(at: datetime) -> None:
    """A worker that was seen at ``at``."""
    Process.objects.update_or_create(
        host="story", pid=1,
        defaults={"role": "worker", "seen_at": at, "beat_at": at, "probes_per_second": 6.2, "late_ms": 80},
    )  # fmt: skip


def _write(story: list[Told], now: datetime) -> dict[str, Service]:
    """All of a kind at once: most tests begin with it."""
    services = Service.objects.bulk_create(_service(told, now) for told in story)
    both = list(zip(story, services, strict=True))
    checks = [(told, _check(service, told, name, now)) for told, service in both for name in told.checks]
    Check.objects.bulk_create(check for _told, check in checks)
    CheckState.objects.bulk_create(_state(check, told, now) for told, check in checks)
    ServiceSummary.objects.bulk_create(
        _summary(service, told, period, now) for told, service in both for period in PERIODS.values()
    )
    return {service.slug: service for service in services}


def _service(told: Told, now: datetime) -> Service:
    worst = next((name for name, status in told.checks.items() if status == told.status), "")
    return Service(
        slug=told.slug, name=told.name, provider=told.provider, criticality=told.criticality, status=told.status,
        status_since=now - timedelta(minutes=told.since_min),
        reason=f"{worst}: {told.message}" if told.message else "",
    )  # fmt: skip


def _summary(service: Service, told: Told, period: Period, now: datetime) -> ServiceSummary:
    letters = ["." if told.ms is None else "h"] * SLOTS
    for index, letter in told.bar.items():
        letters[index] = letter
    good = sum(letter in "hd" for letter in letters)
    judged = sum(letter in "hdc" for letter in letters)
    return ServiceSummary(
        service=service, period=period.name, first_start=period.first_start(now), bar="".join(letters),
        notes={str(index): f"{letter}, 3 of 32 probes" for index, letter in told.bar.items()},
        uptime=good / judged if judged else None, p50_ms=told.ms, p95_ms=told.ms, p99_ms=told.ms, healthy=2880,
        made_at=now + FAR,
    )  # fmt: skip


def _check(service: Service, told: Told, name: str, now: datetime) -> Check:
    paused = told.checks[name] == "paused"
    return Check(
        service=service, name=name, kind="http" if name == "health" else name.replace("-", "_"),
        options={"url": "http://127.0.0.1:9/health"} if name == "health" else {},
        interval=30, timeout=5, degraded_over=told.limit,
        paused_at=now if paused else None, paused_by="operator" if paused else "",
        paused_reason="shop moves to the new account" if paused else "",
        paused_until=now + timedelta(days=2) if paused else None,
    )  # fmt: skip


def _state(check: Check, told: Told, now: datetime) -> CheckState:
    status = told.checks[check.name]
    probed = told.ms is not None and status not in ("not_configured", "paused", "unknown")
    worst = status == told.status
    usual = (told.ms or 100) if not worst or status == "healthy" else 300
    recent = [round(usual * (1 + 0.12 * math.sin(index * 2.3)), 1) for index in range(30)]
    if worst and status in ("critical", "degraded"):
        recent[-6:] = [told.ms or 0] * 6
    return CheckState(
        check_ref=check, next_due_at=now + FAR, status="unknown" if status == "paused" else status,
        status_since=now - timedelta(minutes=told.since_min), recent_ms=recent if probed else [],
        checked_at=now - timedelta(seconds=3 + len(check.name)) if probed else None,
        outcome=status if probed else "", message=told.message if worst else "",
        total_ms=recent[-1] if probed else None,
        category=told.category if worst else "", missing=list(told.missing) if status == "not_configured" else [],
        details=told.details,
    )  # fmt: skip


def _changes(services: dict[str, Service], now: datetime) -> None:
    told = [("booking-app", 14, "healthy", "critical"), ("twilio", 41, "healthy", "degraded"),
            ("github", 52, "critical", "healthy"), ("github", 55, "healthy", "critical"),
            ("whatsapp", 70, "healthy", "error"), ("stripe", 2880, "unknown", "healthy")]  # fmt: skip
    for slug, minutes, old, new in told:
        StateChange.objects.create(
            at=now - timedelta(minutes=minutes), service=services[slug], old=old, new=new,
            reason="" if new == "healthy" else services[slug].reason or "connectivity: timed out after 5 s",
        )  # fmt: skip
