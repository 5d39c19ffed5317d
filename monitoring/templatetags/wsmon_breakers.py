"""How breakers look: the drawn switch, the window's bars, the hour's failure rate, the countdown.

Everything here returns escaped HTML; sizes are SVG attributes, since the CSP allows no style.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring.breakers.glance import Glance
from monitoring.breakers.machine import Cause, Mode
from monitoring.breakers.policy import BUCKETS
from monitoring.breakers.reads import BreakerView
from monitoring.templatetags.wsmon_ui import absolute
from monitoring.views.breakerrows import SHORT, share

register = template.Library()

BAR, GAP, HEIGHT = 19, 4, 34
LEAST_SCALE = 5
"""Calls that fill a bar at least: one call must not look like a flood."""
RATE_WIDTH, RATE_HEIGHT = 140, 30
RING = 2 * math.pi * 19


@register.simple_tag
def breaker(mode: str, forced: bool = False, words: str = "") -> SafeString:
    """A state: a switch drawn closed, open or half, and the word."""
    if mode == "FORCED":
        return SafeString('<span class="ws-chip" data-s="FORCED"><span>forced</span></span>')
    more = format_html(' <span class="d">{}</span>', words) if words else ""
    return format_html(
        '<span class="ws-brk" data-s="{}"><svg aria-hidden="true"><use href="#b-{}"/></svg>{}{}{}</span>',
        mode, mode, mode, " · forced" if forced else "", more,
    )  # fmt: skip


@register.simple_tag
def breaker_mark(mode: str) -> SafeString:
    """The switch alone, where the word stands beside it."""
    return format_html('<svg class="brk-mark" data-s="{}" aria-hidden="true"><use href="#b-{}"/></svg>', mode, mode)


@register.filter
def numbers(value: int) -> str:
    """With commas between the thousands."""
    return f"{value:,}"


@register.simple_tag
def breaker_glance(seen: Glance) -> SafeString:
    """The same for a service's row: "OPEN trial in 12 s", "HALF_OPEN trial running", "OPEN forced"."""
    if seen.forced:
        return breaker(seen.mode, words="forced")
    if seen.mode is Mode.HALF_OPEN:
        return breaker(seen.mode, words="trial running" if seen.trials else "waits for a trial")
    if seen.cause in (Cause.CREDENTIAL, Cause.RATE_LIMIT):
        return breaker(seen.mode, words=SHORT[seen.cause])
    return breaker(seen.mode, words=format_html("trial {}", countdown(seen.due_at)) if seen.due_at else "")


@register.filter
def countdown(at: datetime) -> SafeString:
    """When something may happen, counted down by the browser: "in 12 s"; without it "at 14:12:20"."""
    if at <= timezone.now():
        text: str = "due now"
    else:
        text = f"at {timezone.localtime(at):%H:%M:%S}"
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return format_html('<time class="num" datetime="{}" title="{}" data-in>{}</time>', stamp, absolute(at), text)


@register.simple_tag
def ring(view: BreakerView) -> SafeString:
    """The time to the next trial as a circle; the words beside it say the same. Counted down by the browser."""
    due, left, whole = view.next_attempt_at, view.retry_in or 0.0, view.open_seconds
    if due is None:
        return SafeString("")
    whole = max(whole, left, 1.0)
    return format_html(
        '<svg class="ws-ring needs-js" data-s="{}" data-due="{}" data-of="{}" data-left="{}"'
        ' viewBox="0 0 44 44" aria-hidden="true">'
        '<circle class="tr" cx="22" cy="22" r="19"/>'
        '<circle class="fl" cx="22" cy="22" r="19" stroke-dasharray="{} {}" transform="rotate(-90 22 22)"/>'
        '<text x="22" y="26.5">{}</text></svg>',
        view.state.mode, round(due.timestamp() * 1000), f"{whole:g}", math.ceil(left),
        f"{RING * left / whole:.1f}", f"{RING:.1f}", ring_text(left),
    )  # fmt: skip


def ring_text(seconds: float) -> str:
    """What stands in the ring: "12", from 2 min on "2m", from 2 h on "2h"; as in ``static/wsmon/breakers.js``."""
    whole = math.ceil(seconds)
    if whole < 120:
        return str(whole)
    return f"{whole // 60}m" if whole < 7200 else f"{whole // 3600}h"


@register.simple_tag
def window_bars(view: BreakerView) -> SafeString:
    """The calls of the window by tenths, failures on top."""
    slot = view.policy.slot_seconds
    tallest = max(LEAST_SCALE, *(bucket.ok + bucket.fail for bucket in view.buckets))
    parts = []
    for place, bucket in enumerate(view.buckets):
        back = BUCKETS - place
        title = f"{back * slot:g} to {(back - 1) * slot:g} s ago: {bucket.ok + bucket.fail:,} calls"
        title += f", {bucket.fail:,} failed" if bucket.fail else ""
        parts.append(f"<g><title>{title}</title>{_bar(place * (BAR + GAP), bucket.ok, bucket.fail, tallest)}</g>")
    label = f"Calls in the last {view.policy.window:g} s: {view.calls:,}, {view.fail:,} failed"
    return SafeString(
        f'<svg class="ws-chart" viewBox="0 0 {BUCKETS * (BAR + GAP) - GAP} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _bar(x: int, ok: int, fail: int, tallest: int) -> str:
    room, foot = HEIGHT - 2, HEIGHT - 1
    # The whole column can be pointed at, also where it is low.
    parts = [f'<rect class="hit" x="{x}" y="0" width="{BAR}" height="{HEIGHT}"/>']
    if not ok + fail:
        return f'{parts[0]}<rect class="ib" x="{x}" y="{foot - 2}" width="{BAR}" height="2" opacity=".5"/>'
    failed = max(room * fail / tallest, 2.0) if fail else 0.0
    good = max(room * ok / tallest, 1.5) if ok else 0.0
    if ok:
        parts.append(f'<rect class="okb" x="{x}" y="{foot - good:.1f}" width="{BAR}" height="{good:.1f}"/>')
    if fail:
        top = max(foot - good - failed, 0)
        parts.append(f'<rect class="fb" x="{x}" y="{top:.1f}" width="{BAR}" height="{failed:.1f}"/>')
    return "".join(parts)


@register.simple_tag
def failure_trend(view: BreakerView) -> SafeString:
    """The failure rate of each minute of the last hour, the threshold dashed; gaps where nobody called."""
    known = [rate for rate in view.trend if rate is not None]
    rolling = view.policy.policy == "rolling"
    limit = view.policy.error_threshold if rolling else None
    peak = max(known, default=0.0)
    serious = limit if limit is not None else 0.5
    word = "critical" if peak >= serious else "degraded" if peak >= serious / 4 else "healthy"
    if known:
        last = "no calls in this minute" if view.trend[-1] is None else f"now {share(view.trend[-1])}"
        title = f"Failure rate, last hour: {last}, highest {share(peak)}"
    else:
        title = "Failure rate, last hour: no calls"
    line = ""
    if limit is not None:
        title += f"; the dashed line is the threshold, {limit * 100:g}%"
        line = f'<path class="th" d="M0 {_y(limit):.1f}H{RATE_WIDTH}"/>'
    return SafeString(
        f'<svg class="ws-spark ws-rate" data-s="{word}" viewBox="0 0 {RATE_WIDTH} {RATE_HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-label="{_escaped(title)}"><title>{_escaped(title)}</title>'
        f"{line}{''.join(_stretch(points) for points in _stretches(view.trend))}</svg>"
    )


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _y(rate: float) -> float:
    return RATE_HEIGHT - 2 - (RATE_HEIGHT - 4) * min(1.0, rate)


def _stretches(trend: Sequence[float | None]) -> Iterator[list[tuple[float, float]]]:
    """The points of each run of minutes with calls."""
    step = RATE_WIDTH / max(1, len(trend) - 1)
    run: list[tuple[float, float]] = []
    for place, rate in enumerate(trend):
        if rate is not None:
            run.append((round(place * step, 1), round(_y(rate), 1)))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _stretch(points: list[tuple[float, float]]) -> str:
    if len(points) == 1:  # one minute alone: a short line, so that it can be seen
        x, y = points[0]
        points = [(max(x - 1, 0), y), (min(x + 1, RATE_WIDTH), y)]
    line = " ".join(f"{x},{y}" for x, y in points)
    area = " L".join(f"{x},{y}" for x, y in points)
    foot = RATE_HEIGHT - 2
    return (
        f'<path class="ar" d="M{points[0][0]} {foot} L{area} L{points[-1][0]} {foot}z"/>'
        f'<polyline class="ln" points="{line}"/>'
    )
