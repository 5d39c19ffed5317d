"""Forecasts of every check, for the API: filtered, newest first, a page at a time; and how right they were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import QuerySet
from django.utils import timezone

from monitoring.forecasts import reads
from monitoring.forecasts.promises import LAPSES
from monitoring.forecasts.reads import Record
from monitoring.forecasts.sources import CERTIFICATE, ERRORS, LATENCY, QUOTA
from monitoring.history import BadCursor
from monitoring.models import Forecast

UNITS = {LATENCY: "ms", ERRORS: "percent", QUOTA: "percent", CERTIFICATE: "days"}
_MOST = 2**62


class State(StrEnum):
    """What became of a forecast."""

    OPEN = "open"
    """Expected now, as pages show it."""
    LAPSED = "lapsed"
    """No trend is found any more; it is held against what comes all the same."""
    CAME = "came"
    AVERTED = "averted"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which forecasts; empty: whatever service, metric, state."""

    service: str = ""
    metric: str = ""
    state: State | None = None

    def rows(self, now: datetime) -> QuerySet[Forecast]:
        """Those that match, in no order, of checks in use."""
        rows = self.anyhow()
        if self.state is State.OPEN:
            return rows.filter(reads.current(now))
        if self.state is State.LAPSED:
            return rows.filter(~reads.current(now), outcome="")
        return rows.filter(outcome=self.state.value) if self.state else rows

    def anyhow(self) -> QuerySet[Forecast]:
        """Those that match whatever became of them."""
        rows = Forecast.objects.filter(check_ref__archived_at=None, check_ref__service__archived_at=None)
        if self.service:
            rows = rows.filter(check_ref__service__slug=self.service)
        return rows.filter(metric=self.metric) if self.metric else rows


@dataclass(frozen=True, slots=True)
class ForecastPage:
    """A page of forecasts, newest first."""

    rows: list[Forecast]
    next_cursor: str | None


def state_of(row: Forecast, now: datetime) -> State:
    """What became of one."""
    if row.outcome:
        return State(row.outcome)
    return State.OPEN if row.expected_at and row.renewed_at > now - LAPSES else State.LAPSED


def page(wanted: Filter, before: str | None = None, limit: int = 50, now: datetime | None = None) -> ForecastPage:
    """The newest that match, older than ``before``. Raises :class:`~monitoring.history.BadCursor`."""
    rows = wanted.rows(now or timezone.now()).select_related("check_ref__service")
    if before:
        rows = rows.filter(id__lt=_parse(before))
    found = list(rows.order_by("-id")[: limit + 1])
    shown = found[:limit]
    return ForecastPage(shown, str(shown[-1].id) if len(found) > limit else None)


def record(wanted: Filter, now: datetime | None = None) -> Record:
    """How the forecasts of a service and metric ended, whatever state is asked for, within 90 days."""
    return reads.record_of(wanted.anyhow(), now)


def _parse(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _MOST):
        raise BadCursor("not a cursor of this list")
    return int(text)
