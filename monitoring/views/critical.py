"""The page of critical days, and what a person may do there.

Every action works as an htmx fragment and, without JavaScript, as a page that asks, POST and redirect.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from monitoring.actions import Refused
from monitoring.critical import inforce, reads
from monitoring.views.actions import may_operate
from monitoring.views.criticalforms import ACTS, Act, ReasonForm
from monitoring.views.overview import may_read
from wsmon.asks import box_of, is_live, opener_of
from wsmon.audit import Actor

REHEARSALS = {"critical": "A critical day", "emergency": "An emergency"}
YEARS = (2000, 2100)
BOX = "cd-panel"
"""The id of the element that shows a panel on a page of its own."""


@require_safe
@may_read
def critical_days(request: HttpRequest) -> HttpResponse:
    """What is in force now and why, what comes, and what that changes."""
    if is_live(request):
        return render(request, "monitoring/critical/_live.html", {"p": reads.page()})  # a rehearsal stays as it is
    rehearse, at, problem = _rehearsal(request)
    context = {
        "p": reads.page(rehearse=rehearse, at=at),
        "rehearsals": REHEARSALS,
        "at": timezone.localtime(at).strftime("%Y-%m-%dT%H:%M") if at else "",
        "problem": problem,
    }
    return render(request, "monitoring/critical/page.html", context)


def _rehearsal(request: HttpRequest) -> tuple[str, datetime | None, str]:
    """What to rehearse, when, and what is wrong with the moment that was entered."""
    kind, entered = request.GET.get("rehearse", ""), request.GET.get("at", "")
    if kind in REHEARSALS:
        return kind, None, ""
    if kind != "at" or not entered:
        return "", None, ""
    try:
        moment = datetime.fromisoformat(entered)
        if not YEARS[0] <= moment.year <= YEARS[1]:
            raise ValueError
        if moment.tzinfo is None:
            moment = timezone.make_aware(moment)
    except (ValueError, OverflowError):
        return "", None, "Enter a day and a time between the years 2000 and 2100."
    return kind, moment, ""


@require_http_methods(["GET", "HEAD", "POST"])
@may_operate
def act(request: HttpRequest, action: str) -> HttpResponse:
    """Ask before an action (GET), or do it (POST)."""
    kind = ACTS.get(action)
    if kind is None:
        raise Http404(f"no action {action}")
    found = inforce.now_in_force()
    if not kind.possible(found):
        return _said(request, f"Nothing was changed: {kind.gone}", "info", status=409)
    ids = f"{box_of(request, BOX)}-%s"
    if request.method != "POST":
        initial = {"service": request.GET.get("service", "").replace("\0", "")}
        form = kind.form(found=found, example=kind.example, auto_id=ids, initial=initial)
        return _asked(request, kind, form)
    form = kind.form(request.POST, found=found, example=kind.example, auto_id=ids)
    if not form.is_valid():
        return _asked(request, kind, form, status=422)
    try:
        told = kind.run(form, Actor.of(request))
    except Refused as why:
        form.add_error(None, f"{why}".capitalize() + ".")
        return _asked(request, kind, form, status=422)
    return _said(request, told, "healthy")


def _asked(request: HttpRequest, kind: Act, form: ReasonForm, status: int = 200) -> HttpResponse:
    box = box_of(request, BOX)
    context: dict[str, Any] = {
        "act": kind,
        "form": form,
        "effect": kind.effect(form.found),
        "box": box,
        "opener": opener_of(request),
        "back": reverse("critical-days"),
    }
    if not request.htmx:  # type: ignore[attr-defined]
        return render(request, "monitoring/critical/confirm.html", context, status=status)
    response = render(request, "monitoring/critical/_panel.html", context, status=status)
    response["HX-Retarget"], response["HX-Reswap"] = f"#{box}", "innerHTML settle:0ms"
    return response


def _said(request: HttpRequest, title: str, mark: str, status: int = 200) -> HttpResponse:
    if not request.htmx:  # type: ignore[attr-defined]
        (messages.success if mark == "healthy" else messages.info)(request, f"{title}.")
        return redirect("critical-days")
    return render(request, "_shared/toast.html", {"status": mark, "title": title}, status=status)
