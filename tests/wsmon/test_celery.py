"""Beat by the monotonic clock, and how the Celery app is set."""

from __future__ import annotations

from typing import Any

import pytest

from wsmon import celery as module
from wsmon.celery import MemoryScheduler, app


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []

    def apply(self: MemoryScheduler, entry: Any, producer: Any = None) -> None:
        sent.append(entry.task)

    monkeypatch.setattr(MemoryScheduler, "apply_entry", apply)
    return sent


TICK = "monitoring.tasks.tick"
HOUSEKEEP = "monitoring.tasks.housekeep"


def test_everything_is_sent_at_the_start(clock: Clock, sent: list[str]) -> None:
    wait = MemoryScheduler(app).tick()
    assert sorted(sent) == sorted(entry["task"] for entry in module.SCHEDULE.values())
    assert {TICK, HOUSEKEEP, "webhooks.tasks.tick"} <= set(sent)
    assert wait == pytest.approx(1.0)


def test_a_tick_is_sent_each_second(clock: Clock, sent: list[str]) -> None:
    scheduler = MemoryScheduler(app)
    for _ in range(10):
        scheduler.tick()
        clock.now += 1.0
    assert sent.count(TICK) == 10
    assert sent.count(HOUSEKEEP) == 1


def test_it_keeps_its_rhythm_when_a_look_comes_late(clock: Clock, sent: list[str]) -> None:
    scheduler = MemoryScheduler(app)
    scheduler.tick()
    clock.now += 1.3
    assert scheduler.tick() == pytest.approx(0.7)


def test_ticks_missed_in_a_stall_are_not_made_up_for(clock: Clock, sent: list[str]) -> None:
    scheduler = MemoryScheduler(app)
    scheduler.tick()
    clock.now += 3600.0
    for _ in range(5):
        scheduler.tick()
    assert sent.count(TICK) <= 3


def test_the_wall_clock_set_back_an_hour_changes_nothing(clock: Clock, sent: list[str]) -> None:
    import time_machine  # noqa: PLC0415

    scheduler = MemoryScheduler(app)
    with time_machine.travel("2026-11-21 12:00:00+00:00") as wall:
        scheduler.tick()
        wall.shift(-3600)
        clock.now += 1.0
        scheduler.tick()
    assert sent.count(TICK) == 2


def test_a_broker_that_is_away_does_not_stop_beat(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(MemoryScheduler, "apply_async", refuse)
    assert MemoryScheduler(app).tick() == pytest.approx(1.0)


def test_a_nudge_expires_but_not_for_a_worker_whose_clock_is_an_hour_ahead() -> None:
    for entry in app.conf.beat_schedule.values():
        assert 3600 < entry["options"]["expires"] <= 86_400


def test_nothing_of_celery_is_needed_beyond_the_nudge() -> None:
    assert app.conf.task_ignore_result
    assert not app.conf.worker_enable_remote_control
    assert not app.conf.task_acks_late
    assert app.conf.worker_pool == "threads"
