from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from monitoring import claims, workerlog
from monitoring.models import CheckState, Process
from monitoring.workerlog import REPORT_SECONDS, WINDOW_SECONDS, WorkerLog
from tests.monitoring.factories import make_check

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A monotonic clock that a test turns."""
    hands = [1000.0]

    class Clock:
        monotonic = staticmethod(lambda: hands[0])

    monkeypatch.setattr(workerlog, "time", Clock)
    return hands


def test_who_joins_first_learns_that_nothing_was_ever_probed():
    log, silent = WorkerLog.join()
    assert silent is None
    assert Process.objects.get().id == log.process_id


def test_who_joins_later_learns_for_how_long_nothing_was_probed():
    make_check()
    make_check()
    CheckState.objects.update(checked_at=timezone.now() - timedelta(minutes=5))
    CheckState.objects.filter(check_ref=make_check()).update(checked_at=timezone.now() - timedelta(minutes=2))
    _, silent = WorkerLog.join()
    assert silent is not None
    assert timedelta(minutes=2) <= silent < timedelta(minutes=3)


def test_it_reports_how_much_and_how_late(clock: list[float]):
    log, _ = WorkerLog.join()
    for late in [0.01] * 98 + [0.5, 2.0]:
        log.probed(late)
    clock[0] += 10
    log.report()
    row = Process.objects.get()
    assert (row.probes, row.probes_per_second, row.late_ms) == (100, 10.0, 2000.0)
    assert row.beat_at is not None


def test_a_worker_that_gets_no_tick_lives_all_the_same(clock: list[float]):
    log, _ = WorkerLog.join()
    log.report()
    first = Process.objects.get()
    clock[0] += 10
    log.report()
    second = Process.objects.get()
    assert second.seen_at > first.seen_at
    assert second.beat_at == first.beat_at
    clock[0] += 10
    log.ticked()
    log.report()
    ticked = Process.objects.get().beat_at
    assert ticked is not None
    assert ticked > second.seen_at


def test_what_is_long_past_does_not_count_as_lateness(clock: list[float]):
    log, _ = WorkerLog.join()
    log.probed(9.0)
    clock[0] += WINDOW_SECONDS + 1
    log.report()
    row = Process.objects.get()
    assert (row.probes, row.probes_per_second, row.late_ms) == (1, 0.0, 0.0)


def test_it_does_not_write_at_every_tick(clock: list[float]):
    log, _ = WorkerLog.join()
    log.report()
    log.probed(0.0)
    clock[0] += REPORT_SECONDS / 2
    log.report()
    assert Process.objects.get().probes == 0
    clock[0] += REPORT_SECONDS
    log.report()
    assert Process.objects.get().probes == 1


def test_a_row_that_was_tidied_away_comes_back():
    log, _ = WorkerLog.join()
    Process.objects.all().delete()
    log.report()
    assert Process.objects.get().id == log.process_id


def test_who_leaves_gives_back_what_is_leased():
    log, _ = WorkerLog.join()
    make_check()
    claims.claim(log.process_id, 10, {}, 10)
    other = make_check()
    CheckState.objects.filter(check_ref=other).update(lease_owner=uuid.uuid4(), lease_token=uuid.uuid4())
    log.leave()
    assert not Process.objects.exists()
    assert list(CheckState.objects.exclude(lease_token=None).values_list("check_ref", flat=True)) == [other.id]


def test_leaving_while_the_database_is_away_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    log, _ = WorkerLog.join()

    def refuse(*_: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(claims, "release", refuse)
    log.leave()
    assert Process.objects.exists()  # it is forgotten later


def test_reports_say_when_it_was_ticked_last():
    log, _ = WorkerLog.join()
    before = timezone.now() - timedelta(seconds=1)
    time.sleep(0.01)
    log.report()
    row = Process.objects.get()
    assert row.beat_at is not None
    assert row.beat_at > before
    assert row.seen_at == row.beat_at
