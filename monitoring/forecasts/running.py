"""Forecasts made, renewed and settled, alerts raised and resolved: every five minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from monitoring import alerts
from monitoring.alertmodels import Severity
from monitoring.alerts import News
from monitoring.forecasts import promises, sources, wording
from monitoring.forecasts.promises import Promise, Step
from monitoring.forecasts.sources import Reading, Subject
from monitoring.models import Forecast
from wsmon.locks import alone

EVERY = 300.0
"""Seconds between two looks."""
KEPT_DAYS = 400
"""How long settled forecasts are kept, as alerts are."""
KIND = "forecast"

_last = float("-inf")


def tick(now: datetime | None = None) -> int:
    """Look when it is time to in this process; how many forecasts are open, 0 when it was not time."""
    global _last  # noqa: PLW0603  one per process
    if time.monotonic() - _last < EVERY:
        return 0
    _last = time.monotonic()
    return run(now)


def run(now: datetime | None = None) -> int:
    """Look at every number that comes near its limit; how many forecasts are open then.

    Reading takes a while and locks nothing; writing is one short transaction, of one worker at a time.
    """
    moment = now or timezone.now()
    open_keys = Forecast.objects.filter(outcome="").values_list("check_ref_id", "metric")
    readings = {(one.subject.check_id, one.metric): one for one in sources.read(moment, open_keys)}
    with transaction.atomic():
        if not alone("wsmon forecasts"):
            return 0
        _forget_old(moment)
        rows = Forecast.objects.filter(outcome="").select_related("check_ref__service")
        open_ = {(row.check_ref_id, row.metric): row for row in rows}
        news: list[News] = []
        over: list[str] = []
        for key in sorted({*readings, *open_}):
            row, reading = open_.get(key), readings.get(key)
            what = _follow(row, reading, moment)
            if what.alert and reading:
                news += _news(reading)
            elif what.alert is False and row:
                over.append(alert_key(row.check_ref.service.slug, row.check_ref.name, row.metric))
        alerts.raise_alerts(news)
        alerts.resolve_all(over)
        return Forecast.objects.filter(outcome="").count()


def _follow(row: Forecast | None, reading: Reading | None, now: datetime) -> Step:
    promise = _promise(row) if row else None
    level, newest = (reading.level, reading.newest) if reading else (None, None)
    what = promises.step(promise, level, newest, now)
    if what.make and reading:
        Forecast.objects.create(check_ref_id=reading.subject.check_id, metric=reading.metric, **_made(reading, now))
    elif row:
        _change(row, reading, what, now)
    return what


def _promise(row: Forecast) -> Promise:
    return Promise(row.made_at, row.value, row.limit, row.latest or row.made_at, row.renewed_at)


def _made(reading: Reading, now: datetime) -> dict[str, object]:
    newest = reading.newest
    assert newest is not None  # noqa: S101  narrows the type
    return {
        "made_at": now,
        "value": newest.value,
        "slope": newest.slope,
        "limit": reading.limit,
        "crosses_at": newest.crosses_at,
        "earliest": newest.earliest,
        "latest": newest.latest,
        "signal": newest.signal,
        **_newest(reading, now),
    }


def _newest(reading: Reading, now: datetime) -> dict[str, object]:
    newest = reading.newest
    return {
        "renewed_at": now,
        "expected_at": newest and newest.crosses_at,
        "points": [[at, *(round(value, 3) for value in values)] for at, *values in newest.points] if newest else [],
    }


def _change(row: Forecast, reading: Reading | None, what: Step, now: datetime) -> None:
    changes: Mapping[str, object] = {}
    if what.forget:
        Forecast.objects.filter(id=row.id).delete()
    elif what.settle:
        changes = {"outcome": what.settle.value, "settled_at": now, "expected_at": None, "points": []}
    elif what.renew and reading:
        changes = _newest(reading, now)
    elif row.expected_at and now - row.renewed_at >= promises.LAPSES:
        changes = {"expected_at": None, "points": []}
    if changes:
        Forecast.objects.filter(id=row.id).update(**changes)


def _news(reading: Reading) -> list[News]:
    """An alert of a certificate's end is a rule's, which also knows of credentials."""
    if not reading.newest or reading.metric == sources.CERTIFICATE:
        return []
    subject = reading.subject
    key = alert_key(subject.service_slug, subject.name, reading.metric)
    words = (wording.title(reading), wording.detail(reading), page(subject))
    return [News(key, KIND, Severity.WARNING, *words, subject.service_id)]


def alert_key(service: str, check: str, metric: str) -> str:
    """The key of a forecast's alert."""
    return f"forecast:{service}/{check}:{metric}"


def page(subject: Subject) -> str:
    """Where the forecast is drawn."""
    return f"{reverse('service', args=[subject.service_slug])}?chart={subject.name}#chart"


def _forget_old(now: datetime) -> None:
    Forecast.objects.filter(settled_at__lt=now - timedelta(days=KEPT_DAYS)).delete()
