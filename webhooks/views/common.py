"""What the room's pages share: who may see and act, fragments, panels that ask, what is said afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from webhooks.models import Source
from webhooks.vocabulary import PUBLISHED
from wsmon import asks

may_read = permission_required(settings.LIVE_PERMISSION, raise_exception=True)
may_act = permission_required("webhooks.replay", raise_exception=True)
may_reveal = permission_required("webhooks.reveal", raise_exception=True)


def inbound_url(request: HttpRequest, source: Source) -> str:
    """What to enter at the vendor; empty for our own events, which come by the API."""
    if source.slug == PUBLISHED:
        return ""
    path = f"/api/webhooks/{source.slug}"
    return source.url or (f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else request.build_absolute_uri(path))


@dataclass(slots=True)
class Panel:
    """What asks before an action: what it does, in numbers, and what it wants to know."""

    ask: str
    do: str
    """The button: what happens, with its object."""
    action: str
    """The URL that does it."""
    back: str
    """The page to return to."""
    form: forms.Form
    effect: Sequence[str] = ()
    hidden: Sequence[tuple[str, str]] = ()
    submit: str = "primary"
    status: str = "info"
    keep: str = "Keep as it is"
    crumb: str = "Webhooks"
    show: str = ""
    """The label of a second button that shows what would go, without doing it."""
    more: dict[str, Any] = field(default_factory=dict)
    """For the template: what would go."""


def asked(request: HttpRequest, panel: Panel, status: int = 200) -> HttpResponse:
    """The panel: for htmx alone, else on a page of its own."""
    context = {
        "panel": panel,
        "form": panel.form,
        "box": box_of(request),
        "opener": asks.opener_of(request),
        **panel.more,
    }
    if not request.htmx:  # type: ignore[attr-defined]
        return render(request, "webhooks/confirm.html", context, status=status)
    response = render(request, "webhooks/_panel.html", context, status=status)
    response["HX-Retarget"], response["HX-Reswap"] = f"#{context['box']}", "innerHTML settle:0ms"
    return response


def done(request: HttpRequest, back: str, title: str, text: str = "", status: str = "healthy") -> HttpResponse:
    """Say what was done: for htmx a toast (the page then looks for news by itself), else back to the page."""
    if not request.htmx:  # type: ignore[attr-defined]
        told = messages.success if status == "healthy" else messages.info
        told(request, f"{title}. {text}".strip())
        return redirect(back)
    return render(request, "_shared/toast.html", {"status": status, "title": title, "text": text})


def box_of(request: HttpRequest) -> str:
    """The id of the element that shows the panel."""
    return asks.box_of(request, "ask-panel")


def back_of(request: HttpRequest, default: str) -> str:
    """Where the person came from, if it is a page of ours."""
    told = request.POST.get("back") or request.GET.get("back") or ""
    return told if told.startswith("/") and url_has_allowed_host_and_scheme(told, None) else default


def field_ids(request: HttpRequest) -> str:
    """A pattern for the ids of a form's fields that no other panel of the page uses."""
    return f"{box_of(request)}-%s"


def plural(number: int, one: str, many: str) -> str:
    """ "1 delivery", "1,204 deliveries"."""
    return f"1 {one}" if number == 1 else f"{number:,} {many}"


def deliveries_words(number: int) -> str:
    """ "1 delivery", "41 deliveries"."""
    return plural(number, "delivery", "deliveries")


def sentence(said: object) -> str:
    """A message that others wrote, with a capital and a full stop."""
    text = str(said)
    return f"{text[:1].upper()}{text[1:]}."
