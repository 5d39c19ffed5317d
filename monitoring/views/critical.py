"""The page of critical days, and what a person may do there.

Every action works as an htmx fragment and, without JavaScript, as a page that asks, POST and redirect.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from monitoring.actions import Refused
from monitoring.critical import reads
from monitoring.views.actions import may_operate
from monitoring.views.criticalforms import ACTS, Act, ReasonForm, now_in_force
from monitoring.views.overview import may_read
from wsmon.audit import Actor

LIVE_HEADER = "X-Wsmon-Live"
"""Sent by static/wsmon/webhooks.js when it looks for news: only what changes is answered."""
REHEARSALS = {"critical": "A critical day", "emergency": "An emergency"}
YEARS = (2000, 2100)
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


@require_safe
@may_read
def critical_days(request: HttpRequest) -> HttpResponse:
    """What is in force now and why, what comes, and what that changes."""
    rehearse, at, problem = _rehearsal(request)
    page = reads.page(rehearse=rehearse, at=at)
    context = {
        "p": page,
        "rehearsals": REHEARSALS,
        "at": timezone.localtime(at).strftime("%Y-%m-%dT%H:%M") if at else "",
        "problem": problem,
    }
    if request.headers.get(LIVE_HEADER) == "1":
        return render(request, "monitoring/critical/_live.html", context)
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
    found = now_in_force()
    if not kind.possible(found):
        return _said(request, f"Nothing was changed: {kind.gone}", "info", status=409)
    ids = f"{_box(request)}-%s"
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
    box = _box(request)
    context: dict[str, Any] = {
        "act": kind,
        "form": form,
        "effect": kind.effect(form.found),
        "box": box,
        "opener": _opener(request),
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


def _box(request: HttpRequest) -> str:
    """The id of the element that shows the panel."""
    return _id(request.htmx.target, "cd-panel")  # type: ignore[attr-defined]


def _opener(request: HttpRequest) -> str:
    """The id of the link that opened it, to which the focus returns."""
    return _id(request.POST.get("asked") or request.htmx.trigger, "")  # type: ignore[attr-defined]


def _id(text: str | None, default: str) -> str:
    return text if text and _ID.fullmatch(text) else default
