"""The incidents' pages: the list, one incident, its export, and the statement of each vendor's month."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from monitoring.history import BadCursor
from monitoring.incidentmodels import Verdict
from monitoring.incidents import export, reads, sla
from monitoring.incidents.reads import Filter
from monitoring.models import Incident, Service
from monitoring.views.incidentpage import IncidentView
from monitoring.views.overview import Link, may_read
from wsmon.asks import is_live

PER_PAGE = 50
STATES = {"all": "All", "open": "Open", "unacknowledged": "Nobody has it", "closed": "Over"}
VERDICTS = (Verdict.THEIRS, Verdict.OURS, Verdict.UNCLEAR)


@dataclass(frozen=True, slots=True)
class Params:
    """What the list's URL says. Unknown values mean the default: an old link still works."""

    state: str = "all"
    service: str = ""
    verdict: str = ""
    before: str = ""

    @classmethod
    def of(cls, request: HttpRequest) -> Params:
        """Read the request's query."""

        def get(name: str) -> str:
            return request.GET.get(name, "").replace("\0", "")[:60]

        state, verdict = get("state"), get("verdict")
        return cls(
            state if state in STATES else "all",
            get("service"),
            verdict if verdict in VERDICTS else "",
            get("before"),
        )

    def url(self, **changes: str) -> str:
        """The list's URL with some values changed; a change of filter starts at the newest."""
        new = replace(self, **({"before": ""} | changes))
        default = Params()
        names = ("state", "service", "verdict", "before")
        told = {name: getattr(new, name) for name in names if getattr(new, name) != getattr(default, name)}
        return reverse("incidents") + (f"?{urlencode(told)}" if told else "")

    @property
    def filter(self) -> Filter:
        """The read side's filter."""
        return Filter(self.state, self.service, self.verdict)

    @property
    def is_filtered(self) -> bool:
        """Whether the list shows less than everything."""
        return bool(self.state != "all" or self.service or self.verdict)


@require_safe
@may_read
def incidents(request: HttpRequest) -> HttpResponse:
    """Every incident, newest first."""
    params = Params.of(request)
    try:
        found = reads.page(params.filter, params.before or None, PER_PAGE)
    except BadCursor:
        return redirect(params.url())
    rows = [(row, reads.figures(row)) for row in found.rows]
    context: dict[str, Any] = {"params": params, "rows": rows, "counts": reads.counts()}
    if is_live(request):
        return render(request, "monitoring/incidents/_list_live.html", context)
    context |= {
        "states": [
            Link(key, label, params.url(state=key), params.state == key, count=context["counts"][key])
            for key, label in STATES.items()
        ],
        "services": Service.objects.filter(archived_at=None).order_by("slug"),
        "verdicts": VERDICTS,
        "newest": params.url() if params.before else "",
        "older": params.url(before=found.next_cursor) if found.next_cursor else "",
        "everything": reverse("incidents"),
    }
    return render(request, "monitoring/incidents/list.html", context)


def get_incident(number: int) -> Incident:
    """One incident; raises Http404."""
    return get_object_or_404(Incident.objects.select_related("service", "assignee"), id=number)


@require_safe
@may_read
def incident(request: HttpRequest, number: int) -> HttpResponse:
    """One incident, or (for an open page that looks for news) the parts of it that change."""
    template = "_live.html" if is_live(request) else "incident.html"
    return render(request, f"monitoring/incidents/{template}", {"p": IncidentView(request, get_incident(number))})


@require_safe
@may_read
def markdown(request: HttpRequest, number: int) -> HttpResponse:  # noqa: ARG001
    """The incident as Markdown, for a post-mortem."""
    text = export.markdown(get_incident(number))
    response = HttpResponse(text, content_type="text/markdown; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="incident-{number}.md"'
    response["Cache-Control"] = "no-store"
    return response


@require_safe
@may_read
def statement(request: HttpRequest) -> HttpResponse:
    """Each vendor's month, to read and to print."""
    month = _month(request)
    found = sla.statements(month)
    context = {
        "month": month,
        "months": sla.months(),
        "statements": found,
        "is_running": month == sla.Month.of(timezone.now()),
    }
    return render(request, "monitoring/incidents/sla.html", context)


@require_safe
@may_read
def statement_csv(request: HttpRequest) -> HttpResponse:
    """The same as a table for programs."""
    month = _month(request)
    response = HttpResponse(sla.as_csv(month, sla.statements(month)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="wsmon-sla-{month}.csv"'
    response["Cache-Control"] = "no-store"
    return response


def _month(request: HttpRequest) -> sla.Month:
    """The month that the URL names; the present one for anything else."""
    try:
        return sla.Month.parse(request.GET.get("month", ""))
    except ValueError:
        return sla.Month.of(timezone.now())
