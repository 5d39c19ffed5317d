"""The breakers' page, their log, and what a person may do to one: reset, force, end a force.

Every action works as an htmx fragment and, without JavaScript, as a page that asks, POST and redirect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from monitoring.actions import Refused
from monitoring.breakers import reads
from monitoring.breakers.machine import Mode
from monitoring.breakers.reads import BreakerView
from monitoring.models import BreakerTransition, Guarded
from monitoring.views.actions import may_operate
from monitoring.views.breakerforms import ACTS, Act, ForceForm, ReasonForm
from monitoring.views.breakerrows import GROUPS, Row, sentence, steps
from monitoring.views.overview import Link, may_read
from monitoring.views.service import context as service_context
from wsmon.audit import Actor

STATES = {"all": "All", "not_closed": "Not closed", "closed": "Closed"}
PER_PAGE = 100
NEWEST = 20
STEPS_PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Params:
    """What the page's URL says. Unknown values mean the default."""

    state: str = "all"
    page: int = 1

    @classmethod
    def of(cls, request: HttpRequest) -> Params:
        """Read the request's query."""
        state, page = request.GET.get("state", "all"), request.GET.get("page", "1")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1
        return cls(state if state in STATES else "all", max(number, 1))

    def url(self, state: str | None = None, page: int = 1) -> str:
        """The page's URL with another state or page."""
        state = state or self.state
        told = ({} if state == "all" else {"state": state}) | ({} if page == 1 else {"page": str(page)})
        return reverse("breakers") + (f"?{urlencode(told)}" if told else "")


@dataclass(frozen=True, slots=True)
class Group:
    """The breakers under one heading; ``total`` counts those on other pages too."""

    key: str
    heading: str
    rows: list[Row]
    total: int


@require_safe
@may_read
def breakers(request: HttpRequest) -> HttpResponse:
    """Every breaker, or for htmx the list alone."""
    params = Params.of(request)
    rows = [Row(view) for view in reads.views()]
    if not rows:
        return render(request, "monitoring/breakers/list.html", {"any": False})
    part = request.htmx.target == "breakers" and not request.htmx.history_restore_request  # type: ignore[attr-defined]
    template = "monitoring/breakers/_swap.html" if part else "monitoring/breakers/list.html"
    return render(request, template, {"any": True, **_list(params, rows), **_newest()})


def _list(params: Params, rows: Sequence[Row]) -> dict[str, Any]:
    not_closed = [row for row in rows if row.view.effective is not Mode.CLOSED]
    closed = [row for row in rows if row.view.effective is Mode.CLOSED]
    chosen = {"all": list(rows), "not_closed": not_closed, "closed": closed}[params.state]
    order = list(GROUPS)
    chosen.sort(key=lambda row: order.index(row.group))  # stable: within a group as they came
    pages = max(1, -(-len(chosen) // PER_PAGE))
    number = min(params.page, pages)
    shown = chosen[(number - 1) * PER_PAGE : number * PER_PAGE]
    counts = {"all": len(rows), "not_closed": len(not_closed), "closed": len(closed)}
    return {
        "params": params,
        "shown": shown,
        "groups": [
            Group(key, heading, [row for row in shown if row.group == key], sum(row.group == key for row in chosen))
            for key, heading in GROUPS.items()
        ],
        "states": [
            Link(key, label, params.url(state=key), params.state == key, count=counts[key])
            for key, label in STATES.items()
        ],
        "number": number,
        "pages": pages,
        "total": len(chosen),
        "here": params.url(page=number),
        "earlier": params.url(page=number - 1) if number > 1 else "",
        "later": params.url(page=number + 1) if number < pages else "",
    }


def _newest() -> dict[str, Any]:
    day_ago = timezone.now() - timedelta(hours=24)
    return {
        "steps": steps(reads.transitions(limit=NEWEST)),
        "lately": BreakerTransition.objects.filter(at__gt=day_ago).count(),
    }


@require_safe
@may_read
def transitions(request: HttpRequest) -> HttpResponse:
    """The log of all breakers, newest first; of one with ``?service=``, older ones with ``?before=``."""
    slug = request.GET.get("service", "").replace("\0", "")
    service = Guarded.objects.filter(slug=slug).first() if slug else None
    query = {"service": service.slug} if service else {}
    newest = reverse("breaker-transitions") + (f"?{urlencode(query)}" if query else "")
    before = request.GET.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        return redirect(newest)
    found = reads.transitions(
        service.slug if service else None, before=int(before) if before else None, limit=STEPS_PER_PAGE + 1
    )
    rows, more = found[:STEPS_PER_PAGE], len(found) > STEPS_PER_PAGE
    told = {
        "service": service,
        "services": Guarded.objects.filter(archived_at=None),
        "steps": steps(rows),
        "before": before,
        "newest": newest,
        "older": f"{reverse('breaker-transitions')}?{urlencode(query | {'before': rows[-1].row.id})}" if more else "",
    }
    return render(request, "monitoring/breakers/transitions.html", told)


@require_http_methods(["GET", "HEAD", "POST"])
@may_operate
def act(request: HttpRequest, slug: str, action: str) -> HttpResponse:
    """Ask before an action (GET), or do it (POST)."""
    kind, view = ACTS.get(action), reads.view(slug)
    if kind is None or view is None:
        raise Http404(f"no action {action}, or nothing to act on")
    at_service = view.kind == "service" and "service" in (request.GET.get("at"), request.POST.get("at"))
    place = "service" if at_service else "list"
    row = Row(view, place)
    ids = f"{row.anchor}-{kind.name}-%s"
    if request.method != "POST":
        return _asked(request, kind, row, kind.form(auto_id=ids))
    form = kind.form(request.POST, auto_id=ids)
    if not form.is_valid():
        return _asked(request, kind, row, form, status=422)
    try:
        told = kind.run(view, Actor.of(request), form)
    except Refused as why:
        form.add_error(None, sentence(str(why)))
        return _asked(request, kind, row, form, status=422)
    return _done(request, view, place, told)


def _asked(
    request: HttpRequest, kind: Act, row: Row, form: ReasonForm | ForceForm, status: int = 200
) -> HttpResponse:
    """What the action does, in numbers, and what it wants to know."""
    context = {
        "act": kind,
        "row": row,
        "form": form,
        "ask": kind.ask.format(row.view.label),
        "do": kind.do.format(row.view.label),
        "effect": kind.effect(row.view),
        "back": _back(row.view.slug, row.place),
    }
    if not request.htmx:  # type: ignore[attr-defined]
        return render(request, "monitoring/breakers/confirm.html", context, status=status)
    response = render(request, "monitoring/breakers/_panel.html", context, status=status)
    response["HX-Retarget"], response["HX-Reswap"] = f"#{row.anchor}-panel", "innerHTML settle:0ms"
    return response


def _done(request: HttpRequest, before: BreakerView, place: str, told: str) -> HttpResponse:
    words = told or f"Nothing was forced on {before.label} any more"
    if not request.htmx:  # type: ignore[attr-defined]
        messages.success(request, f"{words}.")
        return redirect(_back(before.slug, place))
    context: dict[str, Any] = {"status": "healthy" if told else "info", "title": words}
    if told:
        context["text"] = "Every process follows within a second."
    if place == "service":
        context["p"] = service_context(request, before.slug)
        return render(request, "monitoring/breakers/_card_acted.html", context)
    view = reads.view(before.slug)
    if view is None:
        raise Http404(f"nothing is named {before.slug}")
    return render(request, "monitoring/breakers/_acted.html", {"row": Row(view), **context})


def _back(slug: str, place: str) -> str:
    return reverse("service", args=[slug]) if place == "service" else reverse("breakers")
