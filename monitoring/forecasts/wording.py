"""Forecasts in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from monitoring.forecasts.sources import CERTIFICATE, ERRORS, LATENCY, QUOTA, Reading

if TYPE_CHECKING:
    from monitoring.forecasts.reads import Record


def _ms(value: float) -> str:
    return f"{value / 1000:,.1f} s" if value >= 10_000 else f"{value:,.0f} ms"


def _percent(value: float) -> str:
    return f"{value:,.0f} %"


def _days(value: float) -> str:
    return f"{value:,.0f} day{'' if round(value) == 1 else 's'}"


UNITS: dict[str, Callable[[float], str]] = {LATENCY: _ms, ERRORS: _percent, QUOTA: _percent, CERTIFICATE: _days}

_CROSSING = {
    LATENCY: "p95 over {limit}",
    ERRORS: "error budget used up",
    QUOTA: "less than {limit} of the rate limit left",
    CERTIFICATE: "certificate has {limit} left",
}
_STANDING = {
    LATENCY: "p95 of the response time is {value} now",
    ERRORS: "{value} of the month's error budget is used",
    QUOTA: "{value} of the rate limit is left now",
    CERTIFICATE: "The certificate has {value} left",
}
_CHANGE = {
    LATENCY: "{sign}{change} an hour",
    ERRORS: "{sign}{change} an hour",
    QUOTA: "{sign}{change} an hour",
    CERTIFICATE: "",
}


def number(metric: str, value: float) -> str:
    """A value with its unit."""
    return UNITS[metric](value)


def crossing(metric: str, limit: float) -> str:
    """What is expected to happen: "slower than 800 ms"."""
    return _CROSSING[metric].format(limit=number(metric, limit))


def standing(metric: str, value: float, slope: float) -> str:
    """How the number is and changes."""
    change = _CHANGE[metric].format(sign="+" if slope > 0 else "-", change=_change(metric, abs(slope)))
    return _STANDING[metric].format(value=number(metric, value)) + (f", {change}" if change else "")


def _change(metric: str, slope: float) -> str:
    small = slope < 10 and metric in (ERRORS, QUOTA)
    return f"{slope:,.1f} %" if small else number(metric, slope)


def title(reading: Reading) -> str:
    """An alert's title: "Stripe connectivity: slower than 800 ms by about Sat 19:40"."""
    assert reading.newest is not None  # noqa: S101  narrows the type
    subject = reading.subject
    what = crossing(reading.metric, reading.limit)
    return f"{subject.service_label} {subject.name}: {what} by about {moment(reading.newest.crosses_at)}"


def detail(reading: Reading) -> str:
    """An alert's detail: where it stands, and between when and when it is expected."""
    newest = reading.newest
    assert newest is not None  # noqa: S101  narrows the type
    now = standing(reading.metric, newest.value, newest.slope)
    return f"{now}. If it goes on so: between {moment(newest.earliest)} and {moment(newest.latest)}."


def record(past: Record) -> str:
    """How past forecasts ended: "Of 8 forecasts 6 came true, half of them within 12 min; 1 was averted, 1 wrong."."""
    if not past.total:
        return ""
    came = f"{past.came} came true" if past.came else "none came true"
    if past.came > 1 and past.off is not None:
        came += f", half of them within {_span(past.off)} of the time said"
    others = [f"{number} {word}" for number, word in ((past.averted, "averted"), (past.wrong, "wrong")) if number]
    rest = f"; {', '.join(others)}" if others else ""
    return f"Of {past.total} forecast{'s' if past.total > 1 else ''} in 90 days {came}{rest}."


def _span(length: timedelta) -> str:
    minutes = max(1, round(length.total_seconds() / 60))
    if minutes < 100:
        return f"{minutes} min"
    return f"{round(minutes / 60)} h" if minutes < 48 * 60 else f"{round(minutes / 1440)} days"


def moment(at: datetime) -> str:
    """A time as read in a message, which may be read tomorrow: "Sat 17 Oct 19:40"."""
    local = timezone.localtime(at)
    return f"{local:%a} {local.day} {local:%b %H:%M}"
