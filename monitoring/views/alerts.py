"""The alerts' page: what is open and who was told, the channels, what could not be delivered.

Every action works as an htmx fragment and, without JavaScript, as a page that asks, POST and redirect.
"""

from __future__ import annotations

import uuid

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from monitoring.actions import Refused
from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import acknowledging, actions, reads
from monitoring.notifications.acknowledging import Acknowledged
from monitoring.views.actions import may_operate
from monitoring.views.forms import FIELD
from monitoring.views.overview import may_read
from wsmon.audit import Actor

LIVE = "X-Wsmon-Live"
"""The header by which an open page asks for what changes."""


class AcknowledgeForm(forms.Form):
    """Why, or what is being done; others read it."""

    reason = forms.CharField(
        label="What are you doing about it?",
        required=False,
        max_length=500,
        widget=forms.TextInput({**FIELD, "placeholder": "e.g. asking their support", "autocomplete": "off"}),
    )


@require_safe
@may_read
def alerts(request: HttpRequest) -> HttpResponse:
    """The page, or its parts that change."""
    before = _number(request.GET.get("before", ""))
    found = reads.messages(before)
    shown, more = found[: reads.MESSAGES_SHOWN], len(found) > reads.MESSAGES_SHOWN
    lost = reads.undelivered_rows()
    context = {
        "opened": reads.every_open(),
        "views": reads.open_views(),
        "waiting": reads.open_count(),
        "channels": reads.channel_views(),
        "undelivered": lost[: reads.MESSAGES_SHOWN],
        "more_undelivered": len(lost) > reads.MESSAGES_SHOWN,
        "messages_shown": shown,
        "before": before,
        "older": f"{reverse('alerts')}?before={shown[-1].row.id}" if more else "",
        "days": reads.UNDELIVERED_DAYS,
    }
    template = "monitoring/alerts/_live.html" if request.headers.get(LIVE) else "monitoring/alerts/page.html"
    return render(request, template, context)


@require_http_methods(["GET", "HEAD", "POST"])
@may_operate
def acknowledge(request: HttpRequest, number: int) -> HttpResponse:
    """Ask before acknowledging (GET), or do it (POST)."""
    alert = get_object_or_404(Alert.objects.select_related("service"), id=number)
    form = AcknowledgeForm(request.POST or None, auto_id=f"alert-{number}-%s")
    if request.method != "POST" or not form.is_valid():
        return _asked(request, alert, form)
    done = acknowledging.acknowledge(number, Actor.of(request), form.cleaned_data["reason"])
    return _said(request, "healthy" if done.mine else "info", _words(done), "It goes on until it is resolved.")


@require_POST
@may_operate
def test(request: HttpRequest, slug: str) -> HttpResponse:
    """Send a message to a channel and say what came of it."""
    channel = get_object_or_404(Channel, slug=slug, archived_at=None)
    try:
        problem = actions.test(channel, Actor.of(request))
    except Refused as why:
        return _said(request, "degraded", f"Nothing was sent: {why}", status=429)
    if problem is not None:
        return _said(request, "critical", f"{channel.slug} did not take the test", problem.text)
    return _said(request, "healthy", f"{channel.slug} took the test", "Look whether it arrived.")


@require_POST
@may_operate
def again(request: HttpRequest, number: uuid.UUID) -> HttpResponse:
    """Send a message again that could not be delivered."""
    try:
        row = actions.again(number, Actor.of(request))
    except Notification.DoesNotExist:
        raise Http404("no such message") from None
    except Refused as why:
        return _said(request, "degraded", f"Nothing was sent: {why}", status=409)
    return _said(request, "healthy", f"It is sent to {row.channel.slug} again")


def _asked(request: HttpRequest, alert: Alert, form: AcknowledgeForm) -> HttpResponse:
    context = {"alert": alert, "form": form, "back": reverse("alerts")}
    htmx = bool(request.htmx)  # type: ignore[attr-defined]
    template = "monitoring/alerts/_panel.html" if htmx else "monitoring/alerts/confirm.html"
    return render(request, template, context, status=422 if form.errors else 200)


def _words(done: Acknowledged) -> str:
    if done.mine:
        return f"Acknowledged: {done.alert.title}"
    if done.over:
        return f"It is over already: {done.alert.title}"
    return f"{done.alert.acknowledged_by} has it already"


def _said(request: HttpRequest, status_word: str, title: str, text: str = "", status: int = 200) -> HttpResponse:
    if not request.htmx:  # type: ignore[attr-defined]
        tell = messages.success if status_word == "healthy" else messages.warning
        tell(request, f"{title}. {text}".strip() if text else f"{title}.")
        return redirect("alerts")
    context = {"status": status_word, "title": title, "text": text}
    return render(request, "_shared/toast.html", context, status=status)


def _number(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        return None
