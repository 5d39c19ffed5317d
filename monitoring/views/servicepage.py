"""What the service page shows: the state, the checks, what may be tested, what is known of the vendor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

import providers
from monitoring import history, maintenance
from monitoring.breakers import reads
from monitoring.models import Credential, MaintenanceWindow, StateChange
from monitoring.overview import CheckView, ServiceView
from monitoring.probing import VENDOR_KINDS
from monitoring.views.breakerrows import Row, Step, steps
from monitoring.views.forms import TIMEOUT_MS, MaintenanceForm, PauseForm
from monitoring.views.params import Choice, Params
from monitoring.views.servicechart import Chart
from monitoring.views.servicelog import Log
from providers.base import Provider
from wsmon import secrets

TIMELINE = 8
MOST_DETAILS = 30
PERIOD_LABELS = {"1h": "1 h", "24h": "24 h", "7d": "7 d", "90d": "90 d"}
TALLY = {
    "critical": "critical",
    "error": "error (ours)",
    "degraded": "degraded",
    "unknown": "without data",
    "not_configured": "not configured",
    "paused": "paused",
}


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check with its past over the period."""

    check: CheckView
    p95_ms: float | None
    uptime: float | None
    bar: history.Strip
    href: str
    heartbeat_url: str

    @property
    def heartbeat_id(self) -> str:
        """The id of the element that shows the URL."""
        return f"heartbeat-{self.check.id}"


@dataclass(frozen=True, slots=True)
class TestButton:
    """One thing to test now."""

    name: str
    value: str
    label: str
    last: CheckView | None


@dataclass(frozen=True, slots=True)
class Detail:
    """One line of the details card."""

    label: str
    value: str


class ServicePage:
    """The page's parts, each read from the database only when a template shows it."""

    time_zone = settings.TIME_ZONE
    timeout_ms = TIMEOUT_MS

    def __init__(self, request: HttpRequest, service: ServiceView, params: Params) -> None:
        self._request = request
        self.service = service
        self.params = params
        self.may_operate = bool(getattr(request.user, "has_perm", None)) and request.user.has_perm(
            "monitoring.operate"
        )
        self.chart = Chart(service, params)
        self.log = Log(service, params)
        self.pause_form = PauseForm(self.running_choices, prefix="pause")
        self.maintenance_form = MaintenanceForm.fresh()
        self.open_panel = ""

    @property
    def query(self) -> str:
        """The page's query string."""
        return self.params.query()

    @property
    def period_label(self) -> str:
        """The period in short: "24 h"."""
        return PERIOD_LABELS[self.params.period]

    @property
    def periods(self) -> list[Choice]:
        """The spans of time one may look at."""
        return [
            Choice(f"period-{value}", label, self.params.url(period=value), value == self.params.period)
            for value, label in PERIOD_LABELS.items()
        ]

    # checks ----------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> list[CheckRow]:
        """The checks' table."""
        ids = [check.id for check in self.service.checks]
        counts = history.counts(ids, self.params.period)
        bars = history.bars(ids, self.params.period)
        return [
            CheckRow(
                check,
                counts[check.id].percentile(0.95),
                counts[check.id].uptime,
                bars[check.id],
                self.params.url(chart=check.name) + "#chart",
                self._heartbeat_url(check),
            )
            for check in self.service.checks
        ]

    def _heartbeat_url(self, check: CheckView) -> str:
        """The token is a secret: only those who may act get it."""
        if not check.heartbeat_token or not self.may_operate:
            return ""
        return self._request.build_absolute_uri(f"/api/heartbeat/{check.heartbeat_token}")

    @property
    def tally(self) -> str:
        """The checks by state: "4, 2 degraded"."""
        total = len(self.service.checks)
        counted = {word: sum(check.status == word for check in self.service.checks) for word in TALLY}
        if not total:
            return ""
        words = [f"{count} {TALLY[word]}" for word, count in counted.items() if count]
        same = next((TALLY[word] for word, count in counted.items() if count == total), None if words else "healthy")
        if same:
            return f"{total}, all {same}" if total > 1 else f"1, {same}"
        return ", ".join([str(total), *words])

    @property
    def paused_checks(self) -> list[CheckView]:
        """The checks that are paused now."""
        return [check for check in self.service.checks if check.status == "paused"]

    @property
    def running_choices(self) -> list[tuple[int, str]]:
        """The checks that may be paused, for the form."""
        return [(check.id, check.name) for check in self.service.checks if check.status != "paused"]

    @property
    def pause(self) -> CheckView | None:
        """One paused check to speak for all: who paused it, until when, why."""
        return next(iter(self.paused_checks), None)

    @property
    def every(self) -> tuple[float, float] | None:
        """The shortest and longest interval of the checks, in seconds."""
        intervals = [check.interval for check in self.service.checks]
        return (min(intervals), max(intervals)) if intervals else None

    # what happened and what is planned ----------------------------------------------------------------

    @cached_property
    def timeline(self) -> list[StateChange]:
        """The service's newest changes; those of its checks are in the log."""
        changes = StateChange.objects.filter(service=self.service.id, check_ref=None)
        return list(changes.order_by("-at", "-id")[:TIMELINE])

    @cached_property
    def windows(self) -> list[MaintenanceWindow]:
        """Maintenance windows that hold for this service now or later."""
        return maintenance.of_service(maintenance.relevant(timezone.now()), self.service.id)

    @cached_property
    def breaker(self) -> Row | None:
        """The service's breaker; None when the service was removed this moment."""
        found = reads.view(self.service.slug)
        return Row(found, "service") if found else None

    @cached_property
    def breaker_steps(self) -> list[Step]:
        """The breaker's newest transitions."""
        return steps(reads.transitions(self.service.slug, limit=TIMELINE))

    # tests and details -----------------------------------------------------------------------------

    @cached_property
    def provider(self) -> Provider | None:
        """The vendor adapter; None when this version of wsmon no longer has it."""
        try:
            return providers.get(self.service.provider)
        except providers.UnknownProvider:
            return None

    @property
    def tests(self) -> list[TestButton]:
        """What may be tested now: a vendor's three kinds, or each check of a generic provider."""
        if self.provider is None:
            return []
        if self.provider.generic:
            return [TestButton("check", str(check.id), check.name, check) for check in self.service.checks]
        by_kind = {check.kind: check for check in reversed(self.service.checks)}
        kinds = [kind for kind in VENDOR_KINDS if kind in self.provider.kinds]
        return [TestButton("kind", kind, kind, by_kind.get(kind)) for kind in kinds]

    @property
    def vendor_word(self) -> CheckView | None:
        """The check that reads the vendor's own status page."""
        return next((check for check in self.service.checks if check.kind == "status_page"), None)

    @property
    def vendor_page(self) -> tuple[str, str] | None:
        """Where the vendor says how it is doing: URL and host."""
        page = self.provider.status_page if self.provider else None
        parts = urlsplit(page.url) if page else None
        return (f"https://{parts.netloc}/", parts.netloc) if parts else None

    @cached_property
    def details(self) -> list[Detail]:
        """What the last probes learned, each fact once; the deepest check's word counts."""
        depth = {kind: place for place, kind in enumerate(reversed(VENDOR_KINDS))}
        found: dict[str, Detail] = {}
        for check in sorted(self.service.checks, key=lambda check: depth.get(check.kind, len(depth))):
            for key, value in check.details.items():
                if key not in found and value not in (None, "", [], {}):
                    found[key] = Detail(detail_label(key), detail_value(value))
        return list(found.values())[:MOST_DETAILS]

    @cached_property
    def credentials(self) -> list[Detail]:
        """The variables that are set or missing: the name and where the value comes from, never the value."""
        if self.provider is None:
            return []
        own = {row.variable: row for row in Credential.objects.filter(service=self.service.id)}
        rows = []
        for variable in self.provider.variables:
            source = _source(own.get(variable.name), (variable.name, *variable.aliases))
            if source or variable.name in self.service.missing:
                rows.append(Detail(variable.name, source or "not set"))
        return rows


def _source(own: Credential | None, names: Iterable[str]) -> str:
    if own is not None:
        return "stored, encrypted" if own.encrypted is not None else f"from {own.reference}"
    return "from environment" if any(secrets.lookup(name) for name in names) else ""


LABELS = {
    "api_version": "API",
    "tls_days_left": "TLS days left",
    "livemode": "Live mode",
    "request_id": "Request id",
    "rate_limit_limit": "Rate limit",
    "rate_limit_remaining": "Rate limit left",
    "rate_limit_reset": "Rate limit resets",
    "url": "URL",
    "ip": "IP",
}


def detail_label(key: str) -> str:
    """A detail's key as people read it: "tls_days_left" is "TLS days left"."""
    return LABELS.get(key) or key.replace("_", " ").capitalize()


def detail_value(value: Any) -> str:
    """A detail's value on one line: yes and no, lists joined, a mapping as its values."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(detail_value(part) for part in value.values() if part not in (None, ""))
    if isinstance(value, list | tuple):
        text = ", ".join(detail_value(part) for part in value[:10])
        return f"{text}, and {len(value) - 10} more" if len(value) > 10 else text
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return str(value)[:300]
