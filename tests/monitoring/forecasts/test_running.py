"""Forecasts made, renewed and settled, with their alerts, in the database."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction

from monitoring import alerts
from monitoring.forecasts import running
from monitoring.models import Alert, Check, CheckState, Forecast, ProbeResult, Rollup
from tests.monitoring.factories import make_check
from tests.monitoring.forecasts.past import make_slow_check, respond, state
from tests.monitoring.forecasts.synthetic import NOW, rising
from wsmon.locks import alone

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
KEY = "forecast:stripe/connectivity:latency"


def later(check: Check, course, hours: float):  # type: ignore[no-untyped-def]
    """The same check's numbers as they are some hours later; NOW moves with them."""
    Rollup.objects.all().delete()
    ProbeResult.objects.all().delete()
    respond(check, lambda at: course(at + hours))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Move NOW of the series."""

    def move(hours: float):  # type: ignore[no-untyped-def]
        from tests.monitoring.forecasts import past, synthetic  # noqa: PLC0415

        now = NOW + hours * HOUR
        monkeypatch.setattr(synthetic, "NOW", now)
        monkeypatch.setattr(past, "NOW", now)
        return now

    return move


def open_alert() -> Alert | None:
    return next((one for one in alerts.open_alerts(["forecast"]) if one.key == KEY), None)


def test_a_rise_is_foretold_once_and_renewed() -> None:
    check = make_slow_check(rising(50))
    assert running.run(NOW) == 1
    first = Forecast.objects.get()
    assert (first.check_ref_id, first.metric, first.outcome, first.limit) == (check.id, "latency", "", 800)
    assert first.crosses_at == first.expected_at
    assert first.earliest
    assert first.crosses_at
    assert first.latest
    assert first.earliest <= first.crosses_at <= first.latest
    assert len(first.points) == 25
    assert running.run(NOW + timedelta(minutes=5)) == 1
    again = Forecast.objects.get()
    assert (again.id, again.made_at, again.crosses_at) == (first.id, NOW, first.crosses_at)
    assert again.renewed_at == NOW + timedelta(minutes=5)


def test_its_alert_says_what_when_and_where() -> None:
    check = make_slow_check(rising(50))
    running.run(NOW)
    running.run(NOW + timedelta(minutes=5))
    alert = open_alert()
    assert alert is not None
    assert (alert.kind, alert.severity, alert.count, alert.service_id) == ("forecast", "warning", 2, check.service_id)
    assert alert.title.startswith("Stripe connectivity: p95 over 800 ms by about Sat 17 Oct 1")
    assert "p95 of the response time is 5" in alert.detail
    assert "50 ms an hour" in alert.detail.replace("49 ms", "50 ms").replace("51 ms", "50 ms")
    assert "If it goes on so: between Sat 17 Oct 1" in alert.detail
    assert alert.url == "/services/stripe/?chart=connectivity#chart"


def test_it_comes_and_the_alert_ends_for_the_check_itself_tells_now(clock) -> None:  # type: ignore[no-untyped-def]
    course = rising(50)
    check = make_slow_check(course)
    running.run(NOW)
    now = clock(3)
    later(check, course, 3)
    running.run(now)
    assert open_alert() is not None
    now = clock(6.5)
    later(check, course, 6.5)
    assert running.run(now) == 0
    row = Forecast.objects.get()
    assert (row.outcome, row.settled_at, row.expected_at, row.points) == ("came", now, None, [])
    assert open_alert() is None


def test_somebody_mends_it(clock) -> None:  # type: ignore[no-untyped-def]
    check = make_slow_check(rising(50))
    running.run(NOW)
    now = clock(2)
    later(check, lambda at: 500 + 50 * at if at < 1 else 200, 2)
    running.run(now)
    assert Forecast.objects.get().outcome == "averted"
    assert open_alert() is None


def test_it_stops_rising_and_was_wrong(clock) -> None:  # type: ignore[no-untyped-def]
    check = make_slow_check(rising(50))
    running.run(NOW)
    latest = Forecast.objects.get().latest
    assert latest is not None
    hours = (latest - NOW) / HOUR * 1.2
    now = clock(hours)
    later(check, lambda at: min(500 + 50 * at, 520), hours)
    running.run(now)
    assert Forecast.objects.get().outcome == "wrong"
    assert open_alert() is None


def test_a_trend_that_is_gone_is_not_drawn_any_more_but_still_judged(clock) -> None:  # type: ignore[no-untyped-def]
    check = make_slow_check(rising(50))
    running.run(NOW)
    now = clock(1)
    later(check, lambda at: 520, 1)
    assert running.run(now) == 1
    row = Forecast.objects.get()
    assert (row.outcome, row.expected_at, row.points) == ("", None, [])
    assert open_alert() is None


def test_a_check_that_is_archived_loses_its_forecast_unjudged() -> None:
    check = make_slow_check(rising(50))
    running.run(NOW)
    Check.objects.filter(id=check.id).update(archived_at=NOW)
    assert running.run(NOW + HOUR) == 1
    assert open_alert() is None
    assert running.run(NOW + timedelta(days=3)) == 0
    assert not Forecast.objects.exists()


def test_a_certificate_is_foretold_without_an_alert_and_averted_when_renewed() -> None:
    check = make_check(kind="tls")
    state(check, status="healthy", details={"tls_days_left": 15})
    running.run(NOW)
    assert Forecast.objects.get().metric == "certificate"
    assert alerts.open_alerts() == []
    CheckState.objects.update(details={"tls_days_left": 90})
    running.run(NOW + HOUR)
    assert Forecast.objects.get().outcome == "averted"


def test_old_forecasts_are_forgotten() -> None:
    check = make_slow_check(rising(50))
    running.run(NOW)
    Forecast.objects.update(outcome="came", settled_at=NOW - timedelta(days=401))
    Check.objects.filter(id=check.id).update(paused_at=NOW)
    running.run(NOW)
    assert not Forecast.objects.exists()


def test_it_looks_every_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    seconds = [1000.0]
    monkeypatch.setattr(running, "_last", float("-inf"))
    monkeypatch.setattr(running, "run", lambda now: looks.append(now) or 3)  # type: ignore[func-returns-value]
    monkeypatch.setattr("monitoring.forecasts.running.time.monotonic", lambda: seconds[0])
    assert running.tick(NOW) == 3
    assert running.tick(NOW) == 0
    seconds[0] += 299
    assert running.tick(NOW) == 0
    seconds[0] += 1
    assert running.tick(NOW) == 3
    assert looks == [NOW, NOW]


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_writes() -> None:
    make_slow_check(rising(50))
    found: list[int] = []

    def other() -> None:
        try:
            found.append(running.run(NOW))
        finally:
            connection.close()

    with transaction.atomic():
        assert alone("wsmon forecasts")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
    assert found == [0]
    assert not Forecast.objects.exists()
    assert running.run(NOW) == 1
