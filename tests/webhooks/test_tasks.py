"""webhooks/tasks.py: what beat sends, and that slow work is never begun twice in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from webhooks import dispatcher, erasing, housekeeping, reconciling, recovery, replaying, silence, tasks
from wsmon.celery import SCHEDULE, app


def test_every_task_is_on_the_schedule() -> None:
    sent = {entry["task"] for entry in SCHEDULE.values() if entry["task"].startswith("webhooks.")}
    app.loader.import_default_modules()
    assert sent == {name for name in app.tasks if name.startswith("webhooks.")}


@pytest.mark.parametrize(
    ("task", "works"),
    [
        (tasks.tick, [(dispatcher, "tick"), (replaying, "run_due")]),
        (tasks.catch_up, [(housekeeping, "index_events"), (erasing, "run_due")]),
        (tasks.housekeep, [(silence, "run"), (housekeeping, "housekeep")]),
        (tasks.ask, [(recovery, "run_due"), (reconciling, "run_due")]),
    ],
)
def test_each_task_wakes_who_knows_in_order(
    task: Callable[[], None], works: list[tuple[object, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[object, str]] = []
    for place in works:
        monkeypatch.setattr(*place, lambda *_, place=place, **__: called.append(place))
    task()
    assert called == works


def test_what_still_runs_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on, calls = threading.Event(), threading.Event(), []

    def slow() -> None:
        calls.append(1)
        began.set()
        go_on.wait(10)

    monkeypatch.setattr(recovery, "run_due", slow)
    monkeypatch.setattr(reconciling, "run_due", lambda: None)
    first = threading.Thread(target=tasks.ask)
    first.start()
    began.wait(10)
    tasks.ask()
    go_on.set()
    first.join(10)
    assert len(calls) == 1
    tasks.ask()
    assert len(calls) == 2


def test_a_failure_keeps_neither_the_others_nor_itself_from_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(recovery, "run_due", lambda: 1 / 0)
    monkeypatch.setattr(reconciling, "run_due", lambda: called.append("reconciling"))
    tasks.ask()
    tasks.ask()
    assert called == ["reconciling", "reconciling"]
