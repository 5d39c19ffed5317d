"""What the hub renders for open pages (``settings.LIVE_RENDERER``): each piece once, for every viewer.

Nothing in here may depend on who looks; buttons that need a permission are hidden by the page's CSS.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from django.template.loader import render_to_string

from monitoring import alerts, nav, overview, panels, selfwatch
from monitoring.critical import reads as critical
from monitoring.models import Circuit
from monitoring.overview import Overall, ServiceView
from wsmon.vocabulary import Criticality, Status

GROUPS = {
    **dict.fromkeys(overview.UNHEALTHY, "attention"),
    Status.NOT_CONFIGURED: "setup",
    Status.UNKNOWN: "setup",
    Status.HEALTHY: "working",
    Status.PAUSED: "paused",
}
"""The heading a service stands under, by status; headings follow ``overview.URGENCY``."""
CRITICALITIES = list(Criticality)
ALERTS_SHOWN = 5


def order_of(service: ServiceView) -> str:
    """Where a row stands among all, as text that sorts like :func:`monitoring.overview.ordered`."""
    return f"{overview.URGENCY.index(service.status)}{CRITICALITIES.index(service.criticality)}{service.slug}"


def counts(overall: Overall) -> dict[str, int]:
    """How many services each filter shows."""
    states = {
        name: sum(overall.by_status.get(status, 0) for status in statuses)
        for name, statuses in overview.STATES.items()
    }
    return states | {"all": overall.total}


def row_context(service: ServiceView) -> dict[str, object]:
    """What ``monitoring/_service.html`` needs of one service."""
    paused = next((check for check in service.checks if check.paused_at), None)
    return {
        "service": service,
        "group": GROUPS[service.status],
        "order": order_of(service),
        "attention": service.status in overview.UNHEALTHY,
        "paused": paused if service.status is Status.PAUSED else None,
    }


def row(service: ServiceView, period: str = "24h") -> str:
    """One service of the list."""
    return render_to_string("monitoring/_service.html", row_context(service) | {"period": period})


def changed(service_ids: Iterable[int]) -> dict[str, str]:
    """Everything on open pages that a change of these services touches. Circuits are on no list of services."""
    named = set(service_ids)
    wanted = sorted(named - set(Circuit.objects.filter(id__in=named).values_list("id", flat=True)))
    overall = overview.overall()
    rows = {f"svc-{service.id}": row(service) for service in overview.views(wanted)}
    listed = json.dumps({"ids": wanted, "counts": counts(overall)})
    return rows | _summary(overall) | {"list": listed}


def regular() -> dict[str, str]:
    """What changes without a notification: averages, the last hour, wsmon itself."""
    seen = selfwatch.look()
    return _summary(overview.overall()) | {
        "self": render_to_string("monitoring/_self.html", {"seen": seen}),
        "banner": render_to_string("_shared/banner.html", {"problem": seen.problem, "critical": critical.banner()}),
    }


def alerts_context() -> dict[str, object]:
    """What ``monitoring/_alerts.html`` needs."""
    found, number = alerts.pressing(ALERTS_SHOWN)
    return {"alerts": found, "more": number - len(found)}


def _summary(overall: Overall) -> dict[str, str]:
    return {
        "alerts": render_to_string("monitoring/_alerts.html", alerts_context()),
        "overall": render_to_string("_shared/overall.html", {"overall": overall}),
        "answers": render_to_string("monitoring/_answers.html", {"answers": panels.answers(overall)}),
        "changes": render_to_string("monitoring/_last_hour.html", {"changes": panels.last_hour()}),
        **nav.counts(),
    }
