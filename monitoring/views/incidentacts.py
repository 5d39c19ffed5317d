"""Acting on one incident. Every action works as an htmx fragment and, without JavaScript, as POST and redirect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from monitoring.actions import Refused
from monitoring.incidents import actions
from monitoring.incidents.actions import Taken
from monitoring.templatetags.wsmon_ui import clock_text
from monitoring.views.actions import may_operate
from monitoring.views.incidentforms import AssignForm, NoteForm, ReasonForm
from monitoring.views.incidentpage import IncidentView
from monitoring.views.incidents import get_incident
from wsmon.audit import Actor

Run = Callable[[int, Any, Actor], str]


def _acknowledge(number: int, _form: Any, actor: Actor) -> str:
    actions.acknowledge(number, actor)
    return f"You have incident #{number}: nobody else is told"


def _assign(number: int, form: AssignForm, actor: Actor) -> str:
    to = form.chosen
    actions.assign(number, to, actor)
    return f"{to.get_username() if to else 'Nobody'} has incident #{number}"


def _note(number: int, form: NoteForm, actor: Actor) -> str:
    actions.note(number, form.cleaned_data["text"], actor)
    return "The note is in the timeline"


def _resolve(number: int, form: ReasonForm, actor: Actor) -> str:
    actions.resolve(number, form.cleaned_data["reason"], actor)
    return f"Incident #{number} is resolved"


def _reopen(number: int, form: ReasonForm, actor: Actor) -> str:
    actions.reopen(number, form.cleaned_data["reason"], actor)
    return f"Incident #{number} is open again"


ACTS: dict[str, tuple[Run, type[forms.Form]]] = {
    "acknowledge": (_acknowledge, forms.Form),
    "assign": (_assign, AssignForm),
    "note": (_note, NoteForm),
    "resolve": (_resolve, ReasonForm),
    "reopen": (_reopen, ReasonForm),
}


@require_POST
@may_operate
def act(request: HttpRequest, number: int, verb: str) -> HttpResponse:
    """Do one thing to an incident: acknowledge, assign, note, resolve, reopen."""
    if verb not in ACTS:
        raise Http404(f"no action {verb}")
    incident = get_incident(number)
    run, form_class = ACTS[verb]
    form = form_class(request.POST, auto_id=f"{verb}-%s")
    if not form.is_valid():
        return _asked(request, number, verb, form)
    try:
        told = run(incident.id, form, Actor.of(request))
    except Taken as taken:
        words = f"{taken.by or 'Somebody'} acknowledged it before you, at {clock_text(taken.at)}"
        return _done(request, number, verb, words, "info", status=409)
    except Refused as why:
        if verb not in _panels(number):  # its panel is gone: somebody else was quicker
            return _done(request, number, verb, f"{why}".capitalize(), "info", status=409)
        form.add_error(None, f"{why}".capitalize() + ".")
        return _asked(request, number, verb, form)
    return _done(request, number, verb, told)


def _panels(number: int) -> set[str]:
    """The actions that ask something, and make sense now."""
    return {"assign", "note", "resolve" if get_incident(number).closed_at is None else "reopen"}


def _asked(request: HttpRequest, number: int, verb: str, form: forms.Form) -> HttpResponse:
    """The same form again, open, saying what is wrong."""
    page = IncidentView(request, get_incident(number))
    setattr(page, f"{verb}_form", form)
    page.open_panel = verb
    if not request.htmx:  # type: ignore[attr-defined]
        return render(request, "monitoring/incidents/incident.html", {"p": page}, status=422)
    template = "_note.html" if verb == "note" else "_acts.html"
    return render(request, f"monitoring/incidents/{template}", {"p": page}, status=422)


def _done(
    request: HttpRequest, number: int, verb: str, words: str, mark: str = "healthy", status: int = 200
) -> HttpResponse:
    """Say what was done; the page's other parts follow by themselves."""
    if not request.htmx:  # type: ignore[attr-defined]
        (messages.success if mark == "healthy" else messages.info)(request, f"{words}.")
        return redirect("incident", number)
    if request.htmx.target not in ("inc-acts", "inc-note"):  # type: ignore[attr-defined]
        return render(request, "_shared/toast.html", {"status": mark, "title": words}, status=status)
    page = IncidentView(request, get_incident(number))
    context = {"p": page, "verb": verb, "status": mark, "title": words}
    return render(request, "monitoring/incidents/_acted.html", context, status=status)
