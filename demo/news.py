"""What the vendors' own status pages say: the truth, but late, as in life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import providers
from demo.script import Behaviour
from demo.shapes import Reply
from wsmon.vocabulary import JSON

PAGES = {
    "stripe": "stripe",
    "resend": "resend",
    "twilio": "twilio",
    "google_calendar": "google",
    "supabase_auth": "supabase",
    "supabase_realtime": "supabase",
}
"""Provider -> the stand-in that its page is about."""

ADMITS_AFTER = 15.0
"""Seconds of trouble before a vendor says so."""

TROUBLE = {
    Behaviour.SLOW: ("minor", "degraded_performance", "SERVICE_DISRUPTION", "Elevated latency"),
    Behaviour.FAIL: ("major", "partial_outage", "SERVICE_OUTAGE", "Elevated errors"),
    Behaviour.HANG: ("critical", "major_outage", "SERVICE_OUTAGE", "Requests time out"),
}
"""What a vendor admits. That it limits us, or refuses our credential, it knows nothing of."""


def variables(url: str) -> dict[str, str]:
    """Where wsmon finds the pages, for stand-ins at ``url``."""
    return {f"{slug.upper()}_STATUS_BASE": f"{url}/news/{slug}" for slug in PAGES}


def page(provider: str, how: Behaviour, lasting: float, now: datetime | None = None) -> Reply:
    """A provider's page while its vendor has behaved like this for so many seconds."""
    known = providers.get(provider).status_page
    admitted = TROUBLE.get(how) if lasting >= ADMITS_AFTER else None
    began = (now or datetime.now(UTC)) - timedelta(seconds=lasting - ADMITS_AFTER)
    parts = known.components if known else ()
    if known and known.format == "google":
        return Reply(200, _google(parts, admitted, began))
    page_id = (known and known.page_id) or f"demo-{provider}"
    return Reply(200, _statuspage({"id": page_id, "name": provider}, parts, admitted, began))


def _statuspage(
    page: JSON, parts: tuple[str, ...], admitted: tuple[str, str, str, str] | None, began: datetime
) -> dict[str, JSON]:
    indicator, word, _, title = admitted or ("none", "operational", "", "")
    affected: list[dict[str, Any]] = [{"id": "c0", "name": name} for name in parts[:1]]
    incident = {
        "id": f"i{began:%H%M}",
        "name": f"{title} on {parts[0] if parts else 'our API'}",
        "status": "investigating",
        "impact": indicator,
        "started_at": began.isoformat(),
        "components": affected,
    }
    return {
        "page": page,
        "status": {"indicator": indicator, "description": title or "All Systems Operational"},
        "components": [
            {"id": f"c{place}", "name": name, "status": "operational" if place else word, "group": False}
            for place, name in enumerate(parts)
        ],
        "incidents": [incident] if admitted else [],
        "scheduled_maintenances": [],
    }


def _google(parts: tuple[str, ...], admitted: tuple[str, str, str, str] | None, began: datetime) -> list[JSON]:
    """An archive: what is over stands there too."""
    past = {
        "id": "past",
        "begin": "2026-01-02T03:04:05+00:00",
        "end": "2026-01-02T04:04:05+00:00",
        "service_name": parts[0] if parts else "",
        "status_impact": "SERVICE_DISRUPTION",
        "external_desc": "Delays",
    }
    if admitted is None:
        return [past]
    return [
        {
            "id": f"i{began:%H%M}",
            "begin": began.isoformat(),
            "service_name": parts[0] if parts else "",
            "status_impact": admitted[2],
            "external_desc": admitted[3],
            "most_recent_update": {"status": admitted[2]},
        },
        past,
    ]
