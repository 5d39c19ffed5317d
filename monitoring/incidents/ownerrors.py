"""Alerts about errors of our own, such as a credential that is refused: of services that have no incident."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from monitoring import alerts
from monitoring.alerts import News
from monitoring.incidents import deciding
from monitoring.incidents.findings import Found
from monitoring.models import Alert, Service
from wsmon.vocabulary import Criticality, Status

KIND = "own_error"


def settle(services: Mapping[int, Service], ours: Collection[int], found: Mapping[int, Found]) -> None:
    """Raise one for each service of ``ours``, which are in ``error``; resolve those of all the others."""
    keys = {_key(row): number for number, row in services.items()}
    standing = Alert.objects.filter(key__in=keys, resolved_at=None).values_list("key", flat=True)
    alerts.resolve_all([key for key in standing if keys[key] not in ours])
    alerts.raise_alerts([_news(services[number], found.get(number)) for number in sorted(ours)])


def _key(service: Service) -> str:
    return f"own-error:{service.slug}"


def _news(service: Service, found: Found | None) -> News:
    title = deciding.title(service.label, Status.ERROR, found.category if found else "")
    return News(
        _key(service),
        KIND,
        deciding.severity(Status.ERROR, Criticality(service.criticality)),
        f"{title} (ours)",
        service.reason,
        f"/services/{service.slug}/",
        service.id,
    )
