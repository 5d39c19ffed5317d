"""The page of one event, and the one look at its payload with everything in clear."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from webhooks import reverify
from webhooks.models import Event
from webhooks.views import acts, eventpage
from webhooks.views.chosen import Chosen
from webhooks.views.common import Panel, asked, field_ids, may_read, may_reveal
from webhooks.views.forms import RevealForm
from webhooks.vocabulary import DeliveryStatus
from wsmon.asks import is_live
from wsmon.audit import Actor, record
from wsmon.redact import redact

LARGEST_SHOWN = 262_144
"""Characters of a payload in clear that are shown."""


@require_safe
@may_read
def event(request: HttpRequest, event_id: uuid.UUID) -> HttpResponse:
    """Everything about one event; for the live script what changes."""
    number = request.GET.get("attempt", "")
    attempt = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
    page = eventpage.read(event_id, attempt, request.GET.get("part", ""))
    context = eventpage.as_context(page)
    if is_live(request):
        return render(request, "webhooks/event/_live.html", context)
    return render(request, "webhooks/event.html", context | _open_panel(request, page))


def _open_panel(request: HttpRequest, page: eventpage.EventPage) -> dict[str, Any]:
    """For who may replay, the question is open already where a delivery failed: it is what people come for."""
    failed = [card for card in page.cards if card.now.delivery.status == DeliveryStatus.FAILED]
    if not failed or not request.user.has_perm("webhooks.replay") or page.masked is None:
        return {}
    box = f"to-{failed[0].slug}-panel"
    panel = acts.replay_panel(Chosen(ids=[failed[0].now.delivery.id]), request.path, box)
    opened = {"panel": panel, "form": panel.form, "box": box, "opener": f"replay-{failed[0].slug}", **panel.more}
    return {"opened": opened, "opened_for": failed[0].slug}


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@may_reveal
def reveal(request: HttpRequest, event_id: uuid.UUID) -> HttpResponse:
    """Show a payload in clear, once, to whoever says why; that leaves an audit row."""
    row = Event.objects.filter(id=event_id).first()
    verdict = reverify.verdict(row) if row else None
    if row is None or not isinstance(verdict, reverify.Ok):
        raise Http404("there is no such payload")
    back = reverse("webhook-event", args=[event_id])
    form = RevealForm(request.POST if request.method == "POST" else None, auto_id=field_ids(request))
    if request.method == "POST" and form.is_valid():
        content = verdict.content
        hidden = eventpage.masked(content).masked
        reason = form.cleaned_data["reason"]
        record(Actor.of(request), "event.reveal", f"event:{event_id}", reason, fields=len(hidden))
        context = {"text": _in_clear(content.body), "back": back, "event": row, "reason": reason}
        return render(request, _template(request), context)
    panel = Panel(
        ask="Reveal what is masked?",
        do="Reveal the payload",
        action=reverse("webhook-reveal", args=[event_id]),
        back=back,
        form=form,
        effect=["Shows personal data on this screen, once: it is masked again when the page is loaded anew. "
                "That you looked, and why, is kept in the audit."],
        keep="Keep it masked",
    )  # fmt: skip
    return asked(request, panel, 422 if form.is_bound else 200)


def _template(request: HttpRequest) -> str:
    return "webhooks/event/_revealed.html" if request.htmx else "webhooks/event/revealed.html"  # type: ignore[attr-defined]


def _in_clear(body: bytes) -> str:
    """The body as text, JSON with indents; secrets stay masked: nobody needs them here."""
    text = body.decode("utf-8", "replace").replace("\x00", "�")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return redact(text[:LARGEST_SHOWN])
