"""How values look: status words and glyphs, times, milliseconds, sparklines and uptime bars.

Everything here returns escaped HTML. A state is always a shape, a word and only then a colour.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring import history
from monitoring.summaries import MOST_NOTES

if TYPE_CHECKING:
    from monitoring.history import Slot, Strip
    from monitoring.overview import CheckView, ServiceView

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
DASH = SafeString('<span class="ink3">–</span>')
DAY = 86_400


def _safe(html: str) -> SafeString:
    """Mark HTML made in this module, from numbers and escaped text. Faster than ``format_html``: 50 rows a page."""
    return SafeString(html)


@register.filter
def status_word(status: str) -> str:
    """The word people read for a status or outcome."""
    return WORDS.get(status, str(status).replace("_", " ").capitalize())


@register.simple_tag
@lru_cache(maxsize=256)
def glyph(status: str, size: str = "") -> SafeString:
    """The shape of a status. ``size``: "s" (13 px), "l" (22 px) or nothing (16 px)."""
    name = GLYPHS.get(status, status)
    extra = f" ws-g-{size}" if size else ""
    return format_html(
        '<svg class="ws-g{}" data-s="{}" aria-hidden="true"><use href="#g-{}"/></svg>', extra, status, name
    )


@register.simple_tag
@lru_cache(maxsize=256)
def icon(name: str, size: str = "") -> SafeString:
    """An icon of the sprite, for the eye only: the words beside it say the same."""
    extra = f" ws-icon-{size}" if size else ""
    return format_html('<svg class="ws-icon{}" aria-hidden="true"><use href="#i-{}"/></svg>', extra, name)


@register.simple_tag
@lru_cache(maxsize=256)
def status_text(status: str, word: str = "") -> SafeString:
    """Glyph and word, for rows and tables."""
    return format_html(
        '<span class="ws-st" data-s="{}">{}{}</span>', status, glyph(status, "s"), word or status_word(status)
    )


@register.simple_tag
def pill(status: str, since: datetime | None = None) -> SafeString:
    """The state of a service or check with its age; once per object."""
    age: str = ""
    if since is not None:
        age = format_html(' <span class="d">{}, since {}</span>', duration(since), clock(since))
    return format_html(
        '<span class="ws-pill" data-s="{}">{}{}{}</span>', status, glyph(status), status_word(status), age
    )


# Times: relative in text, absolute local and UTC in the title ------------------------------------


def absolute(at: datetime) -> str:
    """Local time with its zone, then UTC: "Sat 17 Oct 2026 13:58:03 Europe/Berlin, 11:58:03 UTC"."""
    return _absolute(at, timezone.get_current_timezone())


# A page tells a hundred moments, and the next one, of whoever looks, tells mostly the same.
@lru_cache(maxsize=8192)
def _absolute(at: datetime, zone: tzinfo) -> str:
    local = at.astimezone(zone)
    text = f"{local:%a} {local.day} {local:%b %Y %H:%M:%S} {zone}"
    return text if str(zone) == "UTC" else f"{text}, {at.astimezone(UTC):%H:%M:%S} UTC"


@lru_cache(maxsize=8192)
def time_attributes(at: datetime, zone: tzinfo, precision: str) -> str:
    """The attributes of a ``<time>``: the moment for scripts, the full time for people."""
    stamp = at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
    # Everything in here is made by us from numbers: there is nothing to escape but the zone's name.
    return f'datetime="{stamp}" title="{escape(_absolute(at, zone))}"'


def span_words(seconds: float) -> str:
    """A length of time in at most two units: "4 s", "14 min", "1 h 10 min", "3 d 4 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // DAY
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        rest = minutes % 60
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    rest = hours % 24
    return f"{days} d {rest} h" if rest and days < 7 else f"{days} d"


def _time(at: datetime, text: str, role: str) -> SafeString:
    attributes = time_attributes(at, timezone.get_current_timezone(), "seconds")
    return _safe(f"<time {attributes}{role}>{escape(text)}</time>")


@register.filter
def ago(at: datetime | None) -> SafeString:
    """How long ago, counted on by the browser: "3 s ago"."""
    if at is None:
        return DASH
    seconds = (timezone.now() - at).total_seconds()
    if seconds >= DAY:
        return _time(at, clock_text(at), "")
    text = "now" if seconds < 1 else f"{coarse(seconds)} ago"
    return _time(at, text, " data-ago")


def coarse(seconds: float) -> str:
    """A length of time in one unit, for narrow columns: "70 min" is "1 h"."""
    whole = max(0, int(seconds))
    for size, unit in ((DAY, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


@register.filter
def duration(at: datetime | None) -> SafeString:
    """How long something has been so, counted on by the browser: "1 h 10 min"."""
    if at is None:
        return DASH
    return _time(at, span_words((timezone.now() - at).total_seconds()), " data-for")


@register.filter
def until(at: datetime | None) -> SafeString:
    """How long until something: "12 h", "3 d"."""
    if at is None:
        return DASH
    left = (at - timezone.now()).total_seconds()
    unit = DAY if left >= DAY else 3600 if left >= 3600 else 60
    return _time(at, coarse(round(left / unit) * unit), "")


def clock_text(at: datetime) -> str:
    """The shortest unmistakable clock time: "13:58" today, "Fri 18:04" this week, else "3 Oct 18:04"."""
    return _clock_text(at, timezone.localdate(), timezone.get_current_timezone())


@lru_cache(maxsize=8192)
def _clock_text(at: datetime, today: date, zone: tzinfo) -> str:
    local = at.astimezone(zone)
    days = (today - local.date()).days
    if days == 0:
        return f"{local:%H:%M}"
    if -7 < days < 7:
        return f"{local:%a %H:%M}"
    return f"{local.day} {local:%b %H:%M}"


@register.filter
def clock(at: datetime | None) -> SafeString:
    """A clock time with the full one in its title."""
    return DASH if at is None else _time(at, clock_text(at), "")


@register.filter
def clock_seconds(at: datetime) -> SafeString:
    """A clock time to the second, for logs: "13:58:03" today, "Fri 18:04:11", "3 Oct 18:04:11"."""
    return _time(at, f"{clock_text(at)}:{timezone.localtime(at):%S}", "")


@register.filter
def seconds(value: float | None) -> SafeString:
    """A length of time in seconds, as configured: "30 s", "0.8 s", "5 min"."""
    if value is None:
        return DASH
    if value >= 60 and value % 60 == 0:
        return _unit(f"{value / 60:g}", "min")
    return _unit(f"{value:g}", "s")


# Numbers: the unit always, tabular figures -------------------------------------------------------


def _unit(number: str, unit: str) -> SafeString:
    return _safe(f'{number}<span class="u">{unit}</span>')


@register.filter
def ms(value: float | None) -> SafeString:
    """Milliseconds with their unit: "182 ms", "0.8 ms"; the number can be found by scripts."""
    if value is None:
        return DASH
    return _safe(f'<span data-value>{ms_number(value)}</span><span class="u">ms</span>')


@register.filter
def ms_number(value: float) -> str:
    """Milliseconds without their unit: "2,003", "0.8"."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.1f}"


def percent_text(share: float) -> str:
    """A share as a percentage, never rounded up to 100."""
    if share >= 1:
        return "100"
    return f"{math.floor(share * 10_000) / 100:.2f}"


@register.filter
def percent(share: float | None) -> SafeString:
    """A share of 0..1 as "99.84 %"."""
    return DASH if share is None else _unit(percent_text(share), "%")


# Pictures: SVG with attributes only, since the CSP allows no style -------------------------------

SPARK_WIDTH, SPARK_HEIGHT = 96, 24


def spark_points(values: Sequence[float | None], width: int, height: int, top: float) -> list[tuple[float, float]]:
    """Where each known value lies, oldest at the left; ``top`` is the value at the upper edge."""
    step = (width - 3) / max(1, len(values) - 1)
    return [
        (round(index * step, 1), round(height - 2 - (height - 5) * min(1.0, value / top), 1))
        for index, value in enumerate(values)
        if value is not None
    ]


@register.simple_tag
def sparkline(
    values: Sequence[float | None], status: str = "healthy", limit: float | None = None,
    width: int = SPARK_WIDTH, height: int = SPARK_HEIGHT,
) -> SafeString:  # fmt: skip
    """The last probes' response times; a dashed line at ``limit`` (ms) when it is near."""
    known = [value for value in values if value is not None]
    if not known:
        return DASH
    near = limit is not None and max(known) > limit / 4
    top = max(*known, limit if near and limit else 0, 1) * 1.15
    points = spark_points(values, width, height, top)
    line = " ".join(f"{x},{y}" for x, y in points)
    area = f"M{points[0][0]} {height} L" + " L".join(f"{x},{y}" for x, y in points) + f" L{points[-1][0]} {height}z"
    title = f"last {len(values)} response time{'s' if len(values) > 1 else ''}, now {known[-1]:,.0f} ms"
    bar = ""
    if near and limit:
        title += f", degraded over {limit:,.0f} ms"
        bar = f'<path class="th" d="M0 {round(height - 2 - (height - 5) * limit / top, 1)}H{width}"/>'
    data = ",".join("" if v is None else f"{v:.0f}" for v in values)
    x, y = points[-1]
    return _safe(
        f'<svg class="ws-spark" data-s="{escape(status)}" data-ms="{data}" data-limit="{limit or ""}" '
        f'viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{title}">'
        f'<title>{title}</title><path class="ar" d="{area}"/>{bar}<polyline class="ln" points="{line}"/>'
        f'<circle class="pt" cx="{x}" cy="{y}" r="2"/></svg>'
    )


SLOT_SHAPES = {
    # status: class, top, height. Worse is taller, so that the bar reads without colour.
    "healthy": ("h", 9, 13),
    "degraded": ("d", 5, 17),
    "error": ("e", 5, 17),
    "critical": ("c", 0, 22),
    "none": ("n", 19, 3),
}
QUIET = frozenset({"healthy", "none"})


@lru_cache(maxsize=1024)
def _drawn(bar: Strip, today: date) -> tuple[str, int]:  # noqa: ARG001  tomorrow the tooltips' times read otherwise
    """The slots as SVG, and how many of them are bad.

    Quiet slots are one path, every other slot is a rectangle with its own words, unless there are very many.
    Kept, since a strip changes once a minute at most and is drawn for every page and viewer.
    """
    by_status: dict[str, list[int]] = defaultdict(list)
    for place, letter in enumerate(bar.letters):
        by_status[history.WORDS[letter]].append(place)
    bad = sum(len(places) for status, places in by_status.items() if status not in QUIET)
    parts = []
    for status, places in by_status.items():
        if status in QUIET or bad > MOST_NOTES:
            css, top, height = SLOT_SHAPES[status]
            path = "".join(f"M{place * 3} {top}h2v{height}h-2z" for place in places)
            parts.append(f'<path class="{css}" d="{path}"/>')
        else:
            parts += [_bad_slot(bar[place], place) for place in places]
    return "".join(parts), bad


def _bad_slot(slot: Slot, place: int) -> str:
    css, top, height = SLOT_SHAPES[slot.status]
    title = escape(f"{clock_text(slot.start)} to {clock_text(slot.end)}: {slot.text or slot.status}")
    shape = f'class="{css}" x="{place * 3}" y="{top}" width="2" height="{height}"'
    return f"<rect {shape}><title>{title}</title></rect>"


PERIOD_WORDS = {"1h": "last hour", "24h": "last 24 h", "7d": "last 7 days", "90d": "last 90 days"}


@register.filter
def period_words(period: str) -> str:
    """ "last 24 h" for "24h"."""
    return PERIOD_WORDS.get(period, period)


@register.simple_tag
def uptime_bar(bar: Strip, period: str = "24h", uptime: float | None = None) -> SafeString:
    """The slots of ``period``; those that are not healthy carry a tooltip."""
    share = "uptime not known yet" if uptime is None else f"{percent_text(uptime)}% up"
    drawn, bad = _drawn(bar, timezone.localdate())
    trouble = f", trouble in {bad} of {len(bar)} slots" if bad else ""
    label = f"{PERIOD_WORDS.get(period, period).capitalize()}: {share}{trouble}"
    return _safe(
        '<svg class="ws-up" viewBox="0 0 269 22" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><title>{label}</title>{drawn}</svg>'
    )


# The service list's cells: one function, since a page has a hundred of them ----------------------

CHIPS = 6


@register.filter
@lru_cache(maxsize=4096)
def service_url(slug: str) -> str:
    """The address of a service's page. Kept: a page has hundreds of them, and none ever changes."""
    return reverse("service", args=[slug])


@register.simple_tag
def service_cells(service: ServiceView, period: str, attention: bool) -> SafeString:
    """The first line of a service's row: state, name, checks, response time, uptime, age."""
    status, word, slug = service.status.value, status_word(service.status), service.slug
    age = f'<span class="stw">{word}, {duration(service.since)}</span>' if attention else ""
    number = DASH if service.response_ms is None else ms(service.response_ms)
    return _safe(
        f'{glyph(status)}<span class="nm"><a href="{service_url(slug)}" id="svc-{service.id}-a">'
        f'{escape(service.label)}</a><span class="ws-crits">{escape(service.criticality)}</span>{age}'
        f'<span class="vh">{word}</span></span>'
        f'<span class="ws-checks chk">{_chips(service.checks)}</span><span class="lat num">{number}</span>'
        f'<span class="sp">{sparkline(service.recent_ms, status, service.recent_limit_ms)}</span>'
        f'<span class="upw">{uptime_bar(service.bar, period, service.uptime)}</span>'
        f'<span class="pct num">{percent(service.uptime)}</span>'
        f'<span class="last num">{ago(service.checked_at)}</span>'
    )


def _chips(checks: Sequence[CheckView]) -> str:
    chips = []
    for check in checks[:CHIPS]:
        name, word = escape(check.name), status_word(check.status)
        chips.append(
            f'<span title="{name}: {word.lower()}">{glyph(check.status.value, "s")}'
            f'<span class="vh">{name}: {word}. </span></span>'
        )
    if len(checks) > CHIPS:
        chips.append(f'<span class="more" title="{len(checks)} checks">…</span>')
    return "".join(chips)
