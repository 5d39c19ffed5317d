"""Times to the second and phase timings, for the service page."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from monitoring.models import ProbeResult
from monitoring.templatetags.wsmon_ui import absolute
from monitoring.views.servicepage import detail_label, detail_value

register = template.Library()
register.filter("detail_label", detail_label)
register.filter("detail_value", detail_value)


@register.filter
def exact(at: datetime) -> SafeString:
    """A clock time to the second: "14:11:54" today, else "Fri 14:11:54" or "3 Oct 14:11:54"."""
    local = timezone.localtime(at)
    days = (timezone.localdate() - local.date()).days
    day = "" if days == 0 else f"{local:%a} " if 0 < days < 7 else f"{local.day} {local:%b} "
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # Made of numbers and the zone's name; not by format_html, since a page has dozens of them.
    return SafeString(f'<time datetime="{stamp}" title="{escape(absolute(at))}">{day}{local:%H:%M:%S}</time>')


@register.filter
def phases(result: ProbeResult) -> str:
    """DNS, connect, TLS and first byte in ms; a dash where a phase did not happen (kept-alive)."""
    parts = (result.dns_ms, result.connect_ms, result.tls_ms, result.first_byte_ms)
    return " · ".join("–" if part is None else f"{part:.1f}" if part < 1 else f"{part:,.0f}" for part in parts)
