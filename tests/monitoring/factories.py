"""Services, checks and finished probes for tests."""

from __future__ import annotations

import itertools
import uuid
from datetime import datetime
from typing import Any

from django.utils import timezone

from monitoring.models import Check, CheckState, Heartbeat, Service
from monitoring.store import Finished
from monitoring.verdict import Policy
from providers.base import ProbeOutcome
from wsmon.vocabulary import Category, Outcome, Timings

_numbers = itertools.count(1)


def make_service(slug: str | None = None, provider: str = "http", **fields: Any) -> Service:
    """A service without checks."""
    return Service.objects.create(slug=slug or f"service-{next(_numbers)}", provider=provider, **fields)


def make_check(service: Service | None = None, kind: str = "http", **fields: Any) -> Check:
    """A check with its state, due now."""
    service = service or make_service()
    defaults: dict[str, Any] = {
        "name": fields.pop("name", f"{kind.replace('_', '-')}-{next(_numbers)}"),
        "interval": 10,
        "timeout": 2,
        "options": {"url": "http://127.0.0.1:9/"} if kind == "http" else {},
    }
    check = Check.objects.create(service=service, kind=kind, **defaults | fields)
    CheckState.objects.create(check_ref=check)
    if kind == "heartbeat":
        Heartbeat.objects.create(check_ref=check)
    return check


def outcome(
    word: str = "healthy",
    ms: float | None = 100.0,
    category: Category | None = None,
    message: str = "",
    **fields: Any,
) -> ProbeOutcome:
    """A probe's outcome."""
    return ProbeOutcome(Outcome(word), category, message or word, Timings(total_ms=ms), **fields)


def finished(check: Check, found: ProbeOutcome | None = None, at: datetime | None = None, **fields: Any) -> Finished:
    """A finished probe of ``check`` under a lease that is taken for it here."""
    token = uuid.uuid4()
    CheckState.objects.filter(check_ref=check).update(lease_token=token)
    state = CheckState.objects.get(check_ref=check)
    defaults: dict[str, Any] = {
        "check_id": check.id,
        "service_id": check.service_id,
        "token": token,
        "policy": Policy(check.confirm_down, check.confirm_up),
        "interval": check.interval,
        "due_at": state.next_due_at,
        "at": at or timezone.now(),
        "outcome": found if found is not None or fields.get("missing") else outcome(),
    }
    return Finished(**defaults | fields)
