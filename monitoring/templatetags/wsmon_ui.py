"""How values look: status words and glyphs, times, milliseconds, sparklines and uptime bars.

Everything here returns escaped HTML. A state is always a shape, a word and only then a colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django import template
from django.utils import timezone
from django.utils.html import conditional_escape, escape, format_html
from django.utils.safestring import SafeString, mark_safe

if TYPE_CHECKING:
    from monitoring.overview import Slot

register = template.Library()

WORDS = {
    "healthy": "Healthy",
    "degraded": "Degraded",
    "critical": "Critical",
    "error": "Error (ours)",
    "unknown": "No data yet",
    "paused": "Paused",
    "not_configured": "Not configured",
    "none": "No data",
}
GLYPHS = {"not_configured": "unknown", "none": "unknown"}
DASH = mark_safe('<span class="ink3">–</span>')  # noqa: S308 - a constant
DAY = 86_400


@register.filter
def status_word(status: str) -> str:
    """The word people read for a status or outcome."""
    return WORDS.get(status, str(status).replace("_", " ").capitalize())


@register.simple_tag
def glyph(status: str, size: str = "") -> SafeString:
    """The shape of a status. ``size``: "s" (13 px), "l" (22 px) or nothing (16 px)."""
    name = GLYPHS.get(status, status)
    extra = f" ws-g-{size}" if size else ""
    return format_html(
        '<svg class="ws-g{}" data-s="{}" aria-hidden="true"><use href="#g-{}"/></svg>', extra, status, name
    )


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """An icon of the sprite, for the eye only: the words beside it say the same."""
    extra = f" ws-icon-{size}" if size else ""
    return format_html(
        '<svg class="ws-icon{}" aria-hidden="true"><use href="#i-{}"/></svg>', extra, name
    )


@register.simple_tag
def status_text(status: str, word: str = "") -> SafeString:
    """Glyph and word, for rows and tables."""
    return format_html('<span class="ws-st" data-s="{}">{}{}</span>', status, glyph(status, "s"), word or status_word(status))


@register.simple_tag
def pill(status: str, since: datetime | None = None) -> SafeString:
    """The state of a service or check with its age; once per object."""
    age: str = ""
    if since is not None:
        age = format_html(' <span class="d">{}, since {}</span>', duration(since), clock(since))
    return format_html(
        '<span class="ws-pill" data-s="{}">{}{}{}</span>', status, glyph(status), status_word(status), age
    )


# Times -------------------------------------------------------------------------------------------


def absolute(at: datetime) -> str:
    """Local time with its zone, and UTC, for a ``title``."""
    local = timezone.localtime(at)
    text = f"{local:%a} {local.day} {local:%b %Y %H:%M:%S} {timezone.get_current_timezone_name()}"
    zone = timezone.get_current_timezone()
    if str(zone) == "UTC":
        return f"{local:%a} {local.day} {local:%b %Y %H:%M:%S} UTC"
    return f"{text.rsplit(' ', 1)[0]} {zone}, {at.astimezone(timezone.UTC if False else _UTC):%H:%M:%S} UTC"  # noqa: SIM223
