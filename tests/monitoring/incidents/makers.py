"""Incidents for tests, made the way they come about: by probes that were stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from monitoring import store
from monitoring.models import Check, Incident, Service
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.vocabulary import Category

NOW = timezone.now().replace(microsecond=0)
WORDS = {"h": "healthy", "d": "degraded", "c": "critical", "e": "error"}


def vendor(slug: str = "stripe", provider: str = "stripe", **fields: Any) -> Check:
    """A service of a vendor with one check, ``functionality``."""
    service = make_service(slug, provider, **fields)
    return make_check(service, "functionality", name="functionality", options={})


def probe(
    check: Check,
    letters: str,
    at: datetime | None = None,
    category: Category | None = Category.SERVER_ERROR,
    every: float = 10,
    **fields: Any,
) -> datetime:
    """Store one result for each letter (h, d, c, e), ten seconds apart, the last one now; when that was."""
    first = at or timezone.now() - timedelta(seconds=every * (len(letters) - 1))
    moment = first
    for number, letter in enumerate(letters):
        bad = letter != "h"
        found = outcome(WORDS[letter], category=category if bad else None, **fields)
        moment = first + timedelta(seconds=every * number)
        store.settle([finished(check, found, moment)])
    return moment


def open_incident(service: Service | None = None, **fields: Any) -> Incident:
    """An open incident of the service of a vendor, and nothing else."""
    service = service or vendor().service
    began = fields.pop("began_at", timezone.now() - timedelta(minutes=10))
    defaults: dict[str, Any] = {
        "began_at": began,
        "opened_at": began + timedelta(seconds=15),
        "status": "critical",
        "worst": "critical",
        "category": "SERVER_ERROR",
        "title": f"{service.label} answers with errors of its own",
        "reason": "functionality: answered 503",
    }
    return Incident.objects.create(service=service, **defaults | fields)
