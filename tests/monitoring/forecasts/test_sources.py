"""The numbers that are looked at: from rollups, results and details to what is expected."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone

from monitoring.forecasts import sources
from monitoring.forecasts.sources import Reading, since_reset, used
from monitoring.histogram import bin_of, percentile
from monitoring.models import AlertThresholds, Check, Rollup
from monitoring.rollups import Counts
from tests.monitoring.factories import make_check
from tests.monitoring.forecasts.past import limited, make_slow_check, state
from tests.monitoring.forecasts.synthetic import NOW, daily, flat, rising, series

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def readings(promised: Iterable[tuple[int, str]] = ()) -> dict[str, Reading]:
    return {one.metric: one for one in sources.read(NOW, promised)}


def hours_ahead(reading: Reading) -> float:
    assert reading.newest is not None
    return (reading.newest.crosses_at - NOW) / HOUR


# response times --------------------------------------------------------------------------------------


def test_response_times_that_rise_for_hours_reach_their_limit() -> None:
    make_slow_check(rising(50))
    found = readings()["latency"]
    assert hours_ahead(found) == pytest.approx(6, abs=1)
    assert found.limit == 800
    assert found.level == pytest.approx(495, rel=0.06), "a bin is twelve per cent wide"
    assert (found.subject.service_slug, found.subject.name) == ("stripe", "connectivity")


def test_a_rise_within_the_hour_is_seen_from_minutes() -> None:
    make_slow_check(lambda hours: 300 if hours < -1 else 700 + 400 * hours, every=10)
    assert hours_ahead(readings()["latency"]) == pytest.approx(0.25, abs=0.1)


def test_a_rise_over_a_week_is_seen_from_hours() -> None:
    make_slow_check(rising(2, 600), 2, length=timedelta(days=7), every=300, interval=300)
    assert hours_ahead(readings()["latency"]) == pytest.approx(100, abs=15)


def test_every_morning_s_rise_is_none() -> None:
    make_slow_check(daily(500, 500), 10, length=timedelta(days=7), every=300, interval=300)
    found = readings()["latency"]
    assert found.level is not None
    assert found.newest is None


def test_without_a_limit_of_its_own_a_check_has_its_timeout() -> None:
    make_slow_check(rising(50), degraded_over=None, timeout=0.8)
    found = readings()["latency"]
    assert found.limit == pytest.approx(800)
    assert hours_ahead(found) == pytest.approx(6, abs=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"archived_at": timezone.now()},
        {"paused_at": timezone.now()},
        {"degraded_over": 8.0},
    ],
)
def test_nobody_asks_for(fields: dict[str, Any]) -> None:
    check = make_slow_check(rising(50))
    Check.objects.filter(id=check.id).update(**fields)
    assert readings() == {}


@pytest.mark.parametrize("status", ["critical", "error", "unknown", "not_configured"])
def test_what_fails_already_is_no_matter_of_a_forecast(status: str) -> None:
    state(make_slow_check(rising(50)), status=status)
    assert readings([(1, "latency")]) == {}


def test_what_is_far_from_its_limit_is_looked_at_only_when_it_was_promised(django_assert_num_queries: Any) -> None:
    check = make_slow_check(flat)
    with django_assert_num_queries(3):
        assert readings() == {}
    found = readings([(check.id, "latency"), (check.id, "nonsense"), (0, "latency")])["latency"]
    assert found.newest is None
    assert found.level == pytest.approx(200, rel=0.06)


def test_the_nearest_to_their_limits_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST", 2)
    near = make_slow_check(rising(50, 700))
    far = make_slow_check(rising(50, 500), service=near.service, name="far")
    farthest = make_slow_check(rising(40, 400), service=near.service, name="farthest")
    assert [one.subject.check_id for one in sources.read(NOW, [])] == [near.id, far.id]
    promised = [one.subject.check_id for one in sources.read(NOW, [(farthest.id, "latency")])]
    assert promised == [farthest.id, near.id]


def test_the_slice_that_is_not_whole_yet_is_left_out() -> None:
    check = make_slow_check(rising(50), length=HOUR, every=10)
    (subject,) = sources._subjects()
    found = sources._percentiles([subject], Rollup.Level.MINUTE, HOUR, NOW + timedelta(seconds=30))[check.id]
    assert max(at for at, _ in found) == NOW - timedelta(minutes=1), "slices of twelve probes, two minutes"


def test_slices_are_as_long_as_twelve_probes_take() -> None:
    slow = make_slow_check(rising(50), every=60, interval=60)
    subjects = list(sources._subjects())
    found = sources._percentiles(subjects, Rollup.Level.MINUTE, 3 * HOUR, NOW)[slow.id]
    assert {after[0] - before[0] for before, after in pairwise(found)} == {timedelta(minutes=12)}
    assert len(found) >= 14


def test_a_service_s_own_budget_of_p95_is_the_limit() -> None:
    AlertThresholds.objects.create(id=1, values={"services": {"stripe": {"p95": 0.7}}})
    make_slow_check(rising(50))
    found = readings()["latency"]
    assert found.limit == 700
    assert hours_ahead(found) == pytest.approx(4, abs=0.8)


@pytest.mark.parametrize(("interval", "level"), [(10, 490), (300, 490), (1200, 490)])
def test_how_it_is_now_the_newest_slice_tells(interval: int, level: float) -> None:
    """The rarer the probes, the longer is a slice, and the older its middle."""
    make_slow_check(rising(9), 0, length=timedelta(days=2), every=interval, interval=interval)
    assert readings()["latency"].level == pytest.approx(level, rel=0.06)


def test_how_it_is_now_nobody_knows_who_has_not_looked_for_long() -> None:
    check = make_slow_check(rising(50), 0)
    (found,) = sources.read(NOW + timedelta(days=8), [(check.id, "latency")])
    assert (found.level, found.newest) == (None, None)


def test_a_percentile_moves_within_its_bin() -> None:
    low, high = bin_of(500), bin_of(500) + 1
    found = [sources.percentile(Counts(histogram={low: 100 - more, high: more})) for more in range(0, 101, 10)]
    assert found == sorted(found)  # type: ignore[type-var]
    assert len(set(found)) == 11
    assert sources.percentile(Counts()) is None
    assert sources.percentile(Counts(histogram={low: 9}, slowest_ms=501)) == 501
    for values in ([300.0] * 9 + [9000.0], [100.0, 200.0, 300.0, 400.0, 500.0], [77.0]):
        bins: dict[int, int] = {}
        for value in values:
            bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
        assert sources.percentile(Counts(histogram=bins)) == pytest.approx(percentile(bins, 0.95), rel=0.07)


# error budget ----------------------------------------------------------------------------------------


def failing(check: Check, by_hour: list[int], before: int = 0) -> None:
    """Failures in the hours up to NOW, the newest last, and in the month before."""
    first = NOW.replace(minute=0) - HOUR * len(by_hour)
    Rollup.objects.bulk_create(
        Rollup(level=3600, check_id=check.id, start=first + HOUR * place, healthy=50, critical=number)
        for place, number in enumerate(by_hour)
    )
    days = {NOW.date(): before + sum(by_hour)}
    Rollup.objects.bulk_create(
        Rollup(level=86_400, check_id=check.id, start=datetime(day.year, day.month, day.day, tzinfo=NOW.tzinfo),
               healthy=1, critical=number)
        for day, number in days.items()
    )  # fmt: skip
    state(check, status="healthy", checked_at=NOW)


def test_a_budget_that_melts_away_is_told() -> None:
    """43.2 failures a month at one probe a minute; one each hour for a day uses up the last fifth in nine hours."""
    check = make_check(interval=60)
    failing(check, [1] * 24, before=10)
    found = readings()["errors"]
    assert found.level == pytest.approx(34 / 43.2 * 100)
    assert hours_ahead(found) == pytest.approx(9.2, abs=0.5)


@pytest.mark.parametrize(
    "by_hour",
    [
        [0] * 24,
        [0] * 23 + [20],
        [0] * 12 + [20] + [0] * 11,
        [1, 0, 0, 0] * 6,
        [2] * 8 + [0] * 16,
    ],
    ids=["never", "just-now", "once", "now-and-then", "over"],
)
def test_an_outage_is_no_trend(by_hour: list[int]) -> None:
    check = make_check(interval=60)
    failing(check, by_hour)
    found = readings().get("errors")
    assert found is None or found.newest is None


def test_a_budget_that_is_used_up_is_no_forecast() -> None:
    check = make_check(interval=60)
    failing(check, [1] * 24, before=100)
    found = readings()["errors"]
    assert found.newest is None
    assert found.level == pytest.approx(124 / 43.2 * 100)


def test_the_use_is_counted_back_from_now() -> None:
    now = NOW + timedelta(minutes=30)
    failed = [(NOW - HOUR, 2), (NOW, 3), (NOW + HOUR, 5)]
    assert used(failed, 12, 100, now) == [(NOW - HOUR, 4.0), (NOW, 7.0), (now, 12.0)]
    assert used([], 12, 100, now) == [(now, 12.0)]
    assert used([(NOW, 5)], 3, 100, now)[0] == (NOW, 3.0), "days and hours need not agree"


# rate limits -----------------------------------------------------------------------------------------


def minutes(course: Any, length: timedelta = 3 * HOUR) -> list[tuple[datetime, float]]:
    return series(course, length=length, points=int(length / timedelta(minutes=1)))


def test_a_rate_limit_that_runs_out_is_told() -> None:
    check = make_check()
    limited(check, minutes(rising(-20, 40)))
    found = readings()["quota"]
    assert hours_ahead(found) == pytest.approx(1.5, abs=0.05)
    assert found.limit == 10
    assert found.level == pytest.approx(42.5, abs=1)


def test_what_is_left_is_a_share_of_the_limit() -> None:
    check = make_check()
    limited(check, [(at, value * 50) for at, value in minutes(rising(-20, 40))], limit=5000)
    assert hours_ahead(readings()["quota"]) == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize(("after", "told"), [(1.0, False), (2.0, True)])
def test_a_reset_before_it_runs_out_makes_it_good(after: float, told: bool) -> None:
    check = make_check()
    limited(check, minutes(rising(-20, 40)), rate_limit_reset=(NOW + after * HOUR).isoformat())
    assert (readings()["quota"].newest is not None) is told


@pytest.mark.parametrize("reset", ["soon", 17, None, "2026-10-17T12:30:00"])
def test_a_reset_that_cannot_be_read_is_none(reset: Any) -> None:
    check = make_check()
    limited(check, minutes(rising(-20, 40)), rate_limit_reset=reset)
    assert readings()["quota"].newest is not None


def test_a_quota_is_followed_from_its_last_reset() -> None:
    check = make_check()
    limited(check, minutes(lambda hours: 100 - 60 * (hours + 3) if hours < -1.5 else 100 - 40 * (hours + 1.5)))
    assert hours_ahead(readings()["quota"]) == pytest.approx(0.75, abs=0.1)


def test_a_limit_per_second_goes_up_and_down_and_is_no_trend() -> None:
    check = make_check()
    limited(check, [(at, float(place * 37 % 50)) for place, (at, _) in enumerate(minutes(flat))], limit=50)
    assert readings()["quota"].newest is None


@pytest.mark.parametrize("junk", [{"rate_limit_limit": 0}, {"rate_limit_limit": "many"}, {"rate_limit_limit": None}])
def test_a_limit_that_is_none_is_passed_over(junk: dict[str, Any]) -> None:
    from monitoring.models import ProbeResult  # noqa: PLC0415

    check = make_check()
    limited(check, minutes(rising(-20, 40)))
    for row in ProbeResult.objects.all():
        ProbeResult.objects.filter(pk=row.pk).update(details=row.details | junk)
    found = readings()["quota"]
    assert (found.level, found.newest) == (None, None)


def test_the_last_jump_up_is_the_reset() -> None:
    points = [(NOW + place * HOUR, value) for place, value in enumerate((90.0, 50.0, 95.0, 60.0, 65.0, 20.0))]
    assert since_reset(points) == points[2:]
    assert since_reset(points[:2]) == points[:2]
    assert since_reset([]) == []


# certificates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "days", "ahead"),
    [
        ("tls", {}, 20, 6),
        ("tls", {"days_left": 7}, 20, 13),
        ("http", {"tls_days_left": 15}, 20, 5),
        ("http", {"days_left": 7}, 20, 6),
        ("http", {"tls_days_left": 0}, 20, None),
        ("tls", {}, 14, None),
        ("tls", {}, 3, None),
        ("tls", {}, 45, None),
        ("tls", {}, 44, 30),
    ],
)
def test_a_certificate_s_end_is_known(kind: str, options: dict[str, int], days: int, ahead: int | None) -> None:
    check = make_check(kind=kind, options=options)
    state(check, status="healthy", details={"tls_days_left": days})
    found = readings().get("certificate")
    if ahead is None:
        assert found is None or found.newest is None
        return
    assert found is not None
    assert found.newest is not None
    assert (found.newest.earliest - NOW, found.newest.latest - NOW) == (
        timedelta(days=ahead), timedelta(days=ahead + 1),
    )  # fmt: skip
    assert found.level == days


@pytest.mark.parametrize("days", [None, "20", True, [20]])
def test_what_is_no_number_of_days_is_passed_over(days: Any) -> None:
    state(make_check(kind="tls"), status="healthy", details={"tls_days_left": days})
    assert readings() == {}


def test_a_number_has_to_be_one() -> None:
    assert [sources._number(value) for value in (float("nan"), float("inf"), 3)] == [None, None, 3.0]
