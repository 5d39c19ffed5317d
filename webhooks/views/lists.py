"""The page of webhooks: what is held, the routes, the deliveries with their filters."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from monitoring.templatetags.wsmon_ui import clock_text
from webhooks import reads
from webhooks.filters import UNROUTED, BadFilter, Filter
from webhooks.models import Delivery, Event, Source
from webhooks.reads import PERIODS, Standing
from webhooks.views.common import inbound_url, may_read
from webhooks.vocabulary import PUBLISHED, UNFINISHED, WAITING, DeliveryStatus
from wsmon.asks import is_live

PER_PAGE = 50
MOST_IDS = 200
PERIOD_LABELS = {"1h": "1 h", "24h": "24 h", "7d": "7 d"}
STATUSES = [*DeliveryStatus, UNROUTED]
CHIPS = {
    "status": "status",
    "source": "source",
    "type": "event",
    "destination": "to",
    "since": "since",
    "until": "until",
    "q": "with",
    "category": "error",
    "fingerprint": "answer",
    "tried_since": "tried since",
    "tried_until": "tried before",
}
TIMES = ("since", "until", "tried_since", "tried_until")
AGES = [("1h", "last hour"), ("24h", "last 24 h"), ("7d", "last 7 days"), ("30d", "last 30 days")]


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter in force, and the page without it."""

    name: str
    label: str
    value: str
    href: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several links, one of which is in force."""

    id: str
    label: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery as the list shows it."""

    delivery: Delivery
    standing: Standing | None

    @property
    def next(self) -> str:
        """What happens to it next, where that is no time: "breaker OPEN", "paused", "none left"."""
        row = self.delivery
        if row.status == DeliveryStatus.FAILED:
            return "none left" if row.tries >= row.max_tries else "gave up"
        if row.status == DeliveryStatus.DELIVERING:
            return "now"
        if row.status not in WAITING:
            return ""
        hold = self.standing.hold if self.standing else ""
        if hold == "breaker" and self.standing:
            return f"breaker {self.standing.mode}"
        return hold or ("now" if row.due_at <= timezone.now() else "")

    @property
    def due_at(self) -> datetime | None:
        """When it is tried next, unless something else is told."""
        waits = self.delivery.status in UNFINISHED
        return self.delivery.due_at if waits and not self.next else None

    @property
    def can_be_cancelled(self) -> bool:
        """Whether it still waits."""
        return self.delivery.status in WAITING


@dataclass(frozen=True, slots=True)
class Params:
    """What the page's URL says."""

    wanted: Filter
    period: str = "1h"
    before: str = ""
    problem: BadFilter | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Params:
        """Read the request's query; a filter that cannot be read is told and left out."""
        get = request.GET
        period = get.get("period", "1h")
        problem = None
        try:
            wanted = Filter.read(get.dict())
        except BadFilter as bad:
            wanted, problem = Filter(), bad
        return cls(wanted, period if period in PERIODS else "1h", get.get("before", "")[:40], problem)

    def query(self, **changes: str) -> dict[str, str]:
        """The query of this page with changes, without what is empty; another filter starts at the newest."""
        told = self.wanted.params() | ({} if self.period == "1h" else {"period": self.period}) | changes
        return {name: value for name, value in told.items() if value}

    def url(self, **changes: str) -> str:
        """The page's address with changes."""
        query = self.query(**changes)
        return reverse("webhooks") + (f"?{urlencode(query)}" if query else "")

    @property
    def chips(self) -> list[Chip]:
        """The filters in force."""
        told = self.wanted.params()
        return [
            Chip(name, label, _shown(name, told[name], getattr(self.wanted, name)), self.url(**{name: ""}))
            for name, label in CHIPS.items()
            if name in told
        ]

    @property
    def periods(self) -> list[Choice]:
        """The choices of the routes' period."""
        return [
            Choice(f"period-{key}", label, self.url(period="" if key == "1h" else key), key == self.period)
            for key, label in PERIOD_LABELS.items()
        ]


def _shown(name: str, told: str, value: Any) -> str:
    if name not in TIMES:
        return told
    return dict(AGES).get(told) or (told if not told[:4].isdigit() or "T" not in told else clock_text(value))


@require_safe
@may_read
def webhooks(request: HttpRequest) -> HttpResponse:
    """The page; for htmx its list or its routes alone, for the live script what changes."""
    if any(value == "" for value in request.GET.values()):  # a form sends what nobody filled in, too
        told = {name: value for name, value in request.GET.items() if value}
        return redirect(reverse("webhooks") + (f"?{urlencode(told)}" if told else ""))
    params = Params.of(request)
    context = head(params.period)
    if is_live(request):
        return render(request, "webhooks/_live.html", context | _live(request, params, context))
    target = "" if request.htmx.history_restore_request else request.htmx.target  # type: ignore[attr-defined]
    if target == "routes":
        return render(request, "webhooks/_routes.html", context | {"params": params})
    context |= _list(params, context["standing"])
    if target == "deliveries":
        return render(request, "webhooks/_list.html", context)
    if not context["rows"] and not context["events"] and not params.chips:
        context |= _setup(request)
    return render(request, "webhooks/list.html", context)


def head(period: str) -> dict[str, Any]:
    """What stands above the list: what is held, and the routes."""
    waits = reads.waiting()
    standing = reads.standings(reads.destinations(), waits)
    return {
        "standing": standing,
        "held": [one for one in standing.values() if one.hold and one.waiting],
        "waiting": sum(one.waiting for one in standing.values()),
        "capped": reads.WAITING_COUNTED,
        "routes": reads.routes(period, standing, waits),
        "period": period,
    }


def _list(params: Params, standing: Mapping[int, Standing]) -> dict[str, Any]:
    rows: list[Row] = []
    events: list[Event] = []
    more, last = False, ""
    if params.wanted.status == UNROUTED:
        found = reads.page_of_events(params.wanted, _uuid(params.before), PER_PAGE)
        events, more = found[:PER_PAGE], len(found) > PER_PAGE
        last = str(events[-1].id) if events else ""
    else:
        page = reads.page_of_deliveries(params.wanted, _number(params.before), PER_PAGE)
        rows, more = as_rows(page[:PER_PAGE], standing), len(page) > PER_PAGE
        last = str(rows[-1].delivery.id) if rows else ""
    total = reads.counted(params.wanted) if more or params.before else len(rows) + len(events)
    return {
        "params": params,
        "rows": rows,
        "events": events,
        "total": total,
        "is_capped": total >= reads.COUNTED,
        "older": params.url(before=last) if more else "",
        "newest": params.url() if params.before else "",
        "hidden": sorted(params.query().items()),
        "statuses": STATUSES,
        "ages": AGES,
        "sources": _sources(),
        "top": rows[0].delivery.id if rows and not params.before else None,
    }


def as_rows(found: Sequence[Delivery], standing: Mapping[int, Standing]) -> list[Row]:
    """Deliveries as lists show them."""
    return [Row(row, standing.get(row.destination_id)) for row in found]


def _sources() -> list[str]:
    return list(Source.objects.filter(archived_at=None).order_by("slug").values_list("slug", flat=True))


def _live(request: HttpRequest, params: Params, context: Mapping[str, Any]) -> dict[str, Any]:
    """The rows that a page shows, whatever became of them, and how many are newer than its first one."""
    ids = [number for text in request.GET.get("ids", "").split(",") if (number := _number(text))][:MOST_IDS]
    top = _number(request.GET.get("top", ""))
    unrouted = params.wanted.status == UNROUTED
    return {
        "params": params,
        "rows": as_rows(reads.deliveries_by_id(ids), context["standing"]) if ids else [],
        "new": reads.newer(params.wanted, top) if top is not None and not unrouted else 0,
        "newest": params.url(),
    }


def _setup(request: HttpRequest) -> dict[str, Any]:
    """What to do while nothing has come yet."""
    sources = Source.objects.filter(archived_at=None).exclude(slug=PUBLISHED).order_by("slug")
    return {"setup": [(source, inbound_url(request, source)) for source in sources[:5]], "is_new": True,
            "example_url": inbound_url(request, Source(slug="stripe"))}  # fmt: skip


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        return None
