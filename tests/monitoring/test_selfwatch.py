from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from monitoring import selfwatch
from monitoring.models import CheckState, Process
from monitoring.selfwatch import LATE_SECONDS, SILENT_SECONDS, look, readiness
from tests.monitoring.factories import make_check, make_service

pytestmark = pytest.mark.django_db


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


def worker(**fields: Any) -> Process:
    return Process.objects.create(**{"role": "worker", "host": "a", "pid": 1, "beat_at": timezone.now()} | fields)


def overdue(seconds: float, **fields: Any) -> None:
    make_check(**fields)
    CheckState.objects.update(next_due_at=ago(seconds))


def test_all_is_well_while_a_worker_is_ticked_and_nothing_is_late():
    worker(probes_per_second=2.5)
    worker(pid=2, probes_per_second=1.5)
    make_check()
    seen = look()
    assert seen.problem is None
    assert (seen.workers, seen.probes_per_second) == (2, 4.0)
    assert seen.beat_age_s is not None
    assert abs(seen.beat_age_s) < 5
    assert seen.database_ms > 0
    assert readiness() == (True, "on time, 2 worker(s)")


def test_without_a_worker_nothing_is_probed():
    seen = look()
    assert seen.problem is not None
    assert seen.problem.startswith("No worker runs")
    assert (seen.workers, seen.beat_age_s, seen.lateness_s) == (0, None, 0.0)
    assert readiness() == (False, seen.problem)


def test_a_worker_not_heard_of_does_not_run():
    worker(seen_at=ago(SILENT_SECONDS + 5))
    assert "No worker runs" in str(look().problem)


def test_a_web_process_is_no_worker():
    worker(role="web")
    assert "No worker runs" in str(look().problem)


@pytest.mark.parametrize("beat", [None, SILENT_SECONDS + 5])
def test_a_scheduler_that_gives_no_ticks_is_told_from_a_worker_that_is_gone(beat: float | None):
    worker(beat_at=beat and ago(beat))
    assert "gives no ticks" in str(look().problem)


def test_one_worker_that_is_ticked_is_enough():
    worker(beat_at=None)
    worker(pid=2)
    assert look().problem is None


def test_a_check_that_nobody_took_makes_it_late():
    worker()
    overdue(LATE_SECONDS + 65)
    seen = look()
    assert "late by 80 s" in str(seen.problem)
    assert 79 < seen.lateness_s < 90


def test_a_little_lateness_is_no_problem():
    worker()
    overdue(LATE_SECONDS - 5)
    seen = look()
    assert seen.problem is None
    assert seen.lateness_s > 9


def test_what_workers_report_is_lateness_too():
    worker(late_ms=4_000)
    assert look().lateness_s == 4.0


def test_a_check_being_probed_is_not_late():
    worker()
    overdue(100)
    CheckState.objects.update(lease_until=timezone.now() + timedelta(minutes=1))
    assert look().lateness_s == 0
    CheckState.objects.update(lease_until=ago(1))
    assert look().lateness_s > 90


@pytest.mark.parametrize("fields", [{"paused_at": timezone.now()}, {"archived_at": timezone.now()}])
def test_a_check_that_is_not_to_be_probed_is_not_late(fields: dict[str, Any]):
    worker()
    overdue(100, **fields)
    assert look().lateness_s == 0


def test_a_check_of_an_archived_service_is_not_late():
    worker()
    overdue(100, service=make_service(archived_at=timezone.now()))
    assert look().lateness_s == 0


def test_it_asks_the_database_once(django_assert_num_queries: Any):
    worker()
    with django_assert_num_queries(1):
        look()


def test_a_database_that_does_not_answer_is_not_ready(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise OperationalError("could not connect to server at 10.0.0.1")

    monkeypatch.setattr(connection, "cursor", refuse)
    assert readiness() == (False, "unknown: the database does not answer")
    with pytest.raises(OperationalError):
        selfwatch.look()
