"""How incidents look: spans of time, verdicts, weights."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring.incidents import reads
from monitoring.models import Incident
from monitoring.templatetags.wsmon_ui import DASH, glyph, span_words

register = template.Library()

VERDICTS = {"theirs": "degraded", "ours": "error", "unclear": "unknown"}
"""The status whose shape and colour stand for a verdict."""


@register.filter
def span(seconds: float | None) -> str:
    """A length of time: "4 s", "1 h 10 min"; a dash when there is none."""
    return "–" if seconds is None else span_words(seconds)


@register.filter
def span_or_dash(seconds: float) -> str | SafeString:
    """The same, with a dash for nothing."""
    return span_words(seconds) if seconds else DASH


@register.filter
def lasted(incident: Incident) -> str:
    """How long an incident lasted."""
    return span_words(reads.figures(incident).lasts)


@register.filter
def admitted(incident: Incident) -> str:
    """How long its vendor took to admit it, and whether it was over by then."""
    seconds = reads.figures(incident).to_admit
    if seconds is None or incident.admitted_at is None:
        return ""
    late = incident.closed_at is not None and incident.admitted_at > incident.closed_at
    return span_words(seconds) + (", after it was over" if late else "")


@register.filter
def weight(value: float) -> str:
    """A weight with its sign: "+1.1", "-0.4", "0"."""
    return f"{value:+.1f}" if round(value, 1) else "0"


@register.simple_tag
def verdict_text(verdict: str, confidence: float) -> SafeString:
    """Whose fault, with its shape and how sure that is."""
    mark = VERDICTS.get(verdict, "unknown")
    sure = f"{confidence:.0%}" if confidence and verdict != "unclear" else ""
    return format_html(
        '<span class="ws-st" data-s="{}">{}{}{}</span>',
        mark,
        glyph(mark, "s"),
        verdict,
        format_html('<span class="ink3 num">{}</span>', sure) if sure else "",
    )
