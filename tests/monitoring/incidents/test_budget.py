"""What an incident costs of its service's error budget: the arithmetic, what counts, and where it is shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring.incidents import budget, export
from monitoring.incidents.budget import Budget, Counted, spent
from monitoring.models import AlertThresholds, Check, Incident, Rollup
from tests.browser.past import remember
from tests.callers import person
from tests.monitoring.factories import make_check
from tests.monitoring.incidents.makers import open_incident, vendor

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONTH = 30 * 86_400.0
M = 60.0


# -- the arithmetic ---------------------------------------------------------------------------------


def test_failed_probes_become_time_by_their_share_of_what_was_watched() -> None:
    found = spent(Counted(total=86_400, failed=40, of_incident=24, watched=MONTH), 0.999)
    assert found is not None
    assert found.allowed == pytest.approx(2592)
    assert (found.used, found.cost) == (1200, 720)
    assert (
        found.words == "this outage has used 12 min of the 43 min that 99.9% allows in 30 days; 20 min (46%) in all"
    )


@pytest.mark.parametrize("counted", [Counted(0, 0, 0, 0), Counted(0, 0, 0, 60), Counted(5, 1, 1, 0)])
def test_without_probes_nothing_is_said(counted: Counted) -> None:
    assert spent(counted, 0.999) is None


def test_an_incident_costs_no_more_than_was_used() -> None:
    found = spent(Counted(100, 3, 9, 100), 0.999)
    assert found is not None
    assert found.cost == found.used == 3


WORDS: list[tuple[str, Budget, str]] = [
    ("alone", Budget(0.999, 2592, 720, 720), "has used 12 min of the 43 min that 99.9% allows in 30 days (27%)"),
    ("seconds", Budget(0.9999, 259.2, 20, 20), "has used 20 s of the 4 min that 99.99% allows in 30 days (7%)"),
    ("slow, not failed", Budget(0.999, 2592, 0, 0), "has used none of the 43 min that 99.9% allows in 30 days"),
    (
        "slow, after failures", Budget(0.999, 2592, 1200, 0),
        "has used none of the 43 min that 99.9% allows in 30 days; 20 min (46%) in all",
    ),
    ("hardly any", Budget(0.999, 2592, 9, 9), "has used 9 s of the 43 min that 99.9% allows in 30 days (under 1%)"),
    (
        "used up", Budget(0.999, 2592, 3600, 3000),
        "has used 50 min of the 43 min that 99.9% allows in 30 days; it is used up: 1 h (138%) in all",
    ),
    (
        "over", Budget(0.99, 25_920, 720, 600, is_open=False),
        "used 10 min of the 7 h 12 min that 99% allows in 30 days; 12 min (2%) in all",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "words"), [case[1:] for case in WORDS], ids=[case[0] for case in WORDS])
def test_it_is_said_with_units(found: Budget, words: str) -> None:
    assert found.words == f"this outage {words}"


@pytest.mark.parametrize(
    ("used", "cost", "widths"),
    [
        (0, 0, (0, 0)), (50, 50, (0, 50)), (50, 20, (30, 20)), (500, 100, (100, 0)), (150, 100, (50, 50)),
        (50, 0.1, (50, 1)),
    ],
)  # fmt: skip
def test_the_picture_is_never_wider_than_the_budget(used: float, cost: float, widths: tuple[int, int]) -> None:
    found = Budget(0.999, 100, used, cost)
    assert (found.before_width, found.cost_width) == widths


# -- what counts ------------------------------------------------------------------------------------


def past(check: Check, begins: datetime, letters: str, every: timedelta = MINUTE) -> None:
    words = {"h": "healthy", "d": "degraded", "c": "critical", "e": "error"}
    remember(check, [(begins + number * every, words[one], 100.0, "") for number, one in enumerate(letters)])


def test_the_failed_probes_since_it_began_are_its_own() -> None:
    check, now = vendor(), timezone.now()
    past(check, now - 100 * MINUTE, "h" * 50 + "c" * 10 + "h" * 20 + "c" * 20)
    incident = open_incident(check.service, began_at=now - 20 * MINUTE)
    counted = budget.count(incident, now)
    assert (counted.total, counted.failed) == (100, 30)
    assert counted.of_incident in (20, 21)  # a minute is counted as a whole
    assert counted.watched == pytest.approx(100 * M, abs=61)
    found = budget.of(incident, now)
    assert found is not None
    assert found.used == pytest.approx(30 * M, rel=0.05)
    assert found.allowed == pytest.approx(43.2 * M)


def test_slow_answers_count_as_good_ones_and_our_own_errors_not_at_all() -> None:
    check, now = vendor(), timezone.now()
    past(check, now - 40 * MINUTE, "h" * 10 + "d" * 10 + "e" * 10 + "c" * 10)
    counted = budget.count(open_incident(check.service, began_at=now - 40 * MINUTE), now)
    assert (counted.total, counted.failed, counted.of_incident) == (30, 10, 10)


def test_all_checks_in_use_count_and_those_of_others_do_not() -> None:
    check, now = vendor(), timezone.now()
    second = make_check(check.service, "connectivity", name="connectivity", options={})
    gone = make_check(check.service, "authentication", name="authentication", options={}, archived_at=now)
    for one, letters in (
        (check, "hhcc"),
        (second, "hhhh"),
        (gone, "cccc"),
        (vendor("other").service.checks.get(), "cccc"),
    ):
        past(one, now - 4 * MINUTE, letters)
    counted = budget.count(open_incident(check.service, began_at=now - 4 * MINUTE), now)
    assert (counted.total, counted.failed) == (8, 2)


def test_only_thirty_days_count() -> None:
    check, now = vendor(), timezone.now()
    past(check, now - 40 * DAY, "c" * 20 + "h" * 300, every=3 * HOUR)
    counted = budget.count(open_incident(check.service, began_at=now - MINUTE), now)
    assert counted.failed == 0
    assert 220 <= counted.total <= 241
    assert counted.watched == pytest.approx(MONTH, abs=4 * 3600)


def test_what_came_after_its_end_is_left_out_also_within_the_same_hour() -> None:
    check, now = vendor(), timezone.now()
    past(check, now - 30 * MINUTE, "h" * 10 + "c" * 5 + "h" * 15)
    ended = now - 15 * MINUTE
    found = budget.of(open_incident(check.service, began_at=now - 20 * MINUTE, closed_at=ended), now)
    assert found is not None
    assert found.cost == pytest.approx(5 * M, rel=0.25)
    assert found.used == found.cost


def test_one_that_is_over_is_held_against_the_thirty_days_before_its_end() -> None:
    check, now = vendor(), timezone.now()
    ended = now - 5 * DAY
    past(check, now - 6 * DAY, "h" * 20 + "c" * 4 + "h" * 24 + "c" * 90, every=HOUR)
    incident = open_incident(check.service, began_at=ended - 4 * HOUR, closed_at=ended)
    found = budget.of(incident, now)
    assert found is not None
    assert not found.is_open
    assert found.cost == pytest.approx(4 * 3600, rel=0.3)
    assert found.used == found.cost


@pytest.mark.parametrize(("ago", "kept"), [(5 * DAY, Rollup.Level.MINUTE), (20 * DAY, Rollup.Level.SLOT)])
def test_a_long_one_is_counted_by_what_is_still_kept(ago: timedelta, kept: Rollup.Level) -> None:
    check, now = vendor(), timezone.now()
    past(check, now - ago - DAY, "h" * 24 + "c" * int(ago / HOUR), every=HOUR)
    Rollup.objects.filter(level__lte=kept).delete()
    counted = budget.count(open_incident(check.service, began_at=now - ago), now)
    assert counted.of_incident == pytest.approx(ago / HOUR, abs=2)


# -- where it is shown ------------------------------------------------------------------------------


@pytest.fixture
def incident() -> Incident:
    check, now = vendor(), timezone.now()
    past(check, now - 60 * MINUTE, "h" * 50 + "c" * 10)
    return open_incident(check.service, began_at=now - 10 * MINUTE)


@pytest.mark.parametrize("headers", [{}, {"X-Wsmon-Live": "1"}], ids=["page", "fragment"])
def test_the_incidents_page_says_it(incident: Incident, headers: dict[str, Any]) -> None:
    AlertThresholds.objects.create(values={"services": {"stripe": {"slo": 99.5}}})
    text = person("monitoring.view_service").get(f"/incidents/{incident.id}/", headers=headers).content.decode()
    assert "Error budget" in text
    assert "of the 3 h 36 min that 99.5% allows in 30 days" in text
    assert '<svg class="inc-budget"' in text


def test_without_probes_the_page_leaves_it_out() -> None:
    text = person("monitoring.view_service").get(f"/incidents/{open_incident().id}/").content.decode()
    assert "Error budget" not in text


def test_the_export_says_it(incident: Incident) -> None:
    assert "| Error budget | This outage has used " in export.markdown(incident)
    Rollup.objects.all().delete()
    assert "| Error budget | no probes are kept |" in export.markdown(incident)


def test_it_is_two_queries(incident: Incident, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        budget.of(incident)
