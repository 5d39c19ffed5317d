"""The lines of the two long lists, deliveries and failure groups: one function each, since a page has dozens.

Everything here returns HTML in which each text is escaped; what is left unescaped is made of numbers.
"""

from __future__ import annotations

import uuid
from functools import cache
from html import escape

from django import template
from django.template.defaultfilters import capfirst
from django.urls import reverse
from django.utils.safestring import SafeString

from monitoring.templatetags.wsmon_breakers import countdown
from monitoring.templatetags.wsmon_ui import clock, clock_seconds, icon, ms_number, period_words
from webhooks.eventmodels import Delivery
from webhooks.failures import Example
from webhooks.templatetags.webhooks_ui import clean, delivery_status, short, trend
from webhooks.views.failures import GroupView
from webhooks.views.lists import Row

register = template.Library()

DASH = '<span class="ink3">–</span>'
_NOBODY = uuid.UUID(int=0)


@register.simple_tag
def delivery_row(row: Row, may_replay: bool) -> SafeString:
    """A delivery's line; ``may_replay``: with a box to select it."""
    d = row.delivery
    source, to, type_ = escape(d.source.slug), escape(d.destination.slug), escape(d.type)
    status, subject = delivery_status(d.status), escape(short(d.event.subject))
    pick = (
        f'<td class="wh-pick"><input type="checkbox" class="ws-check" name="d" value="{d.id}" form="pick" '
        f'id="d-{d.id}-x" autocomplete="off" aria-label="Select {type_} {subject} to {to}"></td>'
        if may_replay
        else ""
    )
    replay = ' <span class="ws-chip wh-replay" title="Sent again on purpose">replay</span>' if d.replay_id else ""
    code = f' · <span class="num">{d.http_status}</span>' if d.http_status else ""
    return SafeString(
        f'<tr id="d-{d.id}" data-row data-live{" data-waits" if row.can_be_cancelled else ""}>{pick}\n'
        f'<td class="only-lg">{status}</td>\n'
        f'<td class="wh-type"><a class="ws-link mono" id="d-{d.id}-a" href="{event_url(d.event_id)}#to-{to}">{type_}'
        f'</a>{replay}<span class="sub only-sm">{status} · {source} to {to}{code}</span></td>\n'
        f'<td class="mono ink3 only-lg nowrap" title="{escape(clean(d.event.subject))}">{subject or "–"}</td>\n'
        f'<td class="only-lg nowrap">{source} <span class="ink3">to</span> {to}</td>\n'
        f'<td class="r num only-lg">{d.tries} <span class="ink3">of {d.max_tries}</span></td>\n'
        f'<td class="only-lg nowrap"><span class="num ink2">{_next(row)}</span></td>\n'
        f'<td class="only-lg nowrap">{_response(d)}</td>\n'
        f'<td class="r num ink3">{clock_seconds(d.event.received_at)}</td></tr>'
    )


def _next(row: Row) -> str:
    word = row.next
    if word:
        return escape(word)
    due = row.due_at
    return countdown(due) if due else DASH


def _response(d: Delivery) -> str:
    if d.http_status:
        text = f'<span class="num">{d.http_status}</span>'
    elif d.category:
        text = f'<span class="ink2">{escape(d.category.lower().replace("_error", ""))}</span>'
    else:
        text = DASH
    return f'{text} <span class="u num">{ms_number(d.total_ms)} ms</span>' if d.total_ms and d.tries else text


@register.simple_tag
def failure_group(view: GroupView, period: str, may_replay: bool) -> SafeString:
    """A group's line: what went wrong, what to do, when, and the way to replay it."""
    group, d, id_ = view.group, view.group.sample, view.anchor
    others = f' <span class="ink3">{escape(capfirst(view.others))}.</span>' if view.others else ""
    message = f'<p class="mono ink2 msg">{escape(clean(d.message))}</p>\n' if d.message else ""
    examples = "".join(_example(id_, one) for one in group.examples)
    return SafeString(
        f'<li class="wh-group" id="{id_}" data-row data-s="{view.mark}">'
        f'<div class="wh-group-in" id="{id_}-in" data-live>\n'
        f'<div class="n num"><b>{view.number:,}</b><span class="sub">{view.number_word}</span></div>\n'
        f'<div class="what"><div class="ws-acts"><span class="ws-chip" data-s="{view.mark}"><span>'
        f'{escape(d.category or "UNKNOWN_ERROR")}</span></span><span class="b num">{escape(view.title)}</span>'
        f'<span class="ink3">{escape(view.rest)}</span></div>\n{message}'
        f'<p class="ink2">{escape(view.advice)}{others}</p>\n'
        f'<p class="eg"><span class="ink3">e.g.</span> {examples}</p></div>\n'
        f'<div class="tr">{trend(group.trend, capfirst(period_words(period)))}</div>\n'
        f'<div class="num ink2 when"><span class="only-sm ink3">first </span>{clock(group.first_at)}</div>\n'
        f'<div class="num ink2 when"><span class="only-sm ink3">last </span>{clock_seconds(group.last_at)}</div>\n'
        f'<div class="do">{_replay(view) if group.failed and may_replay else ""}'
        f'<a class="btn ws-btn s quiet" id="{id_}-list" href="{escape(view.list_url)}">'
        f"Show {view.number:,} deliver{'y' if view.number == 1 else 'ies'}</a></div>\n"
        f'</div><div class="flat" id="{id_}-panel" data-panel></div></li>'
    )


def _example(id_: str, one: Example) -> str:
    subject = f' <span class="ink3">{escape(short(one.subject))}</span>' if one.subject else ""
    address = f"{event_url(one.event_id)}#to-{escape(one.destination)}"
    return f'<a class="mono" id="{id_}-{one.id}" href="{address}">{escape(one.type)}{subject}</a>'


def _replay(view: GroupView) -> str:
    id_, address = view.anchor, escape(f"{_replay_url()}?{view.replay_query}")
    return (
        f'<a class="btn ws-btn s" id="{id_}-replay" href="{address}" hx-get="{address}" hx-target="#{id_}-panel" '
        f'hx-swap="innerHTML settle:0ms" data-asks="{id_}-panel" data-key="r">{icon("arrow-back-up", "s")}'
        f"{escape(view.replay_label)}</a>"
    )


def event_url(event_id: uuid.UUID) -> str:
    """The page of an event; looking for its address by name takes longer than the rest of its line."""
    return _event_url().replace(str(_NOBODY), str(event_id))


@cache
def _event_url() -> str:
    return reverse("webhook-event", args=[_NOBODY])


@cache
def _replay_url() -> str:
    return reverse("webhook-replay")
