"""What pages show of forecasts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring.forecasts import reads, wording
from monitoring.forecasts.reads import Record
from monitoring.models import Check, Forecast
from tests.monitoring.factories import make_check
from tests.monitoring.forecasts.synthetic import NOW

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def foretell(check: Check, metric: str = "latency", **fields: object) -> Forecast:
    start = NOW.timestamp()
    made = {
        "made_at": NOW, "renewed_at": NOW, "value": 500, "slope": 50, "limit": 800, "crosses_at": NOW + 6 * HOUR,
        "earliest": NOW + 5 * HOUR, "latest": NOW + 8 * HOUR, "expected_at": NOW + 6 * HOUR, "signal": 0.9,
        "points": [[start, 520, 500, 540], [start + 4 * 3600, 800, 780, 830]],
    }  # fmt: skip
    return Forecast.objects.create(check_ref=check, metric=metric, **made | fields)


def test_an_outlook_says_what_when_and_how_it_stands() -> None:
    check = make_check(name="connectivity")
    foretell(check)
    (found,) = reads.outlooks([check.id], NOW)
    assert (found.check_name, found.crossing) == ("connectivity", "p95 over 800 ms")
    assert found.standing == "p95 of the response time is 520 ms now, +70 ms an hour"
    assert (found.expected_at, found.earliest, found.latest) == (NOW + 6 * HOUR, NOW + 5 * HOUR, NOW + 8 * HOUR)


def test_bounds_that_the_moment_has_left_are_not_told() -> None:
    check = make_check()
    foretell(check, expected_at=NOW + 9 * HOUR, points=[])
    (found,) = reads.outlooks([check.id], NOW)
    assert (found.earliest, found.latest) == (None, None)
    assert "+50 ms an hour" in found.standing


@pytest.mark.parametrize(
    ("metric", "limit", "crossing", "standing"),
    [
        ("latency", 12_000, "p95 over 12.0 s", "p95 of the response time is 90 ms now, -4 ms an hour"),
        ("errors", 100, "error budget used up", "90 % of the month's error budget is used, -4.2 % an hour"),
        ("quota", 10, "less than 10 % of the rate limit left", "90 % of the rate limit is left now, -4.2 % an hour"),
        ("certificate", 14, "certificate has 14 days left", "The certificate has 90 days left"),
        ("certificate", 1, "certificate has 1 day left", "The certificate has 90 days left"),
    ],
)
def test_every_metric_has_its_words(metric: str, limit: float, crossing: str, standing: str) -> None:
    assert wording.crossing(metric, limit) == crossing
    assert wording.standing(metric, 90, -4.2) == standing


def test_the_nearest_comes_first_and_the_rest_is_left_out() -> None:
    check, other = make_check(), make_check()
    foretell(check, expected_at=NOW + 20 * HOUR)
    foretell(check, "quota", expected_at=NOW + 2 * HOUR)
    foretell(other)
    foretell(check, "errors", expected_at=None)
    foretell(check, "certificate", renewed_at=NOW - HOUR)
    assert [one.metric for one in reads.outlooks([check.id], NOW)] == ["quota", "latency"]
    assert reads.outlooks([], NOW) == []


def test_the_line_is_that_of_the_response_time() -> None:
    check = make_check()
    assert reads.line(check.id, NOW) == []
    foretell(check, "quota")
    assert reads.line(check.id, NOW) == []
    foretell(check)
    assert [point[1] for point in reads.line(check.id, NOW)] == [520.0, 800.0]
    assert reads.line(check.id, NOW + HOUR) == []


def test_a_record_counts_how_past_ones_ended() -> None:
    check, other = make_check(), make_check()
    for minutes, outcome in ((10, "came"), (-20, "came"), (90, "came"), (5, "wrong"), (-200, "averted")):
        settled = NOW + timedelta(minutes=minutes)
        foretell(check, outcome=outcome, crosses_at=NOW, settled_at=settled)
    foretell(check, outcome="came", settled_at=NOW - timedelta(days=91))
    foretell(check)
    foretell(other, outcome="wrong", settled_at=NOW)
    assert reads.record([check.id], NOW) == Record(3, 1, 1, timedelta(minutes=20))
    assert reads.record([check.id], NOW).total == 5
    assert reads.record([], NOW) == Record()
