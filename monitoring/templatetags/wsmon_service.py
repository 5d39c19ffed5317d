"""The result log's lines and times to the second, for the service page."""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from functools import lru_cache
from html import escape

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from monitoring.history import Result
from monitoring.templatetags.wsmon_ui import ms, status_text, time_attributes
from monitoring.views.servicelog import LogRow
from monitoring.views.servicepage import detail_label, detail_value

register = template.Library()
register.filter("detail_label", detail_label)
register.filter("detail_value", detail_value)


@register.filter
def exact(at: datetime) -> SafeString:
    """A clock time to the second: "14:11:54" today, else "Fri 14:11:54" or "3 Oct 14:11:54"."""
    return SafeString(_exact(at, timezone.localdate(), timezone.get_current_timezone()))


@lru_cache(maxsize=4096)
def _exact(at: datetime, today: date, zone: tzinfo) -> str:
    local = at.astimezone(zone)
    days = (today - local.date()).days
    day = "" if days == 0 else f"{local:%a} " if 0 < days < 7 else f"{local.day} {local:%b} "
    return f"<time {time_attributes(at, zone, 'milliseconds')}>{day}{local:%H:%M:%S}</time>"


@register.filter
def result_cells(row: LogRow) -> SafeString:
    """A result's line of the log. One function, since a page has 25 of them with a dozen values each."""
    result, check = row.result, escape(row.check)
    message, category = escape(result.message), escape(result.category)
    told = f"{check}: {message}" if message else check
    test = ' <span class="ink3">(test)</span>' if result.manual else ""
    return SafeString(
        f'<td class="num ink3">{exact(result.at)}</td>'
        f'<td>{status_text(result.outcome)}<span class="sub only-sm">{told}</span></td>'
        f'<td class="only-lg">{check}{test}</td><td class="num only-lg">{result.http_status or "–"}</td>'
        f'<td class="r num">{ms(result.total_ms)}</td><td class="num ink3 only-lg">{phases(result)}</td>'
        f'<td class="ink2 only-lg svc-msg">{": ".join(word for word in (category, message) if word)}</td>'
    )


def phases(result: Result) -> str:
    """DNS, connect, TLS and first byte in ms; a dash where a phase did not happen (kept-alive)."""
    parts = (result.dns_ms, result.connect_ms, result.tls_ms, result.first_byte_ms)
    return " · ".join("–" if part is None else f"{part:.1f}" if part < 1 else f"{part:,.0f}" for part in parts)
