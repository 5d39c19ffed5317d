"""The pages about everything: overview, wall, state changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from monitoring import fragments, history, panels
from monitoring import overview as read
from monitoring.context import Page
from monitoring.models import Service
from monitoring.overview import Filter, ServiceView

may_read = permission_required("monitoring.view_service", raise_exception=True)

PERIODS = {"1h": "1 h", "24h": "24 h", "7d": "7 d", "90d": "90 d"}
STATES = {"all": "All", "unhealthy": "Not healthy", "not_configured": "Not configured", "paused": "Paused"}
DENSITIES = {
    "rows": ("Rows", "list-details"),
    "cards": ("Cards", "layout-grid"),
    "dense": ("Dense", "baseline-density-small"),
}
PER_PAGE = {"rows": 50, "cards": 50, "dense": 100}
WALL_TILES = 60
CHANGES_PER_PAGE = 50
HEADINGS = {
    "attention": ("Needs attention", "most urgent first"),
    "setup": ("Waiting or not configured", "not counted"),
    "working": ("Working", ""),
    "paused": ("Paused", "not counted"),
}


@dataclass(frozen=True, slots=True)
class Link:
    """One choice of a filter: what it is called, where it leads, whether it is the present one."""

    value: str
    label: str
    href: str
    current: bool
    icon: str = ""
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The services under one heading."""

    key: str
    heading: str
    note: str
    rows: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Params:
    """What the overview's URL says. Unknown values mean the default: an old link still works."""

    q: str = ""
    state: str = "all"
    period: str = "24h"
    density: str = "rows"
    page: int = 1

    @classmethod
    def of(cls, request: HttpRequest) -> Params:
        """Read the request's query."""
        get = request.GET.get
        page = get("page", "1") or "1"
        return cls(
            q=(get("q") or "").replace("\0", "").strip()[:100],
            state=_known(get("state"), read.STATES, "all"),
            period=_known(get("period"), PERIODS, "24h"),
            density=_known(get("density"), DENSITIES, "rows"),
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
        )

    def url(self, **changes: Any) -> str:
        """The overview's URL with some values changed; a change of filter starts at the first page."""
        new = replace(self, **({"page": 1} | changes))
        default = Params()
        query = {name: getattr(new, name) for name in ("q", "state", "period", "density", "page")}
        told = {name: value for name, value in query.items() if value != getattr(default, name)}
        return reverse("overview") + (f"?{urlencode(told)}" if told else "")

    @property
    def plain(self) -> bool:
        """Whether every service is shown, so that a row can be moved without asking the server."""
        return self.state == "all" and not self.q

    def filter(self) -> Filter:
        """The read side's filter."""
        return Filter(self.q, self.state, self.period, self.page, PER_PAGE[self.density])


def _known(value: str | None, allowed: Any, default: str) -> str:
    return value if value is not None and value in allowed else default


@require_safe
@may_read
def overview(request: HttpRequest) -> HttpResponse:
    """The overview, or for htmx its list and filter alone. The empty one when nothing is configured."""
    params = Params.of(request)
    overall = Page.of(request).overall
    if not overall.total:
        return render(request, "monitoring/empty.html", _first_steps(request))
    context = _list_context(params, overall)
    # Only our own list asks for a fragment: any other htmx request gets the whole page.
    if request.htmx.target == "list" and not request.htmx.history_restore_request:  # type: ignore[attr-defined]
        return render(request, "monitoring/_list_swap.html", context)
    context |= {
        "answers": panels.answers(overall),
        "changes": panels.last_hour(),
        "ahead": panels.coming_up(),
        **fragments.alerts_context(),
    }
    return render(request, "monitoring/overview.html", context)


def _list_context(params: Params, overall: read.Overall) -> dict[str, Any]:
    found = read.page(params.filter())
    counts = fragments.counts(overall)
    single = found.pages <= 1 and params.plain
    return {
        "params": params,
        "found": found,
        "groups": _groups(found.services),
        "live": "place" if single else "refetch",
        "states": [
            Link(key, label, params.url(state=key), params.state == key, count=counts[key])
            for key, label in STATES.items()
            if counts[key] or key in ("all", "unhealthy") or params.state == key
        ],
        "periods": [
            Link(key, label, params.url(period=key, page=params.page), params.period == key)
            for key, label in PERIODS.items()
        ],
        "densities": [
            Link(key, label, params.url(density=key), params.density == key, icon)
            for key, (label, icon) in DENSITIES.items()
        ],
        "here": params.url(page=found.number),
        "earlier": params.url(page=found.number - 1) if found.number > 1 else "",
        "later": params.url(page=found.number + 1) if found.number < found.pages else "",
        "everything": params.url(q="", state="all"),
    }


def _groups(services: Sequence[ServiceView]) -> list[Group]:
    by_key: dict[str, list[dict[str, object]]] = {key: [] for key in HEADINGS}
    for service in services:
        by_key[fragments.GROUPS[service.status]].append(fragments.row_context(service))
    return [Group(key, *HEADINGS[key], rows) for key, rows in by_key.items()]


def _first_steps(request: HttpRequest) -> dict[str, Any]:
    return {"seen": Page.of(request).selfwatch, "config_file": settings.CONFIG_FILE}


@require_safe
@may_read
def wall(request: HttpRequest) -> HttpResponse:
    """Everything on a television: what is wrong in double tiles, no navigation."""
    overall = Page.of(request).overall
    found = read.page(Filter(per_page=WALL_TILES))
    context = {
        "overall": overall,
        "answers": panels.answers(overall),
        "services": found.services,
        "attention": fragments.counts(overall)["unhealthy"],
        "hidden": max(0, overall.total - len(found.services)),
        "seen": Page.of(request).selfwatch,
        "now": timezone.now(),
    }
    part = request.htmx.target == "wall"  # type: ignore[attr-defined]
    return render(request, "monitoring/_wall.html" if part else "monitoring/wall.html", context)


@require_safe
@may_read
def changes(request: HttpRequest) -> HttpResponse:
    """Every state change of services and checks, newest first; of one service with ``?service=``."""
    slug = request.GET.get("service", "").replace("\0", "")
    service = Service.objects.filter(slug=slug).first() if slug else None
    cursor = request.GET.get("before") or None
    query = {"service": service.slug} if service else {}
    newest = reverse("changes") + (f"?{urlencode(query)}" if query else "")
    try:
        found = history.changes(service.id if service else None, before=cursor, limit=CHANGES_PER_PAGE)
    except history.BadCursor:
        return redirect(newest)
    context = {
        "service": service,
        "services": Service.objects.filter(archived_at=None).order_by("slug"),
        "found": found,
        "before": cursor,
        "newest": newest,
        "older": f"{reverse('changes')}?{urlencode(query | {'before': found.next_cursor})}"
        if found.next_cursor
        else "",
    }
    return render(request, "monitoring/changes.html", context)
