from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from monitoring import stalls
from monitoring.stalls import GAP_SECONDS, JUMP_SECONDS, StallWatch
from tests.whole import eventually

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_standstill_counts_for_what_began_before_its_end():
    watch = StallWatch()
    watch.note_stall(100.0)
    assert watch.stalled_since(90.0)
    assert watch.stalled_since(100.0)
    assert not watch.stalled_since(100.5)


def test_without_a_standstill_there_is_none():
    assert not StallWatch().stalled_since(0.0)


def test_a_watch_thread_that_wakes_late_notes_a_standstill(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stalls, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(stalls, "STALL_SECONDS", -1.0)  # every wake-up is late
    watch = StallWatch()
    began = time.monotonic()
    watch.start()
    eventually(lambda: watch._stalls, "a standstill is noted")
    watch.stop()
    assert watch.stalled_since(began)


def test_a_probe_that_wakes_before_the_watch_thread_sees_the_standstill_too():
    watch = StallWatch()
    began = time.monotonic()
    watch._beat = began - stalls.BEAT_SECONDS - stalls.STALL_SECONDS - 1
    assert watch.stalled_since(began)
    watch._beat = began
    assert not watch.stalled_since(began)


def test_a_watch_that_stopped_sees_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stalls, "BEAT_SECONDS", 0.01)
    watch = StallWatch()
    watch.start()
    eventually(lambda: watch._beat is not None, "it beats")
    watch.stop()
    eventually(lambda: watch._beat is None, "it ends")


class TestWatchingSince:
    """When calls of cron jobs may have been missed, lateness counts from when watching was taken up again."""

    def test_it_is_unbroken_while_database_and_clock_behave(self):
        watch = StallWatch()
        for second in range(0, 300, 10):
            watch.database_time(after(second), 1000.0 + second)
        assert watch.watching_since(after(300)) is None

    def test_a_short_failure_of_the_database_is_no_gap(self):
        watch = StallWatch()
        watch.database_time(after(0), 1000.0)
        watch.database_failed()
        watch.database_time(after(GAP_SECONDS - 1), 1000.0 + GAP_SECONDS - 1)
        assert watch.watching_since(after(5)) is None

    def test_a_long_failure_is_one(self):
        watch = StallWatch()
        watch.database_time(after(0), 1000.0)
        watch.database_failed()
        watch.database_time(after(20), 1020.0)
        assert watch.watching_since(after(30)) == after(20)

    def test_while_it_fails_lateness_does_not_begin(self):
        watch = StallWatch()
        watch.database_failed()
        assert watch.watching_since(after(7)) == after(7)

    @pytest.mark.parametrize("hour", [3600, -3600])
    def test_a_clock_that_jumps_is_a_gap(self, hour: int):
        watch = StallWatch()
        watch.database_time(after(0), 1000.0)
        watch.database_time(after(1 + hour), 1001.0)
        assert watch.watching_since(after(hour + 2)) == after(1 + hour)

    def test_a_clock_that_jumps_and_comes_back_counts_from_its_return(self):
        watch = StallWatch()
        watch.database_time(after(0), 1000.0)
        watch.database_time(after(3601), 1001.0)
        watch.database_time(after(2), 1002.0)
        assert watch.watching_since(after(3)) == after(2)

    def test_a_clock_that_is_slewed_is_no_gap(self):
        watch = StallWatch()
        watch.database_time(after(0), 1000.0)
        watch.database_time(after(10 + JUMP_SECONDS - 0.5), 1010.0)
        assert watch.watching_since(after(14)) is None

    def test_a_restart_after_a_long_silence_is_a_gap(self):
        watch = StallWatch()
        watch.joined(timedelta(minutes=5))
        watch.database_time(after(0), 1000.0)
        assert watch.watching_since(after(1)) == after(0)

    @pytest.mark.parametrize("silent", [None, timedelta(seconds=59)])
    def test_a_quick_restart_or_a_first_start_is_none(self, silent: timedelta | None):
        watch = StallWatch()
        watch.joined(silent)
        watch.database_time(after(0), 1000.0)
        assert watch.watching_since(after(1)) is None
