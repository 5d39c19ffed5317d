"""Pictures of critical days: the calendar of the next months, and where in a critical day one is.

Everything here returns escaped HTML. SVG with attributes only, since the CSP allows no style.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from monitoring.critical.expanding import day_name
from monitoring.critical.inforce import InForce
from monitoring.critical.reads import Day
from monitoring.critical.wording import span as span_of
from monitoring.templatetags.wsmon_ui import clock_text, span_words

register = template.Library()

TOP, ROW, HEIGHT = 22, 30, 26
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WIDE, NARROW = (34, 66, 62), (30, 26, 22)
"""Left edge, pitch and width of a week's column."""
LINE = 1358
"""Width of the line of a critical day."""
CLEAR = 150
"""So far a label must stay away from the ends."""


@register.simple_tag
def calendar_of(days: Sequence[Day], label: str, size: str = "wide") -> SafeString:
    """Weeks as columns, Monday first. Every day says what it is in its title."""
    left, pitch, width = WIDE if size == "wide" else NARROW
    weeks = -(-len(days) // 7)
    parts = [_month(days, week, left + week * pitch) for week in range(weeks)]
    for place, day in enumerate(days):
        x, y = left + place // 7 * pitch, TOP + place % 7 * ROW
        parts.append(_day(day, x, y, width, wide=size == "wide"))
    parts += [f'<text x="0" y="{TOP + 17 + row * ROW}">{word}</text>' for row, word in enumerate(WEEKDAYS)]
    css = "only-lg" if size == "wide" else "only-sm"
    box = f"0 0 {left + weeks * pitch} {TOP + 7 * ROW}"
    words = escape(label)
    return SafeString(
        f'<svg class="cal {css}" viewBox="{box}" role="img" aria-label="{words}"><title>{words}</title>'
        f"{''.join(parts)}</svg>"
    )


def _month(days: Sequence[Day], week: int, x: int) -> str:
    """The month's name above the first week that has its first day; above the first column too."""
    of_week = days[week * 7 : week * 7 + 7]
    first = next((one.day for one in of_week if one.day.day == 1), None)
    if first is None and week > 0:
        return ""
    if week == 0 and any(one.day.day == 1 for one in days[7:14]):
        return ""
    return f'<text x="{x}" y="14">{first or of_week[0].day:%b}</text>'


def _day(day: Day, x: int, y: int, width: int, *, wide: bool) -> str:
    now = day.today and bool(day.reasons)
    css = "now" if now else day.css
    text = "on" if now else "in" if day.reasons or day.today else "dim"
    names = ", ".join(dict.fromkeys(_reason(one.name, one.why) for one in day.reasons))
    title = f"{day_name(day.day)}: {names or 'usual policies'}{', today' if day.today else ''}"
    mark = " ●" if wide and day.reasons else ""
    rect = f'<rect class="{css}" x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4"'
    faded = ' opacity=".45"' if day.over else ""
    return (
        f"{rect}{faded}><title>{escape(title)}</title></rect>"
        f'<text class="{text}" x="{x + width / 2}" y="{y + 17}" text-anchor="middle">{day.day.day}{mark}</text>'
    )


def _reason(name: str, why: str) -> str:
    """A rule's name, and what of it: for a weekday the name says it all."""
    return name if why[:3] in WEEKDAYS else f"{name}: {why}"


@register.filter
def left(at: datetime) -> str:
    """How long until a moment: "11 h 48 min"."""
    return span_words((at - timezone.now()).total_seconds())


@register.simple_tag
def line_of(found: InForce) -> SafeString:
    """From when to when a critical day is in force, and where now is."""
    if found.since is None or found.until is None:
        return SafeString("")
    whole = max((found.until - found.since).total_seconds(), 1.0)
    share = min(max((found.at - found.since).total_seconds() / whole, 0.0), 1.0)
    x = round(share * LINE, 1)
    left, began = span_words((found.until - found.at).total_seconds()), clock_text(found.since)
    ends = f"{clock_text(found.until)}, ends in {left}"
    label = f"From {began} to {clock_text(found.until)}, now {clock_text(found.at)}, {share:.0%} over"
    anchor = "start" if x < CLEAR else "end" if x > LINE - CLEAR else "middle"
    # Below, the label of now gives way to those of the ends.
    now_y = 11 if anchor != "middle" else 52
    ticks = "".join(_ticks(found.since, found.until, whole, x if now_y == 11 else None))
    return SafeString(
        f'<svg class="ws-chart only-lg" viewBox="0 0 {LINE} 60" role="img" aria-label="{escape(label)}">'
        f'<rect class="ib" x="0" y="20" width="{LINE}" height="8" rx="4" opacity=".28"/>'
        f'<rect class="band-fill" x="0" y="20" width="{x}" height="8" rx="4"/>{ticks}'
        f'<circle class="band-fill" cx="{min(max(x, 8), LINE - 8)}" cy="24" r="8"/>'
        f'<text class="tx-i" x="{x}" y="{now_y}" text-anchor="{anchor}">now {clock_text(found.at)}</text>'
        f'<text x="0" y="52">{escape(began + _lead(found))}</text>'
        f'<text x="{LINE}" y="52" text-anchor="end">{escape(ends)}</text></svg>'
    )


def _lead(found: InForce) -> str:
    first = next((one for one in found.reasons if one.in_force_from == found.since), None)
    lead = (first.starts_at - first.in_force_from).total_seconds() if first else 0
    return f", lead of {span_of(lead)}" if lead else ""


def _ticks(since: datetime, until: datetime, whole: float, taken: float | None) -> list[str]:
    """Local midnights, as far as there is room for their names."""
    zone = timezone.get_current_timezone()
    day = since.astimezone(zone).date() + timedelta(days=1)
    found: list[str] = []
    last = float("-inf")
    while len(found) < 40:
        moment = datetime.combine(day, datetime.min.time(), tzinfo=zone)
        if moment >= until:
            break
        x = round((moment - since).total_seconds() / whole * LINE, 1)
        named = x - last > 90 and (taken is None or abs(x - taken) > CLEAR)
        name = f"{moment:%a %H:%M}"
        label = f'<text x="{x}" y="11" text-anchor="middle">{name}</text>' if named and 30 < x < LINE - 30 else ""
        found.append(f'<path class="axis" d="M{x} 15v18"/>{label}')
        last = x if label else last
        day += timedelta(days=1)
    return found
