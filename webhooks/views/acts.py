"""What people do on the room's pages: replay, cancel, publish, pause and resume destinations and jobs.

Every action works as an htmx fragment and, without JavaScript, as a page that asks, POST and redirect.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from webhooks import actions, idempotency, publishing, reads, replaying
from webhooks.models import Destination, Replay
from webhooks.reads import Standing
from webhooks.replaying import Preview
from webhooks.replayplan import REASONS
from webhooks.views.chosen import Chosen
from webhooks.views.common import (
    Panel,
    asked,
    back_of,
    box_of,
    deliveries_words,
    done,
    field_ids,
    may_act,
    sentence,
)
from webhooks.views.forms import NoteForm, PublishForm, ReasonForm, ReplayForm
from webhooks.vocabulary import DeliveryStatus
from wsmon.audit import Actor

asks_and_acts = require_http_methods(["GET", "HEAD", "POST"])
BYTES = (
    "Sends the same bytes again as a new delivery: same event id, with a Webhook-Replay header, so that a receiver "
    "can tell. What was before stays as it is."
)


# Replay -------------------------------------------------------------------------------------------


@asks_and_acts
@may_act
def replay(request: HttpRequest) -> HttpResponse:
    """Send events again: ask first, with what would go, or (POST) do it."""
    told = request.POST if request.method == "POST" else request.GET
    chosen = Chosen.of(told)
    if not chosen:
        return done(request, reverse("webhooks"), "Nothing is selected", "Tick the deliveries to replay.", "info")
    back = back_of(request, chosen.back)
    if request.method != "POST":
        panel = replay_panel(chosen, back, box_of(request), shown=bool(told.get("show")))
        return asked(request, panel)
    form = _replay_form(chosen, field_ids(request), request.POST)
    if not form.is_valid() or told.get("show"):
        panel = replay_panel(chosen, back, box_of(request), form, shown=form.is_valid())
        return asked(request, panel, 200 if form.is_valid() else 422)
    try:
        made = _replay(chosen, form, Actor.of(request))
    except replaying.Refused as why:
        form.add_error(None, _refusal(why))
        return asked(request, replay_panel(chosen, back, box_of(request), form), 422)
    if chosen.wanted is not None:
        words = f"Replay of {deliveries_words(made.total)} started"
        return done(request, reverse("failures") + "#jobs", words, "Follow it under Failures.")
    skipped = f" {made.skipped} would not go." if made.skipped else ""
    return done(request, back, f"Replayed {deliveries_words(made.made)}", f"It goes out now.{skipped}")


def _replay(chosen: Chosen, form: ReplayForm, actor: Actor) -> Replay:
    try:
        if chosen.wanted is not None:
            return replaying.start(chosen.wanted, actor=actor, **form.options)
        if chosen.event_id:
            return replaying.replay_event(chosen.event_id, actor=actor, **form.options)
        return replaying.replay_deliveries(chosen.ids, actor=actor, **form.options)
    except replaying.Unknown:
        raise Http404("no such event or delivery") from None


def _refusal(why: replaying.Refused) -> str:
    if not why.skipped:
        return sentence(why)
    told = "; ".join(f"{number:,} {REASONS.get(reason, reason)}" for reason, number in why.skipped.items())
    hint = " Tick “Also what was delivered” to send it all the same." if "delivered" in why.skipped else ""
    return f"Nothing of it may go: {told}.{hint}"


def _replay_form(chosen: Chosen, ids: str, data: Any = None) -> ReplayForm:
    one = chosen.delivery
    return ReplayForm(
        data,
        auto_id=ids,
        many=chosen.wanted is not None,
        went_to=one.destination.slug if one else "",
        may_force=one is None or one.status == DeliveryStatus.DELIVERED,
    )


def replay_panel(
    chosen: Chosen, back: str, box: str, form: ReplayForm | None = None, *, shown: bool = False
) -> Panel:
    """What asks before a replay. ``shown``: with examples of what would go."""
    form = form or _replay_form(chosen, f"{box}-%s")
    options = form.options if form.is_bound and form.is_valid() else {}
    to: Destination | None = options.get("destination")
    preview = chosen.preview(force=bool(options.get("force")), destination=to)
    tells = shown or chosen.delivery is None or not preview.would_go
    ask, do = _replay_words(chosen, preview, to)
    held = _held_words(to or (chosen.delivery.destination if chosen.delivery else None))
    return Panel(
        ask=ask,
        do=do,
        action=reverse("webhook-replay"),
        back=back,
        form=form,
        effect=[BYTES, held] if held else [BYTES],
        hidden=chosen.hidden,
        keep="Close",
        show="" if chosen.delivery else "Show what would go",
        more={"preview": preview if tells else None, "skips": skips(preview), "shown": shown},
    )


def _replay_words(chosen: Chosen, preview: Preview, to: Destination | None) -> tuple[str, str]:
    if chosen.delivery:
        slug = to.slug if to else chosen.delivery.destination.slug
        return f"Replay this event to {slug}?", f"Replay to {slug}"
    if chosen.event_id:
        return "Replay this event?", f"Replay to {to.slug}" if to else "Replay this event"
    number = deliveries_words(preview.total)
    paced = f"Replay all {number} that match?" if chosen.wanted is not None else f"Replay {number}?"
    return paced, f"Replay {number}"


def skips(preview: Preview) -> list[tuple[str, int]]:
    """Why some would not go, in words, with their number."""
    return [(REASONS.get(reason, reason), number) for reason, number in preview.skipped.items()]


def _held_words(destination: Destination | None) -> str:
    if destination is None:
        return ""
    standing = reads.standings(reads.destinations([destination.slug]), {}).get(destination.id)
    return held_words(standing) if standing else ""


def held_words(standing: Standing) -> str:
    """What a hold means for what is replayed to a destination; empty without one."""
    at = standing.destination.slug
    return {
        "breaker": f"{at}’s breaker is {standing.mode}: the replay waits until a trial succeeds.",
        "paused": f"{at} is paused: the replay waits until somebody resumes it.",
        "disabled": f"{at} is disabled: the replay waits until it is enabled again.",
    }.get(standing.hold, "")


# Cancel -------------------------------------------------------------------------------------------


@asks_and_acts
@may_act
def cancel(request: HttpRequest) -> HttpResponse:
    """Give up deliveries that wait."""
    chosen = Chosen.of(request.POST if request.method == "POST" else request.GET)
    if not chosen:
        return done(request, reverse("webhooks"), "Nothing is selected", "Tick the deliveries to cancel.", "info")
    back = back_of(request, chosen.back)
    number = chosen.waiting()
    if not number:
        return done(request, back, "Nothing to cancel", "None of them waits any more.", "info")
    form = ReasonForm(request.POST if request.method == "POST" else None, auto_id=field_ids(request))
    if request.method == "POST" and form.is_valid():
        made = actions.cancel_deliveries(chosen.target, Actor.of(request), form.cleaned_data["reason"])
        return done(request, back, f"Cancelled {deliveries_words(made)}", "The events stay, and can be replayed.")
    at = f" to {chosen.delivery.destination.slug}" if chosen.delivery else ""
    panel = Panel(
        ask=f"Cancel {deliveries_words(number)}{at}?",
        do="Cancel delivery" if number == 1 else f"Cancel {deliveries_words(number)}",
        action=reverse("webhook-cancel"),
        back=back,
        form=form,
        effect=["What waits is not sent any more. The events stay, and can be replayed."],
        hidden=chosen.hidden,
        submit="danger-fill",
        status="critical",
        keep="Keep waiting",
    )
    return asked(request, panel, 422 if form.is_bound else 200)


# Publish ------------------------------------------------------------------------------------------


@asks_and_acts
@may_act
def publish(request: HttpRequest) -> HttpResponse:
    """Send an event of our own."""
    form = PublishForm(request.POST if request.method == "POST" else None, auto_id=field_ids(request))
    back = back_of(request, reverse("webhooks"))
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            made = publishing.publish(data["type"], data["content"], data["key"], actor=Actor.of(request))
        except publishing.Unpublishable as bad:
            form.add_error("type" if bad.field == "type" else "content", f"The {bad.field} {bad.message}.")
        except idempotency.BadKey as bad:
            form.add_error("key", sentence(bad))
        except idempotency.Conflict:
            form.add_error("key", "This key was used for another event.")
        else:
            page = reverse("webhook-event", args=[made.event_id])
            words = f"Published {data['type']}" if made.created else "This key is known: nothing new was published"
            to = f"It goes to {made.deliveries} destination{'' if made.deliveries == 1 else 's'}."
            return done(request, page, words, to if made.deliveries else "No route takes it.", _mark(made))
    panel = Panel(
        ask="Publish an event?",
        do="Publish the event",
        action=reverse("webhook-publish"),
        back=back,
        form=form,
        effect=["It goes where the routes of the source “published” lead, signed like every other."],
        keep="Close",
    )
    return asked(request, panel, 422 if form.is_bound else 200)


def _mark(made: publishing.Published) -> str:
    return "healthy" if made.created and made.deliveries else "info"


# Destinations -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Act:
    """One action on a destination. Texts hold its name as ``{}``."""

    ask: str
    do: str
    told: str
    effect: Sequence[str]
    run: Callable[[Destination, Actor, str], bool]
    form: type[forms.Form] = ReasonForm
    submit: str = "primary"
    status: str = "degraded"


ACTS: Mapping[str, Act] = {
    "pause": Act(
        "Pause {}?", "Pause {}", "{} is paused",
        ["Nothing is sent there until somebody resumes it. What comes meanwhile waits, and nothing is lost."],
        actions.pause_destination,
    ),
    "resume": Act(
        "Resume {}?", "Resume {}", "{} is resumed",
        ["What waits goes out at once, as fast as its limits allow."],
        actions.resume_destination, NoteForm, status="info",
    ),
    "disable": Act(
        "Disable {}?", "Disable {}", "{} is disabled",
        ["Nothing is sent there until it is enabled. What comes meanwhile waits, and nothing is lost."],
        actions.disable_destination, submit="danger-fill", status="critical",
    ),
    "enable": Act(
        "Enable {}?", "Enable {}", "{} is enabled",
        ["What waits goes out at once, as fast as its limits allow; how long it has been failing counts anew."],
        actions.enable_destination, NoteForm, status="info",
    ),
}  # fmt: skip


@asks_and_acts
@may_act
def destination(request: HttpRequest, slug: str, action: str) -> HttpResponse:
    """Pause, resume, disable or enable a destination."""
    row = get_object_or_404(Destination, slug=slug, archived_at=None)
    act = ACTS.get(action)
    if act is None:
        raise Http404(f"no action {action}")
    back = back_of(request, reverse("webhook-sources"))
    form = act.form(request.POST if request.method == "POST" else None, auto_id=field_ids(request))
    if request.method == "POST" and form.is_valid():
        did = act.run(row, Actor.of(request), form.cleaned_data["reason"])
        words = act.told.format(slug) if did else f"{act.told.format(slug)} already"
        return done(request, back, words, status="healthy" if did else "info")
    waits = sum(number for (_source, to), number in reads.waiting().items() if to == row.id)
    panel = Panel(
        ask=act.ask.format(slug),
        do=act.do.format(slug),
        action=reverse("webhook-destination", args=[slug, action]),
        back=back,
        form=form,
        effect=[*act.effect, f"{deliveries_words(waits)} wait{'s' if waits == 1 else ''} for it now."],
        submit=act.submit,
        status=act.status,
        crumb="Sources and destinations",
    )
    return asked(request, panel, 422 if form.is_bound else 200)


# Jobs ---------------------------------------------------------------------------------------------


@asks_and_acts
@may_act
def job(request: HttpRequest, replay_id: uuid.UUID, action: str) -> HttpResponse:
    """Pause, resume or cancel a replay of many."""
    row = get_object_or_404(Replay, id=replay_id)
    words = {"pause": "Pause the replay", "resume": "Resume the replay", "cancel": "Cancel the rest"}.get(action)
    if words is None:
        raise Http404(f"no action {action}")
    back = reverse("failures") + "#jobs"
    form = NoteForm(request.POST if request.method == "POST" else None, auto_id=field_ids(request))
    if request.method == "POST" and form.is_valid():
        try:
            told = _run_job(row, action, Actor.of(request), form.cleaned_data["reason"])
        except replaying.Refused as why:
            return done(request, back, "Nothing to do", sentence(why), "info")
        return done(request, back, told)
    left = row.total - row.made - row.skipped
    effect = {
        "pause": "It makes no more deliveries until somebody resumes it; those it made go on.",
        "resume": f"It goes on with the remaining {left:,}, at {row.per_second:g} per second.",
        "cancel": f"The remaining {left:,} are not replayed, and what it made and still waits is cancelled. "
        "What is being sent just now is not held back.",
    }[action]
    panel = Panel(
        ask=f"{words}?",
        do=words,
        action=reverse("webhook-job", args=[replay_id, action]),
        back=back,
        form=form,
        effect=[effect],
        submit="danger-fill" if action == "cancel" else "primary",
        status="critical" if action == "cancel" else "info",
        keep="Let it run" if action == "cancel" else "Keep as it is",
        crumb="Failures",
    )
    return asked(request, panel, 422 if form.is_bound else 200)


def _run_job(row: Replay, action: str, actor: Actor, reason: str) -> str:
    if action == "pause":
        replaying.pause(row, actor, reason)
        return "The replay is paused"
    if action == "resume":
        replaying.resume(row, actor, reason)
        return "The replay goes on"
    number = replaying.cancel(row, actor, reason)
    return f"The replay is cancelled, and {deliveries_words(number)} of it that waited"
