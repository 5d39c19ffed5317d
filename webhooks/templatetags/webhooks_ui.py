"""How deliveries look: status, phases of a try, a group's trend, payloads with their masks.

Everything here returns escaped HTML; sizes are SVG attributes, since the CSP allows no style.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring.breakers.machine import Mode
from monitoring.templatetags.wsmon_breakers import breaker, countdown
from monitoring.templatetags.wsmon_ui import ms_number, status_text
from webhooks.failures import SLOTS
from webhooks.masking import Mask, mask_text
from webhooks.models import Attempt
from webhooks.reads import Standing
from wsmon.vocabulary import JSON

register = template.Library()

SHOWN = 16
"""Characters of an id in a list; its middle is left out."""
BAR, GAP, HEIGHT = 4, 1, 26
METER = 200
DEEP = 60


@register.simple_tag
def delivery_status(status: str) -> SafeString:
    """Glyph and word of a delivery's status; "unrouted" of an event that goes nowhere."""
    if status == "unrouted":
        return SafeString(
            '<span class="ws-st" data-s="unknown"><svg class="ws-g ws-g-s" data-s="unknown" aria-hidden="true">'
            '<use href="#g-unknown"/></svg>unrouted</span>'
        )
    return status_text(status, status)


@register.filter
@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """A vendor's id or a message, without personal data that stands in it."""
    return mask_text(text)


@register.filter
def short(text: str) -> str:
    """An id with its middle left out: "pi_3QxT2…kLz81"."""
    shown = clean(text)
    return shown if len(shown) <= SHOWN else f"{shown[:8]}…{shown[-5:]}"


@register.simple_tag
def held(standing: Standing) -> SafeString:
    """Why nothing goes to a destination, or how its breaker stands; empty when it has none."""
    if standing.hold in ("paused", "disabled"):
        return format_html(
            '<span class="ws-chip" data-s="{}"><span>{}</span></span>',
            "critical" if standing.hold == "disabled" else "paused", standing.hold,
        )  # fmt: skip
    view = standing.breaker
    if view is None:
        return SafeString("")
    override = view.state.override is not None
    words: str = ""
    if not override and view.effective is Mode.HALF_OPEN:
        words = "trial running" if view.state.trials else "waits for a trial"
    elif not override and view.next_attempt_at is not None and view.effective is Mode.OPEN:
        words = format_html("trial {}", countdown(view.next_attempt_at))
    return breaker(view.effective, override, words)


# Pictures -----------------------------------------------------------------------------------------


@register.simple_tag
def trend(numbers: Sequence[int], words: str, css: str = "fb") -> SafeString:
    """How many in each part of a period, oldest first."""
    most = max([*numbers, 1])
    bars: list[str] = []
    idle: list[str] = []
    for place, number in enumerate(numbers):
        (bars if number else idle).append(_bar(place, max((HEIGHT - 2) * number / most, 3) if number else 2))
    label = escape(f"{words}: {sum(numbers):,} failures, at most {max([*numbers, 0]):,} in one part of {SLOTS}")
    paths = "".join(
        f'<path class="{kind}" d="{"".join(some)}"/>' for kind, some in ((css, bars), ("ib", idle)) if some
    )
    return SafeString(
        f'<svg class="ws-chart wh-trend" viewBox="0 0 {SLOTS * (BAR + GAP) - GAP} {HEIGHT}" width="119" '
        f'height="{HEIGHT}" role="img" aria-label="{label}"><title>{label}</title>{paths}</svg>'
    )


# A page of failures has five hundred, and most are alike.
@lru_cache(maxsize=4096)
def _bar(place: int, tall: float) -> str:
    return f"M{place * (BAR + GAP)} {HEIGHT}v-{tall:.1f}h{BAR}v{tall:.1f}z"


PHASES = (("dns_ms", "DNS"), ("connect_ms", "connect"), ("tls_ms", "TLS"), ("first_byte_ms", "waiting"))


@register.simple_tag
def phases(attempt: Attempt, longest: float) -> SafeString:
    """Where the time of a try went; ``longest`` (ms) is the longest try's, so that they can be compared."""
    total = attempt.total_ms
    if not total:
        return SafeString('<span class="ink3">–</span>')
    known = [(word, getattr(attempt, name) or 0.0) for name, word in PHASES if getattr(attempt, name)]
    rest = max(total - sum(value for _word, value in known), 0.0)
    if rest >= 1:
        known.append(("reading", rest))
    parts, x = [], 0.0
    for place, (_word, value) in enumerate(known):
        width = METER * value / max(longest, total)
        parts.append(f'<rect class="fl p{place % 5}" x="{x:.1f}" width="{max(width, 0.6):.1f}" height="6"/>')
        x += width
    words = ", ".join(f"{word} {ms_number(value)}" for word, value in known) or f"total {ms_number(total)}"
    return SafeString(
        f'<svg class="ws-meter" data-s="{"healthy" if attempt.ok else "critical"}" viewBox="0 0 {METER} 6" '
        f'preserveAspectRatio="none" role="img" aria-label="{escape(words)} ms"><title>{escape(words)} ms</title>'
        f'<rect class="tr" width="{METER}" height="6"/>{"".join(parts)}</svg>'
    )


@register.simple_tag
def progress(done: int, total: int) -> SafeString:
    """How far a job is, as a bar."""
    share = min(done / total, 1.0) if total else 1.0
    return format_html(
        '<svg class="ws-meter wh-progress" data-s="info" viewBox="0 0 200 6" preserveAspectRatio="none" role="img" '
        'aria-label="{} percent done"><rect class="tr" width="200" height="6"/>'
        '<rect class="fl" width="{}" height="6"/></svg>',
        int(share * 100), f"{200 * share:.1f}",
    )  # fmt: skip


# Payloads -----------------------------------------------------------------------------------------


@register.filter
def as_code(value: JSON) -> SafeString:
    """JSON with indents and colours; what was masked is hatched."""
    return SafeString("".join(_code(value, 0)))


def _code(value: JSON, depth: int) -> Iterator[str]:
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict) and value and depth < DEEP:
        yield "{\n"
        last = len(value) - 1
        for place, (key, item) in enumerate(value.items()):
            yield f'{inner}<span class="k">{escape(json.dumps(key, ensure_ascii=False), quote=False)}</span>: '
            yield from _code(item, depth + 1)
            yield ",\n" if place < last else "\n"
        yield outer + "}"
    elif isinstance(value, list) and value and depth < DEEP:
        yield "[\n"
        last = len(value) - 1
        for place, item in enumerate(value):
            yield inner
            yield from _code(item, depth + 1)
            yield ",\n" if place < last else "\n"
        yield outer + "]"
    else:
        yield _scalar(value)


def _scalar(value: JSON) -> str:
    if isinstance(value, Mask):
        return f'<span class="m">masked {escape(value.kind)}</span>'
    text = escape(json.dumps(value, ensure_ascii=False, default=str), quote=False)
    css = "st" if isinstance(value, str) else "n"
    return f'<span class="{css}">{text}</span>'
