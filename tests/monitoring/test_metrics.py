"""What this room shows Prometheus."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import actions, metrics, store
from monitoring.models import Check, Service
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.audit import Actor

pytestmark = pytest.mark.django_db


def samples() -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


def probed(slug: str, *words: str, name: str = "home") -> Check:
    """A service with a check that was probed today."""
    check = make_check(make_service(slug), name=name, confirm_down=1, confirm_up=1)
    for word in words:
        store.settle([finished(check, outcome(word, 250.0))])
    return check


def test_it_shows_the_overall_status_before_there_is_a_service() -> None:
    found = samples()
    assert found["wsmon_services_counted", ()] == 0
    assert sum(value for (name, _), value in found.items() if name == "wsmon_overall_status") == 1


def test_it_shows_one_status_of_each_service() -> None:
    probed("stripe", "critical")
    probed("resend", "healthy")
    found = samples()
    assert found["wsmon_service_status", ("stripe", "critical")] == 1
    assert found["wsmon_service_status", ("stripe", "healthy")] == 0
    assert found["wsmon_service_status", ("resend", "healthy")] == 1
    assert found["wsmon_services", ("critical",)] == 1
    assert (found["wsmon_services_healthy", ()], found["wsmon_services_counted", ()]) == (1, 2)


@pytest.mark.parametrize(("word", "up"), [("healthy", 1), ("degraded", 1), ("critical", 0), ("error", 0)])
def test_it_shows_whether_a_check_is_up(word: str, up: float) -> None:
    probed("stripe", word)
    assert samples()["wsmon_check_up", ("stripe", "home", "http")] == up


def test_it_says_nothing_of_a_check_it_knows_nothing_of() -> None:
    make_check(make_service("new"), name="home")
    absent = make_check(make_service("absent"), name="home")
    store.settle([finished(absent, None, missing=("STRIPE_SECRET_KEY",))])
    actions.pause([probed("resting", "healthy")], Actor.system("test"), "holiday")
    assert not [labels for name, labels in samples() if name == "wsmon_check_up"]


def test_it_shows_the_last_response_time_in_seconds_and_when() -> None:
    probed("stripe", "healthy")
    found = samples()
    labels = ("stripe", "home", "http")
    assert found["wsmon_check_response_seconds", labels] == 0.25
    assert found["wsmon_check_probed_timestamp_seconds", labels] == pytest.approx(timezone.now().timestamp(), abs=60)


def test_it_counts_probes_by_outcome() -> None:
    probed("stripe", "healthy", "healthy", "critical", "error")
    found = samples()
    counted = {
        word: found["wsmon_probes_total", ("stripe", "home", "http", word)]
        for word in ("healthy", "degraded", "critical", "error")
    }
    assert counted == {"healthy": 2, "degraded": 0, "critical": 1, "error": 1}


def test_its_counter_starts_again_at_midnight() -> None:
    check = probed("stripe")
    store.settle([finished(check, outcome(), at=timezone.now() - timedelta(days=1))])
    assert samples()["wsmon_probes_total", ("stripe", "home", "http", "healthy")] == 0


def test_it_leaves_archived_services_and_checks_out() -> None:
    check = probed("stripe", "healthy")
    gone = probed("resend", "healthy")
    Check.objects.filter(id=check.id).update(archived_at=timezone.now())
    Service.objects.filter(id=gone.service_id).update(archived_at=timezone.now())
    labels = {labels for name, labels in samples() if name.startswith("wsmon_check")}
    assert labels == set()


def test_it_shows_how_wsmon_itself_does() -> None:
    found = samples()
    assert found["wsmon_workers", ()] == 0
    assert found["wsmon_ok", ()] == 0
    assert found["wsmon_scheduler_lateness_seconds", ()] >= 0


def test_it_asks_the_database_as_often_for_many_checks_as_for_one() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            list(metrics.collect())
        return len(captured)

    probed("first", "healthy")
    one = queries()
    for number in range(10):
        probed(f"more-{number}", "healthy")
    assert queries() == one <= 10
